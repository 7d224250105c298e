"""Outliers among the channels that a dense layer reads, taken into its weights: x W = (x / s) (s W), s for each channel.

8 bits over a range that a few channels need leave the others a few steps. Trained large models have such channels in their residual stream
(https://arxiv.org/abs/2402.17762). SmoothQuant (https://arxiv.org/abs/2211.10438) divides by s in the norm in front; ours have their gains
in the weights already, so that a product with 1 / s is put in front of the layers that need it, and of no others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.quantization import clipping
from edge.quantization.dense_layers import DenseLayer, dense_layers, set_constant, weight_matrix
from edge.quantization.quantize import layer_modes
from edge.quantization.ranges import Calibration
from edge.quantization.recipes import FLOAT, STATIC, WEIGHT_BITS, Recipe
from edge.tflite import flatbuffer

# Inputs that 8 bits hold this well, at the layer's output, are left alone. Those of models without outliers have 33 to 43 dB, those of
# models with two channels at 30 times the rest 16 to 30 (benchmarks/outliers).
ENOUGH_DB = 32.0
# What s must take away of the error, both of inputs and of weights, to be worth a product
MIN_GAIN_DB = 2.0
# s is a channel's largest value over the median of them, to one of these powers, at least 1, and a power of two: nothing is rounded
POWERS = (0.25, 0.5, 0.75, 1.0)


def smoothed(float_file: bytes, calibration: Calibration, recipe: Recipe) -> tuple[bytes, Calibration]:
    """The float file with a product in front of the layers that need one, and what is known of its activations.

    Args:
        float_file: the float flatbuffer.
        calibration: with rows and the extremes of the channels of what the layers read.
        recipe: says which layers compute in how many bits. One that computes on integers alone has rounded the outliers before any layer
            reads them: nothing is done.

    Returns:
        Both as they were where no layer needs it.
    """
    if recipe.integer_bits or not recipe.fitted_to_inputs:
        return float_file, calibration
    model = flatbuffer.read_model(float_file)
    modes = layer_modes(model, recipe, calibration)
    readers: dict[int, list[DenseLayer]] = {}
    for layer in dense_layers(model):
        if modes[layer.name] != FLOAT and flatbuffer.tensor_name(model, layer.input) in calibration.channels:
            readers.setdefault(layer.input, []).append(layer)
    changed = dataclasses.replace(calibration, ranges=dict(calibration.ranges), rows=dict(calibration.rows), rounded={})
    before = len(model.subgraphs[0].operators)
    for source, layers in readers.items():
        name = flatbuffer.tensor_name(model, source)
        factors = _factors(
            calibration.rows[name],
            np.concatenate([weight_matrix(model, layer) for layer in layers]),
            min(WEIGHT_BITS[modes[layer.name]] for layer in layers),
            any(modes[layer.name] == STATIC for layer in layers),
        )
        if factors is None:
            continue
        target = flatbuffer.tensor_name(model, _divide(model, source, layers, factors))
        low, high = calibration.channels[name] / factors
        changed.ranges[target] = (float(low.min()), float(high.max()))
        changed.rows[target] = calibration.rows[name] / factors
    if len(model.subgraphs[0].operators) == before:
        return float_file, calibration
    flatbuffer.drop_unused_buffers(model)
    return flatbuffer.write_model(model), changed


def _factors(rows: np.ndarray, weights: np.ndarray, bits: int, static: bool) -> np.ndarray | None:
    """s, [channels] float32; None where the inputs are well enough without it.

    Args:
        rows: [N, channels] samples of the inputs.
        weights: [outputs, channels] of all layers that read them.
        bits: of the weights.
        static: whether one range holds for all inputs, or one for each row.
    """
    rows = clipping.some(rows).astype(np.float32)
    exact = rows @ weights.T
    signal = float(np.mean(np.square(exact - exact.mean(axis=0))))

    def snr_db(values: np.ndarray, matrix: np.ndarray) -> float:
        return 10.0 * float(np.log10(max(signal, 1e-30) / max(float(np.mean(np.square(values @ matrix.T - exact))), 1e-30)))

    if snr_db(_rounded_inputs(rows, static), weights) >= ENOUGH_DB:
        return None
    largest = np.abs(rows).max(axis=0)
    heights = np.maximum(1.0, largest / max(float(np.median(largest)), 1e-30))
    candidates = [np.ones_like(heights), *(np.exp2(np.round(power * np.log2(heights))) for power in POWERS)]
    found = [snr_db(_rounded_inputs(rows / factors, static), _rounded_weights(weights * factors, bits)) for factors in candidates]
    best = int(np.argmax(found))
    return candidates[best].astype(np.float32) if found[best] - found[0] >= MIN_GAIN_DB else None


def _rounded_inputs(rows: np.ndarray, static: bool) -> np.ndarray:
    axis = None if static else 1
    low, high = np.minimum(rows.min(axis, keepdims=True), 0.0), np.maximum(rows.max(axis, keepdims=True), 0.0)
    step = np.maximum((high - low) / 255.0, np.finfo(np.float32).tiny)
    return np.round(rows / step) * step


def _rounded_weights(weights: np.ndarray, bits: int) -> np.ndarray:
    step = np.maximum(np.abs(weights).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1), np.finfo(np.float32).tiny)
    return np.round(weights / step) * step


def _divide(model: schema.ModelT, source: int, layers: Sequence[DenseLayer], factors: np.ndarray) -> int:
    """Lets layers read a tensor divided by factors, and takes these into their weights, in place; gives the new tensor's index."""
    graph = model.subgraphs[0]
    target = flatbuffer.add_float_tensor(model, f"{flatbuffer.tensor_name(model, source)}/smoothed", flatbuffer.tensor_shape(model, source))
    inverse = flatbuffer.add_float_tensor(model, f"{layers[0].layer}/smoothing", (len(factors),))
    flatbuffer.make_constant(model, inverse, (1.0 / factors).astype(np.float32))
    product = schema.OperatorT()
    product.opcodeIndex = flatbuffer.operator_code(model, schema.BuiltinOperator.MUL, 1)
    product.inputs, product.outputs = np.array([source, inverse], np.int32), np.array([target], np.int32)
    product.builtinOptionsType, product.builtinOptions = schema.BuiltinOptions.MulOptions, schema.MulOptionsT()
    first = min(index for index, operator in enumerate(graph.operators) if any(operator is layer.operator for layer in layers))
    graph.operators.insert(first, product)
    for layer in layers:
        set_constant(model, layer, 1, weight_matrix(model, layer) * factors)
        inputs = np.array(layer.operator.inputs)
        inputs[0] = target
        layer.operator.inputs = inputs
    return target
