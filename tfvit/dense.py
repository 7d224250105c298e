"""The dense layer of every block: over the channels of a rank-4 tensor."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


def channel_dense(units: int, name: str, dtype: Any, use_bias: bool = True) -> layers.EinsumDense:
    """[B, H, W, C] -> [B, H, W, units].

    An einsum and not `keras.layers.Dense`: converters make it one FULLY_CONNECTED on the rank-4 tensor, where Dense's tensordot flattens
    the tokens to rank 2.
    """
    return layers.EinsumDense(
        "bhwc,cd->bhwd",
        output_shape=(None, None, units),
        bias_axes="d" if use_bias else None,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        name=name,
        dtype=dtype,
    )
