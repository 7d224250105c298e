"""Plain Vision Transformers' checkpoints under timm's names: the official `.npz` releases, Hugging Face, facebook. Pure: no files.

| | official (flax) | Hugging Face | timm |
|---|---|---|---|
| class token | `cls` | `….embeddings.cls_token` | `cls_token` |
| block N | `Transformer/encoderblock_N/…` | `….encoder.layer.N.…` | `blocks.N.…` |
| last norm | `Transformer/encoder_norm/…` | `….layernorm.…` | `norm.…` |
| classifier | `head/…` | `classifier.…` | `head.…` |
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfvit.errors import WeightsError
from tfvit.positions import resized
from tfvit.variants import VARIANTS, PlainVariant

_OFFICIAL_BLOCK = {
    "LayerNorm_0": "norm1",
    "LayerNorm_2": "norm2",  # the first releases number the attention and the MLP too
    "LayerNorm_1": "norm2",
    "MultiHeadDotProductAttention_0/out": "attn.proj",
    "MultiHeadDotProductAttention_1/out": "attn.proj",
    "MlpBlock_0/Dense_0": "mlp.fc1",
    "MlpBlock_0/Dense_1": "mlp.fc2",
    "MlpBlock_3/Dense_0": "mlp.fc1",
    "MlpBlock_3/Dense_1": "mlp.fc2",
}
_OFFICIAL = {
    "cls": "cls_token",
    "Transformer/posembed_input/pos_embedding": "pos_embed",
    "embedding": "patch_embed.proj",
    "Transformer/encoder_norm": "norm",
    "pre_logits": "pre_logits.fc",
    "head": "head",
}
_HUGGING_FACE_PREFIX = re.compile(r"^(vit|deit|dinov2|dinov2_with_registers)\.")
_HUGGING_FACE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.register_tokens": "register_tokens",
    "embeddings.distillation_token": "dist_token",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layernorm": "norm",
    "classifier": "head",
    "cls_classifier": "head",
    "distillation_classifier": "head_dist",
}
_HUGGING_FACE_BLOCK = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "norm1": "norm1",
    "norm2": "norm2",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
}
# never computed with: DINOv2's masked patches, ViTModel's pooler
_LEFT_OUT = re.compile(r"(^|\.)(mask_token|pooler\.dense\.(weight|bias))$")


def is_plain(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether the names are those of a plain model's checkpoint, of any of these kinds."""
    return any(re.search(r"^blocks\.0\.norm1\.|^Transformer/encoderblock_0/|^(\w+\.)?encoder\.layer\.0\.", name) for name in tensors)


def timm_plain_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Any of the schemes' tensors as timm's; names that belong to none stay as they are."""
    if any(name.startswith("Transformer/") for name in tensors):
        named = _from_official(tensors)
    elif any("encoder.layer.0." in name for name in tensors):
        named = _from_hugging_face(tensors)
    else:
        named = {re.sub(r"\.gamma_([12])$", r".ls\1.gamma", name): tensor for name, tensor in tensors.items()}  # facebook's DeiT III
    named = {name: tensor for name, tensor in named.items() if not _LEFT_OUT.search(name)}
    return _with_registers(_with_register_for_distillation(named))


def _from_official(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Kernels are [inputs, outputs], those of the attention with an axis for the heads."""
    named: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition("/")
        block = re.match(r"Transformer/encoderblock_(\d+)/(.+)", module)
        if name in _OFFICIAL:
            named[_OFFICIAL[name]] = tensor
        elif block and block[2] in _OFFICIAL_BLOCK:
            prefix = f"blocks.{block[1]}.{_OFFICIAL_BLOCK[block[2]]}"
            if kind == "kernel":
                tensor = tensor.reshape(-1, tensor.shape[-1]).T
            named[f"{prefix}.{'bias' if kind == 'bias' else 'weight'}"] = tensor
        elif block and block[2].endswith("/query"):
            names = [f"{module.removesuffix('query')}{part}/{kind}" for part in ("query", "key", "value")]
            if set(names) <= set(tensors):
                parts = [tensors[one] for one in names]
                flat = [part.reshape(part.shape[0], -1).T if kind == "kernel" else part.reshape(-1) for part in parts]
                named[f"blocks.{block[1]}.attn.qkv.{'weight' if kind == 'kernel' else 'bias'}"] = np.concatenate(flat)
        elif block and block[2].endswith(("/key", "/value")):
            continue  # with the query
        elif module in _OFFICIAL:
            if kind == "kernel":
                tensor = tensor.transpose(3, 2, 0, 1) if tensor.ndim == 4 else tensor.T
            named[f"{_OFFICIAL[module]}.{'bias' if kind == 'bias' else 'weight'}"] = tensor
        else:
            named[name] = tensor
    return named


def _from_hugging_face(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    plain = {_HUGGING_FACE_PREFIX.sub("", name): tensor for name, tensor in tensors.items()}
    named: dict[str, np.ndarray] = {}
    for name, tensor in plain.items():
        module, _, kind = name.rpartition(".")
        block = re.match(r"encoder\.layer\.(\d+)\.(.+)", name)
        if name in _HUGGING_FACE:
            named[_HUGGING_FACE[name]] = tensor
        elif module in _HUGGING_FACE:
            named[f"{_HUGGING_FACE[module]}.{kind}"] = tensor
        elif block and block[2] in _HUGGING_FACE_BLOCK:
            named[f"blocks.{block[1]}.{_HUGGING_FACE_BLOCK[block[2]]}"] = tensor
        elif block and block[2].removesuffix(f".{kind}") in _HUGGING_FACE_BLOCK:
            named[f"blocks.{block[1]}.{_HUGGING_FACE_BLOCK[block[2].removesuffix(f'.{kind}')]}.{kind}"] = tensor
        elif block and block[2].startswith("attention.attention."):
            if block[2] == f"attention.attention.query.{kind}":
                names = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
                if set(names) <= set(plain):
                    named[f"blocks.{block[1]}.attn.qkv.{kind}"] = np.concatenate([plain[one] for one in names])
        else:
            named[name] = tensor
    return named


def _with_register_for_distillation(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """DeiT's token for the teacher's answer is a register, its position inside; its head beside the class token's, the mean of both."""
    if {"dist_token", "pos_embed"} <= set(tensors):
        positions = tensors.pop("pos_embed")
        tensors["reg_token"] = tensors.pop("dist_token") + positions[:, 1:2]
        tensors["pos_embed"] = np.concatenate([positions[:, :1], positions[:, 2:]], axis=1)
    if {f"{head}.{kind}" for head in ("head", "head_dist") for kind in ("weight", "bias")} <= set(tensors):
        tensors["head.weight"] = np.concatenate([tensors["head.weight"], tensors.pop("head_dist.weight")], axis=1) / 2
        tensors["head.bias"] = (tensors["head.bias"] + tensors.pop("head_dist.bias")) / 2
    return tensors


def _with_registers(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """DINOv2's registers. The class token's position goes into the class token, as timm has it: then no such token has one."""
    if {"register_tokens", "cls_token", "pos_embed"} <= set(tensors):
        positions = tensors["pos_embed"]
        tensors["reg_token"] = tensors.pop("register_tokens")
        tensors |= {"cls_token": tensors["cls_token"] + positions[:, :1], "pos_embed": positions[:, 1:]}
    return tensors


def fitted(tensors: Mapping[str, np.ndarray], tokens: Any, layer_scale: bool) -> dict[str, np.ndarray]:
    """A checkpoint's tensors for a model of another input size, or without the LayerScale that they were trained with.

    Args:
        tensors: timm's names.
        tokens: the model's `tfvit.plain_layers.Tokens`.
        layer_scale: whether its blocks have one; where they have none, the checkpoint's goes into the layers in front of it.
    """
    tensors = dict(tensors)
    if "pos_embed" in tensors and tensors["pos_embed"].ndim == 3:
        tensors["pos_embed"] = _fitted_positions(tensors["pos_embed"], tokens)
    for name in [name for name in tensors if re.search(r"\.ls[12]\.gamma$", name)] if not layer_scale else ():
        gamma, writer = tensors.pop(name), name.replace("ls1.gamma", "attn.proj").replace("ls2.gamma", "mlp.fc2")
        for kind in ("weight", "bias"):
            if f"{writer}.{kind}" in tensors:
                tensor = tensors[f"{writer}.{kind}"]
                tensors[f"{writer}.{kind}"] = gamma.reshape(-1, *[1] * (tensor.ndim - 1)) * tensor
    return tensors


def _fitted_positions(positions: np.ndarray, tokens: Any) -> np.ndarray:
    """[1, rows, C] for the model's grid; unchanged where they cannot be made to fit. DeiT III's class token has no position: zero."""
    rows, patches = positions.shape[1], tokens.grid[0] * tokens.grid[1]
    if rows == patches + int(tokens.class_position):
        return positions
    first, side = (positions[:, :1], _side(rows - 1)) if tokens.class_position and _side(rows - 1) else (None, _side(rows))
    if side is None:
        return positions
    others = resized(positions[0, rows - side**2 :], (side, side), tokens.grid, tokens.resize_offset)[None]
    if (side, side) != tokens.grid and not tokens.num_registers and tokens.resize_offset is None:
        theirs, ours = f"{side} x {side}", "{} x {}".format(*tokens.grid)
        warnings.warn(f"position embeddings of {theirs} patches are resized to {ours}: the answers are not the original's", stacklevel=4)
    if not tokens.class_position:
        return others
    return np.concatenate([np.zeros_like(others[:, :1]) if first is None else first, others], axis=1)


def plain_architecture(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The arguments of `tfvit.plain.VisionTransformer` that a checkpoint's names and shapes tell.

    The number of heads is among them for the official releases only; elsewhere it is one for 64 channels, as in all published models.

    Args:
        tensors: of any scheme.

    Raises:
        WeightsError: not a checkpoint of this architecture.
    """
    named = timm_plain_names(tensors)
    try:
        embed_dim, _, patch_size, _ = (int(side) for side in named["patch_embed.proj.weight"].shape)
        heads = [tensor.shape[1] for name, tensor in tensors.items() if name.endswith("/query/kernel")]
        found: dict[str, Any] = {
            "embed_dim": embed_dim,
            "depth": len({match[1] for name in named if (match := re.match(r"blocks\.(\d+)\.", name))}),
            "num_heads": int(heads[0]) if heads else max(embed_dim // 64, 1),
            "patch_size": patch_size,
            "mlp_ratio": named["blocks.0.mlp.fc1.weight"].shape[0] / embed_dim,
            "class_token": "cls_token" in named,
            "registers": int(named["reg_token"].shape[1]) if "reg_token" in named else 0,
            "class_position": _side(int(named["pos_embed"].shape[1])) is None,
            "layer_scale": 1.0 if "blocks.0.ls1.gamma" in named else None,
        }
        if any(name.startswith("Transformer/") for name in tensors):
            found["gelu"] = "tanh"  # flax's own
        if "pre_logits.fc.weight" in named:
            found["representation_size"] = int(named["pre_logits.fc.weight"].shape[0])
        if "head.weight" in named:
            found["classes"], read = (int(side) for side in named["head.weight"].shape)
            wide = read == 2 * embed_dim
            found["pooling"] = "token_avg" if wide and found["registers"] != 1 else "token_register" if wide else "token"
        if not found["class_token"]:
            found["pooling"] = "avg"
        return found
    except (KeyError, ValueError, IndexError) as error:
        raise WeightsError(
            "not a checkpoint of this architecture",
            expected="tensors named patch_embed.…, blocks.N.… and pos_embed",
            received=f"{len(tensors)} tensors without {error}",
            action="pass a checkpoint of the official releases, timm, Hugging Face or facebook",
        ) from error


def guess_plain_variant(tensors: Mapping[str, np.ndarray]) -> str | None:
    """The variant ids that a checkpoint with timm's names can belong to, joined by "or"; None if it is none of the table's."""
    try:
        found = plain_architecture(tensors)
    except WeightsError:
        return None
    return " or ".join(variant.id for variant in VARIANTS.values() if isinstance(variant, PlainVariant) and _may_be(variant, found)) or None


def _may_be(variant: PlainVariant, found: Mapping[str, Any]) -> bool:
    if any(getattr(variant, name) != found[name] for name in ("embed_dim", "depth", "patch_size", "registers")):
        return False
    return (variant.layer_scale is None) == (found["layer_scale"] is None)


def _side(rows: int) -> int | None:
    """Side of a square grid of this many patches."""
    side = round(rows**0.5) if rows > 0 else 0
    return side if side and side**2 == rows else None
