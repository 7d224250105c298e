"""`python -m tfvit.compare` on the reference tensors of the original, under both naming schemes, and what makes it fail."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tfvit import compare
from tfvit.errors import EXIT_UNUSABLE, EXIT_USAGE

REFERENCE = Path(__file__).parents[2].parent / "shared" / "data" / "reference"
PRETRAINED = ("--pretrained-window-sizes", "12,12,12,6")
CASES = [
    ("v1_window7_224.safetensors", "v1_window7_224.npz", ()),
    ("v1_window7_224.original.pth", "v1_window7_224.npz", ()),
    ("v1_window7_224.safetensors", "v1_window7_224x448.npz", ()),
    ("v2_window16_256.safetensors", "v2_window16_256.npz", ()),
    ("v2_window16_256.original.pth", "v2_window16_256.npz", ()),
    ("v2_window12to16_256.safetensors", "v2_window12to16_256.npz", PRETRAINED),
    *((f"vit_{head}.weights.npz", f"vit_{head}.npz", ()) for head in ("token", "prelogits", "gap")),
]
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference tensors of the original model are not on this machine")


def _run(capfd, *arguments):
    code = compare.main([str(argument) for argument in arguments])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


@needs_reference
@pytest.mark.parametrize(("checkpoint", "reference", "flags"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_every_layer_equals_the_original(checkpoint, reference, flags, capfd):
    code, out, _ = _run(capfd, REFERENCE / checkpoint, REFERENCE / reference, *flags, "--json", "--quiet")
    document = json.loads(out)
    for row in document["layers"]:
        print(f"{checkpoint} {row['layer']}: max {row['max_abs']:.1e}, mean {row['mean_abs']:.1e}, {row['max_of_scale']:.1e} of scale")
    assert code == 0
    assert document["passed"]
    recorded = set(np.load(REFERENCE / reference).files) - {"input"}
    assert {row["layer"] for row in document["layers"]} == recorded
    assert max(row["max_of_scale"] for row in document["layers"]) <= compare.RELATIVE_TOLERANCE


@needs_reference
def test_a_changed_weight_fails_and_names_the_layer(tmp_path, capfd):
    tensors = load_file(REFERENCE / "v1_window7_224.safetensors")
    tensors["layers.2.blocks.1.mlp.fc2.weight"] *= 1.01
    save_file(tensors, tmp_path / "changed.safetensors")
    code, out, _ = _run(capfd, tmp_path / "changed.safetensors", REFERENCE / "v1_window7_224.npz", "--json")
    rows = {row["layer"]: row["max_of_scale"] for row in json.loads(out)["layers"]}
    assert code == 1
    assert rows["stage1"] <= compare.RELATIVE_TOLERANCE < rows["stage2"]


@needs_reference
def test_a_recorded_nan_fails(tmp_path, capfd):
    recorded = dict(np.load(REFERENCE / "v1_window7_224.npz"))
    recorded["logits"][0, 0] = np.nan
    np.savez(tmp_path / "nan.npz", **recorded)
    code, out, _ = _run(capfd, REFERENCE / "v1_window7_224.safetensors", tmp_path / "nan.npz")
    assert code == 1
    assert "FAILED" in out


@needs_reference
@pytest.mark.parametrize(
    ("checkpoint", "reference", "flags", "code", "words"),
    [
        ("nowhere.safetensors", "v1_window7_224.npz", (), EXIT_UNUSABLE, "unreadable weights file"),
        ("v1_window7_224.safetensors", "nowhere.npz", (), EXIT_UNUSABLE, "No such file"),
        ("v1_window7_224.safetensors", "v1_window7_224.safetensors", (), EXIT_UNUSABLE, "unreadable reference"),
        ("v2_window16_256.safetensors", "v2_window16_256.npz", ("--pretrained-window-sizes", "a,b"), EXIT_USAGE, "a,b"),
    ],
)
def test_unusable_input_is_one_error(checkpoint, reference, flags, code, words, capfd):
    found, out, err = _run(capfd, REFERENCE / checkpoint, REFERENCE / reference, "--quiet", *flags)
    assert found == code
    assert out == ""
    assert words in err
    assert len(err.splitlines()) <= 4


@needs_reference
def test_a_checkpoint_of_something_else(tmp_path, capfd):
    save_file({"conv1.weight": np.zeros((3, 3), "float32")}, tmp_path / "other.safetensors")
    code, _, err = _run(capfd, tmp_path / "other.safetensors", REFERENCE / "v1_window7_224.npz", "--quiet")
    assert code == 3
    assert "not a checkpoint of this architecture" in err
