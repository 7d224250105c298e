"""What a model of the user's own expects: seen in its graph, said by flags, tried on labelled images, or assumed and said so."""

import keras
import numpy as np
import pytest
from PIL import Image

from edge.artifacts.artifact import load
from edge.export import to_tflite
from edge.runtime.cpu import Interpreter
from tests.edge.small_models import MICRO, SEED, build, pixels
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE, EXIT_USAGE, UsageError
from tfvit.imagenet import preprocess_input
from tfvit.preprocessing import IMAGENET_MEAN, IMAGENET_STD, MODEL_INPUTS, VALUE_RANGES, ModelInput, Preprocessing, attach, attached

pytestmark = pytest.mark.whole

SIDE, CLASSES = MICRO.image_size, MICRO.classes
# Each its own folder; a model with random weights gives some of them to some images
NAMES = [f"class {index}" for index in range(CLASSES)]
FEW = ("--calibration-samples", "8", "--drift-samples", "80", "--no-cache")


def _backbone():
    return build(MICRO, SEED)


def _augmentation():
    flips = [keras.layers.RandomFlip(), keras.layers.RandomRotation(0.1), keras.layers.RandomContrast(0.1)]
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), *flips])


def _wrapped(*before):
    image = keras.Input((SIDE, SIDE, 3))
    values = image
    for layer in before:
        values = layer(values)
    return keras.Model(image, _backbone()(values))


@pytest.mark.parametrize(
    ("before", "normalises"),
    [
        ((), False),
        ((_augmentation,), False),
        ((_augmentation, lambda: keras.layers.Identity()), False),
        ((_augmentation, lambda: preprocess_input), True),
        ((lambda: preprocess_input, _augmentation), True),
        ((_augmentation, lambda: keras.layers.Rescaling(1 / 255)), True),
        ((lambda: keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.RandomFlip(), keras.layers.Rescaling(1 / 255)]),), True),
    ],
    ids=[
        "nothing",
        "augmentation",
        "augmentation, identity",
        "then preprocessing",
        "behind preprocessing",
        "rescaling",
        "rescaling inside",
    ],
)
def test_the_graph_is_seen_through_augmentation_and_nesting(before, normalises):
    assert to_tflite.normalises_itself(_wrapped(*(make() for make in before))) == normalises


@pytest.fixture
def own(tmp_path):
    """A model of pixels / 255: the shipped constructor's backbone, with the scale in its first layer, and images labelled by itself."""
    model = _backbone()
    projection = model.get_layer("patch_embedding").projection
    kernel, bias = projection.get_weights()
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    projection.set_weights([kernel * (255 / std)[:, None], bias + np.einsum("hwio,i->o", kernel, -mean / std)])
    model.save(tmp_path / "own.keras")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    images = np.concatenate([pixels(SIDE, 60), 255 - pixels(SIDE, 60)])
    classes = np.asarray(model(images / 255.0)).argmax(axis=1)
    for number, (image, index) in enumerate(zip(images, classes, strict=True)):
        folder = tmp_path / "photos" / NAMES[index]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    print("labels", np.bincount(classes, minlength=CLASSES))
    return tmp_path


def _right(file, folder) -> float:
    """The share of the labelled images that the file, fed as the app feeds it, gives its class."""
    interpreter, right, number = Interpreter(file.read_bytes()), 0, 0
    for path in sorted(folder.glob("*/*.png")):
        answer = interpreter.run(np.asarray(Image.open(path))[None].astype("float32"))[0].argmax()
        right, number = right + (NAMES[answer] == path.parent.name), number + 1
    return right / number


@pytest.mark.slow
def test_an_augmentation_in_front_of_a_model_of_normalized_images(cli, tmp_path):
    """The file is as right as Keras, on labelled images that the model was fed normalized; they find nothing better than that."""
    model = _wrapped(_augmentation())
    model.save(tmp_path / "own.keras")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    images = np.concatenate([pixels(SIDE, 60), 255 - pixels(SIDE, 60)])
    classes = np.asarray(model((images - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD), training=False)).argmax(axis=1)
    for number, (image, index) in enumerate(zip(images, classes, strict=True)):
        folder = tmp_path / "photos" / NAMES[index]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    asked = (
        "--model",
        tmp_path / "own.keras",
        "--quant",
        "float32",
        "--labels",
        tmp_path / "labels.txt",
        "--calibration",
        tmp_path / "photos",
    )
    ran = cli(*asked, *FEW, "--resize", SIDE, "--out", tmp_path / "out")
    assert ran.code == EXIT_OK, ran.err
    assert "normalized 100%" in ran.err
    assert _right(tmp_path / "out" / "own-float32.tflite", tmp_path / "photos") > 0.97


def test_an_assumption_is_said_and_stays_in_the_manifest(cli, own):
    ran = cli("--model", own / "own.keras", "--quant", "float32", "--out", own / "out", *FEW, "--no-gate")
    assert ran.code == EXIT_OK
    assert "assumed, value range" in ran.err
    assert "assumed, resize and crop" in ran.err
    assert "ASSUMED: value range, resize and crop" in ran.out
    manifest = __import__("json").loads((own / "out" / "own-float32.json").read_text())
    assert manifest["preprocessing"]["assumed"] == ["value range", "resize and crop"]
    assert _right(own / "out" / "own-float32.tflite", own / "photos") < 0.9


@pytest.mark.slow
def test_labelled_images_decide(cli, own):
    """The wrong assumption is an error that names the right flag; with the flag the file is right."""
    asked = ("--model", own / "own.keras", "--quant", "float32", "--labels", own / "labels.txt", "--calibration", own / "photos", *FEW)
    ran = cli(*asked, "--out", own / "out")
    assert ran.code == EXIT_UNUSABLE
    assert "not trained with what is assumed" in ran.err
    assert "--model-input unit" in ran.error[-1]
    assert not (own / "out").exists()
    ran = cli(*asked, "--out", own / "out", "--model-input", "unit", "--resize", SIDE)
    assert ran.code == EXIT_OK, ran.err
    assert "assumed" not in (ran.err + ran.out).lower()
    assert _right(own / "out" / "own-float32.tflite", own / "photos") > 0.97


@pytest.mark.slow
def test_labels_in_the_wrong_order(cli, validated, own):
    """Seen on labelled images: by the conversion, and by the validation of a file that was converted without them."""
    (own / "wrong.txt").write_text("\n".join(NAMES[1:] + NAMES[:1]))
    asked = ("--model", own / "own.keras", "--quant", "float32", "--model-input", "unit", "--resize", SIDE, *FEW)
    ran = cli(*asked, "--labels", own / "wrong.txt", "--calibration", own / "photos", "--out", own / "out")
    assert ran.code == EXIT_UNUSABLE
    assert "the labels are in another order" in ran.error[0]
    assert not (own / "out").exists()
    assert cli(*asked, "--labels", own / "wrong.txt", "--out", own / "out").code == EXIT_OK  # generated images say nothing
    file = own / "out" / "own-float32.tflite"
    ran = validated(file, "--model", own / "own.keras", "--images", own / "photos", "--no-cache")
    assert ran.code == EXIT_CHECK_FAILED
    assert "FAILED: the labels are in another order than the model's classes" in ran.out
    assert (
        validated(file, "--model", own / "own.keras", "--images", own / "photos", "--labels", own / "labels.txt", "--no-cache").code
        == EXIT_OK
    )


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "values", [pytest.param("unit", marks=SLOW), pytest.param("symmetric", marks=SLOW), pytest.param("normalized", marks=SLOW)]
)
def test_every_range_of_values(cli, tmp_path, values):
    """The file computes what the model makes of such values."""
    model = _backbone()
    model.save(tmp_path / "m.keras")
    asked = ("--model", tmp_path / "m.keras", "--quant", "float32", "--output", "logits", "--model-input", values, *FEW)
    assert cli(*asked, "--out", tmp_path, "--no-gate").code == EXIT_OK
    mean, std = (np.asarray(part, np.float32) for part in VALUE_RANGES[values])
    images = pixels(SIDE, 4).astype(np.float32)
    expected = np.asarray(model((images - mean) / std))
    interpreter = Interpreter((tmp_path / "m-float32.tflite").read_bytes())
    answers = np.stack([interpreter.run(image[None])[0] for image in images])
    np.testing.assert_allclose(answers, expected, atol=1e-4 * np.abs(expected).max())


def test_what_is_said_goes_before_what_is_usual():
    usual = Preprocessing.for_image_size(224)
    assert ModelInput().applied(usual, 224) == usual
    squashed = ModelInput(resize="squash", interpolation="bilinear").applied(usual, 224)
    assert (squashed.resize_px, squashed.crop_px, squashed.keep_aspect, squashed.interpolation) == (224, 224, False, "bilinear")
    assert ModelInput(resize=256).applied(usual, 224).resize_px == 256
    assert ModelInput(crop=0.5).applied(usual, 224).resize_px == 448
    own = ModelInput(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    assert (own.applied(usual, 224).mean, own.applied(usual, 224).std, own.takes_pixels) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), False)
    assert ModelInput.of_document(own.document()) == own
    assert ModelInput("unit", "squash").assumed(False) == ()
    assert ModelInput().assumed(True) == ("resize and crop",)
    assert set(VALUE_RANGES) < set(MODEL_INPUTS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"values": "bytes"},
        {"mean": (1.0, 2.0, 3.0)},
        {"mean": (1.0,), "std": (1.0,)},
        {"mean": (0.0, 0.0, 0.0), "std": (1.0, 0.0, 1.0)},
        {"values": "unit", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
        {"resize": "fit"},
        {"resize": 0},
        {"interpolation": "nearest"},
    ],
    ids=str,
)
def test_what_cannot_be_meant(wrong):
    with pytest.raises(UsageError, match="unusable --"):
        ModelInput(**wrong)


@pytest.mark.parametrize("said", [ModelInput(resize=100), ModelInput(crop=200)], ids=["too small", "another crop"])
def test_a_geometry_the_model_cannot_take(said):
    with pytest.raises(UsageError, match="cannot take"):
        said.applied(Preprocessing.for_image_size(224), 224)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--resize", "fit"), "a number of pixels, HEIGHTxWIDTH, squash or pad"),
        (("--mean", "1,x,2", "--std", "1,1,1"), "three numbers like"),
        (("--model-input", "unit"), "no --model"),
    ],
    ids=["resize", "mean", "values of a variant"],
)
def test_flags_that_say_nothing(cli, tmp_path, flags, words):
    ran = cli("--variant", MICRO.id, "--quant", "float32", "--out", tmp_path / "out", *flags)
    assert ran.code == EXIT_USAGE
    assert words in ran.err
    assert not (tmp_path / "out").exists()


def test_what_is_said_of_a_variant_is_recorded_and_validated(cli, validated, tmp_path):
    asked = ("--variant", MICRO.id, "--quant", "float32", "--weights", f"random:{SEED}", "--calibration-samples", "4", "--no-cache")
    assert cli(*asked, "--resize", "squash", "--out", tmp_path, "--no-gate").code == EXIT_OK
    ran = validated(tmp_path / f"{MICRO.id}-float32.random.tflite", "--samples", "4", "--no-cache")
    assert ran.code == EXIT_OK
    assert "the same pixels" in ran.out


@pytest.mark.slow
def test_what_is_attached_travels_with_the_saved_model(cli, tmp_path):
    """Into the manifest and what is fed; a flag says otherwise; nothing of it is assumed any more."""
    image = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(image, _backbone()(image))
    attach(model, "unit", resize="squash", interpolation="bilinear")
    fine_tuned = keras.Model(model.input, keras.layers.Softmax()(model.output))
    fine_tuned.save(tmp_path / "mine.keras")
    arguments = ("--model", tmp_path / "mine.keras", "--quant", "float32", *FEW, "--no-gate")
    done = cli(*arguments, "--out", tmp_path / "out")
    assert done.code == EXIT_OK, done.err
    assert "assumed" not in done.err.lower()
    artifact = load(tmp_path / "out" / "mine-float32.tflite")
    assert artifact.manifest["preprocessing"] == {
        "resize_px": SIDE, "crop_px": SIDE, "interpolation": "bilinear", "keep_aspect": False,
    }  # fmt: skip
    photos = pixels(SIDE, 2).astype(np.float32)
    expected = keras.ops.softmax(_backbone()(photos / 255.0))
    np.testing.assert_allclose(np.concatenate([Interpreter(artifact.file).run(photo[None]) for photo in photos]), expected, atol=1e-5)
    assert cli(*arguments, "--out", tmp_path / "said", "--resize", str(SIDE + 8)).code == EXIT_OK
    assert load(tmp_path / "said" / "mine-float32.tflite").manifest["preprocessing"]["resize_px"] == SIDE + 8


@pytest.mark.slow
def test_models_that_take_blue_first_get_it(cli, tmp_path):
    """The file takes red first all the same, whole on the delegates."""
    image = keras.Input((SIDE, SIDE, 3))
    keras.Model(image, keras.layers.Softmax()(_backbone()(image))).save(tmp_path / "mine.keras")
    said = ("--model-input", "normalized", "--resize", str(SIDE), "--channels", "BGR")
    assert (
        cli("--model", tmp_path / "mine.keras", "--quant", "float32", *said, *FEW, "--no-gate", "--out", tmp_path / "out").code == EXIT_OK
    )
    artifact = load(tmp_path / "out" / "mine-float32.tflite")
    photo = pixels(SIDE, 1).astype(np.float32)
    normalized = (photo - np.asarray(IMAGENET_MEAN)) / np.asarray(IMAGENET_STD)
    expected = keras.ops.softmax(_backbone()(normalized[..., ::-1].astype(np.float32)))
    np.testing.assert_allclose(Interpreter(artifact.file).run(photo), expected, atol=1e-5)
    assert artifact.manifest["delegates"]["xnnpack"]["partitions"] == 1
    assert artifact.manifest["delegates"]["gpu"]["verdict"] == "whole"
    assert artifact.manifest["input"]["channels"] == "RGB"


def test_attaching_what_cannot_be():
    with pytest.raises(UsageError, match="--resize"):
        attach(_backbone(), resize="fit")
    with pytest.raises(UsageError, match="without one"):
        attach(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), "unit")
    image = keras.Input((SIDE, SIDE, 3))
    other = build(MICRO, SEED + 1)
    other = keras.Model(other.input, other.output, name="other")
    model = keras.Model(image, keras.layers.Add()([_backbone()(image), other(image)]))
    attach(model, "unit")
    attach(other, "symmetric")
    with pytest.raises(UsageError, match="two backbones"):
        attached(model)
