"""What the numbers of an output are, and so how two of them are compared."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

CLASSES, LABELS, VALUES, FEATURES = "classes", "labels", "values", "features"
# Of an output with more than one axis of its own (segmentation)
CLASS_MAP = "class_map"
# In words
MEANINGS = {
    CLASSES: "scores of classes, of which one applies",
    LABELS: "scores of labels, each of which applies or not",
    VALUES: "numbers as they are",
    FEATURES: "features: an embedding or a map of them",
    CLASS_MAP: "scores of classes for each place of a map, of which one applies there",
}
# What makes probabilities of an output; the outputs that are not here are numbers as they are
ACTIVATIONS = {CLASSES: "softmax", LABELS: "sigmoid", CLASS_MAP: "softmax"}
# One list of scores an image
SCORED = (CLASSES, LABELS)
AUTO, PROBABILITIES, LOGITS = "auto", "probabilities", "logits"
# --output -> the meaning that it says; None: it says none
OUTPUTS: dict[str, str | None] = {
    AUTO: None,
    PROBABILITIES: None,
    LOGITS: None,
    "multilabel": LABELS,
    VALUES: VALUES,
    FEATURES: FEATURES,
}


def output_name(meaning: str, asked: str) -> str:
    """What a file's output is called: "probabilities" or "logits" of what `ACTIVATIONS` has, "values" or "features" of the others.

    Args:
        meaning: of the output.
        asked: a key of `OUTPUTS`.
    """
    if meaning not in ACTIVATIONS:
        return meaning
    return LOGITS if asked == LOGITS else PROBABILITIES


def activation(meaning: str, name: str) -> str | None:
    """What gives the numbers of an output of this name: "softmax", "sigmoid" or None."""
    return ACTIVATIONS[meaning] if name == PROBABILITIES else None


@dataclasses.dataclass(frozen=True)
class Output:
    """One of a model's outputs.

    Attributes:
        name: as Keras calls it.
        meaning: one of `MEANINGS`.
        shape: of one image's.
        told: whether the model, its loss or the user says what it means.
    """

    name: str
    meaning: str
    shape: tuple[int, ...]
    told: bool = True

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    @property
    def width(self) -> int:
        """Entries of the last axis."""
        return self.shape[-1]


def each(rows: np.ndarray, outputs: Sequence[Output]) -> list[np.ndarray]:
    """[N, D] of rows that hold all outputs one after the other, as one array [N, size] an output."""
    return np.split(rows, np.cumsum([output.size for output in outputs])[:-1], axis=1)


def words_for(number: int, asked: str) -> list[str]:
    """What was asked of each of so many outputs: one word is for all of them.

    Args:
        asked: keys of `OUTPUTS`, with commas between them.
    """
    words = asked.split(",")
    return words * number if len(words) == 1 else words


def are_outputs(asked: str) -> bool:
    """Whether all words of a comma list are keys of `OUTPUTS`."""
    return all(word in OUTPUTS for word in asked.split(","))


def in_file(outputs: Sequence[Output], asked: str) -> list[tuple[str, str | None]]:
    """Name and activation of each output in a file: the first is called what it gives, the others as in Keras.

    Args:
        asked: as of `words_for`.
    """
    kinds = [output_name(output.meaning, word) for output, word in zip(outputs, words_for(len(outputs), asked), strict=True)]
    names = [kinds[0], *(output.name for output in outputs[1:])]
    return [(name, activation(output.meaning, kind)) for name, output, kind in zip(names, outputs, kinds, strict=True)]
