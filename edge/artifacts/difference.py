"""The differences between two files or documents that should be equal, in words. Runs nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edge.artifacts import self_description
from edge.tflite import flatbuffer

# Layers or fields named in one sentence
_MOST_SHOWN = 5
_MOST_CHARACTERS = 80


@dataclasses.dataclass(frozen=True)
class Difference:
    """One thing that differs.

    Attributes:
        part: "graph" (operations and tensors), "weights" (constants, or where they came from), "quantization" (scales), "metadata",
            "provenance", "labels", "layout" (the same things, stored otherwise), "tools" (versions) or "manifest".
        detail: a sentence, with the recorded side first.
    """

    part: str
    detail: str


def of_files(recorded: bytes, rebuilt: bytes) -> list[Difference]:
    """The differences between two `.tflite` files; none if they are equal to the last byte.

    Raises:
        InputError: a file is damaged, or no TFLite file.
    """
    if recorded == rebuilt:
        return []
    theirs, ours = self_description.read(recorded), self_description.read(rebuilt)
    found = []
    same_graph = theirs.graph is not None and theirs.graph == ours.graph
    if not same_graph:
        found += _of_graphs(flatbuffer.read_model(recorded), flatbuffer.read_model(rebuilt))
    found += [Difference("metadata", problem) for problem in theirs.problems]
    found += of_documents(theirs.metadata, ours.metadata, "metadata")
    hash_of_graph = () if same_graph else ("graph.sha256", "graph.size_bytes")
    found += of_documents(theirs.provenance, ours.provenance, "provenance", hash_of_graph)
    if theirs.files != ours.files:
        found.append(Difference("labels", f"{_lines(theirs.files)} in the file, {_lines(ours.files)} rebuilt"))
    if not found:
        found.append(Difference("layout", f"the same things, stored otherwise: {len(recorded)} bytes, rebuilt {len(rebuilt)}"))
    return found


def of_documents(recorded: Any, rebuilt: Any, part: str, without: Sequence[str] = ()) -> list[Difference]:
    """The differences between two JSON documents, field by field.

    Args:
        part: of every difference, except for fields below "tools" and "weights", which are parts themselves.
        without: paths of fields that may differ.
    """
    changed = [one for one in _fields(recorded, rebuilt, "") if one[0] not in without]
    found = []
    for path, before, after in changed[:_MOST_SHOWN]:
        own = path.split(".")[0] if path.startswith(("tools.", "weights.")) else part
        found.append(Difference(own, f"{path or part}: recorded {_shown(before)}, rebuilt {_shown(after)}"))
    if len(changed) > _MOST_SHOWN:
        found.append(Difference(part, f"and {len(changed) - _MOST_SHOWN} more fields"))
    return found


def _fields(recorded: Any, rebuilt: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(recorded, Mapping) and isinstance(rebuilt, Mapping):
        for key in dict.fromkeys((*recorded, *rebuilt)):
            yield from _fields(recorded.get(key), rebuilt.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(recorded, list) and isinstance(rebuilt, list) and len(recorded) == len(rebuilt):
        for index, (before, after) in enumerate(zip(recorded, rebuilt, strict=True)):
            yield from _fields(before, after, f"{path}[{index}]")
    elif recorded != rebuilt:
        yield path, recorded, rebuilt


def _of_graphs(recorded: Any, rebuilt: Any) -> list[Difference]:
    counts = [(len(model.subgraphs), len(model.subgraphs[0].operators), len(model.subgraphs[0].tensors)) for model in (recorded, rebuilt)]
    if counts[0] != counts[1]:
        theirs, ours = flatbuffer.operator_counts(recorded), flatbuffer.operator_counts(rebuilt)
        names = [name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
        said = [f"{name} {theirs.get(name, 0)}, rebuilt {ours.get(name, 0)}" for name in names]
        return [Difference("graph", f"other operations or tensors: {_listed(said) or f'{counts[0]}, rebuilt {counts[1]}'}")]
    graph, weights, scales, changed_bytes = [], [], [], 0
    for index in range(counts[0][2]):
        form = [_form(model, index) for model in (recorded, rebuilt)]
        before, after = (flatbuffer.constant(model, index) for model in (recorded, rebuilt))
        layer = flatbuffer.keras_layer(flatbuffer.tensor_name(recorded, index))
        if form[0] != form[1] or (before is None) != (after is None):
            graph.append(layer)
        elif before is not None and after is not None and not np.array_equal(before, after):
            weights.append(layer)
            changed_bytes += int((before != after).sum()) if len(before) == len(after) else len(before)
        if _scales(recorded, index) != _scales(rebuilt, index):
            scales.append(layer)
    pairs = zip(flatbuffer.operators(recorded), flatbuffer.operators(rebuilt), strict=True)
    graph += [name for (name, one), (other, two) in pairs if (name, *_operation(one)) != (other, *_operation(two))]
    if _interface(recorded) != _interface(rebuilt):
        graph.append("inputs, outputs or versions of operations")
    found = [Difference("graph", f"{len(graph)} tensors or operations are others: {_listed(graph)}")] if graph else []
    if weights:
        found.append(Difference("weights", f"{len(weights)} constants differ, in {changed_bytes} bytes: {_listed(weights)}"))
    if scales:
        found.append(Difference("quantization", f"{len(scales)} tensors have another scale: {_listed(scales)}"))
    return found


def _form(model: Any, index: int) -> tuple:
    return flatbuffer.tensor_name(model, index), flatbuffer.tensor_shape(model, index), flatbuffer.tensor_type(model, index)


def _scales(model: Any, index: int) -> list[list[float]] | None:
    steps = model.subgraphs[0].tensors[index].quantization
    if steps is None:
        return None
    return [np.asarray(values).tolist() if values is not None else [] for values in (steps.scale, steps.zeroPoint)]


def _operation(operator: Any) -> tuple:
    options = operator.builtinOptions
    return list(operator.inputs), list(operator.outputs), None if options is None else str(sorted(vars(options).items()))


def _interface(model: Any) -> tuple:
    versions = [(code.builtinCode, code.version) for code in model.operatorCodes]
    return flatbuffer.signature_inputs(model), flatbuffer.signature_outputs(model), versions


def _listed(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:_MOST_SHOWN]) + (f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else "")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"


def _lines(files: Mapping[str, bytes]) -> str:
    return ", ".join(f"{name} of {len(content)} bytes" for name, content in files.items()) or "no files"
