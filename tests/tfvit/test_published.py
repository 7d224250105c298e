"""The checkpoints that ship with the package: whole, right, and what the commands and constructors take."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import tfvit
from calibration import builtin
from calibration.image_set import open_image_set
from tfvit import published
from tfvit.errors import WeightsError
from tfvit.labels import cifar10_labels
from tfvit.model import build_variant
from tfvit.preprocessing import normalize
from tfvit.variants import VARIANTS
from tfvit.weights import load_weights

CIFAR10 = Path(__file__).parents[3] / "shared" / "data" / "cifar10"
NAMES = tuple(published.SHIPPED_SHA256)
# logits of builtin.generate(0, 32, 0), recorded when the weights were added
GOLDEN = {
    "nano32": [0.99595, -1.08863, 1.26071, 1.00522, -1.14017, -0.71542, 0.56768, -1.60372, -0.65247, -0.60303],
    "v2_nano32": [1.76819, -1.70847, 0.35835, 0.64253, 0.05425, -0.79027, 0.42525, -1.45059, -0.30621, -1.20039],
    "vit_nano32": [0.8931, -0.86556, -0.58482, 0.92025, -0.77003, -1.21734, 1.30357, -1.6124, 0.26387, 0.93478],
}
ABSOLUTE_TOLERANCE = 1e-4  # float32 sums in another order, logits of a few units


@pytest.mark.parametrize("name", NAMES)
def test_golden_logits(name):
    variant = VARIANTS[name]
    model = build_variant(variant, weights=None, classifier_activation=None)
    origin = load_weights(model, "cifar10", variant)
    assert origin.source == "cifar10"
    assert origin.sha256 == published.SHIPPED_SHA256[name]
    assert origin.license == "Apache-2.0"
    pixels = builtin.generate(0, variant.image_size, 0)
    logits = keras.ops.convert_to_numpy(model(normalize(pixels[None], variant.preprocessing)))[0]
    print(name, [round(float(logit), 5) for logit in logits])
    np.testing.assert_allclose(logits, GOLDEN[name], atol=ABSOLUTE_TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_accuracy_is_the_cards(name):
    """On every fifth test image, within four standard errors of the report's figure."""
    if not (CIFAR10 / "test.zip").exists():
        pytest.skip(f"no CIFAR-10 test images in {CIFAR10}")
    images = open_image_set(CIFAR10 / "test.zip")
    pairs = list(images.read_with_references(images.references[::5], VARIANTS[name].preprocessing))
    model = getattr(tfvit, VARIANTS[name].constructor)()
    scores = model.predict(tfvit.preprocess_input(np.stack([pixels for _, pixels in pairs])), batch_size=250, verbose=0)
    right = np.mean([cifar10_labels()[best] == reference.label for best, (reference, _) in zip(scores.argmax(1), pairs, strict=True)])
    report = json.loads((published.SHIPPED_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    error = np.sqrt(report["test_top1"] * (1 - report["test_top1"]) / len(pairs))
    print(f"{name}: {right:.3f} of {len(pairs)}, report {report['test_top1']:.3f}, standard error {error:.3f}")
    assert abs(right - report["test_top1"]) <= 4 * error
    assert tuple(report["classes"]) == cifar10_labels()


@pytest.mark.parametrize("name", NAMES)
def test_sizes(name):
    assert (published.SHIPPED_FOLDER / f"{name}.safetensors").stat().st_size <= 6_000_000


def test_damaged_or_missing_weights_are_refused(tmp_path, monkeypatch):
    content = bytearray((published.SHIPPED_FOLDER / "nano32.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "nano32.safetensors").write_bytes(content)
    monkeypatch.setattr(published, "SHIPPED_FOLDER", tmp_path)
    with pytest.raises(WeightsError, match="damaged") as caught:
        published.published_checkpoint("nano32", "cifar10")
    assert published.SHIPPED_SHA256["nano32"] in caught.value.expected
    with pytest.raises(WeightsError, match="No such file"):
        tfvit.ViTTransformerV2Nano32()


def test_names_that_do_not_go_together():
    with pytest.raises(WeightsError, match="for tiny224: imagenet or imagenet21k"):
        published.published_checkpoint("tiny224", "cifar10")
    with pytest.raises(WeightsError, match="for nano32: cifar10"):
        tfvit.ViTTransformerNano32(weights="imagenet")


def test_another_number_of_classes_starts_from_them(recwarn):
    model = tfvit.ViTTransformerNano32(classes=4)
    assert any("10 classes is left out" in str(warning.message) for warning in recwarn)
    trained = tfvit.ViTTransformerNano32()
    ours, theirs = (keras.ops.convert_to_numpy(each.get_layer("stage3_block2").mlp.fc2.kernel) for each in (model, trained))
    np.testing.assert_array_equal(ours, theirs)


def test_evaluate_command(tmp_path, capsys):
    """The variant's own weights by default; folders in the order of the classes."""
    from tfvit import evaluate

    if not (CIFAR10 / "test.zip").exists():
        pytest.skip(f"no CIFAR-10 test images in {CIFAR10}")
    shutil.unpack_archive(CIFAR10 / "test.zip", tmp_path)
    assert evaluate.main(["--variant", "nano32", "--data", str(tmp_path), "--limit", "250", "--batch-size", "50", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"] == "cifar10"
    assert document["top1"] > 0.5
