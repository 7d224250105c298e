"""Hugging Face transformers: `SwinForImageClassification`, `Swinv2ForImageClassification` and their base models.

A folder as `save_pretrained` and the Trainer leave it: `config.json`, `model.safetensors` (or shards, or `pytorch_model.bin`) and
`preprocessor_config.json`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfvit.checkpoints.checkpoint import Said, known_interpolation, one_side, three, unsupported
from tfvit.graph_constants import BEFORE_SHIFT
from tfvit.preprocessing import Preprocessing

FORMAT = "transformers"
# model_type of the configuration -> version
MODEL_TYPES = {"swin": 1, "swinv2": 2}
# Pillow's numbers, as `resample` has them
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
# Processors for which a single number is the short side, and not both
_SHORT_EDGE = ("ConvNext", "CLIP", "Bit", "Levit", "PoolFormer")
_ANCHOR = "embeddings.patch_embeddings.projection.weight"
_MASK_TOKEN = "embeddings.mask_token"  # of the pretraining
_ORDER = ("query", "key", "value")
# A name of transformers -> timm's
_NAMES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^embeddings\.norm\.", "patch_embed.norm."),
        (r"^encoder\.layers\.", "layers."),
        (r"^layernorm\.", "norm."),
        (r"^classifier\.", "head.fc."),
        (r"\.attention\.output\.dense\.", ".attn.proj."),
        # as its version 5 calls them in memory
        (r"\.attention\.q_proj\.", ".attn.query."),
        (r"\.attention\.k_proj\.", ".attn.key."),
        (r"\.attention\.v_proj\.", ".attn.value."),
        (r"\.attention\.o_proj\.", ".attn.proj."),
        (r"\.attention\.relative_position_bias\.", ".attn."),
        # and on disk
        (r"\.attention\.self\.continuous_position_bias_mlp\.", ".attn.cpb_mlp."),
        (r"\.attention\.self\.", ".attn."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
    )
)


def is_named(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether tensors have transformers' names."""
    return any(name.endswith(_ANCHOR) for name in tensors)


def timm_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Its tensors under timm's names: query, key and value are one tensor there."""
    named: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        name = re.sub(r"^swin(v2)?\.", "", name)
        if name == _MASK_TOKEN:
            continue
        for pattern, replacement in _NAMES:
            name = pattern.sub(replacement, name)
        # the end of a stage there, the start of the next one in timm
        named[re.sub(r"^layers\.(\d+)\.downsample", lambda match: f"layers.{int(match[1]) + 1}.downsample", name)] = tensor
    for name in [name for name in named if name.endswith(".attn.query.weight")]:
        prefix = name.removesuffix("query.weight")
        cosine = f"{prefix}logit_scale" in named
        for kind in ("weight", "bias"):
            parts = {part: named[f"{prefix}{part}.{kind}"] for part in _ORDER if f"{prefix}{part}.{kind}" in named}
            if cosine and kind == "bias" and {"query", "value"} <= set(parts):
                named |= {f"{prefix}q_bias": parts["query"], f"{prefix}v_bias": parts["value"]}
            elif len(parts) == 3:
                named[f"{prefix}qkv.{kind}"] = np.concatenate(list(parts.values()), axis=0)
            else:
                continue
            for part in parts:
                del named[f"{prefix}{part}.{kind}"]
    return named


def said(config: Mapping[str, Any], processor: Mapping[str, Any] | None, source: str) -> Said:
    """What `config.json` and `preprocessor_config.json` say.

    Raises:
        WeightsError: of another model, or of one with parts that this library does not have.
    """
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        raise unsupported(source, f"config.json of a {model_type!r} model ({', '.join(map(str, config.get('architectures') or ['?']))})")
    for key, usual in (("hidden_act", "gelu"), ("use_absolute_embeddings", False), ("num_channels", 3)):
        if config.get(key, usual) != usual:
            raise unsupported(source, f"{key} {config[key]!r}", f"{key} {usual!r}")
    if abs(float(config.get("layer_norm_eps", 1e-5)) - 1e-5) > 1e-6:
        raise unsupported(source, f"layer_norm_eps {config['layer_norm_eps']}", "layer_norm_eps 1e-5")
    version, image_size = MODEL_TYPES[model_type], one_side(config.get("image_size", 224), source)
    architecture: dict[str, Any] = {
        "version": version,
        "window_size": one_side(config.get("window_size", 7), source, "window"),
        "image_size": image_size,
        "padding": BEFORE_SHIFT,
    }
    checked = ("embed_dim", "mlp_ratio", "qkv_bias")
    architecture |= {key: config[key] for key in checked if key in config}
    architecture |= {key: tuple(config[key]) for key in ("depths", "num_heads") if key in config}
    if "patch_size" in config:
        architecture["patch_size"] = one_side(config["patch_size"], source, "patch")
    if version == 2 and config.get("pretrained_window_sizes"):
        architecture["pretrained_window_sizes"] = tuple(config["pretrained_window_sizes"])
    notes: list[str] = []
    preprocessing = preprocessing_of(processor, source, notes) if processor is not None else None
    if preprocessing and preprocessing.crop_px != image_size:
        notes.append(f"{source}: its processor gives {preprocessing.crop_px} px, config.json says {image_size}; the processor's are taken")
        architecture["image_size"] = preprocessing.crop_px
    return Said(architecture, labels_of(config), preprocessing, tuple(notes))


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """`id2label` in the order of the numbers; None for the names that stand in for names."""
    named = config.get("id2label")
    if not isinstance(named, Mapping) or sorted(named, key=int) != [str(index) for index in range(len(named))]:
        return None
    labels = tuple(" ".join(str(named[str(index)]).split()) for index in range(len(named)))
    stand_ins = all(re.fullmatch(r"LABEL_\d+", label) for label in labels)
    return None if stand_ins or not all(labels) else labels


def preprocessing_of(processor: Mapping[str, Any], source: str, notes: list[str]) -> Preprocessing | None:
    """An image processor's steps: resize, crop, rescale, normalize."""
    if processor.get("do_flip_channel_order"):
        raise unsupported(source, "a processor that turns RGB into BGR", "a model of RGB images")
    size, crop = processor.get("size"), processor.get("crop_size")
    crop = crop if processor.get("do_center_crop") else None
    normalizes = processor.get("do_normalize") is not False
    if processor.get("do_resize") is False or size is None or (normalizes and processor.get("image_mean") is None):
        return None
    kind = str(processor.get("image_processor_type") or processor.get("feature_extractor_type"))
    short = size.get("shortest_edge") if isinstance(size, Mapping) else size if kind.startswith(_SHORT_EDGE) else None
    if short is not None:
        fraction = processor.get("crop_pct")  # of the processors that resize to size / crop_pct, below 384 px
        if fraction and short < 384:
            resize_px, side = int(short / fraction), short
        elif fraction:
            resize_px, side, short = short, short, None
        else:
            resize_px, side = short, one_side(crop, source) or short
    else:
        resize_px = one_side(size, source) or 224
        side = one_side(crop, source) or resize_px
    rescale = float(processor.get("rescale_factor") or 1 / 255) if processor.get("do_rescale") is not False else 1.0
    mean, std = (processor.get(name) if normalizes else usual for name, usual in (("image_mean", 0.0), ("image_std", 1.0)))
    resample = _RESAMPLE.get(processor.get("resample", 2), str(processor.get("resample")))
    return Preprocessing(
        resize_px,
        side,
        known_interpolation(resample, source, notes),
        keep_aspect=short is not None,
        mean=three(mean, 1 / rescale),
        std=three(std, 1 / rescale),
    )
