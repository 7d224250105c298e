"""The limits of the drift gate."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """The drift gate: what a file must reach against the float Keras model on images it was not calibrated on.

    Attributes:
        min_snr_db: signal-to-noise ratio of the logits.
        min_agreement: fraction of images with the same top-1. Not applied to random weights, whose top-1 means nothing.
        max_top1_drop: percentage points of top-1 accuracy lost, where the images have labels.
        min_photo_agreement: `min_agreement` of the further images, on which changed answers are counted, where they are the user's own.
            Of generated ones a model is less sure, so that more answers change.
    """

    min_snr_db: float
    min_agreement: float
    max_top1_drop: float
    min_photo_agreement: float = 0.0
