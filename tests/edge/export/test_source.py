"""Models for images or with windows of another size: asked for, adapted as the constructors do it, recorded, and made again."""

import keras
import numpy as np
import pytest

from edge.artifacts.artifact import load, preprocessing_of
from edge.runtime.cpu import Interpreter
from tests.edge.small_models import run_command
from tfvit.errors import EXIT_OK, EXIT_USAGE
from tfvit.imagenet import preprocess_input
from tfvit.model import build_variant
from tfvit.preprocessing import normalize, sides, size_of
from tfvit.variants import find_variant

pytestmark = pytest.mark.whole

FAST = ("--quant", "float32", "--calibration-samples", "2", "--drift-samples", "4", "--no-cache")


@pytest.fixture
def converted(capfd, tmp_path):
    from edge import convert

    return lambda *arguments: run_command(convert.main, capfd, *arguments, *FAST, "--out", tmp_path / "out")


def _answers(artifact, model):
    """The file's and the model's, of one image."""
    pixels = np.random.default_rng(0).integers(0, 256, artifact.manifest["input"]["shape"]).astype(np.float32)
    expected = keras.ops.softmax(model(normalize(pixels, preprocessing_of(artifact.manifest))))
    return Interpreter(artifact.file).run(pixels), keras.ops.convert_to_numpy(expected)


SIZES = {
    "V1": ("nano32", 48, None),
    "V2": ("v2_nano32", 64, 8),
    "plain": ("vit_nano32", 48, None),
    "V1, wide": ("nano32", (32, 64), None),
    "V2, tall": ("v2_nano32", (48, 32), None),
    "plain, wide": ("vit_nano32", (24, 40), None),
}


@pytest.mark.parametrize(("variant", "size", "window"), SIZES.values(), ids=SIZES)
@pytest.mark.slow
def test_a_variant_of_another_size(converted, tmp_path, variant, size, window):
    height, width = sides(size)
    size, written = size_of(height, width), size if isinstance(size, int) else f"{height}x{width}"
    flags = ("--image-size", str(written), *(("--window", str(window)) if window else ()))
    done = converted("--variant", variant, *flags)
    assert done.code == EXIT_OK, done.err
    name = f"{variant}-{written}px{f'-window{window}' if window else ''}-float32"
    artifact = load(tmp_path / "out" / f"{name}.tflite")
    manifest = artifact.manifest
    assert (manifest["variant"], manifest["input"]["shape"]) == (variant, [1, height, width, 3])
    assert preprocessing_of(manifest) == find_variant(variant).preprocessing.for_image_size(size, 1.0)
    recorded = manifest["settings"]
    assert (recorded["image_size"], recorded.get("window")) == (size if isinstance(size, int) else [height, width], window)
    arguments = {"window_size": window} if window else {}
    model = build_variant(find_variant(variant), weights="cifar10", input_shape=(height, width, 3), classifier_activation=None, **arguments)
    np.testing.assert_allclose(*_answers(artifact, model), atol=1e-5)
    from edge import validate

    assert validate.main([str(artifact.path), "--samples", "8", "--quiet"]) == EXIT_OK  # rebuilt from the manifest


@pytest.mark.slow
def test_a_model_of_any_size(converted, tmp_path):
    backbone = build_variant(find_variant("nano32"), weights="cifar10", input_shape=(None, None, 3), classifier_activation="softmax")
    image = keras.Input((None, None, 3))
    keras.Model(image, backbone(preprocess_input(image))).save(tmp_path / "any.keras")
    done = converted("--model", tmp_path / "any.keras")
    assert done.code != EXIT_OK
    assert "--image-size N or HEIGHTxWIDTH" in done.err
    assert converted("--model", tmp_path / "any.keras", "--image-size", "40", "--resize", "40").code == EXIT_OK
    artifact = load(tmp_path / "out" / "any-float32.tflite")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3)).astype(np.float32)
    np.testing.assert_allclose(Interpreter(artifact.file).run(pixels), backbone(preprocess_input(pixels)), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--variant", "nano32", "--image-size", "7"), "at least 8 px"),
        (("--variant", "vit_nano32", "--image-size", "34"), "a multiple of 4"),
        (("--variant", "vit_nano32", "--image-size", "32x34"), "--image-size 32x34 for vit_nano32"),
        (("--variant", "nano32", "--image-size", "32,64"), "must be a number of pixels, or HEIGHTxWIDTH"),
        (("--variant", "nano32", "--window", "40"), "--window 40 for nano32 at 32 x 32 px"),
        (("--variant", "vit_nano32", "--window", "4"), "of a variant with windows"),
        (("--model", "x.keras", "--window", "4"), "--window with --variant"),
        (("--checkpoint", "x", "--image-size", "64"), "--image-size with --variant or --model"),
    ],
)
def test_sizes_that_cannot_be(converted, tmp_path, arguments, words):
    done = converted(*arguments)
    assert done.code == EXIT_USAGE
    assert words in done.err
    assert not (tmp_path / "out").exists()
