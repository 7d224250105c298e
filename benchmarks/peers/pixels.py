"""Images of a folder of files, as each kind of model takes them. NumPy alone: every peer's environment has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

# RGB, of pixels 0..255: what timm and tfvit normalise with
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)


def inputs(folder: Path, name: str, shape: Sequence[int]) -> Iterator[np.ndarray]:
    """The images of NAME.npy one at a time: [1, 3, H, W] normalised for PyTorch's models, [1, H, W, 3] pixels for ours."""
    for image in np.load(folder / f"{name}.npy"):
        pixels = image[None].astype(np.float32)
        yield pixels if shape[-1] == 3 else np.ascontiguousarray(((pixels - MEAN) / STD).transpose(0, 3, 1, 2))
