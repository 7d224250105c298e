"""What delegates take, by rule, without running one. The GPU rules are those of LiteRT's GPU delegate (ML Drift) in one release.

Each refusal was seen on that delegate before this project began; only acceptance of our own graphs has been measured again since
(docs/decisions/0001). The rules are cautious: where they refuse, the delegate may still accept. A file they call whole is expected to
compile whole; only a GPU can prove it.
"""

from __future__ import annotations

import dataclasses

from ai_edge_litert import schema_py_generated as schema

from edge import flatbuffer

GPU_RULES = "litert-gpu 2.3.0"

GPU_OPERATIONS = frozenset(
    (
        "ADD",
        "BATCH_MATMUL",
        "CAST",
        "CONCATENATION",
        "CONV_2D",
        "DEQUANTIZE",
        "DIV",
        "EXP",
        "FULLY_CONNECTED",
        "GELU",
        "LOGISTIC",
        "MAXIMUM",
        "MEAN",
        "MINIMUM",
        "MUL",
        "PAD",
        "QUANTIZE",
        "RELU",
        "RESHAPE",
        "RSQRT",
        "SLICE",
        "SOFTMAX",
        "SPACE_TO_DEPTH",
        "SPLIT",
        "SQRT",
        "SQUARE",
        "SQUARED_DIFFERENCE",
        "STRIDED_SLICE",
        "SUB",
        "SUM",
        "TANH",
        "TRANSPOSE",
    )
)
_MAX_RANK = 4
_INTEGER_QUANTIZED = ("INT8", "UINT8", "INT16")


@dataclasses.dataclass(frozen=True)
class Refusal:
    """One reason a delegate does not take an operation.

    Attributes:
        op: the operation. tensor: its output. layer: the Keras layer that made it. reason: in words, with the way out.
    """

    op: str
    tensor: str
    layer: str
    reason: str


def gpu_refusals(model: schema.ModelT) -> list[Refusal]:
    """Every operation the GPU delegate would refuse, or compute wrongly, with the reason."""
    refusals = []
    for name, operator in flatbuffer.operators(model):
        reason = _gpu_reason(model, name, operator)
        if reason:
            output = flatbuffer.tensor_name(model, int(operator.outputs[0]))
            refusals.append(Refusal(name, output, flatbuffer.keras_layer(output), reason))
    return refusals


def _gpu_reason(model: schema.ModelT, name: str, operator: schema.OperatorT) -> str | None:
    tensors = [int(index) for index in (*operator.inputs, *operator.outputs) if index >= 0]
    computed = [index for index in tensors if flatbuffer.constant(model, index) is None]
    shapes = {index: flatbuffer.tensor_shape(model, index) for index in tensors}
    too_deep = next((shape for shape in shapes.values() if len(shape) > _MAX_RANK), None)
    if too_deep is not None:
        return f"tensor of rank {len(too_deep)} {list(too_deep)}; reshape so that no tensor has more than {_MAX_RANK} dimensions"
    if name not in GPU_OPERATIONS:
        return "operation not supported; express it with supported operations"
    wide = next((index for index in computed if flatbuffer.tensor_type(model, index) in ("INT64", "FLOAT64", "STRING")), None)
    if wide is not None:
        return f"{flatbuffer.tensor_type(model, wide)} tensor; use float32 or int32"
    if name == "BATCH_MATMUL":
        left, right = (shapes[int(index)] for index in operator.inputs[:2])
        if left[:-2] != right[:-2]:
            return f"broadcast batch {list(left[:-2])} x {list(right[:-2])} is computed wrongly; give both operands the same batch"
        options = operator.builtinOptions
        if options is not None and (options.adjX or options.adjY):
            return "transposed operand is ignored by some GPU back ends; transpose it before"
    if name == "STRIDED_SLICE" and operator.builtinOptions is not None and operator.builtinOptions.shrinkAxisMask:
        return "slice that drops a dimension; slice and reshape"
    if name == "FULLY_CONNECTED":
        data = int(operator.inputs[0])
        if flatbuffer.tensor_type(model, data) in _INTEGER_QUANTIZED and len(shapes[data]) == 2 and shapes[data][0] > 1:
            return f"quantized dense layer on a rank-2 tensor {list(shapes[data])}; keep rank 4 with a leading dimension of 1"
    return None
