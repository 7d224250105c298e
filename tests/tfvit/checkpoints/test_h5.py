"""Our own Keras files, by place and back to timm's names."""

import h5py
import numpy as np
import pytest

from tfvit.checkpoints import h5
from tfvit.checkpoints.reading import read_checkpoint
from tfvit.errors import WeightsError


@pytest.mark.parametrize("version", [1, 2])
def test_a_saved_model(version, models, tensors, equal, tmp_path):
    models[version].save(tmp_path / "m.keras")
    checkpoint = read_checkpoint(tmp_path / "m.keras")
    assert (checkpoint.format, checkpoint.image_size, checkpoint.architecture["window_size"]) == ("tfvit", 64, 4)
    assert sorted(checkpoint.tensors) == sorted(tensors[version])
    for name, tensor in tensors[version].items():
        np.testing.assert_array_equal(checkpoint.tensors[name], tensor)
    equal(checkpoint, version)


def test_weights_alone(models, equal, tmp_path):
    models[1].save_weights(tmp_path / "m.weights.h5")
    (tmp_path / "m.weights.h5").rename(tmp_path / "renamed")
    equal(read_checkpoint(tmp_path / "renamed"), 1)


def test_the_names_of_layers_are_read_too(models, tensors):
    """As other versions of Keras write them: layers/stage1_block1 instead of layers/block."""
    arrays = {}
    for weight in models[1].weights:
        layer, *inner, name = weight.path.split("/")
        if inner == ["attention"]:
            arrays[f"layers/{layer}/attention/vars/0"] = np.asarray(weight)
        else:
            index = {"kernel": 0, "gamma": 0, "bias": 1, "beta": 1}[name]
            arrays["/".join(("layers", layer, *inner, "vars", str(index)))] = np.asarray(weight)
    found = h5.timm_tensors(arrays)
    assert sorted(found) == sorted(tensors[1])
    for name, tensor in tensors[1].items():
        np.testing.assert_array_equal(found[name], tensor)


def test_blocks_in_the_order_of_their_numbers():
    assert h5.in_order(["block_10", "block", "block_2"]) == ["block", "block_2", "block_10"]
    assert h5.in_order(["stage2_block1", "stage1_block10", "stage1_block9"]) == ["stage1_block9", "stage1_block10", "stage2_block1"]


def test_arrays_that_are_declared_and_not_stored(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_dataset("layers/norm/vars/0", shape=(1 << 40,), chunks=(1 << 20,), dtype="float32")
    with pytest.raises(WeightsError, match="in 0 bytes"):
        h5.read_h5(tmp_path / "w.h5", "w.h5")


def test_damaged_files(models, tmp_path):
    models[1].save_weights(tmp_path / "m.weights.h5")
    content = (tmp_path / "m.weights.h5").read_bytes()
    (tmp_path / "m.weights.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match="unreadable weights file"):
        read_checkpoint(tmp_path / "m.weights.h5")
