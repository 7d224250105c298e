"""`python -m edge.report DIR`: one page on a folder of artifacts, or what changed between two of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, InputError, UsageError
from tfvit.extras import require_extra
from tfvit.terminal import Parser, Terminal, run

# flag, its default, the field of compare.Tolerances it sets, what it says
_TOLERANCES = (
    ("--max-growth", 2.0, "size_percent", "percent that a file may grow"),
    ("--max-more-ops", 5.0, "ops_percent", "percent of operations that may be added"),
    ("--max-more-partitions", 0.0, "partitions", "XNNPACK partitions that may be added"),
    ("--max-snr-loss", 1.0, "snr_db", "dB of logits SNR that may be lost"),
    ("--max-agreement-loss", 1.0, "agreement_points", "points of equal top-1 that may be lost"),
    ("--max-top1-loss", 0.5, "top1_points", "points of validated top-1 that may be lost"),
    ("--max-slowdown", 10.0, "latency_percent", "percent that a file may be slower, where both were measured on the same machine"),
)

_EPILOG = """DIR and the folders below it may hold manifests (edge.convert), the JSON of edge.benchmark, edge.validate and
calibration.inspect, and reports of the Android app (also with --device). Each document is recognised by its content.
exit codes: 0 all checks passed, 1 a check failed (--compare: something got worse), 2 wrong usage, 3 unusable input
"""


def parser() -> Parser:
    parser = Parser(prog="python -m edge.report", description=__doc__, epilog=_EPILOG)
    parser.add_argument("directory", nargs="?", type=Path, metavar="DIR", help="folder with artifacts and their measurements")
    parser.add_argument(
        "--device", action="append", type=Path, default=[], metavar="FILE", help="a phone's report; may be given several times"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the page (DIR/report.html), NAME.json beside it; with --compare a Markdown file"
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that edge.report did not write")
    comparison = parser.add_argument_group("what changed between two folders")
    comparison.add_argument(
        "--compare", nargs=2, type=Path, metavar=("A", "B"), help="size, operations, delegates, drift, latency of B against A"
    )
    for flag, default, field, words in _TOLERANCES:
        comparison.add_argument(flag, type=float, default=default, dest=field, metavar="N", help=f"{words} (%(default)g)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _command, argv)


def _command(arguments: argparse.Namespace, terminal: Terminal) -> int:
    if (arguments.directory is None) == (arguments.compare is None):
        raise UsageError(
            "one folder, or two to compare",
            expected="DIR, or --compare A B",
            received="neither" if arguments.compare is None else "both",
            action="python -m edge.report artifacts",
        )
    return _compare(arguments, terminal) if arguments.compare else _report(arguments, terminal)


def _report(arguments: argparse.Namespace, terminal: Terminal) -> int:
    output = arguments.output or arguments.directory / "report.html"
    _require_ending(output, ".html")
    require_extra("report", "the page")
    _require_folder(arguments.directory)
    _require_folder(output.parent)

    from edge.artifacts import atomic_files
    from edge.report import page, summary
    from edge.report.checks import checks, failures
    from edge.report.inputs import read_inputs
    from edge.report.recommend import recommendations
    from tfvit import __version__

    with terminal.progress.stage("read and check", subject=str(arguments.directory)):
        inputs = read_inputs(arguments.directory, arguments.device)
    found, recommended = checks(inputs), recommendations(inputs)
    document = summary.report_document(inputs, found, recommended, __version__)
    with terminal.progress.stage("draw", subject=output.name):
        text = page.render(inputs, found, recommended, __version__)
    atomic_files.save_texts({output: text, output.with_suffix(".json"): summary.to_json(document)}, force=arguments.force)
    _print(document, output, terminal)
    return EXIT_CHECK_FAILED if failures(found) else EXIT_OK


def _print(document: dict[str, Any], output: Path, terminal: Terminal) -> None:
    rows = []
    for file in document["files"]:
        ships = [one["target"] for one in document["recommendations"] if f"{one['file']}.tflite" == file["file"]]
        failed = [check["name"] for check in file["checks"] if not check["passed"]]
        rows.append(
            (
                file["file"],
                f"{file['size_bytes'] / 1e6:.2f}",
                ", ".join(ships),
                "RANDOM weights" if file["random_weights"] else "",
                f"failed: {', '.join(failed)}" if failed else "passed",
            )
        )
    closing = [
        *document["verdict"],
        *(f"{one['file']}: {one['detail']}" for one in document["problems"]),
        *document["warnings"],
        f"page: {output}",
    ]
    terminal.result(document, ("file", "MB", "best for", "", "checks"), rows, closing)


def _compare(arguments: argparse.Namespace, terminal: Terminal) -> int:
    if arguments.device:
        raise UsageError(
            "--device has no part in a comparison",
            expected="--compare A B alone",
            received="--device",
            action="put the phones' reports into the folders",
        )
    if arguments.output:
        _require_ending(arguments.output, ".md")
        _require_folder(arguments.output.parent)
    require_extra("report", "a comparison", "jsonschema")

    from edge.artifacts import atomic_files
    from edge.report import compare
    from edge.report.inputs import read_inputs

    values = {field: getattr(arguments, field) for _, _, field, _ in _TOLERANCES}
    wrong = [flag for flag, _, field, _ in _TOLERANCES if not 0 <= values[field] < float("inf")]
    if wrong:
        raise UsageError(
            "bad tolerance", expected="a number of at least 0", received=", ".join(wrong), action="leave it out for the default in --help"
        )
    before, after = (read_inputs(folder) for folder in arguments.compare)
    document = compare.comparison(before, after, compare.Tolerances(**values))
    text = compare.markdown(document)
    if arguments.output:
        atomic_files.save_texts({arguments.output: text}, force=arguments.force)
    terminal.text(document, text.rstrip())
    return EXIT_OK if document["passed"] else EXIT_CHECK_FAILED


def _require_ending(output: Path, ending: str) -> None:
    if output.suffix != ending:
        raise UsageError("another kind of file", expected=f"-o NAME{ending}", received=str(output), action=f"give it the ending {ending}")


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError("no such folder", expected="an existing folder", received=str(folder), action="create it, or check the path")


if __name__ == "__main__":
    sys.exit(main())
