"""Every metric against a case computed by hand, and every limit failing on its own."""

import dataclasses
import math

import numpy as np
import pytest

from edge.drift import metrics
from edge.drift.limits import Limits
from edge.drift.meanings import Output
from edge.quantization.recipes import RECIPES

# float64 arithmetic against decimals written down here
EXACT = 1e-12
GOOD = metrics.Drift(
    samples=100, top1_agreement=0.99, top1_in_top5=1.0, top5_agreement=0.99, logits_snr_db=40.0, cosine=0.999, max_abs_err=0.01,
    mean_abs_err=0.001, max_abs_err_logits=0.1, mean_abs_err_logits=0.01, kl=0.001, top1_reference=0.80, top1_target=0.795,
)  # fmt: skip
LIMITS = Limits(min_snr_db=30.0, min_agreement=0.98, max_top1_drop=1.0)


def test_snr_by_hand():
    # centred: reference +-1, target +-1.1: power 2 over 0.02 is 100, 20 dB
    measured = metrics.measure(np.array([[1.0, -1.0]]), np.array([[1.1, -1.1]]))
    assert measured.logits_snr_db == pytest.approx(20.0, abs=1e-9)
    assert measured.max_abs_err_logits == pytest.approx(0.1, abs=EXACT)
    assert measured.cosine == pytest.approx(1.0, abs=EXACT)


def test_a_constant_per_image_is_no_drift():
    reference = np.array([[1.0, 2.0, 4.0], [0.0, -3.0, 1.0]])
    measured = metrics.measure(reference, reference + np.array([[5.0], [-7.0]]))
    assert measured.logits_snr_db >= metrics.SNR_CEILING_DB
    assert measured.max_abs_err_logits == pytest.approx(0.0, abs=EXACT)


def test_equal_logits_reach_the_ceiling():
    reference = np.array([[1.0, 2.0, 4.0]])
    assert metrics.measure(reference, reference).logits_snr_db == metrics.SNR_CEILING_DB
    assert metrics.snr_db(np.zeros(3), np.ones(3)) < -1000  # nothing but noise


def test_cosine_by_hand():
    # centred (1, -1, 0) and (1, 1, -2) / 3: orthogonal; the second image is equal: mean 0.5
    measured = metrics.measure(np.array([[1.0, -1.0, 0.0], [3.0, 0.0, 0.0]]), np.array([[1.0, 1.0, -2.0], [3.0, 0.0, 0.0]]))
    assert measured.cosine == pytest.approx(0.5, abs=EXACT)
    assert metrics.measure(np.array([[2.0, 2.0]]), np.array([[1.0, 0.0]])).cosine == 0.0
    assert metrics.measure(np.array([[2.0, 2.0]]), np.array([[1.0, 1.0]])).cosine == 1.0


def test_probabilities_and_divergence_by_hand():
    # reference 1/2, 1/2; target 3/4, 1/4
    measured = metrics.measure(np.array([[0.0, 0.0]]), np.log(np.array([[3.0, 1.0]])))
    assert measured.max_abs_err == pytest.approx(0.25, abs=EXACT)
    assert measured.kl == pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25), abs=EXACT)
    assert metrics.measure(np.array([[0.0, -2000.0]]), np.array([[0.0, -2000.0]])).kl == 0.0  # a probability of 0 adds nothing


def test_agreement_by_hand():
    reference = np.eye(10)[[0, 1, 2, 3]] * 5 + np.arange(10) * 0.1  # best five: the hot one and 9, 8, 7, 6
    target = np.eye(10)[[0, 1, 2, 5]] * 5 + np.arange(10) * 0.1
    measured = metrics.measure(reference, target)
    assert measured.samples == 4
    assert measured.top1_agreement == 0.75
    assert measured.top5_agreement == pytest.approx((1 + 1 + 1 + 0.8) / 4, abs=EXACT)


def test_fewer_than_five_classes():
    assert metrics.measure(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]])).top5_agreement == 1.0


def test_labels_give_the_accuracy_of_both_sides():
    reference, target = np.eye(4)[[0, 1, 2, 3]], np.eye(4)[[0, 1, 3, 2]]
    measured = metrics.measure(reference, target, np.array([0, 1, 2, 0]))
    assert (measured.top1_reference, measured.top1_target) == (0.75, 0.5)
    unlabelled = metrics.measure(reference, target)
    assert unlabelled.top1_reference is None
    assert unlabelled.top1_target is None


def test_a_permuted_class_order_fails():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((32, 10))
    measured = metrics.measure(reference, np.roll(reference, 1, axis=1))
    print(measured)
    assert measured.top1_agreement < 0.5
    assert measured.logits_snr_db < 3.0
    for recipe in RECIPES.values():
        assert measured.failures(recipe.limits, random_weights=False)
        assert measured.failures(recipe.limits, random_weights=True)


@pytest.mark.parametrize("side", ["reference", "target"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_one_bad_number_in_one_image_fails_every_check(side, value):
    rng = np.random.default_rng(0)
    clean = rng.standard_normal((50, 10))
    broken = clean.copy()
    broken[7, 3] = value
    pair = (broken, clean) if side == "reference" else (clean, broken)
    labels = clean.argmax(1)
    measured = metrics.measure(*pair, labels)
    print(side, value, measured)
    assert math.isnan(measured.logits_snr_db)
    assert measured.top1_agreement == 0.98  # the broken image does not count as agreeing, even where the best class is the same
    assert measured.failures(Limits(-1000.0, 0.0, 100.0), random_weights=True)
    assert measured.failures(Limits(-1000.0, 0.0, 100.0), random_weights=False)
    # minus infinity is a probability of 0: only the logits are broken then
    for name in ("cosine", "max_abs_err_logits") + (("max_abs_err", "kl") if value != -np.inf else ()):
        assert not np.isfinite(getattr(measured, name)), name


def test_passing_values_pass():
    assert GOOD.failures(LIMITS, random_weights=False) == []
    exactly = Limits(min_snr_db=40.0, min_agreement=0.99, max_top1_drop=0.51)
    assert GOOD.failures(exactly, random_weights=False) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logits_snr_db": 29.9}, "logits SNR 29.9 dB is below 30 dB"),
        ({"top1_agreement": 0.97}, "top-1 agreement 97.0 % is below 98 %"),
        ({"top1_target": 0.78}, "top-1 drop 2.00 points is above 1"),
        ({"logits_snr_db": math.nan}, "logits SNR nan dB is below 30 dB"),
        ({"top1_agreement": math.nan}, "top-1 agreement nan % is below 98 %"),
        ({"top1_target": math.nan}, "top-1 drop nan points is above 1"),
    ],
)
def test_each_limit_fails_by_itself(change, words):
    assert dataclasses.replace(GOOD, **change).failures(LIMITS, random_weights=False) == [words]


def test_random_weights_are_held_to_the_snr_alone():
    bad = dataclasses.replace(GOOD, top1_agreement=0.0, top1_target=0.0)
    assert bad.failures(LIMITS, random_weights=True) == []
    assert len(dataclasses.replace(bad, logits_snr_db=1.0).failures(LIMITS, random_weights=True)) == 1


def test_without_labels_no_drop_is_judged():
    assert dataclasses.replace(GOOD, top1_reference=None, top1_target=None).failures(LIMITS, random_weights=False) == []


def test_logits_of_probabilities():
    probabilities = np.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]], np.float32)
    logits = metrics.logits_of_probabilities(probabilities)
    assert logits[0] == pytest.approx(np.log([0.5, 0.25, 0.25]), abs=EXACT)
    assert np.isfinite(logits).all()  # a probability that underflowed is small, not minus infinity
    assert np.isnan(metrics.logits_of_probabilities(np.array([[np.nan, 0.5]]))[0, 0])


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((2, 3), (3, 3)), ((3,), (3,)), ((0, 3), (0, 3))])
def test_shapes_that_cannot_be_compared(shapes):
    with pytest.raises(ValueError, match="must be equal"):
        metrics.measure(np.zeros(shapes[0]), np.zeros(shapes[1]))


def test_images_apart_and_joined_give_what_all_at_once_gives():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((7, 12))
    target, labels = reference + 0.3 * rng.standard_normal((7, 12)), rng.integers(0, 12, 7)
    parts = [metrics.compare(reference[part], target[part], labels[part]) for part in (slice(0, 3), slice(3, 7))]
    joined = metrics.summary(metrics.ImageDrifts.joined(parts))
    whole = metrics.measure(reference, target, labels)
    for field in dataclasses.fields(metrics.Drift):
        assert getattr(joined, field.name) == pytest.approx(getattr(whole, field.name), rel=1e-12), field.name


def test_ranks_of_the_labelled_class_by_hand():
    logits = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 1.0, 0.0], [np.nan, 1.0, 0.0]])
    compared = metrics.compare(logits, logits, np.array([0, 2, 1, 0]))
    assert compared.rank_reference.tolist() == [0, 2, 1, 3]
    assert metrics.compare(logits, logits).rank_reference.tolist() == [-1, -1, -1, -1]


def test_the_reference_answer_among_the_targets_five():
    reference, target = np.eye(7)[[0, 0]], np.array([[0.5, 1, 2, 3, 4, 0.1, 0.2], [0.5, 1, 2, 3, 4, 5, 0.2]])
    compared = metrics.compare(reference, target)
    assert compared.top1_in_top5.tolist() == [True, False]
    assert not compared.same_top1.any()


def test_labels_agree_one_by_one():
    """Of 2 x 3 labels one is on the other side of a half; a constant is an error here, a softmax would not see it."""
    reference, target = np.array([[2.0, -1.0, 0.5], [-3.0, 4.0, 1.0]]), np.array([[2.0, -1.0, -0.5], [-3.0, 4.0, 1.0]])
    found = metrics.measure(reference, target, meaning="labels")
    assert (found.samples, found.top1_agreement) == (2, pytest.approx(5 / 6))
    assert found.max_abs_err == pytest.approx(2 / (1 + math.exp(-0.5)) - 1)
    assert found.logits_snr_db == pytest.approx(10 * math.log10(31.25 / 1.0))
    images = metrics.compare(reference, target, meaning="labels")
    assert images.same_top1.tolist() == [False, True]
    assert (images.top1_reference[0], images.confidence_reference[0] > 0.5 > images.confidence_target[0]) == (2, True)
    shifted = metrics.measure(reference, reference + 10, meaning="labels")
    assert shifted.failures(Limits(20.0, 0.97, 1.0), random_weights=False) == [
        f"logits SNR {shifted.logits_snr_db:.1f} dB is below 20 dB",
        "top-1 agreement 66.7 % is below 97 %",
    ]


def test_values_are_measured_by_how_far_they_move():
    """A constant of 1000 in the target is no signal."""
    reference = np.array([[1000.0], [1002.0], [998.0]])
    found = metrics.measure(reference, reference + 1.0, meaning="values")
    assert found.logits_snr_db == pytest.approx(10 * math.log10(8 / 3))
    assert (found.top1_agreement, found.top5_agreement, found.max_abs_err) == (None, None, 1.0)
    assert math.isnan(found.kl)
    assert [sentence[:10] for sentence in found.failures(Limits(20.0, 0.97, 1.0), False)] == ["logits SNR"]


@pytest.mark.parametrize("meaning", ["labels", "values", "features"])
def test_a_number_that_is_none_fails_whatever_it_means(meaning):
    reference = np.ones((3, 4)) * np.arange(3)[:, None]
    target = reference.copy()
    target[1, 2] = np.nan
    assert metrics.measure(reference, target, meaning=meaning).failures(Limits(20.0, 0.97, 1.0), random_weights=False)


def test_features_have_a_cosine():
    reference = np.eye(3)
    found = metrics.measure(reference, reference * 0.5, meaning="features")
    assert (found.cosine, found.top1_agreement) == (pytest.approx(1.0), None)
    assert found.logits_snr_db == pytest.approx(10 * math.log10(4))


@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
def test_logits_are_read_back(activation):
    """From the outputs where float32 keeps them, from before the activation where it does not."""
    logits = np.array([[1.0, -2.0, 0.5]])
    outputs = {None: logits, "softmax": metrics.softmax(logits), "sigmoid": metrics.sigmoid(logits)}[activation]
    asked = []
    found = metrics.logits_of_outputs(outputs, activation, lambda: asked.append(1))
    np.testing.assert_allclose(found - found[:, :1], logits - logits[:, :1], atol=1e-6)
    assert len(asked) == (activation == "sigmoid")
    lost = metrics.logits_of_outputs(np.array([[1.0, 0.0, 0.0]]), activation, lambda: logits)
    np.testing.assert_array_equal(lost, logits if activation else [[1.0, 0.0, 0.0]])


def test_a_map_of_classes_is_compared_place_by_place():
    """A quarter of the places has another best class; a constant of each place, which a softmax does not see, changes nothing."""
    random = np.random.default_rng(0)
    reference = random.normal(size=(6, 4, 4, 3))
    target = reference + random.normal(size=(6, 4, 4, 1))
    same = metrics.measure(reference.reshape(6, -1), target.reshape(6, -1), meaning="class_map", classes=3)
    assert (same.top1_agreement, same.samples) == (1.0, 6)
    assert same.logits_snr_db > 150
    target[:, 0] = -target[:, 0]
    other = metrics.compare(reference.reshape(6, -1), target.reshape(6, -1), meaning="class_map", classes=3)
    found = metrics.summary(other)
    np.testing.assert_allclose(other.agreement, 0.75)
    np.testing.assert_allclose(found.logits_snr_db, 10 * np.log10(1 / (4 * 0.25)), atol=1.0)
    assert found.failures(Limits(min_snr_db=0.0, min_agreement=0.8, max_top1_drop=1.0), random_weights=False) == [
        "top-1 agreement 75.0 % is below 80 %"
    ]
    target[0, 0, 0, 0] = np.nan
    broken = metrics.compare(reference.reshape(6, -1), target.reshape(6, -1), meaning="class_map", classes=3)
    assert broken.agreement[0] == 0.0
    assert not broken.finite_target[0]


def test_the_worst_of_several_outputs():
    """By each output's own measure: one number an image has no best class, and no constant is removed from it."""
    random = np.random.default_rng(0)
    outputs = (Output("scores", "classes", (3,)), Output("age", "values", (1,)))
    reference = np.concatenate([100 * random.normal(size=(64, 3)), random.normal(size=(64, 1))], axis=1)
    assert metrics.measure_worst(reference, reference, outputs).logits_snr_db == metrics.SNR_CEILING_DB
    scores_off, age_off = reference.copy(), reference.copy()
    scores_off[:, :3] += random.normal(size=(64, 3))
    age_off[:, 3] += 0.1 * random.normal(size=64)
    np.testing.assert_allclose(metrics.measure_worst(reference, scores_off, outputs).logits_snr_db, 40.0, atol=1.5)
    np.testing.assert_allclose(metrics.measure_worst(reference, age_off, outputs).logits_snr_db, 20.0, atol=1.5)
    age_off[0, 3] = np.nan
    assert np.isnan(metrics.measure_worst(reference, age_off, outputs).logits_snr_db)


def test_the_logits_of_a_file_are_put_side_by_side():
    """A softmax that has underflown and every sigmoid are read from the file itself, each by its own output."""
    asked = []

    def exact(index):
        asked.append(index)
        return np.full((2, 2), float(index))

    outputs = [np.array([[0.25, 0.75], [0.5, 0.5]]), np.array([[0.1, 0.9], [0.2, 0.8]]), np.array([[7.0], [8.0]])]
    found = metrics.logits_of_file(outputs, ["softmax", "sigmoid", None], exact)
    assert asked == [1]
    np.testing.assert_allclose(found[:, 1] - found[:, 0], np.log([3.0, 1.0]))
    np.testing.assert_array_equal(found[:, 2:], [[1.0, 1.0, 7.0], [1.0, 1.0, 8.0]])
