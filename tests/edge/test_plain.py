"""Plain models through the real path: the windowed models' battery, and what is plain models' own."""

import keras
import numpy as np
import pytest
from keras import layers

from edge.drift import metrics
from edge.export.rewrites import ALL, reparametrize, takes_normalization
from edge.export.to_tflite import export_float, exportable
from edge.quantization.dense_layers import dense_layers
from edge.quantization.recipes import RECIPES
from edge.runtime import cpu
from edge.tflite import flatbuffer
from tests.edge.export.test_numbers import test_files_equal_the_keras_model  # noqa: F401
from tests.edge.export.test_to_tflite import (  # noqa: F401
    test_graph_follows_the_rules,
    test_one_xnnpack_partition_and_whole_on_the_gpu,
)
from tests.edge.quantization.test_quantize import test_sizes_shrink_as_promised, test_types_of_every_dense_layer  # noqa: F401
from tests.edge.small_models import TINY, build, convert_tiny, pixels
from tfvit.blocks import LayerNorm
from tfvit.plain import VisionTransformer
from tfvit.weights import randomize

pytestmark = pytest.mark.whole

# of the largest logit: other orders of float32 operations
RELATIVE_TOLERANCE = 1e-5
SHAPES = {
    "token": {},
    "registers and LayerScale": {"registers": 4, "class_position": False, "layer_scale": 1.0, "pooling": "token_avg"},
    "no class token, pre_logits": {"class_token": False, "pooling": "avg", "representation_size": 8, "gelu": "tanh"},
    "distilled": {"registers": 1, "pooling": "token_register"},
    "maximum": {"pooling": "max", "drop_rate": 0.1},
}


@pytest.fixture(scope="session", params=["vit", "dinov2"])
def tiny(request, tmp_path_factory):
    return convert_tiny(request.param, tmp_path_factory)


@pytest.fixture(scope="module", params=SHAPES)
def source(request):
    return exportable(_model(**SHAPES[request.param]), takes_pixels=False)


def _model(**arguments):
    model = VisionTransformer(
        embed_dim=16, depth=2, num_heads=2, patch_size=8, input_shape=(32, 32, 3), classes=5, classifier_activation=None, **arguments
    )
    randomize(model, 1)
    return model


def _difference(source, other):
    images = pixels(source.input_shape[0], 4).astype(np.float32)
    expected, logits = (keras.ops.convert_to_numpy(each.logits(images)) for each in (source, other))
    return np.abs(logits - expected).max() / np.abs(expected).max()


def _graph(source):
    return flatbuffer.read_model(export_float(source, output="logits"))


def test_integer_files_reach_their_limits(tiny):
    for recipe in ("int8_full", "w8a16"):
        drift = tiny.manifest(recipe)["drift"]
        print(tiny.variant.id, recipe, drift["logits_snr_db"])
        assert drift["logits_snr_db"] >= RECIPES[recipe].limits.min_snr_db
    graph = tiny.graph("int8_full")
    kinds = {flatbuffer.tensor_type(graph, int(index)) for _, operator in flatbuffer.operators(graph) for index in operator.outputs}
    assert kinds == {"INT8"}


def test_the_graph_has_nothing_but_its_arithmetic(tiny):
    """Norms take three operations of RMS form besides their mean, positions one addition, LayerScale and registers none."""
    counts, depth = flatbuffer.operator_counts(tiny.graph("float32")), tiny.variant.depth
    print(counts)
    norms = 2 * depth + 1
    assert counts["MUL"] == 2 * norms
    assert counts["ADD"] == norms + 2 * depth + 1
    assert counts["RSQRT"] == norms
    assert counts["GELU"] == depth
    assert counts["SOFTMAX"] == depth + 1
    assert counts["PAD"] == 1
    assert "SUB" not in counts
    assert counts.get("CONCATENATION", 0) == (1 if tiny.variant.pooling == "token_avg" else 0)  # of two pools, not with a constant


def test_dense_layers_have_the_roles_of_the_recipes(tiny):
    roles = [layer.role for layer in dense_layers(tiny.graph("float32"))]
    block = ["attention/query", "attention/key", "attention/value", "attention/projection", "mlp/fc1", "mlp/fc2"]
    assert sorted(roles) == sorted(["patch_embedding/projection", *block * tiny.variant.depth, "head"])
    named = {layer.layer for layer in dense_layers(tiny.graph("float32"))}
    assert {"block1/mlp/fc1", "block3/attention/key", "patch_embedding/projection", "head"} <= named


def test_the_last_block_computes_the_tokens_that_are_read(tiny):
    graph, tokens = tiny.graph("float32"), 17 + tiny.variant.registers
    shapes = {layer.layer: flatbuffer.tensor_shape(graph, layer.output)[-2] for layer in dense_layers(graph)}
    assert shapes["block2/mlp/fc1"] == shapes["block3/attention/key"] == shapes["block3/attention/value"] == tokens
    last = 2 if tiny.variant.pooling == "token" else tokens
    assert [shapes[f"block3/{layer}"] for layer in ("attention/query", "attention/projection", "mlp/fc1", "mlp/fc2")] == [last] * 4


@pytest.mark.parametrize("rewrites", [*(pytest.param((name,), marks=pytest.mark.slow) for name in ALL), ALL], ids=[*ALL, "all"])
def test_rewritten_models_are_equal_and_the_source_stays(source, rewrites):
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in source.model.weights]
    difference = _difference(source, reparametrize(source, rewrites))
    print(f"{rewrites}: {difference:.1e} of scale")
    assert difference <= RELATIVE_TOLERANCE
    for weight, value in zip(source.model.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), value)


def test_every_rewrite_applies(source):
    rewritten = reparametrize(source)
    norms = [layer for layer in rewritten.model._flatten_layers() if isinstance(layer, LayerNorm)]
    kept = [norm.name for norm in norms if norm.scales_and_shifts]
    assert kept == (["norm"] if source.model.get_layer("pool").pooling == "max" else [])  # a maximum is not linear
    assert not any(norm.subtracts_mean for norm in norms)
    assert takes_normalization(source)
    assert rewritten.takes_pixels


def test_a_stream_read_elsewhere_is_left_alone():
    """A feature taken from between sees the stream as it is, and all of its tokens."""
    backbone = _model(layer_scale=1.0)
    tap = layers.GlobalAveragePooling2D()(backbone.get_layer("block2").output)
    model = keras.Model(backbone.input, layers.Dense(3)(layers.Concatenate()([tap, backbone.get_layer("pool").output])))
    tapped = exportable(model, takes_pixels=False)
    rewritten = reparametrize(tapped)
    assert _difference(tapped, rewritten) <= RELATIVE_TOLERANCE
    norms = [layer for layer in rewritten.model._flatten_layers() if isinstance(layer, LayerNorm)]
    assert all(norm.subtracts_mean for norm in norms)


@pytest.mark.slow
def test_the_converter_takes_in_layer_scale_by_itself():
    with_scale, without = (flatbuffer.operator_counts(_graph(exportable(_model(layer_scale=scale)))) for scale in (1.0, None))
    assert with_scale == without


@pytest.mark.parametrize(("gelu", "approximate"), [("exact", False), ("tanh", True)])
def test_gelu_stays_what_it_is(gelu, approximate):
    model = _model(gelu=gelu)
    file = export_float(exportable(model, takes_pixels=True), output="logits")
    options = [operator.builtinOptions for name, operator in flatbuffer.operators(flatbuffer.read_model(file)) if name == "GELU"]
    assert [option.approximate for option in options] == [approximate] * 2
    assert cpu.xnnpack_partitions(file).left_over == {}
    images = 4 * np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    answers = np.stack([cpu.Interpreter(file).run(image[None])[0] for image in images])
    assert metrics.measure(np.asarray(model(images)), answers).logits_snr_db > 90.0  # the other formula ends at 60


def test_what_a_model_of_ones_own_takes_is_seen():
    pixels_in = layers.Input((32, 32, 3))
    features = build(TINY["vit"], 1, include_top=False)(layers.Rescaling(1 / 127.5, -1.0)(pixels_in))
    assert exportable(keras.Model(pixels_in, layers.Dense(3)(features))).takes_pixels
    assert not exportable(build(TINY["vit"], 1)).takes_pixels
