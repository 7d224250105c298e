"""Whether a delegate computes what another one computes: one judgement for `edge.benchmark` and `edge.inspect --gpu`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge.latency.subject import Subject
from edge.runtime.process import OK, LatencyProcess
from tfvit.errors import EnvironmentUnusableError

# |difference| / |output| in the L2 norm. In float32 only the order of additions differs; float16 and integers round differently in every
# kernel. Broken files are off by 0.5 and more.
MOST_DIFFERENCE, MOST_ROUNDED_DIFFERENCE = 1e-3, 0.15
# Two kernels that round the same integers in another way are both right; a third may be as far from each as they are from one another
_ROUNDING_FACTOR = 2.0
# Steps of an output's own integers that rounding alone may move it
_MOST_STEPS = 2.0
_LEAST_SCORE = 1e-6


@dataclasses.dataclass(frozen=True)
class Judgement:
    """How a delegate's outputs compare with another one's.

    Attributes:
        compared_with: the other delegate; None where nothing was compared.
        difference: |difference| / |output|, the largest of all outputs; may be NaN.
        wrong: a sentence where they differ by more than rounding explains, else None.
        words: what was compared, or why nothing was.
    """

    compared_with: str | None = None
    difference: float | None = None
    wrong: str | None = None
    words: str = ""


def judged(process: LatencyProcess, delegate: str, file: Subject) -> Judgement:
    """Compares a loaded process with another delegate on the same inputs.

    Args:
        process: of the file, on `delegate`.
        file: as both run it.
    """
    other = "builtin" if delegate == "cpu" else "cpu"
    if file.draws:
        return Judgement(words="not compared: the file draws random numbers")
    try:
        expected = _outputs(file, other)
        if expected is None:
            return Judgement(words=f"not compared: {other} cannot run the file")
        received = process.outputs()
    except EnvironmentUnusableError as error:
        return Judgement(words=f"not compared: {error.received}")
    found = difference(received, expected, file)
    most = MOST_DIFFERENCE if file.quantized is False and delegate != "gpu" else MOST_ROUNDED_DIFFERENCE
    compared = f"on {file.inputs}"
    if not found <= most and math.isfinite(found) and file.quantized and not within_steps(received, expected, file.steps):
        own = _own_rounding(file, other, expected)
        if own is not None:
            most = max(most, _ROUNDING_FACTOR * own)
            compared += f", where its CPU kernels differ from each other by {own:.2g}"
    elif file.quantized and within_steps(received, expected, file.steps):
        most = math.inf
    wrong = None
    if not found <= most:  # NaN is not
        what = "detections, as sets," if file.detections else "outputs"
        wrong = f"{what} differ from {other}'s by {found:.2g} of their size {compared}; at most {most:.2g}"
    return Judgement(other, found, wrong, compared)


def _outputs(file: Subject, delegate: str) -> dict[str, np.ndarray] | None:
    with LatencyProcess(file.path, delegate, 1, run=file.run) as process:
        return process.outputs() if process.loaded.status == OK else None


def _own_rounding(file: Subject, other: str, expected: Mapping[str, np.ndarray]) -> float | None:
    """How far the CPU's own kernels are from each other; None where no other one runs the file."""
    found = []
    for delegate in ("builtin", "reference"):
        if delegate != other:
            try:
                outputs = _outputs(file, delegate)
            except EnvironmentUnusableError:
                continue
            if outputs is not None:
                found.append(difference(outputs, expected, file))
    return max((one for one in found if math.isfinite(one)), default=None)


def difference(received: Mapping[str, Any], expected: Mapping[str, Any], file: Subject) -> float:
    """|difference| / |output| in the L2 norm, the largest of all outputs; of a list of detections, the weighted share without a partner."""
    if file.detections and len(expected) == 4:
        return _detections_apart(list(received.values()), list(expected.values()))
    pairs = [(received[name], expected[name]) for name in expected] if set(received) == set(expected) else []
    pairs = pairs or list(zip(received.values(), expected.values(), strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        return math.inf
    found = [float(np.linalg.norm(one - other) / (np.linalg.norm(other) + 1e-30)) if other.size else 0.0 for one, other in pairs]
    return math.nan if any(math.isnan(one) for one in found) else max(found, default=0.0)


def within_steps(received: Mapping[str, Any], expected: Mapping[str, Any], steps: Mapping[str, float]) -> bool:
    """Whether every output is integers, and none is further off than a few of their steps."""
    if not set(expected) <= set(steps) or set(received) != set(expected):
        return False
    return all(
        received[name].shape == expected[name].shape
        and (not expected[name].size or float(np.abs(received[name] - expected[name]).max()) <= (_MOST_STEPS + 1e-3) * steps[name])
        for name in expected
    )


def _detections_apart(received: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Each detection's distance from the nearest of its class in the other list, weighted by its score: 0 for equal sets, at most 1."""
    if not all(np.isfinite(one).all() for one in (*received, *expected)):
        return math.nan
    lists = [_detections(outputs) for outputs in (received, expected)]
    found = []
    for own, others in (lists, lists[::-1]):
        boxes, classes, scores = own
        apart = np.ones(len(scores))
        for index in range(len(scores)):
            rivals = others[1] == classes[index]
            if rivals.any():
                distance = np.maximum(np.abs(others[0][rivals] - boxes[index]).max(-1), np.abs(others[2][rivals] - scores[index]))
                apart[index] = min(1.0, float(distance.min()))
        weight = float(scores.sum())
        found.append(float((scores * apart).sum() / weight) if weight > _LEAST_SCORE else 0.0)
    return max(found)


def _detections(outputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes [N, 4], classes [N], scores [N]) of the operation's four outputs."""
    boxes, classes, scores, number = outputs
    count = int(number.reshape(-1)[0])
    return boxes.reshape(-1, 4)[:count], classes.reshape(-1)[:count], np.maximum(scores.reshape(-1)[:count], 0.0)
