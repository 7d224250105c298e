"""What a checkpoint is once it is read: tensors under timm's names, and what was found out about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfvit.errors import WeightsError
from tfvit.preprocessing import INTERPOLATIONS, Preprocessing

# Where a processor resizes in a way that apps have no word for: the nearest one that they have
_NEAREST = {"lanczos": "bicubic", "hamming": "bilinear", "box": "bilinear", "nearest": "bilinear", "random": "bicubic"}

# What may be assumed of a checkpoint
IMAGE_SIZE, HEADS = "image size", "number of heads"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of anyone's.

    Attributes:
        format: "transformers", "timm", "original", "kerashub" or "tfvit".
        tensors: under timm's names, in its layouts.
        architecture: arguments of `tfvit.ViTTransformer`, or of `tfvit.VisionTransformer`: those have a `depth`. `classes` is among them
            where there is a head.
        labels: one per class, or None where it names none.
        preprocessing: of its images, or None where it does not say.
        notes: sentences on what was chosen and what was left out.
        assumed: what nothing in it says and was guessed: `IMAGE_SIZE`, `HEADS`.
    """

    format: str
    tensors: Mapping[str, np.ndarray]
    architecture: Mapping[str, Any]
    labels: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    @property
    def classes(self) -> int | None:
        """None without a head."""
        return self.architecture.get("classes")

    @property
    def missing_head(self) -> str:
        """The tensors that a classifier would have."""
        depths, channels, name = self.architecture.get("depths"), self.architecture["embed_dim"], "head"
        if depths is not None:
            name, channels = "head.fc", channels << (len(depths) - 1)
        return f"{name}.weight [classes, {channels}] and {name}.bias [classes]"

    @property
    def image_size(self) -> int:
        return self.architecture["input_shape"][0]


@dataclasses.dataclass(frozen=True)
class Said:
    """What a configuration, or the entries beside the tensors, say. What is None is not said.

    Attributes:
        architecture: arguments of `ViTTransformer`, and "image_size".
        labels, preprocessing, notes: as in `Checkpoint`.
    """

    architecture: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()


def contradiction(source: str, expected: str, received: str) -> WeightsError:
    """The error for weights and a configuration that were not made together."""
    return WeightsError(
        "the weights contradict their configuration",
        expected=expected,
        received=f"{source}: {received}",
        action="put the configuration beside the weights that it was saved with",
    )


def unsupported(source: str, received: str, expected: str = "a Swin Transformer, version 1 or 2") -> WeightsError:
    """The error for a model that this library does not have."""
    return WeightsError(
        "a checkpoint of another model",
        expected=expected,
        received=f"{source}: {received}",
        action="pass a checkpoint of one of the models in docs/models.md",
    )


def one_side(value: Any, source: str, what: str = "image size") -> int | None:
    """224, [224, 224] or {"height": 224, "width": 224} as 224; None for None.

    Raises:
        WeightsError: not a square.
    """
    if isinstance(value, Mapping):
        value = [value.get("height"), value.get("width")]
    sides = set(value) if isinstance(value, list | tuple) else {value}
    if sides == {None}:
        return None
    if len(sides) != 1 or not all(type(side) is int and side > 0 for side in sides):
        raise unsupported(source, f"{what} {value}", f"a square {what}, in whole numbers")
    return int(sides.pop())


def known_interpolation(name: str, source: str, notes: list[str]) -> str:
    """The name, or the nearest one that apps know, with a note."""
    if name in INTERPOLATIONS:
        return name
    nearest = _NEAREST.get(name, "bicubic")
    notes.append(f"{source}: images were resized with {name}, which the files' apps do not know; {nearest} instead")
    return nearest


def three(values: Any, scale: float = 255.0) -> tuple[float, float, float]:
    """Mean or deviation per channel, on the 0..255 scale, as the decimals that were meant: 0.485 of 255 is 123.675."""
    given = values if isinstance(values, list | tuple) else [values] * 3
    red, green, blue = (round(float(value) * scale, 6) for value in given)
    return red, green, blue
