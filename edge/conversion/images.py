"""The images of one conversion: which they are, known before they are read, and their pixels, decoded once."""

from __future__ import annotations

import dataclasses
import functools
import threading
from concurrent.futures import Future

import numpy as np

from calibration.image_set import ImageReference, ImageSet, Split
from tfvit.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class Images:
    """What a model is calibrated with, and what its files are judged by.

    Attributes:
        image_set, split: where they lie, and which are for what.
        preprocessing: what is done to each.
        labels: the model's class names, or None.
    """

    image_set: ImageSet
    split: Split
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None = None

    @property
    def source(self) -> str:
        """For the manifest: "builtin", or the last part of the folder's or zip's path."""
        return self.image_set.source

    @functools.cached_property
    def calibration(self) -> np.ndarray:
        """The pixels to calibrate with: [N, H, W, 3] uint8."""
        return self._calibration.result()

    def read_ahead(self) -> None:
        """Begins to decode the pixels of `calibration`, on a thread of its own; an error waits for who asks for them."""
        _ = self._calibration

    @functools.cached_property
    def _calibration(self) -> Future[np.ndarray]:
        reading: Future[np.ndarray] = Future()

        def read() -> None:
            try:
                reading.set_result(np.stack(list(self.image_set.read(self.split.calibration, self.preprocessing))))
            except Exception as error:
                reading.set_exception(error)

        threading.Thread(target=read, daemon=True).start()  # a daemon, for which an interrupted program does not wait
        return reading

    @functools.cached_property
    def calibration_sha256(self) -> str:
        return self.image_set.digest(self.split.calibration, self.preprocessing)

    @functools.cached_property
    def held_out_sha256(self) -> str:
        return self.image_set.digest(self.split.held_out, self.preprocessing)

    @functools.cached_property
    def sha256(self) -> str:
        """Of those that calibrate and those that judge."""
        return self.image_set.digest((*self.split.calibration, *self.split.held_out), self.preprocessing)

    @functools.cached_property
    def further(self) -> np.ndarray:
        """The pixels of the further images, which count changed answers: [K, H, W, 3] uint8, K may be 0."""
        pixels = list(self.image_set.read(self.split.further, self.preprocessing))
        return np.stack(pixels) if pixels else np.zeros((0, *self.held_out.shape[1:]), np.uint8)

    @functools.cached_property
    def further_sha256(self) -> str:
        return self.image_set.digest(self.split.further, self.preprocessing)

    @property
    def held_out(self) -> np.ndarray:
        """The pixels to judge by: [M, H, W, 3] uint8."""
        return self._held_out[0]

    @property
    def held_out_classes(self) -> np.ndarray | None:
        """Their class indices, where every one of them has a label that the model knows; else None."""
        return self._held_out[1]

    @property
    def held_out_references(self) -> tuple[ImageReference, ...]:
        """Of `held_out`, in its order: those that could be read."""
        return self._held_out[2]

    @functools.cached_property
    def _held_out(self) -> tuple[np.ndarray, np.ndarray | None, tuple[ImageReference, ...]]:
        references, pixels = zip(*self.image_set.read_with_references(self.split.held_out, self.preprocessing), strict=True)
        names = self.labels or ()
        known = all(reference.label in names for reference in self.split.held_out)
        classes = np.asarray([names.index(reference.label) for reference in references]) if known else None
        return np.stack(pixels), classes, references
