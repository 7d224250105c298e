"""Position biases and masks of large windows as the tables they are made of.

A bias of N x N token pairs has one value for each of the (2 * side - 1)^2 offsets of two tokens in a window of side * side = N: with
24 x 24 tokens 331,776 values a head, of which 2,209 differ. The file holds those and a GATHER. What it reads is known when the file is
loaded, and TensorFlow Lite computes such an operation once, then (docs/decisions/0022). The index is stored in two halves: the GPU delegate
refuses a GATHER of two constants, and takes one whose index it has put together.

A mask of nW windows has nW values for each pair, and few pairs differ in them: four kinds where windows are shifted. The file holds the
kinds' values and a GATHER, whose index is put together from the few rows of N that differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.tflite import flatbuffer
from tfvit.graph_constants import MASK, MASK_TABLE, POSITION_BIAS, POSITION_TABLE, position_index

_LAST_AXIS = 3
_TYPES = {"float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32}


def store_tables(model: schema.ModelT, from_window: int | None) -> None:
    """Replaces position biases and masks by tables, in place; the graph computes the same to the last bit.

    Args:
        model: its biases are float32 constants [1, 1, nH, N * N], its masks [1, nW, 1, N * N], named as in `tfvit.graph_constants`.
        from_window: side of the smallest window whose biases and masks are replaced; None leaves all.
    """
    if from_window is None:
        return
    graph, indices = model.subgraphs[0], _Indices(model)
    gathers = []
    for tensor in range(len(graph.tensors)):
        name, shape = flatbuffer.tensor_name(model, tensor), flatbuffer.tensor_shape(model, tensor)
        data = flatbuffer.constant(model, tensor)
        kind = next((kind for kind in (POSITION_BIAS, MASK) if name.startswith(kind)), None)
        if kind is None or data is None or len(shape) != _LAST_AXIS + 1:
            continue
        side = math.isqrt(math.isqrt(shape[-1]))
        if side < from_window or side**4 != shape[-1]:  # a window that is not square keeps its constants as they are
            continue
        values = np.frombuffer(data.tobytes(), np.float32).reshape(shape)
        table, index = (_of_offsets if kind == POSITION_BIAS else _of_kinds)(values, side)
        if not np.array_equal(table[..., index], values):
            raise ValueError(f"one value an offset expected. Received: others in {name!r}")
        named = _add_constant(model, name.replace(kind, {POSITION_BIAS: POSITION_TABLE, MASK: MASK_TABLE}[kind], 1), table)
        options = schema.GatherOptionsT()
        options.axis = _LAST_AXIS
        position = indices.halves(side, index) if kind == POSITION_BIAS else indices.rows(side, index)
        gathers.append(_operation(model, "GATHER", [named, position], tensor, options))
        graph.tensors[tensor].buffer = 0
    graph.operators = [*indices.made, *gathers, *graph.operators]
    flatbuffer.drop_unused_buffers(model)


def _of_offsets(bias: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Table [1, 1, nH, offsets] of a bias, and each pair's place in it."""
    index = position_index((side, side), (side, side), np).astype(np.int32)
    table = np.zeros((*bias.shape[:-1], (2 * side - 1) ** 2), np.float32)
    table[..., index] = bias
    return table, index


def _of_kinds(mask: np.ndarray, _: int) -> tuple[np.ndarray, np.ndarray]:
    """Table [1, nW, 1, kinds of pairs] of a mask, and each pair's kind."""
    kinds, index = np.unique(mask[0, :, 0], axis=1, return_inverse=True)
    return kinds[None, :, None], index.reshape(-1).astype(np.int32)


class _Indices:
    """Int32 indices of N * N pairs, put together by operations; equal ones once.

    Attributes:
        made: the operations, in the order of execution.
    """

    def __init__(self, model: schema.ModelT) -> None:
        self.made: list[schema.OperatorT] = []
        self._model = model
        self._constants: dict[bytes, int] = {}
        self._joined: dict[tuple[int, ...], int] = {}

    def halves(self, side: int, index: np.ndarray) -> int:
        """From two constants."""
        return self._join(f"position_index {side}", [self._constant(f"position_index {side}", part) for part in np.array_split(index, 2)])

    def rows(self, side: int, index: np.ndarray) -> int:
        """From its rows of N, of which few differ: those of a row of tokens, then all of them."""
        rows = [self._constant(f"mask_row {side}", row) for row in index.reshape(side * side, -1)]
        groups = [self._join(f"mask_rows {side}", rows[first : first + side]) for first in range(0, len(rows), side)]
        return self._join(f"mask_index {side}", groups)

    def _constant(self, name: str, values: np.ndarray) -> int:
        key = values.tobytes()
        if key not in self._constants:
            self._constants[key] = _add_constant(self._model, f"{name} {len(self._constants)}", values)
        return self._constants[key]

    def _join(self, name: str, parts: Sequence[int]) -> int:
        key = tuple(parts)
        if key not in self._joined:
            length = sum(flatbuffer.tensor_shape(self._model, part)[0] for part in parts)
            self._joined[key] = _add_tensor(self._model, f"{name} {len(self._joined)}", (length,), schema.TensorType.INT32)
            self.made.append(_operation(self._model, "CONCATENATION", parts, self._joined[key], schema.ConcatenationOptionsT()))
        return self._joined[key]


def _add_constant(model: schema.ModelT, name: str, values: np.ndarray) -> int:
    index = _add_tensor(model, name, values.shape, _TYPES[values.dtype.name])
    flatbuffer.make_constant(model, index, values)
    return index


def _add_tensor(model: schema.ModelT, name: str, shape: Sequence[int], element_type: int) -> int:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), np.array(shape, np.int32), element_type, 0
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def _operation(model: schema.ModelT, name: str, inputs: Sequence[int], output: int, options: Any) -> schema.OperatorT:
    operation = schema.OperatorT()
    operation.opcodeIndex = flatbuffer.operator_code(model, getattr(schema.BuiltinOperator, name), 1)
    operation.inputs, operation.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
    kind = type(options).__name__.removesuffix("T")
    operation.builtinOptionsType, operation.builtinOptions = getattr(schema.BuiltinOptions, kind), options
    return operation
