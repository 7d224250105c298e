"""What an image goes through before a model sees it: decode, resize, crop, normalise.

The protocol is the one the published weights were evaluated with: resize the short side to `resize_px` (bicubic, aspect kept), round,
clip, cut out the centre, `crop_px` square, then subtract the ImageNet mean and divide by the ImageNet standard deviation.

A model of the user's own may expect another (`ModelInput`): what nobody says of it is assumed, and named as assumed. What it was trained
with can travel with it: `attach` writes it into the model, and a saved `.keras` keeps it.
"""

from __future__ import annotations

import dataclasses
import re
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
SQUASH, PAD = "squash", "pad"
_PADDED = re.compile(r"pad(?::(\d+))?")
CHANNELS = ("RGB", "BGR")
VALUES, GEOMETRY = "value range", "resize and crop"
# Beside them, of what comes out
OUTPUT = "meaning of the output"


# The side of a square, or (height, width)
Size = int | tuple[int, int]


def sides(size: Size) -> tuple[int, int]:
    """(height, width)."""
    return (size, size) if isinstance(size, int) else size


def size_of(height: int, width: int) -> Size:
    """One number for a square."""
    return height if height == width else (height, width)


def size_words(size: Size) -> str:
    height, width = sides(size)
    return f"{width} x {height}" if width == height else f"{width} wide and {height} high"


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Geometry and normalisation of a model's input.

    Attributes:
        resize_px: the image is resized, its aspect kept, until it covers this: of a square, until its short side is as long. Where
            `keep_aspect` is false it is resized to exactly this.
        crop_px: the model's input, cut out of the centre.
        interpolation: "bicubic" or "bilinear", antialiased when shrinking.
        keep_aspect: False squashes the image.
        mean, std: per channel (RGB), on the 0..255 scale.
        pad: instead of all that, the image is resized, its aspect kept, until it fits into `crop_px`, centred there, and the rest is of
            this value, 0 to 255; None: it is not.
    """

    resize_px: Size
    crop_px: Size
    interpolation: str = "bicubic"
    keep_aspect: bool = True
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    pad: int | None = None

    def __post_init__(self) -> None:
        for name in ("resize_px", "crop_px"):  # JSON has lists
            value = getattr(self, name)
            object.__setattr__(self, name, value if isinstance(value, int) else size_of(*value))

    @classmethod
    def for_image_size(cls, size_px: Size, crop_fraction: float = 0.875) -> Preprocessing:
        """The published evaluation protocol at another input size."""
        height, width = sides(size_px)
        return cls(resize_px=size_of(int(height / crop_fraction), int(width / crop_fraction)), crop_px=size_px)

    def geometry(self) -> dict[str, Any]:
        """The manifest's `preprocessing` block: a size that is no square is [height, width]."""
        resize, crop = (size if isinstance(size, int) else list(size) for size in (self.resize_px, self.crop_px))
        block = {"resize_px": resize, "crop_px": crop, "interpolation": self.interpolation, "keep_aspect": self.keep_aspect}
        return block if self.pad is None else block | {"pad": self.pad}

    def squashed(self, interpolation: str | None = None) -> Preprocessing:
        """The same, but that both sides are resized straight to the input's."""
        return dataclasses.replace(
            self, resize_px=self.crop_px, keep_aspect=False, pad=None, interpolation=interpolation or self.interpolation
        )

    def padded(self, value: int, interpolation: str | None = None) -> Preprocessing:
        """The same, but that the whole image is there, with a margin of `value`."""
        return dataclasses.replace(
            self, resize_px=self.crop_px, keep_aspect=True, pad=value, interpolation=interpolation or self.interpolation
        )

    def words(self) -> str:
        """What is done to an image, for people."""
        how, resize = f"{self.interpolation}, antialiased", size_words(self.resize_px)
        if self.pad is not None:
            return f"resized to fit into {size_words(self.crop_px)} ({how}), centred, the rest filled with {self.pad}"
        if not self.keep_aspect:
            resized = f"resized to {resize} ({how})"
        elif isinstance(self.resize_px, int):
            resized = f"its short side resized to {self.resize_px} ({how})"
        else:
            resized = f"resized until it covers {resize} ({how})"
        if not self.keep_aspect and self.resize_px == self.crop_px:
            return resized
        return f"{resized}, its centre of {size_words(self.crop_px)} cut out"


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

    The side that is left free is rounded down, and an odd margin of a crop split half to even, as torchvision's Resize and CenterCrop do. A
    padded image is rounded down likewise and lies nearer to the top left by an odd pixel, as in `tf.image.resize_with_pad`.

    Returns:
        [height, width, 3] uint8, RGB: `crop_px`.
    """
    target_height, target_width = sides(preprocessing.crop_px)
    height, width = _resized(image.height, image.width, preprocessing)
    resized = image.resize((width, height), INTERPOLATIONS[preprocessing.interpolation])
    if preprocessing.pad is not None:
        filled = Image.new("RGB", (target_width, target_height), (preprocessing.pad,) * 3)
        filled.paste(resized, ((target_width - width) // 2, (target_height - height) // 2))
        return np.asarray(filled, dtype=np.uint8)
    left, top = round((width - target_width) / 2), round((height - target_height) / 2)
    return np.asarray(resized.crop((left, top, left + target_width, top + target_height)), dtype=np.uint8)


def _resized(height: int, width: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """(height, width) of an image of this size before anything is cut off or filled up."""
    high, wide = sides(preprocessing.resize_px)
    if not preprocessing.keep_aspect:
        return high, wide
    is_wider = width * high > height * wide
    if is_wider == (preprocessing.pad is None):  # the height is the side that fits
        return high, max(1, high * width // height)
    return max(1, wide * height // width), wide


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
        resize: length of the short side in pixels, or (height, width) that the image is to cover; "squash": both sides straight to the
            input's size; "pad" or "pad:VALUE": the whole image with a margin, black or of that value; None: nothing was said.
        crop: side of the centre that is cut out, in pixels or (below 1) as a share of `resize`; None: the input's size.
        interpolation: one of `tfvit.preprocessing.INTERPOLATIONS`, or None.
        mean, std: per channel of RGB pixels 0..255, instead of those of `values`.
        channels: "RGB" or "BGR", the order in which the model takes the values; None: RGB.
    """

    values: str = AUTO
    resize: Size | str | None = None
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
        elif isinstance(self.resize, str) and self.resize != SQUASH and not 0 <= _margin(self.resize) <= 255:
            wrong = ("--resize", "pixels, HEIGHTxWIDTH, squash, pad, or pad:VALUE of 0 to 255", self.resize)
        elif self.resize is not None and not isinstance(self.resize, str) and min(sides(self.resize)) < 1:
            wrong = ("--resize", "at least 1 pixel", str(self.resize))
        elif isinstance(self.resize, str) and self.resize.startswith(PAD) and self.crop is not None:
            wrong = ("--crop", f"none beside --resize {self.resize}, which cuts nothing off", self.crop)
        if wrong:
            raise UsageError(f"unusable {wrong[0]}", expected=wrong[1], received=str(wrong[2]), action="see edge.convert --help")

    @property
    def takes_pixels(self) -> bool | None:
        """Whether the model normalizes by itself; None to find out."""
        if self.mean is not None:
            return False
        return {AUTO: None, PIXELS: True}.get(self.values, False)

    def applied(self, preprocessing: Preprocessing, size: Size) -> Preprocessing:
        """What is done to an image: what was said, over what is usual.

        Args:
            preprocessing: the usual.
            size: of the model's input, in pixels.
        """
        height, width = sides(size)
        share = self.crop if self.crop is not None and self.crop < 1 else 1.0
        mean, std = VALUE_RANGES.get(self.values, (preprocessing.mean, preprocessing.std))
        changed: dict[str, Any] = {"mean": self.mean or mean, "std": self.std or std}
        if self.interpolation is not None:
            changed["interpolation"] = self.interpolation
        if self.resize == SQUASH:
            changed |= {"resize_px": size_of(round(height / share), round(width / share)), "keep_aspect": False}
        elif isinstance(self.resize, str):
            return dataclasses.replace(preprocessing, **changed).padded(_margin(self.resize))
        elif self.resize is not None:
            changed |= {"resize_px": self.resize, "keep_aspect": True}
        elif share < 1:
            changed |= {"resize_px": size_of(int(height / share), int(width / share))}
        made = dataclasses.replace(preprocessing, **changed)
        crop = (height, width) if self.crop is None or self.crop < 1 else (int(self.crop),) * 2
        resized = sides(made.resize_px)
        if crop != (height, width) or resized[0] < height or resized[1] < width:
            raise UsageError(
                "a resize and crop that the model cannot take",
                expected=f"--resize of at least {max(height, width)}, and no other --crop: the model's input is {size_words(size)}",
                received=f"resized to {size_words(made.resize_px)}, cut to {size_words(size_of(*crop))}",
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
                said["crop"] = sides(found.crop_px)[0] / sides(found.resize_px)[0]
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


def _margin(resize: str) -> int:
    """The value of "pad" or "pad:VALUE"; -1 for anything else."""
    found = _PADDED.fullmatch(resize)
    return int(found[1] or 0) if found else -1


def attach(
    model: Any,
    values: str = "auto",
    *,
    resize: Size | str | None = None,
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
        resize: length of the short side in pixels, or (height, width) that the image is to cover; "squash": both sides straight to the
            input's size; "pad" or "pad:VALUE": the whole image with a margin, black or of that value.
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
