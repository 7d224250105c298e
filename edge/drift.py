"""How far a target's answers lie from a reference's: metrics and gates, pure NumPy. Reference first, target second.

Logits are compared after each image's mean over the classes is removed: a softmax does not see that constant, and a file that gives
probabilities gives its logits up to it. NaN anywhere fails every check.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from edge.recipes import Limits

# Probabilities below this are not told apart: exp of the float32 logarithm's floor
SMALLEST_PROBABILITY = np.finfo(np.float32).tiny
# Reported where reference and target are equal to the last bit: JSON has no infinity
SNR_CEILING_DB = 200.0


@dataclasses.dataclass(frozen=True)
class Drift:
    """Agreement of a target with its reference on the same images.

    Attributes:
        samples: number of images.
        top1_agreement, top5_agreement: fraction with the same top-1; mean overlap of the top-5 sets.
        logits_snr_db: power of the reference's centred logits over the power of the difference.
        cosine: mean cosine of the centred logits.
        max_abs_err: largest absolute difference of a probability.
        max_abs_err_logits: largest absolute difference of a centred logit.
        kl: mean Kullback-Leibler divergence of the target's probabilities from the reference's, nats.
        top1_reference, top1_target: accuracy against labels, None without labels.
    """

    samples: int
    top1_agreement: float
    top5_agreement: float
    logits_snr_db: float
    cosine: float
    max_abs_err: float
    max_abs_err_logits: float
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
        if not self.top1_agreement >= limits.min_agreement:
            failed.append(f"top-1 agreement {100 * self.top1_agreement:.1f} % is below {100 * limits.min_agreement:g} %")
        if self.top1_reference is not None and self.top1_target is not None:
            drop = 100 * (self.top1_reference - self.top1_target)
            if not drop <= limits.max_top1_drop:
                failed.append(f"top-1 drop {drop:.2f} points is above {limits.max_top1_drop:g}")
        return failed


def logits_of_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """The logits a softmax made probabilities of, up to a constant per row. [N, classes]."""
    return np.log(np.maximum(np.asarray(probabilities, np.float64), SMALLEST_PROBABILITY))


def measure(reference: np.ndarray, target: np.ndarray, labels: np.ndarray | None = None) -> Drift:
    """Compares two sets of logits.

    Args:
        reference, target: [N, classes], N >= 1.
        labels: [N] class indices, or None.

    Raises:
        ValueError: shapes that differ or are empty.
    """
    reference, target = np.asarray(reference, np.float64), np.asarray(target, np.float64)
    if reference.shape != target.shape or reference.ndim != 2 or not reference.size:
        raise ValueError(f"reference and target must be equal [N, classes]. Received: {reference.shape} and {target.shape}")
    p, q = _softmax(reference), _softmax(target)
    reference, target = _centred(reference), _centred(target)
    top1 = reference.argmax(1), target.argmax(1)
    finite = np.isfinite(target).all(1) & np.isfinite(reference).all(1)
    agreement = (top1[0] == top1[1]) & finite
    k = min(5, reference.shape[1])
    best = [np.argsort(-values, axis=1, kind="stable")[:, :k] for values in (reference, target)]
    overlap = [len(set(a) & set(b)) / k if good else 0.0 for a, b, good in zip(*best, finite, strict=True)]
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.sum(np.where(p == 0, 0.0, p * (np.log(p) - np.log(np.maximum(q, SMALLEST_PROBABILITY)))), axis=1)
    accuracy = (None, None) if labels is None else tuple(float(np.mean((top == labels) & finite)) for top in top1)
    return Drift(
        samples=len(reference),
        top1_agreement=float(np.mean(agreement)),
        top5_agreement=float(np.mean(overlap)),
        logits_snr_db=snr_db(reference, target),
        cosine=float(np.mean(_cosine(reference, target))),
        max_abs_err=float(np.max(np.abs(p - q))),
        max_abs_err_logits=float(np.max(np.abs(reference - target))),
        kl=float(np.mean(kl)),
        top1_reference=accuracy[0],
        top1_target=accuracy[1],
    )


def snr_db(reference: np.ndarray, target: np.ndarray) -> float:
    """10 log10(power of the reference / power of the difference), at most `SNR_CEILING_DB`; NaN where either is not finite."""
    signal = float(np.sum(np.square(reference, dtype=np.float64)))
    noise = float(np.sum(np.square(np.subtract(target, reference, dtype=np.float64))))
    if not (np.isfinite(signal) and np.isfinite(noise)):
        return float("nan")
    if noise == 0.0:
        return SNR_CEILING_DB
    return min(SNR_CEILING_DB, 10.0 * float(np.log10(max(signal, np.finfo(np.float64).tiny) / noise)))


def _centred(logits: np.ndarray) -> np.ndarray:
    return logits - logits.mean(axis=1, keepdims=True)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    dots = np.sum(a * b, axis=1)
    # written so that NaN stays NaN
    return np.where(norms == 0, np.where(np.all(a == b, axis=1), 1.0, 0.0), dots / np.where(norms == 0, 1.0, norms))
