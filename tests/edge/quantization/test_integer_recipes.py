"""The integer recipes: nothing but integers inside, the same answers from every interpreter, and what they are made of."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema
from PIL import Image

import edge
from edge.quantization.dense_layers import dense_layers, set_constant, weight_matrix
from edge.quantization.recipes import RECIPES
from edge.runtime.cpu import Interpreter
from edge.tflite import flatbuffer, versions
from tests.edge.small_models import MICRO, pixels
from tfvit.errors import EXIT_OK

INTEGERS = {"int8_full": {"INT8", "INT32"}, "int8_wide": {"INT8", "INT16", "INT32"}, "w8a16": {"INT8", "INT16", "INT32", "INT64"}}
# Kernels of different make round the last bit differently; it adds up through two blocks. Measured: 0.999 and better
MIN_CORRELATION = 0.99
MIN_RESCALED_SNR_DB = 10.0
CIFAR10 = Path(__file__).parents[4] / "shared" / "data" / "cifar10" / "test.zip"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("integer")


@pytest.fixture
def converted(cli, folder):
    """recipe -> manifest and file of the micro model; converted once."""
    arguments = ("--variant", "micro", "--weights", "random:1", "--calibration-samples", "16", "--out", folder, "--json")

    def get(recipe):
        ran = cli(*arguments, "--quant", recipe)
        assert ran.code == EXIT_OK
        manifest = json.loads(ran.out)["artifacts"][0]["manifest"]
        return manifest, (folder / f"{manifest['name']}.tflite").read_bytes()

    return get


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_operation_has_its_number_in_both_fields(converted, recipe):
    """LiteRT takes the larger one; OpenVINO, tf2onnx and others read a 0 in the deprecated one as an addition."""
    _, file = converted(recipe)
    for code in schema.ModelT.InitFromPackedBuf(file, 0).operatorCodes:
        assert code.deprecatedBuiltinCode == min(code.builtinCode, 127), flatbuffer.OPERATOR_NAMES[code.builtinCode]


@pytest.mark.parametrize("recipe", ["int8_full", "int8_wide", "w8a16"])
def test_only_integers_inside(converted, recipe):
    _, file = converted(recipe)
    graph = flatbuffer.read_model(file)
    for name, operator in flatbuffer.operators(graph):
        types = {flatbuffer.tensor_type(graph, int(index)) for index in (*operator.inputs, *operator.outputs) if index >= 0}
        if name in ("QUANTIZE", "DEQUANTIZE") or (recipe == "w8a16" and operator is graph.subgraphs[0].operators[-1]):
            continue  # w8a16 takes and gives floats, and its last softmax is one
        assert types <= INTEGERS[recipe], name


@pytest.mark.parametrize("recipe", ["int8_wide", "w8a16"])
def test_an_image_is_rescaled_in_16_bits(recipe, micro_model, tmp_path):
    """The steps of x / 127.5 and of x / 127.5 - 1 come within 0.003 % of powers of two, for which the runtime has another addition."""
    rng = np.random.default_rng(0)
    for index in range(16):
        Image.fromarray(rng.choice([0, 64, 255], (MICRO.image_size, MICRO.image_size, 3)).astype(np.uint8)).save(tmp_path / f"{index}.png")
    image = keras.Input((MICRO.image_size, MICRO.image_size, 3))
    model = keras.Model(image, micro_model(keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)))
    few = {"calibration_samples": 8, "drift_samples": 8, "no_cache": True, "quiet": True}
    artifact = edge.convert(model, recipe, calibration=tmp_path, out=tmp_path / "out", gate=False, **few)
    assert artifact.manifest["drift"]["logits_snr_db"] > MIN_RESCALED_SNR_DB


def test_int8_wide_has_16_bits_in_its_stream_alone(converted):
    graph = flatbuffer.read_model(converted("int8_wide")[1])
    types: dict[str, set[str]] = {}
    for name, operator in flatbuffer.operators(graph):
        output = int(operator.outputs[0])
        place = "attention" if "attention" in flatbuffer.tensor_name(graph, output).split(";")[0] else "stream"
        types.setdefault(f"{place} {name}", set()).add(flatbuffer.tensor_type(graph, output))
    for name in ("attention ADD", "attention SOFTMAX", "attention BATCH_MATMUL", "attention TRANSPOSE", "stream GELU", "stream RSQRT"):
        assert types[name] == {"INT8"}, name
    for name in ("stream ADD", "stream MUL", "stream MEAN"):
        assert types[name] == {"INT16"}, name
    dense = {
        flatbuffer.tensor_type(graph, int(index))
        for name, operator in flatbuffer.operators(graph)
        if name == "FULLY_CONNECTED"
        for index in (operator.inputs[0], operator.outputs[0])
    }
    assert dense == {"INT8"}


def test_int8_wide_says_which_runtime_it_needs(converted):
    """A QUANTIZE from 8 bits to 16: no TensorFlow has it, and no LiteRT before 2.1."""
    manifest, _ = converted("int8_wide")
    assert (manifest["file"]["min_runtime_version"], manifest["file"]["min_litert_version"]) == (None, "2.1.6")
    manifest, _ = converted("int8_full")
    assert (manifest["file"]["min_runtime_version"], manifest["file"]["min_litert_version"]) == ("2.9.0", "1.0.1")


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR10.exists(), reason="needs the CIFAR-10 images")
def test_a_stream_of_16_bits_is_more_exact(cli, tmp_path):
    """On trained weights and photographs: random weights and generated images spread evenly, and 8 bits serve them."""
    arguments = ("--variant", "nano32", "--quant", "int8_wide,int8_full", "--calibration", CIFAR10, "--calibration-samples", "16")
    ran = cli(*arguments, "--drift-samples", "8", "--agreement-samples", "0", "--out", tmp_path, "--no-gate", "--json")
    wide, narrow = (artifact["manifest"]["drift"]["logits_snr_db"] for artifact in json.loads(ran.out)["artifacts"])
    print(wide, narrow)
    assert wide > narrow + 6.0


def test_int8_full_takes_pixels_and_gives_logits(converted):
    manifest, file = converted("int8_full")
    graph = flatbuffer.read_model(file)
    assert manifest["input"]["dtype"] == manifest["output"]["dtype"] == "int8"
    assert manifest["input"]["quantization"] == {"scale": 1.0, "zero_point": -128}
    assert manifest["output"]["activation"] is None
    assert manifest["output"]["name"] == graph.signatureDefs[0].outputs[0].name.decode() == "logits"
    assert "SOFTMAX" in manifest["file"]["ops"]  # of the attention; the last one is gone
    assert flatbuffer.operator_name(graph, graph.subgraphs[0].operators[-1]) == "FULLY_CONNECTED"


def test_right_sides_have_zero_point_zero(converted):
    for recipe in ("int8_full", "w8a16"):
        graph = flatbuffer.read_model(converted(recipe)[1])
        sides = [int(operator.inputs[1]) for name, operator in flatbuffer.operators(graph) if name == "BATCH_MATMUL"]
        assert len(sides) == 4
        assert [flatbuffer.quantization(graph, side)["zero_point"] for side in sides] == [0] * 4


def test_masks_are_clamped(converted):
    """The scores' scale is not spent on -100."""
    graph = flatbuffer.read_model(converted("int8_full")[1])
    sums = [int(operator.outputs[0]) for name, operator in flatbuffer.operators(graph) if name == "ADD"]
    lowest = [
        quantized["scale"] * (-128 - quantized["zero_point"]) for index in sums if (quantized := flatbuffer.quantization(graph, index))
    ]
    assert -40 < min(lowest) < -16


@pytest.mark.parametrize("recipe", ["int8_full", "int8_wide", "w8a16"])
def test_every_interpreter_gives_the_same(converted, recipe):
    """LiteRT with XNNPACK, LiteRT's reference kernels, and TensorFlow's interpreter, which does not widen int8 (int8_wide)."""
    _, file = converted(recipe)
    images = pixels(32, 12)
    makers = {
        "XNNPACK": lambda: litert.Interpreter(model_content=file),
        "reference": lambda: litert.Interpreter(model_content=file, experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF),
    }
    if versions.min_runtime_version(flatbuffer.read_model(file)):
        makers["TensorFlow"] = lambda: tf.lite.Interpreter(model_content=file)
    assert ("TensorFlow" in makers) == (recipe != "int8_wide")
    answers = {name: np.stack([_run(make(), image) for image in images]) for name, make in makers.items()}
    ours = np.stack([Interpreter(file).run(image[None])[0] for image in images])
    for name, answer in answers.items():
        correlation = np.corrcoef(answer.ravel(), ours.ravel())[0, 1]
        print(f"{recipe} {name}: correlation {correlation:.6f}")
        assert correlation >= MIN_CORRELATION


def _run(interpreter, image):
    interpreter.allocate_tensors()
    given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = given["quantization"]
    values = image[None].astype(np.float32)
    if scale:
        values = (np.round(values / scale) + zero_point).astype(given["dtype"])
    interpreter.set_tensor(given["index"], values)
    interpreter.invoke()
    answer = interpreter.get_tensor(result["index"])[0].astype(np.float32)
    scale, zero_point = result["quantization"]
    return (answer - zero_point) * scale if scale else answer


# The layers they are made of


def test_dense_layers_by_their_keras_paths(micro_float, micro_model):
    graph = flatbuffer.read_model(micro_float)
    layers = dense_layers(graph)
    roles = ("attention/query", "attention/key", "attention/value", "attention/projection", "mlp/fc1", "mlp/fc2")
    expected = {"patch_embedding/projection", "head", *(f"stage1_block{block}/{role}" for block in (1, 2) for role in roles)}
    assert {layer.layer for layer in layers} == expected
    assert {layer.role for layer in layers} == {"patch_embedding/projection", "head", *roles}
    fc2 = next(layer for layer in layers if layer.layer == "stage1_block2/mlp/fc2")
    np.testing.assert_allclose(weight_matrix(graph, fc2), np.asarray(micro_model.get_layer("stage1_block2").mlp.fc2.kernel).T, rtol=1e-6)


def test_a_shared_constant_is_changed_for_one_layer_only(micro_float):
    graph = flatbuffer.read_model(micro_float)
    first, second = [layer for layer in dense_layers(graph) if layer.role == "mlp/fc2"]
    first.operator.inputs = np.array([first.input, second.weights, first.bias], np.int32)
    shared = weight_matrix(graph, second).copy()
    first = next(layer for layer in dense_layers(graph) if layer.name == first.name)
    set_constant(graph, first, 1, 2.0 * shared)
    written = flatbuffer.read_model(flatbuffer.write_model(graph))
    changed, kept = [layer for layer in dense_layers(written) if layer.role == "mlp/fc2"]
    np.testing.assert_array_equal(weight_matrix(written, changed), 2.0 * shared)
    np.testing.assert_array_equal(weight_matrix(written, kept), shared)
