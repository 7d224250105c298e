"""Weights on a grid of 8 or 4 bits, rounded so that the layer's output on real inputs changes least, and biases that take up what is left.

Rounding each weight to the nearest step is not the best for the sum they form: where inputs are correlated, the error of one weight can be
made up for by the next ones. Source: E. Frantar et al., "GPTQ", arXiv:2210.17323, with one scale an output channel; bias correction:
M. Nagel et al., "Data-Free Quantization", arXiv:1906.04721, section 4.2, with measured means. Arrays only.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

LEVELS = 127
LOWEST4, HIGHEST4 = -8, 7
# Of an output channel's largest weight: where its 4-bit grid may end. One that ends at that weight is too coarse for all the others
GRID_ENDS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55)
# Of the mean of the Hessian's diagonal, added to it: directions that the samples do not show keep their nearest rounding
DAMPING = 0.01
# Inputs whose errors are passed on one by one; to those behind them by one product
_BLOCK = 32


def nearest(weights: np.ndarray) -> np.ndarray:
    """[outputs, inputs] weights on a symmetric grid of 255 steps an output channel, each at the nearest step."""
    scale = _scale(weights)
    return (np.clip(np.round(weights / scale), -LEVELS, LEVELS) * scale).astype(np.float32)


def error_optimal(weights: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """[outputs, inputs] weights on the same grid as `nearest`, rounded for the inputs they will meet.

    The largest weight of every output channel stays where it is, so that who quantizes the result again finds the same grid.

    Args:
        weights: [outputs, inputs] float.
        samples: [N, inputs] inputs of the layer.

    Returns:
        Float32; `nearest` wherever that is no worse on the samples, channel by channel.
    """
    exact, samples = np.asarray(weights, np.float32), np.asarray(samples, np.float32)
    step = _scale(exact)[:, 0]
    largest = np.abs(exact).argmax(axis=1)
    inverse = _inverse_factor(samples)
    # input by input, so that what is worked on lies side by side
    remaining, rounded = np.array(exact.T, order="C"), np.empty(exact.shape[::-1], np.float32)
    inputs = exact.shape[1]
    change = np.empty((_BLOCK, len(exact)), np.float32)  # one array for all: fresh ones of this size cost more than what is computed
    for first in range(0, inputs, _BLOCK):
        last = min(first + _BLOCK, inputs)
        errors = np.empty((last - first, len(exact)), np.float32)
        for row in range(first, last):
            steps = np.clip(np.round(remaining[row] / step), -LEVELS, LEVELS)
            fixed = largest == row
            steps[fixed] = np.sign(exact[fixed, row]) * LEVELS
            rounded[row] = steps * step
            errors[row - first] = (remaining[row] - rounded[row]) / inverse[row, row]
            remaining[row + 1 : last] -= np.multiply.outer(inverse[row, row + 1 : last], errors[row - first], out=change[: last - row - 1])
        remaining[last:] -= inverse[first:last, last:].T @ errors
    rounded = rounded.T
    plain = nearest(exact)
    better = _output_error(exact, rounded, samples) < _output_error(exact, plain, samples)
    return np.where(better[:, None], rounded, plain)


def four_bits(weights: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights on a 4-bit grid an output channel, rounded for the inputs they will meet.

    Every channel is rounded on several grids, in the same order as in `error_optimal` but with the inputs of most power first (those have
    the most others left to make up for them), and keeps the grid with the least error at the output.

    Args:
        weights: [outputs, inputs] float.
        samples: [N, inputs] inputs of the layer.

    Returns:
        Steps, [outputs, inputs] int8 from -8 to 7, and the scale of every output channel, [outputs] float32.
    """
    samples = np.asarray(samples, np.float32)
    order = np.argsort(-np.mean(np.square(samples), axis=0), kind="stable")
    inverse = _inverse_factor(samples[:, order])
    inverse /= inverse.max()  # only ratios of its rows' entries count
    outputs, ends = len(weights), len(GRID_ENDS)
    largest = np.abs(weights).max(axis=1)
    scale = (np.where(largest > 0, largest, 1.0) / HIGHEST4 * np.array(GRID_ENDS)[:, None]).astype(np.float32)
    step = scale.reshape(-1)
    # input by input, every channel once for each of its grids
    remaining = np.tile(np.asarray(weights, np.float32)[:, order].T, (1, ends))
    steps, loss = np.empty(remaining.shape, np.int8), np.zeros(len(step))
    inputs = len(remaining)
    change = np.empty((_BLOCK, len(step)), np.float32)
    for first in range(0, inputs, _BLOCK):
        last = min(first + _BLOCK, inputs)
        errors = np.empty((last - first, len(step)), np.float32)
        for row in range(first, last):
            rounded = np.clip(np.round(remaining[row] / step), LOWEST4, HIGHEST4)
            steps[row] = rounded
            errors[row - first] = (remaining[row] - rounded * step) / inverse[row, row]
            remaining[row + 1 : last] -= np.multiply.outer(inverse[row, row + 1 : last], errors[row - first], out=change[: last - row - 1])
        remaining[last:] -= inverse[first:last, last:].T @ errors
        loss += np.einsum("ij,ij->j", errors, errors)  # what is lost at the output, on the damped samples
    best = loss.reshape(ends, outputs).argmin(axis=0)
    channels = np.arange(outputs)
    chosen = np.empty((outputs, inputs), np.int8)
    chosen[:, order] = steps.reshape(inputs, ends, outputs)[:, best, channels].T
    return chosen, scale[best, channels]


def corrected_bias(bias: np.ndarray, weights: np.ndarray, rounded: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """The bias that keeps the mean output over the samples where it was: [outputs] float32."""
    mean = np.asarray(samples, np.float64).mean(axis=0)
    return (bias + (np.asarray(weights, np.float64) - rounded) @ mean).astype(np.float32)


def _scale(weights: np.ndarray) -> np.ndarray:
    """[outputs, 1]: the step of each output channel."""
    largest = np.abs(weights).max(axis=1, keepdims=True)
    return np.where(largest > 0, largest, 1.0) / LEVELS


def _inverse_factor(samples: np.ndarray) -> np.ndarray:
    """Upper Cholesky factor of the inverse of the damped Hessian of the squared output error: [inputs, inputs].

    In float32, like the samples: no entry of the diagonal is above `inputs` times its mean, so that what rounding adds stays a hundredth of
    the damping.
    """
    hessian = samples.T @ samples / len(samples)
    damping = DAMPING * max(float(np.mean(np.diag(hessian))), np.finfo(np.float32).tiny)
    hessian[np.diag_indices_from(hessian)] += damping
    # backwards, H = L L' makes the factor of the inverse the inverse of L: one triangular inversion instead of a full one
    lower = linalg.cholesky(hessian[::-1, ::-1], lower=True, overwrite_a=True, check_finite=False)
    inverse, _ = linalg.lapack.strtri(lower, lower=1, overwrite_c=1)
    return np.ascontiguousarray(inverse[::-1, ::-1])


def _output_error(exact: np.ndarray, rounded: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Mean squared error of each output channel over the samples: [outputs]."""
    return np.mean(np.square(samples @ (rounded - exact).T), axis=0)
