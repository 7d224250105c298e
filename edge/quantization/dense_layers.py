"""The dense and convolution layers of a float file: what 8-bit recipes decide about, one by one."""

from __future__ import annotations

import dataclasses

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.tflite import flatbuffer

DENSE_OPERATIONS = ("FULLY_CONNECTED", "CONV_2D")
# the last part of the path of every dense layer of the backbones, and the head's
ROLES = ("query", "key", "value", "projection", "fc1", "fc2", "reduction", "pre_logits", "head")

# What the converter calls a tensor that is an output of the model, in place of its layer's name
_OUTPUT = "StatefulPartitionedCall:"


@dataclasses.dataclass(frozen=True)
class DenseLayer:
    """One FULLY_CONNECTED or CONV_2D with constant weights.

    Attributes:
        name: of its output tensor; unique in the file.
        layer: the Keras layer it comes from, for example "stage1_block2/mlp/fc1" or "block2/mlp/fc1".
        operation: "FULLY_CONNECTED" or "CONV_2D".
        rows: how many rows of inputs it is computed for: one behind the pooling.
        input, output, weights, bias: tensor indices; bias None where there is none.
        operator: of the model it was found in.
    """

    name: str
    layer: str
    operation: str
    rows: int
    input: int
    output: int
    weights: int
    bias: int | None
    operator: schema.OperatorT = dataclasses.field(repr=False, compare=False)

    @property
    def role(self) -> str:
        """One of `ROLES` with the layer it is in, for example "mlp/fc1" or "patch_embedding/projection"; the path itself for others.

        A layer of another name that is computed for one row is a head, whatever its model calls it.
        """
        parts = self.layer.split("/")
        if parts[-1] not in ROLES:
            return "head" if self.rows == 1 else self.layer
        return "/".join(["merging" if part.endswith("_merging") else part for part in parts[-2:]])


def num_inputs(model: schema.ModelT, layer: DenseLayer) -> int:
    """How many numbers go into each output of a layer."""
    return int(np.prod(flatbuffer.tensor_shape(model, layer.weights)[1:]))


def multiplications(model: schema.ModelT, layer: DenseLayer) -> int:
    """Multiply-accumulates of a layer: what its time goes by."""
    return layer.rows * int(np.prod(flatbuffer.tensor_shape(model, layer.weights)))


def stored_bytes(model: schema.ModelT, layer: DenseLayer, bits: int) -> int:
    """What a layer's weights take in a file, with one float32 scale an output channel where they are not float32 themselves."""
    shape = flatbuffer.tensor_shape(model, layer.weights)
    return int(np.prod(shape)) * bits // 8 + (4 * shape[0] if bits < 32 else 0)


def dense_layers(model: schema.ModelT) -> list[DenseLayer]:
    """In the order of execution."""
    found = []
    for operation, operator in flatbuffer.operators(model):
        if operation not in DENSE_OPERATIONS or flatbuffer.constant(model, operator.inputs[1]) is None:
            continue
        name = flatbuffer.tensor_name(model, operator.outputs[0])
        bias = int(operator.inputs[2]) if len(operator.inputs) > 2 and operator.inputs[2] >= 0 else None
        tensors = (int(operator.inputs[0]), int(operator.outputs[0]), int(operator.inputs[1]), bias)
        layer = _layer(name, flatbuffer.tensor_name(model, operator.inputs[1]))
        rows = int(np.prod(flatbuffer.tensor_shape(model, int(operator.outputs[0]))[:-1]))
        found.append(DenseLayer(name, layer, operation, rows, *tensors, operator))
    return found


def _layer(output: str, weights: str) -> str:
    """The Keras path in the names of a layer's tensors; the converter joins the names of what it fused with semicolons."""
    for fused in (*output.split(";"), *weights.split(";")):
        parts = flatbuffer.scope(fused)
        roles = [index for index, part in enumerate(parts) if part in ROLES]
        if roles:
            first = next((index for index, part in enumerate(parts) if part.startswith(("stage", "block", "patch_embedding"))), roles[0])
            return "/".join(parts[first : roles[-1] + 1])
    return flatbuffer.keras_layer(weights if output.startswith(_OUTPUT) else output)


def weight_bits(model: schema.ModelT) -> list[dict[str, str | int]]:
    """The Keras path of every dense layer with constant weights, and the bits they are stored in, in the order of execution."""
    bits = {"INT4": 4, "INT8": 8, "FLOAT32": 32}
    return [{"layer": layer.layer, "weight_bits": bits[flatbuffer.tensor_type(model, layer.weights)]} for layer in dense_layers(model)]


def weight_matrix(model: schema.ModelT, layer: DenseLayer) -> np.ndarray:
    """A layer's float32 weights as [outputs, inputs]; those of a convolution flattened in the order of its patches."""
    shape = flatbuffer.tensor_shape(model, layer.weights)
    values = flatbuffer.float_constant(model, layer.weights)
    return values.reshape(shape[0], -1)


def takes_four_bits(model: schema.ModelT, layer: DenseLayer) -> bool:
    """Whether XNNPACK has a kernel for the layer with 4-bit weights and float inputs: a FULLY_CONNECTED of an even number of inputs."""
    return layer.operation == "FULLY_CONNECTED" and flatbuffer.tensor_shape(model, layer.weights)[-1] % 2 == 0


def set_four_bits(model: schema.ModelT, layer: DenseLayer, steps: np.ndarray, scale: np.ndarray) -> None:
    """Replaces a layer's float32 weights by 4-bit ones: the layer computes with them and quantizes its float inputs as they come.

    Args:
        model, layer: a FULLY_CONNECTED of it.
        steps: [outputs, inputs] int8 from -8 to 7, an even number of inputs.
        scale: [outputs], of every output channel.
    """
    set_constant(model, layer, 1, np.zeros(0, np.float32))
    tensor = model.subgraphs[0].tensors[int(layer.operator.inputs[1])]
    nibbles = steps.reshape(-1).view(np.uint8) & 0xF
    model.buffers[tensor.buffer].data = (
        nibbles[0::2] | nibbles[1::2] << 4
    )  # the first of two in the lower half (LiteRT, UnpackDenseInt4IntoInt8)
    tensor.type, tensor.quantization = schema.TensorType.INT4, schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = np.asarray(scale, np.float32), np.zeros(len(scale), np.int64)
    tensor.quantization.quantizedDimension = 0


def set_constant(model: schema.ModelT, layer: DenseLayer, position: int, values: np.ndarray) -> None:
    """Replaces a float32 constant of a layer: its weights (input 1) or bias (input 2). Other layers that share the old one keep it."""
    graph = model.subgraphs[0]
    index = int(layer.operator.inputs[position])
    readers = sum(int(np.sum(np.asarray(operator.inputs) == index)) for operator in graph.operators)
    if readers > 1:
        copy = schema.TensorT()
        copy.shape, copy.type = graph.tensors[index].shape, graph.tensors[index].type
        copy.name = f"{layer.layer}/input{position}".encode()
        graph.tensors.append(copy)
        index = len(graph.tensors) - 1
        inputs = np.array(layer.operator.inputs)
        inputs[position] = index
        layer.operator.inputs = inputs
    flatbuffer.make_constant(model, index, np.asarray(values, np.float32))
