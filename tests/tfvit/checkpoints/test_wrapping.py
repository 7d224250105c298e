"""What training scripts put around tensor names."""

import numpy as np
import pytest

from tfvit.checkpoints.reading import read_checkpoint
from tfvit.checkpoints.wrapping import unwrapped
from tfvit.errors import WeightsError

ANCHOR, HF_ANCHOR = "patch_embed.proj.weight", "embeddings.patch_embeddings.projection.weight"


def _tensors(*names):
    return {name: np.full(2, index, np.float32) for index, name in enumerate(names)}


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "model.", "backbone.", "_orig_mod.module.", "model._orig_mod.net.", "a.b.c."]
)
def test_any_prefix(prefix):
    inner, notes = unwrapped(_tensors(f"{prefix}{ANCHOR}", f"{prefix}norm.bias"), "w.pth")
    assert (sorted(inner), notes) == (["norm.bias", ANCHOR], ())


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
@pytest.mark.parametrize("base", ["swin.", "swinv2.", ""])
def test_the_base_model_of_transformers(prefix, base):
    inner, _ = unwrapped(_tensors(f"{prefix}{base}{HF_ANCHOR}", f"{prefix}classifier.bias"), "w.bin")
    assert sorted(inner) == sorted((f"{base}{HF_ANCHOR}", "classifier.bias"))


def test_what_stands_beside_the_model_is_left_out_and_said():
    inner, notes = unwrapped(_tensors(f"model.{ANCHOR}", "criterion.weight", "metric.a", "metric.b", "metric.c"), "w.ckpt")
    assert list(inner) == [ANCHOR]
    assert notes == ("w.ckpt: 4 tensors beside the model 'model.' were left out (criterion.weight, metric.a, metric.b, …)",)


@pytest.mark.parametrize("head", ["head", "head.fc", "fc", "classifier"])
def test_a_classifier_beside_its_backbone(head):
    outer = {f"net.{head}.weight": np.zeros((5, 2), np.float32), f"net.{head}.bias": np.zeros(5, np.float32)}
    inner, notes = unwrapped(_tensors(f"net.backbone.{ANCHOR}") | outer, "w.pth")
    assert sorted(inner) == ["head.bias", "head.weight", ANCHOR]
    assert f"the classifier is net.{head}" in notes[0]


def test_a_moving_average_in_the_same_state_dict():
    tensors = _tensors(f"model.{ANCHOR}", f"model_ema.module.{ANCHOR}")
    inner, notes = unwrapped(tensors, "w.ckpt")
    assert inner[ANCHOR][0] == 1
    assert "'model_ema.module.' is taken" in notes[0]
    inner, _ = unwrapped(tensors, "w.ckpt", ema=False)
    assert inner[ANCHOR][0] == 0
    inner, notes = unwrapped(_tensors(ANCHOR, f"ema.{ANCHOR}"), "w.pth", ema=False)
    assert (list(inner), inner[ANCHOR][0]) == ([ANCHOR], 0)


def test_several_models():
    with pytest.raises(WeightsError, match="several models") as caught:
        unwrapped(_tensors(f"one.{ANCHOR}", f"two.{ANCHOR}"), "w.pth")
    assert "'one.', 'two.'" in caught.value.received


def test_nothing_known_is_left_as_it_is():
    tensors = _tensors("layer1.weight", "layer1.bias")
    assert unwrapped(tensors, "w.pth") == (tensors, ())


@pytest.mark.parametrize("ending", ["pth", "pt", "bin", "ckpt", "pth.tar", "best", "safetensors"])
def test_any_ending(ending, make, tensors, equal, tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / f"model.{ending}"
    wrapped = {f"_orig_mod.{name}": tensor for name, tensor in tensors[1].items()}
    if ending in ("safetensors", "best"):
        save_file(wrapped, path)
    else:
        make.torch_save({"model_state_dict": wrapped, "epoch": 3, "loss": 0.5}, path)
    equal(read_checkpoint(path), 1)
