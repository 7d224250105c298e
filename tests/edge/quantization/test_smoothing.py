"""Outliers among channels: the function kept, 8 bits made fit for them, and nothing done where there are none."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from edge.quantization import quantize, ranges
from edge.quantization.dense_layers import dense_layers
from edge.quantization.recipes import DYNAMIC, FLOAT, RECIPES, STATIC
from edge.quantization.smoothing import smoothed
from edge.runtime.cpu import Interpreter
from edge.tflite import flatbuffer

SHAPE, CHANNELS, OUTLIERS = (1, 4, 6, 16), 16, (3, 11)
RNG = np.random.default_rng(0)
FIRST, SECOND = (RNG.standard_normal((CHANNELS, CHANNELS)).astype(np.float32) for _ in range(2))
# factors are powers of two: what is left is the order of additions
SAME = 1e-6


def recipe(mode):
    return dataclasses.replace(RECIPES["int8"], dense=mode, dense_by_role=(), min_output_snr_db=None)


def network(small_graph, height):
    """Two layers that read a tensor with two channels `height` times the rest, and a sum that reads it too."""
    gains = np.ones(CHANNELS, np.float32)
    gains[list(OUTLIERS)] = height
    first, second = FIRST.copy(), SECOND.copy()
    for weights in (first, second):  # what a trained model does: such channels are read with small weights
        weights[list(OUTLIERS)] /= height**0.5

    def function(x):
        stream = tf.nn.relu(tf.tanh(x) * gains)  # without relu the converter takes the gains into the layers
        return tf.nn.relu(tf.einsum("bhwc,cd->bhwd", stream, first)) + tf.tanh(tf.einsum("bhwc,cd->bhwd", stream, second)) + stream * 0.01

    return small_graph(function, SHAPE)


def images(count, seed):
    return np.random.default_rng(seed).standard_normal((count, *SHAPE)).astype(np.float32)


def calibrated(file, of):
    tensors, patches = quantize.watched_tensors(file, of)
    return ranges.collect(file, tensors, iter(images(16, 1)), 1, patches)


def answers(file):
    interpreter = Interpreter(file)
    return np.stack([interpreter.run(image) for image in images(8, 2)])


def error_db(expected, received):
    return 10 * np.log10(np.mean(np.square(received - expected)) / np.var(expected))


@pytest.mark.parametrize("mode", [STATIC, DYNAMIC])
def test_outliers_leave_the_others_their_steps(small_graph, mode):
    file = network(small_graph, 100.0)
    plain = calibrated(file, recipe(mode))
    changed, known = smoothed(file, plain, recipe(mode))
    before, after = (flatbuffer.operator_counts(flatbuffer.read_model(one)) for one in (file, changed))
    assert after["MUL"] == before["MUL"] + 1  # both layers read one product
    layers = dense_layers(flatbuffer.read_model(changed))
    assert len({layer.input for layer in layers}) == 1
    expected = answers(file)
    assert np.abs(answers(changed) - expected).max() <= SAME * np.abs(expected).max()
    ours = error_db(expected, answers(quantize.quantize(changed, recipe(mode), known)))
    theirs = error_db(expected, answers(quantize.quantize(file, recipe(mode), plain)))
    print(mode, ours, theirs)
    assert ours <= theirs - 8.0


def test_what_is_known_of_the_new_tensor_is_what_runs_there(small_graph):
    file = network(small_graph, 100.0)
    changed, known = smoothed(file, calibrated(file, recipe(STATIC)), recipe(STATIC))
    (name,) = {
        flatbuffer.tensor_name(flatbuffer.read_model(changed), layer.input) for layer in dense_layers(flatbuffer.read_model(changed))
    }
    seen = calibrated(changed, recipe(STATIC))
    np.testing.assert_allclose(known.ranges[name], seen.ranges[name], rtol=1e-6)
    np.testing.assert_allclose(known.rows[name], seen.rows[name], rtol=1e-6)


def test_even_channels_are_left_alone(small_graph):
    file = network(small_graph, 1.0)
    plain = calibrated(file, recipe(STATIC))
    assert smoothed(file, plain, recipe(STATIC)) == (file, plain)


@pytest.mark.parametrize("other", [recipe(FLOAT), RECIPES["dynamic"], RECIPES["int8_full"]], ids=["float", "uncalibrated", "integers"])
def test_only_layers_that_round_their_inputs_by_calibration(small_graph, other):
    file = network(small_graph, 100.0)
    plain = calibrated(file, recipe(STATIC))
    assert smoothed(file, plain, other) == (file, plain)


def test_a_layer_that_stays_in_float_reads_what_it_read(small_graph):
    file = network(small_graph, 100.0)
    _, second = dense_layers(flatbuffer.read_model(file))
    mixed = dataclasses.replace(recipe(STATIC), dense_by_role=((second.role, FLOAT),))
    changed, _ = smoothed(file, calibrated(file, recipe(STATIC)), mixed)
    inputs = {layer.name: layer.input for layer in dense_layers(flatbuffer.read_model(changed))}
    assert inputs[second.name] == second.input
    assert len(set(inputs.values())) == 2


def test_extremes_of_channels(small_graph):
    file = network(small_graph, 30.0)
    found = calibrated(file, recipe(STATIC))
    (name,) = found.channels
    low, high = found.channels[name]
    assert found.ranges[name] == (pytest.approx(low.min()), pytest.approx(high.max()))
    stream = np.maximum(np.tanh(images(16, 1)).reshape(-1, CHANNELS), 0.0)
    stream[:, list(OUTLIERS)] *= 30.0
    np.testing.assert_allclose([low, high], [stream.min(axis=0), stream.max(axis=0)], rtol=1e-5)
