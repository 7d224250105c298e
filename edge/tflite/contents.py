"""What takes the bytes of a `.tflite`: constants by what they are for, and everything around them, adding up to the file."""

from __future__ import annotations

import contextlib
from collections import Counter

from ai_edge_litert import schema_py_generated as schema

from edge.tflite import attachments, flatbuffer
from tfvit.graph_constants import MASK, POSITION_BIAS, POSITION_TABLE

_DENSE = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D")
_POSITIONS = (POSITION_BIAS, POSITION_TABLE, MASK)


def contents(data: bytes) -> dict[str, int]:
    """What is in a file -> bytes, the largest first. They add up to the file's.

    The graph's records are measured by leaving them out: its size with them less that without. What is left of a file that another writer
    made, its alignment and repeated entries, is called "layout".

    Args:
        data: the bytes of a `.tflite`.

    Raises:
        InputError: the file is damaged, or no TFLite file.
    """
    model = flatbuffer.read_model(data)
    found: Counter[str] = Counter()
    for index, purpose in _purposes(model).items():
        found[purpose] += len(model.buffers[index].data)
    with contextlib.suppress(ValueError):  # damaged there: part of the layout, then
        found["labels and other files behind the graph"] = len(data) - attachments.extract(data).flatbuffer_bytes
    for buffer in model.buffers:
        buffer.data = None
    graph = model.subgraphs[0]
    sizes = [len(flatbuffer.write_model(model))]
    for tensor in graph.tensors:
        tensor.quantization = None
    sizes.append(len(flatbuffer.write_model(model)))
    for tensor in graph.tensors:
        tensor.name = None
    sizes.append(len(flatbuffer.write_model(model)))
    graph.operators = []
    sizes.append(len(flatbuffer.write_model(model)))
    graph.tensors, model.buffers = [], []
    sizes.append(len(flatbuffer.write_model(model)))
    records = ("scales and zero points", "names of tensors", "operations", "tensors")
    found.update({name: before - after for name, before, after in zip(records, sizes, sizes[1:], strict=False)})
    found["signature, operation codes and header"] = sizes[-1]
    found["layout"] = len(data) - sum(found.values())
    return {name: size for name, size in found.most_common() if size}


def _purposes(model: schema.ModelT) -> dict[int, str]:
    """What each buffer with content is for."""
    graph = model.subgraphs[0]
    expanded = {}  # what a DEQUANTIZE writes, when the file is loaded -> the constant that it reads
    of_tensor: dict[int, str] = {}
    for name, operator in flatbuffer.operators(model):
        inputs = [int(index) for index in operator.inputs]
        if name == "DEQUANTIZE" and flatbuffer.constant(model, inputs[0]) is not None:
            expanded[int(operator.outputs[0])] = inputs[0]
        if name in _DENSE:
            for index, purpose in zip(inputs[1:3], ("weights", "biases of layers"), strict=False):
                stored = expanded.get(index, index)
                of_tensor[stored] = f"{purpose}, {flatbuffer.tensor_type(model, stored).lower()}" if purpose == "weights" else purpose
    purposes = {entry.buffer: "metadata" for entry in model.metadata or [] if model.buffers[entry.buffer].data is not None}
    for index, tensor in enumerate(graph.tensors):
        if tensor.buffer in purposes or flatbuffer.constant(model, index) is None:
            continue
        positions = flatbuffer.tensor_name(model, index).startswith(_POSITIONS)
        purposes[tensor.buffer] = of_tensor.get(index) or ("position biases and masks" if positions else "other constants")
    for index, buffer in enumerate(model.buffers):
        if buffer.data is not None and len(buffer.data) and index not in purposes:
            purposes[index] = "constants that the main graph does not read"
    return purposes
