"""The same graph in operations that readers of `.tflite` other than LiteRT have too (docs/decisions/0037).

MNN, TensorFlow Lite Micro, tf2onnx and runtimes before 2.9 have no GELU. A GELU is x * P(x), P the normal distribution's cumulative
function, and P is a logistic function of x times a polynomial in x * x. MNN takes a FULLY_CONNECTED for one of a single row; on a grid it
is a convolution of one pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.quantization.dense_layers import ROLES, dense_layers
from edge.tflite import flatbuffer

_GRID_RANK = 4
# x * logistic(x * (a + b u + c u^2)), u the smaller of x * x and the limit, differs from x * P(x) by at most 2.6e-5: a minimax fit
_EXACT, _LIMIT = (1.5950156773260227, 0.07401136968864357, -0.0007030454326123924), 30.0
# without the last term, and no limit: at most 2.8e-4, which 8 bits do not see, and no minimum, which MNN lacks in int8
_SHORT = (1.6003127017571563, 0.0694024386751213)
# the tanh formula itself, 0.5 x (1 + tanh(z)) = x logistic(2 z) with z = sqrt(2 / pi) (x + 0.044715 x^3)
_TANH = (2 * np.sqrt(2 / np.pi), 2 * np.sqrt(2 / np.pi) * 0.044715)
_OPTIONS = {"ADD": schema.AddOptionsT, "MUL": schema.MulOptionsT, "MINIMUM": schema.MaximumMinimumOptionsT}


def make_portable(model: schema.ModelT, integers: bool) -> None:
    """Rewrites a float graph in place; it gives what it gave before to 80 dB and more, where it is not to compute on integers."""
    _convolve_grids(model)
    _write_out_gelu(model, _SHORT if integers else _EXACT)


def write_out_gelu(model: schema.ModelT) -> None:
    """Of `make_portable` the GELU for integers alone, in place: no NPU's compiler and few runtimes have one in 16 bits."""
    _write_out_gelu(model, _SHORT)


def _convolve_grids(model: schema.ModelT) -> None:
    """Makes every FULLY_CONNECTED from grid to grid [1, H, W, C] a CONV_2D of one pixel: the same weights, the same products."""
    tensors = model.subgraphs[0].tensors
    for layer in dense_layers(model):
        ranks = {len(flatbuffer.tensor_shape(model, index)) for index in (layer.input, layer.output)}
        if layer.operation == "CONV_2D" or ranks != {_GRID_RANK}:
            continue
        outputs, inputs = flatbuffer.tensor_shape(model, layer.weights)
        tensors[layer.weights].shape = np.array([outputs, 1, 1, inputs], np.int32)
        if layer.bias is None:  # a convolution must have one
            bias = flatbuffer.add_float_tensor(model, f"{layer.layer}/bias", (outputs,))
            flatbuffer.make_constant(model, bias, np.zeros(outputs, np.float32))
            layer.operator.inputs = np.array([layer.input, layer.weights, bias], np.int32)
        options = schema.Conv2DOptionsT()
        options.padding, options.strideH, options.strideW = schema.Padding.VALID, 1, 1
        options.fusedActivationFunction = layer.operator.builtinOptions.fusedActivationFunction
        layer.operator.opcodeIndex = flatbuffer.operator_code(model, schema.BuiltinOperator.CONV_2D, 1)
        layer.operator.builtinOptionsType, layer.operator.builtinOptions = schema.BuiltinOptions.Conv2DOptions, options


def _write_out_gelu(model: schema.ModelT, exact: Sequence[float]) -> None:
    """Replaces every GELU of a float graph by products, sums and a logistic function, in place; what it gives keeps its name.

    Args:
        model: the graph.
        exact: factors in place of the exact form. The tanh form has its own, and is met to rounding.
    """
    rewritten: list[schema.OperatorT] = []
    for name, operator in list(flatbuffer.operators(model)):
        if name != "GELU":
            rewritten.append(operator)
            continue
        chain = _Chain(model, int(operator.outputs[0]), rewritten)
        source = int(operator.inputs[0])
        squared = chain.add("MUL", source, source)
        factors = _TANH if operator.builtinOptions.approximate else exact
        if factors is _EXACT:
            squared = chain.add("MINIMUM", squared, chain.number(_LIMIT))
        value = chain.add("MUL", squared, chain.number(factors[-1]))
        for factor in factors[-2:0:-1]:
            value = chain.add("MUL", chain.add("ADD", value, chain.number(factor)), squared)
        value = chain.add("MUL", chain.add("ADD", value, chain.number(factors[0])), source)
        chain.add("MUL", chain.add("LOGISTIC", value), source, last=True)
    model.subgraphs[0].operators = rewritten


class _Chain:
    """Operations in place of one, each of a tensor shaped like what that one gives.

    Args:
        model: what they are added to.
        output: the tensor that the last one makes.
        operators: the list that they go to.
    """

    def __init__(self, model: schema.ModelT, output: int, operators: list[schema.OperatorT]) -> None:
        self._model, self._output, self._operators = model, output, operators
        self._name, self._steps = plain_name(flatbuffer.tensor_name(model, output)), 0

    def add(self, name: str, *inputs: int, last: bool = False) -> int:
        """The tensor that an operation of these tensors makes."""
        operation = schema.OperatorT()
        operation.opcodeIndex = flatbuffer.operator_code(self._model, getattr(schema.BuiltinOperator, name), 1)
        output = self._output if last else self._tensor(flatbuffer.tensor_shape(self._model, self._output))
        operation.inputs, operation.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        if name in _OPTIONS:
            options = _OPTIONS[name]
            operation.builtinOptionsType = getattr(schema.BuiltinOptions, options.__name__.removesuffix("T"))
            operation.builtinOptions = options()
        self._operators.append(operation)
        return output

    def number(self, value: float) -> int:
        """A constant of one float32."""
        index = self._tensor(())
        flatbuffer.make_constant(self._model, index, np.array(value, np.float32))
        return index

    def _tensor(self, shape: tuple[int, ...]) -> int:
        self._steps += 1
        return flatbuffer.add_float_tensor(self._model, f"{self._name}/step{self._steps}", shape)


def plain_name(name: str) -> str:
    """Of the names that the converter joined with semicolons the one of a dense layer, else the first."""
    parts = [part for part in name.split(";") if part] or [name]
    return next((part for part in parts if set(flatbuffer.scope(part)) & set(ROLES)), parts[0])


def give_plain_names(model: schema.ModelT) -> None:
    """Takes the converter's joins out of the names of tensors, in place; equal names are numbered."""
    taken: set[str] = set()
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        name = plain = plain_name(flatbuffer.tensor_name(model, index))
        number = 1
        while name in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name)
        tensor.name = name.encode()
