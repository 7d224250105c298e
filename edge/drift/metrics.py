"""How far a target's answers lie from a reference's: metrics and gates, pure NumPy. Reference first, target second.

Logits are compared after each image's mean over the classes is removed: a softmax does not see that constant, and a file that gives
probabilities gives its logits up to it. NaN anywhere fails every check.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from edge.drift.limits import Limits
from edge.drift.meanings import ACTIVATIONS, CLASS_MAP, CLASSES, LABELS, VALUES, Output, each

# Probabilities below this are not told apart: exp of the float32 logarithm's floor
SMALLEST_PROBABILITY = np.finfo(np.float32).tiny
# Reported where reference and target are equal to the last bit: JSON has no infinity
SNR_CEILING_DB = 200.0


@dataclasses.dataclass(frozen=True)
class Drift:
    """Agreement of a target with its reference on the same images.

    Attributes:
        samples: number of images.
        top1_agreement, top5_agreement: fraction with the same top-1 (of labels: share of them that apply in both or in neither; of a map
            of classes: share of its places); mean overlap of the top-5 sets. None where the output has no best class.
        top1_in_top5: fraction whose best class in the reference is among the target's five best.
        logits_snr_db: power of the reference's centred logits over the power of the difference.
        cosine: mean cosine of the centred logits.
        max_abs_err, mean_abs_err: largest and mean absolute difference of a probability.
        max_abs_err_logits, mean_abs_err_logits: largest and mean absolute difference of a centred logit.
        kl: mean Kullback-Leibler divergence of the target's probabilities from the reference's, nats.
        top1_reference, top1_target: accuracy against labels, None without labels.
    """

    samples: int
    top1_agreement: float | None
    top1_in_top5: float | None
    top5_agreement: float | None
    logits_snr_db: float
    cosine: float
    max_abs_err: float
    mean_abs_err: float
    max_abs_err_logits: float
    mean_abs_err_logits: float
    kl: float
    top1_reference: float | None = None
    top1_target: float | None = None

    def failures(self, limits: Limits, random_weights: bool) -> list[str]:
        """What misses its limit, as sentences; empty where the gate passes.

        With random weights only the SNR is held against its limit: their top-1 means nothing.
        """
        failed = []
        if not self.logits_snr_db >= limits.min_snr_db:
            failed.append(f"logits SNR {self.logits_snr_db:.1f} dB is below {limits.min_snr_db:g} dB")
        if random_weights:
            return failed
        if self.top1_agreement is not None and not self.top1_agreement >= limits.min_agreement:
            failed.append(f"top-1 agreement {100 * self.top1_agreement:.1f} % is below {100 * limits.min_agreement:g} %")
        if self.top1_reference is not None and self.top1_target is not None:
            drop = 100 * (self.top1_reference - self.top1_target)
            if not drop <= limits.max_top1_drop:
                failed.append(f"top-1 drop {drop:.2f} points is above {limits.max_top1_drop:g}")
        return failed


def logits_of_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """The logits a softmax made probabilities of, up to a constant per row. [N, classes]."""
    return np.log(np.maximum(np.asarray(probabilities, np.float64), SMALLEST_PROBABILITY))


def underflows(probabilities: np.ndarray) -> bool:
    """Whether some are too small for float32 to tell apart: their logits cannot be read back."""
    return bool((np.asarray(probabilities) <= SMALLEST_PROBABILITY).any())


def rows(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """Outputs of [1, ...], one an image, as [N, D]."""
    return np.stack([np.asarray(output).reshape(-1) for output in outputs])


def logits_of_outputs(outputs: np.ndarray, activation: str | None, exact: Callable[[], np.ndarray | None]) -> np.ndarray:
    """What a file's outputs are the activation of.

    Args:
        outputs: [N, D].
        activation: "softmax", "sigmoid" or None: they are what is wanted.
        exact: gives the same from the file itself, or None where it cannot; asked where float32 has lost it, and for every sigmoid, of
            which float32 keeps less.
    """
    if activation is None:
        return outputs
    found = exact() if activation == "sigmoid" or underflows(outputs) else None
    if found is not None:
        return found
    if activation == "softmax":
        return logits_of_probabilities(outputs)
    return logits_of_probabilities(outputs) - logits_of_probabilities(1.0 - np.asarray(outputs, np.float64))


def logits_of_file(
    outputs: Sequence[np.ndarray], activations: Sequence[str | None], exact: Callable[[int], np.ndarray | None]
) -> np.ndarray:
    """[N, D]: `logits_of_outputs` of each of a file's outputs [N, size], one after the other.

    Args:
        exact: as of `logits_of_outputs`, of the output of an index.
    """
    parts = [
        logits_of_outputs(one, final, functools.partial(exact, index))
        for index, (one, final) in enumerate(zip(outputs, activations, strict=True))
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


@dataclasses.dataclass(frozen=True)
class ImageDrifts:
    """What `Drift` is made of, an entry an image: [N] arrays, so that tens of thousands of images need no logits in memory.

    Attributes:
        same_top1: whether both give the same answer, and numbers at all; of labels, whether each applies in both or in neither.
        agreement: the same as a share: of labels, those that apply in both or in neither; of a map of classes, the places with one class.
        top1_reference, top1_target: class indices; of labels the one whose probabilities are furthest apart.
        confidence_reference, confidence_target: probabilities of those.
        rank_reference, rank_target: how many classes lie before the labelled one, or -1 without labels.
        top5_overlap: share of the reference's five best classes among the target's five.
        top1_in_top5: whether the reference's best class is among the target's five best.
        signal, noise: sum of squares of the reference's centred logits, and of the difference.
        cosine: of the centred logits.
        kl: Kullback-Leibler divergence of the target's probabilities from the reference's, nats.
        max_abs_err, mean_abs_err: of the probabilities. max_abs_err_logits, mean_abs_err_logits: of the centred logits.
        finite: whether both are. finite_target: whether the target is.
    """

    same_top1: np.ndarray
    agreement: np.ndarray
    top1_reference: np.ndarray
    top1_target: np.ndarray
    confidence_reference: np.ndarray
    confidence_target: np.ndarray
    rank_reference: np.ndarray
    rank_target: np.ndarray
    top5_overlap: np.ndarray
    top1_in_top5: np.ndarray
    signal: np.ndarray
    noise: np.ndarray
    cosine: np.ndarray
    kl: np.ndarray
    max_abs_err: np.ndarray
    mean_abs_err: np.ndarray
    max_abs_err_logits: np.ndarray
    mean_abs_err_logits: np.ndarray
    finite: np.ndarray
    finite_target: np.ndarray
    meaning: str = CLASSES

    @classmethod
    def joined(cls, parts: Sequence[ImageDrifts]) -> ImageDrifts:
        arrays = [field.name for field in dataclasses.fields(cls) if field.name != "meaning"]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in arrays), meaning=parts[0].meaning)


def compare(
    reference: np.ndarray, target: np.ndarray, labels: np.ndarray | None = None, meaning: str = CLASSES, classes: int | None = None
) -> ImageDrifts:
    """Compares two sets of logits, image by image.

    Args:
        reference, target: [N, D], N >= 1.
        labels: [N] class indices, or None.
        meaning: of the output, one of `edge.drift.meanings.MEANINGS`. From labels, values and features no constant is removed.
        classes: of a map of classes, how many there are at each place.

    Raises:
        ValueError: shapes that differ or are empty.
    """
    reference, target = np.asarray(reference, np.float64), np.asarray(target, np.float64)
    if reference.shape != target.shape or reference.ndim != 2 or not reference.size:
        raise ValueError(f"reference and target must be equal [N, D]. Received: {reference.shape} and {target.shape}")
    if meaning == CLASS_MAP:
        return _compare_maps(*(logits.reshape(len(logits), -1, classes or logits.shape[1]) for logits in (reference, target)))
    if meaning != CLASSES:
        return _compare_numbers(reference, target, meaning)
    p, q = softmax(reference), softmax(target)
    reference, target = _centred(reference), _centred(target)
    finite_target = np.asarray(np.isfinite(target).all(1))
    k = min(5, reference.shape[1])
    best = [np.argsort(-values, axis=1, kind="stable")[:, :k] for values in (reference, target)]
    shared = (best[0][:, :, None] == best[1][:, None, :]).any(axis=2)
    kl = np.sum(_entropies(p, q), axis=1)
    finite = np.asarray(finite_target & np.isfinite(reference).all(1))
    unlabelled = np.full(len(reference), -1)
    same = (best[0][:, 0] == best[1][:, 0]) & finite
    return ImageDrifts(
        same_top1=same,
        agreement=same.astype(np.float64),
        top1_reference=best[0][:, 0],
        top1_target=best[1][:, 0],
        confidence_reference=p.max(axis=1),
        confidence_target=q.max(axis=1),
        rank_reference=unlabelled if labels is None else _rank(reference, labels),
        rank_target=unlabelled if labels is None else _rank(target, labels),
        top5_overlap=np.where(finite, shared.mean(axis=1), 0.0),
        top1_in_top5=shared[:, 0] & finite,
        signal=np.sum(np.square(reference), axis=1),
        noise=np.sum(np.square(target - reference), axis=1),
        cosine=cosine(reference, target),
        kl=kl,
        max_abs_err=np.abs(p - q).max(axis=1),
        mean_abs_err=np.abs(p - q).mean(axis=1),
        max_abs_err_logits=np.abs(reference - target).max(axis=1),
        mean_abs_err_logits=np.abs(reference - target).mean(axis=1),
        finite=finite,
        finite_target=finite_target,
    )


def _compare_numbers(reference: np.ndarray, target: np.ndarray, meaning: str) -> ImageDrifts:
    """Of independent numbers: labels, each with its sigmoid, or values and features as they are.

    The signal of values is their spread over the images: an error is measured by the range that the target moves in.
    """
    number = len(reference)
    finite_target = np.asarray(np.isfinite(target).all(1))
    finite = np.asarray(finite_target & np.isfinite(reference).all(1))
    if meaning == LABELS:
        p, q = sigmoid(reference), sigmoid(target)
        agreement = np.where(finite, ((reference > 0) == (target > 0)).mean(axis=1), 0.0)
        kl = (_entropies(p, q) + _entropies(1 - p, 1 - q)).mean(axis=1)
    else:
        p, q, agreement, kl = reference, target, np.full(number, np.nan), np.full(number, np.nan)
    spread = reference - reference.mean(axis=0) if meaning == VALUES and number > 1 else reference
    error = np.abs(p - q)
    furthest = np.where(np.isnan(error), np.inf, error).argmax(axis=1)
    rows, none = np.arange(number), np.full(number, -1)
    return ImageDrifts(
        same_top1=(agreement == 1.0) if meaning == LABELS else finite,
        agreement=agreement,
        top1_reference=furthest,
        top1_target=furthest,
        confidence_reference=p[rows, furthest],
        confidence_target=q[rows, furthest],
        rank_reference=none,
        rank_target=none,
        top5_overlap=agreement,
        top1_in_top5=finite,
        signal=np.sum(np.square(spread), axis=1),
        noise=np.sum(np.square(target - reference), axis=1),
        cosine=cosine(reference, target),
        kl=kl,
        max_abs_err=error.max(axis=1),
        mean_abs_err=error.mean(axis=1),
        max_abs_err_logits=np.abs(reference - target).max(axis=1),
        mean_abs_err_logits=np.abs(reference - target).mean(axis=1),
        finite=finite,
        finite_target=finite_target,
        meaning=meaning,
    )


def _compare_maps(reference: np.ndarray, target: np.ndarray) -> ImageDrifts:
    """Of [N, places, classes]: every place is compared as the logits of one image are."""
    p, q = softmax(reference), softmax(target)
    reference, target = _centred(reference), _centred(target)
    number, finite_target = len(reference), np.asarray(np.isfinite(target).all(axis=(1, 2)))
    finite = np.asarray(finite_target & np.isfinite(reference).all(axis=(1, 2)))
    best = [logits.argmax(axis=-1) for logits in (reference, target)]
    agreement = np.where(finite, (best[0] == best[1]).mean(axis=1), 0.0)
    error, difference = np.abs(p - q), np.abs(reference - target)
    furthest = np.where(np.isnan(error), np.inf, error).max(axis=-1).argmax(axis=1)
    rows, none = np.arange(number), np.full(number, -1)
    return ImageDrifts(
        same_top1=finite,
        agreement=agreement,
        top1_reference=best[0][rows, furthest],
        top1_target=best[1][rows, furthest],
        confidence_reference=p[rows, furthest].max(axis=-1),
        confidence_target=q[rows, furthest].max(axis=-1),
        rank_reference=none,
        rank_target=none,
        top5_overlap=agreement,
        top1_in_top5=finite,
        signal=np.sum(np.square(reference), axis=(1, 2)),
        noise=np.sum(np.square(target - reference), axis=(1, 2)),
        cosine=cosine(reference.reshape(number, -1), target.reshape(number, -1)),
        kl=_entropies(p, q).sum(axis=-1).mean(axis=1),
        max_abs_err=error.max(axis=(1, 2)),
        mean_abs_err=error.mean(axis=(1, 2)),
        max_abs_err_logits=difference.max(axis=(1, 2)),
        mean_abs_err_logits=difference.mean(axis=(1, 2)),
        finite=finite,
        finite_target=finite_target,
        meaning=CLASS_MAP,
    )


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of [N, labels] logits, each by itself."""
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-logits))


def _entropies(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p == 0, 0.0, p * (np.log(p) - np.log(np.maximum(q, SMALLEST_PROBABILITY))))


def summary(images: ImageDrifts) -> Drift:
    """The figures of all images together."""
    labelled = bool((images.rank_reference >= 0).all())
    scores = images.meaning in ACTIVATIONS
    return Drift(
        samples=len(images.finite),
        top1_agreement=float(np.mean(images.agreement)) if scores else None,
        top1_in_top5=float(np.mean(images.top1_in_top5)) if scores else None,
        top5_agreement=float(np.mean(images.top5_overlap)) if scores else None,
        logits_snr_db=decibels(float(np.sum(images.signal)), float(np.sum(images.noise))),
        cosine=float(np.mean(images.cosine)),
        max_abs_err=float(np.max(images.max_abs_err)),
        mean_abs_err=float(np.mean(images.mean_abs_err)),
        max_abs_err_logits=float(np.max(images.max_abs_err_logits)),
        mean_abs_err_logits=float(np.mean(images.mean_abs_err_logits)),
        kl=float(np.mean(images.kl)),
        top1_reference=float(np.mean(images.rank_reference == 0)) if labelled else None,
        top1_target=float(np.mean(images.rank_target == 0)) if labelled else None,
    )


def measure_worst(reference: np.ndarray, target: np.ndarray, outputs: Sequence[Output]) -> Drift:
    """Of the output with the least SNR; of [N, D] logits that hold all outputs one after the other."""
    pairs = zip(outputs, each(reference, outputs), each(target, outputs), strict=True)
    found = [measure(one, other, None, output.meaning, output.width) for output, one, other in pairs]
    return min(found, key=lambda drift: drift.logits_snr_db if np.isfinite(drift.logits_snr_db) else -np.inf)


def measure(
    reference: np.ndarray, target: np.ndarray, labels: np.ndarray | None = None, meaning: str = CLASSES, classes: int | None = None
) -> Drift:
    """`summary` of `compare`."""
    return summary(compare(reference, target, labels, meaning, classes))


def snr_db(reference: np.ndarray, target: np.ndarray) -> float:
    """10 log10(power of the reference / power of the difference), at most `SNR_CEILING_DB`; NaN where either is not finite."""
    return decibels(
        float(np.sum(np.square(reference, dtype=np.float64))), float(np.sum(np.square(np.subtract(target, reference, dtype=np.float64))))
    )


def decibels(signal: float, noise: float) -> float:
    """SNR of two sums of squares, with the limits of `snr_db`."""
    if not (np.isfinite(signal) and np.isfinite(noise)):
        return float("nan")
    if noise == 0.0:
        return SNR_CEILING_DB
    return min(SNR_CEILING_DB, 10.0 * float(np.log10(max(signal, np.finfo(np.float64).tiny) / noise)))


def _rank(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes lie before the labelled one, equal ones in their order; the number of classes where a logit is not finite."""
    order = np.argsort(-logits, axis=1, kind="stable")
    ranks = np.argmax(order == np.asarray(labels)[:, None], axis=1)
    return np.where(np.isfinite(logits).all(axis=1), ranks, logits.shape[1])


def _centred(logits: np.ndarray) -> np.ndarray:
    return logits - logits.mean(axis=-1, keepdims=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of [..., classes] logits."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row of two [N, C]: 1 for equal rows of zeros, 0 where only one is zero."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    dots = np.sum(a * b, axis=1)
    # written so that NaN stays NaN
    return np.where(norms == 0, np.where(np.all(a == b, axis=1), 1.0, 0.0), dots / np.where(norms == 0, 1.0, norms))
