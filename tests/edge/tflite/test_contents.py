"""What takes the bytes of a file adds up to the file, whoever made it."""

import numpy as np
import pytest
import tensorflow as tf

from edge.quantization import quantize
from edge.quantization.recipes import RECIPES
from edge.tflite.contents import contents
from tfvit.errors import InputError

# Of a file of ours, what no purpose is known of
MOST_LAYOUT = 0.02


@pytest.mark.parametrize("recipe", ["float32", "float16", "dynamic"])
def test_every_byte_of_our_files_has_a_purpose(micro_float, recipe):
    file = quantize.quantize(micro_float, RECIPES[recipe])
    found = contents(file)
    print(found)
    assert sum(found.values()) == len(file)
    assert 0 <= found.get("layout", 0) < MOST_LAYOUT * len(file)
    assert all(size > 0 for size in found.values())
    weights = {name for name in found if name.startswith("weights")}
    assert (
        weights
        == {
            "float32": {"weights, float32"},
            "float16": {"weights, float16", "weights, float32"},
            "dynamic": {"weights, int8"},
        }[recipe]
    )


def test_a_file_of_someone_else(small_graph):
    weights = np.random.default_rng(0).standard_normal((32, 8)).astype(np.float32)
    offset = np.arange(64, dtype=np.float32).reshape(8, 8)
    file = small_graph(lambda x: tf.matmul(x, weights) + offset, (8, 32))
    found = contents(file)
    print(found)
    assert sum(found.values()) == len(file)
    assert (found["weights, float32"], found["other constants"]) == (weights.nbytes, offset.nbytes)


def test_what_is_embedded(micro_files):
    file = micro_files["int8"].read_bytes()
    found = contents(file)
    print(found)
    assert sum(found.values()) == len(file)
    assert found["metadata"] > 1000
    assert found["position biases and masks"] > 0


def test_a_damaged_file(micro_float):
    with pytest.raises(InputError, match="damaged"):
        contents(micro_float[: len(micro_float) // 2])
