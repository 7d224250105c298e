"""Clipping: kept away from values that matter at the output, used on those that do not."""

import numpy as np
import pytest

from edge.quantization import clipping
from edge.quantization.clipping import best_range, output_error, snr_db

RNG = np.random.default_rng(0)


def _with_outliers(channel):
    rows = RNG.normal(size=(2000, 32))
    rows[::200, channel] = 30.0
    return rows


def test_outliers_that_no_one_reads_are_clipped():
    rows, weights = _with_outliers(5), RNG.normal(size=(16, 32))
    weights[:, 5] = 0.0
    low, high = best_range(float(rows.min()), float(rows.max()), rows, weights)
    print(low, high)
    assert high <= 0.6 * rows.max()
    assert output_error(rows, low, high, weights) < 0.5 * output_error(rows, float(rows.min()), float(rows.max()), weights)


def test_outliers_that_carry_the_output_are_kept():
    rows, weights = _with_outliers(5), RNG.normal(size=(16, 32))
    weights[:, 5] *= 20.0
    assert best_range(float(rows.min()), float(rows.max()), rows, weights)[1] == rows.max()


def test_many_readers_weigh_as_much_as_they_are():
    """More outputs than inputs are made fewer first; the range must be the one that all of them want."""
    rows, weights = _with_outliers(5), RNG.normal(size=(200, 32))
    weights[:, 5] = 0.0
    high = best_range(float(rows.min()), float(rows.max()), rows, weights)[1]
    assert high <= 0.6 * rows.max()
    weights[150:, 5] = 3.0
    assert best_range(float(rows.min()), float(rows.max()), rows, weights)[1] > high


def test_how_well_8_bits_hold_values():
    values = RNG.uniform(-1, 1, (4000, 16))
    even = snr_db(values, -1.0, 1.0)
    assert even == pytest.approx(10 * np.log10(255**2), abs=0.2)  # uniform values fill the range
    assert snr_db(values, -10.0, 10.0) == pytest.approx(even - 20.0, abs=0.01)
    assert snr_db(values + 5.0, -1.0, 6.0) < even  # a mean the range must reach says nothing
    assert snr_db(np.zeros((4, 3)), 0.0, 0.0) < 1.0


def test_even_values_keep_their_range():
    rows = RNG.uniform(-1, 1, (2000, 32))
    assert best_range(-1.0, 1.0, rows, RNG.normal(size=(8, 32))) == (-1.0, 1.0)


def test_both_ends_by_themselves():
    rows, weights = _with_outliers(3), RNG.normal(size=(16, 32))
    rows[::100, 4] = -40.0
    weights[:, 3] = weights[:, 4] = 0.0
    low, high = best_range(float(rows.min()), float(rows.max()), rows, weights)
    assert low >= 0.6 * rows.min()
    assert high <= 0.6 * rows.max()


@pytest.mark.parametrize("height", [3.0, 6.0, 12.0, 30.0])
def test_no_narrower_range_is_missed(height, monkeypatch):
    """The search ends where the error grows, with the range that a search to the end finds."""
    rows, weights = RNG.standard_t(4, size=(2000, 32)), RNG.normal(size=(16, 32))
    rows[::100, 5], weights[:, 5] = height, 0.02 * weights[:, 5]
    tried, error = [], clipping.output_error
    monkeypatch.setattr(clipping, "output_error", lambda *given: tried.append(given) or error(*given))
    found = best_range(float(rows.min()), float(rows.max()), rows, weights)
    at_once = len(tried)
    monkeypatch.setattr(clipping, "WORSE", np.inf)
    assert best_range(float(rows.min()), float(rows.max()), rows, weights) == found
    assert len(tried) - at_once == 1 + 2 * len(clipping.FRACTIONS)
    print(f"{at_once} of {len(tried) - at_once} errors")


def test_constant_activations():
    assert best_range(0.0, 0.0, np.zeros((4, 3)), np.ones((2, 3))) == (0.0, 0.0)
