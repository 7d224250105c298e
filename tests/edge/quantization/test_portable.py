"""The portable form of a graph: the same answers, from operations that other readers have."""

import json

import numpy as np
import pytest
import tensorflow as tf

from edge import convert, verify
from edge.quantization import quantize
from edge.quantization.dense_layers import dense_layers
from edge.quantization.portable import give_plain_names, make_portable
from edge.quantization.recipes import RECIPES
from edge.runtime.cpu import Interpreter
from edge.tflite import flatbuffer
from tests.edge.small_models import run_command
from tfvit.errors import EXIT_OK, EXIT_USAGE

GRID = (1, 4, 6, 8)
VALUES = np.linspace(-30, 30, 4 * 6 * 8, dtype=np.float32).reshape(GRID)
# of the fit to the exact form, everywhere (its own limit is 2.52e-5); of the short one for integers; of float32 arithmetic at values of 30
# for the tanh formula
MOST_OFF, MOST_OFF_SHORT, ROUNDING = 2.6e-5, 2.8e-4, 1e-5
_WEIGHTS = np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32)


def _portable(file: bytes, integers: bool = False) -> bytes:
    model = flatbuffer.read_model(file)
    make_portable(model, integers)
    return flatbuffer.write_model(model)


@pytest.mark.parametrize(("approximate", "most"), [(False, MOST_OFF), (True, ROUNDING)])
def test_gelu_in_other_operations(small_graph, approximate, most):
    file = small_graph(lambda x: tf.nn.gelu(x * 1.0, approximate=approximate), GRID)
    written_out = _portable(file)
    counts = flatbuffer.operator_counts(flatbuffer.read_model(written_out))
    assert set(counts) == {"ADD", "LOGISTIC", "MUL"} | (set() if approximate else {"MINIMUM"})
    # a square beyond float32 is cut off by the minimum; at 1e30 XNNPACK's logistic function gives NaN on AVX-512
    for scale in (1e-3, 0.1, 1.0, 1e20):
        difference = np.abs(Interpreter(written_out).run(VALUES * scale) - Interpreter(file).run(VALUES * scale)).max()
        assert difference <= most * max(1.0, scale), scale


def test_a_shorter_gelu_for_integers(small_graph):
    file = small_graph(lambda x: tf.nn.gelu(x * 1.0, approximate=False), GRID)
    made = _portable(file, integers=True)
    assert flatbuffer.operator_counts(flatbuffer.read_model(made)) == {"ADD": 1, "LOGISTIC": 1, "MUL": 4}
    assert np.abs(Interpreter(made).run(VALUES) - Interpreter(file).run(VALUES)).max() <= MOST_OFF_SHORT


def test_a_dense_layer_of_a_grid_becomes_a_convolution(small_graph):
    file = small_graph(lambda x: tf.nn.relu(tf.einsum("bhwc,cd->bhwd", x * 1.0, tf.constant(_WEIGHTS)) + 1.0), GRID)
    made = _portable(file)
    (layer,) = dense_layers(flatbuffer.read_model(made))
    assert layer.operation == "CONV_2D"
    assert flatbuffer.tensor_shape(flatbuffer.read_model(made), layer.weights) == (5, 1, 1, 8)
    np.testing.assert_allclose(Interpreter(made).run(VALUES), Interpreter(file).run(VALUES), rtol=1e-5, atol=1e-4)


def test_other_dense_layers_stay(small_graph):
    file = small_graph(lambda x: x @ tf.constant(_WEIGHTS), (3, 8))
    assert [layer.operation for layer in dense_layers(flatbuffer.read_model(_portable(file)))] == ["FULLY_CONNECTED"]


def test_names_without_joins_are_told_apart(micro_float):
    model = flatbuffer.read_model(micro_float)
    for tensor in model.subgraphs[0].tensors[3:6]:
        tensor.name = b"same;joined"
    give_plain_names(model)
    names = [flatbuffer.tensor_name(model, index) for index in range(len(model.subgraphs[0].tensors))]
    assert names[3:6] == ["same", "same_2", "same_3"]
    assert len(set(names)) == len(names)
    assert not any(";" in name for name in names)


@pytest.mark.parametrize("recipe", ["float32", "float16", "dynamic"])
def test_a_portable_file_reads_its_constants_as_they_are(micro_float, recipe):
    """No int8 constant behind a DEQUANTIZE, and every dense layer keeps its Keras path."""
    portable = RECIPES[recipe].for_any_reader()
    files = [quantize.quantize(quantize.prepared(micro_float, one), one) for one in (RECIPES[recipe], portable)]
    usual, model = (flatbuffer.read_model(file) for file in files)
    assert "GELU" in flatbuffer.operator_counts(usual)
    assert "GELU" not in flatbuffer.operator_counts(model)
    unpacking = [operator for name, operator in flatbuffer.operators(model) if name == "DEQUANTIZE"]
    unpacked = {flatbuffer.tensor_type(model, int(operator.inputs[0])) for operator in unpacking}
    assert unpacked <= {"FLOAT16"}
    assert [layer.layer for layer in dense_layers(model)] == [layer.layer for layer in dense_layers(usual)]


def test_the_usual_form_is_left_alone(micro_float):
    assert quantize.prepared(micro_float, RECIPES["float32"]) is micro_float


@pytest.mark.parametrize("recipe", ["int4", "smallest", "int8_wide", "w8a16"])
def test_recipes_without_a_portable_form(capfd, recipe):
    ran = run_command(convert.main, capfd, "--variant", "nano32", "--quant", f"int8,{recipe}", "--portable")
    assert ran.code == EXIT_USAGE
    assert f"--quant {recipe}:" in ran.err
    assert "float32, float16, int8, dynamic, int8_full" in ran.err


@pytest.mark.whole
def test_the_flag_is_recorded_and_the_file_made_again(capfd, tmp_path):
    arguments = ("--variant", "micro", "--quant", "dynamic", "--weights", "random:1", "--no-gate", "--portable", "--out", tmp_path)
    assert run_command(convert.main, capfd, *arguments).code == EXIT_OK
    (path,) = tmp_path.glob("*.tflite")
    assert "GELU" not in flatbuffer.operator_counts(flatbuffer.read_model(path.read_bytes()))
    assert json.loads(path.with_suffix(".json").read_text())["settings"]["portable"] is True
    assert run_command(verify.main, capfd, path).code == EXIT_OK
