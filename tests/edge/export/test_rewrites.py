"""Every rewrite gives an equal model and a leaner graph, leaves its source as it was, and stays away from what it does not understand."""

import keras
import numpy as np
import pytest
from keras import layers

from edge.export.rewrites import ALL, reparametrize, takes_normalization
from edge.export.to_tflite import export_float, exportable
from edge.tflite import flatbuffer
from tests.edge.small_models import TINY, build, pixels
from tfvit.blocks import LayerNorm
from tfvit.imagenet import preprocess_input
from tfvit.model import ViTTransformer
from tfvit.weights import randomize

pytestmark = pytest.mark.whole

# of the largest logit: other orders of float32 operations
RELATIVE_TOLERANCE = 1e-5


def _difference(source, other):
    images = pixels(source.input_shape[0], 4).astype(np.float32)
    expected, logits = (keras.ops.convert_to_numpy(each.logits(images)) for each in (source, other))
    return np.abs(logits - expected).max() / np.abs(expected).max()


def _operations(source):
    return flatbuffer.operator_counts(flatbuffer.read_model(export_float(source)))


@pytest.fixture(scope="module", params=[1, 2])
def source(request):
    return exportable(build(TINY[request.param], 1), TINY[request.param].preprocessing, takes_pixels=False)


@pytest.mark.parametrize("rewrites", [*(pytest.param((name,), marks=pytest.mark.slow) for name in ALL), ALL], ids=[*ALL, "all"])
def test_equal_and_the_source_stays(source, rewrites):
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in source.model.weights]
    rewritten = reparametrize(source, rewrites)
    difference = _difference(source, rewritten)
    print(f"{rewrites}: {difference:.1e} of scale")
    assert difference <= RELATIVE_TOLERANCE
    for weight, value in zip(source.model.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), value)
    assert all(layer.scales_and_shifts and layer.subtracts_mean for layer in source.model._flatten_layers() if isinstance(layer, LayerNorm))


def test_what_is_dear_on_an_npu_goes(source):
    """Transposes of heads, but for the keys' own and the last stage's, of one window; and the convolution with its stride."""
    plain, rewritten = (_operations(reparametrize(source, rewrites)) for rewrites in ((), ("heads_first", "patches_by_rows")))
    blocks_of_several_windows = 4
    assert plain["TRANSPOSE"] - rewritten["TRANSPOSE"] == 3 * blocks_of_several_windows
    assert (plain["CONV_2D"], rewritten.get("CONV_2D", 0)) == (1, 0)
    assert rewritten["FULLY_CONNECTED"] == plain["FULLY_CONNECTED"] + 1


@pytest.mark.slow
def test_what_each_saves(source):
    """Operations gone, by kind: each norm's MUL and ADD, each norm's MEAN and SUB, the image's SUB and division."""
    version, plain = (2 if source.model.get_layer("stage1_block1").post_norm else 1), _operations(source)

    def saved(*rewrites):
        counts = _operations(reparametrize(source, rewrites))
        gone = {name: plain[name] - counts.get(name, 0) for name in plain}
        return {name: count for name, count in gone.items() if count}

    blocks, mergings = 6, 2
    # V1: the last stage's four norms, and the two outside the blocks; V2: all of the blocks' and mergings', and the patch embedding's
    centred = 4 + 2 if version == 1 else 2 * blocks + mergings + 1
    assert saved("centre_norm_inputs") == {"MEAN": centred, "SUB": centred}
    # the converter folds the affine in front of fc1, its only reader, by itself
    affine = blocks + mergings + 1 if version == 1 else 1
    assert saved("fold_norm_affine") == {"MUL": affine, "ADD": affine}
    assert sum(saved("fold_normalization").values()) == 2


def test_the_converter_folds_the_query_scale():
    """Nothing stands between V1's query and its heads: 1 / sqrt(d) needs no rewrite."""
    graph = flatbuffer.read_model(export_float(exportable(_vit(32), takes_pixels=False)))
    dense = {int(operator.outputs[0]) for name, operator in flatbuffer.operators(graph) if name == "FULLY_CONNECTED"}
    scaled = [operator for name, operator in flatbuffer.operators(graph) if name == "MUL" and dense & {int(i) for i in operator.inputs}]
    assert dense
    assert not scaled


def test_one_layer_alone_is_not_enough(source):
    """The comparison sees a single wrong weight: otherwise it would prove nothing."""
    rewritten = reparametrize(source, ("fold_norm_affine",))
    kernel = rewritten.model.get_layer("stage2_block2").mlp.fc1.kernel
    value = keras.ops.convert_to_numpy(kernel).copy()
    value[3] *= 1.01
    kernel.assign(value)
    assert _difference(source, rewritten) > 10 * RELATIVE_TOLERANCE


def _vit(size=40, version=1, **arguments):
    model = ViTTransformer(
        version=version, embed_dim=16, depths=(1, 2), num_heads=(2, 4), window_size=4, input_shape=(size, size, 3), classes=5, **arguments
    )
    randomize(model, 2)
    return model


def test_windows_and_patches_that_need_padding():
    """Padded tokens get the folded beta as a bias where they had zero: they are masked out, so nothing changes."""
    for version in (1, 2):
        padded = exportable(_vit(42, version), takes_pixels=False)
        assert not takes_normalization(padded)
        assert _difference(padded, reparametrize(padded)) <= RELATIVE_TOLERANCE


def test_own_head_and_nested_backbone():
    inputs = layers.Input((40, 40, 3), dtype="uint8")
    features = _vit(include_top=False)(layers.Lambda(preprocess_input)(inputs))
    model = keras.Model(inputs, layers.Dense(3)(layers.Dense(8, activation="relu")(features)))
    nested = exportable(model)
    assert nested.takes_pixels
    rewritten = reparametrize(nested)
    assert _difference(nested, rewritten) <= RELATIVE_TOLERANCE
    norms = [layer for layer in rewritten.model._flatten_layers() if isinstance(layer, LayerNorm)]
    assert [norm.name for norm in norms if norm.scales_and_shifts] == ["norm", "norm"]  # the patch embedding's, the last one


def test_a_stream_read_elsewhere_is_not_centred():
    """A feature taken out of the last stage sees the stream as it is."""
    backbone = _vit()
    feature = layers.GlobalMaxPooling2D()(backbone.get_layer("stage2_block1").output)
    model = keras.Model(backbone.input, layers.Dense(3)(layers.Concatenate()([feature, backbone.get_layer("avg_pool").output])))
    tapped = exportable(model, takes_pixels=False)
    rewritten = reparametrize(tapped)
    assert _difference(tapped, rewritten) <= RELATIVE_TOLERANCE
    assert rewritten.model.get_layer("stage2_block1").norm1.subtracts_mean


def test_unknown_names():
    with pytest.raises(ValueError, match="fold_norm_affine"):
        reparametrize(exportable(_vit(), takes_pixels=False), ("fold_everything",))
