"""What may be claimed from differences: every figure against a case computed by hand or by another library."""

import math

import numpy as np
import pytest
from scipy import stats

from edge.drift import statistics
from edge.drift.limits import Limits
from edge.drift.metrics import compare
from tfvit.evaluate import wilson_interval

LIMITS = Limits(min_snr_db=20.0, min_agreement=0.98, max_top1_drop=1.0)


def _logits(answers, classes=3):
    return 4.0 * np.eye(classes)[answers]


def _images(reference, target, labels=None):
    return compare(_logits(reference), _logits(target), None if labels is None else np.array(labels))


def test_accuracy_by_hand():
    #           both right, only reference, only target, none
    images = _images([0, 1, 2, 0], [0, 2, 1, 0], [0, 1, 1, 2])
    found = statistics.accuracy(images, np.array([0, 1, 1, 2]), ["a", "b", "c"])
    assert found["reference"]["top1"]["value"] == found["target"]["top1"]["value"] == 0.5
    assert found["reference"]["top5"]["value"] == 1.0  # three classes
    assert (found["only_reference_right"], found["only_target_right"]) == (1, 1)
    assert found["top1_change"]["value"] == 0.0
    assert found["per_class"] == [
        {"label": "a", "images": 1, "reference_right": 1, "target_right": 1},
        {"label": "b", "images": 2, "reference_right": 1, "target_right": 1},
        {"label": "c", "images": 1, "reference_right": 0, "target_right": 0},
    ]


def test_the_class_that_lost_most_is_first():
    rows = statistics.per_class(np.array([1, 1, 1, 0]), np.array([1, 0, 1, 1]), np.array([0, 1, 2, 2]), ["a", "b", "c"])
    assert [row["label"] for row in rows] == ["b", "a", "c"]


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (10, 0), (7, 3), (3, 12)])
def test_mcnemar_is_the_exact_binomial_test(lost, won):
    reference = [0] * 50 + [0] * lost + [1] * won
    target = [0] * 50 + [1] * lost + [0] * won
    found = statistics.accuracy(_images(reference, target, [0] * len(reference)), np.zeros(len(reference), int), ["a", "b", "c"])
    tail = sum(math.comb(lost + won, k) for k in range(min(lost, won) + 1)) / 2 ** (lost + won)
    assert found["mcnemar_p"] == pytest.approx(min(1.0, 2 * tail))
    assert found["top1_change"]["value"] == pytest.approx((won - lost) / len(reference))
    assert found["top1_change"]["low"] <= found["top1_change"]["value"] <= found["top1_change"]["high"]


def test_the_interval_of_a_change_covers_what_it_says():
    """Drawn again and again from known probabilities, the interval holds the true change about 95 times in a hundred."""
    rng, samples, lost, won = np.random.default_rng(0), 400, 0.04, 0.02
    held = 0
    for _ in range(2000):
        counts = rng.multinomial(samples, [lost, won, 1 - lost - won])
        interval = statistics.paired_change(int(counts[0]), int(counts[1]), samples)
        held += interval["low"] <= won - lost <= interval["high"]
    print(held / 2000)
    assert 0.935 <= held / 2000 <= 0.975


def test_calibration_error_by_hand():
    # 0.9 sure and right half the time; 0.6 sure and always right
    right, confidence = np.array([1, 0, 1, 1], bool), np.array([0.9, 0.9, 0.6, 0.6])
    bins = statistics.reliability(right, confidence)
    assert sum(one["count"] for one in bins) == 4
    assert [one["count"] for one in bins if one["count"]] == [2, 2]
    filled = [one for one in bins if one["count"]]
    assert filled[0]["accuracy"] == 1.0
    assert filled[0]["confidence"] == pytest.approx(0.6)
    side = statistics._side(right, np.where(right, 0, 1), confidence)
    assert side["ece"] == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


def test_edges_of_confidence_have_a_bin():
    bins = statistics.reliability(np.array([True, False]), np.array([1.0, 0.0]))
    assert bins[-1]["count"] == bins[0]["count"] == 1


def test_a_gate_is_proved_by_its_interval_not_by_its_value():
    images = _images([0] * 100, [0] * 99 + [1])
    (proof,) = statistics.proofs(images, LIMITS, labelled=False)
    assert proof["measured"] == 0.99
    assert not proof["proved"]
    assert proof["low"] < 0.98
    needed = proof["images_needed"]
    assert wilson_interval(0.99 * needed, needed)[0] >= 0.98 > wilson_interval(0.99 * (needed - 1), needed - 1)[0]
    many = _images([0] * needed, [0] * round(0.99 * needed) + [1] * (needed - round(0.99 * needed)))
    assert statistics.proofs(many, LIMITS, labelled=False)[0]["low"] == pytest.approx(0.98, abs=1e-3)


def test_what_misses_its_limit_no_number_of_images_proves():
    (proof,) = statistics.proofs(_images([0] * 100, [0] * 90 + [1] * 10), LIMITS, labelled=False)
    assert proof["images_needed"] is None
    assert not proof["proved"]


def test_proof_of_a_drop():
    labels = [0] * 200
    images = _images([0] * 200, [0] * 199 + [1], labels)
    agreement, drop = statistics.proofs(images, LIMITS, labelled=True)
    assert agreement["limit"] == "min_agreement"
    assert drop["measured"] == pytest.approx(0.5)
    assert not drop["proved"]
    assert drop["images_needed"] > 200
    better = statistics.proofs(_images([0] * 200, [0] * 200, labels), LIMITS, labelled=True)[1]
    assert better["measured"] == 0
    assert better["proved"] == (better["images_needed"] <= 200)


def test_proportion_is_wilson():
    found = statistics.proportion(np.array([True] * 45 + [False] * 5))
    expected = stats.binomtest(45, 50).proportion_ci(0.95, "wilson")
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_what_json_cannot_say_is_null():
    nan = compare(np.array([[0.0, 1.0]]), np.array([[np.nan, 1.0]]))
    document = statistics.Difference("total", "a", "b", nan).document()
    assert document["metrics"]["logits_snr_db"] is None
    assert document["metrics"]["top1_agreement"]["value"] == 0.0
    assert statistics.confidence(nan)["target_mean"] is None


def test_an_answer_that_is_no_number_is_in_no_bin():
    bins = statistics.reliability(np.array([True, False]), np.array([0.7, np.nan]))
    assert sum(one["count"] for one in bins) == 1
    assert sum(one["accuracy"] or 0 for one in bins) == 1.0


def test_labels_in_another_order_are_seen():
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 10
    order = np.roll(np.arange(10), 3)
    found = statistics.wrong_label_order(order[labels], labels, 10)
    assert (found.given, found.permuted) == (0.0, 1.0)
    assert "0% of the images" in str(found)
    noisy = np.where(generator.random(60) < 0.8, order[labels], generator.integers(0, 10, 60))
    assert statistics.wrong_label_order(noisy, labels, 10) is not None


@pytest.mark.parametrize("share", [1.0, 0.7, 0.5])
def test_a_right_order_is_left_alone(share):
    """A mediocre model too, and one that is bad at everything."""
    generator = np.random.default_rng(1)
    labels = np.arange(60) % 10
    answers = np.where(generator.random(60) < share, labels, generator.integers(0, 10, 60))
    assert statistics.wrong_label_order(answers, labels, 10) is None


def test_chance_and_few_images_say_nothing():
    generator = np.random.default_rng(2)
    for _ in range(200):
        labels = np.arange(40) % 10
        assert statistics.wrong_label_order(generator.integers(0, 10, 40), labels, 10) is None
    few = np.arange(10)
    assert statistics.wrong_label_order(np.roll(few, 1), few, 10) is None
    assert statistics.wrong_label_order(np.zeros(30, int), np.arange(30) % 10, 10) is None  # one answer for everything is another fault


def test_the_interval_of_a_mean_share():
    """Of the images, however many places each has."""
    shares = np.array([0.9, 1.0, 0.95, 0.85])
    found = statistics.mean_share(shares)
    half = 1.959964 * np.std(shares, ddof=1) / 2
    assert found == pytest.approx({"value": 0.925, "low": 0.925 - half, "high": min(1.0, 0.925 + half)}, abs=1e-6)
    assert statistics.mean_share(shares[:1]) == {"value": 0.9, "low": 0.0, "high": 1.0}
