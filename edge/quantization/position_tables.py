"""Position biases of large windows as the tables they are made of.

A bias of N x N token pairs has one value for each of the (2 * side - 1)^2 offsets of two tokens in a window of side * side = N: with
24 x 24 tokens 331,776 values a head, of which 2,209 differ. The file holds those and a GATHER. What it reads is known when the file is
loaded, and TensorFlow Lite computes such an operation once, then (docs/decisions/0022). The index is stored in two halves: the GPU delegate
refuses a GATHER of two constants, and takes one whose index it has put together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.tflite import flatbuffer
from tfvit.graph_constants import POSITION_BIAS, POSITION_TABLE, position_index

_LAST_AXIS = 3
_TYPES = {"float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32}


def store_tables(model: schema.ModelT, from_window: int | None) -> None:
    """Replaces position biases by tables, in place; the graph computes the same to the last bit.

    Args:
        model: its biases are float32 constants [1, 1, nH, N * N], named as in `tfvit.graph_constants`.
        from_window: side of the smallest window whose biases are replaced; None leaves all.
    """
    if from_window is None:
        return
    graph, made = model.subgraphs[0], []
    indices: dict[int, int] = {}
    for bias in range(len(graph.tensors)):
        data, shape = flatbuffer.constant(model, bias), flatbuffer.tensor_shape(model, bias)
        if not flatbuffer.tensor_name(model, bias).startswith(POSITION_BIAS) or data is None or len(shape) != _LAST_AXIS + 1:
            continue
        side = math.isqrt(math.isqrt(shape[-1]))
        if side < from_window or side**4 != shape[-1]:  # a window that is not square keeps its bias as it is
            continue
        values = np.frombuffer(data.tobytes(), np.float32).reshape(shape)
        index = position_index((side, side), (side, side), np).astype(np.int32)
        table = np.zeros((*shape[:-1], (2 * side - 1) ** 2), np.float32)
        table[..., index] = values
        if not np.array_equal(table[..., index], values):
            raise ValueError(f"one value an offset expected. Received: others in {flatbuffer.tensor_name(model, bias)!r}")
        if side not in indices:
            indices[side] = _add_tensor(model, f"position_index {side}", index.shape, schema.TensorType.INT32)
            halves = [_add_constant(model, f"position_index {side} {half}", part) for half, part in enumerate(np.array_split(index, 2))]
            options = schema.ConcatenationOptionsT()
            made.append(_operation(model, "CONCATENATION", halves, indices[side], options))
        name = flatbuffer.tensor_name(model, bias).replace(POSITION_BIAS, POSITION_TABLE, 1)
        gather = schema.GatherOptionsT()
        gather.axis = _LAST_AXIS
        made.append(_operation(model, "GATHER", [_add_constant(model, name, table), indices[side]], bias, gather))
        graph.tensors[bias].buffer = 0
    graph.operators = [*made, *graph.operators]
    flatbuffer.drop_unused_buffers(model)


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
