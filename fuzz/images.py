"""One image file: JPEG, PNG, WebP, BMP, TIFF or GIF, as its bytes say."""

import contextlib

from calibration.decoding import UnreadableImageError, check_decodes, decode, decode_pixels
from tfvit.preprocessing import Preprocessing

_PREPROCESSING = Preprocessing.for_image_size(32)


def read(data: bytes) -> None:
    for reader in (check_decodes, decode, lambda content: decode_pixels(content, _PREPROCESSING)):
        with contextlib.suppress(UnreadableImageError):
            reader(data)
