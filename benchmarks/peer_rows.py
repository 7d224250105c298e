"""Rows of results/peers.csv, and the sentences that follow from them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

OURS, OPENVINO, ONNX_RUNTIME = "tfvit", "OpenVINO", "ONNX Runtime"
# Our int8's latency over the peer's fastest int8's, at most; and over the fastest of all of them
TARGETS = {OPENVINO: 1.0, ONNX_RUNTIME: 0.65}
TARGET_OF_ALL = 0.9
COLUMNS = (
    "peer",
    "version",
    "model",
    "precision",
    "threads",
    "size_mb",
    "median_ms",
    "p5_ms",
    "p95_ms",
    "ratio",
    "ratio_low",
    "ratio_high",
    "our_int8_to_this",
    "our_int8_low",
    "our_int8_high",
    "logits_snr_db",
    "cpu",
    "runs",
    "valid",
    "invalid_reasons",
    "status",
    "reason",
)


def nothing_measured(cpu: str, status: str, reason: str | None) -> dict[str, str]:
    """The columns of a row without figures."""
    return {**dict.fromkeys(COLUMNS, ""), "cpu": cpu, "runs": "0", "valid": "false", "status": status, "reason": reason or ""}


def read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def fastest_int8(rows: Sequence[Mapping[str, str]], peer: str | None = None) -> Mapping[str, str] | None:
    """Of a peer's measured rows that compute on 8 bits, or of all others'; `rows` are of one model and number of threads."""
    others = [row for row in rows if (row["peer"] != OURS if peer is None else row["peer"] == peer)]
    measured = [row for row in others if "int8" in row["precision"] and row["median_ms"]]
    return min(measured, key=lambda row: float(row["median_ms"]), default=None)


def verdicts(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """What the rows of one model and number of threads say of our int8: the target for each peer and for all, then who is faster.

    An interval on both sides of a limit decides nothing.
    """
    sentences = []
    for peer, most in TARGETS.items():
        other = fastest_int8(rows, peer)
        if other is None:
            sentences.append(f"{peer} has no int8 file that ran.")
            continue
        sentences.append(_held(other, f"{peer}'s fastest int8 ({other['precision']})", most))
    fastest = fastest_int8(rows)
    if fastest is not None:
        sentences.append(_held(fastest, f"the fastest int8 of all others ({fastest['peer']}, {fastest['precision']})", TARGET_OF_ALL))
    others = sorted((row for row in rows if row["peer"] != OURS and row["our_int8_to_this"]), key=lambda row: float(row["median_ms"]))
    faster = [row for row in others if float(row["our_int8_low"]) > 1.0]
    equal = [row for row in others if float(row["our_int8_low"]) <= 1.0 <= float(row["our_int8_high"])]
    sentences.append(f"**Faster than our int8: {_named(faster)}.**" if faster else "Nothing here is seen to be faster than our int8.")
    if equal:
        sentences.append(f"Not told apart from it: {_named(equal)}.")
    return sentences


def _held(other: Mapping[str, str], name: str, most: float) -> str:
    low, high = float(other["our_int8_low"]), float(other["our_int8_high"])
    verdict = "holds" if high <= most else "does **not** hold" if low > most else "**not decided** by this run"
    return f"Our int8 takes {_interval(other)} of {name}; target at most {most:g}: {verdict}."


def _named(rows: Iterable[Mapping[str, str]]) -> str:
    return ", ".join(f"{row['peer']} {row['precision']} (ours takes {_interval(row)} of its time)" for row in rows)


def _interval(row: Mapping[str, str]) -> str:
    return f"{row['our_int8_to_this']} ({row['our_int8_low']} to {row['our_int8_high']})"


def kinds_of_reasons(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Why rows are not valid, each kind once, without its figures."""
    reasons = (reason for row in rows for reason in row["invalid_reasons"].split("; ") if reason)
    return list(dict.fromkeys(re.split(r":| by \d| after \d", reason)[0] for reason in reasons))
