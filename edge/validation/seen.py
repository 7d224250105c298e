"""What is kept of the models' answers as they come in, chunk by chunk."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from calibration.image_set import ImageReference
from edge.drift.meanings import each
from edge.drift.metrics import ImageDrifts, compare
from edge.validation.images import Images
from edge.validation.predictions import Answers
from tfvit.errors import InputError, printable

# Who answers: the float Keras model, the same as the app feeds it, its float32 file, the file
KERAS, APP, FLOAT32, FILE = "keras", "keras, app", "float32", "file"
# What is printed apart, the last one against the limits
DIFFERENCES = ("preprocessing", "export", "quantization", "total")
# At most this share of the images may be unreadable; one always may
MOST_UNREADABLE = 0.1
# Images whose logits are kept whole, to look for signs of collapse
_KEPT_LOGITS = 1024


@dataclasses.dataclass
class Seen:
    """What was answered.

    Attributes:
        references: the images that could be read. unreadable: the others, and why.
        differences: name -> per chunk, how far two models' answers are apart.
        others: of a file with several outputs, those behind the first: per chunk, how far the file is from the float Keras model.
        first: logits of the float Keras model and of the file, of the first images.
    """

    references: list[ImageReference] = dataclasses.field(default_factory=list)
    unreadable: list[tuple[ImageReference, str]] = dataclasses.field(default_factory=list)
    differences: dict[str, list[ImageDrifts]] = dataclasses.field(default_factory=lambda: {name: [] for name in DIFFERENCES})
    others: dict[str, list[ImageDrifts]] = dataclasses.field(default_factory=dict)
    first: list[tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=list)


def seen_of(chunks: Iterator[Answers], images: Images, asked: int) -> Seen:
    seen = Seen()
    limit = max(1, int(asked * MOST_UNREADABLE))
    for chunk in chunks:
        seen.unreadable += chunk.unreadable
        if len(seen.unreadable) > limit:
            raise InputError(
                f"too many unreadable images in {images.image_set.source}",
                expected=f"at most {limit} of {asked}",
                received="; ".join(f"{printable(reference.path)} ({printable(reason)})" for reference, reason in seen.unreadable[:3]),
                action="repair or remove these files",
            )
        if not chunk.references:
            continue
        labels, logits = images.labels(chunk.references), chunk.logits
        if not np.isfinite(logits[KERAS]).all():
            broken = chunk.references[int(np.flatnonzero(~np.isfinite(logits[KERAS]).all(axis=1))[0])]
            raise InputError(
                "the float Keras model itself gives NaN or infinity",
                expected="finite logits on every image",
                received=printable(broken.path),
                action="check the weights, or leave the image out",
            )
        on_app = logits.get(APP, logits[KERAS])
        pairs = {"preprocessing": (logits[KERAS], on_app), "total": (logits[KERAS], logits[FILE])}
        if FLOAT32 in logits:
            pairs |= {"export": (on_app, logits[FLOAT32]), "quantization": (logits[FLOAT32], logits[FILE])}
        for name, (one, other) in pairs.items():
            seen.differences[name].append(compare(*_each(images, one, other)[0], labels, images.meaning, images.outputs[0].width))
        for output, pair in zip(images.outputs[1:], _each(images, *pairs["total"])[1:], strict=True):
            seen.others.setdefault(output.name, []).append(compare(*pair, None, output.meaning, output.width))
        seen.references += chunk.references
        if len(seen.references) - len(chunk.references) < _KEPT_LOGITS:
            seen.first.append((logits[KERAS], logits[FILE]))
    if not seen.references:
        raise InputError(
            "no image that can be read",
            expected="at least one",
            received=f"{asked} unreadable ones",
            action="name other images with --images",
        )
    return seen


def _each(images: Images, one: np.ndarray, other: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Two models' logits, output by output."""
    return list(zip(each(one, images.outputs), each(other, images.outputs), strict=True))
