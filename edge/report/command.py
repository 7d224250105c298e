"""From what `edge.report` is given to its documents: a folder becomes a page, two folders become what changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.artifacts import atomic_files
from edge.report import compare, page, summary
from edge.report.checks import checks
from edge.report.inputs import read_inputs
from edge.report.recommend import recommendations
from tfvit import __version__
from tfvit.progress import step


def report(folder: Path, devices: Sequence[Path], output: Path, force: bool) -> dict[str, Any]:
    """Writes the page and NAME.json beside it; returns that document."""
    with step("read and check", subject=str(folder)):
        inputs = read_inputs(folder, devices)
    found, recommended = checks(inputs), recommendations(inputs)
    document = summary.report_document(inputs, found, recommended, __version__)
    with step("draw", subject=output.name):
        text = page.render(inputs, found, recommended, __version__)
    atomic_files.save_texts({output: text, output.with_suffix(".json"): summary.to_json(document)}, force=force)
    return document


def comparison(before: Path, after: Path, tolerances: dict[str, float], output: Path | None, force: bool) -> tuple[dict[str, Any], str]:
    """What changed between two folders, as JSON and as Markdown; the Markdown is written where `output` says."""
    document = compare.comparison(read_inputs(before), read_inputs(after), compare.Tolerances(**tolerances))
    text = compare.markdown(document)
    if output:
        atomic_files.save_texts({output: text}, force=force)
    return document, text


def table(document: dict[str, Any], output: Path) -> tuple[Sequence[str], Sequence[Sequence[str]], list[str]]:
    """Column titles, rows, and the lines below them, of a report."""
    rows = []
    for file in document["files"]:
        ships = [one["target"] for one in document["recommendations"] if f"{one['file']}.tflite" == file["file"]]
        failed = [check["name"] for check in file["checks"] if not check["passed"]]
        rows.append(
            (
                file["file"],
                f"{file['size_bytes'] / 1e6:.2f}",
                ", ".join(ships),
                "RANDOM weights" if file["random_weights"] else "ASSUMED" if file["assumed"] else "",
                f"failed: {', '.join(failed)}" if failed else "passed",
            )
        )
    closing = [
        *document["verdict"],
        *(f"{one['file']}: {one['detail']}" for one in document["problems"]),
        *document["warnings"],
        f"page: {output}",
    ]
    return ("file", "MB", "best for", "", "checks"), rows, closing
