"""JSON documents: each is recognised by its content and checked against a schema before any field is read."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from edge.artifacts import strict_json
from edge.artifacts.artifact import manifest_schema
from edge.artifacts.json_schema import violation
from tfvit.errors import InputError, reading

MANIFEST, BENCHMARK, VALIDATION, CALIBRATION, DEVICE_REPORT = "manifest", "benchmark", "validation", "calibration", "device_report"
# What edge.report itself writes
REPORT, COMPARISON = "report", "comparison"
KINDS = {
    MANIFEST: "edge.convert",
    BENCHMARK: "edge.benchmark --save",
    VALIDATION: "edge.validate --save",
    CALIBRATION: "calibration.inspect --json",
    DEVICE_REPORT: "the Android app, or the page of edge.bundle --web,",
}


@dataclasses.dataclass(frozen=True)
class Document:
    """One JSON file.

    Attributes:
        path: where it is.
        label: its name in the report: relative to the folder, or the file's name where it is from elsewhere.
        kind: of `KINDS`, `REPORT`, `COMPARISON`, or None for any other document.
        content: the JSON value, checked against the schema of its kind.
        sha256: of its bytes.
    """

    path: Path
    label: str
    kind: str | None
    content: Any
    sha256: str


def read_document(path: Path, label: str, demanded: str | None = None) -> Document:
    """Reads a JSON file, recognises its kind and checks it.

    Args:
        label: its name in messages and in the report.
        demanded: the kind it has to be.

    Raises:
        InputError: unreadable, no JSON, or not as the schema of its kind has it.
    """
    with reading(path, "a JSON file"):
        data = path.read_bytes()
    with reading(path, "a JSON document in UTF-8 with finite numbers", "JSON", "write it again, or move it out of the folder"):
        content = strict_json.loads(data)
    kind = demanded or kind_of(content)
    if kind in KINDS:
        _check(content, kind, path)
    return Document(path, label, kind, content, hashlib.sha256(data).hexdigest())


def kind_of(content: Any) -> str | None:
    """The kind of a document, recognised by its fields; None for any other document."""
    if not isinstance(content, Mapping):
        return None
    named = content.get("kind")
    if named in (BENCHMARK, VALIDATION, DEVICE_REPORT, REPORT, COMPARISON):
        return str(named)
    for kind, fields in (
        (MANIFEST, ("recipe", "file", "drift")),
        (BENCHMARK, ("environment", "preset", "results")),
        (CALIBRATION, ("checks", "channels", "source")),
    ):
        if all(field in content for field in fields):
            return kind
    return None


@functools.cache
def schema(kind: str) -> dict[str, Any]:
    if kind == MANIFEST:
        return manifest_schema()
    return json.loads(resources.files("edge.report").joinpath(f"{kind}.schema.json").read_text(encoding="utf-8"))


def _check(content: Any, kind: str, path: Path) -> None:
    found = violation(content, schema(kind))
    if found:
        json_path, reason = found
        room = "artifacts" if kind == MANIFEST else "report"
        raise InputError(
            f"invalid {kind.replace('_', ' ')}",
            expected=f"what {KINDS[kind]} writes (edge/{room}/{kind}.schema.json)",
            received=f"{path}: {json_path}: {reason}",
            action="make it again with the same version of the tools",
            json_path=json_path,
        )
