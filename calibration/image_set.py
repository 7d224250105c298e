"""Image sets (a folder, a zip or the built-in set): chooses images and gives their pixels.

The choice depends on the seed, the relative paths and the images, not on where the set lies or how the file system lists it. Images are
ranked by the SHA-256 of seed and path, so a new image does not change the order of the others.

    image_set = open_image_set("photos")
    split = image_set.split(samples=128, held_out=64, seed=0)
    for pixels in image_set.read(split.calibration, variant.preprocessing): ...
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from calibration import builtin
from calibration.decoding import UnreadableImageError, check_decodes, decode_pixels
from calibration.files import Files, open_files
from tfvit.errors import InputError, UsageError, printable
from tfvit.preprocessing import Preprocessing, sides

BUILTIN = "builtin"
MAX_UNREADABLE_FRACTION = 0.1  # of the images asked for; one unreadable image is always forgiven
_NAMED = 20  # unreadable images that one error names


@dataclasses.dataclass(frozen=True)
class ImageReference:
    """One image of a set.

    Attributes:
        path: within the set, `/` between the parts.
        label: the folder's name for an image at LABEL/NAME, otherwise None.
    """

    path: str
    label: str | None = None


@dataclasses.dataclass(frozen=True)
class SkippedImage:
    """An image that could not be used, with the reason."""

    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Split:
    """Images to calibrate with, and others to judge the result by. No image is on both sides, not even as a copy.

    Attributes:
        calibration, held_out: in the order of choice.
        further: others that were asked for, as many of them as there are.
        note: a sentence for the user if there were fewer images than asked for, otherwise None.
    """

    calibration: tuple[ImageReference, ...]
    held_out: tuple[ImageReference, ...]
    note: str | None = None
    further: tuple[ImageReference, ...] = ()


class ImageSet(abc.ABC):
    """A set of images to choose from.

    Attributes:
        source: "builtin", or the last part of the path of the folder or zip; for the manifest.
        skipped: the images that could not be used so far, each once.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.skipped: list[SkippedImage] = []

    @abc.abstractmethod
    def split(self, samples: int, held_out: int, seed: int, further: int = 0) -> Split:
        """Chooses images, all different from one another in content.

        If there are fewer than samples + held_out images, calibration gets what `held_out` leaves, but at least half of the images, and
        at most `samples`. The next image in order takes the place of an unreadable one.

        Args:
            samples: how many images to calibrate with.
            held_out: how many other images, at most.
            seed: another seed gives another choice.
            further: how many more, where there are as many.

        Raises:
            UsageError: samples is below 1, or held_out or seed below 0.
            InputError: fewer than two images are usable, or too many are unreadable (`MAX_UNREADABLE_FRACTION`).
        """

    @abc.abstractmethod
    def pixels(self, reference: ImageReference, preprocessing: Preprocessing) -> np.ndarray:
        """The pixels of one image: [height, width, 3] uint8, RGB. Several threads may call this at once.

        Raises:
            UnreadableImageError: with the reason.
        """

    @abc.abstractmethod
    def identity(self, reference: ImageReference, preprocessing: Preprocessing) -> str:
        """What the pixels of an image depend on, besides `preprocessing`: the SHA-256 of its bytes, or "unreadable"."""

    @abc.abstractmethod
    def read_with_references(
        self, references: Iterable[ImageReference], preprocessing: Preprocessing
    ) -> Iterator[tuple[ImageReference, np.ndarray]]:
        """Like `read`, with the reference of each image, since `read` leaves unreadable images out."""

    @abc.abstractmethod
    def digest(self, references: Iterable[ImageReference], preprocessing: Preprocessing) -> str:
        """SHA-256 (hexadecimal) of these images in this order.

        It covers the bytes of the files, not their names and not `preprocessing`. The built-in set has no files: it covers the version of
        the generator, size, seeds and indices.

        Raises:
            InputError: an image is unreadable.
        """

    def read(self, references: Iterable[ImageReference], preprocessing: Preprocessing) -> Iterator[np.ndarray]:
        """The pixels of each image: [height, width, 3] uint8, RGB. Unreadable images are left out and recorded in `skipped`.

        Raises:
            InputError: more than `MAX_UNREADABLE_FRACTION` of `references` are unreadable.
        """
        for _, pixels in self.read_with_references(references, preprocessing):
            yield pixels


class FileImageSet(ImageSet):
    """The images of a folder or zip.

    Attributes:
        references: every file with the extension of an image, sorted by path.
        other_files: extension -> how many ignored files have it.
    """

    def __init__(self, files: Files) -> None:
        name = printable(files.name)
        super().__init__(name if name != BUILTIN else f"./{name}")
        self._files = files
        self._hashes: dict[str, bytes] = {}
        self.references = tuple(ImageReference(path, _label(path)) for path in files.paths)
        self.other_files = dict(sorted(files.others.items()))
        if not self.references:
            raise InputError(
                "no images in the image set",
                expected="JPEG, PNG, WebP, BMP, TIFF or GIF files, in subfolders too",
                received=f"{self.source}: {_counted(self.other_files)}",
                action="name a folder or zip that holds images, or use builtin",
                other_files=self.other_files,
            )

    def split(self, samples: int, held_out: int, seed: int, further: int = 0) -> Split:
        _check_split_arguments(samples, held_out, seed)
        asked = samples + held_out
        chosen: dict[bytes, ImageReference] = {}
        unreadable, copies = [], 0
        limit = _unreadable_limit(min(asked + further, len(self.references)))
        for reference in self.shuffled(seed):
            if len(chosen) == asked + further:
                break
            try:
                content = self.read_bytes(reference)
                check_decodes(content)
            except UnreadableImageError as error:
                self._skip(reference, error, unreadable)
                if len(unreadable) > limit + _NAMED:
                    break
                continue
            if chosen.setdefault(self._hashes[reference.path], reference) is not reference:
                copies += 1
        if len(unreadable) > limit:
            raise _unreadable(unreadable, self.source, limit)
        found = list(chosen.values())
        if len(found) < 2:
            raise InputError(
                "too few images in the image set",
                expected="at least 2 different readable images: one to calibrate with, another to judge by",
                received=f"{self.source}: {len(found)} ({len(unreadable)} unreadable, {copies} identical to another)",
                action="add images, 128 or more for a good calibration, or use builtin",
            )
        if len(found) >= asked:
            return Split(tuple(found[:samples]), tuple(found[samples:asked]), further=tuple(found[asked:]))
        taken = min(samples, max(len(found) // 2, len(found) - held_out))
        rest = found[taken : taken + held_out]
        left_out = f" ({len(unreadable)} unreadable and {copies} identical to another left out)" if unreadable or copies else ""
        note = (
            f"{self.source} has {len(found)} images{left_out} where {samples} to calibrate and {held_out} to judge by were asked for: "
            f"using {taken} and {len(rest)}"
        )
        return Split(tuple(found[:taken]), tuple(rest), note)

    def shuffled(self, seed: int) -> list[ImageReference]:
        """Every reference in the order in which `split` tries them."""
        return sorted(
            self.references,
            key=lambda reference: hashlib.sha256(f"{seed}/{reference.path}".encode("utf-8", "surrogateescape")).digest(),
        )

    def read_bytes(self, reference: ImageReference) -> bytes:
        """The bytes of one image file.

        Raises:
            UnreadableImageError: the file cannot be read.
        """
        content = self._files.read(reference.path)
        self._hashes[reference.path] = hashlib.sha256(content).digest()
        return content

    def pixels(self, reference: ImageReference, preprocessing: Preprocessing) -> np.ndarray:
        return decode_pixels(self.read_bytes(reference), preprocessing)

    def identity(self, reference: ImageReference, preprocessing: Preprocessing) -> str:
        try:
            self.read_bytes(reference)
        except UnreadableImageError:
            return "unreadable"
        return self._hashes[reference.path].hex()

    def read_with_references(
        self, references: Iterable[ImageReference], preprocessing: Preprocessing
    ) -> Iterator[tuple[ImageReference, np.ndarray]]:
        references = tuple(references)
        unreadable: list[SkippedImage] = []
        limit = _unreadable_limit(len(references))
        for reference in references:
            try:
                pixels = self.pixels(reference, preprocessing)
            except UnreadableImageError as error:
                self._skip(reference, error, unreadable)
                if len(unreadable) > limit + _NAMED:
                    break
                continue
            if len(unreadable) <= limit:  # else the others are only looked for, to be named together
                yield reference, pixels
        if len(unreadable) > limit:
            raise _unreadable(unreadable, self.source, limit)

    def digest(self, references: Iterable[ImageReference], preprocessing: Preprocessing) -> str:
        total = hashlib.sha256()
        for reference in references:
            if reference.path not in self._hashes:
                try:
                    self.read_bytes(reference)
                except UnreadableImageError as error:
                    raise _unreadable([SkippedImage(reference.path, str(error))], self.source, 0) from error
            total.update(self._hashes[reference.path])
        return total.hexdigest()

    def _skip(self, reference: ImageReference, error: UnreadableImageError, unreadable: list[SkippedImage]) -> None:
        skipped = SkippedImage(reference.path, str(error))
        unreadable.append(skipped)
        if skipped not in self.skipped:
            self.skipped.append(skipped)


class BuiltinImageSet(ImageSet):
    """Generated scenes (see `calibration.builtin`), as many as needed."""

    def __init__(self) -> None:
        super().__init__(BUILTIN)

    def split(self, samples: int, held_out: int, seed: int, further: int = 0) -> Split:
        _check_split_arguments(samples, held_out, seed)
        asked = samples + held_out
        references = tuple(ImageReference(f"{seed}/{index}") for index in range(asked + further))
        return Split(references[:samples], references[samples:asked], further=references[asked:])

    def pixels(self, reference: ImageReference, preprocessing: Preprocessing) -> np.ndarray:
        seed, index = map(int, reference.path.split("/"))
        height, width = sides(preprocessing.crop_px)
        return builtin.generate(index, max(height, width), seed)[:height, :width]  # at the size of the crop, so nothing is resized

    def identity(self, reference: ImageReference, preprocessing: Preprocessing) -> str:
        return f"builtin {builtin.VERSION} {preprocessing.crop_px} {reference.path}"

    def read_with_references(
        self, references: Iterable[ImageReference], preprocessing: Preprocessing
    ) -> Iterator[tuple[ImageReference, np.ndarray]]:
        for reference in references:
            yield reference, self.pixels(reference, preprocessing)

    def digest(self, references: Iterable[ImageReference], preprocessing: Preprocessing) -> str:
        names = " ".join(reference.path for reference in references)
        return hashlib.sha256(f"builtin {builtin.VERSION} {preprocessing.crop_px} {names}".encode()).hexdigest()


def open_image_set(source: str | os.PathLike[str]) -> ImageSet:
    """The set of images at `source`.

    Args:
        source: "builtin", a folder (searched with its subfolders) or a zip. A folder called builtin is "./builtin".

    Raises:
        InputError: the source is neither folder nor zip, or holds no images.
    """
    if source == BUILTIN:
        return BuiltinImageSet()
    return FileImageSet(open_files(Path(source)))


def _label(path: str) -> str | None:
    parts = path.split("/")
    return parts[0] if len(parts) == 2 else None


def _check_split_arguments(samples: int, held_out: int, seed: int) -> None:
    if samples < 1 or held_out < 0 or seed < 0:
        raise UsageError(
            "cannot choose that many images",
            expected="samples >= 1, held_out >= 0, seed >= 0",
            received=f"samples={samples}, held_out={held_out}, seed={seed}",
            action="pass numbers in these ranges",
        )


def _unreadable_limit(asked: int) -> int:
    return max(1, int(asked * MAX_UNREADABLE_FRACTION))


def _unreadable(skipped: Sequence[SkippedImage], source: str, limit: int) -> InputError:
    named = "; ".join(f"{printable(image.path)} ({printable(image.reason)})" for image in skipped[:_NAMED])
    return InputError(
        f"too many unreadable images in {source}",
        expected=f"at most {limit} that cannot be read",
        received=named + ("; and more" if len(skipped) > _NAMED else ""),
        action="repair or remove these files",
        skipped=tuple(skipped),
    )


def _counted(others: dict[str, int]) -> str:
    if not others:
        return "no files at all"
    most = sorted(others.items(), key=lambda item: (-item[1], item[0]))[:5]
    kinds = ", ".join(f"{count} {printable(extension) or 'without an extension'}" for extension, count in most)
    return f"{sum(others.values())} files, none of them images ({kinds}{', ...' if len(others) > 5 else ''})"
