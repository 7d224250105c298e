"""Narrower activation ranges where that makes the layer's own output better: fewer values are clipped than gain a finer step.

The error is taken at the output of the layers that read the tensor, never at the tensor itself: rare large values are what a network says
with most weight, and ranges that minimise the tensor's own error, or percentiles, cost accuracy. Pure NumPy.
"""

from __future__ import annotations

import numpy as np

LEVELS = 255
# Of the observed minimum and maximum, tried one end after the other
FRACTIONS = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
# A narrower range must take away this much of the error: less is chance in the samples
MIN_GAIN = 0.05
# Samples that are enough to tell such gains
_ROWS = 512
# What is clipped grows with every fraction: once the error is so many times the least one, no narrower range is better
WORSE = 1.5


def best_range(low: float, high: float, rows: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """The range to quantize an activation with, no wider than the observed one.

    Args:
        low, high: observed minimum and maximum.
        rows: [N, channels] samples of the activation.
        weights: [outputs, channels] of all layers that read it.
    """
    reading = _smaller(np.asarray(weights, np.float32))
    rows = np.asarray(some(rows), np.float32)
    chosen, least = (low, high), output_error(rows, low, high, reading)
    for end in (1, 0):
        candidates = [(low * fraction, chosen[1]) if end == 0 else (chosen[0], high * fraction) for fraction in FRACTIONS]
        errors: list[float] = []
        for candidate in candidates:
            errors.append(output_error(rows, *candidate, reading))
            if errors[-1] > WORSE * min(least, *errors):
                break
        best = int(np.argmin(errors))
        if errors[best] < (1.0 - MIN_GAIN) * least:
            chosen, least = candidates[best], errors[best]
    return chosen


def output_error(rows: np.ndarray, low: float, high: float, weights: np.ndarray) -> float:
    """Sum over the outputs of the mean squared error they get when the activation is quantized with a range."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / LEVELS or 1.0
    zero_point = round(-low / scale)
    error = (np.clip(np.round(rows / scale) + zero_point, 0, LEVELS) - zero_point) * scale - rows
    return float(np.mean(np.sum(np.square(error @ weights.T), axis=1)))


def some(rows: np.ndarray) -> np.ndarray:
    """Of [N, channels] samples about `_ROWS`, from all images."""
    return rows[:: max(1, len(rows) // _ROWS)]


def _smaller(weights: np.ndarray) -> np.ndarray:
    """Weights that make equal errors of equal inputs, no more of them than inputs: many layers may read one activation."""
    outputs, inputs = weights.shape
    return weights if outputs <= inputs else np.asarray(np.linalg.qr(weights, mode="r"))


def snr_db(values: np.ndarray, low: float, high: float) -> float:
    """How well 8 bits over a range hold values: the power of their deviations from each channel's mean over that of the rounding.

    Args:
        values: [N, channels].
        low, high: the range, which the rounding is uniform in.
    """
    step = (max(high, 0.0) - min(low, 0.0)) / LEVELS
    signal = float(np.mean(np.square(values - values.mean(axis=0))))
    return 10.0 * float(np.log10(max(signal, np.finfo(np.float64).tiny) / max(step * step / 12.0, np.finfo(np.float64).tiny)))
