"""KerasHub's preset folders, as its 0.32 writes them."""

import json

import h5py
import numpy as np
import pytest

from tfvit.checkpoints import layouts
from tfvit.checkpoints.reading import read_checkpoint
from tfvit.errors import WeightsError
from tfvit.preprocessing import Preprocessing

_BLOCK = {
    "attn.qkv": "attn/qkv", "attn.proj": "attn/proj", "mlp.fc1": "mlp/fc1", "mlp.fc2": "mlp/fc2", "norm1": "norm1", "norm2": "norm2",
}  # fmt: skip


def _numbered(name, index):
    return name if index == 0 else f"{name}_{index}"


def _place(name, tensor):
    """timm's name -> the place in a preset's file, and the array there."""
    index = 0 if name.endswith("weight") else 1
    array = tensor.T if tensor.ndim == 2 else tensor
    parts = name.split(".")
    if parts[0] == "patch_embed":
        array = layouts.CONVOLUTION.to_ours(tensor) if tensor.ndim == 4 else tensor
        return f"layers/patch_embedding/{parts[1]}/vars/{index}", array
    if parts[0] == "norm":
        return f"layers/layer_normalization/vars/{index}", array
    stage = int(parts[1])
    if parts[2] == "downsample":  # at the end of the stage before
        return f"layers/{_numbered('swin_transformer_stage', stage - 1)}/downsample/{parts[3]}/vars/{index}", array
    block = f"layers/{_numbered('swin_transformer_stage', stage)}/blocks/{_numbered('swin_transformer_block', int(parts[3]))}"
    if parts[-1] == "relative_position_bias_table":
        return f"{block}/attn/vars/0", tensor
    return f"{block}/{_BLOCK['.'.join(parts[4:-1])]}/vars/{index}", array


def _preset(folder, tensors, head=True, **changes):
    folder.mkdir()
    sizes = {"image_shape": [64, 64, 3], "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
    config = {
        "module": "keras_hub.src.models.swin_transformer.swin_transformer_backbone", "class_name": "SwinTransformerBackbone",
        "config": {**sizes, "mlp_ratio": 4.0, "qkv_bias": True, "patch_norm": True}, "registered_name": "keras_hub>SwinTransformerBackbone",
        **changes,
    }  # fmt: skip
    converter = {
        "image_size": [64, 64], "scale": [1 / 58.395, 1 / 57.12, 1 / 57.375],
        "offset": [-123.675 / 58.395, -116.28 / 57.12, -103.53 / 57.375],
        "interpolation": "bicubic", "antialias": True, "crop_to_aspect_ratio": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "image_converter.json").write_text(json.dumps({"config": converter}))
    with h5py.File(folder / "model.weights.h5", "w") as file:
        for name, tensor in tensors.items():
            if not name.startswith("head."):
                place, array = _place(name, tensor)
                file[place] = array
    if head:
        with h5py.File(folder / "task.weights.h5", "w") as file:
            file["layers/dense/vars/0"], file["layers/dense/vars/1"] = tensors["head.fc.weight"].T, tensors["head.fc.bias"]
            file["optimizer/vars/0"] = 3
    return folder


def test_a_classifier(tensors, equal, tmp_path):
    checkpoint = read_checkpoint(_preset(tmp_path / "preset", tensors[1]))
    assert (checkpoint.format, checkpoint.classes, checkpoint.notes) == ("kerashub", 5, ())
    assert checkpoint.preprocessing == Preprocessing(64, 64, "bicubic")
    assert sorted(checkpoint.tensors) == sorted(tensors[1])
    for name, tensor in tensors[1].items():
        np.testing.assert_array_equal(checkpoint.tensors[name], tensor)
    equal(checkpoint, 1)


def test_a_backbone(tensors, tmp_path):
    assert read_checkpoint(_preset(tmp_path / "preset", tensors[1], head=False)).classes is None


def test_another_model(tensors, tmp_path):
    with pytest.raises(WeightsError, match="KerasHub's ResNetBackbone"):
        read_checkpoint(_preset(tmp_path / "preset", tensors[1], class_name="ResNetBackbone"))
