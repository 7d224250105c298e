"""What a model's output means: told by its end, by its saved loss or by the user, and the file gives what the Keras model gives."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from calibration import builtin
from edge import convert, validate
from edge.artifacts.artifact import load
from edge.conversion.assumptions import words_of
from edge.export import to_tflite
from edge.export.outputs import losses_of, meaning_of
from edge.runtime.cpu import Interpreter
from tests.edge.small_models import MICRO
from tfvit.errors import UsageError
from tfvit.imagenet import preprocess_input
from tfvit.preprocessing import OUTPUT

pytestmark = pytest.mark.whole

SIZE = 32


@pytest.fixture(scope="module")
def photos_folder(tmp_path_factory):
    """24 generated pictures: what they show does not matter here."""
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(24):
        Image.fromarray(builtin.generate(index, 64)).save(folder / f"{index}.png")
    return folder


def _pooled(model):
    return model.get_layer("avg_pool").output


def _made(micro_model, end, loss=None):
    """A model of pixels: `end` of the micro backbone's layers; compiled, where there is a loss."""
    inner = keras.Model(micro_model.input, end(micro_model))
    inputs = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(inputs, inner(preprocess_input(inputs)))
    if loss is not None:
        model.compile("adam", loss)
    return model


def _first(exportable):
    return exportable.outputs[0].meaning, exportable.outputs[0].told


def _dense(units, **arguments):
    return lambda model: keras.layers.Dense(units, kernel_initializer=keras.initializers.GlorotUniform(0), **arguments)(_pooled(model))


def _twice(model):
    return keras.ops.multiply(_dense(3)(model), 2.0)


ENDS = {
    "softmax": (_dense(3, activation="softmax"), None, "classes"),
    "sigmoid": (_dense(3, activation="sigmoid"), None, "labels"),
    "logits, categorical": (_dense(3), keras.losses.SparseCategoricalCrossentropy(from_logits=True), "classes"),
    "logits, binary": (_dense(3), keras.losses.BinaryCrossentropy(from_logits=True), "labels"),
    "one binary logit": (_dense(1), "binary_crossentropy", "labels"),
    "one number": (_dense(1), None, "values"),
    "regression": (_dense(2), "mse", "values"),
    "tanh": (_dense(2, activation="tanh"), None, "values"),
    "embedding, metric": (_dense(4), "cosine_similarity", "features"),
    "embedding": (_pooled, None, "features"),
    "feature map": (lambda model: model.get_layer("norm").output, None, "features"),
    "map of classes": (
        lambda model: keras.layers.Conv2D(3, 1, kernel_initializer=keras.initializers.GlorotUniform(0), activation="softmax")(
            model.get_layer("norm").output
        ),
        None,
        "classes",
    ),
    "nobody says": (_dense(3), None, None),
    "a loss of one's own": (_dense(3), lambda truth, given: keras.ops.mean(given), None),
    "an operation of one's own": (_twice, None, None),
}


@pytest.mark.parametrize("name", ENDS)
def test_meanings(micro_model, tmp_path, name):
    """The saved model says what the one in memory says."""
    end, loss, meaning = ENDS[name]
    model = _made(micro_model, end, loss)
    assert meaning_of(model, *losses_of(model)) == meaning
    model.save(tmp_path / "model.keras")
    saved = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert meaning_of(saved, *losses_of(saved, tmp_path / "model.keras")) == meaning


def test_what_nobody_says_is_assumed_or_asked_for(micro_model):
    assumed = to_tflite.exportable(_made(micro_model, _dense(3)))
    assert _first(assumed) == ("classes", False)
    for output, meaning in (("probabilities", "classes"), ("logits", "classes"), ("multilabel", "labels"), ("features", "features")):
        said = to_tflite.exportable(_made(micro_model, _dense(3)), output=output)
        assert _first(said) == (meaning, True)
    with pytest.raises(UsageError, match="not known") as caught:
        to_tflite.exportable(_made(micro_model, _twice))
    assert "--output" in caught.value.expected
    assert to_tflite.exportable(_made(micro_model, _twice), output="values").outputs[0].meaning == "values"


@pytest.mark.parametrize(
    ("end", "output"), [("softmax", "multilabel"), ("sigmoid", "features"), ("regression", "probabilities"), ("embedding", "probabilities")]
)
def test_what_cannot_be_is_refused(micro_model, end, output):
    make, loss, _ = ENDS[end]
    model = _made(micro_model, make, loss)
    with pytest.raises(UsageError, match="cannot mean that"):
        to_tflite.exportable(model, output=output, losses=losses_of(model))


KINDS = {
    "labels": ("logits, binary", "sigmoid", lambda values: 1 / (1 + np.exp(-values))),
    "values": ("one number", None, lambda values: values),
    "features": ("feature map", None, lambda values: values),
    "class_map": ("map of classes", "softmax", lambda values: values),
}
RECIPES = ["float32", pytest.param("float16,int8,dynamic", marks=pytest.mark.slow)]


@pytest.mark.parametrize("recipes", RECIPES)
@pytest.mark.parametrize(
    "meaning", ["labels", *(pytest.param(name, marks=pytest.mark.slow) for name in ("values", "features", "class_map"))]
)
def test_files_give_what_the_model_gives(micro_model, photos_folder, tmp_path, capfd, meaning, recipes):
    """Through the command, its gate, and edge.validate."""
    kind, activation, final = KINDS[meaning]
    end, loss, _ = ENDS[kind]
    model = _made(micro_model, end, loss)
    model.save(tmp_path / "mine.keras")
    arguments = ["--model", str(tmp_path / "mine.keras"), "--resize", "32", "--calibration", str(photos_folder), "--quiet"]
    assert convert.main([*arguments, "--quant", recipes, "--out", str(tmp_path / "out")]) == 0, capfd.readouterr()
    capfd.readouterr()
    pixels = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3)).astype(np.float32)
    expected = final(np.asarray(model(pixels)))
    for recipe in recipes.split(","):
        artifact = load(tmp_path / "out" / f"mine-{recipe}.tflite")
        output = artifact.manifest["output"]
        assert (output["meaning"], output["activation"], output["shape"]) == (meaning, activation, list(expected.shape))
        assert artifact.manifest["drift"]["passed"]
        assert (artifact.manifest["drift"]["top1_agreement"] is None) == (activation is None)
        assert "assumed" not in output
        tolerance = 1e-5 if recipe == "float32" else 0.15
        np.testing.assert_allclose(Interpreter(artifact.file).run(pixels), expected, atol=tolerance * np.abs(expected).max())
        assert validate.main([str(artifact.path), "--model", str(tmp_path / "mine.keras"), "--images", str(photos_folder), "--json"]) == 0
        document = json.loads(capfd.readouterr().out)
        assert document["meaning"] == meaning
        assert (document["differences"][-1]["metrics"]["top1_agreement"] is None) == (activation is None)
        assert document["accuracy"] is None


def test_scores_of_a_map_are_those_of_each_place(micro_model):
    """--output says it of a last convolution without an activation; without it the numbers are features."""
    logits = _made(micro_model, lambda model: keras.layers.Conv2D(3, 1)(model.get_layer("norm").output))
    assert to_tflite.exportable(logits).outputs[0].meaning == "features"
    for output in ("probabilities", "logits"):
        assert to_tflite.exportable(logits, output=output).outputs[0].meaning == "class_map"
    assumed = words_of([OUTPUT], MICRO.preprocessing, to_tflite.exportable(logits).outputs)
    assert "taken for features" in assumed[0]
    logits.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert to_tflite.exportable(logits, losses=losses_of(logits)).outputs[0].meaning == "class_map"


def test_an_assumed_meaning_is_said(micro_model, photos_folder, tmp_path, capfd):
    _made(micro_model, _dense(3)).save(tmp_path / "mine.keras")
    arguments = ["--model", str(tmp_path / "mine.keras"), "--resize", "32", "--quant", "float32", "--calibration", str(photos_folder)]
    assert convert.main([*arguments, "--out", str(tmp_path / "out")]) == 0
    said = capfd.readouterr()
    assert "assumed, meaning of the output" in said.err
    assert "ASSUMED: meaning of the output" in said.out
    assert load(tmp_path / "out" / "mine-float32.tflite").manifest["output"]["assumed"] == ["meaning of the output"]
    assert convert.main([*arguments, "--out", str(tmp_path / "said"), "--output", "probabilities"]) == 0
    assert "assumed" not in load(tmp_path / "said" / "mine-float32.tflite").manifest["output"]
