"""Files of weights by their content."""

import numpy as np
import pytest

from tfvit.checkpoints.files import H5, KERAS, SAFETENSORS, TORCH, kind_of_file, read_file
from tfvit.errors import WeightsError


def test_kinds_by_content(make, models, tensors, tmp_path):
    from safetensors.numpy import save_file

    models[1].save(tmp_path / "m.keras")
    models[1].save_weights(tmp_path / "m.weights.h5")
    save_file(tensors[1], tmp_path / "m.safetensors")
    make.torch_save(tensors[1], tmp_path / "m.pth")
    kinds = {"m.keras": KERAS, "m.weights.h5": H5, "m.safetensors": SAFETENSORS, "m.pth": TORCH}
    for index, (name, kind) in enumerate(kinds.items()):
        renamed = (tmp_path / name).rename(tmp_path / f"nameless{index}")
        assert kind_of_file(renamed) == kind
        assert read_file(renamed).kind == kind


@pytest.mark.parametrize("content", [b"", b"hello, I am no checkpoint", b"\x08\x00", b"\xff" * 8 + b"{"])
def test_other_files(content, tmp_path):
    (tmp_path / "w.bin").write_bytes(content)
    assert kind_of_file(tmp_path / "w.bin") is None
    with pytest.raises(WeightsError, match="unknown format"):
        read_file(tmp_path / "w.bin")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(WeightsError, match="No such file"):
        read_file(tmp_path / "none.pth")


def test_an_old_pickle_is_told_by_its_reader(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.")
    with pytest.raises(WeightsError, match=r"before 1\.6"):
        read_file(tmp_path / "w.pt")


def test_a_keras_file_that_declares_too_much(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(10 << 20))
    with pytest.raises(WeightsError, match="larger than the file"):
        read_file(tmp_path / "m.keras")


def test_notes_of_a_training_checkpoint(make, tmp_path):
    state = {"a": np.zeros(2, np.float32), "step": 3}
    content = read_file(make.torch_save({"model": state, "model_ema": state, "epoch": 3}, tmp_path / "w.pth"), ema=True)
    assert content.notes == (
        "w.pth: the moving average of the weights is taken, 'model_ema'; model passed over",
        "w.pth: 1 entries that are no tensors were passed over (step)",
    )
    assert content.others["epoch"] == 3


def test_bfloat16_becomes_float32(tmp_path):
    """As transformers saves a model that was trained in it; beside tensors of other types."""
    import json
    import struct

    wide = np.array([[1.5, -2.0], [0.0, 3.25]], np.float32)
    raw = (wide.view("<u4") >> 16).astype("<u2").tobytes()
    header = {
        "a": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]},
        "b": {"dtype": "F32", "shape": [2, 2], "data_offsets": [8, 24]},
        "c": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
    }
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + raw + wide.tobytes() + raw[:2]
    (tmp_path / "w.safetensors").write_bytes(content)
    tensors = read_file(tmp_path / "w.safetensors").tensors
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()} == {
        "a": (np.float32, (2, 2)), "b": (np.float32, (2, 2)), "c": (np.float32, ()),
    }  # fmt: skip
    np.testing.assert_array_equal(tensors["a"], wide)
    np.testing.assert_array_equal(tensors["b"], wide)
    assert tensors["c"] == 1.5
    (tmp_path / "w.safetensors").write_bytes(content[:-1])
    with pytest.raises(WeightsError, match="complete safetensors"):
        read_file(tmp_path / "w.safetensors")
