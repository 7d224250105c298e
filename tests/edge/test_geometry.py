"""Padded images and inputs that are no squares, through every command: each does to an image what the manifest says."""

import hashlib
import io
import json
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

from calibration import builtin
from edge import benchmark, bundle, inspect, verify
from edge.artifacts import self_description
from edge.artifacts.artifact import load, preprocessing_of
from edge.runtime.cpu import Interpreter
from tests.edge.small_models import SEED, run_command
from tfvit.errors import EXIT_OK, EXIT_UNUSABLE, EXIT_USAGE
from tfvit.imagenet import preprocess_input
from tfvit.model import ViTTransformer
from tfvit.preprocessing import Preprocessing, attach, resize_and_crop
from tfvit.weights import randomize

pytestmark = pytest.mark.whole

FEW = ("--quant", "float32", "--calibration-samples", "2", "--no-cache")


def _open_model() -> keras.Model:
    """Of any size, normalising by itself."""
    backbone = ViTTransformer(
        embed_dim=16, depths=(2,), num_heads=(2,), window_size=4, input_shape=(None, None, 3), classes=3, classifier_activation=None
    )
    randomize(backbone, SEED)
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.layers.Softmax()(backbone(preprocess_input(image))))


PADDED = Preprocessing((24, 48), (24, 48), "bilinear", pad=0)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return _pictures(tmp_path_factory.mktemp("geometry") / "pictures", PADDED, 24)


def _pictures(folder, preprocessing, number):
    """Wide and tall ones, in the folder of the class that the model gives them when they are fed so."""
    model = _open_model()
    for index in range(number):
        scene = builtin.generate(index, 120)
        image = Image.fromarray(scene[:30] if index % 2 else scene[:, :25])
        answer = np.asarray(model(resize_and_crop(image, preprocessing)[None].astype("float32"))).argmax()
        (folder / f"class {answer}").mkdir(parents=True, exist_ok=True)
        image.save(folder / f"class {answer}" / f"{index}.png")
    (folder.parent / "labels.txt").write_text("class 0\nclass 1\nclass 2\n")
    return folder


@pytest.mark.slow
def test_a_padded_wide_model_goes_all_the_way(cli, validated, capfd, pictures, tmp_path):
    model = _open_model()
    model.save(tmp_path / "wide.keras")
    geometry = ("--image-size", "24x48", "--resize", "pad:7", "--interpolation", "bilinear")
    ran = cli("--model", tmp_path / "wide.keras", *geometry, *FEW, "--calibration", pictures, "--out", tmp_path / "out", "--no-gate")
    assert ran.code == EXIT_OK, ran.err
    artifact = load(tmp_path / "out" / "wide-float32.tflite")
    block = {"resize_px": [24, 48], "crop_px": [24, 48], "interpolation": "bilinear", "keep_aspect": True, "pad": 7}
    assert artifact.manifest["preprocessing"] == block
    assert artifact.manifest["input"]["shape"] == [1, 24, 48, 3]
    assert artifact.manifest["settings"]["image_size"] == [24, 48]
    metadata = self_description.read(artifact.file).metadata
    described = metadata["subgraph_metadata"][0]["input_tensor_metadata"][0]["description"]
    assert "fit into 48 wide and 24 high (bilinear, antialiased), centred, the rest filled with 7" in described
    assert "48 x 24 px" in metadata["description"]
    ran = validated(artifact.path, "--model", tmp_path / "wide.keras", "--images", pictures, "--no-cache", "--json")
    document = json.loads(ran.out)
    assert (ran.code, document["preprocessing"]["reference"], document["differences"][0]["identical"]) == (EXIT_OK, block, True)
    ran = validated(
        artifact.path, "--model", tmp_path / "wide.keras", "--images", pictures, "--no-cache", "--json", "--app-preprocessing", "squash"
    )
    squashed = {"resize_px": [24, 48], "crop_px": [24, 48], "interpolation": "bilinear", "keep_aspect": False}
    assert json.loads(ran.out)["preprocessing"]["target"] == squashed
    assert run_command(verify.main, capfd, artifact.path, "--model", tmp_path / "wide.keras").code == EXIT_OK
    assert run_command(inspect.main, capfd, artifact.path).code == EXIT_OK
    assert run_command(benchmark.main, capfd, artifact.path, "--min-runs", "3", "--min-seconds", "0").code == EXIT_OK
    ran = run_command(bundle.main, capfd, artifact.path, "--zip", tmp_path / "a.zip")
    assert "@param pixels 48 wide and 24 high RGB" in ran.out
    assert ran.code == EXIT_OK
    package = json.loads(zipfile.ZipFile(tmp_path / "a.zip").read("edge_package.json"))
    golden = Image.open(io.BytesIO(zipfile.ZipFile(tmp_path / "a.zip").read("golden.png")))
    (bundled,) = package["models"]
    pixels = resize_and_crop(golden, Preprocessing(**bundled["preprocessing"]))
    assert pixels.shape == (24, 48, 3)
    assert (pixels[:, :6] == 7).all()  # 300 x 200 is 36 x 24
    assert bundled["preprocessing"] == block
    assert bundled["golden"]["pixels_sha256"] == hashlib.sha256(pixels.tobytes()).hexdigest()
    expected = np.asarray(model(pixels[None].astype("float32")))[0]
    assert bundled["golden"]["top5"][0]["index"] == expected.argmax()
    np.testing.assert_allclose(Interpreter(artifact.file).run(pixels[None])[0], expected, atol=1e-5)


@pytest.mark.slow
def test_what_is_assumed_of_a_wide_input(cli, tmp_path):
    _open_model().save(tmp_path / "wide.keras")
    ran = cli("--model", tmp_path / "wide.keras", "--image-size", "24x48", *FEW, "--out", tmp_path, "--no-gate")
    assert ran.code == EXIT_OK
    assert "resized until it covers 54 wide and 27 high (bicubic, antialiased), its centre of 48 wide and 24 high cut out" in ran.err
    manifest = load(tmp_path / "wide-float32.tflite").manifest
    assert manifest["preprocessing"]["assumed"] == ["resize and crop"]
    assert preprocessing_of(manifest) == Preprocessing((27, 54), (24, 48))


@pytest.mark.parametrize("resize", ["pad", "squash"])
@pytest.mark.slow
def test_labelled_images_tell_how_a_model_was_fed(cli, validated, tmp_path, resize):
    """An assumed crop loses against what the model was trained with, which the message names; with it, every image is right everywhere."""
    photos = _pictures(tmp_path / "pictures", PADDED if resize == "pad" else PADDED.squashed(), 80)
    _open_model().save(tmp_path / "wide.keras")
    asked = ("--model", tmp_path / "wide.keras", "--image-size", "24x48", *FEW, "--drift-samples", "70", "--calibration", photos)
    asked += ("--labels", tmp_path / "labels.txt")
    ran = cli(*asked, "--out", tmp_path / "out")
    assert ran.code == EXIT_UNUSABLE, ran.err
    assert "not trained with what is assumed" in ran.err
    assert f"--resize {resize} --interpolation bilinear" in ran.err
    assert not (tmp_path / "out").exists()
    assert cli(*asked, "--out", tmp_path / "out", "--resize", resize, "--interpolation", "bilinear").code == EXIT_OK
    file = tmp_path / "out" / "wide-float32.tflite"
    ran = validated(file, "--model", tmp_path / "wide.keras", "--images", photos, "--no-cache", "--json")
    accuracy = json.loads(ran.out)["accuracy"]
    assert [accuracy[side]["top1"]["value"] for side in ("reference", "target")] == [1.0, 1.0]


@pytest.mark.slow
def test_what_is_attached_of_a_wide_model(cli, tmp_path):
    model = _open_model()
    attach(model, resize=(30, 60), interpolation="bilinear")
    model.save(tmp_path / "wide.keras")
    assert cli("--model", tmp_path / "wide.keras", "--image-size", "24x48", *FEW, "--out", tmp_path, "--no-gate").code == EXIT_OK
    found = preprocessing_of(load(tmp_path / "wide-float32.tflite").manifest)
    assert found == Preprocessing((30, 60), (24, 48), "bilinear")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--resize", "pad:256"), "pad:VALUE of 0 to 255"),
        (("--resize", "pad", "--crop", "0.9"), "which cuts nothing off"),
        (("--resize", "40"), "--resize of at least 48"),
        (("--resize", "23x48"), "received: resized to 48 wide and 23 high"),
        (("--resize", "24x"), "HEIGHTxWIDTH, squash or pad"),
    ],
)
def test_geometries_that_cannot_be(cli, tmp_path, flags, words):
    _open_model().save(tmp_path / "wide.keras")
    ran = cli("--model", tmp_path / "wide.keras", "--image-size", "24x48", *FEW, "--out", tmp_path / "out", *flags)
    assert ran.code == EXIT_USAGE
    assert words in ran.err
    assert not (tmp_path / "out").exists()


def test_a_model_of_another_fixed_size(cli, tmp_path):
    backbone = ViTTransformer(embed_dim=16, depths=(2,), num_heads=(2,), window_size=4, input_shape=(24, 48, 3), classes=3)
    backbone.save(tmp_path / "wide.keras")
    ran = cli("--model", tmp_path / "wide.keras", "--image-size", "48x24", *FEW, "--out", tmp_path / "out")
    assert ran.code == EXIT_USAGE
    assert "it takes images of 24x48 px (height x width)" in ran.err
