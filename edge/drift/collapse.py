"""Signs that a file is broken rather than a little off: each is a sentence, and any of them refuses the file. Pure NumPy.

A reference that itself gives one class for everything (random weights do) is no sign: target and reference are always compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edge.drift.meanings import CLASSES

# Below this many images shares of classes say nothing
MIN_IMAGES = 8
# One class for nearly everything, and this much more often than the reference gives it
DOMINANT_SHARE, DOMINANT_EXCESS = 0.9, 0.3
# Agreement above this is not chance, whatever the classes' shares
CLEAR_AGREEMENT = 0.5
# Spread over the images, as a fraction of the reference's, below which logits do not depend on the image
MIN_SPREAD = 1e-3
# Share of images whose best classes tie at one value, beyond the reference's: the output's range is too small for it
MAX_TIED_SHARE = 0.5
# Standard errors by which swapped channels must look better than the given ones
SWAPPED_SIGMAS = 4.0


def signs_of_collapse(reference: np.ndarray, target: np.ndarray, meaning: str = CLASSES) -> list[str]:
    """What shows that a target is broken; empty where nothing does.

    Args:
        reference, target: [N, D] logits on the same images.
        meaning: of the output; what has no best class is asked for numbers that depend on the image.
    """
    signs = (_not_finite, _same_for_every_image, _tied, _one_class, _chance) if meaning == CLASSES else (_not_finite, _same_at_all)
    return [sentence for sign in signs if (sentence := sign(np.asarray(reference, np.float64), np.asarray(target, np.float64)))]


def _not_finite(reference: np.ndarray, target: np.ndarray) -> str | None:
    broken = int((~np.isfinite(target)).any(axis=1).sum())
    return f"NaN or infinity on {broken} of {len(target)} images" if broken else None


def _same_for_every_image(reference: np.ndarray, target: np.ndarray) -> str | None:
    if not np.isfinite(target).all():
        return None
    return _same_at_all(*(logits - logits.mean(axis=1, keepdims=True) for logits in (reference, target)))


def _same_at_all(reference: np.ndarray, target: np.ndarray) -> str | None:
    if len(target) < 2 or not np.isfinite(target).all():
        return None
    spreads = [float(np.std(logits, axis=0).max()) for logits in (reference, target)]
    if spreads[1] <= MIN_SPREAD * spreads[0]:
        return f"identical logits for all {len(target)} images"
    return None


def _tied(reference: np.ndarray, target: np.ndarray) -> str | None:
    if not np.isfinite(target).all():
        return None
    shares = [float(np.mean((logits == logits.max(axis=1, keepdims=True)).sum(axis=1) > 1)) for logits in (reference, target)]
    if shares[1] - shares[0] > MAX_TIED_SHARE:
        return f"saturated logits: the best classes tie on {shares[1]:.0%} of the images"
    return None


def _one_class(reference: np.ndarray, target: np.ndarray) -> str | None:
    if len(target) < MIN_IMAGES:
        return None
    answers, expected = _best(target), _best(reference)
    classes, counts = np.unique(answers, return_counts=True)
    common, share = int(classes[counts.argmax()]), float(counts.max() / len(answers))
    excess = share - float(np.mean(expected == common))
    if share >= DOMINANT_SHARE and excess > DOMINANT_EXCESS:
        return f"one class for nearly everything: class {common} on {share:.0%} of the images, {share - excess:.0%} in the float model"
    return None


def _chance(reference: np.ndarray, target: np.ndarray) -> str | None:
    """Agreement no better than between answers of the same shares drawn without looking at the image."""
    if len(target) < MIN_IMAGES:
        return None
    answers, expected, classes = _best(target), _best(reference), reference.shape[1]
    agreement = float(np.mean(answers == expected))
    shares = [np.bincount(each, minlength=classes) / len(each) for each in (expected, answers)]
    chance = float(shares[0] @ shares[1])
    error = math.sqrt(max(chance * (1 - chance), 1.0 / len(answers)) / len(answers))
    if agreement < CLEAR_AGREEMENT and agreement <= chance + 2 * error:
        return f"agreement near chance: {agreement:.0%} of the images, {chance:.0%} would agree by chance"
    return None


def looks_swapped(logits: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> bool:
    """Whether a trained model is surer of the images with red and blue exchanged than of the images as given.

    Args:
        logits: [N, H, W, 3] pixels -> [N, classes].
        images: [N, H, W, 3] RGB as far as anyone knows.
    """
    gains = _confidence(logits(images[..., ::-1])) - _confidence(logits(images))
    error = float(np.std(gains, ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
    return float(np.mean(gains)) > SWAPPED_SIGMAS * error


def _confidence(logits: np.ndarray) -> np.ndarray:
    """Minus the entropy of each image's probabilities, nats: [N]."""
    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return (np.exp(logarithms) * logarithms).sum(axis=1)


def _best(logits: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(logits), logits, -np.inf).argmax(axis=1)
