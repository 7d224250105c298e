"""Calibration samples -> activation ranges: the absolute minimum and maximum of every tensor a recipe quantizes.

One pass with the float file itself: the tensors are made outputs of the graph, so that the runtime's fast kernels compute them. The
quantizer's own calibration is an order-dependent moving average and costs about a point of accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from edge import flatbuffer
from edge.runtime import Interpreter
from tfvit.errors import InputError


def collect_ranges(
    float_file: bytes, tensors: Mapping[str, int], samples: Iterable[np.ndarray], threads: int
) -> dict[str, tuple[float, float]]:
    """Minimum and maximum of each tensor over all samples.

    Args:
        float_file: the float flatbuffer.
        tensors: name -> index of the tensors to watch.
        samples: the model's inputs, each [1, H, W, 3].
        threads: for the runtime.

    Raises:
        InputError: no samples, or a tensor that is not finite.
    """
    names = list(tensors)
    lows, highs = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    interpreter = Interpreter(flatbuffer.with_outputs(float_file, [tensors[name] for name in names]), threads=threads)
    count = 0
    for sample in samples:
        count += 1
        for position, value in enumerate(interpreter.run_each(sample)):
            lows[position] = np.minimum(lows[position], value.min())
            highs[position] = np.maximum(highs[position], value.max())
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
    return {name: (float(low), float(high)) for name, low, high in zip(names, lows, highs, strict=True)}
