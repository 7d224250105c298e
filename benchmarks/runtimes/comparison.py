"""When another runtime's outputs count as the same as ours."""

from __future__ import annotations

import re

import numpy as np

SAME, NEAR_TIES, DIFFERS = "same", "near ties", "differs"
REFUSED, DOES_NOT_RUN, NOT_TESTED = "refused", "does not run", "not tested"
FAILED = (DIFFERS, DOES_NOT_RUN)

# Largest difference over the largest output. In float only the order of additions differs. Integers round differently in every kernel:
# LiteRT's own, with XNNPACK and without, are up to 0.06 apart in int8_full and 0.04 in int8; a broken file is off by 0.5 and more.
MOST_DIFFERENCE, MOST_ROUNDED_DIFFERENCE = 1e-4, 0.1
_FLOAT = ("float32", "float16")


def compared(reference: np.ndarray, outputs: np.ndarray, recipe: str) -> dict[str, str]:
    """Columns `same_top1`, `max_rel_difference`, `status` and `reason` of outputs [images, classes].

    Within the limit, images whose top-1 differs can only be ones whose best outputs are as close as that: near ties.
    """
    if outputs.shape != reference.shape:
        return _columns(DIFFERS, f"{outputs.shape} outputs instead of {reference.shape}")
    if not np.isfinite(outputs).all():
        return _columns(DIFFERS, "outputs that are no numbers")
    difference = float(np.abs(outputs - reference).max() / np.abs(reference).max())
    flipped = np.flatnonzero(reference.argmax(-1) != outputs.argmax(-1))
    same = str(len(reference) - len(flipped))
    limit = MOST_DIFFERENCE if recipe in _FLOAT else MOST_ROUNDED_DIFFERENCE
    if difference > limit:
        constant = len(outputs) > 1 and len(set(outputs.argmax(-1))) == 1 and len(set(reference.argmax(-1))) > 1
        reason = f"limit {limit:g}" + ("; one class for every image" if constant else "")
        return _columns(DIFFERS, reason, same, f"{difference:.1e}")
    if len(flipped):
        best = np.sort(reference[flipped], -1)
        margin = float((best[:, -1] - best[:, -2]).max() / np.abs(reference).max())
        return _columns(NEAR_TIES, f"LiteRT's two best outputs are {margin:.3f} of scale apart there", same, f"{difference:.1e}")
    return _columns(SAME, "", same, f"{difference:.1e}")


def refused(reason: str, min_runtime: str | None, version: str, counts: bool) -> dict[str, str]:
    """Columns of a file that a runtime does not run: as its `min_runtime_version` says, or against what it says.

    Args:
        reason: the runtime's own.
        min_runtime: of the file; None where it is unknown, which promises nothing.
        version: of the runtime.
        counts: whether the two versions are of the same series.
    """
    announced = counts and (min_runtime is None or _numbers(min_runtime) > _numbers(version))
    return _columns(REFUSED if announced else DOES_NOT_RUN, reason)


def not_tested(reason: str) -> dict[str, str]:
    return _columns(NOT_TESTED, reason)


def _columns(status: str, reason: str, same_top1: str = "", difference: str = "") -> dict[str, str]:
    return {"same_top1": same_top1, "max_rel_difference": difference, "status": status, "reason": reason}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
