"""`preprocess_input`, registered with Keras so that a model saved with `Lambda(preprocess_input)` loads again."""

from __future__ import annotations

from typing import Any

import keras

from tfvit.preprocessing import Preprocessing, normalize

_IMAGENET = Preprocessing.for_image_size(224)


@keras.saving.register_keras_serializable(package="tfvit")
def preprocess_input(inputs: Any) -> Any:
    """RGB pixels 0..255 to what the models take: ImageNet mean subtracted, divided by the standard deviation.

    Args:
        inputs: [..., 3] uint8 or any float, a NumPy array or a backend tensor; usable inside a `Lambda` layer.

    Returns:
        The same shape; floats keep their dtype, integers become the default float type.

    Raises:
        ValueError: the last axis is not RGB.
    """
    if inputs.shape[-1] != 3:
        raise ValueError(f"inputs must have 3 channels (RGB) on the last axis. Received: shape={tuple(inputs.shape)}")
    return normalize(inputs, _IMAGENET)
