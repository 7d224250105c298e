"""A `.weights.h5` for a small model."""

import functools

from fuzz.target import file


@functools.cache
def model():
    from tfvit.model import ViTTransformer

    return ViTTransformer(
        version=1, embed_dim=8, depths=(1,), num_heads=(1,), window_size=4, input_shape=(16, 16, 3), classes=3, classifier_activation=None
    )


def read(data: bytes) -> None:
    from tfvit.weights import checkpoint_classes, load_weights

    path = file("weights_h5/checkpoint.weights.h5", data)
    checkpoint_classes(path)
    load_weights(model(), path)
