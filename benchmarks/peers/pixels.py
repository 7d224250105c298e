"""Images of a folder of files, as each kind of model takes them. NumPy alone: every peer's environment has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

# Of pixels 0..255: mean and standard deviation of each channel that the model is fed with, [2, 3]
NORMALIZATION = "normalization.npy"


def inputs(folder: Path, name: str, shape: Sequence[int]) -> Iterator[np.ndarray]:
    """The images of NAME.npy one at a time: [1, 3, H, W] normalised for PyTorch's models, [1, H, W, 3] pixels for ours."""
    mean, std = np.load(folder / NORMALIZATION)
    for image in np.load(folder / f"{name}.npy"):
        pixels = image[None].astype(np.float32)
        yield pixels if shape[-1] == 3 else np.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2))
