"""Each detector fires on what it is for and on nothing that is merely inexact."""

import numpy as np
import pytest

from edge.drift.collapse import looks_swapped, signs_of_collapse


@pytest.fixture
def reference():
    return np.random.default_rng(0).normal(0, 3, (32, 10))


def _only(signs, words):
    assert len(signs) == 1, signs
    assert words in signs[0]


def test_noise_is_no_collapse(reference):
    rng = np.random.default_rng(1)
    assert signs_of_collapse(reference, reference) == []
    for scale in (0.01, 0.3, 1.0):
        assert signs_of_collapse(reference, reference + rng.normal(0, scale, reference.shape)) == []
    assert signs_of_collapse(reference, 1e-2 * reference) == []


def test_not_finite(reference):
    target = reference.copy()
    target[3, 1], target[5, 2] = np.nan, np.inf
    _only(signs_of_collapse(reference, target), "NaN or infinity on 2 of 32")


def test_identical_logits(reference):
    target = np.repeat(reference[:1], len(reference), axis=0)
    signs = signs_of_collapse(reference, target)
    assert "identical logits for all 32 images" in signs[0]


def test_saturated(reference):
    signs = signs_of_collapse(reference, np.clip(reference, -0.5, 0.5))
    assert "the best classes tie" in signs[0]


def test_one_class(reference):
    target = reference.copy()
    target[:, 7] += 12.0
    signs = signs_of_collapse(reference, target)
    assert "class 7 on 100%" in signs[0]


def test_chance(reference):
    signs = signs_of_collapse(reference, np.random.default_rng(2).permuted(reference, axis=1))
    _only(signs, "agreement near chance")


def test_a_reference_that_gives_one_class_is_none(reference):
    """As random weights do."""
    lopsided = reference.copy()
    lopsided[:, 4] += 30.0
    assert signs_of_collapse(lopsided, lopsided + np.random.default_rng(3).normal(0, 0.1, lopsided.shape)) == []


def test_too_few_images_for_shares():
    few = np.random.default_rng(4).normal(size=(3, 10))
    assert signs_of_collapse(few, np.roll(few, 1, axis=1)) == []


def test_swapped_channels():
    """A model that is sure of red images and knows nothing of blue ones."""
    rng = np.random.default_rng(5)
    red = rng.uniform(0, 50, (16, 8, 8, 3))
    red[..., 0] += rng.uniform(80, 200, (16, 1, 1))

    def logits(images):
        redness = (images[..., 0] - images[..., 2]).mean(axis=(1, 2))
        return np.stack([np.maximum(redness, 0) / 20, np.zeros_like(redness)], axis=1)

    assert not looks_swapped(logits, red)
    assert looks_swapped(logits, red[..., ::-1])
    assert not looks_swapped(logits, rng.uniform(0, 255, (16, 8, 8, 3)))
