"""Facts about an image set, from reading it once, for `python -m calibration.inspect`."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from calibration.decoding import UnreadableImageError, decode
from calibration.image_set import FileImageSet, ImageReference, SkippedImage
from tfvit.preprocessing import Preprocessing, resize_and_crop

# Different bits of 256. Measured on 42 photographs and 1,667 CIFAR-10 images: different images differ by 69 or more; copies that were
# recompressed (JPEG quality 30), scaled to 64 px, brightened by 15 % or cropped by 3 % differ by 10 at the median and by 47 at most.
NEAR_BITS = 40
_HASH_SIDE = 16
_PLAIN_STD = 2.0  # on the 0..255 scale: below it an image is one colour, and its perceptual hash says nothing
_GRAY_SPREAD = 2.0  # mean difference between an image's channels, on the 0..255 scale, below which it counts as grayscale


@dataclasses.dataclass(frozen=True)
class PixelFacts:
    """One image as the model sees it.

    Attributes:
        mean, std: [3] float64, RGB, 0..255.
        highest: the largest value.
        plain: (nearly) one colour.
        gray: the channels are (nearly) equal.
    """

    mean: np.ndarray
    std: np.ndarray
    highest: int
    plain: bool
    gray: bool


@dataclasses.dataclass(frozen=True)
class ImageFacts(PixelFacts):
    """One readable image.

    Attributes:
        path: within its set.
        width_px, height_px: upright, before resizing.
        digest: SHA-256 of the file.
        fingerprint: [4] uint64, a perceptual hash: the signs of the horizontal differences of a 17 x 16 thumbnail.
    """

    path: str
    width_px: int
    height_px: int
    digest: bytes
    fingerprint: np.ndarray


@dataclasses.dataclass(frozen=True)
class Survey:
    """All images of a set."""

    images: list[ImageFacts]
    unreadable: list[SkippedImage]

    def duplicates(self) -> list[list[str]]:
        """Groups of paths whose files have identical bytes."""
        groups = collections.defaultdict(list)
        for image in self.images:
            groups[image.digest].append(image.path)
        return [paths for paths in groups.values() if len(paths) > 1]


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Images that are in both of two sets, as (path here, path there)."""

    identical: list[tuple[str, str]]
    near: list[tuple[str, str]]


def survey(image_set: FileImageSet, references: Iterable[ImageReference], preprocessing: Preprocessing) -> Survey:
    """Reads each image once. Any number of images may be unreadable."""
    images, unreadable = [], []
    for reference in references:
        try:
            images.append(_facts(reference.path, image_set.read_bytes(reference), preprocessing))
        except UnreadableImageError as error:
            unreadable.append(SkippedImage(reference.path, str(error)))
    return Survey(images, unreadable)


def pixel_facts(pixels: np.ndarray) -> PixelFacts:
    """The facts of [H, W, 3] uint8 RGB pixels."""
    channels = np.ascontiguousarray(pixels.reshape(-1, 3).T)
    counts = np.stack([np.bincount(channel, minlength=256) for channel in channels]) / channels.shape[1]
    levels = np.arange(256.0)
    mean = counts @ levels
    std = np.sqrt(np.maximum(np.sum(counts * np.square(levels - mean[:, None]), axis=1), 0.0))
    return PixelFacts(
        mean=mean,
        std=std,
        highest=int(channels.max()),
        plain=bool(std.max() < _PLAIN_STD),
        gray=bool((channels.max(axis=0) - channels.min(axis=0)).mean() < _GRAY_SPREAD),
    )


def channel_mean(images: Sequence[PixelFacts]) -> np.ndarray:
    """[3], RGB 0..255, over all pixels of all images."""
    return np.mean([image.mean for image in images], axis=0)


def channel_std(images: Sequence[PixelFacts]) -> np.ndarray:
    """[3], RGB 0..255, over all pixels of all images, which includes the spread between images."""
    within = np.mean([image.std**2 for image in images], axis=0)
    return np.sqrt(within + np.var([image.mean for image in images], axis=0))


def overlap(here: Survey, there: Survey) -> Overlap:
    """The images of one set that the other set holds too: the same bytes, or nearly the same image (recompressed, resized, retouched)."""
    known: dict[bytes, str] = {}
    for image in there.images:
        known.setdefault(image.digest, image.path)
    identical = [(image.path, known[image.digest]) for image in here.images if image.digest in known]
    near = []
    candidates = [image for image in there.images if not image.plain]
    fingerprints = np.array([image.fingerprint for image in candidates], np.uint64).reshape(-1, _HASH_SIDE**2 // 64)
    for image in here.images:
        if image.plain or image.digest in known or not candidates:
            continue
        distances = np.bitwise_count(fingerprints ^ image.fingerprint).sum(axis=1)
        nearest = int(np.argmin(distances))
        if distances[nearest] <= NEAR_BITS:
            near.append((image.path, candidates[nearest].path))
    return Overlap(identical, near)


def _facts(path: str, content: bytes, preprocessing: Preprocessing) -> ImageFacts:
    image = decode(content)
    return ImageFacts(
        **vars(pixel_facts(resize_and_crop(image, preprocessing))),
        path=path,
        width_px=image.width,
        height_px=image.height,
        digest=hashlib.sha256(content).digest(),
        fingerprint=_fingerprint(image),
    )


def _fingerprint(image: Image.Image) -> np.ndarray:
    thumbnail = np.asarray(image.convert("L").resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.BOX))
    return np.packbits(thumbnail[:, 1:] > thumbnail[:, :-1]).view(np.uint64)
