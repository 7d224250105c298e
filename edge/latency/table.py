"""What `edge.benchmark` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from edge.runtime.process import OK


def table(document: dict[str, Any]) -> tuple[Sequence[str], Sequence[Sequence[str]], list[str]]:
    """Column titles, rows, and the lines below them."""
    percentile = document["preset"]["headline"]
    headline = f"p{percentile}_ms" if percentile != 50 else "median_ms"
    columns = (
        "file",
        "delegate",
        "threads",
        "init ms",
        "first ms",
        headline.replace("_", " "),
        "p5 to p95",
        "runs",
        "ratio",
        "MB",
        "ops",
        "status",
    )
    rows, closing = [], []
    names = distinct_names([result["file"] for result in document["results"]])
    for result in document["results"]:
        ran = result["median_ms"] is not None
        rows.append(
            (
                names[result["file"]] + (f" ({result['signature']})" if _one_of_several(result) else ""),
                result["delegate"],
                str(result["threads"] or ""),
                _number(result["init_ms"], 0),
                _number(result["first_inference_ms"], 1),
                _number(result[headline], 2) + (" software GPU" if result["software_gpu"] else ""),
                f"{result['p5_ms']:.2f} to {result['p95_ms']:.2f}" if ran else "",
                str(result["num_runs"] or ""),
                _ratio(result),
                _number(result["peak_mem_mb"], 0),
                f"{result['delegated_ops']}/{result['total_ops']}" if result["delegated_ops"] is not None else "",
                result["status"] if not ran or result["valid"] else f"{result['status']}, not valid",
            )
        )
        threads = f", {result['threads']} thread{'s' if result['threads'] != 1 else ''}" if result["threads"] else ""
        name = f"{names[result['file']]} on {result['delegate']}{threads}"
        if result["status"] != OK:
            closing.append(f"{name}: {result['status']}: {result['reason']}")
            closing += [f"  {refused['op']}: {refused['reason']}" for refused in result["refused"][:10]]
        closing += [f"{name}: not valid: {reason}" for reason in result["invalid_reasons"]]
        closing += [f"{name}: {remark}" for remark in result["remarks"]]
        if result.get("curve"):
            closing.append(f"{name}: {result['slowdown']:+.1%} from the first third to the last {_sparkline(result['curve'])}")
    closing += [f"ran on {ran_on}" for ran_on in dict.fromkeys(result["ran_on"] for result in document["results"] if result["ran_on"])]
    environment = document["environment"]
    closing.append(f"machine: {environment['cpu']}, {environment['cores']} cores, {environment['system']}")
    if any(result["software_gpu"] for result in document["results"]):
        closing.append(
            "A software GPU computes on the CPU: that it takes a file and what it answers means something, its milliseconds do not."
        )
    if any(result["random_weights"] for result in document["results"]):
        closing.append("RANDOM weights: latency does not depend on them, answers do.")
    return columns, rows, closing


def _one_of_several(result: dict[str, Any]) -> bool:
    return any(remark.startswith("signature ") for remark in result["remarks"])


def distinct_names(paths: Sequence[str]) -> dict[str, str]:
    """Path -> the shortest end of it that no other path has."""
    found = {}
    for path in paths:
        parts = PurePath(path).parts
        ends = [PurePath(*parts[-length:]) for length in range(1, len(parts) + 1)]
        others = [PurePath(other) for other in paths if other != path]
        found[path] = str(next((end for end in ends if not any(_ends_with(other, end) for other in others)), path))
    return found


def _ends_with(path: PurePath, end: PurePath) -> bool:
    return path.parts[-len(end.parts) :] == end.parts


def _sparkline(curve: Sequence[dict[str, float]]) -> str:
    """The medians as a row of bars, from their least (lowest) to their most."""
    medians = [point["median_ms"] for point in curve]
    least, most = min(medians), max(medians)
    bars = "▁▂▃▄▅▆▇█"
    heights = [int((value - least) / (most - least) * (len(bars) - 1)) if most > least else 0 for value in medians]
    return f"{''.join(bars[height] for height in heights)} {least:.2f} to {most:.2f} ms"


def _ratio(result: dict[str, Any]) -> str:
    if result["ratio"] is None:
        return ""
    if result["ratio_low"] == result["ratio_high"]:  # the first file's own, or of a single round
        return f"{result['ratio']:.3g}"
    return f"{result['ratio']:.3f} ({result['ratio_low']:.3f} to {result['ratio_high']:.3f})"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
