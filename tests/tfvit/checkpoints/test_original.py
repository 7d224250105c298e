"""The original release's training checkpoints: configuration, buffers, optimizer and all."""

import numpy as np
import pytest

from tfvit.checkpoints.reading import read_checkpoint
from tfvit.preprocessing import Preprocessing


def _original(tensors):
    """timm's tensors as the original release calls them."""
    import re

    named = {re.sub(r"^head\.fc\.", "head.", name): tensor for name, tensor in tensors.items()}
    return {re.sub(r"^layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name): t for name, t in named.items()}


def _buffers(version, window=4, pretrained=0, side=64):
    """As the original registers them."""
    grid = side // 4
    found = {"layers.0.blocks.1.attn_mask": np.zeros(((grid // window) ** 2, window**2, window**2), np.float32)}
    for stage in range(2):
        for block in range(2):
            found[f"layers.{stage}.blocks.{block}.attn.relative_position_index"] = np.zeros((window**2,) * 2, np.int64)
            if version == 2:
                offsets = np.arange(1 - window, window) / ((pretrained or window) - 1) * 8
                axis = np.sign(offsets) * np.log2(np.abs(offsets) + 1) / np.log2(8)
                table = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)[None].astype(np.float32)
                found[f"layers.{stage}.blocks.{block}.attn.relative_coords_table"] = table
    return found


def _node(make, content):
    """A node of a yacs configuration."""
    made = make.stand_in("yacs.config.CfgNode", dict)()
    made.update({key: _node(make, value) if isinstance(value, dict) else value for key, value in content.items()})
    vars(made).update(__immutable__=True, __deprecated_keys__=set())
    return made


@pytest.mark.parametrize(("version", "crop"), [(1, True), (2, False)])
def test_a_training_checkpoint(version, crop, make, tensors, equal, tmp_path):
    part = {"WINDOW_SIZE": 4, "EMBED_DIM": 16, "PRETRAINED_WINDOW_SIZES": [0, 0]}
    kind = "swinv2" if version == 2 else "swin"
    config = _node(
        make,
        {
            "DATA": {"IMG_SIZE": 64, "INTERPOLATION": "bilinear"},
            "MODEL": {"TYPE": kind, kind.upper(): part},
            "TEST": {"CROP": crop},
        },
    )
    content = {
        "model": _original(tensors[version]) | _buffers(version), "optimizer": {"state": {}, "param_groups": []}, "epoch": 3,
        "lr_scheduler": make.stand_in("timm.scheduler.CosineLRScheduler")(), "scaler": {}, "max_accuracy": 81.2, "config": config,
    }  # fmt: skip
    checkpoint = read_checkpoint(make.torch_save(content, tmp_path / "ckpt_epoch_3.pth"))
    assert (checkpoint.format, checkpoint.notes) == ("original", ())
    assert checkpoint.preprocessing == Preprocessing(73 if crop else 64, 64, "bilinear", keep_aspect=crop)
    assert (checkpoint.image_size, checkpoint.architecture["window_size"]) == (64, 4)
    equal(checkpoint, version)


@pytest.mark.parametrize("pretrained", [0, 3, 12])
def test_buffers_tell_window_size_and_pretraining(pretrained, make, tensors, tmp_path):
    content = {"model": _original(tensors[2]) | _buffers(2, pretrained=pretrained, side=96)}
    checkpoint = read_checkpoint(make.torch_save(content, tmp_path / "w.pth"))
    assert (checkpoint.image_size, checkpoint.architecture["window_size"]) == (96, 4)
    assert checkpoint.architecture["pretrained_window_sizes"] == (pretrained, pretrained)
    assert (checkpoint.preprocessing, checkpoint.notes) == (None, ())


@pytest.mark.parametrize(("window", "padded", "image_size"), [(4, 16, 64), (5, 25, 96), (5, 15, 56)])
def test_masks_of_padded_grids(window, padded, image_size):
    """timm keeps masks too, in a pickled model: of whole windows, which the grid may not be."""
    from tfvit.checkpoints import names

    found = names._of_buffers(
        {"layers.0.blocks.1.attn_mask": np.zeros(((padded // window) ** 2, window**2, window**2), np.float32)}, {0: window, 1: window}, 4
    )
    assert found == {"image_size": image_size}
