"""What a validation says, from the differences image by image: pure NumPy and SciPy, nothing is run here.

Intervals are 95 %. Proportions: Wilson (1927). Paired change of accuracy: Agresti and Min (2005), Simple improved confidence intervals for
comparing matched proportions; its test: McNemar, exact. Calibration error: Guo et al. (2017), 15 bins of equal width.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import special  # not scipy.stats: loading it takes longer than any test here

from edge.drift.limits import Limits
from edge.drift.meanings import CLASS_MAP, CLASSES, LABELS
from edge.drift.metrics import ImageDrifts, summary
from tfvit.evaluate import CONFIDENCE_Z, wilson_interval

CALIBRATION_BINS = 15
# Of labels in the wrong order: share right as given and in the best order, how much better that is, images needed of each label
_MOST_OF_A_WRONG_ORDER, _LEAST_OF_A_RIGHT_ORDER, _TIMES_BETTER, _IMAGES_A_LABEL = 0.4, 0.6, 2.0, 2
# More images than anyone has: what would need as many is not to be proved
MOST_IMAGES = 10**8


@dataclasses.dataclass(frozen=True)
class Difference:
    """One of the differences that are printed apart.

    Attributes:
        name: "preprocessing", "export", "quantization" or "total".
        reference, target: what is compared, in words.
        images: image by image.
        identical: whether both sides were the very same answers.
    """

    name: str
    reference: str
    target: str
    images: ImageDrifts
    identical: bool = False

    def _agreement(self) -> dict[str, float] | None:
        if self.images.meaning == CLASS_MAP:
            return mean_share(self.images.agreement)
        return proportion(self.images.same_top1) if self.images.meaning in (CLASSES, LABELS) else None

    def document(self) -> dict[str, Any]:
        found = summary(self.images)
        return {
            "name": self.name,
            "reference": self.reference,
            "target": self.target,
            "identical": self.identical,
            "metrics": {
                "samples": found.samples,
                "top1_agreement": self._agreement(),
                "top1_in_top5": proportion(self.images.top1_in_top5) if self.images.meaning == CLASSES else None,
                "top5_overlap": None if found.top5_agreement is None else finite(found.top5_agreement),
                "logits_snr_db": finite(found.logits_snr_db),
                "cosine": finite(found.cosine),
                "kl": finite(found.kl),
                "max_abs_err": finite(found.max_abs_err),
                "mean_abs_err": finite(found.mean_abs_err),
                "max_abs_err_logits": finite(found.max_abs_err_logits),
                "mean_abs_err_logits": finite(found.mean_abs_err_logits),
            },
        }


def mean_share(shares: np.ndarray) -> dict[str, float]:
    """Mean of a share of every image, with the interval of a mean of so many: places of one image are no samples of their own."""
    value = float(np.mean(shares))
    half = CONFIDENCE_Z * float(np.std(shares, ddof=1)) / math.sqrt(len(shares)) if len(shares) > 1 else 1.0
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}


def finite(value: float | np.floating[Any]) -> float | None:
    """None for what JSON cannot say."""
    return float(value) if math.isfinite(value) else None


def proportion(right: np.ndarray) -> dict[str, float]:
    """Share of true entries, with its Wilson interval."""
    number = int(np.sum(right))
    low, high = wilson_interval(number, len(right))
    return {"value": number / len(right), "low": low, "high": high}


def accuracy(images: ImageDrifts, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Both sides against labels, and the change between them.

    Args:
        images: compared with these labels.
        labels: [N] class indices.
        names: of the classes.
    """
    right = [images.rank_reference == 0, images.rank_target == 0]
    lost, won = int(np.sum(right[0] & ~right[1])), int(np.sum(right[1] & ~right[0]))
    return {
        "reference": _side(right[0], images.rank_reference, images.confidence_reference),
        "target": _side(right[1], images.rank_target, images.confidence_target),
        "top1_change": paired_change(lost, won, len(labels)),
        "only_reference_right": lost,
        "only_target_right": won,
        "mcnemar_p": mcnemar_p(lost, won),
        "per_class": per_class(right[0], right[1], labels, names),
    }


def mcnemar_p(lost: int, won: int) -> float:
    """Two-sided p of McNemar's exact test: the binomial test of as many losses as gains."""
    return min(1.0, 2.0 * float(special.bdtr(min(lost, won), lost + won, 0.5)))


def _side(right: np.ndarray, ranks: np.ndarray, confidence: np.ndarray) -> dict[str, Any]:
    bins = reliability(right, confidence)
    return {
        "top1": proportion(right),
        "top5": proportion(ranks < 5),
        "mean_confidence": finite(np.mean(confidence)),
        "ece": finite(sum(bin_["count"] * abs(bin_["accuracy"] - bin_["confidence"]) for bin_ in bins if bin_["count"]) / len(right)),
        "reliability": bins,
    }


def reliability(right: np.ndarray, confidence: np.ndarray) -> list[dict[str, Any]]:
    """How often answers of about the same confidence are right, in bins of equal width; an edge belongs to the bin below it.

    An answer without a number for its confidence is in none.
    """
    right, confidence = right[np.isfinite(confidence)], confidence[np.isfinite(confidence)]
    edges = np.linspace(0.0, 1.0, CALIBRATION_BINS + 1)
    positions = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    bins = []
    for index in range(CALIBRATION_BINS):
        inside = positions == index
        bins.append(
            {
                "low": float(edges[index]),
                "high": float(edges[index + 1]),
                "count": int(inside.sum()),
                "confidence": float(np.mean(confidence[inside])) if inside.any() else None,
                "accuracy": float(np.mean(right[inside])) if inside.any() else None,
            }
        )
    return bins


def paired_change(lost: float, won: float, samples: int) -> dict[str, float]:
    """Change of accuracy (target - reference, a fraction) with its interval.

    Args:
        lost, won: images that only the reference, only the target answers rightly; expected numbers need not be whole.
        samples: all images.
    """
    b, c, n = lost + 0.5, won + 0.5, samples + 2
    centre = (c - b) / n
    half = CONFIDENCE_Z * math.sqrt(b + c - (c - b) ** 2 / n) / n
    return {"value": (won - lost) / samples, "low": max(centre - half, -1.0), "high": min(centre + half, 1.0)}


def per_class(reference_right: np.ndarray, target_right: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Right answers of both sides by class, the class that lost most first."""
    rows = []
    for index in np.unique(labels):
        own = labels == index
        counts = int(own.sum()), int(reference_right[own].sum()), int(target_right[own].sum())
        rows.append({"label": names[index], "images": counts[0], "reference_right": counts[1], "target_right": counts[2]})
    return sorted(rows, key=lambda row: ((row["target_right"] - row["reference_right"]) / row["images"], row["label"]))


def confidence(images: ImageDrifts) -> dict[str, float | None]:
    """Probability of each side's own answer, and how far apart they are."""
    change = images.confidence_target - images.confidence_reference
    return {
        "reference_mean": finite(np.mean(images.confidence_reference)),
        "target_mean": finite(np.mean(images.confidence_target)),
        "mean_change": finite(np.mean(change)),
        "mean_abs_change": finite(np.mean(np.abs(change))),
    }


def proofs(images: ImageDrifts, limits: Limits, labelled: bool) -> list[dict[str, Any]]:
    """For every limit that is a share of images: whether these images prove it, and how many of their kind would.

    Of labels, an image counts where all of its labels agree.

    Proved: the whole interval, not only the measured value, is on the right side of the limit.
    """
    if images.meaning not in (CLASSES, LABELS):
        return []
    samples = len(images.finite)
    same = int(images.same_top1.sum())
    found = [
        {
            "limit": "min_agreement",
            "claimed": limits.min_agreement,
            "measured": same / samples,
            "low": wilson_interval(same, samples)[0],
            "proved": wilson_interval(same, samples)[0] >= limits.min_agreement,
            "images_needed": _least(lambda n: wilson_interval(same / samples * n, n)[0] >= limits.min_agreement),
        }
    ]
    if labelled:
        right = images.rank_reference == 0, images.rank_target == 0
        lost, won = int(np.sum(right[0] & ~right[1])), int(np.sum(right[1] & ~right[0]))

        def worst_drop(n: int) -> float:
            return -100 * paired_change(lost / samples * n, won / samples * n, n)["low"]

        found.append(
            {
                "limit": "max_top1_drop",
                "claimed": limits.max_top1_drop,
                "measured": 100 * (lost - won) / samples,
                "high": worst_drop(samples),
                "proved": worst_drop(samples) <= limits.max_top1_drop,
                "images_needed": _least(lambda n: worst_drop(n) <= limits.max_top1_drop),
            }
        )
    return found


def _least(holds: Callable[[int], bool]) -> int | None:
    """The smallest number of images for which it holds and goes on holding; None above `MOST_IMAGES`."""
    if not holds(MOST_IMAGES):
        return None
    low, high = 0, MOST_IMAGES
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


@dataclasses.dataclass(frozen=True)
class LabelOrder:
    """Labels that stand in another order than a model's classes.

    Attributes:
        given, permuted: share of the images that the model gets right with the labels as they are, and in the order that fits best.
    """

    given: float
    permuted: float

    def __str__(self) -> str:
        return (
            f"the labels are in another order than the model's classes: it is right on {self.given:.0%} of the images with the labels as "
            f"they are, and on {self.permuted:.0%} with them in another order"
        )


def wrong_label_order(answers: np.ndarray, labels: np.ndarray, classes: int) -> LabelOrder | None:
    """Whether another order of the labels fits a model's answers so much better that this one cannot be meant.

    A good model is right nearly always in one order; one that is no better than chance in the given order and right on most images in
    another was given the wrong one. Few images fit some order by chance: less than two a class that occurs say nothing.

    Args:
        answers, labels: class indices, [N].
        classes: how many there are.
    """
    given, occurring = float(np.mean(answers == labels)), len(np.unique(labels))
    if len(labels) < _IMAGES_A_LABEL * occurring or occurring < 2 or given > _MOST_OF_A_WRONG_ORDER:
        return None
    from scipy import optimize  # takes longer to load than anything here to compute

    pairs = np.zeros((classes, classes))
    np.add.at(pairs, (answers, labels), 1)
    permuted = float(pairs[optimize.linear_sum_assignment(-pairs)].sum() / len(labels))
    return LabelOrder(given, permuted) if permuted >= _LEAST_OF_A_RIGHT_ORDER and permuted > _TIMES_BETTER * given else None
