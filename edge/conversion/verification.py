"""Makes a file again from its recorded inputs, and compares the bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.artifacts import artifact, difference, self_description
from edge.artifacts.provenance import code_sha256
from edge.conversion import rebuild
from edge.conversion.rebuild import Given as Given
from edge.tflite import flatbuffer
from tfvit.errors import reading
from tfvit.hashing import sha256
from tfvit.labels import read_labels
from tfvit.progress import current, step

# Fields of a manifest that describe our code and not the file
_CODE = ("code_sha256", "inputs_sha256")


@dataclasses.dataclass(frozen=True)
class _Subject:
    """The file to verify.

    Attributes:
        inputs: the record of what it was made from (see `edge.conversion.rebuild`).
        sha256: of the file.
        file: the bytes; None if there is only a manifest.
        manifest: None if the command was given the file.
        labels: all labels that were found, in the order in which they are tried.
    """

    inputs: dict[str, Any]
    sha256: str
    file: bytes | None
    manifest: dict[str, Any] | None
    labels: list[tuple[str, ...] | None]


def verify(path: Path, files: rebuild.Given, labels: Path | None, other_tools: bool) -> dict[str, Any]:
    """What differs between a file and the one made again.

    Args:
        path: the `.tflite`, or its manifest.
        files: the user's own, where the record names such.
        labels: a text file with the class names, where those in the file are not the recorded ones.
        other_tools: compare even where packages have other versions than the recorded ones.

    Raises:
        UserError: it cannot be made again.
    """
    subject = _file(path) if path.suffix == ".tflite" else _manifest(path)
    given = _labels(labels)
    if not other_tools:
        rebuild.require_tools(subject.inputs)
    made = rebuild.rebuilt(subject.inputs, rebuild.matching_labels(subject.inputs, [given, *subject.labels]), files)
    with step("compare"):
        found = _differences(subject, made)
    other_code = bool(subject.manifest) and subject.manifest.get("code_sha256") != code_sha256()
    return {
        "kind": "verification",
        "schema_version": 1,
        "file": str(path),
        "sha256": subject.sha256,
        "rebuilt_sha256": made.manifest["file"]["sha256"],
        "equal": not found,
        "differences": [dataclasses.asdict(one) for one in found],
        "notes": _notes(found, other_code),
        "seconds": current().seconds(),
    }


def _file(path: Path) -> _Subject:
    with reading(path, "a .tflite file"):
        data = path.read_bytes()
    flatbuffer.read_model(data)
    said = self_description.read(data)
    return _Subject(rebuild.inputs_of_file(said, path.name), sha256(data), data, None, [said.labels])


def _manifest(path: Path) -> _Subject:
    """The manifest, and its file if there is one."""
    manifest = artifact.read_manifest(path)
    inputs, file = rebuild.inputs_of_manifest(manifest, path.name), path.with_suffix(".tflite")
    if not file.is_file():
        return _Subject(inputs, manifest["file"]["sha256"], None, manifest, [_labels(_beside(path))])
    found = artifact.load(file, verify=False)
    return _Subject(inputs, manifest["file"]["sha256"], found.file, manifest, [self_description.read(found.file).labels, found.labels])


def _beside(manifest: Path) -> Path | None:
    path = manifest.with_name(f"{manifest.stem}.labels.txt")
    return path if path.is_file() else None


def _labels(path: Path | None) -> tuple[str, ...] | None:
    return None if path is None else read_labels(path)


def _differences(subject: _Subject, made: Any) -> list[Any]:
    found = [] if subject.file is None else difference.of_files(subject.file, made.file)
    if subject.manifest is None:
        return found
    if subject.file is not None and sha256(subject.file) != subject.sha256:
        found.append(difference.Difference("manifest", f"the file beside it has SHA-256 {sha256(subject.file)}, not {subject.sha256}"))
    return found + difference.of_documents(subject.manifest, made.manifest, "manifest", _CODE)


def _notes(found: Sequence[Any], other_code: bool) -> list[str]:
    """Possible causes of the differences."""
    notes = []
    if found and other_code:
        notes.append("the source code of tfvit, calibration or edge is not the one that made it (code_sha256)")
    if {"weights", "quantization", "manifest"} & {one.part for one in found}:
        notes.append("calibration, folded constants and drift are computed: another kind of CPU may round their last digits otherwise")
    return notes


def page(document: dict[str, Any]) -> str:
    """The document for people."""
    if document["equal"]:
        return f"{document['file']}: equal to the last byte, made again from its recorded inputs (SHA-256 {document['sha256']})"
    lines = [f"{document['file']}: NOT what its recorded inputs give", f"  recorded SHA-256 {document['sha256']}"]
    lines.append(f"  rebuilt  SHA-256 {document['rebuilt_sha256']}")
    lines += [f"  {one['part']}: {one['detail']}" for one in document["differences"]]
    return "\n".join([*lines, *(f"  note: {note}" for note in document["notes"])])
