"""Error-optimal rounding: on the grid, better on inputs it has not seen, and the same grid when it is found again."""

import numpy as np
import pytest

from edge.quantization import gptq
from edge.quantization.gptq import HIGHEST4, LEVELS, LOWEST4, corrected_bias, error_optimal, four_bits, nearest


@pytest.fixture
def layer():
    """Weights, and correlated inputs as a network has: 4,000 rows of 200 channels in some 40 directions and a mean."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(48, 200)).astype(np.float32)
    mixing = rng.normal(size=(40, 200))
    inputs = rng.normal(size=(4000, 40)) @ mixing + 0.1 * rng.normal(size=(4000, 200)) + 2.0 * rng.normal(size=200)
    return weights, inputs


def _error(weights, rounded, inputs):
    return float(np.mean(np.square(inputs @ (rounded - weights).T)))


def test_better_on_inputs_not_seen(layer):
    weights, inputs = layer
    rounded = error_optimal(weights, inputs[:1000])
    ratio = _error(weights, rounded, inputs[1000:]) / _error(weights, nearest(weights), inputs[1000:])
    print(f"error {ratio:.3f} of nearest rounding's")
    assert ratio < 0.5


def test_outliers_do_not_drown_the_rest(layer):
    """Channels at a thousand times the others, as large models have them: what float32 adds to their products stays below the damping."""
    weights, inputs = layer
    inputs = np.where(np.arange(200) < 2, 1000.0, 1.0) * inputs
    weights[:, :2] /= 1000.0
    rounded = error_optimal(weights, inputs[:1000])
    assert np.isfinite(rounded).all()
    ratio = _error(weights, rounded, inputs[1000:]) / _error(weights, nearest(weights), inputs[1000:])
    print(f"error {ratio:.3f} of nearest rounding's")
    assert ratio < 0.95


@pytest.mark.parametrize("samples", [3, 50, 1000])
def test_never_worse_on_the_samples(layer, samples):
    weights, inputs = layer
    rounded = error_optimal(weights, inputs[:samples])
    assert np.isfinite(rounded).all()
    for channel in range(len(weights)):
        ours, plain = (
            _error(weights[channel : channel + 1], each[channel : channel + 1], inputs[:samples]) for each in (rounded, nearest(weights))
        )
        assert ours <= plain * (1 + 1e-9)


def test_on_the_grid_and_found_again(layer):
    """Rounding the result to the nearest step changes nothing: a quantizer that knows only the values gets the same integers."""
    weights, inputs = layer
    rounded = error_optimal(weights, inputs[:500])
    scale = np.abs(weights).max(axis=1, keepdims=True) / LEVELS
    steps = rounded / scale
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert np.abs(np.round(steps)).max(axis=1).tolist() == [LEVELS] * len(weights)
    np.testing.assert_allclose(nearest(rounded), rounded, rtol=1e-6, atol=1e-9)


def test_independent_inputs_have_nothing_to_gain():
    rng = np.random.default_rng(1)
    weights, inputs = rng.normal(size=(16, 64)), rng.normal(size=(20000, 64))
    ratio = _error(weights, error_optimal(weights, inputs), inputs) / _error(weights, nearest(weights), inputs)
    assert 0.9 < ratio <= 1.0


def test_zero_weights_and_constant_channels():
    weights = np.zeros((3, 8), np.float32)
    weights[1, 2] = 0.5
    rounded = error_optimal(weights, np.ones((10, 8)))
    np.testing.assert_allclose(rounded, weights, atol=1e-7)
    assert np.isfinite(error_optimal(weights, np.zeros((10, 8)))).all()


def test_corrected_bias_keeps_the_mean(layer):
    weights, inputs = layer
    rounded = nearest(weights)
    bias = np.linspace(-1, 1, len(weights))
    corrected = corrected_bias(bias, weights, rounded, inputs)
    expected = (inputs @ weights.T + bias).mean(axis=0)
    np.testing.assert_allclose((inputs @ rounded.T + corrected).mean(axis=0), expected, atol=1e-4)
    assert np.abs((inputs @ rounded.T + bias).mean(axis=0) - expected).max() > 1e-2


# 4 bits


def _nearest_of_four_bits(weights):
    scale = np.abs(weights).max(axis=1, keepdims=True) / HIGHEST4
    return np.clip(np.round(weights / scale), LOWEST4, HIGHEST4) * scale


def test_four_bits_are_better_on_inputs_not_seen(layer):
    weights, inputs = layer
    steps, scale = four_bits(weights, inputs[:1000])
    ratio = _error(weights, steps * scale[:, None], inputs[1000:]) / _error(weights, _nearest_of_four_bits(weights), inputs[1000:])
    print(f"error {ratio:.3f} of nearest rounding's")
    assert ratio < 0.5


def test_four_bits_use_all_sixteen_steps(layer):
    steps, scale = four_bits(*layer)
    assert (steps.dtype, scale.dtype, steps.shape, scale.shape) == (np.int8, np.float32, (48, 200), (48,))
    assert (steps.min(), steps.max()) == (LOWEST4, HIGHEST4)
    assert (scale > 0).all()


def test_a_grid_may_end_before_the_largest_weight(layer, monkeypatch):
    """One weight far from the others: the grid that ends at it holds the others in a few steps."""
    weights, inputs = layer
    weights = weights.copy()
    weights[:, 5] = 8.0
    errors = {}
    for ends in ((1.0,), (1.0, 0.6)):
        monkeypatch.setattr(gptq, "GRID_ENDS", ends)
        steps, scale = four_bits(weights, inputs)
        errors[ends] = _error(weights, steps * scale[:, None], inputs)
    print(errors)
    assert errors[1.0, 0.6] < 0.9 * errors[1.0,]


def test_four_bits_of_zero_weights_and_of_inputs_that_are_zero():
    weights = np.zeros((3, 8), np.float32)
    weights[1, 2] = 0.5
    steps, scale = four_bits(weights, np.ones((10, 8)))
    np.testing.assert_allclose((steps * scale[:, None]).sum(axis=1), weights.sum(axis=1), atol=0.05)
    steps, scale = four_bits(weights, np.zeros((10, 8)))
    assert np.isfinite(scale).all()
    np.testing.assert_allclose(steps * scale[:, None], weights, atol=1e-6)
