"""The images to validate on, and what their folders mean to the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calibration.image_set import BUILTIN, ImageReference, ImageSet, open_image_set
from edge.artifacts.artifact import Artifact, meaning, outputs
from edge.drift.meanings import CLASSES, Output
from tfvit.errors import InputError, printable
from tfvit.labels import checked_labels, class_indices
from tfvit.progress import current

# Of the generated images, where nobody says how many
BUILTIN_SAMPLES = 256
_FOLDERS_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Images:
    """What to validate on.

    Attributes:
        image_set, references: which images, in order.
        names: of the classes, where they are known.
        indices: label -> class; empty without labels.
        outputs: the model's.
    """

    image_set: ImageSet
    references: Sequence[ImageReference]
    names: Sequence[str] | None
    indices: dict[str, int]
    outputs: tuple[Output, ...]

    @property
    def meaning(self) -> str:
        """Of the first output."""
        return self.outputs[0].meaning

    def class_name(self, index: int) -> str:
        """The model's own name of a class; where it has none the folder's, or the number."""
        folders = {number: label for label, number in self.indices.items()}
        return self.names[index] if self.names else printable(folders.get(index, str(index)))

    def labels(self, references: Sequence[ImageReference]) -> np.ndarray | None:
        """Class indices, or None without labels."""
        return np.asarray([self.indices[reference.label or ""] for reference in references]) if self.indices else None


def choose_images(source: str, samples: int | None, seed: int, artifact: Artifact, labels: Sequence[str] | None) -> Images:
    """The images of a folder, a zip or the built-in set, with what their folders mean to the model.

    Args:
        source: "builtin" or a path.
        samples: how many of them; None: all, of generated ones `BUILTIN_SAMPLES`.
        seed: which, where not all.
        artifact: whose model it is.
        labels: the class names in the model's order, instead of the artifact's own.

    Raises:
        InputError: no such images; labels that do not name the folders, or are not as many as the model has classes.
    """
    calibration = artifact.manifest["calibration"]
    image_set = open_image_set(source)
    references = _references(image_set, samples, seed, calibration)
    names, indices = _classes(references, artifact, labels)
    _warn_of_calibration_images(image_set, references, calibration)
    given = tuple(Output(one["name"], one.get("meaning", CLASSES), tuple(one["shape"][1:])) for one in outputs(artifact.manifest))
    return Images(image_set, references, names, indices, given)


def _references(image_set: Any, samples: int | None, seed: int, calibration: Mapping[str, Any] | None) -> list[ImageReference]:
    """In the set's own order; of generated images those behind the calibration's."""
    if image_set.source == BUILTIN:
        same = calibration and (calibration["source"], calibration["seed"]) == (BUILTIN, seed)
        return list(image_set.split(calibration["samples"] if same and calibration else 1, samples or BUILTIN_SAMPLES, seed).held_out)
    if samples is None or samples >= len(image_set.references):
        return list(image_set.references)
    taken = set(image_set.shuffled(seed)[:samples])
    return [reference for reference in image_set.references if reference in taken]


def _classes(
    references: Sequence[ImageReference], artifact: Artifact, labels: Sequence[str] | None
) -> tuple[Sequence[str] | None, dict[str, int]]:
    """The names of the model's classes, where they are known, and folder -> class, empty without labels."""
    number = artifact.manifest["classes"]
    names = checked_labels(tuple(labels) if labels else artifact.labels, number)
    if meaning(artifact.manifest) != CLASSES:
        return names, {}  # a folder names one class
    folders = {reference.label for reference in references if reference.label is not None}
    if not folders or any(reference.label is None for reference in references):
        return names, {}
    indices = class_indices(sorted(folders), names, number) or ({} if labels else class_indices(sorted(folders), None, number))
    if not indices and labels:
        raise InputError(
            "the folders are not the labels'",
            expected=f"folders named after the labels: {', '.join(names[:_FOLDERS_SHOWN]) if names else ''}",
            received=", ".join(sorted(folders)[:_FOLDERS_SHOWN]),
            action="rename the folders, or pass other labels",
        )
    if not indices:
        current().note(f"the folders' names are not the model's classes ({', '.join(sorted(folders)[:3])} …): no accuracy")
    elif names is None or not folders <= set(names):
        current().note("the folders are taken for the classes by their number, or in sorted order: give --labels if they are not")
    return names, indices


def _warn_of_calibration_images(image_set: ImageSet, references: Sequence[ImageReference], calibration: Mapping[str, Any] | None) -> None:
    """Says where the file was calibrated with images of the same set."""
    if not calibration or calibration["source"] != image_set.source:
        return
    used = image_set.split(calibration["samples"], 0, calibration["seed"]).calibration
    again = len({reference.path for reference in used} & {reference.path for reference in references})
    if again:
        current().warn(f"{again} of these images are among the {calibration['samples']} that FILE was calibrated with")
