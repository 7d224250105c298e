"""What an image goes through before a model sees it: decode, resize, crop, normalise.

The protocol is the one the published weights were evaluated with: resize the short side to `resize_px` (bicubic, aspect kept), round,
clip, cut the centre `crop_px` square, then subtract the ImageNet mean and divide by the ImageNet standard deviation.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from PIL import Image, ImageOps

# RGB, on the 0..255 scale (torchvision's 0..1 constants times 255)
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


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
    from tfvit import model_input

    model_input.attach(model, model_input.ModelInput(values, resize, crop, interpolation, mean, std, channels))


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
