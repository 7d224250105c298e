"""The command end to end: exit codes, messages, what is written and what is not."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration import builtin
from edge import convert
from edge.artifacts import artifact
from edge.artifacts.provenance import tool_versions
from edge.quantization.recipes import RECIPES
from edge.runtime.cpu import Interpreter
from tfvit import hashing
from tfvit.checkpoints import official_tensors
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE, EXIT_USAGE
from tfvit.labels import cifar10_labels
from tfvit.preprocessing import NOTHING_SAID
from tfvit.published import SHIPPED_SHA256

pytestmark = pytest.mark.whole

CIFAR10 = Path(__file__).parents[3] / "shared" / "data" / "cifar10"

REFERENCE = Path(__file__).parents[2].parent / "shared" / "data" / "reference"
MOST_ERROR_LINES = 4
MICRO = ("--variant", "micro", "--weights", "random:0")
FAST = ("--quant", "float32", "--calibration-samples", "2")

# The manifest's fields, as docs and contract promise them to scripts; "drift.limits" and open maps are looked at by themselves
CONTRACT_FIELDS = {
    "": "schema_version name variant recipe weights classes input preprocessing output calibration file delegates drift tools",
    "weights": "source sha256 license origin",
    "input": "name shape dtype range layout channels",
    "preprocessing": "resize_px crop_px interpolation keep_aspect",
    "output": "name shape dtype activation",
    "file": "sha256 size_bytes ops max_rank min_runtime_version",
    "delegates": "xnnpack gpu",
    "delegates.xnnpack": "delegated_ops total_ops partitions",
    "delegates.gpu": "verdict refused",
    "drift": "source samples top1_agreement top5_agreement logits_snr_db cosine max_abs_err kl top1_reference top1_target limits passed",
}
CALIBRATION_FIELDS = "source sha256 samples seed"


def assert_one_error(ran, code: int, *words: str) -> None:
    """One short message and nothing else: no traceback, no bug report."""
    assert ran.code == code
    assert 1 <= len(ran.error) <= MOST_ERROR_LINES, ran.err
    assert "Traceback" not in ran.err
    assert "bug in edge" not in ran.err
    assert ran.out == ""
    for word in words:
        assert word in "\n".join(ran.error), word


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def photos(folder: Path, count: int = 4) -> Path:
    """A folder of small images, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), np.uint8)).save(folder / f"{index}.png")
    return folder


# Wrong usage: nothing heavy is loaded, nothing is written


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--variant", "smal224", "--quant", "int8"), ("unknown variant", "'smal224'", "did you mean small224")),
        (("--variant", "", "--quant", "int8"), ("unknown variant",)),
        (("--variant", "small224,", "--quant", "int8"), ("unknown variant",)),
        (("--variant", "small224", "--quant", "dynamik"), ("unknown recipe", "'dynamik'", "did you mean dynamic")),
        (("--variant", "small224", "--quant", "int4", "--max-size", "9"), ("--quant smallest", "--max-size 9 with --quant int4")),
        (("--variant", "small224", "--quant", "smallest", "--max-size", "0"), ("more than 0 MB",)),
        (("--variant", "small224"), ("--quant",)),
        (("--quant", "int8"), ("--variant or --model, one of them, or --checkpoint", "none of them")),
        (("--variant", "small224", "--model", "x.keras", "--quant", "int8"), ("--variant or --model", "both")),
        (("--model", "x.keras", "--weights", "random", "--quant", "int8"), ("has its own weights",)),
        (("--variant", "small224", "--quant", "int8", "--wieghts", "random"), ("--wieghts",)),
        (("--variant", "small224", "--quant", "int8", "--input", "int8"), ("--input",)),
        (("--variant", "small224", "--quant", "int8", "--input", "int16"), ("--input int16 with --quant w8a16", "with --quant int8")),
        (("--variant", "small224", "--quant", "int8", "--min-snr", "high"), ("--min-snr",)),
        (("--variant", "small224", "--quant", "int8", "--min-snr", "nan"), ("--min-snr",)),
        (("--variant", "small224", "--quant", "int8", "--max-top1-drop", "inf"), ("--max-top1-drop",)),
        (("--variant", "small224", "--quant", "int8", "--min-agreement", "nan"), ("--min-agreement",)),
        (("--variant", "small224", "--quant", "int8", "--calibration-samples", "many"), ("--calibration-samples",)),
        (("--variant", "small224", "--quant", "int8", "--weights", "random", "--calibration-samples", "0"), ("samples >= 1",)),
        (("--variant", "small224", "--quant", "int8", "--weights", "random", "--seed", "-1"), ("seed >= 0",)),
        (("--variant", "small224", "--quant", "int8", "--weights", "random:x"), ("random:SEED", "'random:x'")),
    ],
)
def test_wrong_usage(cli, tmp_path, arguments, words):
    ran = cli(*arguments, "--out", tmp_path / "out")
    assert_one_error(ran, EXIT_USAGE, *words)
    assert listing(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("imagenet", ("HF_HUB_OFFLINE", "swin_small_patch4_window7_224")),
        ("imagenet21k", ("HF_HUB_OFFLINE", "ms_in22k")),
        ("missing.safetensors", ("unreadable weights file", "missing.safetensors", "No such file")),
        ("imagnet", ("unknown weights", "'imagnet'")),
    ],
)
def test_weights_that_cannot_be_had(cli, tmp_path, weights, words):
    ran = cli("--variant", "small224", "--quant", "int8", "--weights", weights, "--out", tmp_path / "out")
    assert_one_error(ran, EXIT_UNUSABLE, *words)
    assert listing(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (b"one\n\nthree\n", ("one label on every line", "3 lines, 1 empty")),
        (b"", ("one label on every line",)),
        (b"\xff\xfe\x00", ("UTF-8",)),
        (None, ("No such file",)),
    ],
)
def test_bad_labels(cli, tmp_path, labels, words):
    path = tmp_path / "labels.txt"
    if labels is not None:
        path.write_bytes(labels)
    ran = cli(*MICRO, *FAST, "--labels", path, "--out", tmp_path / "out")
    assert_one_error(ran, EXIT_UNUSABLE, *words)
    assert listing(tmp_path / "out") == {}


# Inputs that cannot be used


def _text_files(folder: Path) -> None:
    for index in range(3):
        (folder / f"{index}.txt").write_text("text")


def _one_image_is_text(folder: Path) -> None:
    photos(folder, 2)
    for index in range(2):
        (folder / f"bad{index}.jpg").write_text("text")


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (lambda folder: None, ("no images", "no files at all")),
        (_text_files, ("no images", "3 files, none of them images", ".txt")),
        (_one_image_is_text, ("unreadable", "bad0.jpg", "bad1.jpg")),
    ],
    ids=["empty", "text files", "text called jpg"],
)
def test_folders_that_cannot_calibrate(cli, tmp_path, fill, words):
    folder = tmp_path / "photos"
    folder.mkdir()
    fill(folder)
    ran = cli(*MICRO, "--quant", "int8", "--calibration", folder, "--out", tmp_path / "out")
    assert_one_error(ran, EXIT_UNUSABLE, *words)
    assert listing(tmp_path / "out") == {}


def test_a_folder_that_is_not_there(cli, tmp_path):
    ran = cli(*MICRO, "--quant", "int8", "--calibration", tmp_path / "photos", "--out", tmp_path / "out")
    assert_one_error(ran, EXIT_UNUSABLE, str(tmp_path / "photos"))


def test_one_unreadable_image_among_many_is_passed_over(cli, tmp_path):
    folder = photos(tmp_path / "photos", 6)
    (folder / "bad.jpg").write_text("text")
    ran = cli(*MICRO, "--quant", "float32", "--calibration", folder, "--calibration-samples", "2", "--no-gate", "--out", tmp_path / "out")
    assert ran.code == EXIT_OK
    assert "using 3" in ran.err or "1 unreadable" in ran.err
    assert artifact.load(tmp_path / "out" / "micro-float32.random.tflite").manifest["drift"]["source"] == "photos"


def test_an_output_directory_below_a_file(cli, tmp_path):
    (tmp_path / "file").write_text("x")
    ran = cli(*MICRO, *FAST, "--out", tmp_path / "file" / "out")
    assert_one_error(ran, EXIT_UNUSABLE, "output directory", "Not a directory", "--out")


def test_a_truncated_checkpoint(cli, tmp_path):
    from safetensors.numpy import save_file

    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    save_file({"patch_embed.proj.weight": np.zeros((16, 3, 4, 4), np.float32)}, whole)
    cut.write_bytes(whole.read_bytes()[:-100])
    ran = cli("--variant", "micro", *FAST, "--weights", cut, "--out", tmp_path / "out")
    assert_one_error(ran, EXIT_UNUSABLE, "unreadable weights file", "cut.safetensors")
    assert listing(tmp_path / "out") == {}


def test_a_checkpoint_of_another_architecture(cli, tmp_path):
    path = REFERENCE / "v1_window7_224.safetensors"
    if not path.is_file():
        pytest.skip("reference checkpoints of the original model are not on this machine")
    ran = cli("--variant", "tiny_v2", *FAST, "--weights", path, "--out", tmp_path / "out")
    assert_one_error(ran, EXIT_UNUSABLE, "do not fit tiny_v2", "missing (", "unexpected (", "misshapen (", "--checkpoint PATH finds out")
    assert listing(tmp_path / "out") == {}


def test_a_checkpoint_with_one_wrong_tensor(cli, tmp_path, micro_model):
    tensors = official_tensors(micro_model)
    del tensors["norm.bias"]
    tensors["nrom.bias"] = np.zeros(16, np.float32)
    tensors["norm.weight"] = np.zeros(15, np.float32)
    path = _saved(tensors, tmp_path / "wrong.safetensors")
    ran = cli("--variant", "micro", *FAST, "--weights", path, "--out", tmp_path / "out")
    assert_one_error(ran, EXIT_UNUSABLE, "1 missing (norm.bias)", "1 unexpected (nrom.bias)", "1 misshapen (norm.weight [15])")


def test_nan_weights(cli, tmp_path, micro_model):
    tensors = official_tensors(micro_model)
    tensors["layers.0.blocks.0.mlp.fc1.weight"][3, 5] = np.nan
    path = _saved(tensors, tmp_path / "nan.safetensors")
    ran = cli(
        "--variant", "micro", "--quant", "all", "--weights", path, "--calibration-samples", "2", "--no-gate", "--out", tmp_path / "out"
    )
    assert_one_error(ran, EXIT_UNUSABLE, "NaN", "check the weights")
    assert listing(tmp_path / "out") == {}


@pytest.mark.slow
def test_weights_too_large_for_float16(cli, tmp_path, micro_model):
    tensors = official_tensors(micro_model)
    tensors["layers.0.blocks.0.mlp.fc1.weight"][3, 5] = 1e9
    path = _saved(tensors, tmp_path / "large.safetensors")
    arguments = ("--weights", path, "--calibration-samples", "2", "--out", tmp_path / "out")
    ran = cli("--variant", "micro", "--quant", "float16", *arguments)
    assert_one_error(ran, EXIT_UNUSABLE, "float16")
    assert listing(tmp_path / "out") == {}
    ran = cli("--variant", "micro", "--quant", "float16,float32", *arguments, "--no-gate", "--json", "--save", tmp_path / "table.json")
    document = json.loads(ran.out)
    assert [(row["recipe"], row["status"]) for row in document["cells"]] == [("float16", "failed"), ("float32", "written")]
    assert "float16" in document["cells"][0]["error"]
    assert (ran.code, sorted(listing(tmp_path / "out"))) == (EXIT_CHECK_FAILED, ["micro-float32.json", "micro-float32.tflite"])
    assert json.loads((tmp_path / "table.json").read_text())["cells"] == document["cells"]
    ran = cli("--variant", "micro", "--quant", "float16,float32", *arguments, "--no-gate")
    assert ran.code == EXIT_CHECK_FAILED
    assert "1 of 2 files FAILED" in ran.out


def test_labels_that_do_not_fit_the_model(cli, tmp_path):
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    ran = cli(*MICRO, *FAST, "--labels", tmp_path / "labels.txt", "--out", tmp_path / "out")
    assert_one_error(ran, EXIT_UNUSABLE, "5 labels", "3 labels")
    assert listing(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.keras", None, ("No such file",)),
        ("text.keras", b"text", ("unreadable Keras model", "text.keras")),
        ("model.h5", b"", ("not a Keras model file", "model.save")),
    ],
)
def test_models_that_cannot_be_read(cli, tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    ran = cli("--model", tmp_path / name, *FAST, "--out", tmp_path / "out")
    assert_one_error(ran, EXIT_UNUSABLE, *words)
    assert listing(tmp_path / "out") == {}


# The gate, and what is current


@pytest.mark.slow
def test_files_for_an_old_runtime(cli, tmp_path):
    """int8 goes without dynamic layers, dynamic is refused, and what needs nothing new is written as ever."""
    arguments = ("--calibration-samples", "4", "--out", tmp_path, "--no-gate", "--quiet", "--json")
    ran = cli(*MICRO, "--quant", "float32,int8", *arguments, "--min-runtime", "2.14")
    assert ran.code == EXIT_OK
    for entry in json.loads(ran.out)["artifacts"]:
        assert (entry["status"], entry["failures"]) == ("written", [])
        assert entry["manifest"]["file"]["min_runtime_version"] in ("2.3.0", "2.9.0")
    ran = cli(*MICRO, "--quant", "int8", *arguments)
    assert json.loads(ran.out)["artifacts"][0]["manifest"]["file"]["min_runtime_version"] == "2.17.0"
    gated = [argument for argument in arguments if argument != "--no-gate"]
    ran = cli(*MICRO, "--quant", "dynamic", *gated, "--min-runtime", "2.14.0")
    (entry,) = json.loads(ran.out)["artifacts"]
    assert (ran.code, entry["status"]) == (EXIT_CHECK_FAILED, "refused")
    assert "needs TensorFlow Lite 2.17.0, asked for 2.14.0 (--min-runtime)" in entry["failures"]
    assert not list(tmp_path.glob("*dynamic*"))
    ran = cli(*MICRO, "--quant", "int8", *arguments, "--min-runtime", "two")
    assert_one_error(ran, EXIT_USAGE, "must be a version like 2.14")


def test_the_life_of_an_artifact(cli, tmp_path):
    """Written, current, forced, of another seed, refused, written without the gate: in this order, in one folder."""
    out = tmp_path / "out"
    arguments = (*FAST, "--out", out, "--quiet", "--json")

    def converted(*more, seed: int = 0):
        ran = cli("--variant", "micro", "--weights", f"random:{seed}", *arguments, *more)
        assert ran.err == ""
        (entry,) = json.loads(ran.out)["artifacts"]
        return ran.code, entry

    def stamps():
        return {path.name: path.stat().st_mtime_ns for path in out.iterdir()}

    code, entry = converted()
    assert (code, entry["status"], entry["failures"]) == (EXIT_OK, "written", [])
    first, first_stamps = listing(out), stamps()
    assert sorted(first) == ["micro-float32.random.json", "micro-float32.random.tflite"]

    code, entry = converted()
    assert (code, entry["status"]) == (EXIT_OK, "current")
    assert entry["manifest"] == json.loads(first["micro-float32.random.json"])
    assert stamps() == first_stamps

    code, entry = converted("--force")
    assert (code, entry["status"]) == (EXIT_OK, "written")
    assert listing(out) == first  # equal inputs, equal bytes
    assert all(stamps()[name] > first_stamps[name] for name in first_stamps)

    ran = cli(*MICRO, *FAST, "--out", out, "--min-snr", "500")
    assert ran.code == EXIT_CHECK_FAILED
    assert re.search(r"logits SNR \d+\.\d dB is below 500 dB", ran.out)
    assert "1 of 1 files were NOT written" in ran.out
    assert "error:" not in ran.err  # a failed check is a result
    assert listing(out) == first  # the older one stays as it was

    code, entry = converted("--min-snr", "190", "--no-gate", seed=2)
    assert (code, entry["status"], len(entry["failures"])) == (EXIT_CHECK_FAILED, "written", 1)
    assert entry["manifest"]["weights"]["source"] == "random:2"
    assert json.loads(listing(out)["micro-float32.random.json"])["drift"]["passed"] is False

    # current, and still a failed check: with the gate and without
    for gate in ((), ("--no-gate",)):
        code, entry = converted("--min-snr", "190", *gate, seed=2)
        assert (code, entry["status"], len(entry["failures"])) == (EXIT_CHECK_FAILED, "current", 1)


def test_a_foreign_file_in_the_way(cli, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "micro-float32.random.tflite").write_bytes(b"mine")
    ran = cli(*MICRO, *FAST, "--out", out)
    assert_one_error(ran, EXIT_UNUSABLE, "in the way", "micro-float32.random.tflite", "--force")
    assert listing(out) == {"micro-float32.random.tflite": b"mine"}


def test_random_weights_are_marked_and_announced(cli, tmp_path):
    ran = cli("--variant", "micro", *FAST, "--out", tmp_path / "out")  # --weights auto
    assert ran.code == EXIT_OK
    assert "warning: no published ImageNet weights for micro" in ran.err
    assert "RANDOM weights" in ran.out
    manifest = artifact.load(tmp_path / "out" / "micro-float32.random.tflite").manifest
    assert (manifest["weights"]["source"], manifest["weights"]["random"]) == ("random:0", True)


def test_a_save_that_fails(cli, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    ran = cli(*MICRO, *FAST, "--out", tmp_path / "out")
    assert_one_error(ran, EXIT_UNUSABLE, "No space left on device", "another directory")
    assert listing(tmp_path / "out") == {}


def test_an_interrupt_is_no_error(cli, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    ran = cli(*MICRO, *FAST, "--out", tmp_path / "out")
    assert ran.code == 130
    assert "interrupted" in ran.err
    assert "Traceback" not in ran.err
    assert listing(tmp_path / "out") == {}


# The manifest


def test_manifest_has_every_field_of_the_contract(tiny):
    for recipe in ("float32", "float16", "int8", "dynamic"):
        manifest = tiny.manifest(recipe)
        for path, names in CONTRACT_FIELDS.items():
            block = manifest
            for part in filter(None, path.split(".")):
                block = block[part]
            assert set(names.split()) <= set(block), (recipe, path)
        if recipe == "int8":
            assert set(CALIBRATION_FIELDS.split()) == set(manifest["calibration"])
        else:
            assert manifest["calibration"] is None


def test_manifest_says_what_is_so(tiny):
    for recipe in ("float32", "int8"):
        manifest, file = tiny.manifest(recipe), tiny.file(recipe)
        assert manifest["schema_version"] == 1
        side = tiny.variant.image_size
        assert manifest["name"] == tiny.name(recipe)
        assert manifest["variant"] == tiny.variant.id
        assert manifest["recipe"] == recipe
        assert manifest["weights"]["source"] == "random:1"
        assert manifest["weights"]["random"] is True
        assert re.fullmatch("[0-9a-f]{64}", manifest["weights"]["sha256"])
        assert manifest["classes"] == 10
        assert manifest["input"] == {
            "name": "pixels", "shape": [1, side, side, 3], "dtype": "float32", "range": [0, 255], "quantization": None, "layout": "NHWC",
            "channels": "RGB",
        }  # fmt: skip
        assert manifest["preprocessing"] == {"resize_px": side * 8 // 7, "crop_px": side, "interpolation": "bicubic", "keep_aspect": True}
        assert manifest["output"] == {
            "name": "probabilities", "shape": [1, 10], "dtype": "float32", "quantization": None, "activation": "softmax",
            "meaning": "classes",
        }  # fmt: skip
        assert manifest["file"]["sha256"] == hashing.sha256(file)
        assert manifest["file"]["size_bytes"] == len(file)
        assert manifest["file"]["max_rank"] == 4
        assert manifest["file"]["min_runtime_version"] == {"float32": "2.9.0", "int8": "2.17.0"}[recipe]  # GELU, dynamic layers
        assert sum(manifest["file"]["ops"].values()) == manifest["delegates"]["xnnpack"]["total_ops"]
        assert manifest["delegates"]["xnnpack"]["partitions"] == 1
        assert manifest["delegates"]["gpu"]["verdict"] == "whole"
        assert manifest["delegates"]["gpu"]["refused"] == []
        assert manifest["drift"]["source"] == "builtin"
        assert manifest["drift"]["samples"] == 8
        assert manifest["drift"]["top1_reference"] is manifest["drift"]["top1_target"] is None
        assert set(manifest["drift"]["limits"]) == {"min_snr_db", "min_agreement", "max_top1_drop", "min_photo_agreement"}
        assert manifest["tools"] == tool_versions()
    calibration = tiny.manifest("int8")["calibration"]
    assert (calibration["source"], calibration["samples"], calibration["seed"]) == ("builtin", 8, 0)


def test_json_is_one_document_with_every_artifact(tiny):
    names = [entry["name"] for entry in tiny.document["artifacts"]]
    assert names == [tiny.name(recipe) for recipe in RECIPES]
    for entry in tiny.document["artifacts"]:
        assert entry["status"] == "written"
        assert entry["manifest"] == tiny.manifest(entry["manifest"]["recipe"])


def _images(folder: Path, draw) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        Image.fromarray(np.clip(draw(rng), 0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda rng: rng.normal(0, 1, (40, 40, 3)), ("no pixel is above", "already normalised?")),
        (lambda rng: np.full((40, 40, 3), rng.integers(20, 230)), ("6 of 6 are one colour",)),
    ],
    ids=["normalised", "one colour"],
)
def test_calibration_images_that_no_model_expects(cli, tmp_path, draw, words):
    folder = _images(tmp_path / "images", draw)
    arguments = ("--variant", "micro", "--weights", "random:1", "--quant", "int8", "--calibration", folder)
    ran = cli(*arguments, "--out", tmp_path / "out")
    assert_one_error(ran, EXIT_UNUSABLE, "not what the model expects", *words)
    assert listing(tmp_path / "out") == {}
    ran = cli(*arguments, "--out", tmp_path / "out", "--no-gate")
    assert "warning: calibration images" in ran.err
    assert listing(tmp_path / "out")
    ran = cli(*arguments, "--out", tmp_path / "out", "--force")  # also where their ranges are kept
    assert_one_error(ran, EXIT_UNUSABLE, "not what the model expects", *words)


def test_how_many_images_the_drift_is_measured_on(cli, tmp_path):
    ran = cli(*MICRO, *FAST, "--drift-samples", "3", "--out", tmp_path / "out")
    assert ran.code == EXIT_OK
    assert json.loads((tmp_path / "out" / "micro-float32.random.json").read_text())["drift"]["samples"] == 3
    ran = cli(*MICRO, *FAST, "--drift-samples", "0", "--out", tmp_path / "none")
    assert_one_error(ran, EXIT_USAGE, "at least 1", "received: 0")
    assert listing(tmp_path / "none") == {}


@pytest.mark.slow
def test_changed_answers_are_counted_on_further_images(cli, tmp_path):
    few = ("--variant", "nano32", "--quant", "float32,dynamic", "--drift-samples", "4", "--json")
    ran = cli(*few, "--out", tmp_path / "out")
    assert ran.code == EXIT_OK
    of_float, of_dynamic = (one["manifest"]["drift"] for one in json.loads(ran.out)["artifacts"])
    assert (of_float["samples"], of_float["agreement"]) == (4, None)  # it is the float graph
    found = of_dynamic["agreement"]
    assert (of_dynamic["samples"], found["samples"]) == (4, 32)
    assert found["low"] <= found["top1_agreement"] <= found["high"]
    assert found["expected_low"] <= found["expected_changes"] <= found["expected_high"] < 0.2
    assert re.fullmatch(r"the float graph, 1\d\d dB from Keras on 4 images", found["reference"])
    ran = cli(*few, "--out", tmp_path / "out", "--agreement-samples", "0")
    assert json.loads(ran.out)["artifacts"][1]["manifest"]["drift"]["agreement"] is None
    ran = cli(*few, "--out", tmp_path / "none", "--agreement-samples", "-1")
    assert_one_error(ran, EXIT_USAGE, "--agreement-samples of at least 0", "received: -1")


@pytest.mark.slow
def test_an_answer_that_changes_among_further_images_is_refused(cli, tmp_path):
    """dynamic changes none of 4 answers of nano32 and some of 512."""
    ran = cli(
        "--variant", "nano32", "--quant", "dynamic", "--drift-samples", "4", "--agreement-samples", "512", "--min-agreement", "1",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert ran.code == EXIT_CHECK_FAILED
    assert "of 512 images is below 100 %" in " ".join(ran.out.split())
    assert listing(tmp_path / "out") == {}


def test_dark_images_may_be_what_the_app_sees(cli, tmp_path):
    folder = _images(tmp_path / "images", lambda rng: rng.normal(12, 6, (40, 40, 3)))
    ran = cli("--variant", "micro", "--weights", "random:1", "--quant", "int8", "--calibration", folder, "--out", tmp_path / "out")
    assert ran.code == EXIT_OK
    assert "too dark" in ran.err


@pytest.mark.slow
def test_swapped_channels_are_noticed_by_a_trained_model(cli, tmp_path):
    """Test images with red and blue exchanged: nano32 is surer of them the right way round."""
    if not (CIFAR10 / "test.zip").exists():
        pytest.skip(f"no CIFAR-10 test images in {CIFAR10}")
    folder = tmp_path / "bgr"
    folder.mkdir()
    with zipfile.ZipFile(CIFAR10 / "test.zip") as archive:
        names = [name for name in archive.namelist() if name.startswith(("deer/", "frog/", "dog/")) and name.endswith(".jpg")]
        for name in names[::10]:
            pixels = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
            Image.fromarray(pixels[..., ::-1]).save(folder / name.replace("/", "_").replace(".jpg", ".png"))
    ran = cli("--variant", "nano32", "--quant", "int8", "--calibration", folder, "--out", tmp_path / "out")
    assert_one_error(ran, EXIT_UNUSABLE, "channel order", "red and blue exchanged")
    assert listing(tmp_path / "out") == {}


@pytest.mark.slow
def test_shipped_weights_need_no_network(cli, tmp_path):
    """The hub is offline in tests: trained weights, their licence and labels come with the package."""
    ran = cli("--variant", "nano32", "--quant", "int8", "--calibration-samples", "16", "--out", tmp_path, "--json")
    assert ran.code == EXIT_OK
    assert "warning" not in ran.err
    assert sorted(listing(tmp_path)) == ["nano32-int8.json", "nano32-int8.labels.txt", "nano32-int8.tflite"]
    manifest = json.loads(ran.out)["artifacts"][0]["manifest"]
    weights = manifest["weights"]
    assert (weights["source"], weights["random"], weights["license"]) == ("cifar10", False, "Apache-2.0")
    assert weights["sha256"] == SHIPPED_SHA256["nano32"]
    assert manifest["drift"]["passed"]
    assert manifest["file"]["size_bytes"] <= 4_000_000
    with zipfile.ZipFile(tmp_path / "nano32-int8.tflite") as members:
        assert members.read("labels.txt").decode().split() == list(cifar10_labels())


def test_labels_travel_in_the_file_and_beside_it(tiny):
    for recipe in ("float32", "int8"):
        with zipfile.ZipFile(io.BytesIO(tiny.file(recipe))) as members:
            embedded = members.read("labels.txt").decode().splitlines()
        beside = (tiny.folder / f"{tiny.name(recipe)}.labels.txt").read_text(encoding="utf-8").splitlines()
        assert embedded == beside == [f"label {index}" for index in range(10)]


def test_a_byte_order_mark_is_no_part_of_a_label(tmp_path):
    from tfvit.labels import read_labels

    (tmp_path / "labels.txt").write_bytes("Katze\r\nHund\r\n\r\n".encode("utf-8-sig"))
    assert read_labels(tmp_path / "labels.txt") == ("Katze", "Hund")


_MODULE = """
import keras

@keras.saving.register_keras_serializable("mine")
class Doubled(keras.layers.Layer):
    def call(self, inputs):
        return inputs * {factor}
"""


@pytest.mark.slow
def test_a_layer_of_the_users_own(cli, tmp_path, micro_model, monkeypatch):
    """The message names its class; --import registers it; another module is another model."""
    import keras

    from edge.export.source import own_model

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mylayers.py").write_text(_MODULE.format(factor=2.0))
    monkeypatch.syspath_prepend(str(tmp_path))
    doubled = __import__("mylayers").Doubled()(micro_model.output)
    keras.Model(micro_model.input, keras.layers.Activation("linear")(doubled)).save(tmp_path / "own.keras")
    keras.saving.get_custom_objects().pop("mine>Doubled")
    monkeypatch.delitem(__import__("sys").modules, "mylayers")
    asked = ("--model", "own.keras", "--quant", "float32", "--calibration-samples", "4", "--no-cache", "--out", tmp_path / "out")
    ran = cli(*asked)
    assert_one_error(ran, EXIT_UNUSABLE, "'Doubled' (registered as 'mine>Doubled')", "--import MODULE")
    ran = cli(*asked, "--import", "mylayer")
    assert_one_error(ran, EXIT_UNUSABLE, "no such module", "mylayer")
    ran = cli(*asked, "--import", "mylayers")
    assert ran.code == EXIT_OK, ran.err
    before = own_model("own.keras", NOTHING_SAID, imports=["mylayers"]).identity
    (tmp_path / "mylayers.py").write_text(_MODULE.format(factor=3.0))
    assert own_model("own.keras", NOTHING_SAID, imports=["mylayers"]).identity != before


@pytest.mark.slow
def test_logits_that_spread_too_far_for_probabilities(cli, tmp_path, micro_model):
    """Scaled heads: what a softmax makes 0 is compared before it, so that a right file passes."""
    import keras

    from edge.runtime.cpu import Interpreter

    scaled = keras.layers.Rescaling(2000.0)(micro_model.output)
    keras.Model(micro_model.input, keras.layers.Softmax()(scaled)).save(tmp_path / "scaled.keras")
    asked = ("--model", tmp_path / "scaled.keras", "--quant", "float32", "--calibration-samples", "4", "--no-cache")
    ran = cli(*asked, "--out", tmp_path / "out", "--json")
    assert ran.code == EXIT_OK, ran.err
    assert json.loads(ran.out)["artifacts"][0]["manifest"]["drift"]["logits_snr_db"] > 90
    interpreter = Interpreter((tmp_path / "out" / "scaled-float32.tflite").read_bytes())
    answer = interpreter.run(np.full((1, 32, 32, 3), 128.0, np.float32))[0]
    print(answer)
    assert answer.min() <= np.finfo(np.float32).tiny  # the check above would be one of nothing otherwise


# A saved model, labelled images, several recipes


@pytest.mark.slow
def test_a_saved_model_with_labelled_images(cli, tmp_path, micro_model):
    path, out = tmp_path / "flowers.keras", tmp_path / "out"
    micro_model.save(path)
    for index, label in enumerate(("rose", "tulip", "daisy", "iris", "poppy")):
        photos(tmp_path / "photos" / label, 2)
        Image.new("RGB", (40, 40), (50 * index, 10, 20)).save(tmp_path / "photos" / label / "plain.png")
    (tmp_path / "labels.txt").write_text("daisy\niris\npoppy\nrose\ntulip\n")
    arguments = ("--model", path, "--calibration", tmp_path / "photos", "--labels", tmp_path / "labels.txt", "--calibration-samples", "3")
    arguments += ("--quant", "float32,dynamic", "--input", "uint8", "--output", "logits", "--no-gate", "--out", out, "--json")
    ran = cli(*arguments)
    document = json.loads(ran.out)
    assert [entry["name"] for entry in document["artifacts"]] == ["flowers-float32", "flowers-dynamic"]
    manifest = document["artifacts"][0]["manifest"]
    assert manifest["variant"] is None
    assert (manifest["weights"]["source"], manifest["weights"]["random"]) == ("flowers.keras", False)
    assert (manifest["input"]["dtype"], manifest["output"]["name"], manifest["output"]["activation"]) == ("uint8", "logits", None)
    assert manifest["drift"]["top1_reference"] == manifest["drift"]["top1_target"]
    assert 0.0 <= manifest["drift"]["top1_reference"] <= 1.0
    assert manifest["drift"]["passed"] is True
    again = cli(*arguments)
    assert [entry["status"] for entry in json.loads(again.out)["artifacts"]] == ["current", "current"]


def test_sixteen_bits_from_end_to_end(cli, tmp_path):
    """As NPUs want it: nothing in float, no GELU, which none has in 16 bits; and the answers of the file with float ends."""
    arguments = (*MICRO, "--quant", "w8a16", "--calibration-samples", "8", "--output", "logits", "--no-gate", "--json")
    ran = {ends: json.loads(cli(*arguments, "--input", ends, "--out", tmp_path / ends).out) for ends in ("float32", "int16")}
    manifests = {ends: document["artifacts"][0]["manifest"] for ends, document in ran.items()}
    operations = manifests["int16"]["file"]["ops"]
    assert not {"GELU", "QUANTIZE", "DEQUANTIZE"} & set(operations)
    assert {"QUANTIZE", "DEQUANTIZE"} <= set(manifests["float32"]["file"]["ops"])
    assert (manifests["int16"]["input"]["dtype"], manifests["int16"]["output"]["dtype"]) == ("int16", "int16")
    assert manifests["int16"]["input"]["quantization"]["zero_point"] == 0
    files = [(tmp_path / ends / f"{manifests[ends]['name']}.tflite").read_bytes() for ends in ("float32", "int16")]
    image = builtin.generate(0, 32)[None]
    one, other = (Interpreter(file).run(image) for file in files)
    assert Interpreter(files[1]).inputs["pixels"].dtype == np.int16
    np.testing.assert_allclose(other, one, atol=2 * manifests["int16"]["output"]["quantization"]["scale"])


# Whole processes


def _start(*arguments, **environment) -> subprocess.Popen:
    command = [sys.executable, "-m", "edge.convert", *map(str, arguments)]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root, env=os.environ | environment)


@pytest.fixture(scope="module")
def processes(tmp_path_factory, micro_model):
    """Two processes that convert into one folder at once, then this one into another; every one with its own hash seed."""
    folder = tmp_path_factory.mktemp("processes")
    micro_model.save(folder / "micro.keras")
    (folder / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    arguments = ["--model", str(folder / "micro.keras"), "--labels", str(folder / "labels.txt"), "--quant", "float32,int8", "--no-gate"]
    arguments += ["--calibration-samples", "2", "--quiet", "--json", "--out"]
    started = [_start(*arguments, folder / "one", PYTHONHASHSEED=seed) for seed in ("1", "2")]
    with contextlib.redirect_stdout(io.StringIO()):
        code = convert.main([*arguments, str(folder / "two")])
    printed = [process.communicate() for process in started]
    codes = [*(process.returncode for process in started), code]
    print(codes, [err[-300:] for _, err in printed])
    return folder, codes, printed


@pytest.mark.slow
def test_two_runs_at_once_into_one_folder(processes):
    folder, codes, printed = processes
    assert len(set(codes)) == 1
    assert codes[0] == EXIT_OK  # int8 with random weights and two images may miss its limit
    assert [err for _, err in printed] == ["", ""]
    for recipe in ("float32", "int8"):
        assert artifact.load(folder / "one" / f"micro-{recipe}.tflite").labels == ("a", "b", "c", "d", "e")
    assert all(json.loads(out)["artifacts"] for out, _ in printed)


@pytest.mark.slow
def test_equal_inputs_give_equal_bytes(processes):
    folder, _, _ = processes
    one, two = listing(folder / "one"), listing(folder / "two")
    assert sorted(one) == [f"micro-{recipe}.{ending}" for recipe in ("float32", "int8") for ending in ("json", "labels.txt", "tflite")]
    assert one.keys() == two.keys()
    for name in one:
        if one[name] != two[name]:
            print(name, [pair for pair in zip(one[name].splitlines(), two[name].splitlines(), strict=False) if pair[0] != pair[1]][:5])
    assert [name for name in one if one[name] != two[name]] == []


@pytest.mark.slow
def test_ctrl_c(tmp_path, micro_model):
    out = tmp_path / "out"
    micro_model.save(tmp_path / "micro.keras")
    # where the tests themselves run with SIGINT ignored (in the background of a shell), the process would inherit that
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = _start("--model", tmp_path / "micro.keras", *FAST, "--out", out)
    finally:
        signal.signal(signal.SIGINT, before)
    read = []
    for line in process.stderr:
        read.append(line)
        if "build the model" in line:  # the long export begins
            process.send_signal(signal.SIGINT)
            break
    printed, errors = process.communicate()
    print(read, errors)
    assert process.returncode == 130
    assert errors.splitlines()[-1:] == ["interrupted: finished files are kept, nothing is half-written"]
    assert "Traceback" not in errors
    assert printed == ""
    assert listing(out) == {}


def _saved(tensors: dict[str, np.ndarray], path: Path) -> Path:
    from safetensors.numpy import save_file

    save_file(tensors, path)
    return path
