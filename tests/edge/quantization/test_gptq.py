"""Error-optimal rounding: on the grid, better on inputs it has not seen, and the same grid when it is found again."""

import numpy as np
import pytest

from edge.quantization.gptq import LEVELS, corrected_bias, error_optimal, nearest


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
