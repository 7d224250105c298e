"""Quantized values are moved as bytes: a QUANTIZE goes in front of the operations that only move values, a DEQUANTIZE behind them.

Windows are cut, shifted and split into heads by reshapes, transposes, slices and concatenations. Each value stays what it is, so quantizing
it before or after gives the same bits; before, a quarter of the bytes is moved.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.tflite import flatbuffer

# What moves values, and the first version that moves 8-bit ones
_MOVES = {"RESHAPE": 1, "TRANSPOSE": 2, "SLICE": 2, "STRIDED_SLICE": 2, "CONCATENATION": 2, "SPACE_TO_DEPTH": 2}


def move_as_bytes(model: schema.ModelT) -> None:
    """Rewrites the main graph in place; its results stay the same to the last bit."""
    graph = _Graph(model)
    for operator in list(graph.operators):
        graph.dequantize_behind(operator)
    for operator in reversed(list(graph.operators)):
        graph.quantize_in_front(operator)
    graph.write_back()


class _Graph:
    """The main graph with its edges."""

    def __init__(self, model: schema.ModelT) -> None:
        self._model = model
        self._graph = model.subgraphs[0]
        self.operators = list(self._graph.operators)
        self._names = {id(operator): name for name, operator in flatbuffer.operators(model)}
        self._made_by: dict[int, schema.OperatorT] = {}
        self._read_by: dict[int, list[schema.OperatorT]] = {}
        for operator in self.operators:
            self._connect(operator)
        self._kept = {int(index) for index in self._graph.outputs}

    def dequantize_behind(self, operator: schema.OperatorT) -> None:
        """Moves bytes, where everything a movement reads has just been dequantized for nothing but movements."""
        if self._names[id(operator)] not in _MOVES:
            return
        read = self._moved(operator)
        sources = [self._made_by[index] for index in read if index in self._made_by]
        if len(sources) < len(read) or any(self._names[id(source)] != "DEQUANTIZE" for source in sources):
            return
        stored = [int(source.inputs[0]) for source in sources]
        if any(self._is_constant(index) or self._scale(index) != self._scale(stored[0]) for index in stored):
            return
        if any(self._names[id(reader)] not in _MOVES for index in read for reader in self._read_by[index]) or self._kept & set(read):
            return
        (output,) = (int(index) for index in operator.outputs)
        moved = self._add_tensor(output, stored[0])
        code = sources[0].opcodeIndex
        self._disconnect(operator)
        operator.inputs = self._with_moved(operator, stored)
        operator.outputs = np.array([moved], np.int32)
        self._connect(operator)
        self._add_operator(code, "DEQUANTIZE", moved, output)
        for source in sources:
            if id(source) in self._names and not self._read_by.get(int(source.outputs[0])):
                self._remove(source)

    def quantize_in_front(self, operator: schema.OperatorT) -> None:
        """Moves bytes, where nothing but QUANTIZE reads what a movement writes."""
        if self._names.get(id(operator)) not in _MOVES:
            return
        (output,) = (int(index) for index in operator.outputs)
        readers = list(self._read_by.get(output, []))
        if flatbuffer.tensor_type(self._model, output) != "FLOAT32":
            return  # from 8 bits to 16: before is where fewer bytes are moved
        if not readers or output in self._kept or any(self._names[id(reader)] != "QUANTIZE" for reader in readers):
            return
        results = [int(reader.outputs[0]) for reader in readers]
        if any(self._scale(index) != self._scale(results[0]) for index in results) or self._kept & set(results):
            return
        moved, code = results[0], readers[0].opcodeIndex
        for reader in readers:
            self._remove(reader)
        for index in results[1:]:
            for later in list(self._read_by.get(index, [])):
                self._disconnect(later)
                later.inputs = np.array([moved if value == index else value for value in later.inputs], np.int32)
                self._connect(later)
        read = self._moved(operator)
        self._disconnect(operator)
        operator.inputs = self._with_moved(operator, [self._quantized(index, moved, code) for index in read])
        operator.outputs = np.array([moved], np.int32)
        self._connect(operator)

    def write_back(self) -> None:
        """Gives the model its operators, each behind those it reads from."""
        done: set[int] = set()
        ordered: list[schema.OperatorT] = []

        def visit(operator: schema.OperatorT) -> None:
            pending = [operator]
            while pending:
                current = pending[-1]
                missing = [
                    self._made_by[int(i)] for i in current.inputs if int(i) in self._made_by and id(self._made_by[int(i)]) not in done
                ]
                if missing:
                    pending.append(missing[0])
                    continue
                pending.pop()
                if id(current) not in done:
                    done.add(id(current))
                    ordered.append(current)

        for operator in self.operators:
            visit(operator)
        self._graph.operators = ordered
        for operator in ordered:
            code = self._model.operatorCodes[operator.opcodeIndex]
            name = self._names[id(operator)]
            if name in _MOVES and self._scale(int(operator.outputs[0])) is not None:
                code.version = max(code.version, _MOVES[name])

    def _moved(self, operator: schema.OperatorT) -> list[int]:
        """The inputs whose values are moved; the others are shapes."""
        count = len(operator.inputs) if self._names[id(operator)] == "CONCATENATION" else 1
        return [int(index) for index in operator.inputs[:count]]

    def _with_moved(self, operator: schema.OperatorT, moved: list[int]) -> np.ndarray:
        return np.array([*moved, *operator.inputs[len(moved) :]], np.int32)

    def _quantized(self, index: int, like: int, code: int) -> int:
        """The quantized values of a tensor, by a QUANTIZE that is there already or a new one."""
        for reader in self._read_by.get(index, []):
            if self._names[id(reader)] == "QUANTIZE" and self._scale(int(reader.outputs[0])) == self._scale(like):
                return int(reader.outputs[0])
        quantized = self._add_tensor(index, like)
        self._add_operator(code, "QUANTIZE", index, quantized)
        return quantized

    def _scale(self, index: int) -> tuple | None:
        parameters = flatbuffer.quantization(self._model, index)
        return None if parameters is None else (flatbuffer.tensor_type(self._model, index), *parameters.values())

    def _is_constant(self, index: int) -> bool:
        return flatbuffer.constant(self._model, index) is not None

    def _add_tensor(self, shaped: int, quantized: int) -> int:
        """A tensor with the shape of one and the type and scale of another."""
        tensors = self._graph.tensors
        tensor = schema.TensorT()
        tensor.shape, tensor.buffer = tensors[shaped].shape, 0
        tensor.type, tensor.quantization = tensors[quantized].type, tensors[quantized].quantization
        tensor.name = (tensors[shaped].name or b"") + b"_quantized"
        tensors.append(tensor)
        return len(tensors) - 1

    def _add_operator(self, code: int, name: str, read: int, written: int) -> None:
        operator = schema.OperatorT()
        operator.opcodeIndex = code
        operator.inputs, operator.outputs = np.array([read], np.int32), np.array([written], np.int32)
        self._names[id(operator)] = name
        self.operators.append(operator)
        self._connect(operator)

    def _remove(self, operator: schema.OperatorT) -> None:
        self._disconnect(operator)
        self.operators = [other for other in self.operators if other is not operator]
        del self._names[id(operator)]

    def _connect(self, operator: schema.OperatorT) -> None:
        for index in {int(value) for value in operator.inputs if value >= 0}:
            self._read_by.setdefault(index, []).append(operator)
        for index in operator.outputs:
            self._made_by[int(index)] = operator

    def _disconnect(self, operator: schema.OperatorT) -> None:
        for index in {int(value) for value in operator.inputs if value >= 0}:
            self._read_by[index] = [other for other in self._read_by[index] if other is not operator]
        for index in operator.outputs:
            if self._made_by.get(int(index)) is operator:
                del self._made_by[int(index)]
