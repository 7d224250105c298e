"""What is assumed of a model's images, held against labelled ones where there are any: an assumption that loses is an error."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge.conversion.images import Images
from edge.drift.meanings import CLASSES, LABELS, MEANINGS, Output
from edge.drift.statistics import wrong_label_order
from edge.export.float_model import FloatModel
from tfvit.checkpoints.checkpoint import HEADS, IMAGE_SIZE
from tfvit.errors import InputError
from tfvit.preprocessing import (
    GEOMETRY,
    MODEL_INPUTS,
    NORMALIZED,
    OUTPUT,
    PAD,
    PIXELS,
    SQUASH,
    VALUE_RANGES,
    VALUES,
    Preprocessing,
    size_words,
)  # fmt: skip
from tfvit.progress import current, step

# McNemar's exact test: another preprocessing is right so much more often that chance does it once in twenty times
_SIGNIFICANCE = 0.05
# Right so often by chance once in a thousand times
_CLEAR = 0.001


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """One way to feed the model.

    Attributes:
        words: what it is. flags: how a user says it.
        right: of each labelled image, whether the float model then gives its class.
    """

    words: str
    flags: str
    right: np.ndarray

    def __str__(self) -> str:
        return f"{self.words} {self.right.mean():.0%}"


def words_of(parts: tuple[str, ...] | list[str], preprocessing: Preprocessing, outputs: Sequence[Output]) -> list[str]:
    """A line for each assumption, with the flag that says it otherwise."""
    several = len(outputs) > 1
    numbers = ", ".join(
        f"{f'those of {one.name}' if several else 'its numbers'} are taken for {MEANINGS[one.meaning]}" for one in outputs if not one.told
    )
    lines = {
        VALUES: f"its values are taken for pixels {MODEL_INPUTS[NORMALIZED]} (--model-input {'|'.join((PIXELS, *VALUE_RANGES))})",
        GEOMETRY: f"what is done to an image: {preprocessing.words()} (--resize N|squash|pad)",
        IMAGE_SIZE: f"its images are taken to be of {size_words(preprocessing.crop_px)} px (--crop N)",
        HEADS: "64 channels a head (a config.json beside the checkpoint says it)",
        OUTPUT: f"{numbers}; neither its last layer nor a saved loss says so "
        f"(--output probabilities|logits|multilabel|values|features{', a word for each output' if several else ''})",
    }
    return [f"assumed, {part}: {lines[part]}" for part in parts]


def assumed(model: FloatModel, images: Images) -> tuple[str, ...]:
    """What is assumed of a model, less what labelled images show: one that names their classes far oftener than chance is a classifier."""
    facts = model.facts
    untold = [output for output in facts.outputs if not output.told]
    if untold != [facts.outputs[0]] or images.held_out_classes is None or facts.meaning != CLASSES:
        return facts.assumed
    answers = facts.first(model.reference(images.held_out, images.held_out_sha256)).argmax(axis=1)
    right, number, chance = int((answers == images.held_out_classes).sum()), len(answers), 1 / facts.classes
    tail = sum(math.comb(number, k) * chance**k * (1 - chance) ** (number - k) for k in range(right, number + 1))
    return tuple(one for one in facts.assumed if one != OUTPUT) if tail < _CLEAR else facts.assumed


def check_assumptions(model: FloatModel, images: Images, gate: bool) -> None:
    """Says what is assumed of a model of the user's own. With labelled images, the other ways to feed it are tried.

    Raises:
        InputError: another way is right on more of the labelled images, and the gate is on.
    """
    facts = model.facts
    several = len(facts.outputs) > 1
    for output in facts.outputs:
        if output.told and (several or output.meaning != CLASSES):
            how = ", a sigmoid of each (multi-label)" if output.meaning == LABELS else ""
            which = f"output {output.name}" if several else "output"
            current().note(f"{which}: {MEANINGS[output.meaning]}{how}, as the model's end or its loss say (--output says otherwise)")
    still = assumed(model, images)
    if not still:
        return
    for line in words_of(still, facts.preprocessing, facts.outputs):
        current().warn(line)
    if images.held_out_classes is None or facts.meaning != CLASSES or not {VALUES, GEOMETRY} & set(still):
        return
    with step("try what is assumed", subject=model.source.name):
        tried = _tried(model, images)
    as_assumed, *others = tried
    current().note(f"right on {len(as_assumed.right)} labelled images: {', '.join(map(str, tried))}")
    better = max(others, key=lambda candidate: candidate.right.sum())
    if better.right.sum() <= as_assumed.right.sum() or _mcnemar(as_assumed.right, better.right) >= _SIGNIFICANCE:
        return
    if not gate:
        current().warn(f"the assumed preprocessing loses: {better} against {as_assumed}; {better.flags} says so")
        return
    raise InputError(
        "the model was not trained with what is assumed of its images",
        expected=f"{better.words}: right on {int(better.right.sum())} of {len(better.right)} labelled images",
        received=f"{as_assumed.words}, assumed: right on {int(as_assumed.right.sum())}",
        action=f"say what it was trained with, for example {better.flags}; --no-gate converts it as assumed",
    )


def check_label_order(reference: np.ndarray, images: Images, gate: bool) -> None:
    """Holds the order of a classifier's labels against labelled images.

    Args:
        reference: the float model's logits on the held-out images, [N, classes].

    Raises:
        InputError: another order fits, and the gate is on.
    """
    if images.held_out_classes is None:
        return
    wrong = wrong_label_order(reference.argmax(axis=1), images.held_out_classes, reference.shape[1])
    if wrong is None:
        return
    if not gate:
        current().warn(str(wrong))
        return
    raise InputError(
        "the labels are in another order than the model's classes",
        expected=f"the order that the model was trained with: right on {wrong.permuted:.0%} of {len(reference)} labelled images",
        received=f"labels with which it is right on {wrong.given:.0%}",
        action="write the labels in the order of the training (sorted folder names, for image_dataset_from_directory)",
    )


def _tried(model: FloatModel, images: Images) -> list[_Candidate]:
    """The assumption first, then what else it could be: other values, then another geometry with the best of them."""
    exportable, classes, parts = model.exportable, images.held_out_classes, model.facts.assumed
    assert classes is not None
    geometries = {
        SQUASH: ("squashed", images.preprocessing.squashed("bilinear")),
        PAD: ("padded", images.preprocessing.padded(0, "bilinear")),
    }

    def candidate(words: str, flags: str, source: Any, pixels: np.ndarray) -> _Candidate:
        from edge.export.to_tflite import reference_logits

        logits = model.facts.first(np.stack(list(reference_logits(source, iter(pixels)))))
        return _Candidate(words, flags, logits.argmax(axis=1) == classes)

    sources = {NORMALIZED if VALUES in parts else "": exportable}
    if VALUES in parts:
        sources[PIXELS] = dataclasses.replace(exportable, takes_pixels=True)
        for name, (mean, std) in VALUE_RANGES.items():
            if name != NORMALIZED:
                preprocessing = dataclasses.replace(exportable.preprocessing, mean=mean, std=std)
                sources[name] = dataclasses.replace(exportable, takes_pixels=False, preprocessing=preprocessing)
    found = [candidate(name or "resize and crop", f"--model-input {name}", source, images.held_out) for name, source in sources.items()]
    if GEOMETRY in parts:
        best = max(range(len(found)), key=lambda index: found[index].right.sum())
        name, source = list(sources.items())[best]
        for resize, (words, preprocessing) in geometries.items():
            pixels = np.stack([images.image_set.pixels(one, preprocessing) for one in images.held_out_references])
            flags = f"--resize {resize} --interpolation bilinear{f' --model-input {name}' if name else ''}"
            found.append(candidate(f"{words}{f', {name}' if name else ''}", flags, source, pixels))
    return found


def _mcnemar(one: np.ndarray, other: np.ndarray) -> float:
    """Two-sided exact p-value of as many images on which only one of both is right."""
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    number = only_one + only_other
    tail = sum(math.comb(number, k) for k in range(min(only_one, only_other) + 1))
    return min(1.0, 2 * tail / 2**number)
