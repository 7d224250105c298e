"""The child's side of a process: lines on stdout, and the input that every child runs a file on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any


def answering() -> Callable[[dict[str, Any]], None]:
    """The child's way to say a line on stdout; what native code prints there from now on is no answer, and goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    return say


def noise(tensors: dict[str, Any]) -> dict[str, Any]:
    """An input for each tensor, always the same: pixels 0..255 for images, small whole numbers for integers, else standard normal ones."""
    import numpy as np

    generator = np.random.default_rng(0)
    values = {}
    for name, tensor in tensors.items():
        if len(tensor.shape) == 4 and tensor.shape[-1] == 3:
            values[name] = generator.integers(0, 256, tensor.shape).astype(np.float32)
        elif tensor.dtype.kind in "iu" and not tensor.scale:
            values[name] = generator.integers(0, 8, tensor.shape)
        else:
            values[name] = generator.standard_normal(tensor.shape).astype(np.float32)
    return values
