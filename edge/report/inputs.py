"""The documents in a folder of artifacts: manifests, measurements and phone reports, each joined to the file it is about."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from edge.artifacts.atomic_files import utf8_name
from edge.report import device, documents
from edge.report.documents import Document, read_document
from edge.report.rules import is_whole_on_xnnpack
from tfvit.errors import InputError, no_such_folder, reading
from tfvit.hashing import sha256

INTACT, TAMPERED, MISSING = "intact", "tampered", "missing"


@dataclasses.dataclass(frozen=True)
class HostRow:
    """One row of an `edge.benchmark` document.

    Attributes:
        run: label of the document. Rows of one run and group were measured in turns.
        environment: the machine.
        result: the row in the document.
        first: file name of the first row of this run and group; ratios are to it.
    """

    run: str
    environment: Mapping[str, Any]
    result: Mapping[str, Any]
    first: str

    @property
    def group(self) -> tuple[str, str, int]:
        """Run, delegate and threads. Rows of one group can be compared with each other."""
        return self.run, self.result["delegate"], self.result["threads"] or 0

    @property
    def measured(self) -> bool:
        return self.result["median_ms"] is not None

    @property
    def remarks(self) -> list[str]:
        """Why the file did not run, or why the figures are not reliable."""
        reason = self.result["reason"]
        return ([reason] if reason else []) + list(self.result["invalid_reasons"])

    @property
    def usable(self) -> bool:
        """Whether the measurement is valid, and not of a software GPU."""
        return self.measured and self.result["valid"] and self.result["status"] == "ok" and not self.result["software_gpu"]


@dataclasses.dataclass(frozen=True)
class FileFacts:
    """One artifact and everything that was found about it.

    Attributes:
        label: path of the file without its ending, relative to the folder.
        manifest: see `docs/manifest.md`.
        state: `INTACT`, `TAMPERED` (its hash is not the manifest's) or `MISSING`.
        found_sha256: of the file, None where it is missing.
        host: rows of benchmarks. phone: rows of device reports. validations: documents.
        model: what the files of one model share, variant and weights, in words.
    """

    label: str
    manifest: Mapping[str, Any]
    state: str
    found_sha256: str | None
    host: tuple[HostRow, ...] = ()
    phone: tuple[device.DeviceRow, ...] = ()
    validations: tuple[Document, ...] = ()
    model: str = ""

    @property
    def file_name(self) -> str:
        return f"{PurePosixPath(self.label).name}.tflite"

    @property
    def random(self) -> bool:
        return bool(self.manifest["weights"]["random"])

    @property
    def recipe(self) -> str:
        return str(self.manifest["recipe"])

    @property
    def size_bytes(self) -> int:
        return int(self.manifest["file"]["size_bytes"])

    @property
    def whole_on_xnnpack(self) -> bool:
        return is_whole_on_xnnpack(self.manifest)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Everything a report is made from.

    Attributes:
        title: the folder's name.
        files: the artifacts, by label.
        benchmarks, devices, calibrations: the documents themselves.
        apart: (document, what, why) of rows and documents that belong to none of the files.
        notes: sentences about files that are not used.
        sources: (label, kind, SHA-256) of every document that was read.
    """

    title: str
    files: tuple[FileFacts, ...]
    benchmarks: tuple[Document, ...]
    devices: tuple[Document, ...]
    calibrations: tuple[Document, ...]
    apart: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]
    sources: tuple[tuple[str, str, str], ...]


def read_inputs(folder: Path, device_files: Sequence[Path] = ()) -> Inputs:
    """Reads a folder of artifacts, and the folders below it.

    Args:
        folder: with manifests beside their files.
        device_files: phone reports from elsewhere.

    Raises:
        InputError: no such folder, no artifact in it, unreadable JSON, or a document that is not as its schema has it.
    """
    if not folder.is_dir():
        raise no_such_folder(folder, "a folder of artifacts", "check the path")
    found = [read_document(path, _label(path, folder)) for path in _files(folder, ".json")]
    known = {document.path.resolve() for document in found if document.kind == documents.DEVICE_REPORT}
    for path in device_files:
        if path.resolve() not in known:
            found.append(read_document(path, _label(path, path.parent), demanded=documents.DEVICE_REPORT))
            known.add(path.resolve())
    of_kind = {kind: [document for document in found if document.kind == kind] for kind in documents.KINDS}
    if not of_kind[documents.MANIFEST] and not of_kind[documents.DEVICE_REPORT]:
        raise InputError(
            "no artifacts",
            expected="manifests NAME.json beside NAME.tflite, or reports of phones",
            received=f"{folder} with {len(found)} JSON document{'s' if len(found) != 1 else ''}, none of them a manifest",
            action=f"python -m edge.convert --variant nano32 --quant all --out {folder}",
        )
    files = [_file(document) for document in of_kind[documents.MANIFEST]]
    notes = [f"{document.label} is none of the documents a report is made from" for document in found if document.kind is None]
    described = {facts.label for facts in files}
    for path in _files(folder, ".tflite"):
        label = _label(path, folder).removesuffix(".tflite")
        if label not in described:
            notes.append(f"{label}.tflite has no manifest and is left out")
    files, apart = _joined(_with_models(files), of_kind)
    return Inputs(
        title=utf8_name(Path(folder.resolve().name)),
        files=tuple(files),
        benchmarks=tuple(of_kind[documents.BENCHMARK]),
        devices=tuple(of_kind[documents.DEVICE_REPORT]),
        calibrations=tuple(of_kind[documents.CALIBRATION]),
        apart=tuple(apart),
        notes=tuple(notes),
        sources=tuple((document.label, document.kind, document.sha256) for document in found if document.kind in documents.KINDS),
    )


def _label(path: Path, folder: Path) -> str:
    """The name of a file in the report."""
    return utf8_name(path.relative_to(folder))


def _files(folder: Path, ending: str) -> list[Path]:
    """Files below a folder, sorted. Hidden files and folders are left out, links to folders are not followed."""
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(where) / name for name in names if name.endswith(ending) and not name.startswith(".")]
    return sorted(found)


def _file(document: Document) -> FileFacts:
    path = document.path.with_suffix(".tflite")
    label, recorded = document.label.removesuffix(".json"), document.content["file"]["sha256"]
    if not path.is_file():
        return FileFacts(label, document.content, MISSING, None)
    with reading(path, "a .tflite file", action="check its permissions"):
        found = sha256(path.read_bytes())
    return FileFacts(label, document.content, INTACT if found == recorded else TAMPERED, found)


def _with_models(files: Sequence[FileFacts]) -> list[FileFacts]:
    """The files with their model. Weights of one name that differ are told apart by their hash."""
    named: dict[str, set[str]] = {}
    words = []
    for facts in files:
        weights = facts.manifest["weights"]
        variant = facts.manifest["variant"] or f"own model ({PurePosixPath(facts.label).name.partition('-')[0]})"
        words.append(f"{variant}, weights {weights['source']}{' (RANDOM)' if weights['random'] else ''}")
        named.setdefault(words[-1], set()).add(weights["sha256"])
    return [
        dataclasses.replace(facts, model=model if len(named[model]) == 1 else f"{model}, SHA-256 {facts.manifest['weights']['sha256'][:8]}")
        for facts, model in zip(files, words, strict=True)
    ]


def _joined(files: list[FileFacts], of_kind: Mapping[str, list[Document]]) -> tuple[list[FileFacts], list[tuple[str, str, str]]]:
    """The files with their rows and validations, and what belongs to no file."""
    host: dict[str, list[HostRow]] = {facts.label: [] for facts in files}
    phone: dict[str, list[device.DeviceRow]] = {facts.label: [] for facts in files}
    validations: dict[str, list[Document]] = {facts.label: [] for facts in files}
    apart = []
    for document in of_kind[documents.BENCHMARK]:
        for row in _host_rows(document):
            owners, why = _measured_files(row, files)
            for facts in owners:
                host[facts.label].append(row)
            if not owners:
                apart.append((document.label, _file_name(row.result["file"]), why))
    for document in of_kind[documents.DEVICE_REPORT]:
        for row in device.rows(document):
            owners = [facts for facts in files if facts.manifest["file"]["sha256"] == row.result["sha256"]]
            for facts in owners:
                phone[facts.label].append(row)
            if not owners:
                apart.append((document.label, row.result["name"], f"for another file: SHA-256 {row.result['sha256']}"))
    for document in of_kind[documents.VALIDATION]:
        owners = [facts for facts in files if facts.manifest["file"]["sha256"] == document.content["sha256"]]
        for facts in owners:
            validations[facts.label].append(document)
        if not owners:
            apart.append((document.label, document.content["name"], f"for another file: SHA-256 {document.content['sha256']}"))
    joined = [
        dataclasses.replace(
            facts, host=tuple(host[facts.label]), phone=tuple(phone[facts.label]), validations=tuple(validations[facts.label])
        )
        for facts in files
    ]
    return joined, apart


def _host_rows(document: Document) -> list[HostRow]:
    first: dict[tuple[str, int | None], str] = {}
    rows = []
    for result in document.content["results"]:
        group = result["delegate"], result["threads"]
        rows.append(HostRow(document.label, document.content["environment"], result, first.setdefault(group, _file_name(result["file"]))))
    return rows


def _measured_files(row: HostRow, files: Sequence[FileFacts]) -> tuple[list[FileFacts], str]:
    """The file that was measured, by name and size, and by hash where the benchmark has one; else no file, and why."""
    path = PurePosixPath(row.result["file"].replace("\\", "/"))
    named = [facts for facts in files if facts.file_name == path.name]
    if not named:
        return [], "no file of this name here"
    same = [
        facts
        for facts in named
        if facts.size_bytes == row.result["size_bytes"] and row.result.get("sha256") in (None, facts.manifest["file"]["sha256"])
    ]
    if not same:
        return [], f"for another file of this name: {row.result['size_bytes']} bytes, not {named[0].size_bytes}, or another hash"
    if len(same) > 1:
        # of files in several folders, the one whose path the benchmark names
        ending = [facts for facts in same if f"/{path}".endswith(f"/{facts.label}.tflite")]
        longest = max((facts.label.count("/") for facts in ending), default=0)
        same = [facts for facts in ending if facts.label.count("/") == longest]
        if len(same) != 1:
            return [], "several files here have this name and size"
    return same, ""


def _file_name(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name
