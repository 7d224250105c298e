"""What a class for a model says in any language: its names, its sentences, and the numbers of its preprocessing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

from edge.drift.meanings import CLASSES, FEATURES, LABELS, SCORED, VALUES
from tfvit.preprocessing import Preprocessing, sides, size_words

# What the class and its function are called
KINDS = {
    CLASSES: ("Classifier", "classify"),
    LABELS: ("Classifier", "classify"),
    VALUES: ("Regressor", "predict"),
    FEATURES: ("Encoder", "encode"),
}


def sentence(meaning: str, shape: Sequence[int]) -> str:
    """What the function returns.

    Args:
        shape: of the output, without the batch.
    """
    size = " x ".join(map(str, shape))
    return {
        CLASSES: f"The probabilities of the {size} classes.",
        LABELS: f"The probability of each of the {size} labels, which apply or not by themselves.",
        VALUES: f"The {size} values as they are: no probabilities.",
        FEATURES: f"The {size} features as they are{', the last axis side by side' if len(shape) > 1 else ''}: no probabilities.",
    }[meaning]


@dataclasses.dataclass(frozen=True)
class Language:
    """The pieces of a class in one language, with `$names` of `filled`.

    Attributes:
        code: the whole; `$labels`, `$size_of_resized`, `$cut`, `$weight`, `$input`, `$numbers` and `$scores` are the pieces below.
        labels: what reads the labels.
        squash, cover, fit: width and height of the resized image.
        whole, crop, pad: from the resized image to the model's pixels.
        weights: interpolation -> the weight of a pixel at a distance.
        inputs: type of the input -> the bytes that the tensor takes.
        numbers: type of the output -> the numbers that it holds.
        none, softmax, sigmoid: from numbers to what the function returns.
    """

    code: str
    labels: str
    squash: str
    cover: str
    fit: str
    whole: str
    crop: str
    pad: str
    weights: Mapping[str, str]
    inputs: Mapping[str, str]
    numbers: Mapping[str, str]
    none: str
    softmax: str
    sigmoid: str


def filled(language: Language, model: Mapping[str, Any], **names: str) -> str:
    """The class for one model.

    Args:
        model: an entry of `models` in `edge_package.json`.
        names: further values of the language's pieces.
    """
    preprocessing, output = Preprocessing(**model["preprocessing"]), model["output"]
    meaning = output.get("meaning", CLASSES)
    kind, verb = KINDS[meaning]
    (high, wide), (crop_high, crop_wide) = sides(preprocessing.resize_px), sides(preprocessing.crop_px)
    if preprocessing.pad is not None:
        resized, cut = language.fit, language.pad
    elif preprocessing.keep_aspect:
        resized, cut = language.cover, language.crop
    else:
        resized, cut = language.squash, language.whole if (high, wide) == (crop_high, crop_wide) else language.crop
    logits = output["activation"] is None and meaning in SCORED
    others = [other["name"] for other in model.get("other_outputs", ())]
    values = {
        "name": model["name"],
        "kind": kind,
        "verb": verb,
        "what": sentence(meaning, output["shape"][1:]) + (f" Not read here: {', '.join(others)}." if others else ""),
        "size": size_words(preprocessing.crop_px),
        "geometry": preprocessing.words(),
        "high": high, "wide": wide, "crop_high": crop_high, "crop_wide": crop_wide,
        "pad": preprocessing.pad,
        "support": {"bilinear": 1, "bicubic": 2}[preprocessing.interpolation],
        **{f"{side}_{key}": repr(value) for side in ("input", "output") for key, value in (model[side].get("quantization") or {}).items()},
        "labels_file": model["labels"]["file"] if model["labels"] else "",
        **names,
    }  # fmt: skip
    pieces = {
        "labels": language.labels if model["labels"] else "",
        "size_of_resized": resized,
        "cut": cut,
        "weight": language.weights[preprocessing.interpolation],
        "input": language.inputs[model["input"]["dtype"]],
        "numbers": language.numbers[output["dtype"]],
        "scores": (language.sigmoid if meaning == LABELS else language.softmax) if logits else language.none,
    }
    return Template(Template(language.code).safe_substitute(pieces)).substitute(values)
