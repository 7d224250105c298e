"""The training script on a few generated images: it learns, resumes after being killed, and refuses what it must."""

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "train_cifar10.py"
COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 70), "red": (200, 50, 40)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """train.zip and the folder test: noise around one colour a class."""
    folder = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(folder / "train.zip", "w") as archive:
        for name, colour in COLOURS.items():
            for index in range(20):
                content = BytesIO()
                _image(colour, rng).save(content, "PNG")
                archive.writestr(f"{name}/{index}.png", content.getvalue())
    for name, colour in COLOURS.items():
        (folder / "test" / name).mkdir(parents=True)
        for index in range(4):
            _image(colour, rng).save(folder / "test" / name / f"{index}.png")
    return folder


def _image(colour, rng):
    return Image.fromarray(np.clip(np.array(colour) + rng.normal(0, 60, (32, 32, 3)), 0, 255).astype("uint8"))


def _command(data, out, **flags):
    settings = {"epochs": 3, "batch-size": 8, "validation": 12, "warmup-epochs": 1, "ema": 0.8, **flags}
    arguments = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    return [sys.executable, str(SCRIPT), "--data", str(data), "--out", str(out), *arguments]


def _script():
    specification = importlib.util.spec_from_file_location("train_cifar10", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    sys.modules["train_cifar10"] = module
    specification.loader.exec_module(module)
    return module


@pytest.mark.training
def test_resumes_after_being_killed(data, tmp_path):
    """It goes on after the last whole epoch, with the optimizer's state, and ends as a run that nothing interrupted does."""
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    whole = subprocess.run(_command(data, tmp_path / "whole"), env=environment, capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stderr
    killed = subprocess.Popen(_command(data, tmp_path / "killed"), env=environment, stderr=subprocess.PIPE, text=True)
    for line in killed.stderr:
        if line.startswith("epoch 1 of 3"):
            break
    while not (tmp_path / "killed" / "checkpoint.weights.h5").exists() and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "report.json").exists()
    resumed = subprocess.run(_command(data, tmp_path / "killed"), env=environment, capture_output=True, text=True, check=False)
    print(resumed.stderr, resumed.stdout)
    assert resumed.returncode == 0
    assert "taken up after epoch" in resumed.stderr
    weights = [load_file(tmp_path / run / "nano32.safetensors") for run in ("whole", "killed")]
    assert {name: tensor.shape for name, tensor in weights[0].items()} == {name: tensor.shape for name, tensor in weights[1].items()}
    assert {tensor.dtype for tensor in weights[1].values()} == {np.dtype("float16")}
    histories = [(tmp_path / run / "history.csv").read_text().splitlines() for run in ("whole", "killed")]
    assert histories[0][:2] == histories[1][:2]  # the epoch before the kill is kept as it was
    assert [row["epoch"] for row in csv.DictReader(histories[1])] == ["1", "2", "3"]
    assert Image.open(tmp_path / "killed" / "curve.png").size[0] > 500


@pytest.mark.training
def test_learns_and_its_weights_load(data, tmp_path):
    flags = {"variant": "v2_nano32", "epochs": 12, "warmup-epochs": 2, "mixup": 0, "randaugment": 0, "drop-path": 0}
    done = subprocess.run([*_command(data, tmp_path / "out", **flags), "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["test_top1"] > 0.6, report  # three classes told by their colour; one third by chance
    assert report["classes"] == sorted(COLOURS)
    from tfvit import ViTTransformerV2Nano32

    model = ViTTransformerV2Nano32(weights=str(tmp_path / "out" / "v2_nano32.safetensors"), classes=3)
    blue = np.stack([np.asarray(_image(COLOURS["blue"], np.random.default_rng(seed))) for seed in range(8)])
    from tfvit import preprocess_input

    assert (model.predict(preprocess_input(blue), verbose=0).argmax(axis=-1) == 0).mean() >= 0.5


def test_bad_input_leaves_nothing(data, tmp_path, capfd):
    script = _script()
    common = ["--data", str(data), "--quiet"]
    assert script.main([*common, "--out", str(tmp_path / "a"), "--epochs", "0"]) == 2
    assert script.main(["--data", str(tmp_path), "--out", str(tmp_path / "b"), "--quiet"]) == 3
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    assert script.main([*common, "--out", str(tmp_path / "mine")]) == 2
    errors = capfd.readouterr().err
    assert "neither in" in errors
    assert "not empty" in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_a_folder_of_another_recipe_is_refused(tmp_path):
    script = _script()
    arguments = script.parser().parse_args(["--data", "there", "--out", str(tmp_path)])
    names = {field.name for field in script.dataclasses.fields(script.Recipe)}
    recipe = script.Recipe(**{name: value for name, value in vars(arguments).items() if name in names})
    (tmp_path / "recipe.json").write_text(json.dumps(script.dataclasses.asdict(recipe)))
    script._refuse_other_run(tmp_path, recipe)
    with pytest.raises(script.UsageError, match="seed 0") as caught:
        script._refuse_other_run(tmp_path, script.dataclasses.replace(recipe, seed=1))
    assert "seed 1" in str(caught.value)


def test_augmentation_shifts_and_mirrors():
    """Every image of a batch is one of the 9 x 9 x 2 windows of its padded self."""
    script = _script()
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    changed = script.augmented(images, np.random.default_rng(4))
    assert changed.shape == images.shape
    mirrored = 0
    for image, result in zip(images, changed, strict=True):
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
        windows = {
            (top, left, flip): padded[top : top + 32, left : left + 32][:, :: -1 if flip else 1]
            for top in range(9)
            for left in range(9)
            for flip in (False, True)
        }
        found = [key for key, window in windows.items() if np.array_equal(window, result)]
        assert len(found) == 1
        mirrored += found[0][2]
    assert 0 < mirrored < 6
    np.testing.assert_array_equal(changed, script.augmented(images, np.random.default_rng(4)))


def test_held_out_images_are_not_trained_on():
    script = _script()
    images = script.LabelledImages(np.arange(50).reshape(50, 1, 1, 1), np.arange(50), ("a",))
    rest, held_out = script.hold_out(images, 10, 0)
    assert len(held_out.labels) == 10
    assert sorted([*rest.labels, *held_out.labels]) == list(range(50))
    with pytest.raises(script.UsageError, match="between 1 and 49"):
        script.hold_out(images, 50, 0)
