"""`python -m edge.verify FILE|MANIFEST`: makes a file again from its recorded inputs, and compares the bytes.

A FILE.tflite holds the record of its inputs. With a MANIFEST, the fields of the manifest are compared too. Name your own weights and
images; they are checked by their recorded hashes first. Verifying takes as long as converting did.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, UsageError, reading
from tfvit.extras import require_extra
from tfvit.progress import reporting, step
from tfvit.terminal import Parser, Terminal, run

_EPILOG = """exit codes: 0 equal to the last byte, 1 different (the output names graph, weights, quantization, metadata, labels, tools or
manifest), 2 wrong usage, 3 cannot be made again (no record; weights, images or labels missing or not the recorded ones; other versions
of tools)
"""
# Fields of a manifest that describe our code and not the file
_CODE = ("code_sha256", "inputs_sha256")


def parser() -> Parser:
    parser = Parser(prog="python -m edge.verify", description=__doc__, epilog=_EPILOG)
    parser.add_argument("file", type=Path, metavar="FILE|MANIFEST", help="a .tflite of edge.convert, or its .json")
    parser.add_argument("--weights", type=Path, help="the checkpoint it was made from, if that was a file of yours")
    parser.add_argument("--model", type=Path, help="the saved .keras model it was made from, if any")
    parser.add_argument("--trust-model", action="store_true", help="run Python code in --model (lambdas); only for files that you trust")
    parser.add_argument("--calibration", type=Path, help="the folder or zip of calibration images, if they were yours")
    parser.add_argument("--labels", type=Path, help="text file with the class names, if those in the file are not the recorded ones")
    parser.add_argument("--other-tools", action="store_true", help="compare even if packages have other versions than the recorded ones")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _verify, argv)


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


def _verify(arguments: argparse.Namespace, terminal: Terminal) -> int:
    if arguments.file.suffix not in (".tflite", ".json"):
        raise UsageError(
            "neither a file nor a manifest",
            expected="a .tflite, or the .json beside it",
            received=str(arguments.file),
            action="name one of the two",
        )
    require_extra("edge", "verifying")
    from edge.artifacts.provenance import code_sha256
    from edge.conversion import rebuild

    subject = _file(arguments.file) if arguments.file.suffix == ".tflite" else _manifest(arguments.file)
    given = _labels(arguments.labels)
    if not arguments.other_tools:
        rebuild.require_tools(subject.inputs)
    labels = rebuild.matching_labels(subject.inputs, [given, *subject.labels])
    files = rebuild.Given(arguments.weights, arguments.model, arguments.calibration, arguments.trust_model)
    with reporting(terminal.progress, arguments.file.name):
        made = rebuild.rebuilt(subject.inputs, labels, files)
        with step("compare"):
            found = _differences(subject, made)
    other_code = bool(subject.manifest) and subject.manifest.get("code_sha256") != code_sha256()
    document = {
        "kind": "verification",
        "schema_version": 1,
        "file": str(arguments.file),
        "sha256": subject.sha256,
        "rebuilt_sha256": made.manifest["file"]["sha256"],
        "equal": not found,
        "differences": [dataclasses.asdict(one) for one in found],
        "notes": _notes(found, other_code),
        "seconds": terminal.progress.seconds(),
    }
    terminal.text(document, _page(document))
    return EXIT_CHECK_FAILED if found else EXIT_OK


def _file(path: Path) -> _Subject:
    from edge.artifacts import self_description
    from edge.conversion import rebuild
    from edge.tflite import flatbuffer
    from tfvit.hashing import sha256

    with reading(path, "a .tflite file"):
        data = path.read_bytes()
    flatbuffer.read_model(data)
    said = self_description.read(data)
    return _Subject(rebuild.inputs_of_file(said, path.name), sha256(data), data, None, [said.labels])


def _manifest(path: Path) -> _Subject:
    """The manifest, and its file if there is one."""
    from edge.artifacts import artifact, self_description
    from edge.conversion import rebuild

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
    from tfvit.labels import read_labels

    return None if path is None else read_labels(path)


def _differences(subject: _Subject, made: Any) -> list[Any]:
    from edge.artifacts import difference
    from tfvit.hashing import sha256

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


def _page(document: dict[str, Any]) -> str:
    if document["equal"]:
        return f"{document['file']}: equal to the last byte, made again from its recorded inputs (SHA-256 {document['sha256']})"
    lines = [f"{document['file']}: NOT what its recorded inputs give", f"  recorded SHA-256 {document['sha256']}"]
    lines.append(f"  rebuilt  SHA-256 {document['rebuilt_sha256']}")
    lines += [f"  {one['part']}: {one['detail']}" for one in document["differences"]]
    return "\n".join([*lines, *(f"  note: {note}" for note in document["notes"])])


if __name__ == "__main__":
    sys.exit(main())
