"""`--checkpoint PATH`: from what other libraries leave to files, validated and verified against it."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import edge
from edge import convert, validate, verify
from edge.artifacts import artifact
from edge.runtime.cpu import Interpreter
from tests.edge.small_models import exports_remembered, run_command
from tests.tfvit.checkpoints import small_checkpoints as make
from tfvit.errors import EXIT_OK, EXIT_UNUSABLE, EXIT_USAGE, InputError

pytestmark = pytest.mark.whole

REFERENCE = Path(__file__).parents[2].parent / "shared" / "data" / "reference"
FAST = ("--quant", "float32", "--calibration-samples", "2", "--drift-samples", "2", "--no-cache")
SIDE = 32
# One stage, one shift
ARGUMENTS = {"depths": (2,), "num_heads": (2,), "input_shape": (SIDE, SIDE, 3)}
CONFIG = {"depths": [2], "num_heads": [2], "image_size": SIDE}
PROCESSOR = {**make.PROCESSOR, "size": {"height": SIDE, "width": SIDE}}
LABELS = [f"thing {index}" for index in range(make.CLASSES)]


@pytest.fixture(scope="module")
def tensors():
    from tfvit.checkpoints.official import official_tensors

    return official_tensors(make.build(**ARGUMENTS))


@pytest.fixture
def run_folder(tensors, tmp_path):
    return make.folder(tmp_path / "my run", make.huggingface_config(**CONFIG), make.huggingface_names(tensors), PROCESSOR)


@pytest.fixture
def cli(capfd, tmp_path):
    """Runs `python -m edge.convert` in this process."""

    def run(*arguments):
        with exports_remembered():
            return run_command(convert.main, capfd, *arguments, *FAST, "--out", tmp_path / "out")

    return run


def _manifest(tmp_path, name):
    return json.loads((tmp_path / "out" / f"{name}.json").read_text(encoding="utf-8"))


def _written(tmp_path):
    return sorted(path.name for path in (tmp_path / "out").iterdir()) if (tmp_path / "out").is_dir() else []


def _one_error(ran, code, *words):
    assert ran.code == code, ran.err
    assert 1 <= len(ran.error) <= 4, ran.err
    assert (ran.out, "Traceback" in ran.err) == ("", False)
    for word in words:
        assert word in "\n".join(ran.error), ran.err


def test_a_folder_of_transformers_by_one_command(capfd, tmp_path):
    """With its labels and its preprocessing; its answers are those that transformers recorded."""
    folder = REFERENCE / "hf_swin"
    if not folder.is_dir():
        pytest.skip("hf_swin, a folder as transformers saves it, is not on this machine")
    ran = run_command(convert.main, capfd, "--checkpoint", folder, *FAST, "--output", "logits", "--out", tmp_path / "out")
    assert ran.code == EXIT_OK, ran.err
    assert _written(tmp_path) == ["hf_swin-float32.json", "hf_swin-float32.labels.txt", "hf_swin-float32.tflite"]
    manifest = _manifest(tmp_path, "hf_swin-float32")
    assert manifest["preprocessing"] == {"resize_px": 224, "crop_px": 224, "interpolation": "bilinear", "keep_aspect": False}
    assert (manifest["variant"], manifest["classes"], manifest["weights"]["source"]) == (None, 5, "hf_swin")
    assert manifest["settings"]["model_input"]["mean"] == manifest["settings"]["model_input"]["std"] == [127.5] * 3
    assert (tmp_path / "out" / "hf_swin-float32.labels.txt").read_text(encoding="utf-8").splitlines() == [f"thing {n}" for n in range(5)]
    from edge.runtime import cpu

    recorded = np.load(folder / "reference.npz")
    file = (tmp_path / "out" / "hf_swin-float32.tflite").read_bytes()
    answers = cpu.Interpreter(file).run(recorded["pixels"])
    difference = np.abs(answers.reshape(recorded["logits"].shape) - recorded["logits"]).max()
    assert difference <= 1e-4 * np.abs(recorded["logits"]).max()


@pytest.mark.slow
def test_converted_once_and_again_where_something_changed(cli, run_folder, tmp_path):
    assert cli("--checkpoint", run_folder).code == EXIT_OK
    first = _manifest(tmp_path, "my run-float32")
    assert artifact.load(tmp_path / "out" / "my run-float32.tflite").labels == tuple(LABELS)
    assert "current" in cli("--checkpoint", run_folder / "model.safetensors").out  # the same, by its weights
    (run_folder / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, "resample": 3}))
    assert "written" in cli("--checkpoint", run_folder).out
    second = _manifest(tmp_path, "my run-float32")
    assert (first["preprocessing"]["interpolation"], second["preprocessing"]["interpolation"]) == ("bilinear", "bicubic")
    assert first["weights"]["sha256"] != second["weights"]["sha256"]


@pytest.mark.slow
def test_what_is_said_wins_over_the_checkpoint(cli, run_folder, tmp_path):
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    said = ("--resize", "40", "--mean", "1,2,3", "--std", "4,5,6", "--labels", tmp_path / "labels.txt")
    assert cli("--checkpoint", run_folder, *said).code == EXIT_OK
    manifest = _manifest(tmp_path, "my run-float32")
    assert manifest["preprocessing"] == {"resize_px": 40, "crop_px": 32, "interpolation": "bilinear", "keep_aspect": True}
    assert manifest["settings"]["model_input"]["mean"] == [1, 2, 3]
    assert artifact.load(tmp_path / "out" / "my run-float32.tflite").labels == tuple("abcde")


@pytest.mark.slow
def test_what_nothing_says_is_assumed_loudly(cli, tensors, tmp_path):
    path = make.torch_save({"model_state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}}, tmp_path / "best.ckpt")
    ran = cli("--checkpoint", path)
    assert ran.code == EXIT_OK, ran.err
    assert _manifest(tmp_path, "best-float32")["preprocessing"]["assumed"] == ["value range", "resize and crop", "image size"]
    assert "assumed" in ran.err + ran.out
    assert not (tmp_path / "out" / "best-float32.labels.txt").exists()


@pytest.mark.slow
def test_a_size_that_nothing_but_the_user_says(cli, tensors, tmp_path):
    path = make.torch_save(tensors, tmp_path / "w.pth")
    ran = cli("--checkpoint", path)
    assert "32 px is assumed from its windows" in ran.err
    assert _manifest(tmp_path, "w-float32")["input"]["shape"] == [1, 32, 32, 3]
    make.torch_save({name: 0.9 * tensor for name, tensor in tensors.items()}, path)  # `exports_remembered` goes by the weights
    ran = cli("--checkpoint", path, "--crop", "48", "--resize", "50")
    assert "is assumed from its windows" not in ran.err
    manifest = _manifest(tmp_path, "w-float32")
    assert (manifest["input"]["shape"], manifest["preprocessing"]["assumed"]) == ([1, 48, 48, 3], ["value range"])


@pytest.mark.slow
def test_the_moving_average_or_not(cli, tensors, tmp_path):
    other = {name: tensor * 0.5 for name, tensor in tensors.items()}
    path = make.torch_save({"state_dict": other, "state_dict_ema": tensors}, tmp_path / "last.pth.tar")
    ran = cli("--checkpoint", path)
    assert "the moving average of the weights is taken" in ran.err
    assert _manifest(tmp_path, "last-float32")["settings"]["checkpoint"] == {"format": "timm", "ema": True, "variant": None}
    average = (tmp_path / "out" / "last-float32.tflite").read_bytes()
    ran = cli("--checkpoint", path, "--no-ema")
    assert "as they were trained" in ran.err
    assert _manifest(tmp_path, "last-float32")["settings"]["checkpoint"]["ema"] is False
    assert (tmp_path / "out" / "last-float32.tflite").read_bytes() != average


def test_a_saved_keras_model_of_any_name(cli, tmp_path):
    make.build(**ARGUMENTS).save(tmp_path / "mine.keras")
    assert cli("--checkpoint", tmp_path / "mine.keras").code == EXIT_OK
    assert _written(tmp_path) == ["mine-float32.json", "mine-float32.tflite"]


@pytest.mark.slow
def test_validated_and_verified_under_another_name(cli, capfd, run_folder, tmp_path):
    assert cli("--checkpoint", run_folder).code == EXIT_OK
    file = tmp_path / "out" / "my run-float32.tflite"
    checked = functools.partial(run_command, validate.main, capfd, file, "--samples", "4", "--no-cache")
    _one_error(checked(), EXIT_USAGE, "--checkpoint FILE, the my run with SHA-256", "no --checkpoint")
    assert checked("--checkpoint", run_folder).code == EXIT_OK
    moved = run_folder.rename(tmp_path / "moved")
    with exports_remembered():
        ran = run_command(verify.main, capfd, file.with_suffix(".json"), "--checkpoint", moved)
    assert ran.code == EXIT_OK, ran.out
    assert "equal to the last byte" in ran.out
    (moved / "config.json").write_text(json.dumps(make.huggingface_config(**CONFIG, id2label={})))
    _one_error(checked("--checkpoint", moved), EXIT_UNUSABLE, "other weights than the artifact's")
    _one_error(checked("--model", tmp_path / "m.keras"), EXIT_USAGE, "--model does not fit", "--checkpoint FILE")


def test_the_pixels_are_those_of_the_processor(run_folder, tmp_path):
    """Squashed, bilinear: what Pillow does with the whole image."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for index in range(4):
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(tmp_path / "photos" / f"{index}.png")
    from calibration.image_set import open_image_set
    from edge.export.float_model import FloatModel
    from edge.export.source import resolve_checkpoint

    preprocessing = FloatModel(resolve_checkpoint(run_folder)).preprocessing
    images = open_image_set(str(tmp_path / "photos"))
    split = images.split(2, 1, 0)
    pixels = np.asarray(images.pixels(split.calibration[0], preprocessing))
    name = next(path for path in (tmp_path / "photos").iterdir() if path.name in str(split.calibration[0]))
    expected = np.asarray(Image.open(name).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(pixels, expected)


def _bert(folder, tensors):
    make.folder(folder, {"model_type": "bert", "architectures": ["BertModel"]}, {"weight": np.zeros(3, np.float32)})


def _only_a_configuration(folder, tensors):
    make.folder(folder, make.huggingface_config(**CONFIG))


def _contradiction(folder, tensors):
    make.folder(folder, make.huggingface_config(**CONFIG, embed_dim=96), make.huggingface_names(tensors))


def _convnext(folder, tensors):
    make.folder(folder, {"architecture": "convnext_tiny"}, {"stem.0.weight": np.zeros(3, np.float32)})


def _no_head(folder, tensors):
    body = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
    make.folder(folder, make.huggingface_config(**CONFIG), make.huggingface_names(body))


def _one_tensor_is_missing(folder, tensors):
    make.folder(folder, make.huggingface_config(**CONFIG), make.huggingface_names(tensors | {"nrom.bias": np.zeros(3, np.float32)}))
    named = make.huggingface_names({name: tensor for name, tensor in tensors.items() if name != "norm.bias"})
    make.folder(folder, make.huggingface_config(**CONFIG), named)


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (_bert, ("another model", "'bert' model")),
        (_only_a_configuration, ("without the weights", "only their configuration")),
        (_contradiction, ("contradict", "embed_dim 96", "embed_dim 16")),
        (_convnext, ("another model", "'convnext_tiny'")),
        (_no_head, ("without a classifier", "head.fc.weight [classes, 16]")),
        (_one_tensor_is_missing, ("do not fit", "1 missing (norm.bias)")),
        (lambda folder, tensors: None, ("hf://OWNER/NAME", "No such file")),
    ],
    ids=["bert", "no weights", "contradiction", "convnext", "no head", "a tensor missing", "nothing there"],
)
def test_wrong_inputs_get_one_error_and_nothing_is_written(fill, words, cli, tensors, tmp_path):
    fill(tmp_path / "run", tensors)
    _one_error(cli("--checkpoint", tmp_path / "run"), EXIT_UNUSABLE, *words)
    assert _written(tmp_path) == []


@pytest.mark.slow
def test_a_backbone_gives_its_embedding(cli, tensors, tmp_path):
    """Where it is asked for: the file gives what the Keras backbone gives, and says what it is."""
    from tfvit import from_checkpoint
    from tfvit.preprocessing import normalize

    _no_head(tmp_path / "run", tensors)
    assert cli("--checkpoint", tmp_path / "run", "--output", "features").code == EXIT_OK
    output = _manifest(tmp_path, "run-float32")["output"]
    assert (output["meaning"], output["shape"], output["activation"]) == ("features", [1, 16], None)
    found = artifact.load(tmp_path / "out" / "run-float32.tflite")
    pixels = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3)).astype(np.float32)
    expected = from_checkpoint(tmp_path / "run")(normalize(pixels, artifact.preprocessing_of(found.manifest)))
    np.testing.assert_allclose(Interpreter(found.file).run(pixels), expected, atol=1e-4 * float(np.abs(expected).max()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hf_vit", "hf_dinov2"])
def test_plain_folders_of_transformers_by_one_command(capfd, tmp_path, name):
    folder = REFERENCE / name
    if not folder.is_dir():
        pytest.skip(f"{name}, a folder as transformers saves it, is not on this machine")
    ran = run_command(convert.main, capfd, "--checkpoint", folder, *FAST, "--output", "logits", "--out", tmp_path / "out")
    assert ran.code == EXIT_OK, ran.err
    found, recorded = artifact.load(tmp_path / "out" / f"{name}-float32.tflite"), np.load(folder / "reference.npz")
    assert found.labels == tuple(f"thing {number}" for number in range(5))
    np.testing.assert_allclose(
        Interpreter(found.file).run(recorded["pixels"].astype(np.float32)), recorded["logits"], atol=1e-4 * np.abs(recorded["logits"]).max()
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "x.keras"), ("a checkpoint is one model", "leave --model out")),
        (("--variant", "nano32,tiny224"), ("a checkpoint is one model", "leave --variant out")),
        (("--variant", "nano31"), ("unknown variant",)),
        (("--weights", "random"), ("has its own weights", "leave --weights out")),
    ],
)
def test_wrong_usage(arguments, words, cli, tmp_path):
    _one_error(cli("--checkpoint", tmp_path, *arguments), EXIT_USAGE, *words)


def test_a_variant_is_checked(cli, run_folder, tmp_path):
    _one_error(cli("--checkpoint", run_folder, "--variant", "tiny224"), EXIT_UNUSABLE, "is not tiny224", "it looks like micro")
    make.build(**ARGUMENTS).save(tmp_path / "mine.keras")
    _one_error(cli("--checkpoint", tmp_path / "mine.keras", "--variant", "tiny224"), EXIT_USAGE, "leave --variant out")


def test_from_python(run_folder, tmp_path):
    few = {"calibration_samples": 2, "drift_samples": 2, "no_cache": True, "quiet": True, "out": tmp_path / "out"}
    with exports_remembered():
        made = edge.convert(checkpoint=run_folder, quant="float32", **few)
    assert (made.name, made.labels) == ("my run-float32", tuple(LABELS))
    with pytest.raises(InputError):
        edge.convert(checkpoint=tmp_path / "none", quant="float32", **few)


@pytest.mark.slow
def test_trained_weights_in_int8_through_the_gate(capfd, tmp_path):
    """nano32's own weights as transformers would save them: the file is as good as that of --variant nano32, and knows its labels."""
    from safetensors.numpy import load_file

    from tfvit.labels import cifar10_labels
    from tfvit.variants import VARIANTS

    variant = VARIANTS["nano32"]
    sizes = {name: list(getattr(variant, name)) for name in ("depths", "num_heads")}
    sizes |= {name: getattr(variant, name) for name in ("embed_dim", "window_size", "patch_size", "image_size")}
    tensors = load_file(Path(edge.__file__).parents[1] / "tfvit" / "cifar10" / "nano32.safetensors")
    mean, std = ([value / 255 for value in values] for values in (variant.preprocessing.mean, variant.preprocessing.std))
    processor = {**PROCESSOR, "resample": 3, "image_mean": mean, "image_std": std}
    config = make.huggingface_config(**sizes, id2label=dict(enumerate(cifar10_labels())))
    run = make.folder(tmp_path / "run", config, make.huggingface_names(tensors), processor)
    quick = ("--quant", "int8", "--calibration-samples", "64", "--no-cache", "--out", tmp_path / "out")
    for arguments in (("--checkpoint", run), ("--variant", "nano32", "--resize", "squash")):
        assert run_command(convert.main, capfd, *arguments, *quick).code == EXIT_OK
    found, expected = _manifest(tmp_path, "run-int8"), _manifest(tmp_path, "nano32-int8")
    assert found["drift"]["passed"]
    assert abs(found["drift"]["logits_snr_db"] - expected["drift"]["logits_snr_db"]) < 1.0
    assert artifact.load(tmp_path / "out" / "run-int8.tflite").labels == cifar10_labels()
