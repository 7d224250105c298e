"""Recipes from one float file: injected ranges are the ones used, shared constants stay right, ranges are plain minimum and maximum."""

import collections
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from edge.export import to_tflite
from edge.quantization import quantize, ranges
from edge.quantization.dense_layers import dense_layers, set_four_bits, takes_four_bits, weight_bits
from edge.quantization.recipes import DYNAMIC, DYNAMIC4, FLOAT, RECIPES, STATIC, find_recipe
from edge.runtime.cpu import Interpreter
from edge.tflite import flatbuffer
from tfvit import ViTTransformer
from tfvit.errors import InputError, UsageError
from tfvit.preprocessing import Preprocessing, normalize

# Scales are float32 quotients of numbers below 100
SCALE_TOLERANCE = 1e-6
# The runtime sums a convolution of 48 products in another order than TensorFlow
RANGE_TOLERANCE = 1e-4
# Half precision has 11 significant bits: half a step, with a margin of two for the product
FLOAT16_TOLERANCE = 1e-3
PREPROCESSING = Preprocessing.for_image_size(32)
INT8 = RECIPES["int8"]
# Every dense layer calibrated, nothing fitted: what is injected is what must be found
ALL_STATIC = dataclasses.replace(INT8, dense=STATIC, dense_by_role=(), fitted_to_inputs=False, min_output_snr_db=None)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 1, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def collected(micro_float, images):
    return ranges.collect(micro_float, quantize.static_tensors(micro_float, ALL_STATIC), images, threads=1).ranges


def output_of(file: bytes, operation: str, position: int = 0) -> str:
    """Name of the tensor that the nth operation of a kind writes."""
    graph = flatbuffer.read_model(file)
    found = [operator for name, operator in flatbuffer.operators(graph) if name == operation]
    return flatbuffer.tensor_name(graph, int(found[position].outputs[0]))


# Ranges


def test_ranges_are_those_of_the_keras_layers(micro_model, micro_float, images, collected):
    pixels = images[:, 0]
    normalized = normalize(pixels, PREPROCESSING)
    embedded = np.asarray(micro_model.get_layer("patch_embedding").projection(normalized))
    logits = np.asarray(micro_model(normalized))
    for name, expected in ((output_of(micro_float, "CONV_2D"), embedded), (output_of(micro_float, "FULLY_CONNECTED", -1), logits)):
        low, high = collected[name]
        print(name[:60], (low, high), (expected.min(), expected.max()))
        assert low == pytest.approx(expected.min(), abs=RANGE_TOLERANCE)
        assert high == pytest.approx(expected.max(), abs=RANGE_TOLERANCE)
        assert low < np.median(expected) < high


def test_every_static_activation_has_a_range(micro_float, collected):
    counts = flatbuffer.operator_counts(flatbuffer.read_model(micro_float))
    assert set(collected) == set(quantize.static_tensors(micro_float, ALL_STATIC))
    assert len(collected) > counts["FULLY_CONNECTED"]
    assert all(low <= high for low, high in collected.values())


def test_the_order_of_images_does_not_matter(micro_float, images, collected):
    tensors = quantize.static_tensors(micro_float, ALL_STATIC)
    assert ranges.collect(micro_float, tensors, images[::-1], threads=1).ranges == collected
    fewer = ranges.collect(micro_float, tensors, images[:1], threads=1).ranges
    assert fewer != collected
    assert all(collected[name][0] <= low and high <= collected[name][1] for name, (low, high) in fewer.items())


def test_images_side_by_side_show_the_same(micro_float, images):
    tensors, patches = quantize.watched_tensors(micro_float, INT8)
    alone, side_by_side = (ranges.collect(micro_float, tensors, images, threads, patches) for threads in (1, 3))
    assert side_by_side.ranges == alone.ranges
    for kept, expected in ((side_by_side.rows, alone.rows), (side_by_side.channels, alone.channels)):
        assert list(kept) == list(expected)
        assert all(np.array_equal(kept[name], expected[name]) for name in expected)
    assert {name: (low.min(), high.max()) for name, (low, high) in alone.channels.items()}.items() <= alone.ranges.items()


@pytest.mark.parametrize(("most", "expected"), [(1, [4]), (2, [2, 2]), (3, [1, 1, 1]), (9, [1, 1, 1, 1])])
def test_weights_are_packed_as_often_as_there_is_room_for(micro_float, images, monkeypatch, most, expected):
    """Files in `MOST_PACKED_BYTES` -> threads of each interpreter, of four in all."""
    made = []

    class Watched(ranges.Interpreter):
        def __init__(self, file, threads=1):
            made.append(threads)
            super().__init__(file, threads)

    monkeypatch.setattr(ranges, "Interpreter", Watched)
    monkeypatch.setattr(ranges, "MOST_PACKED_BYTES", most * len(micro_float))
    ranges.collect(micro_float, quantize.static_tensors(micro_float, ALL_STATIC), images[:2], threads=4)
    assert made == expected


def test_no_images(micro_float):
    with pytest.raises(InputError, match="no calibration images"):
        ranges.collect(micro_float, quantize.static_tensors(micro_float, ALL_STATIC), [], threads=1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_activations_that_are_not_finite(micro_float, images, value):
    graph = flatbuffer.read_model(micro_float)
    operator = next(operator for name, operator in flatbuffer.operators(graph) if name == "CONV_2D")
    tensor = graph.subgraphs[0].tensors[int(operator.inputs[1])]
    weights = np.frombuffer(graph.buffers[tensor.buffer].data.tobytes(), np.float32).copy()
    weights[7] = value
    graph.buffers[tensor.buffer].data = weights.view(np.uint8)
    broken = flatbuffer.write_model(graph)
    with pytest.raises(InputError, match="not finite") as caught:
        ranges.collect(broken, quantize.static_tensors(broken, ALL_STATIC), images, threads=1)
    assert "patch_embedding" in caught.value.received


# Recipes


def test_injected_ranges_are_the_ones_used(micro_float, collected):
    name = output_of(micro_float, "CONV_2D")
    injected = collected | {name: (-3.0, 9.75)}
    graph = flatbuffer.read_model(quantize.quantize(micro_float, ALL_STATIC, ranges.Calibration(injected)))
    quantized = {
        flatbuffer.tensor_name(graph, index).removesuffix("_quantized"): tensor.quantization
        for index, tensor in enumerate(graph.subgraphs[0].tensors)
        if flatbuffer.tensor_type(graph, index) == "INT8" and flatbuffer.constant(graph, index) is None
    }
    scale, zero_point = float(quantized[name].scale[0]), int(quantized[name].zeroPoint[0])
    print(name, scale, zero_point)
    assert scale == pytest.approx(12.75 / 255, abs=SCALE_TOLERANCE)
    assert zero_point == -128 + round(3.0 / 0.05)
    for other, (low, high) in collected.items():
        if other != name and other in quantized:
            low, high = min(low, 0.0), max(high, 0.0)  # zero must have a code
            assert float(quantized[other].scale[0]) == pytest.approx((high - low) / 255, rel=1e-3), other


def test_missing_ranges(micro_float, collected):
    name = output_of(micro_float, "CONV_2D")
    for given in ({}, {other: pair for other, pair in collected.items() if other != name}):
        with pytest.raises(ValueError, match="ranges must cover every static activation") as caught:
            quantize.quantize(micro_float, ALL_STATIC, ranges.Calibration(given))
    assert repr(name) in str(caught.value)


def test_float32_is_the_float_file(micro_float):
    assert quantize.quantize(micro_float, RECIPES["float32"]) == flatbuffer.write_model(flatbuffer.read_model(micro_float))


def test_types_of_every_dense_layer(tiny):
    """Static layers read and write integers, dynamic ones float; the patch embedding of int8 and everything else compute in float."""
    types = {STATIC: ["INT8", "INT8", "INT8"], DYNAMIC: ["FLOAT32", "INT8", "FLOAT32"], FLOAT: ["FLOAT32"] * 3}
    for recipe in ("int8", "dynamic"):
        graph = tiny.graph(recipe)
        modes = quantize.layer_modes(tiny.graph("float32"), RECIPES[recipe])
        found = collections.Counter()
        for name, operator in flatbuffer.operators(graph):
            indices = (*operator.inputs, *operator.outputs)
            if name in ("FULLY_CONNECTED", "CONV_2D"):
                seen = [flatbuffer.tensor_type(graph, int(index)) for index in (*operator.inputs[:2], *operator.outputs)]
                found[next(mode for mode, expected in types.items() if expected == seen)] += 1
            elif name in ("SOFTMAX", "GELU", "BATCH_MATMUL", "RSQRT"):
                assert {flatbuffer.tensor_type(graph, int(index)) for index in indices} == {"FLOAT32"}
        wanted = collections.Counter(modes.values())
        print(tiny.variant.id, recipe, dict(found), "asked for", dict(wanted))
        assert sum(found.values()) == sum(wanted.values())
        assert found[FLOAT] == wanted[FLOAT]
        assert found[DYNAMIC] >= wanted[DYNAMIC]  # and those whose outputs 8 bits cannot hold
        assert found[STATIC] > (0.5 * wanted[STATIC] if recipe == "int8" else -1)


def test_types_of_every_dense_layer_in_int4(tiny):
    """4-bit weights, but the head's 8 and the patch embedding's float; everything is computed from float and given in float."""
    graph = tiny.graph("int4")
    bits = {layer["layer"]: layer["weight_bits"] for layer in weight_bits(graph)}
    print(bits)
    assert {layer: wide for layer, wide in bits.items() if wide != 4} == {"head": 8, "patch_embedding/projection": 32}
    assert bits == {layer["layer"]: layer["weight_bits"] for layer in tiny.manifest("int4")["file"]["layers"]}
    for layer in dense_layers(graph):
        assert {flatbuffer.tensor_type(graph, layer.input), flatbuffer.tensor_type(graph, layer.output)} == {"FLOAT32"}
    assert {layer["weight_bits"] for layer in weight_bits(tiny.graph("smallest"))} == {4, 8}  # a convolution has no 4-bit kernel
    assert len(tiny.file("smallest")) < len(tiny.file("int4")) < len(tiny.file("int8"))


def test_heads_have_8_bits_whatever_a_model_calls_them():
    """One becomes the model's output, whose name the converter takes from the layer; one is read by a softmax."""
    pixels = keras.Input((16, 16, 3))
    backbone = ViTTransformer(embed_dim=8, depths=(1,), num_heads=(1,), window_size=4, input_shape=(16, 16, 3), include_top=False)
    features = backbone(keras.layers.Conv2D(3, 3, padding="same", name="stem")(pixels))
    outputs = [keras.layers.Dense(1, name="age")(features), keras.layers.Dense(4, activation="softmax", name="kind")(features)]
    source = to_tflite.exportable(keras.Model(pixels, outputs), output="values,probabilities")
    graph = flatbuffer.read_model(to_tflite.export_float(source, "float32", "values,probabilities"))
    layers = {layer.layer.split("/")[-1].removesuffix("_1"): layer for layer in dense_layers(graph)}
    assert {name for name, layer in layers.items() if layer.role == "head"} == {"age", "kind"}
    modes = quantize.layer_modes(graph, RECIPES["int4"])
    assert {modes[layers[name].name] for name in ("age", "kind")} == {DYNAMIC}


@pytest.mark.parametrize(("recipe", "narrow", "wide"), [("int8", FLOAT, DYNAMIC), ("int4", FLOAT, DYNAMIC), ("float16", FLOAT, FLOAT)])
def test_a_patch_embedding_stays_in_float_where_it_is_small(small_graph, recipe, narrow, wide):
    """Patches of 4 x 4 pixels, as in windowed models, and of 16 x 16."""

    def embedding(side):
        weights = np.random.default_rng(0).standard_normal((side, side, 3, 8)).astype(np.float32)

        def patches(x):
            with tf.name_scope("patch_embedding/projection"):
                return tf.nn.conv2d(x, weights, side, "VALID")

        return flatbuffer.read_model(small_graph(patches, (1, 32, 32, 3)))

    for side, mode in ((4, narrow), (16, wide)):
        graph = embedding(side)
        assert [layer.role for layer in dense_layers(graph)] == ["patch_embedding/projection"]
        assert list(quantize.layer_modes(graph, RECIPES[recipe]).values()) == [mode]


def test_four_bit_weights_are_the_ones_given(small_graph):
    """Every step, in even and odd places, at a scale of its own: the runtime computes with exactly these weights."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((16, 6)).astype(np.float32)
    file = small_graph(lambda x: tf.matmul(x, weights), (1, 16))
    model = flatbuffer.read_model(file)
    (layer,) = dense_layers(model)
    steps, scale = rng.permutation(np.tile(np.arange(-8, 8, dtype=np.int8), 6)).reshape(6, 16), np.linspace(0.1, 0.6, 6)
    set_four_bits(model, layer, steps, scale)
    made = flatbuffer.write_model(model)
    for position in range(16):
        one = np.zeros((1, 16), np.float32)
        one[0, position] = 1.0
        np.testing.assert_allclose(Interpreter(made).run(one)[0], steps[:, position] * scale, rtol=2e-2, atol=1e-6)


def _times(weights):
    return lambda x: tf.matmul(x, weights)


def test_layers_that_have_no_4_bit_kernel_stay_in_8(small_graph):
    taken = []
    for inputs in (16, 15):
        weights = np.random.default_rng(0).standard_normal((inputs, 6)).astype(np.float32)
        model = flatbuffer.read_model(small_graph(_times(weights), (1, inputs)))
        (layer,) = dense_layers(model)
        taken.append(takes_four_bits(model, layer))
        assert quantize.layer_modes(model, RECIPES["smallest"]) == {layer.name: DYNAMIC4 if taken[-1] else DYNAMIC}
    assert taken == [True, False]


def test_a_layer_whose_output_8_bits_cannot_hold_is_dynamic(micro_float, images):
    graph = flatbuffer.read_model(micro_float)
    tensors, patches = quantize.watched_tensors(micro_float, INT8)
    calibration = ranges.collect(micro_float, tensors, images, 1, patches)
    modes = quantize.layer_modes(graph, INT8, calibration)
    name = next(layer.name for layer in dense_layers(graph) if layer.role == "mlp/fc2")
    low, high = calibration.ranges[name]
    calibration.ranges[name] = (20.0 * low, 20.0 * high)  # one value far from all others: 26 dB less
    changed = {other for other, mode in quantize.layer_modes(graph, INT8, calibration).items() if mode != modes[other]}
    assert changed == {name}
    assert (modes[name], quantize.layer_modes(graph, INT8, calibration)[name]) == (STATIC, DYNAMIC)
    assert quantize.layer_modes(graph, INT8)[name] == STATIC  # the recipe's own, before anything is known


def test_sizes_shrink_as_promised(tiny):
    sizes = {recipe: len(tiny.file(recipe)) for recipe in ("float32", "float16", "int8", "dynamic")}
    print(tiny.variant.id, sizes)
    assert sizes["int8"] < sizes["float16"] < sizes["float32"]
    assert sizes["dynamic"] < sizes["float16"]


def test_a_constant_with_two_consumers_in_float16(small_graph):
    shared = np.random.default_rng(0).standard_normal((1, 4, 16, 32)).astype(np.float32)
    file = small_graph(lambda x: tf.nn.relu(x + shared) * shared, (1, 4, 16, 32))
    half = quantize.quantize(file, RECIPES["float16"])
    graph = flatbuffer.read_model(half)
    counts = flatbuffer.operator_counts(graph)
    print(counts, len(file), len(half))
    assert counts["DEQUANTIZE"] == 1  # one for both
    pixels = np.random.default_rng(1).standard_normal((1, 4, 16, 32)).astype(np.float32)
    expected = np.maximum(pixels + shared, 0) * shared
    got = Interpreter(half).run(pixels)
    assert np.abs(got - expected).max() <= FLOAT16_TOLERANCE * np.abs(expected).max()
    assert np.abs(got - expected).max() > 0  # it really is half precision
    assert len(half) < len(file) - shared.nbytes // 3


def test_small_constants_stay_float32(small_graph):
    few = np.random.default_rng(0).standard_normal((1, 4, 4, 4)).astype(np.float32)
    file = small_graph(lambda x: x + few, (1, 4, 4, 4))
    assert flatbuffer.operator_counts(flatbuffer.read_model(quantize.quantize(file, RECIPES["float16"]))) == {"ADD": 1}


def test_unknown_recipes():
    assert find_recipe(" INT8 ") is RECIPES["int8"]
    with pytest.raises(UsageError, match="did you mean float16"):
        find_recipe("float_16")


def test_recipes_are_data():
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert recipe.summary
        assert all(np.isfinite(value) for value in dataclasses.astuple(recipe.limits))
    integers = ["int8_full", "int8_wide", "w8a16"]
    assert [recipe.name for recipe in RECIPES.values() if recipe.needs_calibration] == ["int8", "int4", "smallest", *integers]
