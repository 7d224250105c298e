"""timm: folders as `save_for_hf` and `push_to_hf_hub` leave them (`config.json`, `model.safetensors`), and checkpoints of `train.py`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfvit.checkpoints.checkpoint import Said, known_interpolation, one_side, three, unsupported
from tfvit.graph_constants import AFTER_SHIFT
from tfvit.preprocessing import Preprocessing
from tfvit.torch_objects import attributes_of, entries_of

FORMAT = "timm"
# swin_tiny_patch4_window7_224, swinv2_base_window12to16_192to256
_WINDOWS = re.compile(r"window(?P<pretrained>\d+to)?(?P<window>\d+)_(?P<pretrained_size>\d+to)?(?P<size>\d+)")
# Entries of a `train.py` checkpoint
ARCHITECTURE, ARGUMENTS = "arch", "args"


def said(config: Mapping[str, Any], source: str) -> Said:
    """What a `config.json` says.

    Raises:
        WeightsError: of a model that this library does not have.
    """
    cfg = config.get("pretrained_cfg") or {}
    arguments = config.get("model_args") or {}
    architecture = _of_name(str(config.get("architecture")), source)
    if input_size := cfg.get("input_size"):
        architecture["image_size"] = one_side(input_size[1:], source)
    architecture |= _of_arguments(arguments, source)
    notes: list[str] = []
    preprocessing = preprocessing_of(cfg, architecture.get("image_size"), source, notes)
    labels = config.get("label_names") or cfg.get("label_names")
    return Said(architecture, labels_of(labels), preprocessing, tuple(notes))


def said_in_training(others: Mapping[str, Any], source: str) -> Said:
    """What the entries beside the tensors of a `train.py` checkpoint say: the architecture's name, and the script's arguments."""
    arguments = attributes_of(others.get(ARGUMENTS))
    name = others.get(ARCHITECTURE)
    architecture = _of_name(name, source) if isinstance(name, str) else {}
    given = {
        "img_size": arguments.get("img_size") or (arguments.get("input_size") or [None])[-1],
        **entries_of(arguments.get("model_kwargs")),
    }
    architecture |= _of_arguments({key: value for key, value in given.items() if value is not None}, source)
    notes: list[str] = []
    cfg = {key: arguments.get(key) for key in ("mean", "std", "crop_pct", "interpolation")}
    known = all(cfg[key] is not None for key in ("mean", "std", "crop_pct"))
    preprocessing = preprocessing_of(cfg, architecture.get("image_size"), source, notes) if known else None
    return Said(architecture, None, preprocessing, tuple(notes))


def _of_name(name: str, source: str) -> dict[str, Any]:
    """What an architecture's name tells: `swinv2_base_window12to16_192to256`."""
    if not name.startswith(("swin_", "swinv2_")) or name.startswith("swinv2_cr_"):
        raise unsupported(source, f"timm's architecture {name!r}")
    found: dict[str, Any] = {"version": 2 if name.startswith("swinv2_") else 1, "padding": AFTER_SHIFT}
    match = _WINDOWS.search(name)
    if match is None:
        return found
    found |= {"window_size": int(match["window"]), "image_size": int(match["size"])}
    if match["pretrained"] and match["pretrained_size"]:
        # each stage's window in the pretraining, which shrank to the grid
        window, tokens = int(match["pretrained"][:-2]), int(match["pretrained_size"][:-2]) // 4
        found["pretrained_window_sizes"] = tuple(min(window, tokens >> stage) for stage in range(4))
    return found


def _of_arguments(arguments: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What was passed to `timm.create_model`."""
    found: dict[str, Any] = {}
    if "img_size" in arguments:
        found["image_size"] = one_side(arguments["img_size"], source)
    if "window_size" in arguments:
        found["window_size"] = one_side(arguments["window_size"], source, "window")
    for key in ("depths", "num_heads", "pretrained_window_sizes"):
        if isinstance(arguments.get(key), Sequence):
            found[key] = tuple(arguments[key])
    if "embed_dim" in arguments:
        found["embed_dim"] = arguments["embed_dim"]
    return found


def preprocessing_of(cfg: Mapping[str, Any], side: int | None, source: str, notes: list[str]) -> Preprocessing | None:
    """timm's evaluation: resize to size / crop_pct, cut out the centre, normalize."""
    if side is None or cfg.get("mean") is None or cfg.get("std") is None:
        return None
    mode = cfg.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        notes.append(f"{source}: images were cropped with crop_mode {mode!r}, which the files' apps do not know; 'center' instead")
    return Preprocessing(
        math.floor(side / (cfg.get("crop_pct") or 0.875)),
        side,
        known_interpolation(cfg.get("interpolation") or "bicubic", source, notes),
        keep_aspect=mode != "squash",
        mean=three(cfg["mean"]),
        std=three(cfg["std"]),
    )


def labels_of(names: Any) -> tuple[str, ...] | None:
    """`label_names`: a list, or numbers to names."""
    if isinstance(names, Mapping):
        names = [names.get(str(index), names.get(index)) for index in range(len(names))]
    if not isinstance(names, list | tuple) or not names or None in names:
        return None
    labels = tuple(" ".join(str(name).split()) for name in names)
    return labels if all(labels) else None
