"""What an image goes through before a model sees it: decode, resize, crop, normalise.

The protocol is the one the published weights were evaluated with: resize the short side to `resize_px` (bicubic, aspect kept), round,
clip, cut the centre `crop_px` square, then subtract the ImageNet mean and divide by the ImageNet standard deviation.

A model of the user's own may expect another (`ModelInput`): what nobody says of it is assumed, and named as assumed. What it was trained
with can travel with it: `attach` writes it into the model, and a saved `.keras` keeps it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from tfvit.errors import UsageError

# RGB, on the 0..255 scale (torchvision's 0..1 constants times 255)
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


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
CHANNELS = ("RGB", "BGR")
VALUES, GEOMETRY = "value range", "resize and crop"
# Beside them, of what comes out
OUTPUT = "meaning of the output"


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Geometry and normalisation of a model's input.

    Attributes:
        resize_px: length the short side is resized to (both sides where `keep_aspect` is false).
        crop_px: side of the centre square that is cut out.
        interpolation: "bicubic" or "bilinear", antialiased when shrinking.
        keep_aspect: False squashes the image to a square first.
        mean, std: per channel (RGB), on the 0..255 scale.
    """

    resize_px: int
    crop_px: int
    interpolation: str = "bicubic"
    keep_aspect: bool = True
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @classmethod
    def for_image_size(cls, size_px: int, crop_fraction: float = 0.875) -> Preprocessing:
        """The published evaluation protocol at another input size."""
        return cls(resize_px=int(size_px / crop_fraction), crop_px=size_px)

    def geometry(self) -> dict[str, Any]:
        """The manifest's `preprocessing` block."""
        return {"resize_px": self.resize_px, "crop_px": self.crop_px, "interpolation": self.interpolation, "keep_aspect": self.keep_aspect}


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as upright 8-bit RGB: EXIF rotation applied, 16-bit scaled down, transparency laid over white."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow opens 16-bit grayscale as one of these
        wide = np.asarray(image).astype(np.float64)
        image = Image.fromarray(np.clip(np.round(wide / 257.0), 0, 255).astype(np.uint8))
    if image.has_transparency_data:  # an alpha channel, or one colour or palette entry declared transparent
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def resize_and_crop(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """An RGB Pillow image as the model's pixels.

    The long side is rounded down and an odd margin split half to even, as torchvision's Resize and CenterCrop do.

    Returns:
        [crop_px, crop_px, 3] uint8, RGB.
    """
    width, height = image.size
    size = preprocessing.resize_px
    if preprocessing.keep_aspect:
        short = min(width, height)
        width, height = size * width // short, size * height // short
    else:
        width = height = size
    resized = image.resize((width, height), INTERPOLATIONS[preprocessing.interpolation])
    left, top = round((width - preprocessing.crop_px) / 2), round((height - preprocessing.crop_px) / 2)
    return np.asarray(resized.crop((left, top, left + preprocessing.crop_px, top + preprocessing.crop_px)), dtype=np.uint8)


def normalize(pixels: Any, preprocessing: Preprocessing) -> Any:
    """(pixels - mean) / std for RGB pixels 0..255, [..., 3]: a NumPy array stays one, a backend tensor stays one.

    Integers become the default float type; floats keep theirs.
    """
    if isinstance(pixels, np.ndarray):
        dtype = pixels.dtype if pixels.dtype.kind == "f" else np.dtype("float32")
        values = pixels.astype(np.float32)
        return ((values - np.asarray(preprocessing.mean, np.float32)) / np.asarray(preprocessing.std, np.float32)).astype(dtype)
    import keras

    dtype = keras.backend.standardize_dtype(pixels.dtype)
    if "float" not in dtype:
        dtype = keras.config.floatx()
    values = keras.ops.cast(pixels, "float32")
    values = (values - np.asarray(preprocessing.mean, np.float32)) / np.asarray(preprocessing.std, np.float32)
    return keras.ops.cast(values, dtype)


@dataclasses.dataclass(frozen=True)
class ModelInput:
    """What was said of a model's input.

    Attributes:
        values: one of `MODEL_INPUTS`.
        resize: length of the short side in pixels, or "squash": both sides straight to the input's size; None: nothing was said.
        crop: side of the centre that is cut out, in pixels or (below 1) as a share of `resize`; None: the input's size.
        interpolation: one of `tfvit.preprocessing.INTERPOLATIONS`, or None.
        mean, std: per channel of RGB pixels 0..255, instead of those of `values`.
        channels: "RGB" or "BGR", the order in which the model takes the values; None: RGB.
    """

    values: str = AUTO
    resize: int | str | None = None
    crop: float | None = None
    interpolation: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: str | None = None

    def __post_init__(self) -> None:
        wrong = None
        if self.values not in MODEL_INPUTS:
            wrong = ("--model-input", f"one of {', '.join(MODEL_INPUTS)}", self.values)
        elif self.channels not in (None, *CHANNELS):
            wrong = ("--channels", " or ".join(CHANNELS), self.channels)
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

    def over_preprocessing(self, found: Preprocessing) -> ModelInput:
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

    def over(self, other: ModelInput) -> ModelInput:
        """What is said here, and what `other` says of the rest."""
        return dataclasses.replace(other, **{name: value for name, value in self.document().items() if (name, value) != ("values", AUTO)})

    def document(self) -> dict[str, Any]:
        """As JSON: what was said, without what was not."""
        said = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> ModelInput:
        given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in document.items()}
        return cls(**given)


NOTHING_SAID = ModelInput()


def attach(
    model: Any,
    values: str = "auto",
    *,
    resize: int | str | None = None,
    crop: float | None = None,
    interpolation: str | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    channels: str | None = None,
) -> None:
    """Says what a model's images are, so that it travels with the model: `edge.convert` takes it from the saved `.keras`.

    >>> attach(model, "unit", resize="squash", interpolation="bilinear")
    >>> model.save("mine.keras")

    Args:
        model: a Keras model with a tfvit backbone; changed in place.
        values: "auto" (as the graph shows it), "pixels", "normalized", "unit" (0..1) or "symmetric" (-1..1).
        resize: length of the short side in pixels, or "squash": both sides straight to the input's size.
        crop: side of the centre that is cut out, in pixels or as a share of `resize`.
        interpolation: "bicubic" or "bilinear".
        mean, std: per channel of RGB pixels 0..255, instead of those of `values`.
        channels: "RGB" or "BGR", the order in which the model takes the values.

    Raises:
        UsageError: values that do not fit together, or a model without a tfvit backbone.
    """
    said = ModelInput(values, resize, crop, interpolation, mean, std, channels).document()
    embeddings = _embeddings(model)
    if not embeddings:
        raise UsageError(
            "nothing to write on",
            expected="a model with a tfvit backbone",
            received=f"{model.name!r} without one",
            action="build it on one",
        )
    for layer in embeddings:
        layer.expects = said


def attached(model: Any) -> ModelInput:
    """What `attach` wrote; nothing said where it did not.

    Raises:
        UsageError: backbones in one model that expect different images.
    """
    found = [layer.expects for layer in _embeddings(model) if layer.expects]
    if any(one != found[0] for one in found):
        raise UsageError(
            "two backbones expect different images", expected="one preprocessing for the model", received=f"{found[0]} and others",
            action="attach one to the whole model",
        )  # fmt: skip
    return ModelInput.of_document(found[0]) if found else NOTHING_SAID


def _embeddings(model: Any) -> list[Any]:
    return [layer for layer in model._flatten_layers() if hasattr(layer, "expects")]
