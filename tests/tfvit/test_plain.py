"""Plain Vision Transformers: parameter counts, arguments, what comes out, what is refused, saving and loading."""

import math

import keras
import numpy as np
import pytest

import tfvit
from tfvit.blocks import GELUS, LayerNorm
from tfvit.model import build_variant
from tfvit.plain import VisionTransformer, feature_maps
from tfvit.plain_layers import PlainBlock
from tfvit.variants import VARIANTS, PlainVariant
from tfvit.weights import randomize

PLAIN = {name: variant for name, variant in VARIANTS.items() if isinstance(variant, PlainVariant)}
TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8, "input_shape": (32, 24, 3), "classes": 5}


@pytest.fixture
def shapes_only():
    """Full-size models without drawing 300 million numbers: variables have shapes and no values."""
    with keras.StatelessScope(initialize_variables=False):
        yield
    keras.utils.clear_session()  # forgets them: they would all be drawn at the next chance


def _pixels(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def _outputs(model, pixels):
    return keras.ops.convert_to_numpy(model(pixels))


@pytest.mark.parametrize("variant", PLAIN.values(), ids=PLAIN)
def test_parameter_counts_are_the_published_ones(variant, shapes_only):
    model = getattr(tfvit, variant.constructor)(weights=None)
    assert model.count_params() == variant.num_parameters
    assert model.input_shape == (None, variant.image_size, variant.image_size, 3)
    assert model.output_shape == (None, variant.classes)
    tokens = (variant.image_size // variant.patch_size) ** 2 + 1 + variant.registers
    assert model.get_layer(f"block{variant.depth}").output.shape == (None, 1, tokens, variant.embed_dim)


def test_published_names():
    sizes = ["Nano32", "Tiny16_224", "Small16_224", "Base16_224", "Base16_384", "Base32_224", "Large16_224", "Large16_384"]
    dino = [f"DINOv2{size}14{registers}_224" for registers in ("", "Reg4") for size in ("Small", "Base", "Large")]
    assert [variant.constructor for variant in PLAIN.values()] == [f"VisionTransformer{size}" for size in sizes] + dino
    assert all(name.constructor in tfvit.__all__ for name in PLAIN.values())
    assert "dinov2_small14_reg4_224" in PLAIN


@pytest.mark.parametrize("registers", [0, 3])
def test_tops_and_pooling(registers):
    arguments = {**TINY, "registers": registers, "layer_scale": 0.5}
    shapes = {"token": (16,), "avg": (16,), "max": (16,), "token_avg": (32,), None: (4, 3, 16)}
    for pooling, shape in shapes.items():
        assert VisionTransformer(**arguments, include_top=False, pooling=pooling).output_shape == (None, *shape)
    pixels = _pixels(2, 32, 24, 3)
    outputs = {}
    for pooling in shapes:
        model = VisionTransformer(**arguments, include_top=False, pooling=pooling)
        randomize(model, 0)
        outputs[pooling] = _outputs(model, pixels)
    grid = outputs[None].reshape(2, 12, 16)
    np.testing.assert_allclose(outputs["avg"], grid.mean(1), atol=1e-5)
    np.testing.assert_allclose(outputs["max"], grid.max(1), atol=1e-5)
    np.testing.assert_allclose(outputs["token_avg"], np.concatenate([outputs["token"], outputs["avg"]], -1), atol=1e-5)


def test_registers_take_part():
    """A register is a token of its own: another value of it changes the class token's answer."""
    model = VisionTransformer(**TINY, registers=2, classifier_activation=None)
    randomize(model, 0)
    before = _outputs(model, _pixels(1, 32, 24, 3))
    registers = model.get_layer("patch_embedding").registers
    registers.assign(keras.ops.convert_to_numpy(registers) + np.eye(2, 16))
    assert np.abs(_outputs(model, _pixels(1, 32, 24, 3)) - before).max() > 1e-3


def test_feature_maps():
    model = VisionTransformer(**TINY, registers=1)
    randomize(model, 0)
    first, last = feature_maps(model, (1, 2))(_pixels(1, 32, 24, 3))
    assert first.shape == last.shape == (1, 4, 3, 16)
    final = VisionTransformer(**TINY, registers=1, include_top=False, pooling=None)
    randomize(final, 0)
    np.testing.assert_allclose(last, _outputs(final, _pixels(1, 32, 24, 3)), atol=1e-5)
    with pytest.raises(ValueError, match="1 to 2"):
        feature_maps(model, (3,))


def test_input_tensor_is_built_on():
    pixels = keras.Input((32, 24, 3), dtype="uint8")
    model = VisionTransformer(**{**TINY, "input_shape": None}, input_tensor=keras.layers.Rescaling(1 / 127.5, -1.0)(pixels))
    assert model.input.dtype == "uint8"
    assert model(np.zeros((1, 32, 24, 3), "uint8")).shape == (1, 5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_shape": (32, 32, 1)},
        {"input_shape": (30, 32, 3)},
        {"input_shape": (None, 32, 3)},
        {"pooling": "sum"},
        {"pooling": None},
        {"class_token": False},
        {"class_token": False, "pooling": "avg", "registers": 1},
        {"pooling": "token_register"},
        {"num_heads": 3},
        {"drop_path_rate": 1.5},
    ],
    ids=str,
)
def test_wrong_arguments_are_named(wrong):
    with pytest.raises(ValueError, match="Received"):
        VisionTransformer(**{**TINY, **wrong})


def test_epsilon_reaches_every_norm():
    model = VisionTransformer(**TINY, epsilon=1e-12)
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, LayerNorm)]
    assert [norm.epsilon for norm in norms] == [1e-12] * 5
    default = VisionTransformer(**TINY)
    assert {layer.epsilon for layer in default._flatten_layers() if isinstance(layer, LayerNorm)} == {1e-6}


@pytest.mark.parametrize("kind", ["exact", "tanh", "quick"])
def test_gelus_are_the_published_formulas(kind):
    x = np.linspace(-6, 6, 97)
    formulas = {
        "exact": x * (1 + np.array([math.erf(value / math.sqrt(2)) for value in x])) / 2,
        "tanh": x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
        "quick": x / (1 + np.exp(-1.702 * x)),
    }
    received = keras.ops.convert_to_numpy(GELUS[kind](keras.ops.convert_to_tensor(x.astype("float32"))))
    np.testing.assert_allclose(received, formulas[kind], atol=2e-6)
    assert min(np.abs(formulas[kind] - formulas[other]).max() for other in formulas if other != kind) > 1e-4
    model = VisionTransformer(**TINY, gelu=kind)
    assert {block.mlp.gelu for block in model.layers if isinstance(block, PlainBlock)} == {kind}


def test_rows_of_the_table_take_other_sizes_and_classes(shapes_only):
    model = build_variant(VARIANTS["dinov2_small14_224"], weights=None, input_shape=(98, 140, 3), classes=7, drop_path_rate=0.3)
    assert model.output_shape == (None, 7)
    assert model.get_layer("block12").output.shape == (None, 1, 71, 384)
    rates = [layer.drop_path.rate for layer in model.layers if isinstance(layer, PlainBlock)]
    np.testing.assert_allclose(rates, np.linspace(0, 0.3, 12))
    assert build_variant(VARIANTS["vit_tiny16_224"], weights=None, include_top=False).output_shape == (None, 192)


def test_mixed_precision_follows_float32():
    outputs = []
    for dtype in ("float32", "mixed_float16"):
        model = VisionTransformer(**TINY, layer_scale=0.5, registers=1, dtype=dtype, classifier_activation=None)
        randomize(model, 0)
        outputs.append(_outputs(model, _pixels(1, 32, 24, 3)).astype("float32"))
    assert 0 < np.abs(outputs[0] - outputs[1]).max() <= 2e-2 * np.abs(outputs[0]).max()  # float16 rounding through two blocks


def test_training_changes_every_weight_and_saving_keeps_them(tmp_path):
    model = VisionTransformer(
        **TINY, registers=1, layer_scale=0.1, representation_size=8, drop_rate=0.1, drop_path_rate=0.1, pooling="token_avg"
    )
    randomize(model, 0)
    before = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", run_eagerly=True)
    pixels = _pixels(8, 32, 24, 3)
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
