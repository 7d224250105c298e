"""What a model of the user's own expects of an image: which values, cut out how. What nobody says is assumed, and named as assumed."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfvit.errors import UsageError
from tfvit.preprocessing import IMAGENET_MEAN, IMAGENET_STD, INTERPOLATIONS, Preprocessing

AUTO, PIXELS, NORMALIZED = "auto", "pixels", "normalized"
# --model-input -> mean and standard deviation of RGB pixels 0..255 that give the values which the model takes
VALUE_RANGES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    NORMALIZED: (IMAGENET_MEAN, IMAGENET_STD),
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "symmetric": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
}
# In words
MODEL_INPUTS = {
    AUTO: "as the graph shows it",
    PIXELS: "pixels 0..255, which the model normalizes itself",
    NORMALIZED: "less ImageNet's mean, over its standard deviation",
    "unit": "0..1",
    "symmetric": "-1..1",
}
SQUASH = "squash"
VALUES, GEOMETRY = "value range", "resize and crop"


@dataclasses.dataclass(frozen=True)
class ModelInput:
    """What was said of a model's input.

    Attributes:
        values: one of `MODEL_INPUTS`.
        resize: length of the short side in pixels, or "squash": both sides straight to the input's size; None: nothing was said.
        crop: side of the centre that is cut out, in pixels or (below 1) as a share of `resize`; None: the input's size.
        interpolation: one of `tfvit.preprocessing.INTERPOLATIONS`, or None.
        mean, std: per channel of RGB pixels 0..255, instead of those of `values`.
    """

    values: str = AUTO
    resize: int | str | None = None
    crop: float | None = None
    interpolation: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        wrong = None
        if self.values not in MODEL_INPUTS:
            wrong = ("--model-input", f"one of {', '.join(MODEL_INPUTS)}", self.values)
        elif self.interpolation is not None and self.interpolation not in INTERPOLATIONS:
            wrong = ("--interpolation", f"one of {', '.join(INTERPOLATIONS)}", self.interpolation)
        elif (self.mean is None) != (self.std is None):
            wrong = ("--mean and --std", "both", "one of them")
        elif any(len(given) != 3 for given in (self.mean, self.std) if given is not None) or not all(std > 0 for std in self.std or ()):
            wrong = ("--mean and --std", "three numbers each, R,G,B of pixels 0..255, deviations above 0", f"{self.mean} {self.std}")
        elif self.mean is not None and self.values not in (AUTO, NORMALIZED):
            wrong = ("--mean and --std", "a model that takes normalized values", f"--model-input {self.values}")
        elif isinstance(self.resize, str) and self.resize != SQUASH:
            wrong = ("--resize", "pixels, or squash", self.resize)
        elif self.resize is not None and self.resize != SQUASH and self.resize < 1:
            wrong = ("--resize", "at least 1 pixel", str(self.resize))
        if wrong:
            raise UsageError(f"unusable {wrong[0]}", expected=wrong[1], received=str(wrong[2]), action="see edge.convert --help")

    @property
    def takes_pixels(self) -> bool | None:
        """Whether the model normalizes by itself; None to find out."""
        if self.mean is not None:
            return False
        return {AUTO: None, PIXELS: True}.get(self.values, False)

    def applied(self, preprocessing: Preprocessing, side: int) -> Preprocessing:
        """What is done to an image: what was said, over what is usual.

        Args:
            preprocessing: the usual.
            side: of the model's input, in pixels.
        """
        mean, std = VALUE_RANGES.get(self.values, (preprocessing.mean, preprocessing.std))
        changed: dict[str, Any] = {"mean": self.mean or mean, "std": self.std or std}
        if self.resize == SQUASH:
            changed |= {"resize_px": side if self.crop is None or self.crop >= 1 else round(side / self.crop), "keep_aspect": False}
        elif self.resize is not None:
            changed |= {"resize_px": int(self.resize), "keep_aspect": True}
        elif self.crop is not None and self.crop < 1:
            changed |= {"resize_px": int(side / self.crop)}
        if self.interpolation is not None:
            changed["interpolation"] = self.interpolation
        made = dataclasses.replace(preprocessing, **changed)
        crop = side if self.crop is None or self.crop < 1 else int(self.crop)
        if crop != side or made.resize_px < side:
            raise UsageError(
                "a resize and crop that the model cannot take",
                expected=f"--resize of at least {side}, and --crop {side}: the model's input is {side} x {side}",
                received=f"resized to {made.resize_px}, cut to {crop}",
                action="leave --crop out, and give a --resize that covers the input",
            )
        return made

    def over(self, found: Preprocessing) -> ModelInput:
        """What was said, and where nothing was, what a checkpoint says of itself."""
        said: dict[str, Any] = {"interpolation": self.interpolation or found.interpolation}
        if self.values == AUTO and self.mean is None:
            said |= {"mean": found.mean, "std": found.std}
        if self.resize is None and self.crop is None:
            said["resize"] = found.resize_px if found.keep_aspect else SQUASH
            if not found.keep_aspect and found.resize_px != found.crop_px:
                said["crop"] = found.crop_px / found.resize_px
        return dataclasses.replace(self, **said)

    def assumed(self, takes_pixels: bool) -> tuple[str, ...]:
        """What nobody said of a model of the user's own, and its graph does not show."""
        values = () if takes_pixels or self.takes_pixels is not None else (VALUES,)
        return (*values, *(() if self.resize is not None or self.crop is not None else (GEOMETRY,)))

    def document(self) -> dict[str, Any]:
        """As JSON: what was said, without what was not."""
        said = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> ModelInput:
        given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in document.items()}
        return cls(**given)


NOTHING_SAID = ModelInput()
