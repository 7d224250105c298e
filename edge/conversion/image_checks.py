"""Are the calibration images what the model expects?"""

from __future__ import annotations

import numpy as np

from calibration.checks import FAIL, NORMALIZED_HIGHEST, OK, Check, check_channel_order, check_content, check_statistics
from calibration.survey import pixel_facts
from edge.drift.collapse import looks_swapped
from edge.drift.meanings import CLASSES
from edge.export.float_model import FloatModel
from tfvit.errors import InputError

# Images on which a model says whether red and blue are exchanged
_ASKED = 64


def unfit(pixels: np.ndarray, source: str, model: FloatModel, gate: bool) -> list[Check]:
    """What is wrong with calibration images; with the gate, the worst of it is an error.

    Only what no data of anyone's can be is refused: images of one colour, normalised ones, and such that a trained model is surer of with
    red and blue exchanged. Dark or pale images may be what an app sees.

    Args:
        pixels: the images, [N, H, W, 3] uint8.
        source: what to call them.
        model: whose images they are; one with random weights says nothing of images.
        gate: whether to refuse.

    Raises:
        InputError: no model expects such images.
    """
    facts = [pixel_facts(image) for image in pixels]
    found = [check_content(facts), *check_statistics(facts, model.preprocessing), check_channel_order(facts)]
    order = found[-1]
    doubtful = order.status != OK and not model.source.weights.is_random and model.facts.meaning == CLASSES
    if doubtful and looks_swapped(lambda images: model.facts.first(np.asarray(model.logits(images))), pixels[:_ASKED].astype(np.float32)):
        found[-1] = Check(order.name, FAIL, f"{order.detail} The model is surer of them with red and blue exchanged")
    photographed = any(fact.highest > NORMALIZED_HIGHEST for fact in facts)
    refused = [check for check in found if check.status == FAIL and not (check.name in ("brightness", "contrast") and photographed)]
    if refused and gate:
        raise InputError(
            f"the calibration images in {source} are not what the model expects",
            expected="RGB images of 0..255 as the app will see them",
            received="; ".join(f"{check.name}: {check.detail}" for check in refused),
            action="give other images with --calibration, or --no-gate to use these",
        )
    return [check for check in found if check.status != OK]
