"""Large constants in fewer bytes: float16 or int8 behind a DEQUANTIZE, which runtimes undo once, when they load the file.

Masks are exact in int8. A softmax does not see a constant added to a row of scores, so each row of a position bias is centred first: what
is left has the smallest range there is, and so the finest step.
"""

from __future__ import annotations

import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.tflite import flatbuffer
from tfvit.errors import InputError
from tfvit.graph_constants import MASK, MASK_TABLE, MASK_VALUE, POSITION_BIAS, POSITION_TABLE

# Constants below this many elements stay float32: they are shapes, scales and biases, and weigh nothing.
MIN_COMPACT_ELEMENTS = 1024
_LEVELS = 127
# First version of DEQUANTIZE that takes float16
_DEQUANTIZE_VERSION = 3


def store_compactly(model: schema.ModelT, float16: bool, int8_biases_from: int | None) -> None:
    """Stores the large float32 constants of a graph in fewer bytes, in place.

    Args:
        float16: whether all of them become float16; those of dense layers that are int8 already are left alone.
        int8_biases_from: position biases of this many elements and more become int8, smaller ones float16, masks int8; None leaves both
            to `float16`.

    Raises:
        InputError: a value that float16 cannot hold.
    """
    if not float16 and int8_biases_from is None:
        return
    graph = model.subgraphs[0]
    unpacked: dict[int, int] = {}
    rewritten = []
    for _, operator in list(flatbuffer.operators(model)):
        inputs = np.array(operator.inputs)
        for position, index in enumerate(inputs):
            if index not in unpacked:
                if index < 0 or flatbuffer.tensor_type(model, index) != "FLOAT32":
                    continue
                data = flatbuffer.constant(model, index)
                if data is None or len(data) < 4 * MIN_COMPACT_ELEMENTS:
                    continue
                values = np.frombuffer(data.tobytes(), np.float32).reshape(flatbuffer.tensor_shape(model, index))
                stored = _stored(flatbuffer.tensor_name(model, index), values, float16, int8_biases_from)
                if stored is None:
                    continue
                unpacked[index] = _replace(model, index, *stored)
                operation = schema.OperatorT()
                operation.opcodeIndex = flatbuffer.operator_code(model, schema.BuiltinOperator.DEQUANTIZE, _DEQUANTIZE_VERSION)
                operation.inputs, operation.outputs = np.array([index], np.int32), np.array([unpacked[index]], np.int32)
                rewritten.append(operation)
            inputs[position] = unpacked[index]
        operator.inputs = inputs
        rewritten.append(operator)
    graph.operators = rewritten
    flatbuffer.drop_unused_buffers(model)


def _stored(name: str, values: np.ndarray, float16: bool, int8_biases_from: int | None) -> tuple[np.ndarray, float | None] | None:
    """A constant's stored values and their scale (None for float16); None where it stays as it is."""
    if name.startswith((POSITION_TABLE, MASK_TABLE)):
        return None  # small, and no longer computed once behind a DEQUANTIZE
    if int8_biases_from is not None and name.startswith(MASK):
        return (values / -MASK_VALUE).astype(np.int8), -MASK_VALUE
    if int8_biases_from is not None and name.startswith(POSITION_BIAS):
        if values.size < int8_biases_from:
            return _float16(name, values), None
        return _int8(_centred_rows(values))
    return (_float16(name, values), None) if float16 else None


def _centred_rows(bias: np.ndarray) -> np.ndarray:
    """[1, 1, nH, N * N] with the middle of the range of every row of N scores at zero."""
    rows = bias.reshape(-1, math.isqrt(bias.shape[-1]))
    return (rows - (rows.max(axis=1, keepdims=True) + rows.min(axis=1, keepdims=True)) / 2).reshape(bias.shape)


def _int8(values: np.ndarray) -> tuple[np.ndarray, float]:
    scale = float(np.float32(np.abs(values).max() or 1.0)) / _LEVELS
    return np.clip(np.round(values / scale), -_LEVELS, _LEVELS).astype(np.int8), scale


def _float16(name: str, values: np.ndarray) -> np.ndarray:
    if not np.abs(values).max() <= np.finfo(np.float16).max:
        raise InputError(
            "a weight does not fit float16",
            expected=f"values up to {np.finfo(np.float16).max:g}",
            received=f"{np.abs(values).max():g} in {flatbuffer.keras_layer(name)}",
            action="check the weights, or use another recipe",
        )
    return values.astype(np.float16)


def _replace(model: schema.ModelT, index: int, values: np.ndarray, scale: float | None) -> int:
    """Stores `values` in constant `index`; returns the new float32 tensor that its DEQUANTIZE writes."""
    graph = model.subgraphs[0]
    source, unpacked = graph.tensors[index], schema.TensorT()
    unpacked.shape, unpacked.type, unpacked.buffer = source.shape, schema.TensorType.FLOAT32, 0
    unpacked.name, source.name = source.name, (source.name or b"") + f"_{values.dtype}".encode()
    flatbuffer.make_constant(model, index, values)
    source.type = schema.TensorType.FLOAT16 if scale is None else schema.TensorType.INT8
    if scale is not None:
        source.quantization = schema.QuantizationParametersT()
        source.quantization.scale, source.quantization.zeroPoint = [scale], [0]
    graph.tensors.append(unpacked)
    return len(graph.tensors) - 1
