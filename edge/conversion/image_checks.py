"""Are the calibration images what the model expects? Looked at as they pass by on their way to calibration."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from calibration.checks import FAIL, NORMALIZED_HIGHEST, OK, Check, check_channel_order, check_content, check_statistics
from calibration.survey import PixelFacts, pixel_facts
from edge.drift.collapse import looks_swapped
from edge.export.float_model import FloatModel
from edge.export.to_tflite import ExportableModel
from tfvit.errors import InputError


class WatchedImages:
    """What passes through of a set of images: the facts of each, and the first few themselves."""

    KEPT = 16

    def __init__(self) -> None:
        self.facts: list[PixelFacts] = []
        self.first: list[np.ndarray] = []

    def passing(self, images: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for image in images:
            self.facts.append(pixel_facts(image))
            if len(self.first) < self.KEPT:
                self.first.append(image)
            yield image


def unfit(watched: WatchedImages, source: str, exportable: ExportableModel | FloatModel, is_random: bool, gate: bool) -> list[Check]:
    """What is wrong with calibration images; with the gate, the worst of it is an error.

    Only what no data of anyone's can be is refused: images of one colour, normalised ones, and such that a trained model is surer of with
    red and blue exchanged. Dark or pale images may be what an app sees.

    Args:
        watched: the images.
        source: what to call them.
        is_random: whether the model's weights are random, and so say nothing of images.
        gate: whether to refuse.

    Raises:
        InputError: no model expects such images.
    """
    found = [check_content(watched.facts), *check_statistics(watched.facts, exportable.preprocessing), check_channel_order(watched.facts)]
    order = found[-1]
    if order.status != OK and not is_random:
        images = np.stack(watched.first).astype(np.float32)
        if looks_swapped(lambda pixels: np.asarray(exportable.logits(pixels)), images):
            found[-1] = Check(order.name, FAIL, f"{order.detail} The model is surer of them with red and blue exchanged")
    photographed = any(fact.highest > NORMALIZED_HIGHEST for fact in watched.facts)
    refused = [check for check in found if check.status == FAIL and not (check.name in ("brightness", "contrast") and photographed)]
    if refused and gate:
        raise InputError(
            f"the calibration images in {source} are not what the model expects",
            expected="RGB images of 0..255 as the app will see them",
            received="; ".join(f"{check.name}: {check.detail}" for check in refused),
            action="give other images with --calibration, or --no-gate to use these",
        )
    return [check for check in found if check.status != OK]
