"""`python -m tfvit.evaluate` on a folder whose right answers are known, for a Keras model and for its `.tflite`."""

import importlib.util
import json
import math

import numpy as np
import pytest
from PIL import Image

from edge.convert import main as convert
from tfvit import evaluate
from tfvit.preprocessing import normalize, resize_and_crop
from tfvit.variants import VARIANTS
from tfvit.weights import randomize

pytestmark = pytest.mark.whole

CLASSES = 10


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny row of the table, its weights in a file, and a folder of images labelled by its own answers but for one in four."""
    import dataclasses

    from tfvit.model import build_variant
    from tfvit.preprocessing import Preprocessing

    folder = tmp_path_factory.mktemp("evaluate")
    row = dataclasses.replace(
        VARIANTS["tiny224"], id="tiny_evaluate", image_size=64, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4,
        pretrained_window_sizes=(0, 0), classes=CLASSES, preprocessing=Preprocessing.for_image_size(64),
    )  # fmt: skip
    VARIANTS[row.id] = row
    model = build_variant(row, weights=None)
    randomize(model, 0)
    model.save_weights(folder / "tiny.weights.h5")
    rng = np.random.default_rng(0)
    for index in range(24):
        image = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize((100, 80))
        answer = int(np.argmax(model(normalize(resize_and_crop(image, row.preprocessing)[None], row.preprocessing))))
        label = (answer + 1) % CLASSES if index % 4 == 0 else answer
        (folder / "images" / str(label)).mkdir(parents=True, exist_ok=True)
        image.save(folder / "images" / str(label) / f"{index}.png")
    yield folder
    del VARIANTS[row.id]


def _run(capfd, *arguments):
    code = evaluate.main([str(argument) for argument in arguments])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
def test_keras_model_and_file_score_what_was_planted(tiny, capfd):
    arguments = ("--variant", "tiny_evaluate", "--data", tiny / "images", "--json", "--quiet")
    code, out, _ = _run(capfd, *arguments, "--weights", tiny / "tiny.weights.h5")
    document = json.loads(out)
    assert code == 0
    assert document["samples"] == 24
    assert document["top1"] == 0.75
    assert document["top5"] >= document["top1"]
    assert document["top1_interval"][0] < 0.75 < document["top1_interval"][1]

    assert convert([
        "--variant", "tiny_evaluate", "--quant", "float32", "--weights", str(tiny / "tiny.weights.h5"), "--out", str(tiny / "out"),
        "--calibration-samples", "2", "--quiet",
    ]) == 0  # fmt: skip
    capfd.readouterr()
    code, out, _ = _run(capfd, *arguments, "--file", tiny / "out" / "tiny_evaluate-float32.tflite")
    assert code == 0
    assert json.loads(out)["top1"] == 0.75


def test_limit_and_named_classes(tiny, capfd, tmp_path):
    (tmp_path / "labels.txt").write_text("\n".join(f"class {index}" for index in range(CLASSES)))
    for folder in (tiny / "images").iterdir():
        (tmp_path / "named" / f"class {folder.name}").parent.mkdir(exist_ok=True)
        (tmp_path / "named" / f"class {folder.name}").symlink_to(folder)
    code, out, _ = _run(
        capfd, "--variant", "tiny_evaluate", "--data", tmp_path / "named", "--labels", tmp_path / "labels.txt", "--limit", "5",
        "--weights", tiny / "tiny.weights.h5", "--json", "--quiet",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["samples"] == 5


@pytest.mark.parametrize("problem", ["missing", "empty", "unknown class", "text file", "no images"])
def test_unusable_data_is_one_error(problem, tiny, tmp_path, capfd):
    data = tmp_path / "data"
    if problem != "missing":
        data.mkdir()
    if problem in ("unknown class", "text file", "no images"):
        (data / ("rose" if problem == "unknown class" else "3")).mkdir()
    if problem == "text file":
        (data / "3" / "image.jpg").write_text("no image")
    code, out, err = _run(capfd, "--variant", "tiny_evaluate", "--data", data, "--weights", tiny / "tiny.weights.h5", "--quiet")
    assert code == 3
    assert out == ""
    assert len(err.splitlines()) <= 4
    assert "Traceback" not in err


def test_scores_that_are_not_finite_are_refused(tiny):
    examples = [(Image.new("RGB", (80, 80)), 0)]
    with pytest.raises(evaluate.InputError, match="not finite"):
        evaluate.evaluate(lambda pixels: np.full((len(pixels), 3), np.nan), examples, VARIANTS["tiny_evaluate"].preprocessing)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow_datasets") is not None, reason="tensorflow-datasets is installed")
def test_imagenet_v2_without_its_package(capfd):
    code, _, err = _run(capfd, "--variant", "tiny224", "--data", "imagenet_v2", "--quiet")
    assert code == 3
    assert "pip install tensorflow-datasets" in err


def test_wilson_interval():
    # 8 of 10: the textbook value
    low, high = evaluate.wilson_interval(8, 10)
    assert math.isclose(low, 0.4902, abs_tol=5e-5)
    assert math.isclose(high, 0.9433, abs_tol=5e-5)
    assert evaluate.wilson_interval(0, 10)[0] == 0.0
    assert evaluate.wilson_interval(10, 10)[1] == 1.0


def test_top5_counts_the_fifth_and_not_the_sixth():
    scores = np.arange(10.0)[::-1]
    preprocessing = VARIANTS["tiny224"].preprocessing
    image = Image.new("RGB", (256, 256))
    result = evaluate.evaluate(lambda pixels: np.tile(scores, (len(pixels), 1)), [(image, 4), (image, 5), (image, 0)], preprocessing)
    assert (result.top1, result.top5) == (1 / 3, 2 / 3)
