"""Decodes the bytes of one image file, or says why that is impossible.

Only the decoders named here are tried, whatever a file claims to be. No file can make them allocate more than Pillow's own limit allows
(about 179 megapixels).
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

from tfvit.preprocessing import Preprocessing, resize_and_crop, to_rgb

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
MAX_FILE_BYTES = 256 * 2**20
MAX_ASPECT = 50  # a longer strip is no picture, and would become enormous when its short side is resized

_DECODERS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_CHECK_PX = 64


class UnreadableImageError(ValueError):
    """The bytes are no usable image. The message gives the reason in a few words."""


def decode(content: bytes) -> Image.Image:
    """An upright 8-bit RGB Pillow image from the bytes of a file; of an animation, the first frame.

    Raises:
        UnreadableImageError: the bytes are no image, or are cut off; the image is too large or too long, or its pixels have no known range.
    """
    return _load(content, to_rgb)


def decode_pixels(content: bytes, preprocessing: Preprocessing) -> np.ndarray:
    """The pixels that a model gets of an image file: [height, width, 3] uint8, RGB.

    Raises:
        UnreadableImageError: as `decode`.
    """
    return _load(content, lambda image: resize_and_crop(to_rgb(image), preprocessing))


def check_decodes(content: bytes) -> None:
    """Reads the file to its end like `decode`, but scales large JPEGs down on the way, which is several times faster.

    Raises:
        UnreadableImageError: as `decode`.
    """

    def check(image: Image.Image) -> None:
        image.draft(None, (_CHECK_PX, _CHECK_PX))  # does nothing for other formats
        to_rgb(image)

    _load(content, check)


def _load(content, finish):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large but allowed images and of odd metadata
            with Image.open(io.BytesIO(content), formats=_DECODERS) as image:
                _check_header(image)
                return finish(image)
    except UnreadableImageError:
        raise
    except Image.UnidentifiedImageError:
        raise UnreadableImageError("not an image in a known format") from None
    except Image.DecompressionBombError:
        raise UnreadableImageError(f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6} megapixels") from None
    except Exception as error:  # decoders meet broken files with errors of every type
        raise UnreadableImageError(f"cannot be decoded: {error or type(error).__name__}") from error


def _check_header(image: Image.Image) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise UnreadableImageError(f"no area ({width} x {height})")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UnreadableImageError(f"a strip, not a picture ({width} x {height})")
    if image.mode == "F":
        raise UnreadableImageError("floating-point pixels, whose range is not known")
    if image.mode == "I" and not _within_16_bits(image):
        raise UnreadableImageError("32-bit pixels, whose range is not known")


def _within_16_bits(image: Image.Image) -> bool:
    pixels = np.asarray(image)
    return int(pixels.min()) >= 0 and int(pixels.max()) <= 65535
