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
    """The classes of published weights, where their names are known: not those of "imagenet21k"."""
    known = {"imagenet": imagenet_labels, "cifar10": cifar10_labels}
    return known[weights]() if weights in known else None


def class_indices(names: Sequence[str], classes: Sequence[str] | None, number: int) -> dict[str, int]:
    """Which class each folder of a labelled image set stands for; empty where that cannot be told.

    Args:
        names: of the folders.
        classes: names in the model's order, or None: then the folders are numbers, or as many as there are classes, in sorted order.
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
    """The labels of a file, surrounding spaces and empty lines at its end removed.

    Raises:
        InputError: unreadable, empty, or with an empty line in between.
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
    """The labels of a model with so many classes.

    Raises:
        InputError: another number of them.
    """
    if labels is not None and len(labels) != classes:
        raise InputError(
            "the labels do not fit the model",
            expected=f"{classes} labels, one per line",
            received=f"{len(labels)} labels",
            action="pass the label file the model was trained with",
        )
    return labels
