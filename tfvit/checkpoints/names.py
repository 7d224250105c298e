"""What a checkpoint's tensors are called and what their names and shapes tell: pure, without Keras.

Official names are timm's (`layers.1.downsample` belongs to the start of stage 1) or the original release's (`layers.0.downsample`, the end
of stage 0; `head.weight`). Index, mask and coordinate buffers are no weights: they are recomputed, and are evidence of window and size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfvit.errors import WeightsError
from tfvit.plain_names import guess_plain_variant, is_plain, timm_plain_names
from tfvit.variants import VARIANTS, WindowedVariant

_BUFFERS = re.compile(r"(relative_position_index|attn_mask|relative_coords_table|k_bias)$")


def timm_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Any scheme's names as timm's, without the buffers."""
    if is_plain(tensors):
        return timm_plain_names(tensors)
    original = any(name.startswith("layers.0.downsample") for name in tensors)
    named = {}
    for name, tensor in tensors.items():
        if _BUFFERS.search(name):
            continue
        if original:
            name = re.sub(r"^layers\.(\d+)\.downsample", lambda match: f"layers.{int(match[1]) + 1}.downsample", name)
        named[re.sub(r"^head\.(weight|bias)$", r"head.fc.\1", name)] = tensor
    return named


def trained_windows(tensors: Mapping[str, np.ndarray]) -> dict[int, int]:
    """Stage -> side of the window that a checkpoint was made for, from its position tables (V1) and its buffers (both, where it has them).

    Args:
        tensors: official names (timm's or the original's) to arrays.
    """
    found: dict[int, int] = {}
    for name, tensor in tensors.items():
        stage = re.match(r"(?:.*\.)?layers\.(\d+)\.blocks\.\d+\.attn\.(\w+)$", name)
        if stage is None:
            continue
        kind, side = stage[2], 0
        if kind == "relative_position_index" and tensor.ndim == 2:
            side = round(tensor.shape[0] ** 0.5)
        elif kind == "relative_coords_table" and tensor.ndim == 4:
            side = (tensor.shape[1] + 1) // 2
        elif kind == "relative_position_bias_table" and tensor.ndim == 2:
            side = (round(tensor.shape[0] ** 0.5) + 1) // 2
        if side:
            found[int(stage[1])] = side
    return found


def architecture(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The arguments of `ViTTransformer` that a checkpoint's names and shapes tell.

    `classes` is among them where there is a head. `window_size` is for version 1, whose tables have its size, and where there are buffers;
    version 2's continuous bias fits any window. Buffers tell `pretrained_window_sizes` and `image_size` too.

    Raises:
        WeightsError: not a checkpoint of this architecture.
    """
    buffers, tensors = tensors, timm_names(tensors)
    blocks = sorted({(int(match[1]), int(match[2])) for name in tensors if (match := re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", name))})
    try:
        embed_dim, _, patch_size, _ = tensors["patch_embed.proj.weight"].shape
        first = {stage: f"layers.{stage}.blocks.0" for stage, _ in blocks}
        version = 2 if f"{first[0]}.attn.logit_scale" in tensors else 1
        heads = "logit_scale" if version == 2 else "relative_position_bias_table"
        hidden, channels = tensors[f"{first[0]}.mlp.fc1.weight"].shape
        found: dict[str, Any] = {
            "version": version,
            "embed_dim": int(embed_dim),
            "patch_size": int(patch_size),
            "depths": tuple(sum(stage == which for stage, _ in blocks) for which in sorted(first)),
            "num_heads": tuple(int(tensors[f"{first[stage]}.attn.{heads}"].shape[0 if version == 2 else 1]) for stage in sorted(first)),
            "mlp_ratio": hidden / channels,
            "qkv_bias": f"{first[0]}.attn.{'q_bias' if version == 2 else 'qkv.bias'}" in tensors,
        }
        if "head.fc.bias" in tensors:
            found["classes"] = int(tensors["head.fc.bias"].shape[0])
    except (KeyError, ValueError, IndexError) as error:
        raise WeightsError(
            "not a checkpoint of this architecture",
            expected="tensors named patch_embed.…, layers.N.blocks.M.… and head.…",
            received=f"{len(tensors)} tensors without {error}",
            action="pass a checkpoint of the original release or of timm",
        ) from error
    if windows := trained_windows(buffers):
        found["window_size"] = max(windows.values())
        found |= _of_buffers(buffers, windows, found["patch_size"])
        # a smaller window is its whole grid
        shrunk = {stage: side for stage, side in windows.items() if side < found["window_size"]}
        sizes = {side * found["patch_size"] << stage for stage, side in shrunk.items()}
        if len(sizes) == 1:
            found["image_size"] = sizes.pop()
    return found


def _of_buffers(tensors: Mapping[str, np.ndarray], windows: Mapping[int, int], patch_size: int) -> dict[str, Any]:
    """What the buffers of a checkpoint tell: the windows of the pretraining from log-spaced coordinates, the image's size from masks."""
    found: dict[str, Any] = {}
    pretrained = dict.fromkeys(windows, 0)
    for name, tensor in tensors.items():
        stage = re.match(r"layers\.(\d+)\.blocks\.\d+\.(?:attn\.)?(relative_coords_table|attn_mask)$", name)
        if stage is None:
            continue
        number, tensor = int(stage[1]), np.asarray(tensor)
        if stage[2] == "relative_coords_table" and tensor.ndim == 4 and tensor.size and tensor.max() > 0:
            # the last coordinate is log2(1 + 8 * (window - 1) / (pretrained - 1)) / log2(8)
            span = 8 * (windows[number] - 1) / (2 ** (3 * float(tensor.max())) - 1)
            pretrained[number] = 0 if round(span) + 1 == windows[number] else round(span) + 1
            found["pretrained_window_sizes"] = tuple(pretrained[one] for one in sorted(pretrained))
        elif stage[2] == "attn_mask" and tensor.ndim == 3 and number == 0:
            # a mask is of whole windows; the grid is halved in every stage
            padded, halved = round((tensor.shape[0] * tensor.shape[1]) ** 0.5), 1 << (max(windows) if windows else 0)
            grid = padded - padded % halved
            if grid > padded - windows.get(0, 0):
                found["image_size"] = grid * patch_size
    return found


def guess_variant(tensors: Mapping[str, np.ndarray]) -> str | None:
    """The variant ids a checkpoint with official names can belong to, joined by "or"; None if it is none of the table's."""
    if is_plain(tensors):
        return guess_plain_variant(tensors)
    tensors = timm_names(tensors)
    projection = tensors.get("patch_embed.proj.weight")
    if projection is None:
        return None
    depths: dict[int, set[int]] = {}
    for name in tensors:
        if match := re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", name):
            depths.setdefault(int(match[1]), set()).add(int(match[2]))
    version = 2 if any(name.endswith("logit_scale") for name in tensors) else 1
    table = tensors.get("layers.0.blocks.0.attn.relative_position_bias_table")
    found = [
        variant.id
        for variant in VARIANTS.values()
        if isinstance(variant, WindowedVariant)
        and variant.version == version
        and variant.embed_dim == projection.shape[0]
        and variant.depths == tuple(len(depths[stage]) for stage in sorted(depths))
        and (table is None or table.shape[0] == (2 * variant.window_size - 1) ** 2)
    ]
    return " or ".join(found) or None
