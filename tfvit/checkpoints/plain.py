"""Plain Vision Transformers, DeiT and DINOv2: what their configurations say, and the checkpoint that it makes with the tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfvit.checkpoints import huggingface, original, timm
from tfvit.checkpoints.checkpoint import HEADS, Checkpoint, Said, contradiction, one_side, unsupported
from tfvit.errors import WeightsError
from tfvit.plain_names import guess_plain_variant, plain_architecture, timm_plain_names
from tfvit.preprocessing import Preprocessing, sides
from tfvit.variants import PlainVariant, Variant

# model_type of a configuration of transformers
MODEL_TYPES = ("vit", "deit", "dinov2", "dinov2_with_registers")
# timm's architectures
ARCHITECTURES = ("vit_", "deit_", "deit3_")
_GELU = {"gelu": "exact", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "quick_gelu": "quick"}
# What the tensors tell too: a configuration that says otherwise is of another checkpoint
_CHECKED = ("embed_dim", "depth", "patch_size", "mlp_ratio")


def said(config: Mapping[str, Any], processor: Mapping[str, Any] | None, source: str) -> Said:
    """What `config.json` and `preprocessor_config.json` of transformers say.

    Raises:
        WeightsError: of a model with parts that this library does not have.
    """
    usual = {"num_channels": 3, "qkv_bias": True, "use_swiglu_ffn": False, "apply_layernorm": True}
    for key, value in usual.items():
        if config.get(key, value) != value:
            raise unsupported(source, f"{key} {config[key]!r}", f"{key} {value!r}")
    if config.get("hidden_act", "gelu") not in _GELU:
        raise unsupported(source, f"hidden_act {config['hidden_act']!r}", f"hidden_act of {', '.join(_GELU)}")
    width, ratio = config.get("hidden_size"), config.get("mlp_ratio")
    if ratio is None and width and config.get("intermediate_size"):
        ratio = config["intermediate_size"] / width
    architecture = {
        "embed_dim": width,
        "depth": config.get("num_hidden_layers"),
        "num_heads": config.get("num_attention_heads"),
        "mlp_ratio": ratio,
        "patch_size": one_side(config.get("patch_size"), source, "patch"),
        "gelu": _GELU[config.get("hidden_act", "gelu")],
        "epsilon": float(config.get("layer_norm_eps", 1e-12)),
        "image_size": one_side(config.get("image_size"), source),
    }
    notes: list[str] = []
    preprocessing = huggingface.preprocessing_of(processor, source, notes) if processor is not None else None
    if preprocessing and preprocessing.crop_px != architecture["image_size"]:
        notes.append(f"{source}: its processor gives {preprocessing.crop_px} px, and its positions are resized to them")
        architecture["image_size"] = max(sides(preprocessing.crop_px))  # a processor's size is a square's
    return Said(architecture, huggingface.labels_of(config), preprocessing, tuple(notes))


def said_by_timm(config: Mapping[str, Any], source: str) -> Said:
    """What a `config.json` of timm says."""
    cfg = config.get("pretrained_cfg") or {}
    side = one_side((cfg.get("input_size") or (None, None, None))[1:], source)
    notes: list[str] = []
    labels = timm.labels_of(config.get("label_names") or cfg.get("label_names"))
    gelu = "quick" if "quickgelu" in str(config.get("architecture")) else "exact"
    return Said({"image_size": side, "gelu": gelu}, labels, timm.preprocessing_of(cfg, side, source, notes), tuple(notes))


def joined(format: str, tensors: Mapping[str, np.ndarray], said: Said, variant: Variant | None, source: str) -> Checkpoint:
    """What the tensors tell and what was said, held against each other; what neither says is filled in.

    Raises:
        WeightsError: tensors that contradict what was said, or are not of `variant`.
    """
    shapes = plain_architecture(tensors)
    for key in _CHECKED:
        value = said.architecture.get(key)
        if value is not None and abs(shapes[key] - value) > 0.01:
            raise contradiction(source, f"{key} {value}, as its configuration says", f"tensors of {key} {shapes[key]}")
    like = guess_plain_variant(tensors)
    if variant is not None and variant.id not in (like or "").split(" or "):
        raise WeightsError(
            f"the checkpoint is not {variant.id}",
            expected=f"tensors of {variant.id}",
            received=f"{source}: embed_dim {shapes['embed_dim']}, depth {shapes['depth']}, patch_size {shapes['patch_size']}",
            action=f"it looks like {like}: use that variant" if like else "leave the variant out: it is built as it is",
        )
    named, notes = timm_plain_names(tensors), list(said.notes)
    patches = named["pos_embed"].shape[1] - (1 if shapes["class_position"] else 0)
    trained = round(patches**0.5) * shapes["patch_size"]
    side = said.architecture.get("image_size") or trained
    if side % shapes["patch_size"]:
        raise unsupported(source, f"{side} px in patches of {shapes['patch_size']}", "a size in whole patches")
    if said.labels is not None and shapes.get("classes") not in (None, len(said.labels)):
        raise contradiction(source, f"{len(said.labels)} classes, as its labels say", f"a head of {shapes['classes']} classes")
    told = {key: said.architecture[key] for key in ("num_heads", "gelu", "epsilon") if said.architecture.get(key) is not None}
    unsaid = "num_heads" not in told and format != original.FORMAT
    if unsaid:
        notes.append(f"{source}: nothing says how many heads it has; {shapes['num_heads']} are assumed, of {_depth(shapes)} channels each")
    architecture = {**shapes, **told, "input_shape": (side, side, 3)}
    if isinstance(variant, PlainVariant):
        architecture["resize_offset"] = variant.resize_offset
    preprocessing = said.preprocessing or (variant.preprocessing if variant and variant.image_size == side else None)
    if preprocessing is None and format == original.FORMAT:  # vit_jax scales its images to -1..1
        half = (127.5, 127.5, 127.5)
        preprocessing = dataclasses.replace(Preprocessing.for_image_size(side, 0.9), mean=half, std=half)
        notes.append(f"{source}: the official releases take values of -1..1; resize and crop are those that timm evaluates them with")
    return Checkpoint(
        format, named, architecture, said.labels if "classes" in shapes else None, preprocessing, tuple(notes), (HEADS,) if unsaid else ()
    )


def _depth(shapes: Mapping[str, Any]) -> int:
    return shapes["embed_dim"] // shapes["num_heads"]
