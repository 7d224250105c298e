"""Position biases of large windows as the tables they are made of.

A bias of N x N token pairs has one value for each of the (2 * side - 1)^2 offsets of two tokens in a window of side * side = N: with
24 x 24 tokens 331,776 values a head, of which 2,209 differ. The file holds those and a GATHER. Both inputs of it are constants, and
TensorFlow Lite computes such an operation once, when it loads the file (docs/decisions/0022).
"""

from __future__ import annotations

import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge import flatbuffer
from tfvit.graph_constants import POSITION_BIAS, POSITION_TABLE, position_index

_LAST_AXIS = 3


def store_tables(model: schema.ModelT, from_window: int | None) -> None:
    """Replaces position biases by tables, in place; the graph computes the same to the last bit.

    Args:
        model: its biases are float32 constants [1, 1, nH, N * N], named as in `tfvit.graph_constants`.
        from_window: side of the smallest window whose biases are replaced; None leaves all.
    """
    if from_window is None:
        return
    graph, gathers = model.subgraphs[0], []
    indices: dict[int, int] = {}
    for bias in range(len(graph.tensors)):
        data, shape = flatbuffer.constant(model, bias), flatbuffer.tensor_shape(model, bias)
        if not flatbuffer.tensor_name(model, bias).startswith(POSITION_BIAS) or data is None or len(shape) != _LAST_AXIS + 1:
            continue
        side = math.isqrt(math.isqrt(shape[-1]))
        if side < from_window:
            continue
        values = np.frombuffer(data.tobytes(), np.float32).reshape(shape)
        index = position_index((side, side), (side, side), np).astype(np.int32)
        table = np.zeros((*shape[:-1], (2 * side - 1) ** 2), np.float32)
        table[..., index] = values
        if not np.array_equal(table[..., index], values):
            raise ValueError(f"one value an offset expected. Received: others in {flatbuffer.tensor_name(model, bias)!r}")
        if side not in indices:
            indices[side] = _add_constant(model, f"position_index {side}", index, schema.TensorType.INT32)
        name = flatbuffer.tensor_name(model, bias).replace(POSITION_BIAS, POSITION_TABLE, 1)
        gathers.append(_gather(model, _add_constant(model, name, table, schema.TensorType.FLOAT32), indices[side], bias))
        graph.tensors[bias].buffer = 0
    graph.operators = [*gathers, *graph.operators]
    flatbuffer.drop_unused_buffers(model)


def _add_constant(model: schema.ModelT, name: str, values: np.ndarray, element_type: int) -> int:
    buffer, tensor = schema.BufferT(), schema.TensorT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.name, tensor.shape, tensor.type = name.encode(), np.array(values.shape, np.int32), element_type
    tensor.buffer = len(model.buffers) - 1
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def _gather(model: schema.ModelT, table: int, index: int, output: int) -> schema.OperatorT:
    operation = schema.OperatorT()
    operation.opcodeIndex = flatbuffer.operator_code(model, schema.BuiltinOperator.GATHER, 1)
    operation.inputs, operation.outputs = np.array([table, index], np.int32), np.array([output], np.int32)
    operation.builtinOptionsType = schema.BuiltinOptions.GatherOptions
    operation.builtinOptions = schema.GatherOptionsT()
    operation.builtinOptions.axis = _LAST_AXIS
    return operation
