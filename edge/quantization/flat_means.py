"""Means over the channels of a grid, taken of the same numbers as one row of tokens.

Arm's compiler for Ethos-U computes a mean over the channels of [1, 1, N, C] and leaves that of [1, H, W, C] to the CPU. The two are the
same numbers, and a compiler for NPUs spends nothing on a reshape (docs/decisions/0038).
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.tflite import flatbuffer

_GRID_RANK = 4


def flatten_means(model: schema.ModelT) -> None:
    """Puts a reshape to [1, 1, H * W, C] in front of every mean over the channels of a grid and one back behind it, in place."""
    rewritten, flat = [], {}
    for name, operator in list(flatbuffer.operators(model)):
        grid = int(operator.inputs[0])
        shape = flatbuffer.tensor_shape(model, grid)
        if name != "MEAN" or not _over_the_channels_of_a_grid(model, operator, shape):
            rewritten.append(operator)
            continue
        row = (1, 1, shape[1] * shape[2], shape[3])
        if grid not in flat:  # two means may be taken of one grid
            flat[grid] = _like(model, grid, row)
            rewritten.append(_reshape(model, grid, flat[grid], row))
        mean = int(operator.outputs[0])
        of_row = _like(model, mean, (*row[:3], 1))
        operator.inputs = np.array([flat[grid], *operator.inputs[1:]], np.int32)
        operator.outputs = np.array([of_row], np.int32)
        rewritten += [operator, _reshape(model, of_row, mean, flatbuffer.tensor_shape(model, mean))]
    model.subgraphs[0].operators = rewritten


def _over_the_channels_of_a_grid(model: schema.ModelT, operator: schema.OperatorT, shape: tuple[int, ...]) -> bool:
    axes = flatbuffer.constant(model, int(operator.inputs[1]))
    if axes is None or len(shape) != _GRID_RANK or not operator.builtinOptions.keepDims:
        return False
    return shape[0] == 1 and min(shape[1:3]) > 1 and np.frombuffer(axes.tobytes(), np.int32).tolist() in ([-1], [_GRID_RANK - 1])


def _like(model: schema.ModelT, index: int, shape: tuple[int, ...]) -> int:
    """A new tensor of another shape with the type and scale of tensor `index`."""
    tensors, tensor = model.subgraphs[0].tensors, schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = (tensors[index].name or b"") + b"_row", np.array(shape, np.int32), 0
    tensor.type, tensor.quantization = tensors[index].type, tensors[index].quantization
    tensors.append(tensor)
    return len(tensors) - 1


def _reshape(model: schema.ModelT, source: int, target: int, shape: tuple[int, ...]) -> schema.OperatorT:
    sides, operation = schema.TensorT(), schema.OperatorT()
    sides.name, sides.shape, sides.type = b"shape " + str(shape).encode(), np.array([len(shape)], np.int32), schema.TensorType.INT32
    model.subgraphs[0].tensors.append(sides)
    index = len(model.subgraphs[0].tensors) - 1
    flatbuffer.make_constant(model, index, np.array(shape, np.int32))
    operation.opcodeIndex = flatbuffer.operator_code(model, schema.BuiltinOperator.RESHAPE, 1)
    operation.inputs, operation.outputs = np.array([source, index], np.int32), np.array([target], np.int32)
    operation.builtinOptionsType, operation.builtinOptions = schema.BuiltinOptions.ReshapeOptions, schema.ReshapeOptionsT()
    operation.builtinOptions.newShape = np.array(shape, np.int32)
    return operation
