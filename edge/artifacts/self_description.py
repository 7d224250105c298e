"""What a file of ours says about itself: metadata for apps, labels, and its provenance, so that it can be made again.

The metadata is TensorFlow Lite's (`edge.tflite.metadata`). The provenance is JSON in a second buffer, `EDGE_PROVENANCE`, with the hash of
its graph. The provenance says what the file was made from; how good the file is stands in the manifest alone.
"""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from edge.artifacts.artifact import canonical_json, meaning, outputs, preprocessing_of
from edge.drift.meanings import ACTIVATIONS, CLASS_MAP, CLASSES, FEATURES, LABELS, MEANINGS, SCORED, VALUES
from edge.quantization.recipes import RECIPES
from edge.tflite import attachments
from edge.tflite import metadata as metadata_schema
from tfvit.hashing import sha256

METADATA_BUFFER, PROVENANCE_BUFFER = "TFLITE_METADATA", "EDGE_PROVENANCE"
LABELS_FILE = "labels.txt"
PROVENANCE_VERSION = 1
# Everything used below is in the schema's first version
_MIN_PARSER_VERSION = "1.0.0"
# Fields of the manifest that the provenance repeats; the others describe or measure the finished file
FIELDS = ("name", "variant", "recipe", "weights", "classes", "input", "preprocessing", "output", "calibration", "repair", "tools")


@dataclasses.dataclass(frozen=True)
class SelfDescription:
    """What a file says about itself, ours or anyone's.

    Attributes:
        metadata: TensorFlow Lite's, as `metadata_schema.unpack` gives it, or None.
        provenance: ours, or None.
        files: name -> content of the files behind the graph.
        graph: the graph as it was before the description was added; None if the file is not ours, or was changed.
        problems: a sentence for each part that cannot be read.
    """

    metadata: dict[str, Any] | None = None
    provenance: dict[str, Any] | None = None
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    graph: memoryview | None = None
    problems: tuple[str, ...] = ()

    @property
    def ultralytics(self) -> dict[str, Any] | None:
        """What Ultralytics' export says: task, image size, names of the classes; None where there is nothing of it, or nothing readable."""
        for name in ("metadata.json", "temp_meta.txt"):
            if name in self.files:
                try:
                    text = self.files[name].decode()
                    said = json.loads(text) if text.lstrip().startswith('{"') else ast.literal_eval(text)
                    return {str(key): value for key, value in said.items()}
                except (ValueError, SyntaxError, AttributeError, RecursionError, MemoryError):
                    return None
        return None

    @property
    def graph_matches(self) -> bool | None:
        """Whether the provenance was made for this graph; None without provenance."""
        if self.provenance is None:
            return None
        return self.graph is not None and sha256(self.graph) == self.provenance["graph"]["sha256"]

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The class names that the metadata names for an output, or None."""
        if self.metadata is None and isinstance((said := self.ultralytics or {}).get("names"), dict):
            return tuple(str(name) for _, name in sorted(said["names"].items(), key=lambda item: int(item[0])))
        tensors = [
            tensor for part in (self.metadata or {}).get("subgraph_metadata", []) for tensor in part.get("output_tensor_metadata", [])
        ]
        for named in (file for tensor in tensors for file in tensor.get("associated_files", [])):
            if named.get("type") == "TENSOR_AXIS_LABELS" and named.get("name") in self.files:
                return tuple(self.files[named["name"]].decode("utf-8", "replace").splitlines())
        return None


def label_bytes(labels: Sequence[str]) -> bytes:
    """The text file with one label a line."""
    return ("\n".join(labels) + "\n").encode()


def describe(graph: bytes, document: Mapping[str, Any], labels: Sequence[str] | None) -> bytes:
    """The file that ships: a graph with metadata, provenance and labels. Equal arguments give equal bytes.

    Args:
        graph: from `quantize.quantize`.
        document: a manifest, of which these are used: `FIELDS`, `settings` and, for recipes that repair, `drift.limits`.
        labels: one per class, or None.
    """
    record = provenance(document) | {"graph": {"sha256": sha256(graph), "size_bytes": len(graph)}}
    buffers = {
        METADATA_BUFFER: metadata_schema.pack(model_metadata(document, labels is not None)),
        PROVENANCE_BUFFER: canonical_json(record).encode(),
    }
    return attachments.embed(graph, buffers, {LABELS_FILE: label_bytes(labels)} if labels is not None else {})


def provenance(document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a manifest on which the bytes of the file depend. The hash of the graph is added by `describe`.

    Left out is what the bytes do not depend on: the images of a recipe that is not calibrated, the limits of one that is not repaired.
    """
    recipe, settings = RECIPES[document["recipe"]], document["settings"]
    return {
        "schema_version": PROVENANCE_VERSION,
        **{field: document[field] for field in FIELDS},
        "settings": settings
        | {
            "images": settings["images"] if recipe.needs_calibration else None,
            "repair": settings["repair"] and recipe.repairs,
            "limits": document["drift"]["limits"] if recipe.repairs else None,
        },
    }


_KINDS = {
    CLASSES: "Image classifier", LABELS: "Image labeller", VALUES: "Image regressor", FEATURES: "Image encoder",
    CLASS_MAP: "Image segmenter",
}  # fmt: skip


def _outputs(document: Mapping[str, Any]) -> str:
    """How many of what."""
    found = [(one.get("meaning", CLASSES), one["shape"][1:]) for one in outputs(document)]
    return ", ".join(
        f"{shape[0]} {means}" if means in SCORED else f"{means.replace('_', ' ')} {' x '.join(map(str, shape))}" for means, shape in found
    )


def model_metadata(document: Mapping[str, Any], has_labels: bool) -> dict[str, Any]:
    """TensorFlow Lite's metadata from a manifest, for `metadata_schema.pack`."""
    weights, height, width = document["weights"], *document["input"]["shape"][1:3]
    source = "RANDOM weights: its answers mean nothing" if weights["random"] else f"Weights: {weights['source']}"
    text = (
        f"{_KINDS[meaning(document)]} {document['variant'] or document['name']}, {_outputs(document)}, {width} x {height} px. "
        f"{document['recipe']}: {RECIPES[document['recipe']].summary}. {source} (SHA-256 {weights['sha256']}). "
        f"Made by tfvit {document['tools']['tfvit']}; the metadata {PROVENANCE_BUFFER} says from what."
    )
    described = {"name": document["name"], "description": text}
    if weights["license"]:
        described["license"] = weights["license"]
    described_outputs = [_output(one, has_labels and one is document["output"]) for one in outputs(document)]
    part = {"input_tensor_metadata": [_input(document)], "output_tensor_metadata": described_outputs}
    return described | {"subgraph_metadata": [part], "min_parser_version": _MIN_PARSER_VERSION}


def _input(document: Mapping[str, Any]) -> dict[str, Any]:
    tensor = document["input"]
    words = preprocessing_of(document).words()
    text = f"RGB pixels 0..255, not normalised: that is inside the graph. Of a picture, upright: {words}.{_stored_as(tensor)}"
    return {
        "name": tensor["name"],
        "description": text,
        "content": {"content_properties": {"ImageProperties": {"color_space": "RGB"}}},
        "process_units": [{"options": {"NormalizationOptions": {"mean": [0.0], "std": [1.0]}}}],
        "stats": {"max": [255.0], "min": [0.0]},
    }


def _output(tensor: Mapping[str, Any], has_labels: bool) -> dict[str, Any]:
    means = tensor.get("meaning", CLASSES)
    probabilities = tensor["activation"] is not None
    one, final, how = ("label", "sigmoid", "a sigmoid of each") if means == LABELS else ("class", "softmax", "a softmax over all of them")
    one = "class and place" if means == CLASS_MAP else one
    what = f"One probability ({final}) a {one}" if probabilities else f"One logit a {one}"
    named = f", in the order of {LABELS_FILE}" if has_labels else ", whose names are not in the file"
    caution = "" if probabilities else f" Logits are no scores from 0 to 1: {how} makes them so."
    if means not in ACTIVATIONS:
        what, caution = MEANINGS[means].capitalize(), ""
        named = named if has_labels else ""
    described: dict[str, Any] = {
        "name": tensor["name"],
        "description": f"{what}{named}.{caution}{_stored_as(tensor)}",
        "content": {"content_properties": {"FeatureProperties": {}}},
    }
    if probabilities:
        described["stats"] = {"max": [1.0], "min": [0.0]}
    if has_labels:
        file = {"name": LABELS_FILE, "description": "One class a line, in the order of the output.", "type": "TENSOR_AXIS_LABELS"}
        described["associated_files"] = [file]
    return described


def _stored_as(tensor: Mapping[str, Any]) -> str:
    """A sentence on how to read the values of an integer tensor; empty for float32."""
    steps = tensor["quantization"]
    if not steps:
        return "" if tensor["dtype"] == "float32" else f" Stored as {tensor['dtype']}."
    values = f"scale {steps['scale']:.9g}, zero point {steps['zero_point']}"
    return f" Stored as {tensor['dtype']}: value = scale * (integer - zero point), {values}."


def read(data: bytes) -> SelfDescription:
    """What a `.tflite` says about itself. Damaged parts are named in `problems` and left out."""
    try:
        embedded = attachments.extract(data)
    except ValueError as error:
        return SelfDescription(problems=(str(error),))
    problems: list[str] = []
    metadata = record = graph = None
    if METADATA_BUFFER in embedded.buffers:
        try:
            metadata = metadata_schema.unpack(embedded.buffers[METADATA_BUFFER])
        except ValueError as error:
            problems.append(f"{METADATA_BUFFER}: {error}")
    if PROVENANCE_BUFFER in embedded.buffers:
        try:
            record = _provenance(embedded.buffers[PROVENANCE_BUFFER])
            graph = attachments.graph_in(data, embedded, record["graph"]["size_bytes"], (METADATA_BUFFER, PROVENANCE_BUFFER))
        except ValueError as error:
            problems.append(f"{PROVENANCE_BUFFER}: {error}")
    return SelfDescription(metadata, record, embedded.files, graph, tuple(problems))


def _provenance(data: bytes) -> dict[str, Any]:
    """The JSON of `provenance`, with its version and graph checked.

    Raises:
        ValueError: `edge.convert` did not write it.
    """
    try:
        record = json.loads(data.decode(), parse_constant=_refuse)
        graph = record["graph"]
        if record["schema_version"] != PROVENANCE_VERSION or not isinstance(graph["sha256"], str) or type(graph["size_bytes"]) is not int:
            raise ValueError(f"not of version {PROVENANCE_VERSION}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not the JSON that edge.convert writes: {error!r}") from error
    return record


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} in it")
