"""How to validate."""

from __future__ import annotations

import dataclasses

from edge.artifacts.store import Store
from edge.drift.limits import Limits
from tfvit.preprocessing import Preprocessing

# --app-preprocessing -> interpolation, keep_aspect; None leaves the manifest's
APP_PREPROCESSING = {
    "manifest": (None, None),
    "bilinear": ("bilinear", None),
    "squash": (None, False),
    "squash-bilinear": ("bilinear", False),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to validate.

    Attributes:
        app_preprocessing: one of `APP_PREPROCESSING`.
        float32_samples: on about how many images, spread over all, the float32 file runs too; None: on all.
        threads: images side by side.
        store: where answers are kept.
        layer_samples: on how many images the layers are compared; 0 leaves them out.
        limits: instead of the manifest's.
        thumbnails: whether the document holds pictures.
    """

    app_preprocessing: str
    float32_samples: int | None
    threads: int
    store: Store
    layer_samples: int
    limits: Limits
    thumbnails: bool


def app_preprocessing(preprocessing: Preprocessing, name: str) -> Preprocessing:
    """What the app does to an image, where it does as `name` says."""
    interpolation, keep_aspect = APP_PREPROCESSING[name]
    if interpolation is not None:
        preprocessing = dataclasses.replace(preprocessing, interpolation=interpolation)
    if keep_aspect is False:
        preprocessing = preprocessing.squashed()
    return preprocessing
