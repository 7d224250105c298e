"""Patch embedding, normalisation, MLP, the transformer block and patch merging, on [B, H, W, C] grids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from tfvit.attention import CosineWindowAttention, WindowAttention
from tfvit.dense import channel_dense
from tfvit.graph_constants import MASKED
from tfvit.windows import pad_bottom_right

LAYER_NORM_EPSILON = 1.001e-5


@keras.saving.register_keras_serializable(package="tfvit")
class LayerNorm(layers.Layer):
    """Layer normalisation over the channels, computed in float32 also where the dtype policy is narrower. [..., C] -> [..., C].

    Args:
        epsilon: added to the variance.

    Attributes:
        scales_and_shifts: False leaves gamma and beta out, for a graph whose next layer has taken them in.
        subtracts_mean: False for inputs that have no mean over the channels.
            Both are for exporting (see `edge.export.rewrites`) and are not saved.
    """

    scales_and_shifts = True
    subtracts_mean = True

    def __init__(self, epsilon: float = LAYER_NORM_EPSILON, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=(input_shape[-1],), initializer="zeros", autocast=False)
        self.built = True

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def call(self, inputs: Any) -> Any:
        centred = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        if self.subtracts_mean:
            centred = ops.subtract(centred, ops.mean(centred, axis=-1, keepdims=True))
        variance = ops.mean(ops.multiply(centred, centred), axis=-1, keepdims=True)
        normalized = ops.multiply(centred, ops.rsqrt(ops.add(variance, self.epsilon)))
        if self.scales_and_shifts:
            normalized = ops.add(ops.multiply(normalized, self.gamma), self.beta)
        return ops.cast(normalized, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="tfvit")
class DropPath(layers.Layer):
    """Stochastic depth (arXiv:1603.09382): in training, drops whole samples of a residual branch with probability `rate`."""

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"rate must be in [0, 1). Received: rate={rate}")
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training or not self.rate:
            return inputs
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        kept = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator) >= self.rate
        return ops.multiply(inputs, ops.cast(kept, inputs.dtype) / (1.0 - self.rate))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


class PatchProjection(layers.Layer):
    """What every model of both families reads its pixels with: the convolution `projection`, one step a patch.

    Attributes:
        expects: of the model's images, as `tfvit.preprocessing.attach` wrote it; None where nobody did. Nothing here computes with it.
        by_rows: patches are put together from their rows and the convolution computed as a dense layer. For exporting to compilers that
            pay for its stride.
    """

    def __init__(self, patch_size: int, embed_dim: int, expects: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.expects = expects
        self.by_rows = False
        self.patch_size = patch_size
        self.embed_dim = embed_dim

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.projection = layers.Conv2D(
            self.embed_dim, self.patch_size, strides=self.patch_size, padding="valid", name="projection", dtype=self.dtype_policy
        )
        self.projection.build(input_shape)

    def project(self, pixels: Any) -> Any:
        """[B, H, W, 3] pixels of whole patches -> [B, H / patch_size, W / patch_size, embed_dim]."""
        if not self.by_rows:
            return self.projection(pixels)
        side, (height, width, colors) = self.patch_size, pixels.shape[1:]
        rows = ops.reshape(pixels, (-1, height // side, side, width * colors))
        patches = [ops.reshape(rows[:, :, row : row + 1], (-1, height // side, width // side, side * colors)) for row in range(side)]
        with keras.name_scope(self.projection.name):
            kernel = ops.reshape(self.projection.kernel, (side * side * colors, self.embed_dim))
            return ops.add(ops.einsum("bhwc,cd->bhwd", ops.concatenate(patches, axis=-1), kernel), self.projection.bias)

    def get_config(self) -> dict[str, Any]:
        written = {"expects": dict(self.expects)} if self.expects else {}
        return {**super().get_config(), "patch_size": self.patch_size, "embed_dim": self.embed_dim, **written}


@keras.saving.register_keras_serializable(package="tfvit")
class PatchEmbedding(PatchProjection):
    """[B, H, W, 3] pixels -> [B, H / patch_size, W / patch_size, embed_dim]: a strided convolution and a layer norm."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        super().build(input_shape)
        self.norm = LayerNorm(name="norm", dtype=self.dtype_policy)
        self.norm.build((None, None, None, self.embed_dim))
        self.built = True

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], *(side and -(-side // self.patch_size) for side in input_shape[1:3]), self.embed_dim)

    def call(self, inputs: Any) -> Any:
        return self.norm(self.project(_pad_to_multiple(inputs, self.patch_size)))


# x * P(x) of the normal distribution; the tanh formula of the original JAX code; x * sigmoid(1.702 x), as OpenAI's CLIP computes it
GELUS: dict[str, Callable[[Any], Any]] = {
    "exact": lambda x: ops.gelu(x, approximate=False),
    "tanh": lambda x: ops.gelu(x, approximate=True),
    "quick": lambda x: ops.multiply(x, ops.sigmoid(ops.multiply(x, 1.702))),
}


@keras.saving.register_keras_serializable(package="tfvit")
class MLP(layers.Layer):
    """[B, H, W, C] -> [B, H, W, C] through one hidden layer of mlp_ratio * C units and one of `GELUS`."""

    def __init__(self, mlp_ratio: float = 4.0, dropout: float = 0.0, gelu: str = "exact", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if gelu not in GELUS:
            raise ValueError(f"gelu must be among {', '.join(map(repr, GELUS))}. Received: gelu={gelu!r}")
        self.mlp_ratio = mlp_ratio
        self.dropout = dropout
        self.gelu = gelu

    def build(self, input_shape: tuple[Any, ...]) -> None:
        channels = input_shape[-1]
        hidden = int(channels * self.mlp_ratio)
        self.fc1 = channel_dense(hidden, "fc1", self.dtype_policy)
        self.fc2 = channel_dense(channels, "fc2", self.dtype_policy)
        self.drop = layers.Dropout(self.dropout, name="drop", dtype=self.dtype_policy)
        self.fc1.build((None, None, None, channels))
        self.fc2.build((None, None, None, hidden))
        self.built = True

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        hidden = self.drop(GELUS[self.gelu](self.fc1(inputs)), training=training)
        return self.drop(self.fc2(hidden), training=training)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mlp_ratio": self.mlp_ratio, "dropout": self.dropout, "gelu": self.gelu}


@keras.saving.register_keras_serializable(package="tfvit")
class Block(layers.Layer):
    """One transformer block: attention and MLP, each in a residual branch. [B, H, W, C] -> [B, H, W, C].

    V1 normalises what enters a branch (pre-norm), V2 what leaves it (res-post-norm).

    Args:
        version: 1 or 2.
        num_heads, window_size, shifted, qkv_bias, attention_dropout: of the attention.
        mlp_ratio: hidden units of the MLP over its channels.
        dropout: rate after the projections and in the MLP.
        drop_path: rate of dropping a residual branch in training.
        pretrained_window_size: V2 only, see `CosineWindowAttention`.
        padding: of the attention.
    """

    def __init__(
        self,
        version: int,
        num_heads: int,
        window_size: int,
        shifted: bool = False,
        qkv_bias: bool = True,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
        pretrained_window_size: int = 0,
        padding: str = MASKED,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.config = {
            "version": version,
            "num_heads": num_heads,
            "window_size": window_size,
            "shifted": shifted,
            "qkv_bias": qkv_bias,
            "mlp_ratio": mlp_ratio,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "drop_path": drop_path,
            "pretrained_window_size": pretrained_window_size,
            "padding": padding,
        }
        shared = {
            "num_heads": num_heads,
            "window_size": window_size,
            "shifted": shifted,
            "qkv_bias": qkv_bias,
            "attention_dropout": attention_dropout,
            "projection_dropout": dropout,
            "padding": padding,
            "name": "attention",
            "dtype": self.dtype_policy,
        }
        self.post_norm = version == 2
        if self.post_norm:
            self.attention = CosineWindowAttention(pretrained_window_size=pretrained_window_size, **shared)
        else:
            self.attention = WindowAttention(**shared)
        self.norm1 = LayerNorm(name="norm1", dtype=self.dtype_policy)
        self.mlp = MLP(mlp_ratio, dropout, name="mlp", dtype=self.dtype_policy)
        self.norm2 = LayerNorm(name="norm2", dtype=self.dtype_policy)
        self.drop_path = DropPath(drop_path, name="drop_path", dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for layer in (self.norm1, self.attention, self.norm2, self.mlp):
            layer.build(input_shape)
        self.built = True

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    @property
    def residual_writers(self) -> tuple[keras.Variable, ...]:
        """The weights that scale what the branches add: V1's last dense kernels, V2's norms."""
        if self.post_norm:
            return self.norm1.gamma, self.norm2.gamma
        return self.attention.projection.kernel, self.mlp.fc2.kernel

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = inputs
        for norm, branch in ((self.norm1, self.attention), (self.norm2, self.mlp)):
            change = norm(branch(outputs, training=training)) if self.post_norm else branch(norm(outputs), training=training)
            outputs = ops.add(outputs, self.drop_path(change, training=training))
        return outputs

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.config}


@keras.saving.register_keras_serializable(package="tfvit")
class PatchMerging(layers.Layer):
    """Halves the grid and doubles the channels: [B, H, W, C] -> [B, H / 2, W / 2, 2 * C].

    The 2 x 2 neighbours are brought together by one 4-D transpose, in the order (0,0), (0,1), (1,0), (1,1). The original concatenates
    (0,0), (1,0), (0,1), (1,1): its norm and reduction weights are permuted once, when they are loaded (see `tfvit.weights`).

    Args:
        post_norm: False (V1) normalises before the reduction, over 4 * C channels; True (V2) after it, over 2 * C.

    Attributes:
        shift: [2 * C] added to the reduction, None for nothing: the norm's beta, for exporting (see `edge.export.rewrites`); not saved.
    """

    shift: Any = None

    def __init__(self, post_norm: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.post_norm = post_norm

    def build(self, input_shape: tuple[Any, ...]) -> None:
        channels = input_shape[-1]
        self.reduction = channel_dense(2 * channels, "reduction", self.dtype_policy, use_bias=False)
        self.reduction.build((None, None, None, 4 * channels))
        self.norm = LayerNorm(name="norm", dtype=self.dtype_policy)
        self.norm.build((None, None, None, (2 if self.post_norm else 4) * channels))
        self.built = True

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return (input_shape[0], *(side and -(-side // 2) for side in input_shape[1:3]), 2 * input_shape[-1])

    def call(self, inputs: Any) -> Any:
        inputs = _pad_to_multiple(inputs, 2)
        (height, width), channels = ops.shape(inputs)[1:3], inputs.shape[-1]
        rows = ops.reshape(inputs, (-1, 2, width // 2, 2 * channels))
        merged = ops.reshape(ops.transpose(rows, (0, 2, 1, 3)), (-1, height // 2, width // 2, 4 * channels))
        if self.post_norm:
            return self.norm(self.reduction(merged))
        reduced = self.reduction(self.norm(merged))
        return reduced if self.shift is None else ops.add(reduced, self.shift)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "post_norm": self.post_norm}


def _pad_to_multiple(grid: Any, multiple: int) -> Any:
    height, width = ((side + multiple - 1) // multiple * multiple for side in ops.shape(grid)[1:3])
    return pad_bottom_right(grid, height, width)
