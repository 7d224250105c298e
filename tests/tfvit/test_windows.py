"""Window arithmetic against plain NumPy."""

import keras
import numpy as np
import pytest

from tfvit import windows
from tfvit.attention import WindowAttention
from tfvit.graph_constants import MASK_VALUE


def _numbered(height, width):
    return np.arange(height * width, dtype="float32").reshape(1, height, width, 1)


@pytest.mark.parametrize(("height", "width", "size"), [(8, 8, 4), (8, 12, 4), (6, 6, 3)])
def test_partition_cuts_windows_and_reverse_restores(height, width, size):
    plan = windows.plan_windows(height, width, size, shifted=False)
    grid = np.concatenate([_numbered(height, width), -_numbered(height, width)], axis=-1)
    cut = keras.ops.convert_to_numpy(windows.partition(grid, plan))
    assert cut.shape == (1, plan.num_windows, size * size, 2)
    for index, window in enumerate(cut[0]):
        column, row = divmod(index, height // size)  # column by column
        expected = grid[0, row * size : (row + 1) * size, column * size : (column + 1) * size]
        np.testing.assert_array_equal(window.reshape(size, size, 2), expected)
    np.testing.assert_array_equal(windows.reverse(cut, plan), grid)


def test_roll_is_numpys():
    grid = _numbered(5, 7)
    np.testing.assert_array_equal(windows.roll(grid, 2, 3), np.roll(grid, (-2, -3), (1, 2)))
    np.testing.assert_array_equal(windows.roll(windows.roll(grid, 2, 3), -2, -3), grid)


@pytest.mark.parametrize(
    ("height", "width", "size", "window", "shift"),
    [
        (56, 56, 7, (7, 7), (3, 3)),
        (7, 7, 7, (7, 7), (0, 0)),
        (8, 8, 16, (8, 8), (0, 0)),
        (7, 14, 7, (7, 7), (0, 3)),
        (5, 20, 8, (5, 8), (0, 4)),
    ],
)
def test_windows_shrink_to_the_grid_and_then_do_not_shift(height, width, size, window, shift):
    plan = windows.plan_windows(height, width, size, shifted=True)
    assert (plan.window, plan.shift) == (window, shift)
    assert windows.plan_windows(height, width, size, shifted=False).shift == (0, 0)


@pytest.mark.parametrize(("height", "width", "size"), [(8, 8, 4), (8, 12, 4), (10, 9, 4), (5, 9, 4)])
def test_mask_separates_exactly_what_was_not_neighbouring(height, width, size):
    """Two tokens of a window may see each other if they are real and lie within one window's reach in the unrolled grid."""
    plan = windows.plan_windows(height, width, size, shifted=True)
    rows, columns = np.meshgrid(np.arange(plan.padded[0]), np.arange(plan.padded[1]), indexing="ij")
    rolled = [np.roll(axis, (-plan.shift[0], -plan.shift[1]), (0, 1)) for axis in (rows, columns)]
    cut = [keras.ops.convert_to_numpy(windows.partition(axis[None, ..., None].astype("float32"), plan))[0, ..., 0] for axis in rolled]
    near = [np.abs(axis[:, :, None] - axis[:, None, :]) < window for axis, window in zip(cut, plan.window, strict=True)]
    real = (cut[0] < height) & (cut[1] < width)
    both = (real[:, :, None] & real[:, None, :]) | (~real[:, :, None] & ~real[:, None, :])
    mask = windows.attention_mask(plan)
    assert set(np.unique(mask)) == {MASK_VALUE, 0.0}
    allowed = near[0] & near[1] & both
    # padding may be split further by the regions; real tokens must see exactly their neighbours
    pairs = real[:, :, None] & real[:, None, :]
    np.testing.assert_array_equal((mask == 0)[pairs], allowed[pairs])
    assert (mask[real[:, :, None] & ~real[:, None, :]] == MASK_VALUE).all()


def test_no_mask_where_nothing_needs_one():
    assert windows.attention_mask(windows.plan_windows(8, 8, 4, shifted=False)) is None


def test_relative_position_index_of_a_2x2_window():
    index = windows.relative_position_index((2, 2), (2, 2)).reshape(4, 4)
    np.testing.assert_array_equal(index, [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]])


def test_smaller_window_uses_the_middle_of_the_table():
    offsets = np.stack(np.meshgrid(np.arange(-6, 7), np.arange(-6, 7), indexing="ij"), -1).reshape(-1, 2)
    picked = offsets[windows.relative_position_index((3, 5), (7, 7))]
    assert picked[:, 0].min() == -2
    assert picked[:, 0].max() == 2
    assert picked[:, 1].min() == -4
    assert picked[:, 1].max() == 4


def test_padding_does_not_reach_the_real_tokens():
    layer = WindowAttention(num_heads=2, window_size=4, shifted=True)
    layer.build((None, 6, 7, 8))
    grid = np.random.default_rng(0).normal(size=(1, 6, 7, 8)).astype("float32")
    before = keras.ops.convert_to_numpy(layer(grid))
    layer.value.bias.assign(np.full(8, 5.0))  # padded tokens would now carry a value of 5 instead of 0
    layer.key.bias.assign(np.full(8, 3.0))
    after = keras.ops.convert_to_numpy(layer(grid))
    shift = keras.ops.convert_to_numpy(layer.projection(np.full((1, 1, 1, 8), 5.0, "float32")) - layer.projection.bias)
    np.testing.assert_allclose(after - before, np.broadcast_to(shift, after.shape), atol=2e-5)


def test_log_spaced_coordinates():
    table = windows.log_spaced_coordinates((16, 16), 0)
    assert table.shape == (31 * 31, 2)
    np.testing.assert_allclose(table.max(), np.log2(9) / 3, rtol=1e-6)  # offset of a whole window: 8 before the logarithm
    np.testing.assert_allclose(table, -table[::-1], atol=0)
    wider = windows.log_spaced_coordinates((16, 16), 12)
    np.testing.assert_allclose(wider.max(), np.log2(8 * 15 / 11 + 1) / 3, rtol=1e-6)
    assert np.isfinite(windows.log_spaced_coordinates((1, 1), 0)).all()


def _elsewhere(layer, inputs, padding):
    """The attention of transformers (padded, then shifted) and of timm (shifted, then padded), written as they are, by NumPy."""
    size, (_, height, width, channels) = layer.window_size, inputs.shape
    shift = size // 2 if layer.shifted else 0
    extra = ((0, 0), (0, -height % size), (0, -width % size), (0, 0))
    if padding == "before_shift":
        grid = np.roll(np.pad(inputs, extra), (-shift, -shift), (1, 2))
    else:
        grid = np.pad(np.roll(inputs, (-shift, -shift), (1, 2)), extra)
    _, padded_h, padded_w, _ = grid.shape

    def cut(image):
        windows_of = image.reshape(padded_h // size, size, padded_w // size, size, -1).transpose(0, 2, 1, 3, 4)
        return windows_of.reshape(-1, size * size, image.shape[-1])

    regions = np.zeros((padded_h, padded_w, 1))
    parts = (slice(0, -size), slice(-size, -shift), slice(-shift, None)) if shift else (slice(None),)
    for row, rows in enumerate(parts):
        for column, columns in enumerate(parts):
            regions[rows, columns] = row * 3 + column
    regions = cut(regions)[..., 0]
    mask = np.where(regions[:, :, None] != regions[:, None, :], -100.0, 0.0)
    tokens, heads = cut(grid[0]), layer.num_heads

    def dense(one, values):
        return values @ np.asarray(one.kernel) + np.asarray(one.bias)

    def split(values):
        return values.reshape(len(tokens), size * size, heads, -1).transpose(0, 2, 1, 3)

    query, key, value = (split(dense(one, tokens)) for one in (layer.query, layer.key, layer.value))
    scores = query @ key.transpose(0, 1, 3, 2) * (channels // heads) ** -0.5
    scores = scores + np.asarray(layer.position_bias((size, size))) + mask[:, None]
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (weights / weights.sum(-1, keepdims=True)) @ value
    outputs = dense(layer.projection, mixed.transpose(0, 2, 1, 3).reshape(tokens.shape))
    outputs = outputs.reshape(padded_h // size, padded_w // size, size, size, -1).transpose(0, 2, 1, 3, 4).reshape(padded_h, padded_w, -1)
    if padding == "before_shift":
        return np.roll(outputs, (shift, shift), (0, 1))[:height, :width]
    return np.roll(outputs[:height, :width], (shift, shift), (0, 1))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("padding", ["before_shift", "after_shift"])
def test_padding_that_takes_part_in_the_attention(padding, shifted):
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((1, 10, 10, 8)).astype("float32")  # windows of 8: six rows and columns of padding
    layer = WindowAttention(2, 8, shifted, padding=padding)
    layer.build(inputs.shape)
    for weight in layer.weights:
        weight.assign(rng.standard_normal(weight.shape))
    ours = keras.ops.convert_to_numpy(layer(inputs))[0]
    np.testing.assert_allclose(ours, _elsewhere(layer, inputs, padding), atol=1e-4)
    masked = WindowAttention.from_config({**layer.get_config(), "padding": "masked"})
    masked.build(inputs.shape)
    for mine, weight in zip(masked.weights, layer.weights, strict=True):
        mine.assign(weight)
    assert np.abs(keras.ops.convert_to_numpy(masked(inputs))[0] - ours).max() > 1e-2  # it makes a difference


def test_padding_of_an_unknown_kind():
    with pytest.raises(ValueError, match="padding must be one of"):
        WindowAttention(2, 8, padding="zeros")
