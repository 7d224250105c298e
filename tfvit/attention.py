"""Window attention, V1 and V2.

V1 (arXiv:2103.14030): scaled dot product plus a learned table of relative position biases.
V2 (arXiv:2111.09883): scaled cosine plus a bias that a small MLP makes of log-spaced relative coordinates.

Both take and return the [B, H, W, C] grid and do their own padding, shifting and partitioning. nH heads of d = C / nH channels.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tfvit import windows
from tfvit.dense import channel_dense
from tfvit.graph_constants import MASK, MASKED, PADDINGS, POSITION_BIAS
from tfvit.windows import WindowPlan

Substitute = Callable[[str, Callable[[], Any]], Any]

# V2: the logit scale may not exceed 1 / 0.01
MAX_LOGIT_SCALE = math.log(1.0 / 0.01)
# V2: hidden units of the continuous position bias MLP
CPB_HIDDEN = 512
# V2: floor of the squared norm that q and k are divided by
SQUARED_NORM_FLOOR = 1e-12


class _WindowAttention(layers.Layer):
    """What V1 and V2 share: windows, heads, the position bias and the mask added to the scores, the output projection.

    Args:
        num_heads: nH; must divide the channels.
        window_size: nominal side of a window; it shrinks to a smaller grid.
        shifted: whether the grid is shifted by half a window first (where it is larger than the window).
        qkv_bias: whether query, key and value have biases (V2 never has one on the key).
        attention_dropout, projection_dropout: rates in training.
        padding: what the zeros do that fill up the last windows, one of `tfvit.graph_constants.PADDINGS`.

    Attributes:
        heads_first: of several windows, all windows of a head stand together, not all heads of a window: heads come apart and together by
            slices and concatenations in place of transposes. For exporting to compilers that pay for the latter.
    """

    key_bias = True

    def __init__(
        self,
        num_heads: int,
        window_size: int,
        shifted: bool = False,
        qkv_bias: bool = True,
        attention_dropout: float = 0.0,
        projection_dropout: float = 0.0,
        padding: str = MASKED,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if padding not in PADDINGS:
            raise ValueError(f"padding must be one of {PADDINGS}. Received: padding={padding!r}")
        self.padding = padding
        self.num_heads = num_heads
        self.window_size = window_size
        self.shifted = shifted
        self.qkv_bias = qkv_bias
        self.attention_dropout = attention_dropout
        self.projection_dropout = projection_dropout
        self.substitute: Substitute | None = None
        self.heads_first = False

    def build(self, input_shape: tuple[Any, ...]) -> None:
        channels = input_shape[-1]
        if channels % self.num_heads:
            raise ValueError(f"channels must be a multiple of num_heads. Received: channels={channels}, num_heads={self.num_heads}")
        tokens_shape = (None, None, None, channels)
        self.query = channel_dense(channels, "query", self.dtype_policy, self.qkv_bias)
        self.key = channel_dense(channels, "key", self.dtype_policy, self.qkv_bias and self.key_bias)
        self.value = channel_dense(channels, "value", self.dtype_policy, self.qkv_bias)
        self.projection = channel_dense(channels, "projection", self.dtype_policy)
        for dense in (self.query, self.key, self.value, self.projection):
            dense.build(tokens_shape)
        self.drop_scores = layers.Dropout(self.attention_dropout, name="drop_scores", dtype=self.dtype_policy)
        self.drop_projection = layers.Dropout(self.projection_dropout, name="drop_projection", dtype=self.dtype_policy)
        self._build_position_bias()
        self.built = True

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        height, width = ops.shape(inputs)[1:3]
        plan = windows.plan_windows(height, width, self.window_size, self.shifted, self.padding)
        tokens = self.projection(self._attend(windows.enter(inputs, plan), plan, training))
        return windows.leave(self.drop_projection(tokens, training=training), plan)

    def _attend(self, tokens: Any, plan: WindowPlan, training: bool | None) -> Any:
        """[B, nW, N, C] -> [B, nW, N, C]."""
        num_maps = plan.num_windows * self.num_heads
        query, key, value = self._heads(tokens, plan)
        scores = ops.matmul(query, key)  # [B, nW * nH, N, N]
        # The bias is the same for every window and the mask for every head: two additions of small constants, where one fused constant
        # would be [nW * nH, N, N] in every block.
        scores = ops.reshape(scores, (-1, *self._maps(plan, plan.num_windows, self.num_heads), plan.tokens * plan.tokens))
        scores = ops.add(scores, self._bias(plan))
        if plan.needs_mask:
            scores = ops.add(scores, self._mask(plan))
        scores = ops.reshape(scores, (-1, num_maps, plan.tokens, plan.tokens))
        weights = self.drop_scores(ops.softmax(scores, axis=-1), training=training)
        return self._joined(ops.matmul(weights, value), plan)

    def _puts_heads_first(self, plan: WindowPlan) -> bool:
        return self.heads_first and plan.is_static and plan.num_windows > 1

    def _maps(self, plan: WindowPlan, of_windows: Any, of_heads: Any) -> tuple[Any, Any]:
        """Two axes, of windows and of heads, in the order in which the maps of token pairs stand."""
        return (of_heads, of_windows) if self._puts_heads_first(plan) else (of_windows, of_heads)

    def _joined(self, heads: Any, plan: WindowPlan) -> Any:
        """[B, nW * nH, N, d] -> [B, nW, N, C]."""
        depth, number = heads.shape[-1], plan.num_windows
        if self._puts_heads_first(plan):
            return ops.concatenate([heads[:, first : first + number] for first in range(0, self.num_heads * number, number)], axis=-1)
        heads = ops.reshape(heads, (-1, self.num_heads, plan.tokens, depth))
        return ops.reshape(ops.transpose(heads, (0, 2, 1, 3)), (-1, number, plan.tokens, depth * self.num_heads))

    def _split_heads(self, tokens: Any, plan: WindowPlan, perm: tuple[int, ...]) -> Any:
        """[B, nW, N, C] -> [B, nW * nH, N, d], or [B, nW * nH, d, N] for perm (0, 2, 3, 1)."""
        channels = tokens.shape[-1]
        depth = channels // self.num_heads
        if self._puts_heads_first(plan):
            tokens = ops.concatenate([tokens[..., first : first + depth] for first in range(0, channels, depth)], axis=1)
            if perm == (0, 2, 1, 3):
                return tokens
            # of rank 4 with an axis of 1: the converter would take a transpose of the last two into the product, which the GPU refuses
            columns = ops.transpose(ops.reshape(tokens, (-1, plan.tokens, 1, depth)), (0, 2, 3, 1))
            return ops.reshape(columns, (-1, plan.num_windows * self.num_heads, depth, plan.tokens))
        heads = ops.transpose(ops.reshape(tokens, (-1, plan.tokens, self.num_heads, depth)), perm)
        matrix = (plan.tokens, depth) if perm == (0, 2, 1, 3) else (depth, plan.tokens)
        return ops.reshape(heads, (-1, plan.num_windows * self.num_heads, *matrix))

    def _bias(self, plan: WindowPlan) -> Any:
        """The position bias as [1, 1, nH, N * N], or [1, nH, 1, N * N] where heads come first."""

        def compute() -> Any:
            return ops.reshape(self.position_bias(plan.window), (1, *self._maps(plan, 1, self.num_heads), plan.tokens * plan.tokens))

        name = f"{POSITION_BIAS}{self.path} {plan.window[0]}x{plan.window[1]}"
        bias = self.substitute(name, compute) if self.substitute else compute()
        return ops.cast(bias, self.compute_dtype)

    def _mask(self, plan: WindowPlan) -> Any:
        """The mask of every window as [1, nW, 1, N * N], or [1, 1, nW, N * N] where heads come first."""

        def compute() -> Any:
            shape = (1, *self._maps(plan, plan.num_windows, 1), plan.tokens * plan.tokens)
            mask = windows.attention_mask(plan)
            return np.reshape(mask, shape) if plan.is_static else ops.reshape(mask, shape)

        mask = self.substitute(f"{MASK}{plan}", compute) if self.substitute else compute()
        return ops.cast(mask, self.compute_dtype)

    def position_bias(self, window: tuple[int, int]) -> Any:
        """The bias added to the scores of a window: [nH, N, N]."""
        raise NotImplementedError

    def _gather_bias(self, table: Any, window: tuple[int, int], table_window: tuple[int, int]) -> Any:
        """[rows, nH] table -> [nH, N, N]."""
        tokens = window[0] * window[1]
        rows = ops.take(table, windows.relative_position_index(window, table_window), axis=0)
        return ops.reshape(ops.transpose(rows, (1, 0)), (self.num_heads, tokens, tokens))

    def _build_position_bias(self) -> None:
        raise NotImplementedError

    def _heads(self, tokens: Any, plan: WindowPlan) -> tuple[Any, Any, Any]:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "window_size": self.window_size,
            "shifted": self.shifted,
            "qkv_bias": self.qkv_bias,
            "attention_dropout": self.attention_dropout,
            "projection_dropout": self.projection_dropout,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable(package="tfvit")
class WindowAttention(_WindowAttention):
    """V1: scaled dot-product window attention with a relative position bias table.

    Source: microsoft/Swin-Transformer, models/swin_transformer.py, WindowAttention.
    """

    def _build_position_bias(self) -> None:
        self.relative_position_bias_table = self.add_weight(
            name="relative_position_bias_table",
            shape=((2 * self.window_size - 1) ** 2, self.num_heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def position_bias(self, window: tuple[int, int]) -> Any:
        return self._gather_bias(self.relative_position_bias_table, window, (self.window_size, self.window_size))

    def _heads(self, tokens: Any, plan: WindowPlan) -> tuple[Any, Any, Any]:
        scale = (tokens.shape[-1] // self.num_heads) ** -0.5
        query = self._split_heads(ops.multiply(self.query(tokens), scale), plan, (0, 2, 1, 3))
        key = self._split_heads(self.key(tokens), plan, (0, 2, 3, 1))
        return query, key, self._split_heads(self.value(tokens), plan, (0, 2, 1, 3))


@keras.saving.register_keras_serializable(package="tfvit")
class CosineWindowAttention(_WindowAttention):
    """V2: scaled cosine window attention with a log-spaced continuous position bias.

    Source: microsoft/Swin-Transformer, models/swin_transformer_v2.py, WindowAttention.

    Args:
        pretrained_window_size: the window this layer's bias MLP was trained with; 0 for the window in use.
    """

    key_bias = False

    def __init__(self, num_heads: int, window_size: int, pretrained_window_size: int = 0, **kwargs: Any) -> None:
        super().__init__(num_heads, window_size, **kwargs)
        self.pretrained_window_size = pretrained_window_size

    def _build_position_bias(self) -> None:
        self.logit_scale = self.add_weight(
            name="logit_scale", shape=(self.num_heads, 1), initializer=keras.initializers.Constant(math.log(10.0))
        )
        self.cpb_fc1 = layers.Dense(CPB_HIDDEN, activation="relu", name="cpb_fc1", dtype=self.dtype_policy)
        self.cpb_fc2 = layers.Dense(self.num_heads, use_bias=False, name="cpb_fc2", dtype=self.dtype_policy)
        self.cpb_fc1.build((None, 2))
        self.cpb_fc2.build((None, CPB_HIDDEN))

    def position_bias(self, window: tuple[int, int]) -> Any:
        coordinates = windows.log_spaced_coordinates(window, self.pretrained_window_size)
        table = self.cpb_fc2(self.cpb_fc1(ops.convert_to_tensor(coordinates)))
        return 16.0 * ops.sigmoid(self._gather_bias(table, window, window))

    def _heads(self, tokens: Any, plan: WindowPlan) -> tuple[Any, Any, Any]:
        scale = ops.cast(ops.exp(ops.minimum(self.logit_scale, MAX_LOGIT_SCALE)), self.compute_dtype)
        query = self._unit_heads(self.query(tokens), plan, scale)
        key = self._unit_heads(self.key(tokens), plan, None)
        value = self._split_heads(self.value(tokens), plan, (0, 2, 1, 3))
        return self._split_heads(query, plan, (0, 2, 1, 3)), self._split_heads(key, plan, (0, 2, 3, 1)), value

    def _unit_heads(self, tokens: Any, plan: WindowPlan, scale: Any) -> Any:
        """[B, nW, N, C] with every head's d channels scaled to unit length, times `scale` [nH, 1]."""
        channels = tokens.shape[-1]
        heads = ops.reshape(tokens, (-1, plan.num_windows * plan.tokens, self.num_heads, channels // self.num_heads))
        # x * x, not square(x): converters would fuse the latter into L2_NORMALIZATION, which no delegate takes
        wide = ops.cast(heads, keras.backend.result_type(heads.dtype, "float32"))
        squared_norm = ops.sum(ops.multiply(wide, wide), axis=-1, keepdims=True)
        factor = ops.cast(ops.rsqrt(ops.maximum(squared_norm, SQUARED_NORM_FLOOR)), heads.dtype)
        if scale is not None:
            factor = ops.multiply(factor, scale)
        return ops.reshape(ops.multiply(heads, factor), (-1, plan.num_windows, plan.tokens, channels))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pretrained_window_size": self.pretrained_window_size}


@contextlib.contextmanager
def substituted_constants(model: keras.Model, substitute: Substitute) -> Iterator[None]:
    """While it lasts, every attention layer of `model` takes its position bias and mask from `substitute(name, compute)`.

    For exporting: both depend on nothing but weights and shapes, and are large. The name is equal where the value is, and only there: two
    layers of one path (two backbones in one model), and one layer on grids of two sizes, have names of their own. A layer that is used
    twice on grids of one size has one. `compute()` gives the value itself.
    """
    attentions = list({id(layer): layer for layer in model._flatten_layers() if isinstance(layer, _WindowAttention)}.values())
    met: dict[str, int] = {}
    for layer in attentions:
        number = met[layer.path] = met.get(layer.path, 0) + 1
        layer.substitute = _told_apart(substitute, layer.path, number)
    try:
        yield
    finally:
        for layer in attentions:
            layer.substitute = None


def _told_apart(substitute: Substitute, path: str, number: int) -> Substitute:
    """The same for one layer, `number`th of its path. What is known of its own path is renamed; masks go by their shape and stay."""
    windows_met: list[str] = []

    def renamed(name: str, compute: Callable[[], Any]) -> Any:
        if not name.startswith(f"{POSITION_BIAS}{path} "):
            return substitute(name, compute)
        plain, _, window = name.rpartition(" ")
        if window not in windows_met:
            windows_met.append(window)
        own = f"{plain}{f' #{number}' if number > 1 else ''}{f' {window}' if window != windows_met[0] else ''}"
        return substitute(own, compute)

    return renamed
