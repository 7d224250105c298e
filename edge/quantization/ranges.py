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


@dataclasses.dataclass(frozen=True)
class Rounded:
    """A dense layer's weights on the grid of their bits.

    Attributes:
        weights: [outputs, inputs] float32 on the 8-bit grid, or the steps of the 4-bit one, int8.
        scale: [outputs], of the 4-bit grid; None for 8 bits, whose grid ends at each channel's largest weight.
        bias: [outputs], which takes up the mean error, or None where there is none.
    """

    weights: np.ndarray
    scale: np.ndarray | None
    bias: np.ndarray | None


@dataclasses.dataclass
class Calibration:
    """What was seen.

    Attributes:
        ranges: tensor name -> minimum and maximum over all images.
        rows: tensor name -> [N, channels] input vectors of dense layers, from every image; patches of a convolution are flattened.
        channels: tensor name -> [2, channels], minimum and maximum of each channel over all images, of what dense layers read.
        rounded: name of a dense layer's output and bits -> its weights rounded for those rows, kept by `edge.quantization.quantize` once
            they are made.
    """

    ranges: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    rows: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    channels: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    rounded: dict[tuple[str, int], Rounded] = dataclasses.field(default_factory=dict)

    def add(self, other: Calibration) -> None:
        self.ranges |= other.ranges
        self.rows |= other.rows
        self.channels |= other.channels


def collect(
    float_file: bytes,
    tensors: Mapping[str, int],
    samples: Iterable[np.ndarray],
    threads: int,
    patches: Mapping[str, int] | None = None,
    rows_per_image: int = 8,
) -> Calibration:
    """Watches tensors over all samples.

    Args:
        float_file: the float flatbuffer.
        tensors: name -> index of the tensors to watch.
        samples: the model's inputs, each [1, H, W, 3].
        threads: for the runtime.
        patches: of `tensors`, those to take rows of -> the side of a patch, 1 for what a dense layer reads.
        rows_per_image: how many rows of each: with 8 of 128 images about a thousand, a few for every weight of a row.

    Raises:
        InputError: no samples, or a tensor that is not finite.
    """
    names, patches = list(tensors), dict(patches or {})
    lows, highs = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in patches}
    channels: dict[str, np.ndarray] = {}
    interpreter = Interpreter(flatbuffer.with_outputs(float_file, [tensors[name] for name in names]), threads=threads)
    count = 0
    for sample in samples:
        rng = np.random.default_rng(count)
        count += 1
        for position, value in enumerate(interpreter.run_each(sample)):
            name = names[position]
            low, high = value.min(), value.max()
            if name in patches:
                rows[name].append(_some_rows(value, patches[name], rows_per_image, rng))
            if patches.get(name) == 1:
                vectors = value.reshape(-1, value.shape[-1])
                least, most = vectors.min(axis=0), vectors.max(axis=0)
                if name in channels:
                    least, most = np.minimum(channels[name][0], least), np.maximum(channels[name][1], most)
                channels[name] = np.stack([least, most])
            lows[position], highs[position] = np.minimum(lows[position], low), np.maximum(highs[position], high)
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
    return Calibration(extremes, {name: np.concatenate(parts) for name, parts in rows.items()}, channels)


def _some_rows(value: np.ndarray, patch: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Up to `most` vectors of an activation [..., C], or of its patch x patch x C tiles."""
    if patch > 1:
        height, width, channels = (value.shape[1] // patch * patch, value.shape[2] // patch * patch, value.shape[3])
        tiles = value[0, :height, :width].reshape(height // patch, patch, width // patch, patch, channels)
        value = tiles.transpose(0, 2, 1, 3, 4).reshape(-1, patch * patch * channels)
    vectors = value.reshape(-1, value.shape[-1])
    chosen = rng.choice(len(vectors), min(most, len(vectors)), replace=False)
    return vectors[np.sort(chosen)].copy()
