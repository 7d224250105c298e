"""Operator versions, and the oldest TensorFlow Lite that runs a file."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.tflite.flatbuffer import OPERATOR_NAMES, builtin_operation, operators, tensor_type, text_of
from edge.tflite.runtime_versions import MIN_RUNTIME

# First TensorFlow Lite runtime that knows a version of an operation.
# Source: LiteRT, tflite/tools/versioning/runtime_version.cc, the operations this project's graphs use.
_MIN_RUNTIME = {
    "ADD": ("1.5.0", "1.14.0", "2.4.0", "2.6.0", "2.13.0"),
    "BATCH_MATMUL": ("2.3.0", "2.3.0", "2.4.0", "2.5.0"),
    "CAST": ("1.5.0", "2.7.0", "2.8.0", "2.9.0", "2.12.0", "2.15.0", "2.17.0"),
    "CONCATENATION": ("1.5.0", "1.14.0", "2.3.0", "2.14.0"),
    "CONV_2D": ("1.5.0", "1.14.0", "1.14.0", "2.3.0", "2.4.0", "2.9.0", "2.11.0", "2.15.0"),
    "DEQUANTIZE": ("1.13.1", "1.14.0", "1.15.0", "2.2.0", "2.7.0", "2.18.0"),
    "DIV": ("1.6.0", "2.3.0"),
    "EXP": ("1.7.0", "2.12.0"),
    "FULLY_CONNECTED": (
        "1.5.0", "1.10.0", "1.14.0", "1.14.0", "2.0.0", "2.1.0", "2.3.0", "2.3.0", "2.3.0", "2.11.0", "2.15.0", "2.17.0", "2.18.0",
    ),
    "GATHER": ("1.6.0", "1.14.0", "1.15.0", "2.4.0", "2.5.0"),
    "GELU": ("2.9.0", "2.9.0"),
    "LOGISTIC": ("1.14.0", "1.14.0", "2.3.0"),
    "MAXIMUM": ("1.14.0", "1.14.0", "2.3.0", "2.3.0"),
    "MEAN": ("1.6.0", "1.14.0", "2.4.0"),
    "MINIMUM": ("1.14.0", "1.14.0", "2.3.0", "2.3.0"),
    "MUL": ("1.5.0", "1.14.0", "1.15.0", "2.3.0", "2.6.0", "2.11.0", "2.13.0"),
    "PAD": ("1.5.0", "1.14.0", "2.4.0", "2.6.0"),
    "QUANTIZE": ("1.14.0", "1.15.0", "2.7.0"),
    "RELU": ("1.5.0", "2.1.0", "2.5.0"),
    "RESHAPE": ("1.5.0",),
    "RSQRT": ("1.10.0", "2.5.0", "2.15.0"),
    "SLICE": ("1.14.0", "1.14.0", "1.14.0", "2.4.0", "2.5.0", "2.14.0"),
    "SOFTMAX": ("1.5.0", "1.14.0", "2.3.0"),
    "SPLIT": ("1.5.0", "1.14.0", "1.14.0", "2.3.0"),
    "SQRT": ("1.10.0",),
    "SQUARE": ("1.12.0",),
    "SQUARED_DIFFERENCE": ("1.13.1", "2.5.0"),
    "STRIDED_SLICE": ("1.6.0", "1.14.0", "2.1.0", "2.2.0", "2.5.0", "2.6.0", "2.14.0", "2.14.0"),
    "SUB": ("1.6.0", "1.14.0", "2.3.0", "2.4.0", "2.4.0"),
    "SUM": ("1.10.0", "1.15.0"),
    "TANH": ("1.14.0", "1.14.0", "2.3.0"),
    "TRANSPOSE": ("1.6.0", "1.14.0", "1.15.0", "2.3.0", "2.4.0", "2.12.0", "2.14.4"),
}  # fmt: skip


# Versions that an operation has for integers, by the type of its first input.
# Source: LiteRT, tflite/tools/versioning/op_version.cc, likewise.
_INTEGER_VERSIONS = {
    "INT8": {
        "ADD": 2, "BATCH_MATMUL": 2, "CONCATENATION": 2, "CONV_2D": 3, "DEQUANTIZE": 2, "EXP": 2, "FULLY_CONNECTED": 4, "GELU": 2,
        "LOGISTIC": 2, "MAXIMUM": 2, "MEAN": 2, "MINIMUM": 2, "MUL": 2, "PAD": 2, "RELU": 2, "RSQRT": 2, "SLICE": 2, "SOFTMAX": 2,
        "SQUARED_DIFFERENCE": 2, "STRIDED_SLICE": 2, "SUB": 2, "SUM": 2, "TANH": 2, "TRANSPOSE": 2,
    },
    "INT16": {
        "ADD": 3, "BATCH_MATMUL": 3, "CONCATENATION": 3, "DEQUANTIZE": 3, "EXP": 2, "LOGISTIC": 3, "MAXIMUM": 4, "MEAN": 3, "MINIMUM": 4,
        "MUL": 4, "PAD": 3, "RELU": 3, "RSQRT": 3, "SLICE": 4, "SOFTMAX": 3, "SUB": 5, "TANH": 3, "TRANSPOSE": 5,
    },
}  # fmt: skip


# First TensorFlow whose interpreter computes an operation rightly on integers, by the type of its first input, where that is later than the
# one that knows its version: older ones load the file and fail at an inference, or answer something else.
# Source: results/operator_runtimes.csv, by running them, like those below.
_COMPUTES_SINCE = {
    ("FULLY_CONNECTED", "INT16"): "2.19.0",
    ("GELU", "INT16"): "2.20.0",
    ("SUM", "INT8"): "2.14.0",
    ("SUM", "INT16"): "2.20.0",
}
# TensorFlow -> the first LiteRT that runs what it runs, from the same table
_LITERT = (((2, 20), "1.3.0"), ((2, 19), "1.1.2"), ((0,), "1.0.1"))
# What no TensorFlow's interpreter does, up to 2.21: 8-bit integers made 16-bit ones. The first LiteRT that was seen to
_WIDENS_SINCE = "2.1.6"


def min_runtime_version(model: schema.ModelT) -> str | None:
    """The oldest TensorFlow Lite that runs the file, in TensorFlow's numbers; None if no release is known to."""
    return None if any(code.customCode for code in model.operatorCodes) else builtin_runtime_version(model)


def builtin_runtime_version(model: schema.ModelT) -> str | None:
    """The same of the builtin operations alone: no release brings the custom ones."""
    if _widens(model):
        return None
    newest = max((_numbers(_COMPUTES_SINCE.get(key, "0")) for key in _operations_by_type(model)), default=(0,))
    newest = max(newest, (1, 5))  # the first release
    for code in model.operatorCodes:
        if code.customCode:
            continue
        name = OPERATOR_NAMES[builtin_operation(code)]
        versions = max(_MIN_RUNTIME.get(name, ()), MIN_RUNTIME.get(name, ()), key=len)
        if not 1 <= code.version <= len(versions) or versions[code.version - 1] == "-":
            return None
        newest = max(newest, _numbers(versions[code.version - 1]))
    return ".".join(str(part) for part in (*newest, 0)[:3])


def min_litert_version(model: schema.ModelT) -> str | None:
    """The oldest LiteRT (the runtime's name and numbers since 2024) that runs a file's builtin operations; None if none is known to."""
    if _widens(model):
        return _WIDENS_SINCE
    needed = builtin_runtime_version(model)
    return None if needed is None else next(version for since, version in _LITERT if _numbers(needed) >= since)


def _widens(model: schema.ModelT) -> bool:
    found = operators(model) if model.subgraphs else ()
    return any(
        name == "QUANTIZE" and [tensor_type(model, int(index)) for index in (operator.inputs[0], operator.outputs[0])] == ["INT8", "INT16"]
        for name, operator in found
    )


def _operations_by_type(model: schema.ModelT) -> set[tuple[str, str]]:
    """(name, type of the first input) of the operations of the main graph."""
    found = operators(model) if model.subgraphs else ()
    return {
        (name, tensor_type(model, int(operator.inputs[0]))) for name, operator in found if len(operator.inputs) and operator.inputs[0] >= 0
    }


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def set_operator_versions(model: schema.ModelT) -> None:
    """Raises the version of every operation to what its types need, so that an older runtime refuses the file.

    ai-edge-quantizer keeps the versions of the float graph. An older runtime then reads scales per channel as zero: for a float
    FULLY_CONNECTED with int8 weights of version 5, tflite-runtime 2.14 silently gives the bias alone.
    """
    for name, operator in operators(model):
        code = model.operatorCodes[operator.opcodeIndex]
        code.version = max(code.version, _needed_version(model, name, operator))


def _needed_version(model: schema.ModelT, name: str, operator: schema.OperatorT) -> int:
    """The least version for the operation's types; the converter has set that of float operations."""
    types = [tensor_type(model, int(index)) for index in operator.inputs if index >= 0]
    if name == "QUANTIZE" and tensor_type(model, int(operator.outputs[0])) == "INT16":
        return 2
    if name == "FULLY_CONNECTED" and types[:2] == ["FLOAT32", "INT4"]:
        return 12  # it has none of its own: the one whose runtimes were seen to run it (docs/decisions/0036)
    if name in ("FULLY_CONNECTED", "CONV_2D") and types[:2] == ["FLOAT32", "INT8"]:
        quantization = model.subgraphs[0].tensors[int(operator.inputs[1])].quantization
        per_channel = quantization is not None and quantization.scale is not None and len(quantization.scale) > 1
        return {"FULLY_CONNECTED": (3, 12), "CONV_2D": (2, 5)}[name][per_channel]
    if name in ("FULLY_CONNECTED", "CONV_2D") and types[:2] == ["INT16", "INT8"] and operator.builtinOptions.quantizedBiasType:
        return {"FULLY_CONNECTED": 11, "CONV_2D": 8}[name]
    return _INTEGER_VERSIONS.get(types[0], {}).get(name, 1) if types else 1


def set_min_runtime_version(model: schema.ModelT) -> None:
    """Updates the file's own `min_runtime_version` metadata."""
    version = min_runtime_version(model)
    for entry in model.metadata or []:
        if text_of(entry.name) == "min_runtime_version":
            model.buffers[entry.buffer].data = np.frombuffer((version or "").encode().ljust(16, b"\0"), np.uint8)
