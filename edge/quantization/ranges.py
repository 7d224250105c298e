"""Calibration images -> what the recipes need to know of the activations: extremes of every tensor, samples of what dense layers read.

One pass with the float file itself: the tensors are made outputs of the graph, so that the runtime's fast kernels compute them. The
quantizer's own calibration is an order-dependent moving average and costs about a point of accuracy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from edge.runtime.cpu import Interpreter
from edge.tflite import flatbuffer
from tfvit.errors import InputError

# Input vectors of a dense layer that each image gives: with 128 images about a thousand, a few for every weight of a row
ROWS_PER_IMAGE = 8


@dataclasses.dataclass
class Calibration:
    """What was seen.

    Attributes:
        ranges: tensor name -> minimum and maximum over all images.
        rows: tensor name -> [N, channels] input vectors of dense layers, from every image; patches of a convolution are flattened.
        rounded: name of a dense layer's output -> its weights and bias rounded for those rows, kept by
            `edge.quantization.quantize` once they are made.
    """

    ranges: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    rows: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    rounded: dict[str, tuple[np.ndarray, np.ndarray | None]] = dataclasses.field(default_factory=dict)

    def add(self, other: Calibration) -> None:
        self.ranges |= other.ranges
        self.rows |= other.rows


def collect(
    float_file: bytes, tensors: Mapping[str, int], samples: Iterable[np.ndarray], threads: int, patches: Mapping[str, int] | None = None
) -> Calibration:
    """Watches tensors over all samples.

    Args:
        float_file: the float flatbuffer.
        tensors: name -> index of the tensors to watch.
        samples: the model's inputs, each [1, H, W, 3].
        threads: for the runtime.
        patches: of `tensors`, those to take rows of -> the side of a patch, 1 for what a dense layer reads.

    Raises:
        InputError: no samples, or a tensor that is not finite.
    """
    names, patches = list(tensors), dict(patches or {})
    lows, highs = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in patches}
    interpreter = Interpreter(flatbuffer.with_outputs(float_file, [tensors[name] for name in names]), threads=threads)
    count = 0
    for sample in samples:
        rng = np.random.default_rng(count)
        count += 1
        for position, value in enumerate(interpreter.run_each(sample)):
            lows[position] = np.minimum(lows[position], value.min())
            highs[position] = np.maximum(highs[position], value.max())
            if names[position] in patches:
                rows[names[position]].append(_some_rows(value, patches[names[position]], rng))
    if count == 0:
        raise InputError("no calibration images", expected="at least one image", received="none", action="name a folder with images")
    broken = [name for name, low, high in zip(names, lows, highs, strict=True) if not np.isfinite([low, high]).all()]
    if broken:
        raise InputError(
            "the model's activations are not finite",
            expected="finite values in every layer on the calibration images",
            received=f"NaN or infinity in {len(broken)} tensors, first {flatbuffer.keras_layer(broken[0])}",
            action="check the weights",
        )
    extremes = {name: (float(low), float(high)) for name, low, high in zip(names, lows, highs, strict=True)}
    return Calibration(extremes, {name: np.concatenate(parts) for name, parts in rows.items()})


def _some_rows(value: np.ndarray, patch: int, rng: np.random.Generator) -> np.ndarray:
    """Up to `ROWS_PER_IMAGE` vectors of an activation [..., C], or of its patch x patch x C tiles."""
    if patch > 1:
        height, width, channels = (value.shape[1] // patch * patch, value.shape[2] // patch * patch, value.shape[3])
        tiles = value[0, :height, :width].reshape(height // patch, patch, width // patch, patch, channels)
        value = tiles.transpose(0, 2, 1, 3, 4).reshape(-1, patch * patch * channels)
    vectors = value.reshape(-1, value.shape[-1])
    chosen = rng.choice(len(vectors), min(ROWS_PER_IMAGE, len(vectors)), replace=False)
    return vectors[np.sort(chosen)].copy()
