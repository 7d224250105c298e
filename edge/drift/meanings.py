"""What the numbers of an output are, and so how two of them are compared."""

from __future__ import annotations

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
