"""Compact constants: masks exact, biases as good as their range allows and the same to a softmax, everything else untouched."""

import numpy as np
import pytest

from edge.quantization import compact_constants
from edge.runtime.cpu import Interpreter, xnnpack_partitions
from edge.tflite import flatbuffer
from tfvit.graph_constants import MASK, MASK_VALUE, POSITION_BIAS

HEADS, TOKENS = 3, 64


def _softmax(scores):
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    """A mask, a bias whose rows lie far apart, and a constant of no attention layer, each [1, 1, nH, N * N]."""
    rng = np.random.default_rng(0)
    bias = rng.uniform(-2.0, 2.0, (HEADS, TOKENS, TOKENS)) + 10.0 * rng.standard_normal((HEADS, TOKENS, 1))
    mask = np.where(rng.random((1, TOKENS, TOKENS)) < 0.3, MASK_VALUE, 0.0)
    other = rng.standard_normal((1, 1, HEADS, TOKENS * TOKENS))
    named = {f"{POSITION_BIAS}block": bias.reshape(1, 1, HEADS, -1), f"{MASK}plan": mask.reshape(1, 1, 1, -1), "other": other}
    return {name: value.astype(np.float32) for name, value in named.items()}


@pytest.fixture
def model(small_graph, values):
    """scores + bias + mask + other, with the names an export gives."""
    bias, mask, other = values.values()
    file = small_graph(lambda x: ((x + bias) * 1.5 + mask) * 2.0 + other, (1, 1, HEADS, TOKENS * TOKENS))
    graph = flatbuffer.read_model(file)
    for index, tensor in enumerate(graph.subgraphs[0].tensors):
        data = flatbuffer.constant(graph, index)
        for name, value in values.items():
            if data is not None and len(data) == value.nbytes and np.array_equal(np.frombuffer(data.tobytes(), np.float32), value.ravel()):
                tensor.name = name.encode()
    return graph


def _stored(graph) -> dict[str, str]:
    """Name of a large constant -> its type."""
    found = {}
    for index in range(len(graph.subgraphs[0].tensors)):
        data = flatbuffer.constant(graph, index)
        if data is not None and len(data) > 1000:
            found[flatbuffer.tensor_name(graph, index).removesuffix("_int8").removesuffix("_float16")] = flatbuffer.tensor_type(
                graph, index
            )
    return found


@pytest.mark.parametrize(
    ("float16", "int8_from", "types"),
    [
        (False, None, ("FLOAT32", "FLOAT32", "FLOAT32")),
        (True, None, ("FLOAT16", "FLOAT16", "FLOAT16")),
        (False, 0, ("INT8", "INT8", "FLOAT32")),
        (True, 10**9, ("FLOAT16", "INT8", "FLOAT16")),
    ],
    ids=["nothing", "float16", "int8 biases", "float16 biases"],
)
def test_what_is_stored_how(model, values, float16, int8_from, types):
    compact_constants.store_compactly(model, float16, int8_from)
    assert _stored(model) == dict(zip(values, types, strict=True))
    partitions = xnnpack_partitions(flatbuffer.write_model(model))
    assert partitions.partitions == 1
    assert partitions.left_over == {}


def test_answers(model, values):
    bias, mask, other = (value.astype(np.float64) for value in values.values())
    compact_constants.store_compactly(model, False, 0)
    pixels = np.random.default_rng(1).standard_normal(bias.shape).astype(np.float32)
    got = Interpreter(flatbuffer.write_model(model)).run(pixels)
    exact = ((pixels + bias) * 1.5 + mask) * 2.0 + other
    # a row of scores may be off by a constant, which the softmax behind it does not see
    rows = (HEADS * TOKENS, TOKENS)
    difference = (got - exact).reshape(rows)
    step = 3.0 * 2.0 / 127  # bias rows reach 2 to either side of their middle
    print("largest error within a row:", np.abs(difference - np.median(difference, axis=1, keepdims=True)).max(), "half a step:", step / 2)
    assert np.ptp(difference, axis=1).max() <= 1.01 * step
    assert np.ptp(difference, axis=1).max() > 0.1 * step  # it really is 8 bits
    assert np.abs(_softmax(got.reshape(rows)) - _softmax(exact.reshape(rows))).max() < 2 * step


def test_a_mask_is_exact():
    mask = np.array([0.0, MASK_VALUE], np.float32).repeat(1000)
    stored, scale = compact_constants._stored(f"{MASK}plan", mask, False, 0)
    np.testing.assert_array_equal(stored.astype(np.float32) * np.float32(scale), mask)


def test_a_bias_of_zeros():
    stored, scale = compact_constants._stored(f"{POSITION_BIAS}block", np.zeros((1, 1, 2, 1024), np.float32), False, 0)
    assert not stored.any()
    assert np.isfinite(scale)


def test_every_bias_and_mask_of_a_model_is_found(tiny):
    """By their names in the file: one bias a block, one mask a shifted stage."""
    for recipe, kind in (("int8", "INT8"), ("dynamic", "INT8"), ("float16", "FLOAT16")):
        graph = tiny.graph(recipe)
        names = [flatbuffer.tensor_name(graph, index) for index in range(len(graph.subgraphs[0].tensors))]
        stored = {
            name: flatbuffer.tensor_type(graph, index) for index, name in enumerate(names) if flatbuffer.constant(graph, index) is not None
        }
        biases = {name: stored[name] for name in stored if name.startswith(POSITION_BIAS)}
        masks = [stored[name] for name in stored if name.startswith(MASK)]
        print(tiny.variant.id, recipe, len(biases), "biases,", len(masks), "masks")
        assert len(biases) == sum(tiny.variant.depths)
        assert kind in biases.values()
        assert set(biases.values()) <= {kind, "FLOAT32"}  # below a thousand elements they stay
        assert masks
        assert "INT8" in masks
