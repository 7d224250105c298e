"""Means over channels taken of a row: the same numbers, and no mean left that an Ethos-U's compiler refuses."""

import numpy as np
import pytest
import tensorflow as tf

from edge.quantization.flat_means import flatten_means
from edge.runtime.cpu import Interpreter
from edge.tflite import flatbuffer, npu_rules

GRID = (1, 4, 6, 8)


def _flattened(file: bytes) -> bytes:
    model = flatbuffer.read_model(file)
    flatten_means(model)
    return flatbuffer.write_model(model)


def _means(file: bytes) -> list[tuple[int, ...]]:
    model = flatbuffer.read_model(file)
    return [flatbuffer.tensor_shape(model, int(operator.inputs[0])) for name, operator in flatbuffer.operators(model) if name == "MEAN"]


def test_the_same_numbers(small_graph):
    file = small_graph(lambda x: x * tf.reduce_mean(x * x, -1, keepdims=True) - tf.reduce_mean(x, -1, keepdims=True), GRID)
    flat = _flattened(file)
    x = np.random.default_rng(0).standard_normal(GRID).astype(np.float32)
    np.testing.assert_array_equal(Interpreter(flat).run(x), Interpreter(file).run(x))
    assert _means(file) == [GRID, GRID]
    assert _means(flat) == [(1, 1, 24, 8)] * 2


def test_two_means_of_one_grid_share_a_reshape(small_graph):
    file = small_graph(lambda x: tf.reduce_mean(x, -1, keepdims=True) + x * tf.reduce_mean(x, [3], keepdims=True), GRID)
    means = len(_means(file))
    counts = flatbuffer.operator_counts(flatbuffer.read_model(_flattened(file)))
    assert counts["RESHAPE"] == 1 + means


@pytest.mark.parametrize(
    ("mean", "shape"),
    [
        (lambda x: tf.reduce_mean(x, [1, 2]), GRID),  # pooling
        (lambda x: tf.reduce_mean(x, -1), GRID),  # drops the axis
        (lambda x: tf.reduce_mean(x, -1, keepdims=True), (1, 1, 24, 8)),  # a row already
        (lambda x: tf.reduce_mean(x, -1, keepdims=True), (24, 8)),
    ],
)
def test_other_means_stay(small_graph, mean, shape):
    file = small_graph(mean, shape)
    assert flatbuffer.operator_counts(flatbuffer.read_model(_flattened(file))) == flatbuffer.operator_counts(flatbuffer.read_model(file))


def test_the_rules_see_a_mean_over_a_grid(micro_files):
    """int8_full is whole; with its reshapes taken away it would not be."""
    model = flatbuffer.read_model(micro_files["int8_full"].read_bytes())
    assert npu_rules.npu_summary(model)["verdict"] == "whole"
    (first, *_) = (operator for name, operator in flatbuffer.operators(model) if name == "MEAN")
    model.subgraphs[0].tensors[int(first.inputs[0])].shape = np.array(GRID, np.int32)
    summary = npu_rules.npu_summary(model)
    assert (summary["verdict"], summary["on_cpu"][0]["op"], summary["on_cpu"][0]["operations"]) == ("partly", "MEAN", 1)
