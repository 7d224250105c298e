"""Models with several outputs: each has its own meaning, its own gate and its place in file, manifest, validation and bundle."""

import json
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

from calibration import builtin
from edge import bundle, convert, inspect, validate
from edge.artifacts.artifact import load, outputs
from edge.conversion.candidate import Candidate
from edge.drift.limits import Limits
from edge.drift.meanings import Output, each, in_file
from edge.export import to_tflite
from edge.export.outputs import losses_of, reads_probabilities
from edge.quantization.ranges import Calibration
from edge.quantization.recipes import RECIPES
from edge.report import __main__ as report
from edge.runtime.cpu import Interpreter
from tests.edge.small_models import MICRO
from tfvit.errors import InputError, UsageError
from tfvit.imagenet import preprocess_input

SIZE = 32
THREE = (Output("scores", "classes", (3,)), Output("embedding", "features", (4,)), Output("tags", "labels", (2,)))


@pytest.fixture
def several(micro_model):
    """A model of pixels: classes, an embedding, labels; the names are not in the order of the alphabet."""
    keras.utils.set_random_seed(3)
    features = micro_model.get_layer("avg_pool").output
    heads = [
        keras.layers.Dense(3, name="scores", activation="softmax")(features),
        keras.layers.UnitNormalization(name="embedding")(keras.layers.Dense(4)(features)),
        keras.layers.Dense(2, name="a_tag", activation="sigmoid")(features),
    ]
    inner = keras.Model(micro_model.input, heads)
    pixels = keras.Input((SIZE, SIZE, 3))
    given = zip(inner.output_names, inner(preprocess_input(pixels)), strict=True)
    return keras.Model(pixels, [keras.layers.Identity(name=name)(one) for name, one in given], name="several")


def test_each_output_has_its_own_meaning(several):
    found = to_tflite.exportable(several)
    assert [(output.name, output.meaning, output.shape, output.told) for output in found.outputs] == [
        ("scores", "classes", (3,), True), ("embedding", "features", (4,), True), ("a_tag", "labels", (2,), True),
    ]  # fmt: skip
    assert in_file(found.outputs, "auto") == [("probabilities", "softmax"), ("embedding", None), ("a_tag", "sigmoid")]
    assert in_file(found.outputs, "logits") == [("logits", None), ("embedding", None), ("a_tag", None)]
    assert in_file(found.outputs, "auto,features,logits") == [("probabilities", "softmax"), ("embedding", None), ("a_tag", None)]


def test_losses_are_read_output_by_output(several, tmp_path):
    for loss in (["mse", None, "binary_crossentropy"], {"scores": "mse", "a_tag": "binary_crossentropy"}):
        several.compile(loss=loss)
        assert losses_of(several) == ["mse", None, "binary_crossentropy"]
        several.save(tmp_path / "model.keras")
        assert losses_of(keras.models.load_model(tmp_path / "model.keras", compile=False), tmp_path / "model.keras") == losses_of(several)


def test_a_word_for_each_output(several):
    for asked in ("features,auto", "multilabel", "auto,auto,auto,auto"):
        with pytest.raises(UsageError, match="not a word for each output") as caught:
            to_tflite.exportable(several, output=asked)
        assert "scores, embedding, a_tag" in caught.value.expected
    with pytest.raises(UsageError, match="cannot mean that"):
        to_tflite.exportable(several, output="auto,auto,values")


def test_an_output_computed_from_probabilities_is_refused(micro_model):
    probabilities = keras.layers.Softmax(name="scores")(micro_model.output)
    beside = keras.Model(micro_model.input, [probabilities, micro_model.output])
    assert reads_probabilities(beside) is None
    assert [output.meaning for output in to_tflite.exportable(beside).outputs] == ["classes", "classes"]
    behind = keras.Model(micro_model.input, [probabilities, keras.layers.Dense(2)(keras.layers.Dropout(0.1)(probabilities))])
    with pytest.raises(InputError, match="cannot be converted") as caught:
        to_tflite.exportable(behind)
    assert "'scores'" in caught.value.received


def test_probabilities_of_a_nested_model_count_too(micro_model):
    """What makes them lies inside, what reads them outside; and a model that is called twice has one softmax."""
    inner = keras.Model(micro_model.input, keras.layers.Softmax(name="scores")(micro_model.output))
    first, second = inner(micro_model.input), inner(keras.ops.flip(micro_model.input, axis=2))
    assert reads_probabilities(keras.Model(micro_model.input, [first, second])) is None
    for read in (first, second):
        assert reads_probabilities(keras.Model(micro_model.input, [first, keras.layers.Dense(2)(read)])) == "scores"
    assert reads_probabilities(keras.Model(micro_model.input, [first, keras.layers.Identity(name="again")(first)])) is None


def test_the_file_keeps_order_and_numbers(several):
    source = to_tflite.exportable(several)
    pixels = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3)).astype(np.float32)
    interpreter = Interpreter(to_tflite.export_float(source))
    assert list(interpreter.outputs) == ["probabilities", "embedding", "a_tag"]
    expected = [np.asarray(one) for one in several(pixels)]
    for given, wanted in zip(interpreter.run_each(pixels), expected, strict=True):
        np.testing.assert_allclose(given, wanted, atol=1e-5)
    scores, embedding, tags = each(np.asarray(source.logits(pixels)), source.outputs)
    np.testing.assert_allclose(np.exp(scores) / np.exp(scores).sum(), expected[0], atol=1e-5)
    np.testing.assert_allclose(embedding, expected[1], atol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-tags)), expected[2], atol=1e-5)


@pytest.mark.parametrize("damaged", [None, 0, 1, 2])
def test_any_output_refuses_a_file(damaged):
    """Each is held against the limits by itself: a large output hides nothing of a small one."""
    rng = np.random.default_rng(0)
    reference = np.concatenate([rng.normal(size=(16, 3)), 1000 * rng.normal(size=(16, 4)), rng.normal(size=(16, 2))], axis=1)
    limits = Limits(min_snr_db=20.0, min_agreement=0.0, max_top1_drop=100.0)
    candidate = Candidate(RECIPES["int8"], b"", Calibration(), np.zeros(16), None, reference, limits, "auto", THREE, False, 1)
    target = reference.copy()
    if damaged is not None:
        part = each(target, THREE)[damaged]  # a view
        part += 0.5 * part.std() * rng.normal(size=part.shape)
    verdict = candidate.verdict(target)
    named = ("", "embedding: ", "tags: ")
    assert [failure.startswith(named[damaged or 0] + "logits SNR") for failure in verdict.failures] == [True] * (damaged is not None)
    assert [bool(other.failures) for other in verdict.others] == [damaged == 1, damaged == 2]


@pytest.mark.slow
@pytest.mark.parametrize("recipes", ["float32", "float16,int8,dynamic,int4,int8_full,w8a16"])
def test_the_whole_way(several, tmp_path, capfd, recipes):
    """Converted, inspected, validated, bundled and reported."""
    photos = tmp_path / "pictures"
    photos.mkdir()
    for index in range(24):
        Image.fromarray(builtin.generate(index, 64)).save(photos / f"{index}.png")
    several.save(tmp_path / "mine.keras")
    files, pixels = tmp_path / "out", np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3)).astype(np.float32)
    arguments = ["--model", str(tmp_path / "mine.keras"), "--resize", "32", "--calibration", str(photos), "--min-agreement", "0.5"]
    assert convert.main([*arguments, "--quant", recipes, "--out", str(files), "--min-snr", "5"]) == 0, capfd.readouterr()
    said = capfd.readouterr()
    assert "output a_tag, labels:" in said.out
    assert "output embedding: features" in said.err
    expected = [np.asarray(one) for one in several(pixels)]
    for recipe in recipes.split(","):
        artifact = load(files / f"mine-{recipe}.tflite")
        blocks = outputs(artifact.manifest)
        assert [block["meaning"] for block in blocks] == ["classes", "features", "labels"]
        assert [block["drift"]["passed"] for block in blocks[1:]] == [True, True]
        given = list(Interpreter(artifact.file).run_each(pixels))
        for one, wanted, block in zip(given, expected, blocks, strict=True):
            if block["activation"] is None and block["meaning"] != "features":
                continue  # logits
            tolerance = 1e-5 if recipe == "float32" else 0.3
            np.testing.assert_allclose(one, wanted, atol=tolerance * np.abs(wanted).max())
        command = [str(artifact.path), "--model", str(tmp_path / "mine.keras"), "--images", str(photos), "--min-snr", "5"]
        saved = files / f"mine-{recipe}.validation.json"
        assert validate.main([*command, "--min-agreement", "0.5", "--save", str(saved), "--json"]) == 0
        document = json.loads(capfd.readouterr().out)
        assert [other["name"] for other in document["other_outputs"]] == ["embedding", "a_tag"]
        assert document["other_outputs"][1]["difference"]["metrics"]["top1_agreement"]["value"] >= 0.5
        assert validate.main([*command, "--min-agreement", "0.5", "--min-snr", "190"]) == 1
        assert "FAILED: embedding: logits SNR" in capfd.readouterr().out
        assert inspect.main([str(artifact.path)]) == 0
        assert "One probability" in capfd.readouterr().out or recipe in ("int8_full", "w8a16")
    assert bundle.main([*map(str, files.glob("*.tflite")), "--zip", str(tmp_path / "package.zip")]) == 0
    package = json.loads(zipfile.ZipFile(tmp_path / "package.zip").read("edge_package.json"))
    for model in package["models"]:
        assert [output["name"] for output in model["other_outputs"]] == ["embedding", "a_tag"]
        assert [set(output["golden"]) & {"top5", "numbers"} for output in model["other_outputs"]] == [{"numbers"}, {"top5"}]
    assert report.main([str(files), "-o", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Further outputs of files with several" in page
    assert "output a_tag (labels):" in page


def test_sizes_are_for_all_outputs(micro_model):
    """A model open to any size keeps its outputs' names on a fixed one."""
    pixels = keras.Input((None, None, 3))
    found = keras.Model(pixels, [keras.layers.Identity(name=name)(pixels) for name in ("one", "two")])
    assert to_tflite.sized(found, 64).output_names == ["one", "two"]
    assert MICRO.classes == micro_model.output_shape[-1]
