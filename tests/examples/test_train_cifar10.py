"""The training script on a few generated images: it learns, writes weights that load, and refuses what it must."""

import csv
import importlib.util
import json
import subprocess
import sys
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


def _train(data, out, **flags):
    settings = {"epochs": 3, "batch-size": 8, "validation": 12, "warmup-epochs": 1, "precision": "float32", **flags}
    arguments = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, str(SCRIPT), "--data", str(data), "--out", str(out), "--json", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.training
@pytest.mark.parametrize("variant", ["nano32", "v2_nano32", "vit_nano32"])
def test_learns_and_its_weights_load(data, tmp_path, variant):
    done = _train(data, tmp_path / "out", variant=variant, epochs=12, colour=0, erase=0)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["test_top1"] > 0.6, report  # three classes told by their colour; one third by chance
    assert report["classes"] == sorted(COLOURS)
    rows = list(csv.DictReader((tmp_path / "out" / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == [str(number) for number in range(1, 13)]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / f"{variant}.safetensors").values()} == {np.dtype("float16")}
    assert Image.open(tmp_path / "out" / "curve.png").size[0] > 500
    from tfvit import preprocess_input
    from tfvit.model import build_variant
    from tfvit.variants import find_variant

    model = build_variant(find_variant(variant), weights=str(tmp_path / "out" / f"{variant}.safetensors"), classes=3)
    right = 0
    for number, name in enumerate(sorted(COLOURS)):
        images = np.stack([np.asarray(Image.open(path)) for path in sorted((data / "test" / name).iterdir())])
        right += int((model.predict(preprocess_input(images), verbose=0).argmax(axis=-1) == number).sum())
    assert right == round(report["test_top1"] * report["test_images"])


@pytest.mark.training
def test_the_seed_decides(data, tmp_path):
    """Equal seeds give equal weights, another one others."""
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        assert _train(data, tmp_path / name, seed=seed).returncode == 0
    one, again, other = (load_file(tmp_path / name / "nano32.safetensors")["head.fc.weight"] for name in ("one", "again", "other"))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one.astype(np.float32) - other).max() > 0


@pytest.mark.training
@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        ({"epochs": 0}, 2, "--epochs 0"),
        ({"erase": 1.5}, 2, "--erase 1.5"),
        ({"validation": 60}, 2, "between 1 and 59"),
        ({"batch-size": 500}, 2, "up to 48"),
        ({"data": "nowhere"}, 3, "neither in nowhere"),
        ({"out": "."}, 2, "a new folder"),
    ],
)
def test_bad_input_leaves_nothing(data, tmp_path, flags, code, words):
    done = _train(data, tmp_path / "out", **flags)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("train_cifar10", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    sys.modules["train_cifar10"] = module
    specification.loader.exec_module(module)
    return module


@pytest.mark.training
def test_augmentation_shifts_and_mirrors(script):
    """Without the optional parts every image of a batch is one of the 9 x 9 x 2 windows of its padded self."""
    import jax

    plain = script.Recipe(**{name: 0 for name in script.Recipe.__dataclass_fields__})
    images = np.random.default_rng(3).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    changed = np.asarray(script.augmented(jax.random.key(4), images, plain))
    mirrored = 0
    for image, result in zip(images, changed, strict=True):
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
        windows = {
            (top, left, flip): padded[top : top + 32, left : left + 32][:, :: -1 if flip else 1]
            for top in range(9)
            for left in range(9)
            for flip in (False, True)
        }
        found = [key for key, window in windows.items() if np.abs(window - result).max() < 1e-2]
        assert len(found) == 1
        mirrored += found[0][2]
    assert 0 < mirrored < 6


@pytest.mark.training
def test_held_out_images_are_not_trained_on(script):
    images = script.LabelledImages(np.arange(50).reshape(50, 1, 1, 1), np.arange(50), ("a",))
    rest, held_out = script.hold_out(images, 10, 0)
    assert len(held_out.labels) == 10
    assert sorted([*rest.labels, *held_out.labels]) == list(range(50))
