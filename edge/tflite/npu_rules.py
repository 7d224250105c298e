"""Rules for what Arm's compiler gives to an Ethos-U, without running it: ethos-u-vela of one release.

tests/edge/runtime/test_vela.py checks the rules on our files with the compiler itself, where it is installed. Operations that no rule
knows count as left to the CPU.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.tflite import flatbuffer

VELA = "ethos-u-vela 5.2.0"
WHOLE, PARTLY, NOTHING = "whole", "partly", "nothing"
# What Ethos-U55, U65 and U85 all have (vela --supported-ops-report), of the operations whose conditions are known here
OPERATIONS = frozenset((
    "ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "GELU", "HARD_SWISH",
    "LEAKY_RELU", "LOGISTIC", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MUL", "PAD", "QUANTIZE", "RELU", "RELU6", "RESHAPE", "RSQRT",
    "SLICE", "SOFTMAX", "SPLIT", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE",
))  # fmt: skip
_INTEGERS = ("INT8", "UINT8", "INT16")
_GRID_RANK = 4


def npu_summary(model: schema.ModelT) -> dict[str, Any]:
    """Verdict, basis and what is left to the CPU, as in manifests and `edge.inspect`: `on_cpu` has {op, operations, reason}."""
    left = Counter((name, reason) for name, operator in flatbuffer.operators(model) if (reason := _reason(model, name, operator)))
    total = len(model.subgraphs[0].operators)
    return {
        "verdict": WHOLE if not left else NOTHING if left.total() == total else PARTLY,
        "basis": f"rules for {VELA}, not compiled",
        "on_cpu": [{"op": name, "operations": count, "reason": reason} for (name, reason), count in sorted(left.items())],
    }


def _reason(model: schema.ModelT, name: str, operator: schema.OperatorT) -> str | None:
    """Why the compiler leaves an operation to the CPU; None where it takes it."""
    data = [int(index) for index in operator.inputs if index >= 0]
    data = [index for index in (*data, *map(int, operator.outputs)) if flatbuffer.constant(model, index) is None]
    kinds = {flatbuffer.tensor_type(model, index) for index in data}
    if unknown := sorted(kinds - set(_INTEGERS)):
        return f"{unknown[0]} activations; the NPU computes on integers"
    if name not in OPERATIONS:
        return "no such operation"
    if "INT16" in kinds and name == "GELU":
        return "16-bit GELU"
    if "INT16" in kinds and name == "BATCH_MATMUL":
        return "16-bit product of two activations, which Ethos-U85 alone takes"
    if name == "MEAN" and _is_mean_over_channels_of_a_grid(model, operator):
        return "mean over the channels of a grid; reshape to [1, 1, H * W, C] first"
    return None


def _is_mean_over_channels_of_a_grid(model: schema.ModelT, operator: schema.OperatorT) -> bool:
    shape, axes = flatbuffer.tensor_shape(model, int(operator.inputs[0])), flatbuffer.constant(model, int(operator.inputs[1]))
    over = [] if axes is None else np.frombuffer(axes.tobytes(), np.int32).tolist()
    return len(shape) == _GRID_RANK and any(axis in (-1, _GRID_RANK - 1) for axis in over) and min(shape[1:]) > 1
