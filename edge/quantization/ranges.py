"""Calibration images -> what the recipes need to know of the activations: extremes of every tensor, samples of what dense layers read.

One pass with the float file itself: the tensors are made outputs of the graph, so that the runtime's fast kernels compute them. The
quantizer's own calibration is an order-dependent moving average and costs about a point of accuracy.
"""

from __future__ import annotations

import dataclasses
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from edge.runtime.cpu import Interpreter
from edge.tflite import flatbuffer
from tfvit.errors import InputError

# Of the copies of a file's weights that interpreters side by side pack for themselves
MOST_PACKED_BYTES = 1 << 30


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
        threads: for the runtime; several samples run side by side as far as `MOST_PACKED_BYTES` reach.
        patches: of `tensors`, those to take rows of -> the side of a patch, 1 for what a dense layer reads.
        rows_per_image: how many rows of each: with 8 of 128 images about a thousand, a few for every weight of a row.

    Raises:
        InputError: no samples, or a tensor that is not finite.
    """
    names, patches = list(tensors), dict(patches or {})
    watching = flatbuffer.with_outputs(float_file, [tensors[name] for name in names])
    # one image on one thread each is faster than one image on all of them, but every interpreter packs the weights for itself
    side_by_side = max(1, min(threads, MOST_PACKED_BYTES // len(float_file)))
    free: queue.SimpleQueue[Interpreter] = queue.SimpleQueue()
    for _ in range(side_by_side):
        free.put(Interpreter(watching, threads=threads // side_by_side))

    def seen(count: int, sample: np.ndarray) -> _Seen:
        interpreter = free.get()
        try:
            return _one(interpreter, names, sample, patches, rows_per_image, np.random.default_rng(count))
        finally:
            free.put(interpreter)

    lows, highs = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in patches}
    channels: dict[str, np.ndarray] = {}
    count = 0
    for one in _in_turn(seen, samples, side_by_side):
        count += 1
        lows, highs = np.minimum(lows, one.lows), np.maximum(highs, one.highs)
        for name, some in one.rows.items():
            rows[name].append(some)
        for name, (least, most) in one.channels.items():
            before = channels.get(name, one.channels[name])
            channels[name] = np.stack([np.minimum(before[0], least), np.maximum(before[1], most)])
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


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What one sample shows: extremes in the order of the tensors, the rest by their names."""

    lows: np.ndarray
    highs: np.ndarray
    rows: dict[str, np.ndarray]
    channels: dict[str, np.ndarray]


def _one(
    interpreter: Interpreter, names: Sequence[str], sample: np.ndarray, patches: Mapping[str, int], most: int, rng: np.random.Generator
) -> _Seen:
    seen = _Seen(np.empty(len(names)), np.empty(len(names)), {}, {})
    for position, (name, value) in enumerate(zip(names, interpreter.watch(sample), strict=True)):
        if patches.get(name) == 1:
            vectors = value.reshape(-1, value.shape[-1])
            seen.channels[name] = np.stack([vectors.min(axis=0), vectors.max(axis=0)])
            seen.lows[position], seen.highs[position] = seen.channels[name][0].min(), seen.channels[name][1].max()
        else:
            seen.lows[position], seen.highs[position] = value.min(), value.max()
        if name in patches:
            seen.rows[name] = _some_rows(value, patches[name], most, rng)
    return seen


def _in_turn(function: Callable[[int, np.ndarray], _Seen], samples: Iterable[np.ndarray], side_by_side: int) -> Iterator[_Seen]:
    """`function` of every sample and its number, in their order; no more samples are read than are worked on."""
    with ThreadPoolExecutor(side_by_side) as pool:
        running: deque[Future[_Seen]] = deque()
        for count, sample in enumerate(samples):
            running.append(pool.submit(function, count, sample))
            if len(running) == side_by_side:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _some_rows(value: np.ndarray, patch: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Up to `most` vectors of an activation [..., C], or of its patch x patch x C tiles."""
    if patch > 1:
        height, width, channels = (value.shape[1] // patch * patch, value.shape[2] // patch * patch, value.shape[3])
        tiles = value[0, :height, :width].reshape(height // patch, patch, width // patch, patch, channels)
        value = tiles.transpose(0, 2, 1, 3, 4).reshape(-1, patch * patch * channels)
    vectors = value.reshape(-1, value.shape[-1])
    chosen = rng.choice(len(vectors), min(most, len(vectors)), replace=False)
    return vectors[np.sort(chosen)].copy()
