"""Position embeddings for another grid of patches. Arrays only."""

from __future__ import annotations

import numpy as np


def resized(table: np.ndarray, source: tuple[int, int], target: tuple[int, int], offset: float | None = None) -> np.ndarray:
    """Bicubic: [h * w, C] of the grid `source` -> [H * W, C] of the grid `target`, float32. The same grid gives the table itself.

    Args:
        source, target: (height, width) in patches.
        offset: None: antialiased where the grid shrinks (timm; DINOv2 with registers). A number: not antialiased, and the step between
            samples is source / (target + offset) (DINOv2: 0.1, so that its own rounding never lost a patch; its weights answer with it).
    """
    if source == target:
        return table
    rows, columns = (_weights(*sides, offset) for sides in zip(source, target, strict=True))
    grid = np.asarray(table, np.float64).reshape(*source, -1)
    return np.einsum("ai,bj,ijc->abc", rows, columns, grid, optimize=True).reshape(target[0] * target[1], -1).astype(np.float32)


def _weights(source: int, target: int, offset: float | None) -> np.ndarray:
    """[target, source]: how much of each source sample is in each target sample; PyTorch's interpolate, half-pixel centres."""
    step = source / (target + (offset or 0.0))
    centre = (np.arange(target) + 0.5) * step - 0.5
    if offset is None:
        weights = _cubic((np.arange(source) - centre[:, None]) / max(step, 1.0), -0.5)
        return weights / weights.sum(axis=1, keepdims=True)
    weights, first = np.zeros((target, source)), np.floor(centre).astype(int)
    for tap in range(-1, 3):  # beyond the border its sample is repeated
        np.add.at(weights, (np.arange(target), np.clip(first + tap, 0, source - 1)), _cubic(centre - (first + tap), -0.75))
    return weights


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel."""
    distance = np.abs(distance)
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
