"""Plain models' checkpoints: transformers, the official releases, timm; equal to the recorded originals, wrong ones refused."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tfvit.checkpoints import read_checkpoint
from tfvit.checkpoints.building import build, from_checkpoint
from tfvit.checkpoints.official import official_tensors
from tfvit.errors import WeightsError
from tfvit.plain import VisionTransformer
from tfvit.preprocessing import normalize
from tfvit.weights import randomize

REFERENCE = Path(__file__).parents[3].parent / "shared" / "data" / "reference"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="reference tensors are not there (../shared/data/reference)")
# of the largest value: float32 arithmetic in another order
TOLERANCE = 1e-5


def _equal(received, expected):
    assert np.abs(received - expected).max() <= TOLERANCE * np.abs(expected).max()


@needs_reference
@pytest.mark.parametrize(("name", "pooling"), [("hf_vit", "token"), ("hf_dinov2", "token_avg")])
def test_transformers_folders_as_they_are_saved(name, pooling):
    """Every hidden state and the logits; labels and preprocessing."""
    found = read_checkpoint(REFERENCE / name)
    recorded = np.load(REFERENCE / name / "reference.npz")
    assert (found.format, found.classes, found.architecture["pooling"]) == ("transformers", 5, pooling)
    assert found.labels == tuple(f"thing {index}" for index in range(5))
    side = recorded["pixels"].shape[1]
    assert found.architecture["input_shape"] == (side, side, 3)
    geometry = {"resize_px": side, "crop_px": side, "interpolation": "bilinear", "keep_aspect": False}
    assert found.preprocessing.geometry() == geometry
    assert found.preprocessing.mean == found.preprocessing.std == (127.5, 127.5, 127.5)
    model = build(found, name, classifier_activation=None)
    inputs = normalize(recorded["pixels"].astype(np.float32), found.preprocessing)
    outputs = keras.Model(model.input, [model.get_layer(f"block{number}").output for number in (1, 2, 3)] + [model.output])(inputs)
    for number, block in enumerate(outputs[:-2], start=1):
        _equal(keras.ops.convert_to_numpy(block)[:, 0], recorded[f"hidden_{number}"])
    _equal(keras.ops.convert_to_numpy(outputs[-1]), recorded["logits"])


@needs_reference
@pytest.mark.parametrize("case", ["token", "prelogits", "gap"])
def test_official_releases(case):
    found, recorded = read_checkpoint(REFERENCE / f"vit_{case}.weights.npz"), np.load(REFERENCE / f"vit_{case}.npz")
    assert (found.format, found.architecture["num_heads"], found.architecture["gelu"]) == ("original", 3, "tanh")
    assert found.preprocessing.std == (127.5, 127.5, 127.5)
    model = build(found, case, classifier_activation=None)
    _equal(keras.ops.convert_to_numpy(model(recorded["input"])), recorded["logits"])


@pytest.fixture(scope="module")
def small():
    """64 channels: one head, as timm's models of this width have."""
    model = VisionTransformer(
        embed_dim=64, depth=2, num_heads=1, patch_size=8, input_shape=(32, 32, 3), classes=3, classifier_activation=None
    )
    randomize(model, 0)
    return model


@pytest.fixture
def folder(small, tmp_path):
    """As timm saves it."""
    save_file(official_tensors(small), tmp_path / "model.safetensors")
    cfg = {
        "input_size": [3, 32, 32],
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "label_names": ["a", "b", "c"],
    }
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224", "num_classes": 3, "pretrained_cfg": cfg}))
    return tmp_path


def test_a_folder_of_timm(small, folder):
    found = read_checkpoint(folder)
    assert (found.format, found.labels, found.preprocessing.resize_px) == ("timm", ("a", "b", "c"), 35)
    model = from_checkpoint(folder, classifier_activation=None)
    pixels = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    _equal(keras.ops.convert_to_numpy(model(pixels)), keras.ops.convert_to_numpy(small(pixels)))


def test_the_gelu_of_clip_is_kept(folder):
    """timm says it in the architecture's name, transformers in `hidden_act`."""
    assert read_checkpoint(folder).architecture["gelu"] == "exact"
    config = json.loads((folder / "config.json").read_text()) | {"architecture": "vit_tiny_patch16_quickgelu_224"}
    (folder / "config.json").write_text(json.dumps(config))
    assert read_checkpoint(folder).architecture["gelu"] == "quick"
    said_by_transformers = {"model_type": "vit", "hidden_act": "quick_gelu", "num_attention_heads": 1}
    (folder / "config.json").write_text(json.dumps(said_by_transformers))
    assert read_checkpoint(folder).architecture["gelu"] == "quick"
    mlp = from_checkpoint(folder).get_layer("block1").mlp
    assert mlp.gelu == "quick"


def test_a_bare_file_says_what_it_assumes(small, tmp_path):
    """The tensors of timm do not tell the number of heads."""
    save_file({f"module.{name}": tensor for name, tensor in official_tensors(small).items()}, tmp_path / "anything.bin")
    found = read_checkpoint(tmp_path / "anything.bin")
    assert found.architecture["input_shape"] == (32, 32, 3)
    assert any("how many heads" in note for note in found.notes)
    assert found.assumed == ("number of heads",)


def test_positions_are_resized_to_the_processor(small, folder):
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["input_size"] = [3, 48, 48]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="position embeddings of 4 x 4 patches are resized to 6 x 6"):
        assert from_checkpoint(folder).input_shape == (None, 48, 48, 3)
    config["pretrained_cfg"]["input_size"] = [3, 36, 36]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="36 px in patches of 8"):
        read_checkpoint(folder)


def test_what_does_not_belong_together_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["label_names"] = ["a", "b"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="2 classes, as its labels say"):
        read_checkpoint(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 96}))
    with pytest.raises(WeightsError, match="embed_dim 96"):
        read_checkpoint(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "dinov2", "use_swiglu_ffn": True}))
    with pytest.raises(WeightsError, match="use_swiglu_ffn"):
        read_checkpoint(folder)


@needs_reference
def test_another_variant_is_refused():
    from tfvit.variants import find_variant

    with pytest.raises(WeightsError, match="is not vit_tiny16_224"):
        read_checkpoint(REFERENCE / "hf_vit", find_variant("vit_tiny16_224"))


def test_a_backbone_without_a_head(small, folder):
    tensors = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if not name.startswith("head.")}
    save_file(tensors, folder / "model.safetensors")
    found = read_checkpoint(folder)
    assert (found.classes, found.labels, found.missing_head) == (None, None, "head.weight [classes, 64] and head.bias [classes]")
    assert from_checkpoint(folder).output_shape == (None, 64)
