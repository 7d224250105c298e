"""The original release's training checkpoints: beside the tensors lies the whole configuration, which tells window, size and images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfvit.checkpoints.checkpoint import Said, known_interpolation
from tfvit.preprocessing import Preprocessing
from tfvit.torch_objects import entries_of

FORMAT = "original"
# The entry of a training checkpoint that holds the configuration
CONFIGURATION = "config"


def said_in_training(others: Mapping[str, Any], source: str) -> Said:
    """What the configuration beside the tensors says: nodes with keys, read as the dictionaries they are."""
    configuration = entries_of(others.get(CONFIGURATION))
    data, model, test = (entries_of(configuration.get(name)) for name in ("DATA", "MODEL", "TEST"))
    kind = str(model.get("TYPE"))
    part = entries_of(model.get("SWINV2" if kind == "swinv2" else "SWIN"))
    side = data.get("IMG_SIZE")
    if not part or type(side) is not int:
        return Said()
    architecture: dict[str, Any] = {"version": 2 if kind == "swinv2" else 1, "image_size": side}
    if type(part.get("WINDOW_SIZE")) is int:
        architecture["window_size"] = part["WINDOW_SIZE"]
    if isinstance(part.get("PRETRAINED_WINDOW_SIZES"), list | tuple):
        architecture["pretrained_window_sizes"] = tuple(part["PRETRAINED_WINDOW_SIZES"])
    notes: list[str] = []
    interpolation = known_interpolation(str(data.get("INTERPOLATION", "bicubic")), source, notes)
    crops = test.get("CROP", True)
    # its evaluation: short side to 256 / 224 of the size and a crop, or both sides to the size
    preprocessing = Preprocessing(int(256 / 224 * side) if crops else side, side, interpolation, keep_aspect=bool(crops))
    return Said(architecture, None, preprocessing, tuple(notes))
