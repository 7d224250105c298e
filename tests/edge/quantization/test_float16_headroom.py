"""The largest numbers of a file against what float16 holds: sums inside means included, and a norm that overflows is found."""

import json

import numpy as np
import pytest
import tensorflow as tf

from edge import inspect
from edge.quantization.float16_headroom import headroom
from tfvit.errors import EXIT_OK, EXIT_UNUSABLE, InputError

SHAPE = (1, 4, 4, 3)


def _ones(value: float) -> list[np.ndarray]:
    return [np.full(SHAPE, value, np.float32)]


def test_values_and_sums(small_graph):
    file = small_graph(lambda x: tf.reduce_mean(x * x, -1, keepdims=True), SHAPE)
    (one,) = headroom(file, _ones(100.0))[:1]
    assert (one.op, one.what, one.largest) == ("MEAN", "sum of 3", 30_000.0)
    assert one.headroom_db == pytest.approx(20 * np.log10(65504 / 30_000))


@pytest.mark.parametrize(("value", "overflows"), [(140.0, False), (160.0, True)])
def test_squares_that_fit_and_a_sum_that_does_not(small_graph, value, overflows):
    """160 ** 2 fits float16, three of them do not; NumPy's own float16 says the same."""
    file = small_graph(lambda x: tf.reduce_mean(x * x, -1, keepdims=True), SHAPE)
    squares = np.square(np.full(3, value, np.float16))
    with np.errstate(over="ignore"):
        assert np.isinf(np.add.reduce(squares, dtype=np.float16)) == overflows
    assert np.isfinite(squares).all()
    assert (headroom(file, _ones(value))[0].headroom_db < 0) == overflows


def test_files_of_integers_are_refused(micro_files, capfd):
    assert inspect.main([str(micro_files["int8_full"]), "--float16", "--quiet"]) == EXIT_UNUSABLE
    assert "no float activations" in capfd.readouterr().err


def test_the_command_names_the_layers(micro_files, capfd):
    assert inspect.main([str(micro_files["float32"]), "--float16", "--json", "--quiet"]) == EXIT_OK
    found = json.loads(capfd.readouterr().out)["float16"]
    assert (found["limit"], found["source"], found["images"]) == (65504.0, "builtin", 16)
    decibels = [one["headroom_db"] for one in found["layers"]]
    assert decibels == sorted(decibels)
    assert any("norm" in one["layer"] and one["what"].startswith("sum of") for one in found["layers"])


def test_no_image(small_graph):
    with pytest.raises(InputError):
        headroom(small_graph(lambda x: x + 1.0, SHAPE), [])
