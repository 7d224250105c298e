"""Latency against file size, one colour a peer: docs/figures/peers.png."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")


def drawing(rows: Sequence[Mapping[str, str]]) -> bytes:
    """One panel for every model and number of threads. A PNG."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if row["median_ms"]]
    models, threads = list(dict.fromkeys(row["model"] for row in rows)), sorted({row["threads"] for row in rows})
    colours = {peer: f"C{index}" for index, peer in enumerate(dict.fromkeys(row["peer"] for row in rows))}
    markers = dict(zip(dict.fromkeys(row["precision"] for row in rows), itertools.cycle(MARKERS), strict=False))
    figure = Figure(figsize=(6.5 * len(threads), 4.5 * len(models) + 1), layout="constrained")
    grid = figure.subplots(len(models), len(threads), squeeze=False)
    for model, line in zip(models, grid, strict=True):
        for count, axes in zip(threads, line, strict=True):
            for row in rows:
                if (row["model"], row["threads"]) == (model, count):
                    axes.plot(
                        float(row["size_mb"]),
                        float(row["median_ms"]),
                        markers[row["precision"]],
                        color=colours[row["peer"]],
                        markersize=8,
                        alpha=0.8,
                    )
            axes.set(title=f"{model}, {count} thread{'s' if count != '1' else ''}", xlabel="file, MB", ylabel="median ms an inference")
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
    axes = grid[0][0]
    legend = [axes.plot([], [], "o", color=colour, label=peer)[0] for peer, colour in colours.items()]
    legend += [axes.plot([], [], marker, color="grey", label=precision)[0] for precision, marker in markers.items()]
    figure.legend(handles=legend, loc="outside lower center", ncols=4, title="random weights; colour: tool, shape: precision")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()
