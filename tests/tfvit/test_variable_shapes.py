"""Height and width of None: the same numbers as the fixed-size model, gradients, sizes that are no multiple of anything."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfvit.model import ViTTransformer
from tfvit.weights import randomize

TINY = {"embed_dim": 16, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4, "classes": 5, "classifier_activation": None}
# the same operations on the same numbers; only constants are computed on another way
RELATIVE_TOLERANCE = 1e-5
SIZES = [
    (48, 80),
    (33, 47),
    *(pytest.param(*size, marks=pytest.mark.slow) for size in [(64, 64), (64, 96), (16, 16), (8, 8), (130, 100), (112, 32)]),
]


@pytest.fixture(scope="module", params=[1, 2], ids=["v1", "v2"])
def flexible(request):
    model = ViTTransformer(**TINY, version=request.param, input_shape=(None, None, 3))
    randomize(model, 0)
    # one trace for all sizes: height and width are tensors in it
    traced = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 3))])
    return request.param, model, traced


def _pixels(height, width):
    return np.random.default_rng(0).normal(size=(2, height, width, 3)).astype("float32")


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_equals_the_fixed_size_model(flexible, height, width):
    version, model, traced = flexible
    fixed = ViTTransformer(**TINY, version=version, input_shape=(height, width, 3))
    fixed.set_weights(model.get_weights())
    expected = keras.ops.convert_to_numpy(fixed(_pixels(height, width)))
    for name, output in (("eager", model(_pixels(height, width))), ("traced", traced(_pixels(height, width)))):
        difference = np.abs(output - expected).max() / np.abs(expected).max()
        print(f"v{version} {height} x {width} {name}: max abs difference {difference:.1e} of scale")
        assert difference <= RELATIVE_TOLERANCE


@pytest.mark.slow
def test_gradients_flow_to_every_weight(flexible):
    _, model, _ = flexible

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def gradients(pixels):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(pixels, training=True)))
        return [tf.convert_to_tensor(g) for g in tape.gradient(loss, [weight.value for weight in model.trainable_weights])]

    largest = np.zeros(len(model.trainable_weights))
    for _ in range(10):  # stochastic depth leaves a branch out now and then, with its weights
        computed = [np.asarray(gradient) for gradient in gradients(_pixels(48, 80))]
        assert all(np.isfinite(gradient).all() for gradient in computed)
        largest = np.maximum(largest, [np.abs(gradient).max() for gradient in computed])
    dead = [
        weight.path for weight, size in zip(model.trainable_weights, largest, strict=True)
        if not size > 0 and not weight.path.endswith("key/bias")
    ]  # fmt: skip
    assert not dead


def test_feature_map_and_predict(flexible):
    version, _, _ = flexible
    model = ViTTransformer(**TINY, version=version, input_shape=(None, None, 3), include_top=False, pooling=None)
    assert model.output_shape == (None, None, None, 32)
    assert model(_pixels(70, 100)).shape == (2, 9, 13, 32)


def test_too_small_a_side_is_named():
    with pytest.raises(ValueError, match="at least 8"):
        ViTTransformer(**TINY, input_shape=(None, 7, 3))
