"""Official checkpoint names and layouts to ours, and back to one error for everything that does not fit. Pure: no files, no network.

Official names are timm's (`layers.1.downsample` belongs to the start of stage 1) or the original release's (`layers.0.downsample`, the end
of stage 0; `head.weight`); both are read. Index, mask and coordinate buffers are ignored: they are recomputed.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfvit.attention import CosineWindowAttention, _WindowAttention
from tfvit.blocks import Block, LayerNorm, PatchEmbedding, PatchMerging
from tfvit.checkpoints import layouts
from tfvit.checkpoints.layouts import Layout
from tfvit.checkpoints.names import guess_variant, timm_names, trained_windows
from tfvit.errors import WeightsError
from tfvit.plain_layers import PlainBlock, Tokens
from tfvit.plain_names import fitted

_LOG = logging.getLogger("tfvit")

# a classifier's weights: windowed models', plain ones'
HEADS = (("head.fc.weight", "head.fc.bias"), ("head.weight", "head.bias"))


def tfvit_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The tfvit layers of a model, nested models included, in the order they were built."""
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, PatchEmbedding | Block | PatchMerging | _WindowAttention | LayerNorm | Tokens | PlainBlock):
            yield layer


def official_targets(model: keras.Model) -> dict[str, list[tuple[keras.Variable, Layout]]]:
    """For every official (timm) tensor name: the variables it fills, in order, each with its layout."""
    targets: dict[str, list[tuple[keras.Variable, Layout]]] = {}

    def one(name: str, variable: keras.Variable, layout: Layout = layouts.SAME) -> None:
        targets.setdefault(name, []).append((variable, layout))

    def norm(prefix: str, layer: LayerNorm, layout: Layout = layouts.SAME) -> None:
        one(f"{prefix}.weight", layer.gamma, layout)
        one(f"{prefix}.bias", layer.beta, layout)

    def dense(prefix: str, layer: keras.layers.Dense | keras.layers.EinsumDense) -> None:
        one(f"{prefix}.weight", layer.kernel, layouts.TRANSPOSED)
        if layer.bias is not None:
            one(f"{prefix}.bias", layer.bias)

    stage, block, head = 0, 0, "head.fc"
    for layer in model.layers:
        if isinstance(layer, PatchEmbedding):
            one("patch_embed.proj.weight", layer.projection.kernel, layouts.CONVOLUTION)
            one("patch_embed.proj.bias", layer.projection.bias)
            norm("patch_embed.norm", layer.norm)
        elif isinstance(layer, PatchMerging):
            stage, block = stage + 1, 0
            norm(f"layers.{stage}.downsample.norm", layer.norm, layouts.SAME if layer.post_norm else layouts.MERGED_VECTOR)
            one(f"layers.{stage}.downsample.reduction.weight", layer.reduction.kernel, layouts.MERGED_KERNEL)
        elif isinstance(layer, Block):
            prefix = f"layers.{stage}.blocks.{block}"
            block += 1
            norm(f"{prefix}.norm1", layer.norm1)
            norm(f"{prefix}.norm2", layer.norm2)
            dense(f"{prefix}.mlp.fc1", layer.mlp.fc1)
            dense(f"{prefix}.mlp.fc2", layer.mlp.fc2)
            attention = layer.attention
            dense(f"{prefix}.attn.proj", attention.projection)
            for part, projection in enumerate((attention.query, attention.key, attention.value)):
                one(f"{prefix}.attn.qkv.weight", projection.kernel, layouts.third(part, transpose=True))
            if isinstance(attention, CosineWindowAttention):
                one(f"{prefix}.attn.logit_scale", attention.logit_scale, layouts.LOGIT_SCALE)
                if attention.qkv_bias:
                    one(f"{prefix}.attn.q_bias", attention.query.bias)
                    one(f"{prefix}.attn.v_bias", attention.value.bias)
                dense(f"{prefix}.attn.cpb_mlp.0", attention.cpb_fc1)
                dense(f"{prefix}.attn.cpb_mlp.2", attention.cpb_fc2)
            else:
                layout = layouts.position_table(attention.window_size, _grid_side(model, stage))
                one(f"{prefix}.attn.relative_position_bias_table", attention.relative_position_bias_table, layout)
                if attention.qkv_bias:
                    for part, projection in enumerate((attention.query, attention.key, attention.value)):
                        one(f"{prefix}.attn.qkv.bias", projection.bias, layouts.third(part, transpose=False))
        elif isinstance(layer, Tokens):
            head = "head"
            one("patch_embed.proj.weight", layer.projection.kernel, layouts.CONVOLUTION)
            one("patch_embed.proj.bias", layer.projection.bias)
            one("pos_embed", layer.positions, layouts.ROWS)
            if layer.has_class_token:
                one("cls_token", layer.class_token, layouts.ROW)
            if layer.num_registers:
                one("reg_token", layer.registers, layouts.ROWS)
        elif isinstance(layer, PlainBlock):
            prefix = f"blocks.{block}"
            block += 1
            norm(f"{prefix}.norm1", layer.norm1)
            norm(f"{prefix}.norm2", layer.norm2)
            dense(f"{prefix}.mlp.fc1", layer.mlp.fc1)
            dense(f"{prefix}.mlp.fc2", layer.mlp.fc2)
            dense(f"{prefix}.attn.proj", layer.attention.projection)
            for part, projection in enumerate((layer.attention.query, layer.attention.key, layer.attention.value)):
                one(f"{prefix}.attn.qkv.weight", projection.kernel, layouts.third(part, transpose=True))
                one(f"{prefix}.attn.qkv.bias", projection.bias, layouts.third(part, transpose=False))
            for name, scale in (("ls1", layer.scale1), ("ls2", layer.scale2)):
                if scale is not None:
                    one(f"{prefix}.{name}.gamma", scale.gamma)
        elif isinstance(layer, LayerNorm):
            norm("norm", layer)
        elif isinstance(layer, keras.layers.Dense) and layer.name in ("head", "pre_logits"):
            dense(head if layer.name == "head" else "pre_logits.fc", layer)
    return targets


def _grid_side(model: keras.Model, stage: int) -> int | None:
    """Tokens along the shorter side of a stage's grid; None where the input's size is not fixed."""
    height, width = model.inputs[0].shape[1:3]
    patch = next((layer.patch_size for layer in tfvit_layers(model) if isinstance(layer, PatchEmbedding)), None)
    return None if None in (height, width, patch) else min(height, width) // patch >> stage


def assign_tensors(model: keras.Model, tensors: Mapping[str, np.ndarray], expected: str, source: str, adapt_window: bool = False) -> None:
    """Assigns a checkpoint's tensors to a tfvit model; checks every name and shape before the first assignment.

    A head that the model does not have is left out; one of another number of classes too, with a warning: the model's own stays as it was
    initialised.

    Args:
        tensors: official names (timm's or the original's) to arrays.
        expected, source: what the model and the file are called in messages.
        adapt_window: take weights of another window: V1's position tables are resized (bicubic, as the original does for fine-tuning at
            another resolution), V2's continuous bias is computed for the new window. The answers are not those of the original.

    Raises:
        WeightsError: naming everything missing, unexpected or misshapen (`missing`, `unexpected`, `misshapen` on the error), or weights of
            another window.
    """
    given, tensors = tensors, timm_names(tensors)
    for layer in model.layers:
        if isinstance(layer, Tokens):
            scaled = any(isinstance(block, PlainBlock) and block.scale1 is not None for block in model.layers)
            tensors = fitted(tensors, layer, scaled)
    targets = official_targets(model)
    _leave_out_other_head(tensors, targets, expected, source)
    missing = sorted(set(targets) - set(tensors))
    unexpected = sorted(set(tensors) - set(targets))
    values: list[tuple[keras.Variable, np.ndarray]] = []
    misshapen = []
    for name in sorted(set(targets) & set(tensors)):
        for variable, layout in targets[name]:
            value = _transformed(np.asarray(tensors[name], dtype=np.float32), layout.to_ours, variable, name)
            if value is None:
                misshapen.append(f"{name} {list(tensors[name].shape)}")
                break
            values.append((variable, value))
    if missing or unexpected or misshapen:
        found = guess_variant(given)
        if found is not None and expected not in found.split(" or "):
            advice = f"these look like {found}: use that variant"
        elif missing and all(name.startswith("head.") for name in missing) and not unexpected:
            (weight, bias) = next(names for names in HEADS if names[0] in targets)
            (head, _), *_ = targets[weight]
            advice = f"pass a checkpoint with a head: {weight} [{head.shape[1]}, {head.shape[0]}] and {bias} [{head.shape[1]}]"
        else:
            advice = f"pass the weights of {expected}; edge.convert --checkpoint PATH finds out what a checkpoint is"
        problems = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
        raise WeightsError(
            f"the weights do not fit {expected}",
            expected=f"the {len(targets)} tensors of {expected}",
            received=f"{source}: " + ", ".join(_listed(kind, names) for kind, names in problems.items() if names),
            action=advice,
            **problems,
        )
    if not adapt_window:
        _require_window(model, given, expected, source)
    for variable, value in values:
        variable.assign(value)


def _require_window(model: keras.Model, tensors: Mapping[str, np.ndarray], expected: str, source: str) -> None:
    """Checks that the weights were made for the model's windows, as far as the checkpoint says.

    Raises:
        WeightsError: another window.
    """
    own: dict[int, set[int]] = {}
    for layer in tfvit_layers(model):
        stage = re.match(r"stage(\d+)_block\d+$", layer.name)
        if isinstance(layer, Block) and stage:
            number, window = int(stage[1]) - 1, layer.attention.window_size
            own[number] = {window, min(window, _grid_side(model, number) or window)}
    theirs = trained_windows(tensors)
    wrong = {stage: window for stage, window in theirs.items() if stage in own and window not in own[stage]}
    if wrong:
        stage, window = next(iter(sorted(wrong.items())))
        found = guess_variant(tensors)
        raise WeightsError(
            f"the weights were trained with another window than {expected} has",
            expected=f"windows of {max(own[stage])} x {max(own[stage])} tokens",
            received=f"{source}: {window} x {window} in stage {stage + 1}",
            action=(f"use the variant {found}, or " if found and found != expected else "")
            + f"adapt them in Python and fine-tune: a constructor with weights= and window_size={max(own[stage])}",
            window=window,
        )


def official_tensors(model: keras.Model) -> dict[str, np.ndarray]:
    """A tfvit model's weights under timm's names and in its layouts: what `assign_tensors` reads, float32."""
    tensors = {}
    for name, targets in official_targets(model).items():
        parts = [layout.to_official(keras.ops.convert_to_numpy(variable)) for variable, layout in targets]
        tensors[name] = np.ascontiguousarray(np.concatenate(parts, axis=0), dtype=np.float32)
    return tensors


def resize_position_table(table: np.ndarray, window_size: int) -> np.ndarray:
    """A relative position table for another window: [(2 * S - 1)**2, nH] -> [(2 * window_size - 1)**2, nH], bicubic.

    Source: microsoft/Swin-Transformer, utils.py, load_pretrained: PyTorch's bicubic interpolation (a = -0.75, half-pixel centres).
    """
    side = round(len(table) ** 0.5)
    weights = _bicubic_weights(side, 2 * window_size - 1)
    grid = table.reshape(side, side, -1)
    return np.einsum("ai,bj,ijh->abh", weights, weights, grid).reshape(-1, table.shape[1]).astype(np.float32)


def _bicubic_weights(source: int, target: int) -> np.ndarray:
    """[target, source]: how much of each source sample is in each target sample."""
    a = -0.75
    position = (np.arange(target) + 0.5) * source / target - 0.5
    first = np.floor(position).astype(int)
    weights = np.zeros((target, source))
    for tap in range(-1, 3):
        distance = np.abs(position - (first + tap))
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        np.add.at(weights, (np.arange(target), np.clip(first + tap, 0, source - 1)), np.where(distance <= 1, near, far))
    return weights


def _transformed(
    tensor: np.ndarray, transform: Callable[[np.ndarray], np.ndarray], variable: keras.Variable, name: str
) -> np.ndarray | None:
    """A tensor as the variable wants it; None where it cannot be."""
    try:
        value = transform(tensor)
    except ValueError:
        return None
    if name.endswith("relative_position_bias_table") and value.ndim == 2 and value.shape[1] == variable.shape[1]:
        sides = [round(length**0.5) for length in (value.shape[0], variable.shape[0])]
        if sides[0] != sides[1] and sides[0] ** 2 == value.shape[0]:
            value = resize_position_table(value, (sides[1] + 1) // 2)
    return value if tuple(value.shape) == tuple(variable.shape) else None


def _leave_out_other_head(tensors: dict[str, np.ndarray], targets: dict[str, Any], expected: str, source: str) -> None:
    head = next((names for names in HEADS if names[0] in targets or names[0] in tensors), HEADS[0])
    if not all(name in tensors for name in head):
        return
    if head[0] not in targets:
        _LOG.info("%s: the checkpoint's head is left out, %s has none", source, expected)
    else:
        theirs, (variable, _) = tensors[head[0]].shape, targets[head[0]][0]
        if theirs[:1] == variable.shape[-1:]:
            return
        own = f"the {variable.shape[-1]}-class head of {expected} keeps its initial weights"
        warnings.warn(f"{source}: the head of {theirs[0]} classes is left out; {own}", stacklevel=4)
    for name in head:
        tensors.pop(name)
        targets.pop(name, None)


def _listed(kind: str, names: list[str]) -> str:
    return f"{len(names)} {kind} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
