"""4-bit weights with a scale a block of inputs, for comparison: no recipe makes them (docs/decisions/0034)."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.quantization import gptq
from edge.quantization.dense_layers import DenseLayer, set_four_bits
from edge.tflite import flatbuffer

_ENDS = np.linspace(0.55, 1.0, 10)


def rounded_in_blocks(weights: np.ndarray, samples: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps [outputs, inputs] int8 and scales [outputs, inputs / side] float16 of weights rounded for the inputs they will meet.

    The inputs keep their order, so that a block's are neighbours; each block's grid is searched with the power of its inputs alone.
    """
    outputs, inputs = weights.shape
    samples = np.asarray(samples, np.float64)
    blocks, power = weights.reshape(outputs, -1, side), np.mean(np.square(samples), axis=0).reshape(1, -1, side)
    largest = np.abs(blocks).max(axis=2)
    least, scales = np.full(largest.shape, np.inf), np.zeros(largest.shape, np.float16)
    for end in _ENDS:
        scale = np.maximum(largest * end / gptq.HIGHEST4, 1e-6).astype(np.float16)
        error = np.clip(np.round(blocks / scale[..., None]), gptq.LOWEST4, gptq.HIGHEST4) * scale[..., None].astype(np.float32) - blocks
        cost = np.sum(np.square(error) * power, axis=2)
        better = cost < least
        least, scales = np.where(better, cost, least), np.where(better, scale, scales)
    inverse = gptq._inverse_factor(samples)
    remaining, step = np.array(weights.T, np.float64), np.repeat(scales.astype(np.float64), side, axis=1).T
    steps = np.empty(remaining.shape, np.int8)
    for row in range(inputs):
        rounded = np.clip(np.round(remaining[row] / step[row]), gptq.LOWEST4, gptq.HIGHEST4)
        steps[row] = rounded
        remaining[row + 1 :] -= np.multiply.outer(inverse[row, row + 1 :], (remaining[row] - rounded * step[row]) / inverse[row, row])
    return np.ascontiguousarray(steps.T), scales


def set_blocks(model: schema.ModelT, layer: DenseLayer, steps: np.ndarray, scales: np.ndarray, side: int) -> None:
    """As `edge.quantization.dense_layers.set_four_bits`, with [outputs, inputs / side] scales."""
    set_four_bits(model, layer, steps, scales[:, 0])
    stored, graph = schema.TensorT(), model.subgraphs[0]
    stored.name, stored.shape, stored.type = f"{layer.layer}/scales".encode(), np.array(scales.shape, np.int32), schema.TensorType.FLOAT16
    graph.tensors.append(stored)
    flatbuffer.make_constant(model, len(graph.tensors) - 1, scales.astype(np.float16))
    details = schema.BlockwiseQuantizationT()
    details.scales, details.zeroPoints, details.blockSize = len(graph.tensors) - 1, -1, side
    parameters = schema.QuantizationParametersT()
    parameters.detailsType, parameters.details = schema.QuantizationDetails.BlockwiseQuantization, details
    graph.tensors[int(layer.operator.inputs[1])].quantization = parameters
