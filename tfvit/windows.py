"""Window partition, its inverse, the cyclic shift, the shift mask and the relative position index.

Shapes and arithmetic only. Everything a converter sees is written for it: at batch 1 every tensor has rank 4 and, but for the
transposes themselves, a leading dimension of 1; the shift is slices and a concatenation; masks and indices are NumPy constants.

B batch, H W C grid height, width and channels, N tokens in a window, nW windows.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
from keras import ops

# Added to the scores of token pairs that must not see each other. Finite, and within float16's range: exp(-100) is 0 there too.
MASK_VALUE = -100.0


@dataclasses.dataclass(frozen=True)
class WindowPlan:
    """How one grid is cut into windows.

    Attributes:
        grid: (height, width) of the tokens.
        window: (height, width) of a window: the nominal size, shrunk to the grid where the grid is no larger.
        shift: cyclic shift along each axis, 0 where the window was shrunk.
        padded: the grid rounded up to whole windows.
    """

    grid: tuple[int, int]
    window: tuple[int, int]
    shift: tuple[int, int]

    @property
    def padded(self) -> tuple[int, int]:
        return tuple(math.ceil(size / window) * window for size, window in zip(self.grid, self.window, strict=True))

    @property
    def tokens(self) -> int:
        """N: tokens in a window."""
        return self.window[0] * self.window[1]

    @property
    def num_windows(self) -> int:
        """nW: windows in an image."""
        return (self.padded[0] // self.window[0]) * (self.padded[1] // self.window[1])

    @property
    def needs_mask(self) -> bool:
        return any(self.shift) or self.padded != self.grid


def plan_windows(height: int, width: int, window_size: int, shifted: bool) -> WindowPlan:
    """The windows of a `height` x `width` grid: along an axis no longer than the window, the window shrinks and nothing shifts."""
    grid = (height, width)
    window = tuple(min(size, window_size) for size in grid)
    shift = tuple(window_size // 2 if shifted and size > window_size else 0 for size in grid)
    return WindowPlan(grid, window, shift)


def partition(grid: Any, plan: WindowPlan) -> Any:
    """[B, H, W, C] padded grid -> [B, nW, N, C] windows, by one 4-D transpose."""
    width, (window_h, window_w), channels = plan.padded[1], plan.window, grid.shape[-1]
    rows = ops.reshape(grid, (-1, window_h, width // window_w, window_w * channels))
    return ops.reshape(ops.transpose(rows, (0, 2, 1, 3)), (-1, plan.num_windows, plan.tokens, channels))


def reverse(windows: Any, plan: WindowPlan) -> Any:
    """[B, nW, N, C] windows -> [B, H, W, C] padded grid: the inverse of `partition`."""
    (height, width), (window_h, window_w), channels = plan.padded, plan.window, windows.shape[-1]
    columns = ops.reshape(windows, (-1, width // window_w, window_h, window_w * channels))
    return ops.reshape(ops.transpose(columns, (0, 2, 1, 3)), (-1, height, width, channels))


def pad(grid: Any, plan: WindowPlan) -> Any:
    """[B, H, W, C] grid padded with zeros at the bottom and right to whole windows."""
    if plan.padded == plan.grid:
        return grid
    extra = [padded - size for padded, size in zip(plan.padded, plan.grid, strict=True)]
    return ops.pad(grid, ((0, 0), (0, extra[0]), (0, extra[1]), (0, 0)))


def crop(grid: Any, plan: WindowPlan) -> Any:
    """The inverse of `pad`."""
    return grid if plan.padded == plan.grid else grid[:, : plan.grid[0], : plan.grid[1], :]


def roll(grid: Any, shift_h: int, shift_w: int) -> Any:
    """[B, H, W, C] grid rolled up by `shift_h` and left by `shift_w` tokens (negative: down and right)."""
    if shift_h:
        grid = ops.concatenate([grid[:, shift_h:], grid[:, :shift_h]], axis=1)
    if shift_w:
        grid = ops.concatenate([grid[:, :, shift_w:], grid[:, :, :shift_w]], axis=2)
    return grid


@functools.lru_cache(maxsize=64)
def attention_mask(plan: WindowPlan) -> np.ndarray | None:
    """What keeps tokens apart that the cyclic shift or the padding brought into one window.

    Returns:
        [nW, N, N] float32 of 0 and `MASK_VALUE`, or None where nothing has to be masked.
    """
    if not plan.needs_mask:
        return None
    axes = []
    for size, padded, window, shift in zip(plan.grid, plan.padded, plan.window, plan.shift, strict=True):
        position = np.arange(padded)
        # regions of the rolled axis: untouched windows, the rest of the last window, what wrapped around
        region = np.where(position < padded - window, 0, np.where(position < padded - shift, 1, 2)) if shift else np.zeros(padded, int)
        is_padding = np.roll(position >= size, -shift)
        axes.append((region, is_padding))
    (rows, row_padding), (columns, column_padding) = axes
    regions = rows[:, None] * 6 + columns[None, :] * 2 + (row_padding[:, None] | column_padding[None, :])
    (height, width), (window_h, window_w) = plan.padded, plan.window
    regions = regions.reshape(height // window_h, window_h, width // window_w, window_w).transpose(0, 2, 1, 3).reshape(-1, plan.tokens)
    mask = np.where(regions[:, :, None] != regions[:, None, :], np.float32(MASK_VALUE), np.float32(0.0))
    mask.flags.writeable = False
    return mask


@functools.lru_cache(maxsize=64)
def relative_position_index(window: tuple[int, int], table_window: tuple[int, int]) -> np.ndarray:
    """Rows of a relative position table for every token pair of a window.

    Args:
        window: (height, width) of the window.
        table_window: the window the table was made for; a smaller window uses its central part.

    Returns:
        [N * N] int32 into a table of (2 * table_h - 1) * (2 * table_w - 1) rows, offsets row-major from the most negative.
    """
    (height, width), (table_h, table_w) = window, table_window
    y, x = (axis.reshape(-1) for axis in np.meshgrid(np.arange(height), np.arange(width), indexing="ij"))
    offset_y = y[:, None] - y[None, :] + table_h - 1
    offset_x = x[:, None] - x[None, :] + table_w - 1
    index = (offset_y * (2 * table_w - 1) + offset_x).astype(np.int32).reshape(-1)
    index.flags.writeable = False
    return index


@functools.lru_cache(maxsize=64)
def log_spaced_coordinates(window: tuple[int, int], pretrained_window: int) -> np.ndarray:
    """V2's log-spaced relative coordinates (arXiv:2111.09883, eq. 4), the input of the continuous position bias.

    Args:
        window: (height, width) of the window.
        pretrained_window: window of the pretraining, which the offsets are measured in; 0 for `window` itself.

    Returns:
        [(2 * height - 1) * (2 * width - 1), 2] float32.
    """
    axes = []
    for size in window:
        span = max((pretrained_window or size) - 1, 1)
        offsets = np.arange(-(size - 1), size, dtype=np.float64) / span * 8.0
        axes.append(np.sign(offsets) * np.log2(np.abs(offsets) + 1.0) / np.log2(8.0))
    table = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)
    table.flags.writeable = False
    return table
