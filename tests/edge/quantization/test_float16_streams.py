"""Streams scaled for float16: the same answers, with room for their squares; and nothing touched that scaling would change."""

import numpy as np
import pytest
import tensorflow as tf

from edge.quantization.dense_layers import dense_layers, set_constant, weight_matrix
from edge.quantization.float16_headroom import headroom, largest_numbers
from edge.quantization.float16_streams import LEAST_MEAN, SHORT_DB, with_room
from edge.runtime.cpu import Interpreter
from edge.tflite import flatbuffer

# What writes residual streams
WRITERS = ("attention/projection", "mlp/fc2", "merging/reduction", "patch_embedding/projection")
SHAPE = (1, 4, 4, 16)
WEIGHTS = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)


def larger(file, times):
    """The file with every writer's outputs so many times as large: another network, for which float16 may be too small."""
    model = flatbuffer.read_model(file)
    for layer in dense_layers(model):
        if layer.role in WRITERS:
            set_constant(model, layer, 1, times * weight_matrix(model, layer))
            if layer.bias is not None:
                set_constant(model, layer, 2, times * flatbuffer.float_constant(model, layer.bias))
    return flatbuffer.write_model(model)


def answers(file, images):
    interpreter = Interpreter(file)
    return np.concatenate([interpreter.run(image) for image in images])


def least(file, images):
    return headroom(file, images)[0].headroom_db


@pytest.mark.parametrize("times", [2.0**8, 2.0**11])
def test_room_and_the_same_answers(tiny, times):
    images = list(tiny.images[:, None])
    file = larger(tiny.file("float32"), times)
    made = with_room(file, images)
    print(f"{least(file, images):.1f} dB before, {least(made, images):.1f} dB behind")
    assert least(file, images) < 0.0
    assert least(made, images) >= SHORT_DB
    np.testing.assert_allclose(answers(made, images), answers(file, images), rtol=1e-5, atol=1e-7)
    before, after = flatbuffer.read_model(file), flatbuffer.read_model(made)
    assert flatbuffer.operator_counts(after) == flatbuffer.operator_counts(before)
    assert len(made) <= len(file) * 1.001


def test_enough_room_is_left_alone(tiny):
    images = list(tiny.images[:, None])
    file = tiny.file("float32")
    assert least(file, images) >= SHORT_DB
    assert with_room(file, images) is file


def _norm(stream):
    return stream * tf.math.rsqrt(tf.reduce_mean(stream * stream, -1, keepdims=True) + 1e-5)


def _written(x):
    return tf.einsum("bhwc,cd->bhwd", x, 300.0 * WEIGHTS) + 7.0


def _read_and_written(stream):
    return stream + tf.einsum("bhwc,cd->bhwd", stream, WEIGHTS) + 5.0


@pytest.mark.parametrize(
    ("function", "is_scaled"),
    [
        (lambda x: _norm(_written(x)), True),
        (lambda x: _norm(tf.concat([_written(x), _written(2.0 * x)], 1)[:, 1:7]), True),
        (lambda x: _norm(tf.pad(tf.reshape(_written(x), (1, 1, 16, 16)), ((0, 0), (0, 0), (1, 0), (0, 0))) + 3.0), True),  # a class token
        (lambda x: (_norm(_written(x)), tf.einsum("bhwc,cd->bhwd", _written(x), WEIGHTS)), True),  # the reader takes it back
        (lambda x: _norm(_read_and_written(_written(x))), True),
        (lambda x: _norm(x), False),  # the graph's own input
        (lambda x: (_norm(_written(x)), _written(x)), False),  # an output
        (lambda x: (_norm(_written(x)), tf.tanh(_written(x))), False),
        (lambda x: (_norm(_written(x)), tf.nn.softmax(_written(x))), False),
        (lambda x: _norm(tf.nn.relu(_written(x))), False),
        (lambda x: _written(x) * tf.math.rsqrt(tf.reduce_mean(_written(x) ** 2, -1, keepdims=True) + 1e-5 * (x[..., :1] ** 2)), False),
        (lambda x: tf.tanh(x) * tf.math.rsqrt(tf.reduce_mean(_written(x) ** 2, -1, keepdims=True) + 1e-5), False),
    ],
)
def test_only_what_comes_out_the_same_is_scaled(small_graph, function, is_scaled):
    images = [np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32) for seed in range(3)]
    file = small_graph(function, SHAPE)
    images = [image * (2000.0 if not is_scaled else 1.0) for image in images]  # the input alone may be too large
    assert least(file, images) < SHORT_DB
    made = with_room(file, images)
    assert (made is not file) == is_scaled
    if is_scaled:
        assert least(made, images) >= SHORT_DB
        for one, other in zip(Interpreter(file).run_each(images[0]), Interpreter(made).run_each(images[0]), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def test_a_norm_that_sees_little_keeps_it(small_graph):
    """A stream that grows is scaled as far as the squares at its beginning stay numbers of full precision, and no further."""

    def growing(x):
        first = tf.einsum("bhwc,cd->bhwd", x, 0.1 * WEIGHTS)
        return _norm(first), _norm(first + tf.einsum("bhwc,cd->bhwd", x, 3e4 * WEIGHTS))

    images = [np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32) for seed in range(3)]
    file = small_graph(growing, SHAPE)
    made = with_room(file, images)
    numbers = [[one for one in largest_numbers(data, images).values() if one.op == "MEAN"] for data in (file, made)]
    before, after = (sorted(one.largest / one.summed for one in each) for each in numbers)
    print(before, after)
    assert LEAST_MEAN <= after[0] < 4 * LEAST_MEAN
    assert after[1] < before[1] / 1000
    np.testing.assert_allclose(answers(made, images), answers(file, images), rtol=1e-5, atol=1e-6)


def test_values_that_float16_keeps(tiny):
    """Computed in float16 by NumPy, the squares of a stream are infinite before and finite behind."""
    images = list(tiny.images[:1, None])
    file = larger(tiny.file("float32"), 2.0**11)
    made = with_room(file, images)

    def squares(data):
        model = flatbuffer.read_model(data)
        found = [int(one.outputs[0]) for name, one in flatbuffer.operators(model) if name == "MUL" and one.inputs[0] == one.inputs[1]]
        return [value.astype(np.float16) for value in Interpreter(flatbuffer.with_outputs(data, found)).run_each(images[0])]

    with np.errstate(over="ignore"):
        assert any(np.isinf(value).any() for value in squares(file))
        assert all(np.isfinite(value).all() for value in squares(made))
