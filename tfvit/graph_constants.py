"""What the large constants of a graph are called and hold: readers of a converted file know them by it. Loads nothing heavy."""

from __future__ import annotations

from typing import Any

# What the names of substituted constants begin with; no layer can be called so
POSITION_BIAS, MASK = "position_bias ", "mask "
# The tables of position biases and masks, in files that hold them instead (edge.quantization.position_tables)
POSITION_TABLE, MASK_TABLE = "position_table ", "mask_table "
# Added to the scores of token pairs that must not see each other. Finite, and within float16's range: exp(-100) is 0 there too.
MASK_VALUE = -100.0
# What becomes of the zeros that fill up the last windows: ours are masked out of the attention. Elsewhere they take part in it;
# transformers adds them before the cyclic shift, timm after it.
MASKED, BEFORE_SHIFT, AFTER_SHIFT = PADDINGS = ("masked", "before_shift", "after_shift")


def position_index(window: tuple[Any, Any], table_window: tuple[Any, Any], xp: Any) -> Any:
    """Rows of a relative position table for every token pair of a window, see `tfvit.windows.relative_position_index`.

    Args:
        window, table_window: (height, width).
        xp: what computes: NumPy or keras.ops.
    """
    (height, width), (table_h, table_w) = window, table_window
    y, x = (xp.reshape(axis, (-1,)) for axis in xp.meshgrid(xp.arange(height), xp.arange(width), indexing="ij"))
    offset_y = y[:, None] - y[None, :] + table_h - 1
    offset_x = x[:, None] - x[None, :] + table_w - 1
    return xp.reshape(offset_y * (2 * table_w - 1) + offset_x, (-1,))
