"""Rules for what two delegates take, without running them: LiteRT's GPU delegate (ML Drift) and XNNPACK, of one release.

tests/edge/tflite/test_gpu_rules.py checks every GPU rule with a small graph on the real delegate, over a software Vulkan driver. `REFUSED`
was tried and refused; what nobody tried is `UNKNOWN`. A file that the rules call whole should compile whole; only a GPU can prove it
(`python -m edge.benchmark FILE --delegate gpu`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.tflite import delegate_operations, flatbuffer

GPU_RULES = "litert-gpu 2.3.0"

# Which input of an operation says how large its output is
_SIZES = {"RESHAPE": 1, "TOPK_V2": 1, "BROADCAST_TO": 1, "TILE": 1, "RESIZE_BILINEAR": 1, "RESIZE_NEAREST_NEIGHBOR": 1}
_SIZE_REASON = "the size of its output is computed; make it a constant"
_BLOCKWISE = 2  # QuantizationDetails.BlockwiseQuantization
# XNNPACK's delegate, CheckAddOpQuantization: scale of an input over that of the output
_LEAST_SCALE_RATIO, _MOST_SCALE_RATIO = 2.0**-10, 2.0**8
REFUSED, WRONG, CAUTION, UNKNOWN = "refused", "wrong", "caution", "unknown"
_MAX_RANK = 4
_INTEGER_QUANTIZED = ("INT4", "INT8", "UINT8")
# Errors of a rule on a malformed operation: too few inputs or dimensions, options of another operation, integers without a scale
_MALFORMED = (IndexError, AttributeError, TypeError, ValueError, ZeroDivisionError)
_MALFORMED_REASON = "not as this operation is defined: another number of inputs, another shape, or another operation's options"
_REFUSED_TYPES, _UNTRIED_TYPES = ("INT16", "INT64"), ("FLOAT64", "STRING", "COMPLEX64", "RESOURCE", "VARIANT", "UINT16", "UINT32", "UINT64")


@dataclasses.dataclass(frozen=True)
class Refusal:
    """One reason not to give an operation to a delegate.

    Attributes:
        op: the operation's name.
        tensor: the name of its output.
        layer: the Keras layer that made it.
        reason: a sentence, with a remedy.
        outcome: `REFUSED` (not compiled), `WRONG` (compiled, computes something else), `CAUTION` (right on the delegate of `GPU_RULES`,
            wrong on other GPU back ends) or `UNKNOWN` (never tried).
    """

    op: str
    tensor: str
    layer: str
    reason: str
    outcome: str = REFUSED


def gpu_refusals(model: schema.ModelT) -> list[Refusal]:
    """Every operation that the GPU delegate would refuse or compute wrongly."""
    return [found for found in gpu_findings(model) if found.outcome != CAUTION]


def gpu_verdict(refusals: Sequence[Refusal]) -> str:
    """ "whole", `REFUSED`, `WRONG` for a file that would compile and compute something else, or `UNKNOWN` where that is not known."""
    outcomes = {refusal.outcome for refusal in refusals}
    return next((outcome for outcome in (REFUSED, WRONG, UNKNOWN) if outcome in outcomes), "whole")


def gpu_summary(model: schema.ModelT) -> dict[str, Any]:
    """The verdict, its basis and every refusal, as in manifests and `edge.inspect`."""
    refused = gpu_refusals(model)
    return {
        "verdict": gpu_verdict(refused),
        "basis": f"rules for {GPU_RULES}, not run on a GPU",
        "refused": [dataclasses.asdict(refusal) for refusal in refused],
    }


def gpu_findings(model: schema.ModelT) -> list[Refusal]:
    """Refusals and cautions of every graph, in the order of execution."""
    if not len(model.subgraphs[0].operators or ()):
        output = flatbuffer.tensor_name(model, int(model.subgraphs[0].outputs[0]))
        reason = "a file without an operation, whose output the delegate leaves empty"
        return [Refusal("NONE", output, flatbuffer.keras_layer(output), reason, WRONG)]
    return [found for number in range(len(model.subgraphs)) for found in _gpu_findings(flatbuffer.graph(model, number))]


def _gpu_findings(model: schema.ModelT) -> list[Refusal]:
    findings = []
    for index in flatbuffer.variables(model):
        name = flatbuffer.tensor_name(model, index)
        reason = "a tensor that keeps its value from run to run, which LiteRT's compiled models cannot load; make it an input and an output"
        findings.append(Refusal("VARIABLE", name, flatbuffer.keras_layer(name), reason))
    readers = _readers(model)
    for name, operator in flatbuffer.operators(model):
        try:
            outcome, reason = _gpu_reason(model, name, operator, readers)
        except _MALFORMED:
            outcome, reason = REFUSED, _MALFORMED_REASON
        if reason:
            output = _output_name(model, operator)
            findings.append(Refusal(name, output, flatbuffer.keras_layer(output), reason, outcome))
    return findings


def _output_name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """The name of what an operation makes; of what it reads where it makes nothing, such as the assignment of a variable."""
    indices = [int(index) for index in (*operator.outputs, *operator.inputs) if index >= 0]
    return flatbuffer.tensor_name(model, indices[0]) if indices else ""


def _gpu_reason(model: schema.ModelT, name: str, operator: schema.OperatorT, readers: dict[int, list]) -> tuple[str, str | None]:
    tensors = [int(index) for index in (*operator.inputs, *operator.outputs) if index >= 0]
    computed = [index for index in tensors if flatbuffer.constant(model, index) is None]
    shapes = {index: flatbuffer.tensor_shape(model, index) for index in tensors}
    options = operator.builtinOptions
    too_deep = next((shape for shape in shapes.values() if len(shape) > _MAX_RANK), None)
    if too_deep is not None:
        return REFUSED, f"tensor of rank {len(too_deep)} {list(too_deep)}; reshape so that no tensor has more than {_MAX_RANK} dimensions"
    if name in delegate_operations.GPU_WRONG:
        return WRONG, "computed wrongly; express it with supported operations"
    if name in delegate_operations.GPU_REFUSED:
        return REFUSED, "operation not supported; express it with supported operations"
    if name not in delegate_operations.GPU:
        return UNKNOWN, "operation never tried; --gpu tries it"
    types = {flatbuffer.tensor_type(model, index) for index in computed}
    for outcome, kinds in ((REFUSED, _REFUSED_TYPES), (UNKNOWN, _UNTRIED_TYPES)):
        if types & {*kinds}:
            return outcome, f"{sorted(types & {*kinds})[0]} tensor; use float32, int8 or int32"
    if name in _SIZES and len(operator.inputs) > _SIZES[name] and int(operator.inputs[_SIZES[name]]) in computed:
        return REFUSED, _SIZE_REASON
    if any(_is_blockwise(model, index) for index in tensors):
        return UNKNOWN, "weights with a scale for each block, on some of which the delegate dies; --gpu tries it"
    if name == "CONV_2D" and shapes[int(operator.inputs[0])][-1] != shapes[int(operator.inputs[1])][-1]:
        return REFUSED, "convolution in groups; split the channels, or use a depthwise convolution"
    if name == "MIRROR_PAD" and options is not None and options.mode != schema.MirrorPadMode.REFLECT:
        return REFUSED, "padding that repeats the edge; only REFLECT is supported"
    if name == "BATCH_MATMUL":
        left, right = (shapes[int(index)] for index in operator.inputs[:2])
        if left[:-2] != right[:-2]:
            return WRONG, f"broadcast batch {list(left[:-2])} x {list(right[:-2])} is computed wrongly; give both operands the same batch"
        if options is not None and (options.adjX or options.adjY):
            return CAUTION, "transposed operand: other GPU back ends have ignored it; transpose it before"
    if name == "STRIDED_SLICE" and options is not None and options.shrinkAxisMask:
        return REFUSED, "slice that drops a dimension; slice and reshape"
    if name == "GATHER" and all(flatbuffer.constant(model, int(index)) is not None for index in operator.inputs):
        return REFUSED, "gather from a constant with constant indices; compute one of the two"
    if name == "GATHER" and len(shapes[int(operator.inputs[1])]) != 1:
        return REFUSED, f"indices of rank {len(shapes[int(operator.inputs[1])])}; gather with a vector of indices, or slice and reshape"
    if name == "ADD_N" and len(operator.inputs) > 2:
        return REFUSED, f"sum of {len(operator.inputs)} tensors at once; add two at a time"
    if name == "FULLY_CONNECTED" and flatbuffer.tensor_type(model, int(operator.inputs[1])) == "UINT8":
        return REFUSED, "dense layer with uint8 weights; convert again to int8"
    if name == "FULLY_CONNECTED":
        return REFUSED, _flattening(model, operator, readers)
    return REFUSED, None


def _is_blockwise(model: schema.ModelT, index: int) -> bool:
    parameters = model.subgraphs[0].tensors[index].quantization
    return parameters is not None and parameters.detailsType == _BLOCKWISE


def _flattening(model: schema.ModelT, operator: schema.OperatorT, readers: dict[int, list]) -> str | None:
    """The reason to refuse a quantized dense layer that flattens a grid to rank 2; None if only reshapes read its output."""
    weights, output = int(operator.inputs[1]), int(operator.outputs[0])
    before, after = flatbuffer.tensor_shape(model, int(operator.inputs[0])), flatbuffer.tensor_shape(model, output)
    if flatbuffer.tensor_type(model, weights) not in _INTEGER_QUANTIZED or after[0] in (1, before[0]):
        return None
    reading = readers.get(output, [])
    while any(name == "DEQUANTIZE" for name, _ in reading):
        reading = [
            later
            for name, reader in reading
            for later in (readers.get(int(reader.outputs[0]), []) if name == "DEQUANTIZE" else [(name, reader)])
        ]
    if reading and all(name == "RESHAPE" for name, _ in reading):
        return None
    return f"quantized dense layer that flattens {list(before)} to {list(after)}; keep the rank, with a leading dimension of 1"


# LiteRT's own kernels compute these when the file is loaded, if all inputs are constants
_COMPUTED_ONCE = {"CONCATENATION", "GATHER"}


def xnnpack_left_over(model: schema.ModelT) -> list[Refusal]:
    """Every operation of the main graph that XNNPACK leaves to the runtime's own kernels, in the order of execution; `UNKNOWN` are those
    that it was never given."""
    found, known = [], set()
    for name, operator in flatbuffer.operators(model):
        inputs = {int(index) for index in operator.inputs}
        outcome = REFUSED
        try:
            outcome, reason = _xnnpack_reason(model, name, operator)
            if (
                reason
                and name in _COMPUTED_ONCE
                and all(index in known or flatbuffer.constant(model, index) is not None for index in inputs)
            ):
                known |= {int(index) for index in operator.outputs}
                reason = "of constants: the runtime computes it once, when it loads the file"
        except _MALFORMED:
            reason = _MALFORMED_REASON
        if reason:
            output = _output_name(model, operator)
            found.append(Refusal(name, output, flatbuffer.keras_layer(output), reason, outcome))
    return found


def partitions(model: schema.ModelT, left_over: Sequence[Refusal]) -> int:
    """How many pieces of the graph a delegate gets, cut as the runtime does it (LiteRT, graph_partition.cc).

    Args:
        model: the file.
        left_over: the operations that the delegate does not take.
    """
    left = {refusal.tensor for refusal in left_over}
    waiting = [
        (
            _output_name(model, operator) not in left,
            set(map(int, operator.inputs)),
            set(map(int, operator.outputs)),
        )
        for _, operator in flatbuffer.operators(model)
    ]
    unmade = {index for _, _, outputs in waiting for index in outputs}
    pieces = 0
    while waiting:
        # a piece begins with the first operation that can run, and grows by every operation of its kind that can then run
        kind = next(taken for taken, inputs, _ in waiting if not inputs & unmade)
        pieces += kind
        grew = True
        while grew:
            grew, later = False, []
            for taken, inputs, outputs in waiting:
                if taken == kind and not inputs & unmade:
                    unmade -= outputs
                    grew = True
                else:
                    later.append((taken, inputs, outputs))
            waiting = later
    return pieces


def _xnnpack_reason(model: schema.ModelT, name: str, operator: schema.OperatorT) -> tuple[str, str | None]:
    if name not in delegate_operations.XNNPACK | delegate_operations.XNNPACK_LEFT:
        return UNKNOWN, "operation never tried"
    # what comes before the data is an axis, or the shape of the output
    data = list(operator.inputs)[{"SPLIT": 1, "TRANSPOSE_CONV": 2}.get(name, 0) :][:1]
    types = {flatbuffer.tensor_type(model, int(index)) for index in (*data, *operator.outputs)}
    tried = delegate_operations.XNNPACK_INTEGER | delegate_operations.XNNPACK_LEFT_INTEGER | delegate_operations.XNNPACK_LEFT
    if types & {"INT8", "UINT8"} and name not in tried:
        return UNKNOWN, "operation never tried in 8 bits"
    return REFUSED, _xnnpack_refusal(model, name, operator, types)


def _xnnpack_refusal(model: schema.ModelT, name: str, operator: schema.OperatorT, types: set[str]) -> str | None:
    options = operator.builtinOptions
    unknown = types - {"FLOAT32", "FLOAT16", "INT8", "UINT8"}
    if unknown:
        return f"{sorted(unknown)[0]} tensor"
    if types & {"INT8", "UINT8"} and name not in delegate_operations.XNNPACK_INTEGER:
        return "no 8-bit kernel"
    if name not in delegate_operations.XNNPACK:
        return "no kernel"
    if name in _SIZES and len(operator.inputs) > _SIZES[name] and flatbuffer.constant(model, int(operator.inputs[_SIZES[name]])) is None:
        return _SIZE_REASON
    if name == "STRIDED_SLICE" and options is not None and options.shrinkAxisMask:
        return "slice that drops a dimension"
    if name == "STRIDED_SLICE" and any(step != 1 for step in _integers(model, int(operator.inputs[3]))):
        return "slice with a stride"
    if name in ("ADD", "SUB") and types & {"INT8", "UINT8"}:
        output = flatbuffer.quantization(model, int(operator.outputs[0]))
        for index in operator.inputs:
            read = flatbuffer.quantization(model, int(index))
            if read is None or output is None:
                return "integers without a scale"
            ratio = read["scale"] / output["scale"]
            if not _LEAST_SCALE_RATIO <= ratio < _MOST_SCALE_RATIO:
                return f"scales of input and output {ratio:.2g} apart"
    return None


def _integers(model: schema.ModelT, index: int) -> list[int]:
    data = flatbuffer.constant(model, index)
    return [] if data is None else np.frombuffer(data.tobytes(), np.int32).tolist()


def _readers(model: schema.ModelT) -> dict[int, list]:
    readers: dict[int, list] = {}
    for name, operator in flatbuffer.operators(model):
        for index in {int(value) for value in operator.inputs if value >= 0}:
            readers.setdefault(index, []).append((name, operator))
    return readers
