"""Changed answers: what is counted, what is estimated, and how well that holds."""

import numpy as np
import pytest

from edge.drift.agreement import agreement, leads
from tfvit.evaluate import wilson_interval


def _pair(number, noise, seed=0, classes=10):
    rng = np.random.default_rng(seed)
    reference = rng.normal(0, 3, (number, classes))
    return reference, reference + rng.normal(0, noise, reference.shape)


def test_leads():
    reference = np.array([[1.0, 4.0, 2.0, 3.5], [5.0, 1.0, 0.0, 0.0]])
    target = np.array([[1.0, 3.0, 2.0, 3.25], [4.0, 1.0, 2.5, 0.0]])
    before, after = leads(reference, target)
    assert before.tolist() == [0.5, 4.0]
    assert after.tolist() == [-0.25, 1.5]  # the second's nearest rival is another one now


def test_equal_answers_change_nowhere():
    reference, _ = _pair(64, 0)
    found = agreement(reference, reference.copy(), "itself")
    assert (found.top1_agreement, found.expected_changes, found.expected_high) == (1.0, 0.0, 0.0)
    assert (found.low, found.high) == wilson_interval(64, 64)


@pytest.mark.parametrize(("noise", "spread"), [(0.05, 0.7), (0.3, 1.0), (1.0, 1.0)])
def test_the_estimate_from_few_images_is_near_the_share_of_many(noise, spread):
    """And nearer than counting comes, the more so the rarer changes are."""
    reference, target = _pair(20_000, noise)
    changed = float((reference.argmax(1) != target.argmax(1)).mean())
    few = [agreement(reference[start : start + 256], target[start : start + 256], "").expected_changes for start in range(0, 5120, 256)]
    counted = np.sqrt(changed * (1 - changed) / 256)
    assert np.mean(few) == pytest.approx(changed, rel=0.15)
    assert np.std(few) < spread * counted


def test_the_interval_holds_what_is_true():
    reference, target = _pair(20_000, 0.5)
    changed = float((reference.argmax(1) != target.argmax(1)).mean())
    found = [agreement(reference[start : start + 256], target[start : start + 256], "") for start in range(0, 10_240, 256)]
    assert sum(one.expected_low <= changed <= one.expected_high for one in found) >= 34  # of 40


def test_errors_of_unsure_images_are_theirs():
    """Errors that grow with the margin change nothing where the margin is small."""
    rng = np.random.default_rng(0)
    reference = np.zeros((512, 2))
    reference[:, 0] = np.linspace(0.1, 10, 512)
    target = reference + rng.normal(0, 0.05, reference.shape) * reference[:, :1]
    assert agreement(reference, target, "").expected_changes < 1e-3


def test_not_finite_changes_everything():
    reference, target = _pair(64, 0.1)
    target[:, 3] = np.nan
    found = agreement(reference, target, "")
    assert found.top1_agreement == 0.0
    assert found.expected_changes == 1.0
    assert "is below 90 %" in found.failures(0.9)[0]


def test_failures():
    reference, target = _pair(256, 1.0)
    found = agreement(reference, target, "")
    assert found.failures(0.5) == []
    assert "top-1 agreement" in found.failures(0.99)[0]
    lucky = agreement(reference, np.where((reference.argmax(1) == target.argmax(1))[:, None], target, reference), "")
    assert lucky.top1_agreement == 1.0
    assert "of the answers change" in lucky.failures(0.99)[0]
