"""Checks whether the pixels of a set look like what a model expects. Each check ends in ok, warn or fail. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from calibration.survey import PixelFacts, channel_mean, channel_std
from tfvit.preprocessing import Preprocessing

OK, WARN, FAIL = "ok", "warn", "fail"

NORMALIZED_HIGHEST = 8  # normalised pixels saved as 8 bits, (x - mean) / std or x / 255, stay far below
# How far the set's mean may be from the training data's, in standard deviations, and how large the ratio of the spreads may be.
# Any 100 photographs stay within the first limits. Beyond the second ones, images are nearly black, nearly white or nearly flat.
MEAN_WARN, MEAN_FAIL = 0.6, 1.4
STD_WARN, STD_FAIL = (0.6, 1.6), (0.2, 2.2)
MAX_BLUE_EXCESS = 12.0  # photographs have more red than blue, by 20 on ImageNet's average


@dataclasses.dataclass(frozen=True)
class Check:
    """The outcome of one check, with a status of ok, warn or fail."""

    name: str
    status: str
    detail: str


def check_content(images: Sequence[PixelFacts]) -> Check:
    plain = sum(image.plain for image in images)
    status = OK if not plain else FAIL if plain == len(images) else WARN
    return Check("content", status, f"{plain} of {len(images)} are one colour" if plain else "no image is one colour")


def check_statistics(images: Sequence[PixelFacts], preprocessing: Preprocessing) -> list[Check]:
    highest = max(image.highest for image in images)
    if highest <= NORMALIZED_HIGHEST:
        return [Check("brightness", FAIL, f"no pixel is above {highest}: already normalised? expected RGB 0..255, as it was photographed")]
    distance = (channel_mean(images) - preprocessing.mean) / np.array(preprocessing.std)
    worst = float(distance[np.argmax(np.abs(distance))])
    brightness = _status(abs(worst) <= MEAN_WARN, abs(worst) <= MEAN_FAIL)
    word = "" if brightness == OK else ": too bright" if worst > 0 else ": too dark"
    ratio = channel_std(images) / np.array(preprocessing.std)
    within = [all(low <= value <= high for value in ratio) for low, high in (STD_WARN, STD_FAIL)]
    farthest = float(ratio[np.argmax(np.abs(ratio - 1))])
    return [
        Check("brightness", brightness, f"mean is {worst:+.2f} standard deviations from the variant's{word}"),
        Check("contrast", _status(*within), f"standard deviation is {farthest:.2f} x the variant's"),
    ]


def check_channel_order(images: Sequence[PixelFacts]) -> Check:
    red, _, blue = channel_mean(images)
    if blue - red > MAX_BLUE_EXCESS:
        return Check("channel order", WARN, f"blue is {blue - red:.0f} above red: sea and sky, or red and blue swapped (BGR)?")
    return Check("channel order", OK, f"red - blue is {red - blue:+.0f}")


def _status(fine: bool, bearable: bool) -> str:
    """The status of two comparisons. NaN compares as false, so it fails."""
    return OK if fine else WARN if bearable else FAIL
