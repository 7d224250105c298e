"""Hugging Face transformers: its own numbers, its names, its configuration and its processors."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from tfvit.checkpoints.building import build
from tfvit.checkpoints.reading import read_checkpoint
from tfvit.errors import WeightsError
from tfvit.preprocessing import Preprocessing, normalize

REFERENCE = Path(__file__).parents[3].parent / "shared" / "data" / "reference"
# Largest absolute difference, in units of the tensor's largest absolute value: float32 rounding stays two orders of magnitude below
RELATIVE_TOLERANCE = 1e-4
# hidden_i of transformers is what enters stage i + 1: after the merging, the last one before the final norm
LAYERS = {
    "hidden_0": "patch_embedding",
    "hidden_1": "stage2_merging",
    "hidden_2": "stage3_merging",
    "hidden_3": "stage4_merging",
    "hidden_4": "stage4_block2",
    "logits": "head",
}


@pytest.mark.parametrize("name", ["hf_swin", "hf_swinv2"])
def test_every_hidden_state_and_the_logits_are_those_of_transformers(name):
    folder = REFERENCE / name
    if not folder.is_dir():
        pytest.skip(f"{name}, a folder as transformers saves it, is not on this machine")
    checkpoint = read_checkpoint(folder)
    assert checkpoint.format == "transformers"
    assert checkpoint.labels == tuple(f"thing {index}" for index in range(5))
    assert checkpoint.notes == ()
    side = {"hf_swin": 224, "hf_swinv2": 256}[name]
    half = (127.5, 127.5, 127.5)
    assert checkpoint.preprocessing == Preprocessing(side, side, "bilinear", keep_aspect=False, mean=half, std=half)
    model = build(checkpoint, name, classifier_activation=None)
    recorded = np.load(folder / "reference.npz")
    images = normalize(recorded["pixels"], checkpoint.preprocessing)
    outputs = keras.Model(model.input, {key: model.get_layer(layer).output for key, layer in LAYERS.items()})(images)
    assert sorted(LAYERS) == sorted(set(recorded.files) - {"pixels"})
    differences = {}
    for key, output in outputs.items():
        expected = recorded[key]
        differences[key] = np.abs(np.asarray(output).reshape(expected.shape) - expected).max() / np.abs(expected).max()
    assert all(difference <= RELATIVE_TOLERANCE for difference in differences.values()), differences


@pytest.mark.parametrize("version", [1, 2])
def test_names_both_ways(version, make, tensors, equal, tmp_path):
    named = make.huggingface_names(tensors[version])
    checkpoint = read_checkpoint(make.folder(tmp_path / "run", make.huggingface_config(version), named, make.PROCESSOR))
    assert sorted(checkpoint.tensors) == sorted(tensors[version])
    for name, tensor in tensors[version].items():
        np.testing.assert_array_equal(checkpoint.tensors[name], tensor)
    equal(checkpoint, version)


def test_a_base_model_has_no_head(make, tensors, tmp_path):
    body = {name: tensor for name, tensor in tensors[1].items() if not name.startswith("head.")}
    named = make.huggingface_names(body, base="") | {"embeddings.mask_token": np.zeros((1, 1, 16), np.float32)}
    config = make.huggingface_config(architectures=["SwinModel"])
    checkpoint = read_checkpoint(make.folder(tmp_path / "run", config, named))
    assert (checkpoint.classes, checkpoint.labels, checkpoint.preprocessing) == (None, None, None)
    assert build(checkpoint, "run").output_shape == (None, 32)


def test_names_that_stand_in_for_labels_are_none(make, tensors, tmp_path):
    config = make.huggingface_config(id2label={str(index): f"LABEL_{index}" for index in range(5)})
    assert read_checkpoint(make.folder(tmp_path / "run", config, make.huggingface_names(tensors[1]))).labels is None


def test_labels_in_the_order_of_their_numbers(make, tensors, tmp_path):
    config = make.huggingface_config(id2label={str(index): f"tench,\n Tinca {index}" for index in (4, 2, 0, 1, 3)})
    checkpoint = read_checkpoint(make.folder(tmp_path / "run", config, make.huggingface_names(tensors[1])))
    assert checkpoint.labels == tuple(f"tench, Tinca {index}" for index in range(5))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Preprocessing(64, 64, "bilinear", False, (127.5,) * 3, (127.5,) * 3)),
        ({"resample": 3}, Preprocessing(64, 64, "bicubic", False, (127.5,) * 3, (127.5,) * 3)),
        ({"do_normalize": False}, Preprocessing(64, 64, "bilinear", False, (0.0,) * 3, (255.0,) * 3)),
        ({"do_rescale": False, "image_mean": [10, 20, 30]}, Preprocessing(64, 64, "bilinear", False, (10.0, 20.0, 30.0), (0.5,) * 3)),
        ({"rescale_factor": 1 / 127.5}, Preprocessing(64, 64, "bilinear", False, (63.75,) * 3, (63.75,) * 3)),
        (
            {"size": {"shortest_edge": 73}, "do_center_crop": True, "crop_size": {"height": 64, "width": 64}},
            Preprocessing(73, 64, "bilinear", True, (127.5,) * 3, (127.5,) * 3),
        ),
        ({"size": {"shortest_edge": 64}, "crop_pct": 0.875}, Preprocessing(73, 64, "bilinear", True, (127.5,) * 3, (127.5,) * 3)),
        ({"size": 64}, Preprocessing(64, 64, "bilinear", False, (127.5,) * 3, (127.5,) * 3)),
        ({"size": 64, "image_processor_type": "CLIPImageProcessor"}, Preprocessing(64, 64, "bilinear", True, (127.5,) * 3, (127.5,) * 3)),
        ({"do_resize": False}, None),
        ({"size": None}, None),
        ({"image_mean": None}, None),
    ],
)
def test_processors(changes, expected, make, tensors, tmp_path):
    config, named = make.huggingface_config(), make.huggingface_names(tensors[1])
    assert read_checkpoint(make.folder(tmp_path / "run", config, named, {**make.PROCESSOR, **changes})).preprocessing == expected


def test_a_way_to_resize_that_apps_do_not_know(make, tensors, tmp_path):
    run = make.folder(tmp_path / "run", make.huggingface_config(), make.huggingface_names(tensors[1]), {**make.PROCESSOR, "resample": 1})
    checkpoint = read_checkpoint(run)
    assert checkpoint.preprocessing.interpolation == "bicubic"
    assert "lanczos" in checkpoint.notes[0]


def test_a_processor_of_another_size_wins(make, tensors, tmp_path):
    processor = {**make.PROCESSOR, "size": {"height": 32, "width": 32}}
    checkpoint = read_checkpoint(make.folder(tmp_path / "run", make.huggingface_config(), make.huggingface_names(tensors[1]), processor))
    assert checkpoint.image_size == checkpoint.preprocessing.crop_px == 32
    assert "32 px" in checkpoint.notes[0]


@pytest.mark.parametrize(
    ("changes", "received"),
    [
        ({"model_type": "bert", "architectures": ["BertModel"]}, "'bert' model (BertModel)"),
        ({"model_type": "convnext"}, "'convnext' model"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"use_absolute_embeddings": True}, "use_absolute_embeddings True"),
        ({"layer_norm_eps": 1e-3}, "layer_norm_eps 0.001"),
        ({"image_size": [64, 32]}, "image size [64, 32]"),
    ],
)
def test_models_that_are_not_here(changes, received, make, tmp_path):
    run = make.folder(tmp_path / "run", make.huggingface_config(**changes), {"weight": np.zeros(3, np.float32)})
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(run)
    assert received in caught.value.received
    assert len(str(caught.value).splitlines()) == 4


def test_a_processor_of_bgr_images(make, tensors, tmp_path):
    processor = {**make.PROCESSOR, "do_flip_channel_order": True}
    with pytest.raises(WeightsError, match="BGR"):
        read_checkpoint(make.folder(tmp_path / "run", make.huggingface_config(), make.huggingface_names(tensors[1]), processor))


def test_shards_and_their_index(make, tensors, equal, tmp_path):
    from safetensors.numpy import save_file

    run = make.folder(tmp_path / "run", make.huggingface_config(2))
    named = make.huggingface_names(tensors[2])
    shards = {f"model-0000{index + 1}-of-00002.safetensors": sorted(named)[index::2] for index in range(2)}
    for shard, names in shards.items():
        save_file({name: np.ascontiguousarray(named[name]) for name in names}, run / shard)
    index = {"metadata": {}, "weight_map": {name: shard for shard, names in shards.items() for name in names}}
    (run / "model.safetensors.index.json").write_text(json.dumps(index))
    equal(read_checkpoint(run), 2)
    (run / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match="00002"):
        read_checkpoint(run)


def test_pytorch_model_bin(make, tensors, equal, tmp_path):
    run = make.folder(tmp_path / "run", make.huggingface_config(2))
    make.torch_save(make.huggingface_names(tensors[2]), run / "pytorch_model.bin")
    (run / "optimizer.pt").write_bytes((run / "pytorch_model.bin").read_bytes())  # as the Trainer leaves them
    equal(read_checkpoint(run), 2)
    equal(read_checkpoint(run / "pytorch_model.bin"), 2)  # the configuration is beside it


def test_names_in_memory(make, tensors, equal, tmp_path):
    """`torch.save(model.state_dict())` in transformers 5 has others than `save_pretrained` writes."""
    renamed = {}
    for name, tensor in make.huggingface_names(tensors[1]).items():
        name = name.replace(".attention.output.dense.", ".attention.o_proj.").replace(".intermediate.dense.", ".mlp.fc1.")
        name = name.replace(".output.dense.", ".mlp.fc2.").replace("self.relative_position", "relative_position_bias.relative_position")
        for part in ("query", "key", "value"):
            name = name.replace(f".attention.self.{part}.", f".attention.{part[0]}_proj.")
        renamed[f"model.{name}"] = tensor
    assert any(".q_proj." in name for name in renamed)
    equal(read_checkpoint(make.torch_save({"state_dict": renamed}, tmp_path / "last.ckpt")), 1)
