"""How an official tensor becomes one of our variables, and that the tensor again: pure, without Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# our block order (0,0), (0,1), (1,0), (1,1) taken from the original's concatenation (0,0), (1,0), (0,1), (1,1)
_MERGING_ORDER = (0, 2, 1, 3)


class Layout(NamedTuple):
    """How an official tensor becomes one of our variables, and how that becomes (its part, along axis 0, of) the tensor again."""

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_official: Callable[[np.ndarray], np.ndarray]


def third(part: int, transpose: bool) -> Layout:
    def take(tensor: np.ndarray) -> np.ndarray:
        third = np.split(tensor, 3, axis=0)[part]
        return third.T if transpose else third

    return Layout(take, np.transpose if transpose else _same)


def _merge_order_vector(tensor: np.ndarray) -> np.ndarray:
    """Swaps the second and third quarter: its own inverse."""
    return tensor.reshape(4, -1)[list(_MERGING_ORDER)].reshape(-1)


def _merge_order_kernel(tensor: np.ndarray) -> np.ndarray:
    outputs, inputs = tensor.shape
    return tensor.T.reshape(4, inputs // 4, outputs)[list(_MERGING_ORDER)].reshape(inputs, outputs)


def _original_order_kernel(kernel: np.ndarray) -> np.ndarray:
    inputs, outputs = kernel.shape
    return kernel.reshape(4, inputs // 4, outputs)[list(_MERGING_ORDER)].reshape(inputs, outputs).T


def _same(tensor: np.ndarray) -> np.ndarray:
    return tensor


SAME = Layout(_same, _same)
TRANSPOSED = Layout(np.transpose, np.transpose)
CONVOLUTION = Layout(lambda tensor: tensor.transpose(2, 3, 1, 0), lambda kernel: kernel.transpose(3, 2, 0, 1))
ROW = Layout(lambda tensor: tensor.reshape(-1), lambda vector: vector.reshape(1, 1, -1))
ROWS = Layout(lambda tensor: tensor.reshape(tensor.shape[1:]), lambda rows: rows[None])
LOGIT_SCALE = Layout(lambda tensor: tensor.reshape(-1, 1), lambda scale: scale.reshape(-1, 1, 1))
MERGED_VECTOR = Layout(_merge_order_vector, _merge_order_vector)
MERGED_KERNEL = Layout(_merge_order_kernel, _original_order_kernel)


# Place in a block of Keras's files, ours and KerasHub's -> timm's name and layout
IN_A_KERAS_BLOCK = {
    "mlp/fc1/vars/0": ("mlp.fc1.weight", TRANSPOSED),
    "mlp/fc1/vars/1": ("mlp.fc1.bias", SAME),
    "mlp/fc2/vars/0": ("mlp.fc2.weight", TRANSPOSED),
    "mlp/fc2/vars/1": ("mlp.fc2.bias", SAME),
    "norm1/vars/0": ("norm1.weight", SAME),
    "norm1/vars/1": ("norm1.bias", SAME),
    "norm2/vars/0": ("norm2.weight", SAME),
    "norm2/vars/1": ("norm2.bias", SAME),
}


def position_table(window: int, shrunk: int | None) -> Layout:
    """A table made for the smaller window of a small grid is the centre of ours, which has the nominal window's size."""

    def to_ours(table: np.ndarray) -> np.ndarray:
        if shrunk is None or shrunk >= window or len(table) != (2 * shrunk - 1) ** 2:
            return table
        grid, edge = table.reshape(2 * shrunk - 1, 2 * shrunk - 1, -1), window - shrunk
        return np.pad(grid, ((edge, edge), (edge, edge), (0, 0))).reshape((2 * window - 1) ** 2, -1)

    return Layout(to_ours, _same)
