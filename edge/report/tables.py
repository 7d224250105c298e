"""The report's tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edge.artifacts.artifact import assumed
from edge.report.checks import Check
from edge.report.device import DeviceRow
from edge.report.elements import BAD, GOOD, NOTHING, WARN, Cell, Column, Table, passed_cell, table, words_table
from edge.report.inputs import FileFacts, HostRow, Inputs

# Files side by side in one table
_MOST_COLUMNS = 8


def marked_label(facts: FileFacts) -> str:
    """The file's label, and whether its weights are random."""
    return f"{facts.label} (RANDOM weights)" if facts.random else facts.label


def anchor(inputs: Inputs, label: str) -> str:
    """The id of a file's row in `files_table`."""
    return f"file-{[facts.label for facts in inputs.files].index(label) + 1}"


def files_table(inputs: Inputs, found: Sequence[Check]) -> Table:
    """What each file is, what it costs, and whether its checks passed."""

    def checks(facts: FileFacts) -> Cell:
        own = [check for check in found if check.file == facts.label]
        failed = [check.name for check in own if not check.passed]
        if failed:
            return Cell(f"failed: {', '.join(dict.fromkeys(failed))}", float(len(failed)), BAD)
        unsure = assumed(facts.manifest)
        return Cell(f"{len(own)} passed, ASSUMED: {', '.join(unsure)}", 0.5, WARN) if unsure else Cell(f"{len(own)} passed", 0.0, GOOD)

    columns = [
        Column("file", "label"),
        Column("checks", checks),
        Column("weights", lambda facts: Cell("RANDOM", mark=WARN) if facts.random else facts.manifest["weights"]["source"]),
        Column("MB", "size_bytes", ".2f", 1e-6),
        Column("top-1 %", _top1, ".2f", 100),
        Column("logits SNR dB", "manifest.drift.logits_snr_db", ".1f"),
        Column("CPU median ms", _median, ".2f"),
        Column("XNNPACK operations in partitions", _xnnpack, ".0f"),
        Column("GPU by rule", lambda facts: _gpu_verdict(facts, good="")),
        Column("needs TFLite", lambda facts: facts.manifest["file"]["min_runtime_version"] or "unknown"),
    ]
    return table("The files", columns, inputs.files, [anchor(inputs, facts.label) for facts in inputs.files])


def checks_table(found: Sequence[Check]) -> Table:
    """Every check, failed ones first."""
    columns = [
        Column("file", "file"),
        Column("check", "name"),
        Column("result", lambda check: passed_cell(check.passed)),
        Column("found", "detail"),
    ]
    return table("Every check", columns, sorted(found, key=lambda check: check.passed))


def host_table(rows: Sequence[tuple[FileFacts, HostRow]], caption: str) -> Table:
    """Latency on this machine: the rows of one run, delegate and number of threads."""
    columns = [
        Column("file", "file"),
        Column("valid", _validity),
        Column("median ms", "median_ms", ".2f"),
        Column(f"ratio to {rows[0][1].first.removesuffix('.tflite')}", _ratio, ".3f"),
        *_spread(mean="mean_ms"),
        Column("load ms", "init_ms", ".1f"),
        Column("first ms", "first_inference_ms", ".1f"),
        Column("runs", "num_runs", ".0f"),
        Column("seconds", "seconds", ".1f"),
        Column("peak MB", "peak_mem_mb", ".0f"),
    ]
    return table(caption, columns, [{**row.result, "file": facts.label} for facts, row in rows])


def phone_table(rows: Sequence[tuple[str, DeviceRow]], caption: str) -> Table:
    """Latency on one device."""

    def parity(row: Mapping[str, Any]) -> Cell | None:
        return row["parity"] and Cell(*(("passed", None, GOOD) if row["parity"]["passed"] else ("failed", None, BAD)))

    columns = [
        Column("file", "file"),
        Column("valid", _valid),
        Column("ran on", lambda row: Cell(row["backend_used"], mark="" if row["as_asked"] else WARN)),
        Column("threads", "threads", ".0f"),
        Column("median ms", "median_ms", ".2f"),
        *_spread(mean="avg_ms"),
        Column("load ms", "init_ms", ".1f"),
        Column("first ms", "first_inference_ms", ".1f"),
        Column("runs", "num_runs", ".0f"),
        Column("peak MB", "peak_mem_mb", ".0f"),
        Column("thermal", lambda row: row["thermal"] and f"{row['thermal']['status_start']} to {row['thermal']['status_end']}"),
        Column("parity with the host", parity),
    ]
    return table(caption, columns, [{**row.result, "file": label, "as_asked": row.as_asked} for label, row in rows])


def drift_table(inputs: Inputs) -> Table:
    """Each file against the float Keras model, by its manifest, and the limits of its gate."""

    def repair(facts: FileFacts) -> Cell:
        demoted = _demoted(facts)
        return Cell(f"{len(demoted)} layers demoted" if demoted else "none", float(len(demoted)))

    columns = [
        Column("file", marked_label),
        Column("gate", lambda facts: passed_cell(facts.manifest["drift"]["passed"])),
        Column("logits SNR dB", "manifest.drift.logits_snr_db", ".1f"),
        Column("at least", "manifest.drift.limits.min_snr_db", ".0f"),
        Column("same top-1 %", "manifest.drift.top1_agreement", ".2f", 100),
        Column("at least", lambda facts: "not applied" if facts.random else facts.manifest["drift"]["limits"]["min_agreement"], ".1f", 100),
        Column("top-5 overlap %", "manifest.drift.top5_agreement", ".2f", 100),
        Column("cosine", "manifest.drift.cosine", ".6f"),
        Column("KL", "manifest.drift.kl", ".3g"),
        Column("largest error of a probability", "manifest.drift.max_abs_err", ".3g"),
        Column("images", "manifest.drift.samples", ".0f"),
        Column("source", "manifest.drift.source"),
        Column("repair", repair),
    ]
    return table("Drift against the float Keras model", columns, inputs.files)


def other_outputs_table(inputs: Inputs) -> Table | None:
    """The outputs behind the first of files that have several, each with the gate that fits it; None where no file has."""
    rows = [
        {"file": marked_label(facts), "output": output, "random": facts.random}
        for facts in inputs.files
        for output in facts.manifest.get("other_outputs", ())
    ]
    columns = [
        Column("file", "file"),
        Column("output", "output.name"),
        Column("what it gives", lambda row: row["output"]["meaning"].replace("_", " ")),
        Column("gate", lambda row: passed_cell(row["output"]["drift"]["passed"])),
        Column("logits SNR dB", "output.drift.logits_snr_db", ".1f"),
        Column("at least", "output.drift.limits.min_snr_db", ".0f"),
        Column("same top-1 %", "output.drift.top1_agreement", ".2f", 100),
        Column("cosine", "output.drift.cosine", ".6f"),
        Column("largest error", "output.drift.max_abs_err", ".3g"),
    ]
    return table("Further outputs of files with several", columns, rows) if rows else None


def repairs_table(inputs: Inputs) -> Table | None:
    """The layers that were kept in more bits so that a file passes its gate; None where there are none."""
    rows = [{**layer, "file": facts.label} for facts in inputs.files for layer in _demoted(facts)]
    return table("Layers demoted by repair", [Column(name, name) for name in ("file", "layer", "before", "after")], rows) if rows else None


def delegates_table(inputs: Inputs) -> Table:
    """What each delegate takes of each file."""

    def left_over(facts: FileFacts) -> str:
        return ", ".join(f"{count} {name}" for name, count in sorted(facts.manifest["delegates"]["xnnpack"]["left_over"].items())) or "none"

    columns = [
        Column("file", "label"),
        Column("operations", "manifest.delegates.xnnpack.total_ops", ".0f"),
        Column("XNNPACK takes", "manifest.delegates.xnnpack.delegated_ops", ".0f"),
        Column("partitions", "manifest.delegates.xnnpack.partitions", ".0f"),
        Column("XNNPACK leaves", left_over),
        Column("GPU", lambda facts: _gpu_verdict(facts, good=GOOD)),
        Column("GPU refuses", lambda facts: len(facts.manifest["delegates"]["gpu"]["refused"]), ".0f"),
        Column("Ethos-U NPU leaves", _left_by_npu),
    ]
    return table("What the delegates take", columns, inputs.files)


def refusals_table(inputs: Inputs) -> Table | None:
    """Why not the GPU: one row for each file, operation and reason; None where nothing is refused."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for facts in inputs.files:
        for one in sorted(facts.manifest["delegates"]["gpu"]["refused"], key=lambda one: (one["op"], one["reason"])):
            groups.setdefault((facts.label, one["op"], one["reason"]), []).append(one["layer"])

    def some(layers: Sequence[str]) -> str:
        different = list(dict.fromkeys(layers))
        return ", ".join(different[:3]) + (f" and {len(different) - 3} more" if len(different) > 3 else "")

    columns = [
        Column("file", lambda key: key[0]),
        Column("operation", lambda key: key[1]),
        Column("times", lambda key: len(groups[key]), ".0f"),
        Column("reason", lambda key: key[2]),
        Column("layers", lambda key: some(groups[key])),
    ]
    return table("Why not the GPU", columns, groups) if groups else None


def calibration_table(inputs: Inputs) -> Table:
    """Which images gave the activation ranges."""
    none = {"source": "none needed", "samples": None, "seed": None, "sha256": None}
    columns = [
        Column("file", "file"),
        Column("images", "source"),
        Column("number", "samples", ".0f"),
        Column("seed", "seed", ".0f"),
        Column("SHA-256 begins", lambda used: used["sha256"] and used["sha256"][:16]),
    ]
    rows = [{**(facts.manifest.get("calibration") or none), "file": facts.label} for facts in inputs.files]
    return table("Calibration", columns, rows)


def image_checks_table(content: Mapping[str, Any], caption: str) -> Table:
    """The checks of calibration.inspect."""
    marks = {"ok": GOOD, "warn": WARN, "fail": BAD}
    columns = [
        Column("check", "name"),
        Column("result", lambda one: Cell(one["status"], mark=marks[one["status"]])),
        Column("found", "detail"),
    ]
    return table(caption, columns, content["checks"])


def versions_table(inputs: Inputs) -> Table:
    """Exact versions of the packages that made the files, and of those that validated them."""
    used: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for facts in inputs.files:
        for index, tools in [(0, facts.manifest["tools"]), *((1, document.content["tools"]) for document in facts.validations)]:
            for key in tools.items():
                used.setdefault(key, ([], []))[index].append(facts.label)

    def files(labels: Sequence[str]) -> str:
        different = dict.fromkeys(labels)
        return "all files" if len(different) == len(inputs.files) else ", ".join(different) or NOTHING

    rows = [(package, version, files(made), files(validated)) for (package, version), (made, validated) in sorted(used.items())]
    return words_table("Packages", ("package", "version", "made", "validated"), rows)


def operations_table(inputs: Inputs) -> Table:
    """Operations by name, one column for each file; of many files, a row each."""
    counts = {facts.label: Counter(facts.manifest["file"]["ops"]) for facts in inputs.files}
    if len(counts) > _MOST_COLUMNS:
        rows = [(label, ", ".join(f"{count} {name}" for name, count in ops.most_common())) for label, ops in counts.items()]
        return words_table("Operations", ("file", "operations"), rows)
    columns = [Column("operation", str), *(Column(label, ops.__getitem__, ".0f") for label, ops in counts.items())]
    return table("Operations", columns, sorted({name for ops in counts.values() for name in ops}))


def _spread(mean: str) -> list[Column]:
    """The distribution of a measurement; `mean` is the name of the mean's field."""
    names = {"p5": "p5_ms", "p90": "p90_ms", "p95": "p95_ms", "mean": mean, "stddev": "stddev_ms", "min": "min_ms", "max": "max_ms"}
    return [Column(title, name, ".2f") for title, name in names.items()]


def _demoted(facts: FileFacts) -> Sequence[Mapping[str, str]]:
    return (facts.manifest.get("repair") or {}).get("demoted", [])


def _gpu_verdict(facts: FileFacts, good: str) -> Cell:
    verdict = facts.manifest["delegates"]["gpu"]["verdict"]
    return Cell(verdict, mark=good if verdict == "whole" else WARN)


def _left_by_npu(facts: FileFacts) -> Cell:
    npu = facts.manifest["delegates"].get("npu")
    if npu is None:
        return Cell("not asked")
    left = sum(one["operations"] for one in npu["on_cpu"])
    return Cell(f"{left} operations" if left else "none", left, "" if left else GOOD)


def _xnnpack(facts: FileFacts) -> Cell:
    found = facts.manifest["delegates"]["xnnpack"]
    words = f"{found['delegated_ops']} of {found['total_ops']} in {found['partitions']}"
    return Cell(words, found["delegated_ops"] / max(found["total_ops"], 1), "" if facts.whole_on_xnnpack else WARN)


def _top1(facts: FileFacts) -> float | str:
    accuracies = (document.content["accuracy"] for document in facts.validations)
    return next((accuracy["target"]["top1"]["value"] for accuracy in accuracies if accuracy), "not known")


def _median(facts: FileFacts) -> Cell:
    """The CPU median with the fewest threads."""
    rows = [row for row in facts.host if row.measured and row.result["delegate"] == "cpu"]
    if not rows:
        return Cell("not measured")
    row = min(rows, key=lambda row: (row.group[2], not row.usable))
    median, threads = row.result["median_ms"], row.group[2]
    words = f"{median:.2f}" + (f" ({threads} threads)" if threads != 1 else "")
    return Cell(words, median) if row.usable else Cell(f"{words}, not valid", median, WARN)


def _ratio(result: Mapping[str, Any]) -> Cell | Mapping[str, float] | None:
    """The ratio of medians with its interval; 1 for the file that the others are compared with."""
    ratio, low, high = (result.get(name) for name in ("ratio", "ratio_low", "ratio_high"))
    if ratio is None or low is None or high is None or result["software_gpu"]:
        return None
    return Cell("1", ratio) if low == high else {"value": ratio, "low": low, "high": high}


def _validity(result: Mapping[str, Any]) -> Cell:
    if result["status"] != "ok":
        return Cell(result["status"], mark=BAD if result["status"] == "wrong" else WARN)
    return Cell("software GPU", mark=WARN) if result["software_gpu"] else _valid(result)


def _valid(result: Mapping[str, Any]) -> Cell:
    return Cell("valid", mark=GOOD) if result["valid"] else Cell("not valid", mark=WARN)
