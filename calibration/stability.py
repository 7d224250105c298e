"""Tells whether half of the images would give the same activation ranges: the images are split in two many times."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from calibration.checks import OK, WARN, Check
from tfvit.preprocessing import Preprocessing, normalize

# Half of 128 photographs or built-in scenes spanned at least 81 % of every layer's range, in a trained and in a random model; half of 16
# photographs spanned 67 %
LEAST_STABILITY = 0.75
SPLITS = 64  # random splits, since a single one may be unusual
_BATCH = 8


@dataclasses.dataclass(frozen=True)
class LayerRange:
    """One layer's output over all images.

    Attributes:
        layer: the Keras layer's name.
        low, high: the extremes.
        stability: width of the narrower half's range / width of all images' range, mean of `SPLITS` splits. At 1, no single image matters.
    """

    layer: str
    low: float
    high: float
    stability: float


def layer_extremes(model: Any, pixels: Iterable[np.ndarray], preprocessing: Preprocessing) -> tuple[list[str], np.ndarray]:
    """The extremes of every layer's output (patch embedding, blocks, merging, norm, head) on each image.

    Args:
        model: a `keras.Model` on normalised pixels.
        pixels: [H, W, 3] uint8 images.
        preprocessing: the variant's, for its normalisation.

    Returns:
        The layers' names, and an array [N, layers, 2] with minimum and maximum.
    """
    import keras

    watched = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    inner = keras.Model(model.inputs, [layer.output for layer in watched])
    found: list[np.ndarray] = []
    batch: list[np.ndarray] = []

    def run() -> None:
        # a last batch that is smaller would be traced again
        images = np.stack(batch + [batch[-1]] * (_BATCH - len(batch)))
        outputs = inner.predict_on_batch(normalize(images, preprocessing))
        flat = [np.asarray(values).reshape(_BATCH, -1)[: len(batch)] for values in outputs]
        found.append(np.stack([np.stack([values.min(axis=1), values.max(axis=1)], axis=-1) for values in flat], axis=1))
        batch.clear()

    for image in pixels:
        batch.append(image)
        if len(batch) == _BATCH:
            run()
    if batch:
        run()
    return [layer.name for layer in watched], np.concatenate(found)


def layer_ranges(layers: Sequence[str], extremes: np.ndarray, seed: int = 0) -> list[LayerRange]:
    """Ranges and their stability from [N, layers, 2] extremes of at least 2 images, the least stable layer first. Pure."""
    count = len(extremes)
    rng = np.random.default_rng(seed)
    widths = []
    for _ in range(SPLITS):
        order = rng.permutation(count)
        halves = [_width(extremes[half]) for half in (order[: count // 2], order[count // 2 :])]
        widths.append(np.minimum(*halves))
    whole = _width(extremes)
    stability = np.mean(widths, axis=0) / np.where(whole > 0, whole, 1)
    stability[whole == 0] = 1.0
    low, high = extremes[:, :, 0].min(axis=0), extremes[:, :, 1].max(axis=0)
    found = [LayerRange(layer, float(low[at]), float(high[at]), float(stability[at])) for at, layer in enumerate(layers)]
    return sorted(found, key=lambda one: one.stability)


def check_stability(ranges: Sequence[LayerRange]) -> Check:
    """Warns if half of the images miss a good part of some layer's range: there are too few images, or a few extreme ones."""
    worst = ranges[0]
    mean = float(np.mean([one.stability for one in ranges]))
    stable = worst.stability >= LEAST_STABILITY
    advice = "" if stable else ": a few images make the range; look at them, or add more"
    detail = f"half of the images span {mean:.0%} of a layer's range, {worst.stability:.0%} in {worst.layer}{advice}"
    return Check("range stability", OK if stable else WARN, detail)


def _width(extremes: np.ndarray) -> np.ndarray:
    return extremes[:, :, 1].max(axis=0) - extremes[:, :, 0].min(axis=0)
