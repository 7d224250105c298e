"""Class names: a text file with one label per line, in the model's order."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from tfvit.errors import InputError, reading


@functools.cache
def imagenet_labels() -> tuple[str, ...]:
    """The 1000 ImageNet-1k classes in the order of the published heads.

    Source: WordNet lemmas of the ILSVRC 2012 synsets, as listed by timm (Apache-2.0), data/_info.
    """
    return read_labels(Path(__file__).with_name("imagenet_labels.txt"))


@functools.cache
def cifar10_labels() -> tuple[str, ...]:
    """The 10 CIFAR-10 classes, in alphabetical order as the data set has them."""
    return read_labels(Path(__file__).parent / "cifar10" / "labels.txt")


def published_labels(weights: str | None) -> tuple[str, ...] | None:
    """The classes of published weights; None for "imagenet21k", whose names are not known."""
    known = {"imagenet": imagenet_labels, "cifar10": cifar10_labels}
    return known[weights]() if weights in known else None


def class_indices(names: Sequence[str], classes: Sequence[str] | None, number: int) -> dict[str, int]:
    """Folder name -> class number, for a labelled image set; empty if the folders do not tell.

    Args:
        names: the folders' names.
        classes: the class names in the model's order. None takes folder names that are numbers as class numbers, and otherwise as many
            folders as there are classes in sorted order.
        number: how many classes the model has.
    """
    names = sorted(set(names))
    if classes is not None:
        indices = {name: index for index, name in enumerate(classes)}
    elif names and all(name.isdecimal() for name in names):
        indices = {name: int(name) for name in names}
    else:
        indices = {name: index for index, name in enumerate(names)} if len(names) == number else {}
    return indices if names and all(indices.get(name, number) < number for name in names) else {}


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels of a file, without surrounding spaces and empty lines at the end.

    Raises:
        InputError: the file is unreadable or empty, or has an empty line between labels.
    """
    with reading(path, "a UTF-8 text file with one label per line", "labels"):
        labels = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    while labels and not labels[-1]:
        labels = labels[:-1]
    if not labels or not all(labels):
        raise InputError(
            "unusable labels",
            expected="one label on every line",
            received=f"{path}: {len(labels)} lines, {sum(not label for label in labels)} empty",
            action="remove the empty lines",
        )
    return labels


def checked_labels(labels: tuple[str, ...] | None, classes: int) -> tuple[str, ...] | None:
    """The same labels, if there is one for each class.

    Raises:
        InputError: the model has more or fewer classes.
    """
    if labels is not None and len(labels) != classes:
        raise InputError(
            "the labels do not fit the model",
            expected=f"{classes} labels, one per line",
            received=f"{len(labels)} labels",
            action="pass the label file the model was trained with",
        )
    return labels
