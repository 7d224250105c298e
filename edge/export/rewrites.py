"""Equal models with less to compute, or less to lose in 8 bits: each rewrite changes weights and graph and keeps the function.

A rewrite takes an `ExportableModel` and gives another; the model it was given stays as it is. `reparametrize` applies several to one copy.
What each gives in latency and drift: docs/decisions. 1 / sqrt(d) needs none: the converter takes it into the query's weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from edge.export.to_tflite import ExportableModel, copy_model
from tfvit.blocks import Block, LayerNorm, PatchEmbedding, PatchMerging, PatchProjection
from tfvit.plain_layers import PlainBlock, TokenPooling, Tokens
from tfvit.preprocessing import Preprocessing


def fold_norm_affine(model: keras.Model) -> None:
    """gamma and beta of every layer norm go into the dense layers behind it, where nothing stands between them.

    V1's and plain blocks (query, key, value and fc1), V1's patch merging, and the last norm where pooling that takes no maximum and a dense
    layer follow. V2's norms end their branches: there is nothing behind to fold into.
    """
    for layer in _tfvit_layers(model):
        if isinstance(layer, PlainBlock) or (isinstance(layer, Block) and not layer.post_norm):
            attention = layer.attention
            _fold_affine(layer.norm1, (attention.query, attention.key, attention.value))
            _fold_affine(layer.norm2, (layer.mlp.fc1,))
        elif isinstance(layer, PatchMerging) and not layer.post_norm:
            gamma, beta = _value(layer.norm.gamma), _value(layer.norm.beta)
            kernel = _value(layer.reduction.kernel)
            layer.shift = (beta @ kernel).astype(np.float32)
            layer.reduction.kernel.assign(gamma[:, None] * kernel)
            layer.norm.scales_and_shifts = False
        elif isinstance(layer, LayerNorm):
            head = _head_behind_pooling(layer)
            if head is not None:
                _fold_affine(layer, (head,))


def centre_norm_inputs(model: keras.Model) -> None:
    """The channel mean is taken out of what goes into a norm, by the layer that writes it; the norm then need not subtract it.

    - the norm of the patch embedding (the convolution is centred);
    - V2: every norm of blocks and merging (the last dense layer of the branch, the reduction);
    - V1: the norms of the last stage and the one behind it, whose whole stream is written by the last merging and the stage's own branches.
      Earlier streams cannot be centred: merging normalises four tokens together, whose means differ;
    - plain models: every norm. Tokens, positions and branches write the one stream they all read. LayerScale first goes into the layers in
      front of it (where nothing is centred, the converter takes it in).
    """
    for layer in _tfvit_layers(model):
        if isinstance(layer, PatchEmbedding):
            _centre(layer.projection)
            layer.norm.subtracts_mean = False
        elif isinstance(layer, Block) and layer.post_norm:
            for dense, norm in ((layer.attention.projection, layer.norm1), (layer.mlp.fc2, layer.norm2)):
                _centre(dense)
                norm.subtracts_mean = False
        elif isinstance(layer, PatchMerging) and layer.post_norm:
            _centre(layer.reduction)
            layer.norm.subtracts_mean = False
    for merging, blocks, norm in _closed_last_stages(model):
        _centre(merging.reduction)
        if merging.shift is not None:
            merging.shift = merging.shift - merging.shift.mean()
        for block in blocks:
            _centre(block.attention.projection)
            _centre(block.mlp.fc2)
            block.norm1.subtracts_mean = block.norm2.subtracts_mean = False
        norm.subtracts_mean = False
    for tokens, blocks, norm in _closed_plain_streams(model):
        _centre(tokens.projection)
        for variable in tokens.added:
            value = _value(variable)
            variable.assign(value - value.mean(axis=-1, keepdims=True))
        for block in blocks:
            for writer, scale in ((block.attention.projection, block.scale1), (block.mlp.fc2, block.scale2)):
                if scale is not None:
                    writer.kernel.assign(_value(writer.kernel) * _value(scale.gamma))
                    writer.bias.assign(_value(writer.bias) * _value(scale.gamma))
                    scale.scales = False
                _centre(writer)
            block.norm1.subtracts_mean = block.norm2.subtracts_mean = False
        norm.subtracts_mean = False


def keep_read_tokens(model: keras.Model) -> None:
    """Plain models whose head reads the class token: the last block computes two tokens, from the keys and values of all.

    Two and not one: an addition of [1, 1, 1, C] looks like a bias to the converter, which makes it a vector without a batch.
    """
    for _, blocks, norm in _closed_plain_streams(model):
        pools = _consumers(norm)
        if blocks and len(pools) == 1 and isinstance(pools[0], TokenPooling) and pools[0].pooling in ("token", "token_register"):
            blocks[-1].keeps = 2


def fold_normalization(model: keras.Model, preprocessing: Preprocessing) -> None:
    """The image normalisation goes into the convolution of the patch embedding, which then takes pixels 0..255.

    The model's input must go straight into the patch embedding, and need no padding to whole patches (see `takes_normalization`).
    """
    (embedding,) = (layer for layer in _tfvit_layers(model) if isinstance(layer, PatchProjection))
    kernel, std = _value(embedding.projection.kernel).astype(np.float64), np.asarray(preprocessing.std, np.float64)
    scaled = kernel / std[:, None]
    bias = _value(embedding.projection.bias) - np.einsum("hwio,i->o", scaled, np.asarray(preprocessing.mean, np.float64))
    embedding.projection.kernel.assign(scaled.astype(np.float32))
    embedding.projection.bias.assign(bias.astype(np.float32))


def heads_first(model: keras.Model) -> None:
    """V1 and V2: heads come apart and together by slices and concatenations in place of transposes, which are dear on NPUs
    (docs/decisions/0038). The last stage, of one window, keeps its transposes, and so do plain models: there they cost as little.
    """
    for layer in _tfvit_layers(model):
        if isinstance(layer, Block):
            layer.attention.heads_first = True


def patches_by_rows(model: keras.Model) -> None:
    """The convolution of the patch embedding as slices of rows, a concatenation and a dense layer: strides of 4 and more take NPUs of
    Arm's one step a patch (docs/decisions/0038).
    """
    for layer in _tfvit_layers(model):
        if isinstance(layer, PatchProjection):
            layer.by_rows = True


REWRITES: dict[str, Callable[[keras.Model], None]] = {
    "fold_norm_affine": fold_norm_affine,
    "centre_norm_inputs": centre_norm_inputs,
    "keep_read_tokens": keep_read_tokens,
    "heads_first": heads_first,
    "patches_by_rows": patches_by_rows,
}
NORMALIZATION = "fold_normalization"
ALL = (*REWRITES, NORMALIZATION)


def reparametrize(source: ExportableModel, rewrites: Sequence[str] = ALL) -> ExportableModel:
    """An equal model after the named rewrites; `source` stays as it is.

    Args:
        rewrites: of `ALL`, in any order.

    Raises:
        ValueError: an unknown name.
    """
    unknown = [name for name in rewrites if name not in ALL]
    if unknown:
        raise ValueError(f"rewrites must be among {', '.join(ALL)}. Received: {', '.join(unknown)}")
    if not rewrites:
        return source
    model = copy_model(source.model)
    for name, rewrite in REWRITES.items():
        if name in rewrites:
            rewrite(model)
    if NORMALIZATION in rewrites and takes_normalization(source):
        fold_normalization(model, source.preprocessing)
        return dataclasses.replace(source, model=model, takes_pixels=True)
    return dataclasses.replace(source, model=model)


def takes_normalization(source: ExportableModel) -> bool:
    """Whether `fold_normalization` applies."""
    if source.takes_pixels:
        return False
    embeddings = [layer for layer in _tfvit_layers(source.model) if isinstance(layer, PatchProjection)]
    if len(embeddings) != 1 or any(side % embeddings[0].patch_size for side in source.input_shape[:2]):
        return False
    return all(_passes_input_on(node) for node in embeddings[0]._inbound_nodes) and _backbone_reads_input(source.model)


def _backbone_reads_input(model: keras.Model) -> bool:
    """Whether the first layer behind the input, through nested models, is the patch embedding and nothing else reads the input."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            consumers = [node.operation for node in layer._outbound_nodes if node.operation in model.layers]
            if len(consumers) != 1:
                return False
            behind = consumers[0]
            return isinstance(behind, PatchProjection) or (isinstance(behind, keras.Model) and _backbone_reads_input(behind))
    return False


def _passes_input_on(node: Any) -> bool:
    return isinstance(node.input_tensors[0]._keras_history.operation, keras.layers.InputLayer)


def _tfvit_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The top-level tfvit layers of a model and of the models inside it, each once."""
    seen: set[int] = set()

    def walk(layers: Sequence[Any]) -> Iterator[keras.layers.Layer]:
        for layer in layers:
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            if isinstance(layer, keras.Model):
                yield from walk(layer.layers)
            elif isinstance(layer, Block | PlainBlock | PatchProjection | PatchMerging | LayerNorm):
                yield layer

    yield from walk(model.layers)


def _consumers(layer: keras.layers.Layer) -> list[Any]:
    """What reads a layer's output; a reader that is used elsewhere too counts as two, since its weights are not this layer's to change."""
    return [node.operation for node in layer._outbound_nodes for _ in node.operation._inbound_nodes]


def _head_behind_pooling(norm: LayerNorm) -> keras.layers.Dense | None:
    """The dense layer that reads the pool of a norm, no maximum, and nothing else does."""
    pools = _consumers(norm)
    if len(pools) != 1 or not isinstance(pools[0], keras.layers.GlobalAveragePooling2D | TokenPooling):
        return None
    if getattr(pools[0], "pooling", None) == "max":
        return None
    heads = _consumers(pools[0])
    return heads[0] if len(heads) == 1 and type(heads[0]) is keras.layers.Dense and heads[0].use_bias else None


def _closed_last_stages(model: keras.Model) -> Iterator[tuple[PatchMerging, list[Block], LayerNorm]]:
    """V1: a merging, the blocks behind it and the norm that ends them, where nothing else reads what flows between."""
    for layer in _tfvit_layers(model):
        if not isinstance(layer, PatchMerging) or layer.post_norm:
            continue
        blocks: list[Block] = []
        position: Any = layer
        while True:
            consumers = _consumers(position)
            if len(consumers) != 1:
                break
            position = consumers[0]
            if isinstance(position, LayerNorm):
                yield layer, blocks, position
                break
            if not isinstance(position, Block):
                break
            blocks.append(position)


def _closed_plain_streams(model: keras.Model) -> Iterator[tuple[Tokens, list[PlainBlock], LayerNorm]]:
    """Tokens, the blocks behind them and the norm that ends them, where nothing else reads what flows between."""
    for layer in _tfvit_layers(model):
        if not isinstance(layer, Tokens) or len(layer._inbound_nodes) != 1:
            continue
        blocks: list[PlainBlock] = []
        position: Any = layer
        while len(consumers := _consumers(position)) == 1:
            position = consumers[0]
            if isinstance(position, LayerNorm):
                yield layer, blocks, position
                break
            if isinstance(position, PlainBlock):
                blocks.append(position)
            elif not isinstance(position, keras.layers.Dropout):
                break


def _fold_affine(norm: LayerNorm, readers: Sequence[Any]) -> None:
    # a reader of two pools side by side has the channels twice
    repeats = readers[0].kernel.shape[0] // norm.gamma.shape[0]
    gamma, beta = np.tile(_value(norm.gamma), repeats), np.tile(_value(norm.beta), repeats)
    if any(reader.bias is None for reader in readers) and beta.any():
        return  # nowhere for beta to go
    for reader in readers:
        kernel = _value(reader.kernel)
        if reader.bias is not None:
            reader.bias.assign(_value(reader.bias) + beta @ kernel)
        reader.kernel.assign(gamma[:, None] * kernel)
    norm.scales_and_shifts = False


def _centre(layer: Any) -> None:
    """Takes the mean over the output channels out of a dense or convolution layer's weights."""
    kernel = _value(layer.kernel)
    layer.kernel.assign(kernel - kernel.mean(axis=-1, keepdims=True))
    if layer.bias is not None:
        bias = _value(layer.bias)
        layer.bias.assign(bias - bias.mean())


def _value(variable: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable)
