"""Quantized values moved as bytes: the same answers to the last bit, fewer float values moved, what cannot be moved left alone."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from edge.drift.limits import Limits
from edge.quantization import quantize
from edge.quantization.int8_movement import move_as_bytes
from edge.quantization.ranges import collect
from edge.quantization.recipes import RECIPES, STATIC, Recipe
from edge.runtime.cpu import Interpreter, xnnpack_partitions
from edge.tflite import flatbuffer

pytestmark = pytest.mark.whole

ALL_STATIC = Recipe("static", "", Limits(0.0, 0.0, 100.0), dense=STATIC)
MOVING = ("RESHAPE", "TRANSPOSE", "STRIDED_SLICE", "SLICE", "CONCATENATION", "SPACE_TO_DEPTH")


def _moved(file: bytes) -> bytes:
    model = flatbuffer.read_model(file)
    move_as_bytes(model)
    return flatbuffer.write_model(model)


def _types_moved(file: bytes) -> collections.Counter:
    """Operation and type of what is moved -> how often."""
    graph = flatbuffer.read_model(file)
    found = collections.Counter()
    for name, operator in flatbuffer.operators(graph):
        if name in MOVING:
            found[name, flatbuffer.tensor_type(graph, int(operator.outputs[0]))] += 1
    return found


def test_the_same_answers_with_bytes(tiny, monkeypatch):
    float_file = tiny.file("float32")
    samples = [image[None].astype(np.float32) for image in tiny.images]
    calibration = collect(float_file, quantize.static_tensors(float_file, ALL_STATIC), samples, 1)
    with monkeypatch.context() as patch:
        patch.setattr(quantize, "move_as_bytes", lambda model: None)
        plain = quantize.quantize(float_file, ALL_STATIC, calibration)
    moved = quantize.quantize(float_file, ALL_STATIC, calibration)
    before, after = _types_moved(plain), _types_moved(moved)
    print(tiny.variant.id, dict(before), "->", dict(after))
    assert before["TRANSPOSE", "INT8"] == 0
    assert after["TRANSPOSE", "INT8"] >= 3 * sum(tiny.variant.depths)  # into windows, back, and the heads of the value at least
    assert after["CONCATENATION", "FLOAT32"] == 0
    assert sum(before.values()) == sum(after.values())
    for pixels in samples:
        np.testing.assert_array_equal(Interpreter(moved).run(pixels), Interpreter(plain).run(pixels))
    assert xnnpack_partitions(moved).partitions == 1


def test_once_is_enough(tiny):
    file = tiny.file("int8")
    assert _moved(file) == flatbuffer.write_model(flatbuffer.read_model(file))


def test_what_others_read_stays(small_graph):
    """A dequantized value that is added to as well as transposed, and a transposed one that is added to as well as quantized."""
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((16, 16)).astype(np.float32) for _ in range(2))

    def network(x):
        y = tf.matmul(x, first)
        turned = tf.transpose(y, (0, 2, 1, 3))
        z = tf.matmul(turned, second)
        return z + turned + tf.nn.relu(tf.transpose(y, (0, 2, 1, 3)) + 1.0)

    file = small_graph(network, (1, 4, 4, 16))
    samples = [rng.standard_normal((1, 4, 4, 16)).astype(np.float32) for _ in range(3)]
    tensors = quantize.static_tensors(file, ALL_STATIC)
    quantized = quantize.quantize(file, ALL_STATIC, collect(file, tensors, samples, 1))
    assert flatbuffer.operator_counts(flatbuffer.read_model(quantized))["QUANTIZE"] >= 2
    exact, got = Interpreter(file).run(samples[0]), Interpreter(_moved(quantized)).run(samples[0])
    np.testing.assert_array_equal(got, Interpreter(quantized).run(samples[0]))
    assert np.abs(got - exact).max() <= 0.1 * np.abs(exact).max()


def test_float_files_are_left_alone(tiny):
    for recipe in ("float32", "float16", "dynamic"):
        file = tiny.file(recipe)
        assert _types_moved(_moved(file)) == _types_moved(file)
        assert not any(kind == "INT8" for _, kind in _types_moved(file))


def test_the_int8_recipe_uses_it(tiny):
    assert RECIPES["int8"].dense_mode("attention/query", 64) == STATIC
    assert _types_moved(tiny.file("int8"))["TRANSPOSE", "INT8"] > 0
