"""The layers of plain Vision Transformers: tokens, attention, block, pooling. The models are in `tfvit.plain`.

[B, 1, T, C]: the unit axis keeps every tensor at rank 4, with the tokens where a windowed model has the tokens of a window.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from tfvit.blocks import MLP, DropPath, LayerNorm, PatchProjection
from tfvit.dense import channel_dense

LAYER_NORM_EPSILON = 1e-6


@keras.saving.register_keras_serializable(package="tfvit")
class Tokens(PatchProjection):
    """[B, H, W, 3] pixels -> [B, 1, T, embed_dim] tokens, with positions added.

    Class token and registers are rows of zeros plus a constant, not a concatenation: converters and delegates take an addition everywhere.

    Args:
        class_token: whether the first token belongs to no patch.
        registers: further such tokens behind it.
        class_position: whether the class token has a position of its own.
        resize_offset: how positions are resized when weights are loaded, see `tfvit.positions.resized`.

    Attributes:
        positions: [T or H * W, embed_dim], the class token's first where it has one. Registers have none.
    """

    def __init__(
        self,
        patch_size: int,
        embed_dim: int,
        class_token: bool = True,
        registers: int = 0,
        class_position: bool = True,
        resize_offset: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(patch_size, embed_dim, **kwargs)
        self.has_class_token = class_token
        self.num_registers = registers
        self.class_position = class_token and class_position
        self.resize_offset = resize_offset

    @property
    def prefix(self) -> int:
        """Tokens that belong to no patch."""
        return int(self.has_class_token) + self.num_registers

    @property
    def added(self) -> tuple[keras.Variable, ...]:
        """Everything that is added to patches and zeros: the class token, the registers, the positions."""
        return tuple(getattr(self, name) for name in ("class_token", "registers", "positions") if hasattr(self, name))

    def build(self, input_shape: tuple[Any, ...]) -> None:
        super().build(input_shape)
        self.grid = tuple(side // self.patch_size for side in input_shape[1:3])
        small = keras.initializers.TruncatedNormal(stddev=0.02)
        if self.has_class_token:
            self.class_token = self.add_weight(name="class_token", shape=(self.embed_dim,), initializer="zeros")
        if self.num_registers:
            self.registers = self.add_weight(name="registers", shape=(self.num_registers, self.embed_dim), initializer=small)
        rows = self.grid[0] * self.grid[1] + int(self.class_position)
        self.positions = self.add_weight(name="positions", shape=(rows, self.embed_dim), initializer=small)
        self.built = True

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        height, width = (side // self.patch_size for side in input_shape[1:3])
        return (input_shape[0], 1, self.prefix + height * width, self.embed_dim)

    def call(self, inputs: Any) -> Any:
        patches = self.project(inputs)
        patches = ops.reshape(patches, (-1, 1, patches.shape[1] * patches.shape[2], self.embed_dim))
        tokens = ops.pad(patches, ((0, 0), (0, 0), (self.prefix, 0), (0, 0))) if self.prefix else patches
        return ops.add(tokens, ops.reshape(self._added(), (1, 1, -1, self.embed_dim)))

    def _added(self) -> Any:
        """[T, embed_dim]: what is added to the patches and to the zeros in front of them."""
        if not self.has_class_token:
            return self.positions
        first, others = ops.expand_dims(self.class_token, 0), self.positions
        if self.class_position:
            first, others = ops.add(first, self.positions[:1]), self.positions[1:]
        return ops.concatenate([first, *([self.registers] if self.num_registers else []), others], axis=0)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "class_token": self.has_class_token,
            "registers": self.num_registers,
            "class_position": self.class_position,
            "resize_offset": self.resize_offset,
        }


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

    def call(self, inputs: Any, training: bool | None = None, asking: Any = None) -> Any:
        """`asking`: the tokens to compute, of the inputs; all by default."""
        asking = inputs if asking is None else asking
        channels = inputs.shape[-1]
        depth = channels // self.num_heads
        heads = (self.num_heads, depth)
        query = ops.reshape(ops.multiply(self.query(asking), depth**-0.5), (-1, asking.shape[2], *heads))
        key, value = (ops.reshape(dense(inputs), (-1, inputs.shape[2], *heads)) for dense in (self.key, self.value))
        scores = ops.matmul(ops.transpose(query, (0, 2, 1, 3)), ops.transpose(key, (0, 2, 3, 1)))  # [B, nH, asking, T]
        weights = self.drop_scores(ops.softmax(scores, axis=-1), training=training)
        mixed = ops.transpose(ops.matmul(weights, ops.transpose(value, (0, 2, 1, 3))), (0, 2, 1, 3))
        mixed = ops.reshape(mixed, (-1, 1, asking.shape[2], channels))
        return self.drop_projection(self.projection(mixed), training=training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "attention_dropout": self.attention_dropout,
            "projection_dropout": self.projection_dropout,
        }


@keras.saving.register_keras_serializable(package="tfvit")
class LayerScale(layers.Layer):
    """A factor for each channel of what a branch adds (arXiv:2103.17239).

    Attributes:
        scales: False leaves the factor out, for a graph whose last dense layer has taken it in (see `edge.export.rewrites`); not saved.
    """

    scales = True

    def __init__(self, initial: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, input_shape: tuple[Any, ...]) -> None:
        self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.initial))
        self.built = True

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def call(self, inputs: Any) -> Any:
        return ops.multiply(inputs, self.gamma) if self.scales else inputs

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial": self.initial}


@keras.saving.register_keras_serializable(package="tfvit")
class PlainBlock(layers.Layer):
    """Attention and MLP, each behind a norm in a residual branch: [B, 1, T, C] -> [B, 1, T, C].

    Args:
        num_heads, attention_dropout: of the attention.
        mlp_ratio: hidden units of the MLP over its channels.
        dropout: rate after the projections and in the MLP.
        drop_path: rate of dropping a residual branch in training.
        epsilon: of the norms.
        layer_scale: None, or the initial value of a factor for each channel of each branch.
        gelu: of the MLP, one of `tfvit.blocks.GELUS`.

    Attributes:
        keeps: None, or how many of the first tokens the block gives, for a graph that reads no others (see `edge.export.rewrites`); not
            saved.
    """

    keeps: int | None = None

    def __init__(
        self,
        num_heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
        epsilon: float = LAYER_NORM_EPSILON,
        layer_scale: float | None = None,
        gelu: str = "exact",
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
            "layer_scale": layer_scale,
            "gelu": gelu,
        }
        self.norm1 = LayerNorm(epsilon, name="norm1", dtype=self.dtype_policy)
        self.attention = Attention(num_heads, attention_dropout, dropout, name="attention", dtype=self.dtype_policy)
        self.norm2 = LayerNorm(epsilon, name="norm2", dtype=self.dtype_policy)
        self.mlp = MLP(mlp_ratio, dropout, gelu, name="mlp", dtype=self.dtype_policy)
        self.scale1, self.scale2 = (
            None if layer_scale is None else LayerScale(layer_scale, name=name, dtype=self.dtype_policy) for name in ("scale1", "scale2")
        )
        self.drop_path = DropPath(drop_path, name="drop_path", dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for layer in (self.norm1, self.attention, self.norm2, self.mlp, self.scale1, self.scale2):
            if layer is not None:
                layer.build(input_shape)
        self.built = True

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    @property
    def residual_writers(self) -> tuple[keras.Variable, ...]:
        """The weights that scale what the branches add."""
        return self.attention.projection.kernel, self.mlp.fc2.kernel

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs, normed, asking = inputs, self.norm1(inputs), None
        if self.keeps is not None:
            outputs, asking = inputs[:, :, : self.keeps], normed[:, :, : self.keeps]
        outputs = self._added(outputs, self.attention(normed, training=training, asking=asking), self.scale1, training)
        return self._added(outputs, self.mlp(self.norm2(outputs), training=training), self.scale2, training)

    def _added(self, inputs: Any, change: Any, scale: LayerScale | None, training: bool | None) -> Any:
        return ops.add(inputs, self.drop_path(change if scale is None else scale(change), training=training))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.config}


@keras.saving.register_keras_serializable(package="tfvit")
class TokenPooling(layers.Layer):
    """[B, 1, T, C] -> [B, C], or [B, 2 * C] where two are put side by side.

    Args:
        pooling: "token", "avg", "max", "token_avg" or "token_register", see `VisionTransformer`.
        prefix: tokens in front of the patches.
    """

    def __init__(self, pooling: str, prefix: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pooling = pooling
        self.prefix = prefix

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return (input_shape[0], input_shape[-1] * (2 if self.pooling.startswith("token_") else 1))

    def call(self, inputs: Any) -> Any:
        if self.pooling == "token_register":
            return ops.reshape(inputs[:, :, :2], (-1, 2 * inputs.shape[-1]))
        if self.pooling == "max":
            return ops.max(self._patches(inputs), axis=(1, 2))
        if self.pooling == "avg":
            return ops.mean(self._patches(inputs), axis=(1, 2))
        token = ops.reshape(inputs[:, :, :1], (-1, inputs.shape[-1]))
        return token if self.pooling == "token" else ops.concatenate([token, ops.mean(self._patches(inputs), axis=(1, 2))], axis=-1)

    def _patches(self, inputs: Any) -> Any:
        return inputs[:, :, self.prefix :] if self.prefix else inputs

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pooling": self.pooling, "prefix": self.prefix}


@keras.saving.register_keras_serializable(package="tfvit")
class PatchGrid(layers.Layer):
    """[B, 1, T, C] -> [B, height, width, C]: the patches where they were in the image."""

    def __init__(self, height: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.height = height
        self.width = width

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], self.height, self.width, input_shape[-1])

    def call(self, inputs: Any) -> Any:
        prefix = inputs.shape[2] - self.height * self.width
        return ops.reshape(inputs[:, :, prefix:], (-1, self.height, self.width, inputs.shape[-1]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "height": self.height, "width": self.width}
