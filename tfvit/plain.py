"""Plain Vision Transformers: one grid of tokens, every token attends to all. ViT, DeiT, DINOv2.

[B, H, W, 3] normalised pixels -> patches -> [B, 1, T, C] tokens (class token first, then registers) -> `depth` blocks -> norm -> pool ->
head. The layers are in `tfvit.plain_layers`. The sizes, as the rows of `tfvit.variants` have them (embed_dim, depth, num_heads):

- tiny: 192, 12, 3
- small: 384, 12, 6
- base: 768, 12, 12
- large: 1024, 24, 16

Sources: google-research/vision_transformer, vit_jax/models_vit.py (arXiv:2010.11929); facebookresearch/dinov2 (arXiv:2304.07193, registers:
arXiv:2309.16588). The weights go by timm's names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from tfvit.blocks import LayerNorm
from tfvit.functional import classifier, functional_model, image_input
from tfvit.plain_layers import LAYER_NORM_EPSILON, PatchGrid, PlainBlock, TokenPooling, Tokens
from tfvit.variants import PlainVariant

POOLINGS = ("token", "avg", "max", "token_avg", "token_register", None)


def VisionTransformer(
    *,
    embed_dim: int,
    depth: int,
    num_heads: int,
    patch_size: int,
    mlp_ratio: float = 4.0,
    class_token: bool = True,
    registers: int = 0,
    class_position: bool = True,
    layer_scale: float | None = None,
    representation_size: int | None = None,
    gelu: str = "exact",
    epsilon: float = LAYER_NORM_EPSILON,
    resize_offset: float | None = None,
    drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    include_top: bool = True,
    weights: str | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: str | None = "token",
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "vision_transformer",
    dtype: Any = None,
) -> keras.Model:
    """A plain Vision Transformer (arXiv:2010.11929). The output of block N (1-based) is that of the layer `blockN`.

    Args:
        embed_dim, depth, num_heads, patch_size: channels, blocks, attention heads, side of a patch in pixels.
        mlp_ratio: hidden units of the MLP over its channels.
        class_token: whether there is one; without it pooling is "avg" or "max".
        registers: further tokens that belong to no patch (arXiv:2309.16588).
        class_position: whether the class token has a position embedding of its own.
        layer_scale: None, or the initial value of a factor for each channel of each branch.
        representation_size: None, or the units of a tanh layer in front of the head (the original's `pre_logits`).
        gelu: "exact"; "tanh" as the original flax code computes it, for official `.npz` weights; or "quick", as CLIP does.
        epsilon: of the layer norms. Hugging Face's ViT has 1e-12.
        resize_offset: how position embeddings of weights for another input size are resized, see `tfvit.positions.resized`.
        drop_rate, attn_drop_rate, drop_path_rate: dropout after projections, on attention weights, and of residual branches (growing
            linearly from 0 at the first block to `drop_path_rate` at the last).
        include_top: whether to end in a classifier.
        weights: None (random) or the path of a weights file, see `tfvit.weights.load_weights`.
        input_tensor: a Keras tensor to build on instead of a new input.
        input_shape: (height, width, 3), both multiples of `patch_size`.
        pooling: what the classifier reads, or what is given without one: "token" (the class token), "avg" or "max" (of the patches),
            "token_avg" (class token and mean side by side, as DINOv2's classifiers), "token_register" (class token and first register,
            as distilled DeiT's). Without a top also None: the patches as [B, H / patch_size, W / patch_size, C].
        classes, classifier_activation: of the top; None for logits.
        name: of the model.
        dtype: dtype or dtype policy of every layer; the global policy by default. Layer norms compute in float32 under any.

    Returns:
        A functional `keras.Model` that takes normalised pixels.

    Raises:
        ValueError: arguments that do not fit together.
        tfvit.errors.WeightsError: weights that cannot be had or do not fit.
    """
    if pooling not in POOLINGS or (include_top and pooling is None):
        raise ValueError(f"pooling must be one of {POOLINGS}, and not None with a top. Received: pooling={pooling!r}")
    if (not class_token and (registers or str(pooling).startswith("token"))) or (pooling == "token_register" and not registers):
        raise ValueError(f"pooling reads a token there is none of. Received: {pooling=}, {class_token=}, {registers=}")
    inputs = image_input(input_tensor, input_shape, patch_size)
    if any(side is None or side % patch_size for side in inputs.shape[1:3]):
        raise ValueError(f"height and width must be multiples of patch_size={patch_size}. Received: {tuple(inputs.shape[1:])}")
    tokens = Tokens(patch_size, embed_dim, class_token, registers, class_position, resize_offset, name="patch_embedding", dtype=dtype)
    x = tokens(inputs)
    if drop_rate:
        x = layers.Dropout(drop_rate, name="token_dropout", dtype=dtype)(x)
    for block, drop_path in enumerate(np.linspace(0.0, drop_path_rate, depth).tolist(), start=1):
        x = PlainBlock(
            num_heads, mlp_ratio, drop_rate, attn_drop_rate, drop_path, epsilon, layer_scale, gelu, name=f"block{block}", dtype=dtype
        )(x)
    x = LayerNorm(epsilon, name="norm", dtype=dtype)(x)
    if pooling is None:
        x = PatchGrid(*tokens.grid, name="feature_map", dtype=dtype)(x)
    else:
        x = TokenPooling(pooling, tokens.prefix, name="pool", dtype=dtype)(x)
    if include_top:
        if representation_size:
            x = layers.Dense(representation_size, activation="tanh", name="pre_logits", dtype=dtype)(x)
        x = classifier(x, classes, classifier_activation, dtype)
    model = functional_model(inputs, x, name)
    if weights is not None:
        from tfvit.weights import load_weights

        load_weights(model, weights)
    return model


def feature_maps(model: keras.Model, blocks: Sequence[int]) -> keras.Model:
    """For dense tasks: a model of the same weights that gives the patches behind the named blocks (1-based), each through the last norm.

    >>> feature_maps(model, (3, 6, 9, 12))  # four maps [B, H / patch_size, W / patch_size, C]

    Raises:
        ValueError: not a plain model, or a block it does not have.
    """
    names = {layer.name for layer in model.layers if isinstance(layer, PlainBlock)}
    wrong = [block for block in blocks if f"block{block}" not in names]
    if wrong or not blocks:
        raise ValueError(f"blocks must be among 1 to {len(names)}, at least one. Received: blocks={tuple(blocks)}")
    norm, grid = model.get_layer("norm"), model.get_layer("patch_embedding").grid
    maps = [PatchGrid(*grid, name=f"feature_map{block}")(norm(model.get_layer(f"block{block}").output)) for block in blocks]
    return keras.Model(model.input, maps, name=f"{model.name}_features")


def build(
    variant: PlainVariant,
    *,
    include_top: bool = True,
    weights: str | None,
    input_tensor: Any = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: str | None,
    classes: int,
    classifier_activation: str | None = "softmax",
    class_token: bool = True,
    representation_size: int | None = None,
    gelu: str = "exact",
    epsilon: float = LAYER_NORM_EPSILON,
    drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
    drop_path_rate: float | None = None,
    name: str | None = None,
    dtype: Any = None,
) -> keras.Model:
    """A variant of this family as a Keras model; `tfvit.model.build_variant` is the way in.

    Args:
        variant: a row of `tfvit.variants.VARIANTS`.
        weights: "imagenet", "cifar10" (the nano variants), None for random initialisation, or a path (see `tfvit.weights.load_weights`).
        input_shape: the variant's own size by default. The weights' position embeddings are resized to any other.
        drop_path_rate: the table's by default.
        include_top, input_tensor, pooling, classes, classifier_activation, class_token, representation_size: see `VisionTransformer`.
        gelu, epsilon, drop_rate, attn_drop_rate, name, dtype: likewise.
    """
    if input_tensor is None and input_shape is None:
        input_shape = variant.input_shape
    model = VisionTransformer(
        embed_dim=variant.embed_dim,
        depth=variant.depth,
        num_heads=variant.num_heads,
        patch_size=variant.patch_size,
        mlp_ratio=variant.mlp_ratio,
        class_token=class_token,
        registers=variant.registers,
        class_position=variant.class_position,
        layer_scale=variant.layer_scale,
        representation_size=representation_size,
        gelu=gelu,
        epsilon=epsilon,
        resize_offset=variant.resize_offset,
        drop_rate=drop_rate,
        attn_drop_rate=attn_drop_rate,
        drop_path_rate=variant.drop_path_rate if drop_path_rate is None else drop_path_rate,
        include_top=include_top,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name or variant.id,
        dtype=dtype,
    )
    if weights is not None:
        from tfvit.weights import load_weights

        load_weights(model, weights, variant)
    return model
