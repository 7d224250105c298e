"""Reports that browsers send: bounded, checked in every field, and kept under names of ours."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edge.artifacts import atomic_files, strict_json
from edge.artifacts.json_schema import violation
from edge.report.documents import DEVICE_REPORT, schema
from tfvit.hashing import sha256

# A result takes 1 kB
MOST_BYTES = 1 << 20


class RefusedReportError(Exception):
    """A report that is not kept.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def checked(body: bytes, run: str, models: Collection[tuple[str, str]]) -> dict[str, Any]:
    """The report in a request's body: a browser's, of this run, about models of this bundle.

    Args:
        body: JSON in UTF-8.
        run: as the page was told.
        models: (name, SHA-256) of each.

    Raises:
        RefusedReportError: 413 too large, 400 no JSON, 422 another document than it should be.
    """
    if len(body) > MOST_BYTES:
        raise RefusedReportError(413, f"at most {MOST_BYTES} bytes")
    try:
        report = strict_json.loads(body)
    except ValueError as error:
        raise RefusedReportError(400, "no JSON document in UTF-8 with finite numbers") from error
    if found := violation(report, schema(DEVICE_REPORT)):
        raise RefusedReportError(422, f"not as its schema has it: {found[0]}: {found[1]}")
    if report["device"]["kind"] != "browser":
        raise RefusedReportError(422, "not a browser's report")
    if report.get("run") != run:
        raise RefusedReportError(422, "the report of another run: load the page again")
    if not report["results"]:
        raise RefusedReportError(422, "no results in it")
    if any((result["name"], result["sha256"]) not in models for result in report["results"]):
        raise RefusedReportError(422, "a result about a model that is not in the bundle")
    return report


def save(folder: Path, report: dict[str, Any]) -> Path:
    """Writes a report as browser-HASH.device.json, completely or not at all; the hash is of its content. Nothing is overwritten.

    Raises:
        RefusedReportError: 409, the same report is there.
        EnvironmentUnusableError: the folder or the disk refuses.
    """
    data = (json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    path = folder / f"browser-{sha256(data)[:12]}.device.json"
    with atomic_files.writing(DEVICE_REPORT, len(data), folder), atomic_files.locked(folder), ExitStack() as cleanup:
        if os.path.lexists(path):
            raise RefusedReportError(409, "this report was sent before")
        os.replace(atomic_files.stage(folder, data, cleanup), path)
    return path
