"""Where a file's error comes from: its dense layers beside those of the float graph it was made from, on the same images.

Two figures for each layer. What has piled up: its output against the float graph's, the errors of every layer before it included. Its own:
its output against what the float weights make of the inputs that it really got; that one points at the layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.drift.metrics import cosine, decibels
from edge.quantization.dense_layers import DENSE_OPERATIONS, DenseLayer, dense_layers, weight_matrix
from edge.runtime.cpu import Interpreter
from edge.tflite import flatbuffer


@dataclasses.dataclass(frozen=True)
class LayerDrift:
    """One dense layer.

    Attributes:
        layer: its Keras path.
        mode: type of its inputs and weights in the file, for example "int8 x int8" or "float32 x int8" (dynamic).
        snr_db, cosine: of its output against the float graph's.
        own_snr_db, own_cosine: of its output against the float weights on its own inputs.
    """

    layer: str
    mode: str
    snr_db: float
    cosine: float
    own_snr_db: float
    own_cosine: float


def layer_drifts(float_graph: bytes, file: bytes, images: Iterable[np.ndarray], threads: int) -> list[LayerDrift]:
    """Every dense layer, the worst of its own first.

    Args:
        float_graph: what the file was quantized from.
        file: the file.
        images: [H, W, 3] pixels, at least one.
        threads: for running both.

    Raises:
        ValueError: a layer of the float graph that the file does not have; no images.
    """
    graph, model = flatbuffer.read_model(float_graph), flatbuffer.read_model(file)
    layers = dense_layers(graph)
    made_by = {flatbuffer.tensor_name(model, int(o.outputs[0])): o for name, o in flatbuffer.operators(model) if name in DENSE_OPERATIONS}
    missing = [layer for layer in layers if layer.name not in made_by]
    others = [operator for name, operator in made_by.items() if name not in {layer.name for layer in layers}]
    if len(missing) > 1 or len(missing) != len(others):
        raise ValueError(f"the file must have every dense layer of its float graph. Missing: {len(missing)}, first {missing[0].layer}")
    # the layer that ends a graph may be named after the graph's output
    found = [made_by.get(layer.name) or others[0] for layer in layers]
    pairs = [(int(operator.inputs[0]), int(operator.outputs[0])) for operator in found]
    watched = list(dict.fromkeys(index for pair in pairs for index in pair))  # query, key and value share an input
    exact = Interpreter(flatbuffer.with_outputs(float_graph, [layer.output for layer in layers]), threads=threads)
    tested = Interpreter(flatbuffer.with_outputs(file, watched), threads=threads)
    weights = [_Weights.of(graph, layer) for layer in layers]
    sums = [(_Sums(), _Sums()) for _ in layers]
    for image in images:
        values = _pairwise_values(pairs, zip(watched, tested.run_each(image[None]), strict=True))
        for own, (piled_up, alone), expected, (given, made) in zip(weights, sums, exact.run_each(image[None]), values, strict=True):
            piled_up.add(expected, made)
            alone.add(own.applied(given).reshape(made.shape), made)
    if not sums or not sums[0][0].count:
        raise ValueError("images must hold at least one")
    rows = [
        LayerDrift(layer.layer, _mode(model, operator), *piled_up.figures(), *alone.figures())
        for layer, operator, (piled_up, alone) in zip(layers, found, sums, strict=True)
    ]
    return sorted(rows, key=lambda row: (not np.isnan(row.own_snr_db), row.own_snr_db))


def _pairwise_values(pairs: Sequence[tuple[int, int]], values: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Input and output of one layer after the other; each tensor is held only as long as a later layer reads it."""
    last_use = {index: position for position, pair in enumerate(pairs) for index in pair}
    held: dict[int, np.ndarray] = {}
    for position, pair in enumerate(pairs):
        while not held.keys() >= set(pair):
            index, value = next(values)
            held[index] = value
        yield held[pair[0]], held[pair[1]]
        held = {index: value for index, value in held.items() if last_use[index] > position}


class _Sums:
    """Of one layer's outputs over the images."""

    def __init__(self) -> None:
        self.count, self.signal, self.noise, self.cosines = 0, 0.0, 0.0, 0.0

    def add(self, expected: np.ndarray, made: np.ndarray) -> None:
        expected, made = expected.reshape(1, -1).astype(np.float64), made.reshape(1, -1).astype(np.float64)
        self.count += 1
        self.signal += float(np.sum(np.square(expected)))
        self.noise += float(np.sum(np.square(made - expected)))
        self.cosines += float(cosine(expected, made)[0])

    def figures(self) -> tuple[float, float]:
        return decibels(self.signal, self.noise), self.cosines / self.count


@dataclasses.dataclass(frozen=True)
class _Weights:
    """A dense layer or patch convolution in float32."""

    matrix: np.ndarray
    bias: np.ndarray | None
    patch: int
    relu: bool

    @classmethod
    def of(cls, model: schema.ModelT, layer: DenseLayer) -> _Weights:
        bias = None
        if layer.bias is not None:
            bias = flatbuffer.float_constant(model, layer.bias)
        patch = flatbuffer.tensor_shape(model, layer.weights)[1] if layer.operation == "CONV_2D" else 1
        options = layer.operator.builtinOptions
        relu = options is not None and options.fusedActivationFunction == schema.ActivationFunctionType.RELU
        return cls(weight_matrix(model, layer), bias, patch, relu)

    def applied(self, inputs: np.ndarray) -> np.ndarray:
        """[N, outputs]; a convolution's stride is its patch."""
        if self.patch > 1:
            _, height, width, channels = inputs.shape
            rows, columns = height // self.patch, width // self.patch
            tiles = inputs[0, : rows * self.patch, : columns * self.patch].reshape(rows, self.patch, columns, self.patch, channels)
            inputs = tiles.transpose(0, 2, 1, 3, 4)
        outputs = inputs.reshape(-1, self.matrix.shape[1]) @ self.matrix.T
        outputs = outputs if self.bias is None else outputs + self.bias
        return np.maximum(outputs, 0.0) if self.relu else outputs


def _mode(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """Types of inputs and weights; weights that are expanded as the file is loaded are named by what is stored."""
    return " x ".join(_stored_type(model, int(index)).lower() for index in operator.inputs[:2])


def _stored_type(model: schema.ModelT, index: int) -> str:
    expanded = {int(o.outputs[0]): int(o.inputs[0]) for name, o in flatbuffer.operators(model) if name == "DEQUANTIZE"}
    if index in expanded and flatbuffer.constant(model, expanded[index]) is not None:
        index = expanded[index]
    return flatbuffer.tensor_type(model, index)
