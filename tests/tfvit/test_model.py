"""The constructors: parameter counts, arguments, what comes out, what is refused, saving and loading."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import tfvit
from tfvit.blocks import LAYER_NORM_EPSILON, Block, DropPath, LayerNorm
from tfvit.model import ViTTransformer, build_variant
from tfvit.variants import VARIANTS, WindowedVariant
from tfvit.weights import randomize

TINY = {"embed_dim": 16, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4, "input_shape": (64, 64, 3), "classes": 5}


@pytest.fixture
def shapes_only():
    """Full-size models without drawing 200 million numbers: variables have shapes and no values."""
    with keras.StatelessScope(initialize_variables=False):
        yield
    keras.utils.clear_session()  # forgets them: they would all be drawn at the next chance


WINDOWED = {name: variant for name, variant in VARIANTS.items() if isinstance(variant, WindowedVariant)}


@pytest.mark.parametrize("variant", WINDOWED.values(), ids=WINDOWED)
def test_parameter_counts_are_the_published_ones(variant, shapes_only):
    model = getattr(tfvit, variant.constructor)(weights=None)
    assert model.count_params() == variant.num_parameters
    assert model.input_shape == (None, variant.image_size, variant.image_size, 3)
    assert model.output_shape == (None, variant.classes)
    stages = [model.get_layer(f"stage{stage}_block{depth}") for stage, depth in enumerate(variant.depths, start=1)]
    side = variant.image_size // variant.patch_size
    assert [stage.output.shape[1:] for stage in stages] == [(side >> i, side >> i, variant.embed_dim << i) for i in range(len(stages))]


def test_published_names():
    names = [name for name in tfvit.__all__ if name.startswith("ViTTransformer") and name != "ViTTransformer"]
    nano = ["ViTTransformerNano32", "ViTTransformerV2Nano32"]
    v1 = ["Tiny224", "Small224", "Base224", "Base384", "Large224", "Large384"]
    v2 = ["Tiny256", "Small256", "Base256", "Base384", "Large256", "Large384"]
    assert names == nano + [f"ViTTransformer{name}" for name in v1] + [f"ViTTransformerV2{name}" for name in v2]
    assert all(callable(getattr(tfvit, name)) for name in names)


def test_import_is_light():
    code = "import sys, tfvit; sys.exit(int(any(name in sys.modules for name in ('keras', 'tensorflow'))))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("version", [1, 2])
def test_tops_and_pooling(version):
    arguments = {**TINY, "version": version}
    assert ViTTransformer(**arguments).output_shape == (None, 5)
    assert ViTTransformer(**arguments, include_top=False).output_shape == (None, 32)
    assert ViTTransformer(**arguments, include_top=False, pooling="max").output_shape == (None, 32)
    assert ViTTransformer(**arguments, include_top=False, pooling=None).output_shape == (None, 8, 8, 32)
    pixels = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    model = ViTTransformer(**arguments)
    randomize(model, 0)
    scores = keras.ops.convert_to_numpy(model(pixels))
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, rtol=1e-5)
    logits_model = ViTTransformer(**arguments, classifier_activation=None)
    randomize(logits_model, 0)
    logits = keras.ops.convert_to_numpy(logits_model(pixels))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(keras.ops.softmax(logits)), scores, rtol=1e-5)


def test_input_tensor_is_built_on():
    pixels = keras.Input((64, 64, 3), dtype="uint8")
    normalized = keras.layers.Lambda(tfvit.preprocess_input)(pixels)
    model = ViTTransformer(**{**TINY, "input_shape": None}, input_tensor=normalized)
    assert model.input.dtype == "uint8"
    assert model(np.zeros((1, 64, 64, 3), "uint8")).shape == (1, 5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_shape": (64, 64, 1)},
        {"input_shape": (4, 64, 3)},
        {"pooling": "sum"},
        {"version": 3},
        {"depths": (2, 2, 2)},
        {"num_heads": (3, 2)},
        {"drop_path_rate": 1.5},
    ],
    ids=str,
)
def test_wrong_arguments_are_named(wrong):
    with pytest.raises(ValueError, match="Received"):
        ViTTransformer(**{**TINY, **wrong})


def test_rows_of_the_table_take_other_sizes_and_classes(shapes_only):
    model = build_variant(VARIANTS["tiny224"], weights=None, input_shape=(96, 128, 3), classes=7)
    assert model.output_shape == (None, 7)
    assert model.get_layer("norm").output.shape == (None, 3, 4, 768)


def test_layer_norm_computes_in_float32_under_mixed_precision():
    # mean 2000 with a spread of 8: in float16 the variance overflows and the differences round away
    values = (2000 + 8 * np.random.default_rng(0).normal(size=(1, 4, 4, 32))).astype("float16")
    layer = LayerNorm(dtype="mixed_float16")
    output = keras.ops.convert_to_numpy(layer(values))
    assert output.dtype == np.float16
    wide = values.astype(np.float64)
    expected = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + LAYER_NORM_EPSILON)
    np.testing.assert_allclose(output, expected, atol=4e-3)  # float16 has 11 bits: 2e-3 near 4
    assert LAYER_NORM_EPSILON == 1.001e-5
    constant = keras.ops.convert_to_numpy(LayerNorm()(np.array([[1e-3, -1e-3]], "float32")))
    np.testing.assert_allclose(constant, np.array([[1, -1]]) * 1e-3 / np.sqrt(1e-6 + 1.001e-5), rtol=1e-5)


@pytest.mark.parametrize("version", [1, 2])
def test_mixed_precision_follows_float32(version):
    pixels = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    outputs = []
    for dtype in ("float32", "mixed_float16"):
        model = ViTTransformer(**TINY, version=version, dtype=dtype, classifier_activation=None)
        randomize(model, 0)
        outputs.append(keras.ops.convert_to_numpy(model(pixels)).astype("float32"))
    assert np.abs(outputs[0] - outputs[1]).max() <= 2e-2 * np.abs(outputs[0]).max()  # float16 rounding through four blocks
    assert np.abs(outputs[0] - outputs[1]).max() > 0


def test_drop_path_drops_whole_samples_and_only_in_training():
    layer = DropPath(0.5, seed=0)
    ones = np.ones((64, 2, 2, 3), "float32")
    np.testing.assert_array_equal(layer(ones, training=False), ones)
    dropped = keras.ops.convert_to_numpy(layer(ones, training=True))
    kept = dropped[:, 0, 0, 0]
    assert set(np.unique(kept)) == {0.0, 2.0}
    assert all((sample == sample.flat[0]).all() for sample in dropped)
    with pytest.raises(ValueError, match="Received"):
        DropPath(1.0)


def test_drop_path_grows_with_depth():
    model = ViTTransformer(**TINY, drop_path_rate=0.3)
    rates = [layer.drop_path.rate for layer in model.layers if isinstance(layer, Block)]
    np.testing.assert_allclose(rates, [0.0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize("version", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_training_changes_every_weight_and_saving_keeps_them(version, tmp_path):
    model = ViTTransformer(**TINY, version=version)
    randomize(model, 0)
    before = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", run_eagerly=True)
    pixels = np.random.default_rng(0).normal(size=(8, 64, 64, 3)).astype("float32")
    history = model.fit(pixels, np.arange(8) % 5, batch_size=4, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    # a key bias shifts all scores of a query alike: the softmax does not see it, and its gradient is rounding
    changed = {
        weight.path: not np.array_equal(old, keras.ops.convert_to_numpy(weight)) for old, weight in zip(before, model.weights, strict=True)
    }
    assert all(moved for path, moved in changed.items() if not path.endswith("key/bias")), [p for p, moved in changed.items() if not moved]
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.models.load_model(path)
    np.testing.assert_array_equal(model(pixels), again(pixels))
