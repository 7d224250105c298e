"""How many answers a file changes: counted, and estimated from how close the answers were and how large the errors are. NumPy and SciPy.

Counting needs many images: 2 changes of 32 leave anything from 1.7 to 20 % possible. The estimate uses more of each image than whether its
answer changed. An image whose two best classes lie 4 logits apart is safe from errors of 0.1, and one at 0.1 is not, whether or not its
answer happened to change.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.special import ndtr  # not scipy.stats, which takes long to load

from tfvit.evaluate import wilson_interval

# Share of the images, and least number, whose losses are taken for those of an image with a like lead
_SHARE_NEAR, _LEAST_NEAR = 8, 8
_RESAMPLES = 200


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Answers of a target beside its reference's, on many images.

    Attributes:
        samples: number of images.
        top1_agreement: share with the same best class.
        low, high: its 95 % interval (Wilson).
        expected_changes: estimated share of changed best classes.
        expected_low, expected_high: its 95 % interval, by bootstrap over the images.
        reference: what the target was compared with, in words.
    """

    samples: int
    top1_agreement: float
    low: float
    high: float
    expected_changes: float
    expected_low: float
    expected_high: float
    reference: str

    def failures(self, min_agreement: float) -> list[str]:
        """What misses the limit, as sentences: the counted share, or the estimate where all of its interval does."""
        if not self.top1_agreement >= min_agreement:
            return [
                f"top-1 agreement {100 * self.top1_agreement:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f}) "
                f"of {self.samples} images is below {100 * min_agreement:g} %"
            ]
        if 1 - self.expected_low < min_agreement:
            return [
                f"{100 * self.expected_changes:.1f} % of the answers change, by the images' margins and the file's errors "
                f"({100 * self.expected_low:.1f} to {100 * self.expected_high:.1f}): more than {100 * (1 - min_agreement):g} %"
            ]
        return []


def agreement(reference: np.ndarray, target: np.ndarray, compared_with: str) -> Agreement:
    """Counts and estimates.

    Args:
        reference, target: [N, classes] logits of the same images, N >= 2, at least two classes.
        compared_with: what `reference` is, in words.
    """
    reference, target = (np.asarray(logits, np.float64) for logits in (reference, target))
    same = int(((reference.argmax(axis=1) == target.argmax(axis=1)) & np.isfinite(target).all(axis=1)).sum())
    low, high = wilson_interval(same, len(reference))
    before, after = leads(reference, target)
    rng = np.random.default_rng(0)
    drawn = [rng.integers(len(reference), size=len(reference)) for _ in range(_RESAMPLES)]
    resampled = [_expected(before[which], after[which]) for which in drawn]
    expected_low, expected_high = np.quantile(resampled, (0.025, 0.975)).tolist()
    return Agreement(
        samples=len(reference),
        top1_agreement=same / len(reference),
        low=low,
        high=high,
        expected_changes=_expected(before, after),
        expected_low=expected_low,
        expected_high=expected_high,
        reference=compared_with,
    )


def leads(reference: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By how many logits the reference's best class leads all others, in the reference and in the target: [N] each, below 0 if overtaken.

    A target that is not finite has lost it by an infinite number.
    """
    best = reference.argmax(axis=1)[:, None]
    found = []
    for logits in (reference, target):
        others = logits.copy()
        np.put_along_axis(others, best, -np.inf, axis=1)
        found.append(np.take_along_axis(logits, best, axis=1)[:, 0] - others.max(axis=1))
    return found[0], np.where(np.isfinite(target).all(axis=1), found[1], -np.inf)


def _expected(lead: np.ndarray, after: np.ndarray) -> float:
    """Mean probability that the best class is overtaken.

    What an image's lead loses is drawn from a normal distribution with mean and variance of what the leads nearest to it lose: unsure
    images have other errors than sure ones.
    """
    order = np.argsort(lead, kind="stable")
    mean, deviation = _moving((lead - after)[order], max(_LEAST_NEAR, len(lead) // _SHARE_NEAR))
    with np.errstate(invalid="ignore"):
        overtaken = np.where(np.isfinite(mean), ndtr((mean - lead[order]) / deviation), 1.0)
    return float(np.mean(overtaken))


def _moving(values: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the `number` values around each."""
    first = np.clip(np.arange(len(values)) - number // 2, 0, max(0, len(values) - number))
    last = np.minimum(first + number, len(values))
    with np.errstate(invalid="ignore"):
        sums, squares = (np.concatenate([[0.0], np.cumsum(powers)]) for powers in (values, np.square(values)))
        mean = (sums[last] - sums[first]) / (last - first)
        variance = (squares[last] - squares[first]) / (last - first) - np.square(mean)
    return mean, np.sqrt(np.maximum(variance, np.finfo(np.float64).tiny))
