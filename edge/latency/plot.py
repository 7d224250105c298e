"""Latency drawn: distributions side by side, or the course of a sustained run. Milliseconds of a software GPU are never drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.artifacts.atomic_files import png
from edge.latency.protocol import Times


def distributions(results: Sequence[Mapping[str, Any]], times: Sequence[Times | None]) -> bytes:
    """One box a result: quartiles, whiskers from p5 to p95, every inference as a dot. A PNG."""
    import numpy as np
    from matplotlib.figure import Figure

    drawn = [(result, own.all) for result, own in zip(results, times, strict=True) if own is not None and not result["software_gpu"]]
    figure = Figure(figsize=(9, 1.6 + 0.5 * max(len(drawn), 1)), layout="constrained")
    axes = figure.subplots()
    if drawn:
        axes.boxplot([values for _, values in drawn], orientation="horizontal", whis=(5, 95), showfliers=False, widths=0.5)
        generator = np.random.default_rng(0)
        for position, (_, values) in enumerate(drawn, start=1):
            axes.plot(values, position + generator.uniform(-0.18, 0.18, len(values)), ".", color="tab:blue", markersize=2, alpha=0.4)
        axes.set_yticks(range(1, len(drawn) + 1), [_label(result) for result, _ in drawn])
        axes.set_xlim(left=0, right=1.15 * max(float(np.percentile(values, 98)) for _, values in drawn))
        axes.invert_yaxis()
    axes.set(xlabel="ms an inference, outputs read back (box: quartiles, whiskers: p5 and p95)")
    axes.grid(axis="x", alpha=0.3)
    return png(figure)


def course(results: Sequence[Mapping[str, Any]]) -> bytes:
    """Median and p90 over the seconds of a sustained run. A PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for result in results:
        if not result.get("curve") or result["software_gpu"]:
            continue
        seconds = [point["seconds"] for point in result["curve"]]
        (line,) = axes.plot(seconds, [point["median_ms"] for point in result["curve"]], label=_label(result))
        axes.fill_between(
            seconds,
            [point["median_ms"] for point in result["curve"]],
            [point["p90_ms"] for point in result["curve"]],
            color=line.get_color(),
            alpha=0.2,
        )
    axes.set(xlabel="seconds of inference without a pause", ylabel="ms an inference (line: median, area: up to p90)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    return png(figure)


def _label(result: Mapping[str, Any]) -> str:
    threads = f", {result['threads']} thread{'s' if result['threads'] > 1 else ''}" if result["threads"] else ""
    return f"{Path(result['file']).stem}\n{result['delegate']}{threads}{'' if result['valid'] else ' (not valid)'}"
