"""Plain Vision Transformers: one grid of tokens, every token attends to all.

[B, H, W, 3] normalised pixels -> patches -> [B, 1, T, C] tokens (class token first) -> `depth` blocks -> norm -> class token -> head.
The unit axis keeps every tensor at rank 4 with the tokens where a windowed model has the tokens of a window.

Source: google-research/vision_transformer, vit_jax/models_vit.py (arXiv:2010.11929); weights go by timm's names.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tfvit.blocks import MLP, DropPath, LayerNorm
from tfvit.dense import channel_dense

LAYER_NORM_EPSILON = 1e-6


@keras.saving.register_keras_serializable(package="tfvit")
class Tokens(layers.Layer):
    """[B, H, W, 3] pixels -> [B, 1, 1 + H / patch_size * W / patch_size, embed_dim]: patches behind the class token, with positions added.

    The class token is a row of zeros plus a constant, not a concatenation: converters and delegates take an addition everywhere.
    """

    def __init__(self, patch_size: int, embed_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.patch_size = patch_size
        self.embed_dim = embed_dim

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.projection = layers.Conv2D(
            self.embed_dim, self.patch_size, strides=self.patch_size, padding="valid", name="projection", dtype=self.dtype_policy
        )
        self.projection.build(input_shape)
        small = keras.initializers.TruncatedNormal(stddev=0.02)
        tokens = self.compute_output_shape(input_shape)[2]
        self.class_token = self.add_weight(name="class_token", shape=(self.embed_dim,), initializer="zeros")
        self.positions = self.add_weight(name="positions", shape=(tokens, self.embed_dim), initializer=small)
        self.built = True

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        height, width = (side // self.patch_size for side in input_shape[1:3])
        return (input_shape[0], 1, 1 + height * width, self.embed_dim)

    def call(self, inputs: Any) -> Any:
        patches = self.projection(inputs)
        patches = ops.reshape(patches, (-1, 1, patches.shape[1] * patches.shape[2], self.embed_dim))
        tokens = ops.pad(patches, ((0, 0), (0, 0), (1, 0), (0, 0)))
        first = ops.expand_dims(self.class_token, 0)
        return ops.add(
            tokens, ops.reshape(ops.add(self.positions, ops.pad(first, ((0, patches.shape[2]), (0, 0)))), (1, 1, -1, self.embed_dim))
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "patch_size": self.patch_size, "embed_dim": self.embed_dim}


@keras.saving.register_keras_serializable(package="tfvit")
class Attention(layers.Layer):
    """Every token attends to all: [B, 1, T, C] -> [B, 1, T, C], nH heads of d = C / nH channels."""

    def __init__(self, num_heads: int, attention_dropout: float = 0.0, projection_dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.attention_dropout = attention_dropout
        self.projection_dropout = projection_dropout

    def build(self, input_shape: tuple[Any, ...]) -> None:
        channels = input_shape[-1]
        if channels % self.num_heads:
            raise ValueError(f"channels must be a multiple of num_heads. Received: channels={channels}, num_heads={self.num_heads}")
        self.query, self.key, self.value, self.projection = (
            channel_dense(channels, name, self.dtype_policy) for name in ("query", "key", "value", "projection")
        )
        for dense in (self.query, self.key, self.value, self.projection):
            dense.build((None, None, None, channels))
        self.drop_scores = layers.Dropout(self.attention_dropout, name="drop_scores", dtype=self.dtype_policy)
        self.drop_projection = layers.Dropout(self.projection_dropout, name="drop_projection", dtype=self.dtype_policy)
        self.built = True

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        tokens, channels = inputs.shape[2:]
        depth = channels // self.num_heads
        heads = (-1, tokens, self.num_heads, depth)
        query = ops.transpose(ops.reshape(ops.multiply(self.query(inputs), depth**-0.5), heads), (0, 2, 1, 3))
        key = ops.transpose(ops.reshape(self.key(inputs), heads), (0, 2, 3, 1))
        value = ops.transpose(ops.reshape(self.value(inputs), heads), (0, 2, 1, 3))
        weights = self.drop_scores(ops.softmax(ops.matmul(query, key), axis=-1), training=training)  # [B, nH, T, T]
        mixed = ops.reshape(ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3)), (-1, 1, tokens, channels))
        return self.drop_projection(self.projection(mixed), training=training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "attention_dropout": self.attention_dropout,
            "projection_dropout": self.projection_dropout,
        }


@keras.saving.register_keras_serializable(package="tfvit")
class PlainBlock(layers.Layer):
    """Attention and MLP, each behind a norm in a residual branch: [B, 1, T, C] -> [B, 1, T, C]."""

    def __init__(
        self,
        num_heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
        epsilon: float = LAYER_NORM_EPSILON,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.config = {
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "drop_path": drop_path,
            "epsilon": epsilon,
        }
        self.norm1 = LayerNorm(epsilon, name="norm1", dtype=self.dtype_policy)
        self.attention = Attention(num_heads, attention_dropout, dropout, name="attention", dtype=self.dtype_policy)
        self.norm2 = LayerNorm(epsilon, name="norm2", dtype=self.dtype_policy)
        self.mlp = MLP(mlp_ratio, dropout, name="mlp", dtype=self.dtype_policy)
        self.drop_path = DropPath(drop_path, name="drop_path", dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for layer in (self.norm1, self.attention, self.norm2, self.mlp):
            layer.build(input_shape)
        self.built = True

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    @property
    def residual_writers(self) -> tuple[keras.Variable, ...]:
        """The weights that scale what the branches add."""
        return self.attention.projection.kernel, self.mlp.fc2.kernel

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = ops.add(inputs, self.drop_path(self.attention(self.norm1(inputs), training=training), training=training))
        return ops.add(outputs, self.drop_path(self.mlp(self.norm2(outputs), training=training), training=training))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.config}


@keras.saving.register_keras_serializable(package="tfvit")
class ClassToken(layers.Layer):
    """[B, 1, T, C] -> [B, C]: the first token."""

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], input_shape[-1])

    def call(self, inputs: Any) -> Any:
        return ops.reshape(inputs[:, :, :1], (-1, inputs.shape[-1]))


def VisionTransformer(
    *,
    embed_dim: int,
    depth: int,
    num_heads: int,
    patch_size: int,
    input_shape: tuple[int, int, int],
    mlp_ratio: float = 4.0,
    epsilon: float = LAYER_NORM_EPSILON,
    drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "vision_transformer",
    dtype: Any = None,
) -> keras.Model:
    """A plain Vision Transformer (arXiv:2010.11929) with a classifier on its class token."""
    inputs = layers.Input(shape=input_shape, name="pixels")
    x = Tokens(patch_size, embed_dim, name="tokens", dtype=dtype)(inputs)
    if drop_rate:
        x = layers.Dropout(drop_rate, name="token_dropout", dtype=dtype)(x)
    for block, drop_path in enumerate(np.linspace(0.0, drop_path_rate, depth).tolist()):
        x = PlainBlock(num_heads, mlp_ratio, drop_rate, attn_drop_rate, drop_path, epsilon, name=f"block{block + 1}", dtype=dtype)(x)
    x = LayerNorm(epsilon, name="norm", dtype=dtype)(x)
    x = ClassToken(name="class_token", dtype=dtype)(x)
    initializer = keras.initializers.TruncatedNormal(stddev=0.02)
    x = layers.Dense(classes, kernel_initializer=initializer, name="head", dtype=dtype)(x)
    if classifier_activation is not None:
        x = layers.Activation(classifier_activation, name="predictions", dtype=dtype)(x)
    return keras.Model(inputs, x, name=name)
