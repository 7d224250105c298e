"""Residual streams scaled down where float16 could not hold the squares that a norm takes of them. It costs no operation.

A norm gives the same for a stream and for a multiple of it. So whoever writes a stream (dense layers, gains, constants) writes it times a
power of two, dense layers that read it as it is (V2's) take that back in their weights, and the norms' epsilon is taken times its square:
in float32 the same numbers come out, to the last bit but for the epsilon. Nothing is done where there is room, nor to a stream that
something else reads too; and no stream is made so small that the squares of a norm which sees less of it get lost at the other end.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.quantization.dense_layers import DENSE_OPERATIONS
from edge.quantization.float16_headroom import LARGEST, Headroom, largest_numbers
from edge.tflite import flatbuffer

# A stream whose numbers come nearer to the largest of float16 is scaled, until they stay below it by so much
SHORT_DB, ROOM_DB = 6.0, 12.0
# Weights times less would fall among float16's subnormal numbers, where steps are coarse
SMALLEST = 2.0**-10
# What the largest mean of squares of every norm of a stream must keep: float16's smallest number of full precision
LEAST_MEAN = 2.0**-14
# Operations that give a multiple of what they are given a multiple of; the positions of what they are given
_LINEAR = {"RESHAPE": 1, "TRANSPOSE": 1, "STRIDED_SLICE": 1, "SLICE": 1, "PAD": 1, "MEAN": 1, "ADD": 2, "SUB": 2, "CONCATENATION": None}


def with_room(float_file: bytes, images: Iterable[np.ndarray], threads: int = 1) -> bytes:
    """The same file, or one whose streams leave float16 room.

    Args:
        float_file: the float flatbuffer.
        images: each [1, H, W, 3], of the file's input; what the largest numbers are looked for on.
        threads: for running the file.
    """
    numbers = largest_numbers(float_file, images, threads)
    if min(one.headroom_db for one in numbers.values()) >= SHORT_DB:
        return float_file
    model = flatbuffer.read_model(float_file)
    graph, done, scaled = _Graph(model), set(), False
    for name, operator in list(flatbuffer.operators(model)):
        squared = int(operator.inputs[0])
        if not _is_square(name, operator) or squared in done:
            continue
        stream = graph.stream(squared)
        if stream is not None:
            done |= stream.tensors
            factor = stream.factor(numbers)
            if factor < 1.0:
                stream.scale(graph, factor)
                scaled = True
    if not scaled:
        return float_file
    flatbuffer.drop_unused_buffers(model)
    return flatbuffer.write_model(model)


@dataclasses.dataclass
class _Stream:
    """Tensors that are scaled together.

    Attributes:
        tensors: activations.
        squares: outputs of the norms' squares.
        means: of their means.
        constants: (operator, position of the input) to take times the factor.
        inverses: the same, to divide by it.
        epsilons: the same, to take times its square.
    """

    tensors: set[int] = dataclasses.field(default_factory=set)
    squares: set[int] = dataclasses.field(default_factory=set)
    means: set[int] = dataclasses.field(default_factory=set)
    constants: list[tuple[schema.OperatorT, int]] = dataclasses.field(default_factory=list)
    inverses: list[tuple[schema.OperatorT, int]] = dataclasses.field(default_factory=list)
    epsilons: list[tuple[schema.OperatorT, int]] = dataclasses.field(default_factory=list)

    def factor(self, numbers: Mapping[int, Headroom]) -> float:
        """The largest power of two that leaves room; 1 where there is enough."""
        values = max(numbers[index].largest for index in self.tensors if index in numbers)
        squares = max(numbers[index].largest for index in self.squares | self.means)
        if max(values, squares) * 10 ** (SHORT_DB / 20) <= LARGEST:
            return 1.0
        most = LARGEST / 10 ** (ROOM_DB / 20)
        wanted = min(most / values, math.sqrt(most / squares))
        means = min(numbers[index].largest / numbers[index].summed for index in self.means)
        least = max(SMALLEST, math.sqrt(LEAST_MEAN / means))
        return 2.0 ** min(0, max(math.floor(math.log2(wanted)), math.ceil(math.log2(least))))

    def scale(self, graph: _Graph, factor: float) -> None:
        """In place."""
        for places, power in ((self.constants, factor), (self.inverses, 1.0 / factor), (self.epsilons, factor * factor)):
            for operator, place in places:
                graph.multiply(operator, place, power)


class _Graph:
    """Who makes and who reads each tensor."""

    def __init__(self, model: schema.ModelT) -> None:
        self._model = model
        self._outputs = set(map(int, model.subgraphs[0].outputs))
        self._makers: dict[int, tuple[str, schema.OperatorT]] = {}
        self._readers: dict[int, list[tuple[str, schema.OperatorT]]] = {}
        for name, operator in flatbuffer.operators(model):
            self._makers |= {int(index): (name, operator) for index in operator.outputs}
            for index in set(map(int, operator.inputs)):
                self._readers.setdefault(index, []).append((name, operator))

    def stream(self, start: int) -> _Stream | None:
        """The stream that a tensor is part of; None where something stands in it that scaling would change."""
        found, waiting, seen = _Stream(), [start], set()
        while waiting:
            index = waiting.pop()
            if index in found.tensors:
                continue
            found.tensors.add(index)
            if index not in self._makers or index in self._outputs:
                return None
            for name, operator in (self._makers[index], *self._readers.get(index, [])):
                # a dense layer may read a stream and write to it
                part = (id(operator), name in DENSE_OPERATIONS and index in map(int, operator.outputs))
                if part not in seen and not self._takes_part(name, operator, index, found, waiting):
                    return None
                seen.add(part)
        return found

    def _takes_part(self, name: str, operator: schema.OperatorT, index: int, found: _Stream, waiting: list[int]) -> bool:
        """Whether an operation that makes or reads tensor `index` lets it be scaled; what must be scaled with it is added."""
        is_maker = index in map(int, operator.outputs)
        if name == "MUL" and not is_maker:
            return self._is_norm(operator, found) if _is_square(name, operator) else self._divides(operator, index)
        if name in DENSE_OPERATIONS and not is_maker and self._is_constant(operator, 1):
            found.inverses.append((operator, 1))
            return True
        if getattr(operator.builtinOptions, "fusedActivationFunction", 0):
            return False
        if name in _LINEAR:
            places = range(len(operator.inputs))[: _LINEAR[name]]
            waiting += [int(operator.outputs[0]), *(int(operator.inputs[at]) for at in places if not self._is_constant(operator, at))]
            found.constants += [(operator, at) for at in places if self._is_constant(operator, at)]
            return True
        if name in DENSE_OPERATIONS:
            places = [at for at in (1, 2) if at < len(operator.inputs) and operator.inputs[at] >= 0]
        else:
            places = [at for at in (0, 1) if name == "MUL" and self._is_constant(operator, at)]
        found.constants += [(operator, at) for at in places]
        return is_maker and bool(places) and all(self._is_constant(operator, at) for at in places)

    def _is_norm(self, square: schema.OperatorT, found: _Stream) -> bool:
        """Whether a square ends in 1 / root of its mean and an epsilon, by which nothing but what is squared is multiplied."""
        operator = square
        for wanted in ("MEAN", "ADD", "RSQRT"):
            if wanted != "RSQRT":
                (found.squares if wanted == "MEAN" else found.means).add(int(operator.outputs[0]))
            readers = self._readers.get(int(operator.outputs[0]), [])
            if len(readers) != 1 or readers[0][0] != wanted:
                return False
            operator = readers[0][1]
            if getattr(operator.builtinOptions, "fusedActivationFunction", 0):
                return False
            if wanted == "ADD":
                places = [at for at in (0, 1) if self._is_constant(operator, at)]
                if len(places) != 1:
                    return False
                found.epsilons.append((operator, places[0]))
        wanted = {int(operator.outputs[0]), int(square.inputs[0])}
        return all(name == "MUL" and set(map(int, one.inputs)) == wanted for name, one in self._readers.get(int(operator.outputs[0]), []))

    def _divides(self, product: schema.OperatorT, index: int) -> bool:
        """Whether a product is that of a tensor and the root of its squares' mean."""
        (root,) = (int(one) for one in product.inputs if int(one) != index)
        name, operator = self._makers.get(root, ("", None))
        for wanted in ("RSQRT", "ADD", "MEAN"):
            if operator is None or name != wanted:
                return False
            computed = [int(one) for at, one in enumerate(operator.inputs) if not self._is_constant(operator, at)]
            name, operator = self._makers.get(computed[0], ("", None)) if len(computed) == 1 else ("", None)
        return operator is not None and _is_square(name, operator) and int(operator.inputs[0]) == index

    def multiply(self, operator: schema.OperatorT, place: int, factor: float) -> None:
        """Takes a constant that an operation reads times a factor; who else reads it keeps the old one."""
        index = int(operator.inputs[place])
        values = flatbuffer.float_constant(self._model, index) * np.float32(factor)
        readers = self._readers[index]
        if len(readers) > 1:
            readers.remove(next(one for one in readers if one[1] is operator))
            index = flatbuffer.add_float_tensor(
                self._model, flatbuffer.tensor_name(self._model, index), flatbuffer.tensor_shape(self._model, index)
            )
            operator.inputs = np.array([index if at == place else one for at, one in enumerate(operator.inputs)], np.int32)
            self._readers[index] = [("", operator)]
        flatbuffer.make_constant(self._model, index, values)

    def _is_constant(self, operator: schema.OperatorT, place: int) -> bool:
        return flatbuffer.constant(self._model, int(operator.inputs[place])) is not None


def _is_square(name: str, operator: schema.OperatorT) -> bool:
    return name == "MUL" and int(operator.inputs[0]) == int(operator.inputs[1])
