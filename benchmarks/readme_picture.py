"""The README's picture: tiny224 on one CPU thread, each tool's fastest int8 file and its float32 file."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import peer_rows
from PIL import Image

MODEL, THREADS = "tiny224", "1"
# Text chunk of the PNG with the SHA-256 of the rows it was drawn from
DRAWN_FROM = "Drawn from"
OURS, OTHERS, FLOAT = "#0b57d0", "#8a94a6", "#d3d8e0"


def drawing(results: Path) -> bytes:
    """A PNG of results/peers.csv."""
    from matplotlib.figure import Figure

    rows = [row for row in peer_rows.read_rows(results) if (row["model"], row["threads"]) == (MODEL, THREADS)]
    peers = dict.fromkeys(row["peer"] for row in rows)
    shown = [row for peer in peers if (row := peer_rows.fastest_int8(rows, peer))]
    shown += [row for row in rows if row["precision"] == "float32"]
    shown.sort(key=lambda row: float(row["median_ms"]))
    figure = Figure(figsize=(9, 0.36 * len(shown) + 1.1), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(shown):
        ms, ours, is_float = float(row["median_ms"]), row["peer"] == peer_rows.OURS, row["precision"] == "float32"
        colour = OURS if ours else FLOAT if is_float else OTHERS
        axes.barh(place, ms, color=colour, alpha=0.45 if ours and is_float else 1.0, height=0.72)
        mark = "" if row["valid"] == "true" else " *"
        text = f"{ms:.1f} ms{mark}   {row['size_mb']} MB   {float(row['logits_snr_db']):.1f} dB"
        axes.text(ms + 1, place, text, va="center", fontsize=9, weight="bold" if ours and not is_float else "normal")
    axes.set_yticks(range(len(shown)), [f"{row['peer']}, {row['precision']}" for row in shown], fontsize=9)
    axes.invert_yaxis()
    slowest = max(float(row["median_ms"]) for row in shown)
    axes.set_xlim(0, 1.5 * slowest)  # room for the words beside the longest bar
    axes.set_xticks(range(0, int(slowest) + 1, 20))
    axes.spines["bottom"].set_bounds(0, slowest)
    axes.set_xlabel("median ms of one inference; size of the file; signal-to-noise ratio of the logits against PyTorch", fontsize=9)
    axes.set_title(f"{MODEL} on one CPU thread: each tool's fastest int8 file, and float32", fontsize=11, loc="left", weight="bold")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=9)
    if any(row["valid"] != "true" for row in shown):
        reasons = ", ".join(peer_rows.kinds_of_reasons(row for row in shown if row["valid"] != "true"))
        figure.supxlabel(f"* not a valid measurement: {reasons}", fontsize=8, x=0.99, ha="right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None, DRAWN_FROM: _hash(results)})
    return buffer.getvalue()


def is_drawn_from(picture: Path, results: Path) -> bool:
    """Whether a picture shows these results."""
    with Image.open(picture) as image:
        return image.info.get(DRAWN_FROM) == _hash(results)


def _hash(results: Path) -> str:
    return hashlib.sha256(results.read_bytes()).hexdigest()
