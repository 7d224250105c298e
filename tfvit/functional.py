"""What every functional model of both families begins and ends with."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


def image_input(input_tensor: Any, input_shape: tuple[int | None, ...] | None, smallest: int) -> Any:
    """The Keras tensor a model is built on: the one given, or a new input of [height, width, 3] pixels.

    Raises:
        ValueError: not channels last RGB, a side below `smallest`, or both arguments and they disagree.
    """
    if input_tensor is not None:
        shape, inputs = tuple(input_tensor.shape[1:]), input_tensor
        if input_shape is not None and tuple(input_shape) != shape:
            raise ValueError(f"input_shape and input_tensor disagree. Received: input_shape={input_shape}, input_tensor.shape={shape}")
    else:
        shape = tuple(input_shape) if input_shape is not None else ()
        inputs = None
    if len(shape) != 3 or shape[-1] != 3 or any(side is not None and side < smallest for side in shape[:2]):
        raise ValueError(
            f"input_shape must be (height, width, 3) with sides of at least {smallest} px, channels last. Received: input_shape={shape}"
        )
    return layers.Input(shape=shape, name="pixels") if inputs is None else inputs


def classifier(features: Any, classes: int, activation: str | None, dtype: Any) -> Any:
    """[B, C] -> [B, classes]: the dense layer `head`, and the activation `predictions` where there is one."""
    initializer = keras.initializers.TruncatedNormal(stddev=0.02)
    scores = layers.Dense(classes, kernel_initializer=initializer, name="head", dtype=dtype)(features)
    return scores if activation is None else layers.Activation(activation, name="predictions", dtype=dtype)(scores)


def functional_model(inputs: Any, outputs: Any, name: str) -> keras.Model:
    """The model from the sources of `inputs`, which may be a tensor somebody built on, to `outputs`."""
    sources = keras.utils.get_source_inputs(inputs)
    return keras.Model(sources[0] if len(sources) == 1 else sources, outputs, name=name)
