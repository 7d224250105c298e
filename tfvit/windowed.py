"""Windowed Vision Transformers: attention inside shifted windows, four stages. The general model, and the variants' on top of it.

[B, H, W, 3] normalised pixels -> patch embedding -> four stages of blocks with patch merging between them -> norm -> pool -> head.
The last layer of stage N (1-based) is named `stageN_blockM`; its output is the stage's feature map before the next downsampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from tfvit.blocks import Block, LayerNorm, PatchEmbedding, PatchMerging
from tfvit.functional import classifier, functional_model, image_input
from tfvit.graph_constants import MASKED
from tfvit.preprocessing import sides
from tfvit.variants import VARIANTS, WindowedVariant


def ViTTransformer(
    *,
    embed_dim: int,
    depths: Sequence[int],
    num_heads: Sequence[int],
    window_size: int,
    version: int = 1,
    pretrained_window_sizes: Sequence[int] | None = None,
    patch_size: int = 4,
    padding: str = MASKED,
    mlp_ratio: float = 4.0,
    qkv_bias: bool = True,
    drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
    drop_path_rate: float = 0.1,
    include_top: bool = True,
    weights: str | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: str | None = "avg",
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "vit_transformer",
    dtype: Any = None,
) -> keras.Model:
    """A hierarchical vision transformer with shifted windows (Swin Transformer; arXiv:2103.14030 and arXiv:2111.09883).

    Args:
        embed_dim: channels of the first stage; each later stage has twice as many.
        depths: blocks per stage.
        num_heads: attention heads per stage.
        window_size: nominal window side in tokens; it shrinks to a smaller stage, which is then not shifted.
        version: 1 (pre-norm, position bias table) or 2 (res-post-norm, cosine attention, continuous position bias).
        pretrained_window_sizes: version 2: the window of each stage in pretraining, 0 for the one in use.
        patch_size: side of a patch in pixels.
        padding: what the zeros do that fill up the last windows of a grid: "masked" out of the attention, or part of it, "before_shift" (as
            in transformers) or "after_shift" (as in timm).
        mlp_ratio: hidden units of the MLP over its channels.
        qkv_bias: whether query, key and value have biases.
        drop_rate, attn_drop_rate, drop_path_rate: dropout after projections, on attention weights, and of residual branches (growing
            linearly from 0 at the first block to `drop_path_rate` at the last).
        include_top: whether to end in a classifier.
        weights: None (random) or the path of a `.safetensors` or `.weights.h5` file.
        input_tensor: a Keras tensor to build on instead of a new input.
        input_shape: (height, width, 3); at least 32 px a side, or None for sides known only when the model runs. Efficient sides are
            multiples of 32 * window_size: others are padded to whole windows, with the padding masked out of the attention.
        pooling: without a top: "avg" or "max" give [B, C], None gives the [B, H / 32, W / 32, C] feature map.
        classes, classifier_activation: of the top; None for logits.
        name: of the model.
        dtype: dtype or dtype policy of every layer; the global policy by default. Layer norms compute in float32 under any.

    Returns:
        A functional `keras.Model` that takes normalised pixels (see `preprocess_input`).

    Raises:
        ValueError: arguments that do not fit together.
        tfvit.errors.WeightsError: weights that cannot be had or do not fit.
    """
    if not len(depths) == len(num_heads) == len(pretrained_window_sizes or depths):
        raise ValueError(
            "depths, num_heads and pretrained_window_sizes must have one value a stage. "
            f"Received: depths={depths}, num_heads={num_heads}, pretrained_window_sizes={pretrained_window_sizes}"
        )
    if version not in (1, 2):
        raise ValueError(f"version must be 1 or 2. Received: version={version}")
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"pooling must be None, 'avg' or 'max'. Received: pooling={pooling!r}")
    inputs = image_input(input_tensor, input_shape, smallest=patch_size * 2 ** (len(depths) - 1))

    x = PatchEmbedding(patch_size, embed_dim, name="patch_embedding", dtype=dtype)(inputs)
    if drop_rate:
        x = layers.Dropout(drop_rate, name="patch_dropout", dtype=dtype)(x)
    drop_path = np.linspace(0.0, drop_path_rate, sum(depths)).tolist()
    for stage, depth in enumerate(depths):
        if stage:
            x = PatchMerging(post_norm=version == 2, name=f"stage{stage + 1}_merging", dtype=dtype)(x)
        for block in range(depth):
            x = Block(
                version=version,
                num_heads=num_heads[stage],
                window_size=window_size,
                shifted=block % 2 == 1,
                qkv_bias=qkv_bias,
                mlp_ratio=mlp_ratio,
                dropout=drop_rate,
                attention_dropout=attn_drop_rate,
                drop_path=drop_path[sum(depths[:stage]) + block],
                pretrained_window_size=pretrained_window_sizes[stage] if pretrained_window_sizes else 0,
                padding=padding,
                name=f"stage{stage + 1}_block{block + 1}",
                dtype=dtype,
            )(x)
    x = LayerNorm(name="norm", dtype=dtype)(x)

    if include_top or pooling == "avg":
        x = layers.GlobalAveragePooling2D(name="avg_pool", dtype=dtype)(x)
    elif pooling == "max":
        x = layers.GlobalMaxPooling2D(name="max_pool", dtype=dtype)(x)
    if include_top:
        x = classifier(x, classes, classifier_activation, dtype)
    model = functional_model(inputs, x, name)
    if weights is not None:
        from tfvit.weights import load_weights

        load_weights(model, weights, adapt_window=True)  # the window is the caller's own
    return model


def build(
    variant: WindowedVariant,
    *,
    include_top: bool = True,
    weights: str | None,
    input_tensor: Any = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: str | None = "avg",
    classes: int,
    classifier_activation: str | None = "softmax",
    drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
    drop_path_rate: float | None = None,
    window_size: int | None = None,
    name: str | None = None,
    dtype: Any = None,
) -> keras.Model:
    """A variant of this family as a Keras model; `tfvit.model.build_variant` is the way in.

    Args:
        variant: a row of `tfvit.variants.VARIANTS`.
        weights: "imagenet" or "imagenet21k" (V1), "cifar10" (the nano variants), None for random initialisation, or a path (see
            `tfvit.weights.load_weights`). The constructors' default is the variant's own: "imagenet", or "cifar10".
        input_shape: the variant's own size by default; sides may be None.
        window_size: the variant's own by default. Another one, for fine-tuning at another resolution, adapts the position bias: V1's tables
            are resized, V2's continuous bias keeps measuring in the window it was trained with.
        drop_path_rate: the original training configuration's by default.
        include_top, input_tensor, pooling, classes, classifier_activation, drop_rate, attn_drop_rate, name, dtype: see `ViTTransformer`.
    """
    if input_tensor is None and input_shape is None:
        input_shape = variant.input_shape
    model = ViTTransformer(
        embed_dim=variant.embed_dim,
        depths=variant.depths,
        num_heads=variant.num_heads,
        window_size=window_size or variant.window_size,
        version=variant.version,
        pretrained_window_sizes=_pretrained_window_sizes(variant, window_size),
        patch_size=variant.patch_size,
        mlp_ratio=variant.mlp_ratio,
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

        load_weights(model, weights, variant, adapt_window=window_size is not None)
    return model


def _pretrained_window_sizes(variant: WindowedVariant, window_size: int | None) -> tuple[int, ...] | None:
    if variant.version == 1:
        return None
    if window_size in (None, variant.window_size):
        return variant.pretrained_window_sizes
    trained_px = min(sides(VARIANTS.get(variant.id, variant).image_size))  # the row may be for images of another size
    grids = [trained_px // variant.patch_size >> stage for stage in range(len(variant.depths))]
    trained = [min(variant.window_size, grid) for grid in grids]
    return tuple(own or used for own, used in zip(variant.pretrained_window_sizes, trained, strict=True))
