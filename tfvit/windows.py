"""Window partition, its inverse, the cyclic shift, the shift mask and the relative position index.

Shapes and arithmetic only. Where height and width are known, everything a converter sees is written for it: at batch 1 every tensor has
rank 4 and, but for the transposes themselves, a leading dimension of 1; the shift is slices and a concatenation; masks and indices are
NumPy constants. Where they are known only when the model runs (None), the same arithmetic runs on tensors.

B batch, H W C grid height, width and channels, N tokens in a window, nW windows.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from keras import ops

from tfvit.graph_constants import AFTER_SHIFT, MASK_VALUE, MASKED, position_index


@dataclasses.dataclass(frozen=True)
class WindowPlan:
    """How one grid is cut into windows. Sizes are ints, or integer tensors where the grid is known only when the model runs.

    Attributes:
        grid: (height, width) of the tokens.
        window: (height, width) of a window: the nominal size, shrunk to the grid where the grid is no larger.
        shift: cyclic shift along each axis, 0 where the window was shrunk.
        padding: one of `tfvit.graph_constants.PADDINGS`.
    """

    grid: tuple[Any, Any]
    window: tuple[Any, Any]
    shift: tuple[Any, Any]
    padding: str = MASKED

    def __str__(self) -> str:
        """In the names of a file's masks, which stay what they were for our own models."""
        other = f", padding={self.padding!r}" if self.padding != MASKED else ""
        return f"WindowPlan(grid={self.grid}, window={self.window}, shift={self.shift}{other})"

    @property
    def is_static(self) -> bool:
        return all(isinstance(size, int) for size in self.grid)

    @property
    def padded(self) -> tuple[Any, Any]:
        """The grid rounded up to whole windows."""
        height, width = ((size + window - 1) // window * window for size, window in zip(self.grid, self.window, strict=True))
        return height, width

    @property
    def tokens(self) -> Any:
        """N: tokens in a window."""
        return self.window[0] * self.window[1]

    @property
    def num_windows(self) -> Any:
        """nW: windows in an image."""
        return (self.padded[0] // self.window[0]) * (self.padded[1] // self.window[1])

    @property
    def needs_mask(self) -> bool:
        """Whether some tokens of a window must be kept apart; assumed where the grid is not known."""
        return not self.is_static or any(self.shift) or (self.padding == MASKED and self.padded != self.grid)


def plan_windows(height: Any, width: Any, window_size: int, shifted: bool, padding: str = MASKED) -> WindowPlan:
    """The windows of a `height` x `width` grid: along an axis no longer than the window, the window shrinks and nothing shifts."""
    half = window_size // 2 if shifted else 0

    def along(size: Any) -> tuple[Any, Any, Any]:
        if isinstance(height, int) and isinstance(width, int):
            return size, min(size, window_size), half if size > window_size else 0
        size = ops.convert_to_tensor(size, dtype="int32")
        return size, ops.minimum(size, window_size), ops.where(size > window_size, half, 0)

    rows, columns = along(height), along(width)
    return WindowPlan((rows[0], columns[0]), (rows[1], columns[1]), (rows[2], columns[2]), padding)


def enter(grid: Any, plan: WindowPlan) -> Any:
    """[B, H, W, C] grid, padded, shifted and cut into windows: [B, nW, N, C]."""
    if plan.padding == AFTER_SHIFT:
        return partition(pad_bottom_right(roll(grid, *plan.shift), *plan.padded), plan)
    return partition(roll(pad_bottom_right(grid, *plan.padded), *plan.shift), plan)


def leave(windows: Any, plan: WindowPlan) -> Any:
    """The inverse of `enter`."""
    back = [-shift for shift in plan.shift]
    if plan.padding == AFTER_SHIFT:
        return roll(crop(reverse(windows, plan), plan), *back)
    return crop(roll(reverse(windows, plan), *back), plan)


def partition(grid: Any, plan: WindowPlan) -> Any:
    """[B, H, W, C] padded grid -> [B, nW, N, C] windows, column of windows by column, by one 4-D transpose.

    By columns, the transpose moves whole rows of a window and leaves each image where it is, which compilers for NPUs do at a fifth to a
    fifteenth of what the other order takes them (docs/decisions/0038). Nothing that is computed depends on the order.
    """
    (height, width), (_, window_w), channels = plan.padded, plan.window, grid.shape[-1]
    rows = ops.reshape(grid, (-1, height, width // window_w, window_w * channels))
    return ops.reshape(ops.transpose(rows, (0, 2, 1, 3)), (-1, plan.num_windows, plan.tokens, channels))


def reverse(windows: Any, plan: WindowPlan) -> Any:
    """[B, nW, N, C] windows -> [B, H, W, C] padded grid: the inverse of `partition`."""
    (height, width), (_, window_w), channels = plan.padded, plan.window, windows.shape[-1]
    columns = ops.reshape(windows, (-1, width // window_w, height, window_w * channels))
    return ops.reshape(ops.transpose(columns, (0, 2, 1, 3)), (-1, height, width, channels))


def pad_bottom_right(grid: Any, height: Any, width: Any) -> Any:
    """[B, H, W, C] grid padded with zeros at the bottom and right to `height` x `width`."""
    extra_h, extra_w = (target - size for target, size in zip((height, width), ops.shape(grid)[1:3], strict=True))
    if isinstance(extra_h, int) and isinstance(extra_w, int) and extra_h == extra_w == 0:
        return grid
    return ops.pad(grid, ((0, 0), (0, extra_h), (0, extra_w), (0, 0)))


def crop(grid: Any, plan: WindowPlan) -> Any:
    """The inverse of padding a grid to `plan.padded`."""
    if plan.is_static and plan.padded == plan.grid:
        return grid
    return grid[:, : plan.grid[0], : plan.grid[1], :]


def roll(grid: Any, shift_h: Any, shift_w: Any) -> Any:
    """[B, H, W, C] grid rolled up by `shift_h` and left by `shift_w` tokens (negative: down and right)."""
    if not (isinstance(shift_h, int) and isinstance(shift_w, int)):
        return ops.roll(grid, (-shift_h, -shift_w), axis=(1, 2))
    if shift_h:
        grid = ops.concatenate([grid[:, shift_h:], grid[:, :shift_h]], axis=1)
    if shift_w:
        grid = ops.concatenate([grid[:, :, shift_w:], grid[:, :, :shift_w]], axis=2)
    return grid


def attention_mask(plan: WindowPlan) -> Any:
    """What keeps tokens apart that the cyclic shift or the padding brought into one window.

    Returns:
        [nW, N, N] float32 of 0 and `MASK_VALUE`: a NumPy constant for a known grid (None where nothing has to be masked), else a tensor.
    """
    if plan.is_static:
        return _constant_mask(plan) if plan.needs_mask else None
    return _mask(plan, ops)


@functools.lru_cache(maxsize=64)
def _constant_mask(plan: WindowPlan) -> np.ndarray:
    return _read_only(_mask(plan, np))


def _mask(plan: WindowPlan, xp: Any) -> Any:
    """The mask by NumPy (`xp` is numpy) or by tensors (`xp` is keras.ops)."""
    regions = _axis_regions(plan, 0, xp)[:, None] * 4 + _axis_regions(plan, 1, xp)[None, :]
    (height, width), (window_h, window_w) = plan.padded, plan.window
    regions = xp.reshape(regions, (height // window_h, window_h, width // window_w, window_w))
    regions = xp.reshape(xp.transpose(regions, (2, 0, 1, 3)), (-1, plan.tokens))
    apart = xp.not_equal(regions[:, :, None], regions[:, None, :])
    return xp.where(apart, np.float32(MASK_VALUE), np.float32(0.0))


def _axis_regions(plan: WindowPlan, axis: int, xp: Any) -> Any:
    """For each position of the rolled axis: 0 untouched windows, 1 the rest of the last window, 2 what wrapped around, 3 padding."""
    size, padded, window, shift = plan.grid[axis], plan.padded[axis], plan.window[axis], plan.shift[axis]
    position = xp.arange(padded)
    # without a shift, everything is of one region: no position lies beyond padded
    region = xp.where(position < padded - shift, xp.where(position < padded - xp.where(shift > 0, window, 0), 0, 1), 2)
    if plan.padding != MASKED:
        return region
    original = (position + shift) % padded
    return xp.where(original < size, region, 3)


def relative_position_index(window: tuple[Any, Any], table_window: tuple[Any, Any]) -> Any:
    """Rows of a relative position table for every token pair of a window.

    Args:
        window: (height, width) of the window.
        table_window: the window the table was made for; a smaller window uses its central part.

    Returns:
        [N * N] int32 into a table of (2 * table_h - 1) * (2 * table_w - 1) rows, offsets row-major from the most negative.
    """
    if all(isinstance(size, int) for size in (*window, *table_window)):
        return _constant_index(window, table_window)
    return position_index(window, table_window, ops)


@functools.lru_cache(maxsize=64)
def _constant_index(window: tuple[int, int], table_window: tuple[int, int]) -> np.ndarray:
    return _read_only(position_index(window, table_window, np).astype(np.int32))


def log_spaced_coordinates(window: tuple[Any, Any], pretrained_window: int) -> Any:
    """V2's log-spaced relative coordinates (arXiv:2111.09883, eq. 4), the input of the continuous position bias.

    Args:
        window: (height, width) of the window.
        pretrained_window: window of the pretraining, which the offsets are measured in; 0 for `window` itself.

    Returns:
        [(2 * height - 1) * (2 * width - 1), 2] float32.
    """
    if all(isinstance(size, int) for size in window):
        return _constant_coordinates(window, pretrained_window)
    return _coordinates(window, pretrained_window, ops, "float32")


@functools.lru_cache(maxsize=64)
def _constant_coordinates(window: tuple[int, int], pretrained_window: int) -> np.ndarray:
    return _read_only(_coordinates(window, pretrained_window, np, "float64").astype(np.float32))


def _coordinates(window: tuple[Any, Any], pretrained_window: int, xp: Any, dtype: str) -> Any:
    axes = []
    for size in window:
        span = xp.maximum((pretrained_window or size) - 1, 1)
        offsets = _cast(xp.arange(2 * size - 1) - (size - 1), dtype) / _cast(span, dtype) * 8.0
        axes.append(xp.sign(offsets) * xp.log2(xp.abs(offsets) + 1.0) / np.log2(8.0).astype(dtype))
    return xp.reshape(xp.stack(xp.meshgrid(*axes, indexing="ij"), axis=-1), (-1, 2))


def _cast(value: Any, dtype: str) -> Any:
    return np.asarray(value, dtype) if isinstance(value, np.ndarray | np.generic | int) else ops.cast(value, dtype)


def _read_only(constant: np.ndarray) -> np.ndarray:
    constant.flags.writeable = False
    return constant
