"""Official checkpoint names and layouts to ours, and back to one error for everything that does not fit. Pure: no files, no network.

Official names are timm's (`layers.1.downsample` belongs to the start of stage 1) or the original release's (`layers.0.downsample`, the end
of stage 0; `head.weight`); both are read. Index, mask and coordinate buffers are ignored: they are recomputed.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from tfvit.attention import CosineWindowAttention, _WindowAttention
from tfvit.blocks import Block, LayerNorm, PatchEmbedding, PatchMerging
from tfvit.errors import WeightsError
from tfvit.plain_layers import PlainBlock, Tokens
from tfvit.plain_names import fitted, guess_plain_variant, is_plain, timm_plain_names
from tfvit.variants import VARIANTS, WindowedVariant

_LOG = logging.getLogger("tfvit")

# a classifier's weights: windowed models', plain ones'
HEADS = (("head.fc.weight", "head.fc.bias"), ("head.weight", "head.bias"))
_BUFFERS = re.compile(r"(relative_position_index|attn_mask|relative_coords_table|k_bias)$")
# our block order (0,0), (0,1), (1,0), (1,1) taken from the original's concatenation (0,0), (1,0), (0,1), (1,1)
_MERGING_ORDER = (0, 2, 1, 3)


def tfvit_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The tfvit layers of a model, nested models included, in the order they were built."""
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, PatchEmbedding | Block | PatchMerging | _WindowAttention | LayerNorm | Tokens | PlainBlock):
            yield layer


class _Layout(NamedTuple):
    """How an official tensor becomes one of our variables, and how that becomes (its part, along axis 0, of) the tensor again."""

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_official: Callable[[np.ndarray], np.ndarray]


def _third(part: int, transpose: bool) -> _Layout:
    def take(tensor: np.ndarray) -> np.ndarray:
        third = np.split(tensor, 3, axis=0)[part]
        return third.T if transpose else third

    return _Layout(take, np.transpose if transpose else _same)


def _merge_order_vector(tensor: np.ndarray) -> np.ndarray:
    """Swaps the second and third quarter: its own inverse."""
    return tensor.reshape(4, -1)[list(_MERGING_ORDER)].reshape(-1)


def _merge_order_kernel(tensor: np.ndarray) -> np.ndarray:
    outputs, inputs = tensor.shape
    return tensor.T.reshape(4, inputs // 4, outputs)[list(_MERGING_ORDER)].reshape(inputs, outputs)


def _original_order_kernel(kernel: np.ndarray) -> np.ndarray:
    inputs, outputs = kernel.shape
    return kernel.reshape(4, inputs // 4, outputs)[list(_MERGING_ORDER)].reshape(inputs, outputs).T


def _same(tensor: np.ndarray) -> np.ndarray:
    return tensor


_SAME = _Layout(_same, _same)
_TRANSPOSED = _Layout(np.transpose, np.transpose)
_CONVOLUTION = _Layout(lambda tensor: tensor.transpose(2, 3, 1, 0), lambda kernel: kernel.transpose(3, 2, 0, 1))
_ROW = _Layout(lambda tensor: tensor.reshape(-1), lambda vector: vector.reshape(1, 1, -1))
_ROWS = _Layout(lambda tensor: tensor.reshape(tensor.shape[1:]), lambda rows: rows[None])
_LOGIT_SCALE = _Layout(lambda tensor: tensor.reshape(-1, 1), lambda scale: scale.reshape(-1, 1, 1))
_MERGED_VECTOR = _Layout(_merge_order_vector, _merge_order_vector)
_MERGED_KERNEL = _Layout(_merge_order_kernel, _original_order_kernel)


def official_targets(model: keras.Model) -> dict[str, list[tuple[keras.Variable, _Layout]]]:
    """For every official (timm) tensor name: the variables it fills, in order, each with its layout."""
    targets: dict[str, list[tuple[keras.Variable, _Layout]]] = {}

    def one(name: str, variable: keras.Variable, layout: _Layout = _SAME) -> None:
        targets.setdefault(name, []).append((variable, layout))

    def norm(prefix: str, layer: LayerNorm, layout: _Layout = _SAME) -> None:
        one(f"{prefix}.weight", layer.gamma, layout)
        one(f"{prefix}.bias", layer.beta, layout)

    def dense(prefix: str, layer: keras.layers.Dense | keras.layers.EinsumDense) -> None:
        one(f"{prefix}.weight", layer.kernel, _TRANSPOSED)
        if layer.bias is not None:
            one(f"{prefix}.bias", layer.bias)

    stage, block, head = 0, 0, "head.fc"
    for layer in model.layers:
        if isinstance(layer, PatchEmbedding):
            one("patch_embed.proj.weight", layer.projection.kernel, _CONVOLUTION)
            one("patch_embed.proj.bias", layer.projection.bias)
            norm("patch_embed.norm", layer.norm)
        elif isinstance(layer, PatchMerging):
            stage, block = stage + 1, 0
            norm(f"layers.{stage}.downsample.norm", layer.norm, _SAME if layer.post_norm else _MERGED_VECTOR)
            one(f"layers.{stage}.downsample.reduction.weight", layer.reduction.kernel, _MERGED_KERNEL)
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
                one(f"{prefix}.attn.qkv.weight", projection.kernel, _third(part, transpose=True))
            if isinstance(attention, CosineWindowAttention):
                one(f"{prefix}.attn.logit_scale", attention.logit_scale, _LOGIT_SCALE)
                if attention.qkv_bias:
                    one(f"{prefix}.attn.q_bias", attention.query.bias)
                    one(f"{prefix}.attn.v_bias", attention.value.bias)
                dense(f"{prefix}.attn.cpb_mlp.0", attention.cpb_fc1)
                dense(f"{prefix}.attn.cpb_mlp.2", attention.cpb_fc2)
            else:
                one(f"{prefix}.attn.relative_position_bias_table", attention.relative_position_bias_table)
                if attention.qkv_bias:
                    for part, projection in enumerate((attention.query, attention.key, attention.value)):
                        one(f"{prefix}.attn.qkv.bias", projection.bias, _third(part, transpose=False))
        elif isinstance(layer, Tokens):
            head = "head"
            one("patch_embed.proj.weight", layer.projection.kernel, _CONVOLUTION)
            one("patch_embed.proj.bias", layer.projection.bias)
            one("pos_embed", layer.positions, _ROWS)
            if layer.has_class_token:
                one("cls_token", layer.class_token, _ROW)
            if layer.num_registers:
                one("reg_token", layer.registers, _ROWS)
        elif isinstance(layer, PlainBlock):
            prefix = f"blocks.{block}"
            block += 1
            norm(f"{prefix}.norm1", layer.norm1)
            norm(f"{prefix}.norm2", layer.norm2)
            dense(f"{prefix}.mlp.fc1", layer.mlp.fc1)
            dense(f"{prefix}.mlp.fc2", layer.mlp.fc2)
            dense(f"{prefix}.attn.proj", layer.attention.projection)
            for part, projection in enumerate((layer.attention.query, layer.attention.key, layer.attention.value)):
                one(f"{prefix}.attn.qkv.weight", projection.kernel, _third(part, transpose=True))
                one(f"{prefix}.attn.qkv.bias", projection.bias, _third(part, transpose=False))
            for name, scale in (("ls1", layer.scale1), ("ls2", layer.scale2)):
                if scale is not None:
                    one(f"{prefix}.{name}.gamma", scale.gamma)
        elif isinstance(layer, LayerNorm):
            norm("norm", layer)
        elif isinstance(layer, keras.layers.Dense) and layer.name in ("head", "pre_logits"):
            dense(head if layer.name == "head" else "pre_logits.fc", layer)
    return targets


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
        advice = f"these look like {found}: use that variant" if found else "use the variant the checkpoint was made for"
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


def _require_window(model: keras.Model, tensors: Mapping[str, np.ndarray], expected: str, source: str) -> None:
    """Checks that the weights were made for the model's windows, as far as the checkpoint says.

    Raises:
        WeightsError: another window.
    """
    own: dict[int, set[int]] = {}
    side = model.inputs[0].shape[1]
    for layer in tfvit_layers(model):
        stage = re.match(r"stage(\d+)_block\d+$", layer.name)
        if isinstance(layer, Block) and stage:
            number, window = int(stage[1]) - 1, layer.attention.window_size
            patch = next(one.patch_size for one in tfvit_layers(model) if isinstance(one, PatchEmbedding))
            own[number] = {window, min(window, side // patch >> number)} if side else {window}
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


def architecture(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The arguments of `ViTTransformer` that a checkpoint's names and shapes tell.

    The window is among them for version 1 (the tables have its size) and not for version 2 (the continuous bias fits any).

    Raises:
        WeightsError: not a checkpoint of this architecture.
    """
    tensors = timm_names(tensors)
    blocks = sorted({(int(match[1]), int(match[2])) for name in tensors if (match := re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", name))})
    try:
        embed_dim, _, patch_size, _ = tensors["patch_embed.proj.weight"].shape
        first = {stage: f"layers.{stage}.blocks.0.attn" for stage, _ in blocks}
        version = 2 if f"{first[0]}.logit_scale" in tensors else 1
        heads = "logit_scale" if version == 2 else "relative_position_bias_table"
        found = {
            "version": version,
            "embed_dim": int(embed_dim),
            "patch_size": int(patch_size),
            "depths": tuple(sum(stage == which for stage, _ in blocks) for which in sorted(first)),
            "num_heads": tuple(int(tensors[f"{first[stage]}.{heads}"].shape[0 if version == 2 else 1]) for stage in sorted(first)),
            "classes": int(tensors["head.fc.bias"].shape[0]),
        }
        if version == 1:
            found["window_size"] = (round(len(tensors[f"{first[0]}.{heads}"]) ** 0.5) + 1) // 2
        return found
    except (KeyError, ValueError, IndexError) as error:
        raise WeightsError(
            "not a checkpoint of this architecture",
            expected="tensors named patch_embed.…, layers.N.blocks.M.… and head.…",
            received=f"{len(tensors)} tensors without {error}",
            action="pass a checkpoint of the original release or of timm",
        ) from error


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


def _listed(kind: str, names: list[str]) -> str:
    return f"{len(names)} {kind} ({', '.join(names)})"
