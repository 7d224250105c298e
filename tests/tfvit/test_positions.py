"""Resizing position embeddings: against Pillow's antialiased bicubic, and against what a cubic kernel must do to a ramp."""

import numpy as np
import pytest
from PIL import Image

from tfvit.checkpoints import resize_position_table
from tfvit.positions import resized

TABLE = np.random.default_rng(0).normal(size=(37 * 37, 2)).astype("float32")


def test_the_same_grid_stays():
    assert resized(TABLE, (37, 37), (37, 37), 0.1) is TABLE


@pytest.mark.parametrize("target", [(16, 16), (40, 21)], ids=str)
def test_without_offset_it_is_the_antialiased_bicubic(target):
    """Pillow has the same kernel (a = -0.5) and support as PyTorch with antialias=True."""
    ours = resized(TABLE, (37, 37), target)
    for channel in range(2):
        image = Image.fromarray(TABLE[:, channel].reshape(37, 37))
        expected = np.asarray(image.resize(target[::-1], Image.Resampling.BICUBIC))
        np.testing.assert_allclose(ours[:, channel].reshape(target), expected, atol=1e-5)


def test_an_offset_of_nothing_is_the_plain_bicubic():
    """The same as for tables of windows, whose test compares with PyTorch."""
    np.testing.assert_allclose(resized(TABLE, (37, 37), (15, 15), 0.0), resize_position_table(TABLE, 8), atol=1e-5)


def test_the_offset_shortens_the_step():
    """A ramp of its own coordinates gives the coordinates that are read: (i + 0.5) * 37 / 16.1 - 0.5, away from the borders."""
    ramp = np.repeat(np.arange(37.0), 37).reshape(-1, 1)
    expected = ((np.arange(16) + 0.5) * 37 / 16.1 - 0.5)[1:-1]
    far = {offset: np.abs(resized(ramp, (37, 37), (16, 16), offset).reshape(16, 16)[1:-1, 8] - expected).max() for offset in (0.1, 0.0)}
    assert far[0.1] < 0.06  # a kernel with a = -0.75 bends a ramp by as much
    assert far[0.0] > 0.15
