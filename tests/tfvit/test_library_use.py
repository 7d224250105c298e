"""What people do with a model library: fine-tune on real images, mixed precision, freeze, clone, extract features; and exact gradients."""

import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfvit import preprocess_input
from tfvit.attention import CosineWindowAttention, WindowAttention
from tfvit.model import ViTTransformer
from tfvit.weights import randomize

CIFAR10 = Path(__file__).parents[2].parent / "shared" / "data" / "cifar10" / "test.zip"
TINY = {"embed_dim": 16, "depths": (2,), "num_heads": (2,), "window_size": 4, "input_shape": (32, 32, 3), "patch_size": 2}


def _backbone(version, **changes):
    return ViTTransformer(**{**TINY, "version": version, "include_top": False, **changes})


def _classifier(version, dtype=None):
    pixels = keras.layers.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.Lambda(preprocess_input)(pixels)
    x = _backbone(version, dtype=dtype)(x)
    return keras.Model(pixels, keras.layers.Dense(10, activation="softmax", dtype="float32")(x))


@pytest.fixture(scope="module")
def cifar10():
    if not CIFAR10.is_file():
        pytest.skip("CIFAR-10 images are not on this machine")
    images, labels = [], []
    with zipfile.ZipFile(CIFAR10) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        classes = sorted({name.split("/")[-2] for name in names})
        for name in names[::40]:
            with archive.open(name) as file:
                images.append(np.asarray(Image.open(file).convert("RGB")))
            labels.append(classes.index(name.split("/")[-2]))
    return np.stack(images), np.asarray(labels)


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_fit_and_evaluate_on_real_images(version, dtype, cifar10):
    images, labels = cifar10
    keras.utils.set_random_seed(0)
    model = _classifier(version, dtype)
    model.compile(keras.optimizers.AdamW(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    before = model.evaluate(images, labels, verbose=0)
    model.fit(images, labels, batch_size=25, epochs=3, verbose=0)
    after = model.evaluate(images, labels, verbose=0)
    print(f"V{version} {dtype}: loss {before[0]:.3f} -> {after[0]:.3f}, accuracy {before[1]:.2f} -> {after[1]:.2f}")
    assert np.isfinite(after[0])
    assert after[0] < before[0]


@pytest.mark.parametrize("version", [1, 2])
def test_keras_file_h5_and_clone_give_the_same_answers(version, tmp_path):
    model = _classifier(version)
    randomize(model, 0)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype("uint8")
    expected = model.predict(images, verbose=0)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras").predict(images, verbose=0), expected)
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = _classifier(version)
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(fresh.predict(images, verbose=0), expected)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone.predict(images, verbose=0), expected)


def test_a_frozen_backbone_stays_as_it_is():
    model = _classifier(1)
    backbone = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    backbone.trainable = False
    before = [keras.ops.convert_to_numpy(weight) for weight in backbone.weights]
    model.compile("sgd", "sparse_categorical_crossentropy")
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("uint8")
    model.fit(images, np.arange(4), verbose=0)
    for old, weight in zip(before, backbone.weights, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(weight))
    assert len(model.trainable_weights) == 2


@pytest.mark.parametrize("version", [1, 2])
def test_stage_outputs_by_name(version):
    model = ViTTransformer(**{**TINY, "version": version, "depths": (2, 1, 2), "num_heads": (1, 2, 4)})
    features = keras.Model(model.input, [model.get_layer(name).output for name in ("stage1_block2", "stage2_block1", "stage3_block2")])
    shapes = [tuple(output.shape) for output in features(np.zeros((1, 32, 32, 3), "float32"))]
    assert shapes == [(1, 16, 16, 16), (1, 8, 8, 32), (1, 4, 4, 64)]


def test_drop_path_and_dropout_act_in_training_only():
    model = ViTTransformer(**TINY, drop_path_rate=0.5, drop_rate=0.1, attn_drop_rate=0.1, classes=5)
    randomize(model, 0)
    pixels = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(model(pixels, training=False), model(pixels, training=False))
    assert not np.array_equal(model(pixels, training=True), model(pixels, training=True))


@pytest.mark.parametrize("layer_class", [WindowAttention, CosineWindowAttention])
@pytest.mark.parametrize("shifted", [False, True])
def test_gradients_of_attention_equal_finite_differences(layer_class, shifted):
    """In float64, along random directions through the input and every weight at once."""
    rng = np.random.default_rng(0)
    layer = layer_class(num_heads=2, window_size=3, shifted=shifted, dtype="float64")
    layer.build((None, 6, 7, 8))
    for weight in layer.weights:
        weight.assign(0.5 * rng.standard_normal(weight.shape))
    variables = [tf.Variable(rng.standard_normal((1, 6, 7, 8))), *(weight.value for weight in layer.trainable_weights)]
    projection = rng.standard_normal((1, 6, 7, 8))

    def loss():
        return tf.reduce_sum(tf.convert_to_tensor(layer(variables[0])) * projection)

    with tf.GradientTape() as tape:
        value = loss()
    gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(value, variables)]
    step = 1e-6  # float64: rounding 1e-10 of the loss, truncation 1e-12
    for _ in range(4):
        directions = [rng.standard_normal(variable.shape) for variable in variables]
        slopes = []
        for sign in (1, -1):
            for variable, direction in zip(variables, directions, strict=True):
                variable.assign_add(sign * step * direction)
            slopes.append(float(loss()))
            for variable, direction in zip(variables, directions, strict=True):
                variable.assign_sub(sign * step * direction)
        numeric = (slopes[0] - slopes[1]) / (2 * step)
        exact = sum(float(tf.reduce_sum(gradient * direction)) for gradient, direction in zip(gradients, directions, strict=True))
        print(f"{layer_class.__name__} shifted={shifted}: {exact:.8f} against {numeric:.8f}")
        np.testing.assert_allclose(exact, numeric, rtol=1e-6)
