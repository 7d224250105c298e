"""KerasHub: preset folders of its `SwinTransformerBackbone` and `SwinTransformerImageClassifier`.

`config.json` and `model.weights.h5` are the backbone, `task.weights.h5` the head, `image_converter.json` what is done to an image.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfvit.checkpoints import layouts
from tfvit.checkpoints.checkpoint import Said, known_interpolation, one_side, three, unsupported
from tfvit.checkpoints.h5 import in_order
from tfvit.preprocessing import Preprocessing

FORMAT = "kerashub"
_CLASS = "SwinTransformerBackbone"
_STAGE, _BLOCK = re.compile(r"^layers/(swin_transformer_stage(?:_\d+)?|stage_\d+)/"), re.compile(r"/blocks/([^/]+)/")
_IN_BLOCK = {
    "attn/qkv/vars/0": ("attn.qkv.weight", layouts.TRANSPOSED),
    "attn/qkv/vars/1": ("attn.qkv.bias", layouts.SAME),
    "attn/proj/vars/0": ("attn.proj.weight", layouts.TRANSPOSED),
    "attn/proj/vars/1": ("attn.proj.bias", layouts.SAME),
    "attn/vars/0": ("attn.relative_position_bias_table", layouts.SAME),
    **layouts.IN_A_KERAS_BLOCK,
}
_ALONE = {
    "layers/patch_embedding/proj/vars/0": ("patch_embed.proj.weight", layouts.CONVOLUTION),
    "layers/patch_embedding/proj/vars/1": ("patch_embed.proj.bias", layouts.SAME),
    "layers/patch_embedding/norm/vars/0": ("patch_embed.norm.weight", layouts.SAME),
    "layers/patch_embedding/norm/vars/1": ("patch_embed.norm.bias", layouts.SAME),
    **{f"layers/{layer}/vars/0": ("norm.weight", layouts.SAME) for layer in ("norm", "layer_normalization")},
    **{f"layers/{layer}/vars/1": ("norm.bias", layouts.SAME) for layer in ("norm", "layer_normalization")},
}


def is_config(config: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is a KerasHub preset's."""
    return str(config.get("registered_name", "")).startswith("keras_hub>") or str(config.get("module", "")).startswith("keras_hub.")


def timm_tensors(arrays: Mapping[str, np.ndarray], head: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    """A preset's arrays under timm's names.

    Args:
        arrays: of `model.weights.h5`.
        head: of `task.weights.h5`.
    """
    named: dict[str, np.ndarray] = {}
    stages = in_order({match[1] for place in arrays if (match := _STAGE.match(place))})
    for place, array in arrays.items():
        stage, block = _STAGE.match(place), _BLOCK.search(place)
        if stage is None:
            name, layout = _ALONE.get(place, (place, layouts.SAME))
        elif block is None:
            kind = {"norm/vars/0": "norm.weight", "norm/vars/1": "norm.bias", "reduction/vars/0": "reduction.weight"}
            part = kind.get(place.rpartition("/downsample/")[2], place)
            layout = layouts.TRANSPOSED if part == "reduction.weight" else layouts.SAME  # in the original's order of neighbours
            name = f"layers.{stages.index(stage[1]) + 1}.downsample.{part}"
        else:
            inside, layout = _IN_BLOCK.get(place[block.end() :], (place, layouts.SAME))
            blocks = in_order({match[1] for other in arrays if other.startswith(stage[0]) and (match := _BLOCK.search(other))})
            name = f"layers.{stages.index(stage[1])}.blocks.{blocks.index(block[1])}.{inside}"
        named[name] = layout.to_official(array)
    for index, part in enumerate(("weight", "bias")):
        places = [place for place in head or {} if re.fullmatch(rf"layers/(dense|predictions)/vars/{index}", place)]
        if head is not None and places:
            named[f"head.fc.{part}"] = head[places[0]].T if part == "weight" else head[places[0]]
    return named


def said(config: Mapping[str, Any], converter: Mapping[str, Any] | None, source: str) -> Said:
    """What `config.json` and `image_converter.json` say.

    Raises:
        WeightsError: of another model.
    """
    if config.get("class_name") != _CLASS:
        raise unsupported(source, f"config.json of KerasHub's {config.get('class_name')}")
    given, notes = config["config"], []
    if not given.get("patch_norm", True):
        raise unsupported(source, "patch_norm false", "patch_norm true")
    architecture = {key: given[key] for key in ("embed_dim", "patch_size", "window_size", "mlp_ratio", "qkv_bias") if key in given}
    architecture |= {key: tuple(given[key]) for key in ("depths", "num_heads") if key in given}
    side = one_side((given.get("image_shape") or [None])[:2], source)
    preprocessing = _preprocessing((converter or {}).get("config") or {}, source, notes)
    architecture |= {"version": 1, "image_size": preprocessing.crop_px if preprocessing else side}
    return Said(architecture, None, preprocessing, tuple(notes))


def _preprocessing(converter: Mapping[str, Any], source: str, notes: list[str]) -> Preprocessing | None:
    """An image converter: resize, times scale, plus offset."""
    side = one_side(converter.get("image_size"), source)
    if side is None or converter.get("scale") is None:
        return None
    scale, offset = three(converter["scale"], 1e6), three(converter.get("offset") or 0.0, 1e6)
    if not converter.get("antialias"):
        notes.append(f"{source}: images were made smaller without antialiasing; apps and validation use it")
    return Preprocessing(
        side,
        side,
        known_interpolation(str(converter.get("interpolation", "bilinear")), source, notes),
        keep_aspect=bool(converter.get("crop_to_aspect_ratio", True)),
        mean=three([-shift / factor for shift, factor in zip(offset, scale, strict=True)], 1.0),
        std=three([1e6 / factor for factor in scale], 1.0),
    )
