"""Reads and writes `.tflite` flatbuffers: operations, tensors, ranks, signatures, versions. Runs no model.

The schema is TFLite's (`schema.fbs`, version 3), with the object API that ai-edge-litert generates from it.
"""

from __future__ import annotations

import collections
import copy
import functools
import re
from collections.abc import Iterator
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfvit.errors import InputError

FILE_IDENTIFIER = b"TFL3"
# TFLite maps constant data straight from the file; kernels may load it as aligned vectors (schema.fbs: force_align 16)
BUFFER_ALIGNMENT = 16
# A flatbuffer's own offsets are 32-bit and signed in readers
MAX_FLATBUFFER_BYTES = 2**31 - 1
# schema.fbs, PLACEHOLDER_FOR_GREATER_OP_CODES: what the 8-bit field of an operation's code holds for every number beyond it
_LAST_DEPRECATED_CODE = schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES

OPERATOR_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_TYPE_NAMES = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}

_OUR_LAYERS = re.compile(
    r"^(stage\d+_(?:block\d+|merging)|block\d+|patch_embedding|attention|mlp|query|key|value|projection|fc1|fc2|reduction|norm[12]?|scale[12]"
    r"|pool|pre_logits|head)_\d+$"
)
# What the path of a layer of the backbones begins with, inside the model
_FIRST_PARTS = ("stage", "block", "patch_embedding", "norm", "head", "avg_pool", "pool", "pre_logits")


def read_model(data: bytes | bytearray | memoryview) -> schema.ModelT:
    """Parses a `.tflite` file. Constants are views into `data`.

    Raises:
        InputError: the data is damaged, or no TFLite flatbuffer.
    """
    if len(data) < 8 or bytes(data[4:8]) != FILE_IDENTIFIER:
        raise InputError(
            "not a TFLite file",
            expected="a flatbuffer with the identifier TFL3",
            received=f"{len(data)} bytes, identifier {bytes(data[4:8])!r}",
            action="pass a .tflite file",
        )
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        for buffer in model.buffers:
            if buffer.offset > 1:  # large constants lie behind the flatbuffer
                if buffer.offset + buffer.size > len(data):
                    raise ValueError(f"a constant ends at byte {buffer.offset + buffer.size}")
                buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
                buffer.offset = buffer.size = 0
        _require_consistent(model)
    except Exception as error:  # the generated parser raises whatever the broken offset leads to
        raise InputError(
            "damaged TFLite file",
            expected="a complete flatbuffer",
            received=f"{len(data)} bytes: {error}",
            action="convert or download the file again",
        ) from error
    return model


def _require_consistent(model: schema.ModelT) -> None:
    """Checks every reference in every graph, so that the functions below can rely on them, and fills in empty lists.

    Raises:
        ValueError: a reference leads nowhere.
    """
    graphs = model.subgraphs or []
    if not graphs or not graphs[0].tensors:
        raise ValueError("no graph, or one without tensors")
    model.operatorCodes = model.operatorCodes or []  # a graph that gives back its input
    for code in model.operatorCodes:
        _require(builtin_operation(code) in OPERATOR_NAMES, "an operation that no version of TFLite has")
    for number, graph in enumerate(graphs):
        graph.tensors, graph.operators = graph.tensors or [], graph.operators or []
        _require_consistent_graph(model, graph, is_main=number == 0)
    for signature in model.signatureDefs or []:
        signature.inputs, signature.outputs = signature.inputs or [], signature.outputs or []
        _require(signature.subgraphIndex < len(graphs), f"a signature of graph {signature.subgraphIndex} of {len(graphs)}")
        number = len(graphs[signature.subgraphIndex].tensors)
        for entry in (*signature.inputs, *signature.outputs):
            _require(entry.tensorIndex < number, f"tensor {entry.tensorIndex} of {number} in a signature")
    for entry in model.metadata or []:
        _require(entry.buffer < len(model.buffers), f"metadata in buffer {entry.buffer} of {len(model.buffers)}")


def _require_consistent_graph(model: schema.ModelT, graph: schema.SubGraphT, is_main: bool) -> None:
    for tensor in graph.tensors:
        _require(tensor.type in _TYPE_NAMES, f"a tensor of type {tensor.type}")
        _require(tensor.buffer < len(model.buffers), f"a tensor in buffer {tensor.buffer} of {len(model.buffers)}")
        _require(tensor.shape is None or all(side >= 0 for side in tensor.shape), "a tensor with a negative side")
    number = len(graph.tensors)
    for lists in (graph, *graph.operators):
        for name in ("inputs", "outputs"):
            setattr(lists, name, np.asarray([] if getattr(lists, name) is None else getattr(lists, name), np.int32))
        indices = [int(index) for index in (*lists.inputs, *lists.outputs)]
        # -1 is an input that is left out
        _require(all(-1 <= index < number for index in indices), f"tensor {max(indices, default=0, key=abs)} of {number}")
        _require(all(index >= 0 for index in lists.outputs), "an output that is no tensor")
    # what sets variables up, and what a loop runs, may give nothing
    _require(len(graph.outputs) > 0 or not is_main, "a graph without outputs")
    _require(all(index >= 0 for index in graph.inputs), "a graph with an input left out")
    not_yet = {int(index) for operator in graph.operators for index in operator.outputs}
    for operator in graph.operators:
        _require(operator.opcodeIndex < len(model.operatorCodes), f"operation code {operator.opcodeIndex} of {len(model.operatorCodes)}")
        _require(not not_yet & set(map(int, operator.inputs)), "an operation before one that it needs")
        _require(not_yet >= set(map(int, operator.outputs)), "a tensor that two operations make")
        not_yet -= set(map(int, operator.outputs))


def _require(holds: bool, received: str) -> None:
    if not holds:
        raise ValueError(received)


def write_model(model: schema.ModelT) -> bytes:
    """Serialises a model. All constants lie inside the flatbuffer and 16-byte aligned, and every operation's code stands in both of its
    fields, so that every reader understands them.

    Raises:
        InputError: the model is larger than a flatbuffer can be (2 GiB).
    """
    constant_bytes = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
    if constant_bytes > MAX_FLATBUFFER_BYTES - (64 << 20):
        raise InputError(
            "the file would be too large",
            expected="less than 2 GiB of constants in one .tflite file",
            received=f"{constant_bytes / 1e9:.2f} GB",
            action="use the float16 or an int8 recipe, or a smaller variant",
        )
    for code in model.operatorCodes:
        _state_twice(code)
    for buffer in model.buffers:
        buffer.Pack = functools.partial(_pack_buffer, buffer)
    try:
        builder = _SharingBuilder(constant_bytes + (8 << 20))
        builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    finally:
        for buffer in model.buffers:
            del buffer.Pack
    return bytes(builder.Output())


def builtin_operation(code: schema.OperatorCodeT) -> int:
    """The number of an operation. Files from before 2020 have it in the deprecated field alone, files of ai-edge-quantizer in the other."""
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _state_twice(code: schema.OperatorCodeT) -> None:
    """Schema: up to 127 both fields hold the number, beyond it the deprecated one holds 127. LiteRT reads the larger one; other readers
    take the deprecated one, and a 0 there for an addition.
    """
    code.builtinCode = builtin_operation(code)
    code.deprecatedBuiltinCode = min(code.builtinCode, _LAST_DEPRECATED_CODE)


class _SharingBuilder(flatbuffers.Builder):
    """Writes equal vectors once: the zero points of every channel of every layer are all zeros."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        key = (x.dtype.str, x.tobytes())
        if key not in self._written:
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]


def _pack_buffer(buffer: schema.BufferT, builder: flatbuffers.Builder) -> int:
    vector = None
    if buffer.data is not None:
        raw = np.ascontiguousarray(np.asarray(buffer.data, dtype=np.uint8))
        builder.StartVector(1, raw.size, BUFFER_ALIGNMENT)
        head = builder.head = builder.Head() - raw.size
        builder.Bytes[head : head + raw.size] = raw.tobytes()
        vector = builder.EndVector()
    schema.BufferStart(builder)
    if vector is not None:
        schema.BufferAddData(builder, vector)
    return schema.BufferEnd(builder)


def operator_name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """For example "FULLY_CONNECTED"; the name of a custom operation."""
    code = model.operatorCodes[operator.opcodeIndex]
    if code.customCode:
        return text_of(code.customCode)
    return OPERATOR_NAMES[builtin_operation(code)]


def operators(model: schema.ModelT) -> Iterator[tuple[str, schema.OperatorT]]:
    """(name, operator) of the main graph in the order of execution."""
    for operator in model.subgraphs[0].operators:
        yield operator_name(model, operator), operator


def operator_counts(model: schema.ModelT) -> dict[str, int]:
    """Operation name -> how often it occurs."""
    return dict(sorted(collections.Counter(name for name, _ in operators(model)).items()))


def tensor_name(model: schema.ModelT, index: int) -> str:
    return text_of(model.subgraphs[0].tensors[index].name)


def tensor_type(model: schema.ModelT, index: int) -> str:
    """The element type, for example "FLOAT32"."""
    return _TYPE_NAMES[model.subgraphs[0].tensors[index].type]


def quantization(model: schema.ModelT, index: int) -> dict[str, float | int] | None:
    """{scale, zero_point} of a tensor with one scale: real value = scale * (integer - zero_point). None for other tensors."""
    parameters = model.subgraphs[0].tensors[index].quantization
    if parameters is None or parameters.scale is None or len(parameters.scale) != 1:
        return None
    zero_point = 0 if parameters.zeroPoint is None or not len(parameters.zeroPoint) else int(parameters.zeroPoint[0])
    return {"scale": float(parameters.scale[0]), "zero_point": zero_point}


def tensor_shape(model: schema.ModelT, index: int) -> tuple[int, ...]:
    shape = model.subgraphs[0].tensors[index].shape
    return tuple(int(side) for side in shape) if shape is not None else ()


def dynamic_shape(model: schema.ModelT, index: int) -> tuple[int, ...]:
    """The shape with -1 for every side that is only known when the file is run."""
    signature, shape = model.subgraphs[0].tensors[index].shapeSignature, tensor_shape(model, index)
    return tuple(int(side) for side in signature) if signature is not None and len(signature) == len(shape) else shape


def variables(model: schema.ModelT) -> list[int]:
    """Tensors that keep their values from one run to the next."""
    return [index for index, tensor in enumerate(model.subgraphs[0].tensors) if tensor.isVariable]


def graph(model: schema.ModelT, number: int) -> schema.ModelT:
    """The model with one of its graphs as the only one: every function here then speaks of that graph."""
    view = copy.copy(model)
    view.subgraphs = [model.subgraphs[number]]
    view.signatureDefs = [signature for signature in model.signatureDefs or [] if signature.subgraphIndex == number]
    return view


def signatures(model: schema.ModelT) -> dict[str, int]:
    """Name -> graph of every signature, in the file's order."""
    return {text_of(signature.signatureKey): int(signature.subgraphIndex) for signature in model.signatureDefs or []}


def signature_inputs(model: schema.ModelT) -> dict[str, int]:
    """Name -> tensor index of the main graph's inputs. The names are its signature's, or the tensors' where it has none."""
    return _signature(model, "inputs")


def signature_outputs(model: schema.ModelT) -> dict[str, int]:
    """Name -> tensor index of the outputs, like `signature_inputs`."""
    return _signature(model, "outputs")


def _signature(model: schema.ModelT, kind: str) -> dict[str, int]:
    for signature in model.signatureDefs or []:
        if signature.subgraphIndex == 0 or len(model.subgraphs) == 1:
            return {text_of(entry.name): int(entry.tensorIndex) for entry in getattr(signature, kind)}
    return {tensor_name(model, int(index)): int(index) for index in getattr(model.subgraphs[0], kind)}


def constant(model: schema.ModelT, index: int) -> np.ndarray | None:
    """The raw bytes of a constant tensor; None if the tensor is computed."""
    data = model.buffers[model.subgraphs[0].tensors[index].buffer].data
    return None if data is None or len(data) == 0 else data


def float_constant(model: schema.ModelT, index: int) -> np.ndarray:
    """The values of a constant float32 tensor, flat.

    Raises:
        ValueError: the tensor is computed.
    """
    data = constant(model, index)
    if data is None:
        raise ValueError(f"a constant expected. Received: {tensor_name(model, index)!r}, which is computed")
    return np.frombuffer(data.tobytes(), np.float32)


def max_rank(model: schema.ModelT) -> int:
    """The largest number of dimensions of any tensor."""
    return max(len(tensor_shape(model, index)) for index in range(len(model.subgraphs[0].tensors)))


def keras_layer(name: str) -> str:
    """The Keras layer in a tensor's name: "tiny224/stage1_block1/mlp/fc1/…" -> "stage1_block1/mlp/fc1"."""
    parts = scope(name.split(";")[0])
    known = [index for index, part in enumerate(parts) if part.startswith(_FIRST_PARTS)]
    if not known:
        return "/".join(parts[:-1]) or name
    inside = parts[known[0] :]
    return "/".join(inside[:-1] if len(inside) > 1 else inside)


def scope(name: str) -> list[str]:
    """The parts of one tensor name, without the numbers that tracing adds to our layers' names."""
    return [_OUR_LAYERS.sub(r"\1", part) for part in name.split("/") if part]


def with_outputs(data: bytes, tensors: list[int]) -> bytes:
    """The same graph with other outputs (tensor indices) and without signature, to look inside it with any delegate."""
    model = read_model(data)
    model.subgraphs[0].outputs = np.asarray(tensors, np.int32)
    model.signatureDefs = None
    return write_model(model)


def before_activation(data: bytes, index: int = 0) -> bytes | None:
    """The same graph giving what the softmax or sigmoid of its output of this index reads; None where neither makes that."""
    model = read_model(data)
    output = model.subgraphs[0].outputs[index]
    made_by = next(((name, operator) for name, operator in operators(model) if output in operator.outputs), None)
    return with_outputs(data, [int(made_by[1].inputs[0])]) if made_by and made_by[0] in ("SOFTMAX", "LOGISTIC") else None


def text_of(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name or "")


def add_float_tensor(model: schema.ModelT, name: str, shape: tuple[int, ...]) -> int:
    """The index of a new float32 tensor, without a value, in the main graph."""
    tensor, tensors = schema.TensorT(), model.subgraphs[0].tensors
    tensor.name, tensor.shape = name.encode(), np.array(shape, np.int32)
    tensor.type, tensor.buffer = schema.TensorType.FLOAT32, 0
    tensors.append(tensor)
    return len(tensors) - 1


def make_constant(model: schema.ModelT, index: int, values: np.ndarray) -> None:
    """Makes a tensor a constant with a buffer of its own. Other tensors that share its old buffer keep theirs."""
    buffer = schema.BufferT()
    buffer.data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    model.buffers.append(buffer)
    model.subgraphs[0].tensors[index].buffer = len(model.buffers) - 1


def drop_unused_buffers(model: schema.ModelT) -> None:
    """Empties the buffers that no tensor reads any more."""
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or []}
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None


def operator_code(model: schema.ModelT, builtin: int, version: int) -> int:
    """The index of an operation in the model, added if missing, with its version raised to `version` if lower."""
    for index, code in enumerate(model.operatorCodes):
        if builtin_operation(code) == builtin:
            code.version = max(code.version, version)
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = builtin, version
    _state_twice(code)
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
