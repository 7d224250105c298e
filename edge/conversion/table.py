"""What `edge.convert` says of its cells: the table, the JSON document, the file it keeps, the exit code."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.artifacts import artifact, atomic_files
from edge.artifacts.atomic_files import png
from edge.conversion.cells import Cell
from edge.drift.meanings import ACTIVATIONS, CLASS_MAP, FEATURES, LABELS
from edge.quantization.recipes import DYNAMIC, DYNAMIC4, STATIC
from edge.quantization.repair import Sensitivity
from edge.runtime import machine
from tfvit.errors import EXIT_BUG, EXIT_CHECK_FAILED, EXIT_OK, UserError

KIND, SCHEMA_VERSION = "conversions", 1
_COLUMNS = ("file", "MB", "SNR dB", "same top-1", "max abs err", "XNNPACK ops", "partitions", "GPU by rule", "status")
_LAYERS_SHOWN = 8


class SavedCells:
    """A JSON file that holds what is known of the cells so far.

    Args:
        path: the file, or None for none. Where this run finds a file current that an earlier one made, the seconds and the memory that were
            measured then are kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._rows = path, _earlier_rows(path)

    def add(self, cell: Cell) -> None:
        if self._path is None:
            return
        row, before = _row(cell), self._rows.get(cell.name)
        if before and cell.status == "current" and before.get("sha256") == row["sha256"]:
            row |= {name: before.get(name) for name in ("seconds", "shared_seconds", "peak_memory_mb")}
        self._rows[cell.name] = row
        atomic_files.save_document(self._path, {"kind": KIND, "schema_version": SCHEMA_VERSION, "cells": list(self._rows.values())})


def require_some(cells: Sequence[Cell]) -> None:
    """Checks that something came of it.

    Raises:
        Exception: what every cell failed of, if it is the same.
    """
    errors = [cell.error for cell in cells if cell.error is not None]
    if len(errors) == len(cells) and len({str(error) for error in errors}) == 1:
        raise errors[0]


def table(cells: Sequence[Cell], explained: bool = False) -> tuple[Sequence[str], Sequence[Sequence[str]], list[str]]:
    """Column titles, rows, and the lines below them: of layers the worst few, or all where they were asked for."""
    most = None if explained else _LAYERS_SHOWN
    rows, closing = [], []
    for cell in cells:
        if cell.error is not None:
            closing.append(f"{cell.name}: {_failure(cell.error)}")
        if cell.outcome is None:
            rows.append((cell.name, *[""] * (len(_COLUMNS) - 2), "failed"))
            continue
        rows.append(_table_row(cell.outcome))
        closing += [f"{cell.outcome.path.name}: {failure}" for failure in cell.outcome.failures]
        closing += [
            *_other_output_lines(cell.outcome),
            *_agreement_lines(cell.outcome),
            *repair_lines(cell.outcome, most),
            *sensitivity_lines(cell.outcome, most),
        ]
        assumed = artifact.assumed(cell.outcome.manifest)
        if assumed:
            closing.append(f"{cell.outcome.path.name}: ASSUMED: {', '.join(assumed)}; the file is right only where that is")
    if any(cell.outcome.manifest["weights"]["random"] for cell in cells if cell.outcome):
        closing.append("RANDOM weights: size, latency and drift mean something, the answers do not.")
    return _COLUMNS, rows, closing


def counts(cells: Sequence[Cell]) -> list[str]:
    """Lines that say how many files there are not."""
    refused, failed = (sum(cell.status == status for cell in cells) for status in ("refused", "failed"))
    lines = []
    if refused:
        lines.append(f"{refused} of {len(cells)} files were NOT written: they missed their limits (--no-gate writes them anyway)")
    if failed:
        lines.append(f"{failed} of {len(cells)} files FAILED")
    return lines


def document(cells: Sequence[Cell], seconds: dict[str, float]) -> dict[str, Any]:
    """All of it as JSON."""
    outcomes = [cell.outcome for cell in cells if cell.outcome]
    return {
        "folder": str(outcomes[0].path.parent) if outcomes else None,
        "artifacts": [
            {
                "name": cell.name,
                "status": cell.status,
                "failures": list(cell.outcome.failures),
                "seconds": cell.seconds,
                "sensitivities": [dataclasses.asdict(sensitivity) for sensitivity in cell.outcome.sensitivities],
                "repair_ms": cell.outcome.repair_ms,
                "manifest": cell.outcome.manifest,
            }
            for cell in cells
            if cell.outcome
        ],
        "cells": [_row(cell) for cell in cells],
        "seconds": seconds,
        "peak_memory_mb": peak_memory_mb(cells),
    }


def peak_memory_mb(cells: Sequence[Cell]) -> int | None:
    """Of the process that took most."""
    return max((cell.peak_memory_mb for cell in cells if cell.peak_memory_mb), default=machine.peak_memory_mb())


def exit_code(cells: Sequence[Cell]) -> int:
    codes = {cell.error.exit_code if isinstance(cell.error, UserError) else EXIT_BUG for cell in cells if cell.error is not None}
    if len(codes) == 1 and all(cell.error is not None for cell in cells):
        return codes.pop()
    return EXIT_CHECK_FAILED if codes or any(cell.outcome.failures for cell in cells if cell.outcome) else EXIT_OK


def _row(cell: Cell) -> dict[str, Any]:
    file = cell.outcome.manifest["file"] if cell.outcome else {}
    return {
        "model": cell.model,
        "recipe": cell.recipe,
        "name": cell.name,
        "status": cell.status,
        "error": None if cell.error is None else _failure(cell.error),
        "failures": list(cell.outcome.failures) if cell.outcome else [],
        "sha256": file.get("sha256"),
        "size_bytes": file.get("size_bytes"),
        "seconds": cell.seconds,
        "shared_seconds": cell.shared_seconds,
        "peak_memory_mb": cell.peak_memory_mb,
    }


def _failure(error: Exception) -> str:
    """One line."""
    if isinstance(error, UserError):
        return f"{error.summary}: expected {error.expected}; received {error.received}; {error.action}"
    return f"a bug, please report it: {type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error).strip() else ''}"


def _earlier_rows(path: Path | None) -> dict[str, dict[str, Any]]:
    if path is None or not path.is_file():
        return {}
    try:
        return {row["name"]: row for row in json.loads(path.read_text(encoding="utf-8"))["cells"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _table_row(outcome: Any) -> tuple[str, ...]:
    manifest = outcome.manifest
    drift, xnnpack = manifest["drift"], manifest["delegates"]["xnnpack"]
    return (
        outcome.path.name,
        f"{manifest['file']['size_bytes'] / 1e6:.1f}",
        _shown(drift["logits_snr_db"], "{:.1f}"),
        _agreement(manifest),
        _shown(drift["max_abs_err"], "{:.1e}"),
        f"{xnnpack['delegated_ops']}/{xnnpack['total_ops']}",
        str(xnnpack["partitions"]),
        manifest["delegates"]["gpu"]["verdict"],
        outcome.status if not outcome.failures or outcome.status == "refused" else f"{outcome.status}, drift check failed",
    )


def _other_output_lines(outcome: Any) -> list[str]:
    """The outputs behind the first: what they are and what they are worth."""
    lines = []
    for output in outcome.manifest.get("other_outputs", ()):
        same = _agreement({"output": output, "drift": output["drift"]})
        lines.append(
            f"{outcome.path.name}: output {output['name']}, {output['meaning'].replace('_', ' ')}: "
            f"{_shown(output['drift']['logits_snr_db'], '{:.1f}')} dB{', ' if same else ''}{same}"
        )
    return lines


def _agreement_lines(outcome: Any) -> list[str]:
    found = outcome.manifest["drift"].get("agreement")
    if not found:
        return []
    shares = ("top1_agreement", "low", "high", "expected_changes", "expected_low", "expected_high")
    same, low, high, changes, least, most = (100 * found[name] for name in shares)
    return [
        f"{outcome.path.name}: same top-1 on {same:.1f} % of {found['samples']} more images ({low:.1f} to {high:.1f}), "
        f"by margins {100 - changes:.1f} % ({100 - most:.1f} to {100 - least:.1f})"
    ]


def repair_lines(outcome: Any, most: int | None) -> list[str]:
    """What was repaired, the worst `most` layers of it (None: all), and its cost."""
    block = outcome.manifest["repair"]
    if not block:
        return []
    lines = [f"{outcome.path.name}: repaired ({'; '.join(block['why'])}), {len(block['demoted'])} layers demoted:"]
    worst = sorted(block["demoted"], key=lambda step: float("-inf") if step["alone_snr_db"] is None else step["alone_snr_db"])
    lines += [f"  {step['layer']}: {step['before']} to {step['after']}, alone {step['alone_snr_db']} dB" for step in worst[:most]]
    lines += _left_out(worst, most, "the manifest names them")
    cost = f"  cost: {block['cost_bytes'] / 1e6:+.2f} MB"
    if outcome.repair_ms:
        before, after = outcome.repair_ms
        cost += f", {before:.2f} to {after:.2f} ms an image (LiteRT CPU, 1 thread, this machine, interleaved)"
    return [*lines, cost]


def sensitivity_lines(outcome: Any, most: int | None) -> list[str]:
    """What each of the worst `most` layers (None: of all) does alone."""
    if not outcome.sensitivities:
        return []
    worst = sorted(outcome.sensitivities, key=lambda sensitivity: sensitivity.snr_db)
    lines = [f"{outcome.path.name}: logits with one layer quantized and the rest in float, worst first"]
    width = max(len(sensitivity.layer) for sensitivity in worst[:most])
    lines += [
        f"  {sensitivity.layer:<{width}}  {sensitivity.mode:<8}  {sensitivity.snr_db:6.1f} dB  {_divergence(sensitivity.kl):11}  "
        f"{sensitivity.multiplications / 1e6:8.2f} M multiplications"
        for sensitivity in worst[:most]
    ]
    return [*lines, *_left_out(worst, most, "--explain shows them")]


def _divergence(kl: float) -> str:
    """Nothing where the output has no probabilities."""
    return f"KL {kl:.2e}" if kl else ""


def _left_out(layers: Sequence[Any], most: int | None, where: str) -> list[str]:
    left = len(layers) - len(layers[:most])
    return [f"  and {left} more: {where}"] if left else []


def _agreement(manifest: dict[str, Any]) -> str:
    """The same best class, the same labels; the cosine of an output that is no scores."""
    meaning, drift = artifact.meaning(manifest), manifest["drift"]
    if meaning in ACTIVATIONS:
        return _shown(drift["top1_agreement"], "{:.1%}") + {LABELS: " of labels", CLASS_MAP: " of places"}.get(meaning, "")
    return f"cosine {_shown(drift['cosine'], '{:.5f}')}" if meaning == FEATURES else ""


def _shown(value: float | None, form: str) -> str:
    return "NaN" if value is None else form.format(value)


_DRAWN = 40


def drawing(found: Sequence[Sensitivity], title: str) -> bytes:
    """The sensitivities as a bar chart, worst first: a PNG."""
    from matplotlib.figure import Figure

    worst = sorted(found, key=lambda sensitivity: sensitivity.snr_db)[:_DRAWN]
    figure = Figure(figsize=(9, 1.2 + 0.24 * len(worst)), layout="constrained")
    axes = figure.subplots()
    colours = {STATIC: "tab:blue", DYNAMIC: "tab:orange", DYNAMIC4: "tab:red"}
    labels = [f"{sensitivity.layer} ({sensitivity.mode})" for sensitivity in worst]
    axes.barh(labels, [sensitivity.snr_db for sensitivity in worst], color=[colours[sensitivity.mode] for sensitivity in worst])
    axes.invert_yaxis()
    axes.set(xlabel="logits SNR with this layer alone quantized, dB (less is worse)", title=title)
    axes.grid(axis="x", alpha=0.3)
    axes.tick_params(axis="y", labelsize=8)
    return png(figure)
