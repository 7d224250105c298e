"""What the page's sections are made of, as data: columns that know how to sort, cells that know what they mean. No markup."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edge.report.checks import Check
from edge.report.device import DeviceRow
from edge.report.inputs import FileFacts, HostRow, Inputs
from edge.report.plots import Plot

GOOD, BAD, WARN = "good", "bad", "warn"
NOTHING = "–"


@dataclasses.dataclass(frozen=True)
class Cell:
    """What a cell shows and sorts by.

    Attributes:
        text: shown.
        value: sorted by; the text where it is None.
        mark: `GOOD`, `BAD`, `WARN` or nothing: shown as a label.
        link: id of a place on the page.
    """

    text: str
    value: float | None = None
    mark: str = ""
    link: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A caption, columns (title, whether of numbers) and rows; `ids` are the rows' own anchors."""

    caption: str
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[Cell, ...], ...]
    ids: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of a section; folded where only some readers want it."""

    title: str = ""
    words: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    remarks: tuple[str, ...] = ()
    flips: tuple[Mapping[str, Any], ...] = ()
    inside: tuple[Block, ...] = ()
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Section:
    """An entry of the table of contents."""

    id: str
    title: str
    blocks: tuple[Block, ...]


def columns(*titles: str) -> tuple[tuple[str, bool], ...]:
    """Titles; those of numbers begin with #."""
    return tuple((title.removeprefix("#"), title.startswith("#")) for title in titles)


def number(value: float | None, digits: int = 2, factor: float = 1.0) -> Cell:
    """A figure, or a dash where there is none."""
    return Cell(NOTHING) if value is None else Cell(f"{factor * value:.{digits}f}", factor * value)


def significant(value: float | None) -> Cell:
    """A figure whose size is what matters, to three digits."""
    return Cell(NOTHING) if value is None else Cell(f"{value:.3g}", value)


def anchor(inputs: Inputs, label: str) -> str:
    """The id of a file's row."""
    return f"file-{[facts.label for facts in inputs.files].index(label) + 1}"


def files_table(inputs: Inputs, found: Sequence[Check]) -> Table:
    """One row a file: what it is, what it costs, whether it holds."""
    rows = []
    for facts in inputs.files:
        own = [check for check in found if check.file == facts.label]
        failed = [check.name for check in own if not check.passed]
        xnnpack, gpu = facts.manifest["delegates"]["xnnpack"], facts.manifest["delegates"]["gpu"]
        state = (
            Cell(f"{len(own)} passed", 0.0, GOOD)
            if not failed
            else Cell(f"failed: {', '.join(dict.fromkeys(failed))}", float(len(failed)), BAD)
        )
        rows.append(
            (
                Cell(facts.label),
                state,
                Cell("RANDOM", mark=WARN) if facts.random else Cell(facts.manifest["weights"]["source"]),
                number(facts.size_bytes, 2, 1e-6),
                _top1(facts),
                number(facts.manifest["drift"]["logits_snr_db"], 1),
                _median(facts),
                Cell(
                    f"{xnnpack['delegated_ops']} of {xnnpack['total_ops']} in {xnnpack['partitions']}",
                    xnnpack["delegated_ops"] / max(xnnpack["total_ops"], 1),
                    "" if facts.whole_on_xnnpack else WARN,
                ),
                Cell(gpu["verdict"], mark="" if gpu["verdict"] == "whole" else WARN),
                Cell(facts.manifest["file"]["min_runtime_version"] or "unknown"),
            )
        )
    titles = columns(
        "file",
        "checks",
        "weights",
        "#MB",
        "#top-1 %",
        "#logits SNR dB",
        "#CPU median ms",
        "#XNNPACK operations in partitions",
        "GPU by rule",
        "needs TFLite",
    )
    return Table("The files", titles, tuple(rows), tuple(f"file-{number}" for number in range(1, len(rows) + 1)))


def checks_table(found: Sequence[Check]) -> Table:
    """Every check, those that failed first."""
    ordered = sorted(found, key=lambda check: check.passed)
    rows = [
        (
            Cell(check.file),
            Cell(check.name),
            Cell("passed" if check.passed else "failed", float(check.passed), GOOD if check.passed else BAD),
            Cell(check.detail),
        )
        for check in ordered
    ]
    return Table("Every check", (("file", False), ("check", False), ("result", False), ("found", False)), tuple(rows))


def host_table(rows: Sequence[tuple[FileFacts, HostRow]], caption: str) -> Table:
    """Rows of one run and group."""
    cells = []
    for facts, row in rows:
        result = row.result
        ratio = result.get("ratio") if not result["software_gpu"] else None
        own = ratio is not None and result["ratio_low"] == result["ratio_high"]
        cells.append(
            (
                Cell(facts.label),
                _validity(result),
                number(result["median_ms"]),
                Cell(NOTHING)
                if ratio is None
                else Cell("1" if own else f"{ratio:.3f} ({result['ratio_low']:.3f} to {result['ratio_high']:.3f})", ratio),
                *(number(result[key]) for key in ("p5_ms", "p90_ms", "p95_ms", "mean_ms", "stddev_ms", "min_ms", "max_ms")),
                number(result["init_ms"], 1),
                number(result["first_inference_ms"], 1),
                number(result["num_runs"], 0),
                number(result["seconds"], 1),
                number(result["peak_mem_mb"], 0),
            )
        )
    first = rows[0][1].first.removesuffix(".tflite")
    titles = columns(
        "file",
        "valid",
        "#median ms",
        f"#ratio to {first}",
        "#p5",
        "#p90",
        "#p95",
        "#mean",
        "#stddev",
        "#min",
        "#max",
        "#load ms",
        "#first ms",
        "#runs",
        "#seconds",
        "#peak MB",
    )
    return Table(caption, titles, tuple(cells))


def phone_table(rows: Sequence[tuple[str, DeviceRow]], caption: str) -> Table:
    """Rows of one device."""
    cells = []
    for label, row in rows:
        result, parity, thermal = row.result, row.result["parity"], row.result["thermal"]
        agree = (
            Cell(NOTHING) if parity is None else Cell("passed" if parity["passed"] else "failed", mark=GOOD if parity["passed"] else BAD)
        )
        cells.append(
            (
                Cell(label),
                Cell("valid", mark=GOOD) if result["valid"] else Cell("not valid", mark=WARN),
                Cell(result["backend_used"], mark="" if row.as_asked else WARN),
                number(result["threads"], 0),
                *(number(result[key]) for key in ("median_ms", "p5_ms", "p90_ms", "p95_ms", "avg_ms", "stddev_ms", "min_ms", "max_ms")),
                number(result["init_ms"], 1),
                number(result["first_inference_ms"], 1),
                number(result["num_runs"], 0),
                number(result["peak_mem_mb"], 0),
                Cell(f"{thermal['status_start']} to {thermal['status_end']}" if thermal else NOTHING),
                agree,
            )
        )
    titles = columns(
        "file",
        "valid",
        "ran on",
        "#threads",
        "#median ms",
        "#p5",
        "#p90",
        "#p95",
        "#mean",
        "#stddev",
        "#min",
        "#max",
        "#load ms",
        "#first ms",
        "#runs",
        "#peak MB",
        "thermal",
        "parity with the host",
    )
    return Table(caption, titles, tuple(cells))


def drift_table(inputs: Inputs) -> Table:
    """What each manifest says of its file against the float Keras model, and what it had to reach."""
    rows = []
    for facts in inputs.files:
        drift = facts.manifest["drift"]
        limits, demoted = drift["limits"], (facts.manifest.get("repair") or {}).get("demoted", [])
        rows.append(
            (
                Cell(facts.label + (" (RANDOM weights)" if facts.random else "")),
                Cell("passed" if drift["passed"] else "failed", float(drift["passed"]), GOOD if drift["passed"] else BAD),
                number(drift["logits_snr_db"], 1),
                number(limits["min_snr_db"], 0),
                number(drift["top1_agreement"], 2, 100),
                Cell("not applied", None) if facts.random else number(limits["min_agreement"], 1, 100),
                number(drift["top5_agreement"], 2, 100),
                number(drift["cosine"], 6),
                significant(drift["kl"]),
                significant(drift["max_abs_err"]),
                number(drift["samples"], 0),
                Cell(drift["source"]),
                Cell(f"{len(demoted)} layers demoted" if demoted else "none", float(len(demoted))),
            )
        )
    titles = columns(
        "file",
        "gate",
        "#logits SNR dB",
        "#at least",
        "#same top-1 %",
        "#at least",
        "#top-5 overlap %",
        "#cosine",
        "#KL",
        "#largest error of a probability",
        "#images",
        "source",
        "repair",
    )
    return Table("Drift against the float Keras model", titles, tuple(rows))


def repairs_table(inputs: Inputs) -> Table | None:
    """Layers that were kept in more bits so that a file passes its gate."""
    rows = [
        (Cell(facts.label), Cell(layer["layer"]), Cell(layer["before"]), Cell(layer["after"]))
        for facts in inputs.files
        for layer in (facts.manifest.get("repair") or {}).get("demoted", [])
    ]
    return (
        Table("Layers demoted by repair", (("file", False), ("layer", False), ("before", False), ("after", False)), tuple(rows))
        if rows
        else None
    )


def delegates_table(inputs: Inputs) -> Table:
    """What each delegate takes of each file."""
    rows = []
    for facts in inputs.files:
        xnnpack, gpu = facts.manifest["delegates"]["xnnpack"], facts.manifest["delegates"]["gpu"]
        left = ", ".join(f"{count} {name}" for name, count in sorted(xnnpack["left_over"].items()))
        rows.append(
            (
                Cell(facts.label),
                number(xnnpack["total_ops"], 0),
                number(xnnpack["delegated_ops"], 0),
                number(xnnpack["partitions"], 0),
                Cell(left or "none"),
                Cell(gpu["verdict"], mark=GOOD if gpu["verdict"] == "whole" else WARN),
                number(len(gpu["refused"]), 0),
            )
        )
    titles = columns("file", "#operations", "#XNNPACK takes", "#partitions", "XNNPACK leaves", "GPU", "#GPU refuses")
    return Table("What the delegates take", titles, tuple(rows))


def refusals_table(inputs: Inputs) -> Table | None:
    """Why not the GPU: one row for each file, operation and reason."""
    rows = []
    for facts in inputs.files:
        groups: dict[tuple[str, str], list[str]] = {}
        for one in facts.manifest["delegates"]["gpu"]["refused"]:
            groups.setdefault((one["op"], one["reason"]), []).append(one["layer"])
        for (operation, reason), layers in sorted(groups.items()):
            different = list(dict.fromkeys(layers))
            more = f" and {len(different) - 3} more" if len(different) > 3 else ""
            rows.append((Cell(facts.label), Cell(operation), number(len(layers), 0), Cell(reason), Cell(", ".join(different[:3]) + more)))
    titles = columns("file", "operation", "#times", "reason", "layers")
    return Table("Why not the GPU", titles, tuple(rows)) if rows else None


def calibration_table(inputs: Inputs) -> Table:
    """Which images gave the activation ranges."""
    rows = []
    for facts in inputs.files:
        used = facts.manifest.get("calibration")
        if used is None:
            rows.append((Cell(facts.label), Cell("none needed"), Cell(NOTHING), Cell(NOTHING), Cell(NOTHING)))
        else:
            rows.append(
                (Cell(facts.label), Cell(used["source"]), number(used["samples"], 0), number(used["seed"], 0), Cell(used["sha256"][:16]))
            )
    titles = columns("file", "images", "#number", "#seed", "SHA-256 begins")
    return Table("Calibration", titles, tuple(rows))


def image_checks_table(content: Mapping[str, Any], caption: str) -> Table:
    """What calibration.inspect found."""
    marks = {"ok": GOOD, "warn": WARN, "fail": BAD}
    rows = [(Cell(one["name"]), Cell(one["status"], mark=marks[one["status"]]), Cell(one["detail"])) for one in content["checks"]]
    return Table(caption, (("check", False), ("result", False), ("found", False)), tuple(rows))


def versions_table(inputs: Inputs) -> Table:
    """Exact versions of what made the files, and of what validated them."""
    used: dict[tuple[str, str], dict[str, list[str]]] = {}
    for facts in inputs.files:
        for package, version in facts.manifest["tools"].items():
            used.setdefault((package, version), {}).setdefault("made", []).append(facts.label)
        for document in facts.validations:
            for package, version in document.content["tools"].items():
                used.setdefault((package, version), {}).setdefault("validated", []).append(facts.label)
    rows = []
    for (package, version), labels in sorted(used.items()):
        parts = []
        for what in ("made", "validated"):
            different = list(dict.fromkeys(labels.get(what, [])))
            parts.append("all files" if len(different) == len(inputs.files) else ", ".join(different) or NOTHING)
        rows.append((Cell(package), Cell(version), Cell(parts[0]), Cell(parts[1])))
    return Table("Packages", columns("package", "version", "made", "validated"), tuple(rows))


def pairs_table(caption: str, pairs: Iterable[tuple[str, Any]]) -> Table:
    """Names and values."""
    rows = tuple((Cell(name), Cell("not known" if value is None else str(value))) for name, value in pairs)
    return Table(caption, (("what", False), ("value", False)), rows)


def words_table(caption: str, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Columns of words."""
    return Table(caption, tuple((title, False) for title in titles), tuple(tuple(Cell(text) for text in row) for row in rows))


def operations_table(inputs: Inputs) -> Table:
    """Operations by name, a column a file."""
    total: Counter[str] = Counter()
    for facts in inputs.files:
        total.update(facts.manifest["file"]["ops"])
    rows = [(Cell(name), *(number(facts.manifest["file"]["ops"].get(name, 0), 0) for facts in inputs.files)) for name in sorted(total)]
    return Table("Operations", (("operation", False), *((facts.label, True) for facts in inputs.files)), tuple(rows))


def _top1(facts: FileFacts) -> Cell:
    for document in facts.validations:
        if document.content["accuracy"]:
            return number(document.content["accuracy"]["target"]["top1"]["value"], 2, 100)
    return Cell("not known")


def _median(facts: FileFacts) -> Cell:
    """Of the CPU with the fewest threads."""
    rows = sorted(
        (row for row in facts.host if row.measured and row.result["delegate"] == "cpu"), key=lambda row: (row.group[2], not row.usable)
    )
    if not rows:
        return Cell("not measured")
    median, threads = rows[0].result["median_ms"], rows[0].group[2]
    words = f"{median:.2f}" + (f" ({threads} threads)" if threads != 1 else "")
    return Cell(words if rows[0].usable else f"{words}, not valid", median, "" if rows[0].usable else WARN)


def _validity(result: Mapping[str, Any]) -> Cell:
    if result["status"] != "ok":
        return Cell(result["status"], mark=BAD if result["status"] == "wrong" else WARN)
    if result["software_gpu"]:
        return Cell("software GPU", mark=WARN)
    return Cell("valid", mark=GOOD) if result["valid"] else Cell("not valid", mark=WARN)
