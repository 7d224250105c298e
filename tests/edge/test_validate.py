"""edge.validate: the reference rebuilt, three differences apart, and what must fail it."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration import builtin
from edge.artifacts import artifact, store
from edge.quantization.dense_layers import dense_layers
from edge.tflite import flatbuffer
from edge.validation import predictions, validate_file
from tests.edge.small_models import MICRO, SEED, build
from tfvit import hashing
from tfvit.errors import EXIT_BUG, EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE, EXIT_USAGE

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[2]
NAMES = ("ant", "bee", "cat", "dog", "eel")
PICTURES = 90  # two chunks
SIZE = MICRO.image_size
# float32 arithmetic in another order; 8 bits lie below 60 dB
LEAST_EXPORT_SNR_DB, MOST_INT8_SNR_DB = 90.0, 60.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of the user's own, so that answers count."""
    path = tmp_path_factory.mktemp("weights") / "mine.weights.h5"
    build(MICRO, SEED).save_weights(path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """LABEL/NAME of generated scenes, all different, with an odd shape among them."""
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(PICTURES):
        picture = Image.fromarray(builtin.generate(index, 2 * SIZE, 77))
        if index == 5:
            picture = picture.resize((2 * SIZE, 3 * SIZE))
        path = folder / NAMES[index % len(NAMES)] / f"{index:03d}.png"
        path.parent.mkdir(exist_ok=True)
        picture.save(path)
    return folder


_MADE: dict[str, Path] = {}


@pytest.fixture
def made(cli, weights, tmp_path_factory, tmp_path):
    """A copy of the artifacts of those weights, float32 and int8, which the test may change."""
    if "folder" not in _MADE:
        folder = tmp_path_factory.mktemp("made")
        labels = folder / "names.txt"
        labels.write_text("\n".join(NAMES))
        arguments = ("--variant", "micro", "--weights", weights, "--quant", "float32,int8,int8_full", "--labels", labels)
        ran = cli(*arguments, "--calibration-samples", "8", "--out", folder / "out", "--no-gate", "--quiet")
        assert ran.code == EXIT_OK
        _MADE["folder"] = folder / "out"
    shutil.copytree(_MADE["folder"], tmp_path / "made")
    return tmp_path / "made"


LOOSE = ("--min-agreement", "0", "--max-top1-drop", "100")


def _document(ran):
    return json.loads(ran.out)


def _changed(folder: Path, name: str, file: bytes) -> Path:
    """The artifact with another file that its manifest describes: the change must be found by looking at answers."""
    old = artifact.load(folder / f"{name}.tflite")
    manifest = json.loads(json.dumps(old.manifest))
    manifest["file"] |= {"sha256": hashing.sha256(file), "size_bytes": len(file)}
    return artifact.save(dataclasses.replace(old, file=file, manifest=manifest), folder, force=True)


def test_three_differences_apart(validated, made, weights, pictures):
    ran = validated(made / "micro-int8.tflite", "--images", pictures, "--weights", weights, "--json", "--layers", *LOOSE)
    document = _document(ran)
    assert ran.code == EXIT_OK
    by_name = {difference["name"]: difference for difference in document["differences"]}
    assert list(by_name) == ["preprocessing", "export", "quantization", "total"]
    assert by_name["preprocessing"]["identical"]
    assert by_name["preprocessing"]["metrics"]["max_abs_err"] == 0
    assert by_name["export"]["metrics"]["logits_snr_db"] > LEAST_EXPORT_SNR_DB
    quantization, total = by_name["quantization"]["metrics"], by_name["total"]["metrics"]
    assert 20 < quantization["logits_snr_db"] < MOST_INT8_SNR_DB
    assert total["logits_snr_db"] == pytest.approx(quantization["logits_snr_db"], abs=0.1)
    assert document["images"]["number"] == PICTURES
    assert document["gate"]["passed"]
    accuracy = document["accuracy"]
    assert sum(row["images"] for row in accuracy["per_class"]) == PICTURES
    assert {row["label"] for row in accuracy["per_class"]} == set(NAMES)
    change = accuracy["only_target_right"] - accuracy["only_reference_right"]
    assert accuracy["top1_change"]["value"] == pytest.approx(change / PICTURES)
    flipped = document["flipped"]
    assert flipped["number"] == round(PICTURES * (1 - total["top1_agreement"]["value"]))
    assert all(image["reference"]["answer"] != image["target"]["answer"] for image in flipped["shown"])
    assert all(image["thumbnail"].startswith("data:image/png;base64,") for image in flipped["shown"])
    assert len(document["layers"]["rows"]) == len(dense_layers(flatbuffer.read_model((made / "micro-float32.tflite").read_bytes())))


def test_fewer_images_for_the_float32_file(validated, made, weights, pictures):
    """What it is asked for tells two differences apart; the total one, accuracy and gate stay those of all images."""
    arguments = (made / "micro-int8.tflite", "--images", pictures, "--weights", weights, *LOOSE)
    some, every = (validated(*arguments, "--json", "--no-cache", "--float32-samples", number) for number in ("64", "all"))
    some, every = _document(some), _document(every)
    of_some, of_every = (
        {difference["name"]: difference["metrics"] for difference in document["differences"]} for document in (some, every)
    )
    assert [metrics["samples"] for metrics in of_every.values()] == [PICTURES] * 4
    assert [metrics["samples"] for metrics in of_some.values()] == [PICTURES, 64, 64, PICTURES]
    assert of_some["total"] == of_every["total"]
    assert of_some["quantization"]["logits_snr_db"] != of_every["quantization"]["logits_snr_db"]
    for field in ("accuracy", "flipped", "gate", "images"):
        assert some[field] == every[field]
    printed = validated(*arguments, "--float32-samples", "64").out
    assert "export and quantization: on 64 of them, spread over all" in printed
    refused = validated(*arguments, "--float32-samples", "0")
    assert (refused.code, "--float32-samples" in refused.err) == (EXIT_USAGE, True)


@pytest.mark.parametrize(("images", "wanted"), [(5000, 1024), (1024, 1024), (90, 1), (1, 1), (50000, 1024), (5000, None), (5000, 1000)])
def test_the_float32_file_runs_on_as_many_as_wanted_spread_over_all(images, wanted):
    model = predictions.Model("m", "m", MICRO.preprocessing, lambda workers: None, share=validate_file._share(images, wanted))
    chunks = range(-(-images // predictions.CHUNK))
    answered = [chunk for chunk in chunks if model.answers_chunk(chunk)]
    assert len(answered) == min(len(chunks), -(-(wanted or images) // predictions.CHUNK))
    assert answered[0] == 0
    gaps = np.diff(answered)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_the_answers_are_keras_and_the_files(validated, made, weights, pictures):
    """Against the model and the runtime themselves."""
    from edge.drift.metrics import logits_of_probabilities, measure
    from edge.runtime.cpu import Interpreter
    from tfvit.preprocessing import normalize, resize_and_crop, to_rgb

    ran = validated(made / "micro-int8.tflite", "--images", pictures, "--weights", weights, "--json", *LOOSE)
    paths = sorted(pictures.rglob("*.png"))
    pixels = np.stack([resize_and_crop(to_rgb(Image.open(path)), MICRO.preprocessing) for path in paths])
    reference = np.asarray(build(MICRO, SEED)(normalize(pixels, MICRO.preprocessing)))
    interpreter = Interpreter((made / "micro-int8.tflite").read_bytes())
    target = logits_of_probabilities(np.concatenate([interpreter.run(image[None]) for image in pixels]))
    expected = measure(reference, target, np.array([NAMES.index(path.parent.name) for path in paths]))
    document = _document(ran)
    total = document["differences"][-1]["metrics"]
    assert total["top1_agreement"]["value"] == expected.top1_agreement
    assert total["logits_snr_db"] == pytest.approx(expected.logits_snr_db, abs=0.01)
    assert total["kl"] == pytest.approx(expected.kl, rel=1e-2)
    assert document["accuracy"]["reference"]["top1"]["value"] == expected.top1_reference
    assert document["accuracy"]["target"]["top1"]["value"] == expected.top1_target


def test_what_an_app_does_otherwise_is_told_apart(validated, made, weights, pictures):
    arguments = (made / "micro-float32.tflite", "--images", pictures, "--weights", weights, "--json", *LOOSE, "--min-snr", "0")
    found = {}
    for way in ("bilinear", "squash", "squash-bilinear"):
        document = _document(validated(*arguments, "--app-preprocessing", way))
        preprocessing, export = (difference["metrics"] for difference in document["differences"][:2])
        assert export["logits_snr_db"] > LEAST_EXPORT_SNR_DB
        assert not document["differences"][0]["identical"]
        found[way] = preprocessing["logits_snr_db"]
    print(found)
    assert max(found.values()) < MOST_INT8_SNR_DB
    assert len(set(found.values())) == 3


@pytest.mark.parametrize("layer", ["stage1_block1/mlp/fc1", "stage1_block2/attention/value", "patch_embedding/projection", "head"])
def test_an_altered_layer_is_named(validated, made, weights, pictures, layer):
    """One layer's int8 weights, or float ones, are disturbed; every layer behind it computes with what comes of it."""
    model = flatbuffer.read_model((made / "micro-int8.tflite").read_bytes())
    (disturbed,) = (found for found in dense_layers(model) if found.layer == layer)
    data = flatbuffer.constant(model, disturbed.weights)
    values = np.frombuffer(data.tobytes(), np.int8 if flatbuffer.tensor_type(model, disturbed.weights) == "INT8" else np.float32).copy()
    values[::7] = -values[::7]
    model.buffers[model.subgraphs[0].tensors[disturbed.weights].buffer].data = values.view(np.uint8)
    path = _changed(made, "micro-int8", flatbuffer.write_model(model))
    ran = validated(path, "--images", pictures, "--weights", weights, "--layers", "--json", *LOOSE, "--min-snr", "30")
    document = _document(ran)
    assert document["layers"]["worst"] == layer
    worst, second = document["layers"]["rows"][:2]
    assert worst["own_snr_db"] < second["own_snr_db"] - 10
    assert ran.code == EXIT_CHECK_FAILED
    table = validated(path, "--images", pictures, "--weights", weights, "--layers", *LOOSE, "--quiet").out.splitlines()
    start = next(index for index, line in enumerate(table) if line.startswith("layers,"))
    assert table[start + 1].split()[0] == layer


def test_a_sound_layer_is_not_blamed(validated, made, weights, pictures):
    document = _document(validated(made / "micro-float32.tflite", "--images", pictures, "--weights", weights, "--layers", "--json", *LOOSE))
    assert all(row["own_snr_db"] > LEAST_EXPORT_SNR_DB for row in document["layers"]["rows"])


@pytest.mark.slow
def test_the_layers_of_an_integer_only_file(validated, made, weights, pictures):
    document = _document(
        validated(made / "micro-int8_full.tflite", "--images", pictures, "--weights", weights, "--layers", "--json", *LOOSE)
    )
    rows = document["layers"]["rows"]
    assert {row["mode"] for row in rows} == {"int8 x int8"}
    assert "head" in {row["layer"] for row in rows}
    assert all(10 < row["own_snr_db"] < MOST_INT8_SNR_DB for row in rows)


@pytest.mark.slow
def test_nan_in_one_image_fails_and_names_it(validated, made, weights, pictures, tmp_path):
    import tensorflow as tf

    from edge.export import to_tflite

    source = to_tflite.exportable(build(MICRO, SEED), MICRO.preprocessing, takes_pixels=False)

    def serve(pixels):
        """NaN wherever an image has a white pixel."""
        return tf.nn.softmax(source.logits(pixels)) + 1e-30 * tf.sqrt(254.5 - tf.reduce_max(pixels))

    concrete = tf.function(serve).get_concrete_function(tf.TensorSpec((1, SIZE, SIZE, 3), tf.float32))
    path = _changed(made, "micro-float32", bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()))
    folder = tmp_path / "pictures"
    for index in range(8):
        (folder / NAMES[index % 5]).mkdir(parents=True, exist_ok=True)
        picture = builtin.generate(index, SIZE, 5) // 2  # bicubic resizing overshoots
        Image.fromarray(picture).save(folder / NAMES[index % 5] / f"{index}.png")
    sound = validated(path, "--images", folder, "--weights", weights, *LOOSE)
    assert sound.code == EXIT_OK
    Image.fromarray(np.full((SIZE, SIZE, 3), 255, np.uint8)).save(folder / "cat" / "white.png")
    ran = validated(path, "--images", folder, "--weights", weights, "--json", *LOOSE, "--min-snr", "-1000")
    document = _document(ran)
    assert ran.code == EXIT_CHECK_FAILED
    assert document["non_finite"] == ["cat/white.png"]
    assert "NaN or infinity on 1 of 9 images: cat/white.png" in document["gate"]["failures"]
    assert document["differences"][-1]["metrics"]["logits_snr_db"] is None
    assert "cat/white.png" in validated(path, "--images", folder, "--weights", weights, *LOOSE).out


def test_a_file_its_manifest_does_not_describe(validated, made, weights, pictures):
    path = made / "micro-int8.tflite"
    path.write_bytes(path.read_bytes() + b"\0")
    ran = validated(path, "--images", pictures, "--weights", weights, "--json", *LOOSE)
    assert ran.code == EXIT_CHECK_FAILED
    assert _document(ran)["gate"]["failures"] == ["the file is not the one its manifest describes (SHA-256 differs)"]


@pytest.mark.parametrize(
    ("limit", "words"), [(("--min-snr", "70"), "SNR"), (("--min-agreement", "1.01"), "agreement"), (("--max-top1-drop", "-50"), "drop")]
)
def test_each_limit_fails_alone(validated, made, weights, pictures, limit, words):
    ran = validated(made / "micro-int8.tflite", "--images", pictures, "--weights", weights, "--json", *LOOSE, *limit)
    (failure,) = _document(ran)["gate"]["failures"]
    assert words in failure
    assert ran.code == EXIT_CHECK_FAILED


def test_stopped_and_taken_up_again_it_says_the_same(validated, made, weights, pictures, tmp_path):
    arguments = (made / "micro-int8.tflite", "--images", pictures, "--weights", weights, "--json", "--cache", tmp_path / "kept", *LOOSE)
    whole = validated(*arguments).out
    kept = sorted(entry.path for entry in store.Store(tmp_path / "kept").entries() if entry.kind == "answers")
    assert len(kept) == 6  # three models, two chunks
    for path in kept[::2]:
        path.unlink()
    assert validated(*arguments).out == whole
    assert validated(*arguments).out == whole
    assert validated(*arguments[:-6], "--no-cache", *LOOSE).out == whole


def test_the_float_file_of_the_conversion_is_taken_from_the_cache(cli, validated, weights, pictures, tmp_path):
    cached = ("--cache", tmp_path / "kept")
    arguments = ("--variant", "micro", "--weights", weights, "--calibration", pictures, "--calibration-samples", "16", "--no-gate")
    assert cli(*arguments, "--quant", "int8", "--out", tmp_path / "out", *cached).code == EXIT_OK
    checked = (tmp_path / "out" / "micro-int8.tflite", "--images", pictures, "--weights", weights, "--json", *LOOSE)
    taken, anew = validated(*checked, *cached), validated(*checked, "--no-cache")
    assert "export the float graph" not in taken.err
    assert "export the float graph" in anew.err
    assert taken.out == anew.out


def test_a_second_recipe_costs_only_its_own_run(validated, made, weights, pictures, tmp_path, monkeypatch):
    from edge.export import source as sources

    cached = ("--cache", tmp_path / "kept", *LOOSE)
    assert validated(made / "micro-int8.tflite", "--images", pictures, "--weights", weights, *cached).code == EXIT_OK

    def build_again(source):
        raise AssertionError("the reference's answers were there")

    monkeypatch.setattr(sources, "build", build_again)
    assert validated(made / "micro-float32.tflite", "--images", pictures, "--weights", weights, *cached).code == EXIT_OK
    assert validated(made / "micro-float32.tflite", "--images", pictures, "--weights", weights, "--no-cache", *LOOSE).code == EXIT_BUG


def test_images_the_file_was_calibrated_with_are_told(cli, validated, weights, pictures, tmp_path):
    arguments = ("--variant", "micro", "--weights", weights, "--quant", "int8", "--calibration", pictures, "--calibration-samples", "16")
    assert cli(*arguments, "--out", tmp_path / "out", "--no-gate").code == EXIT_OK
    ran = validated(tmp_path / "out" / "micro-int8.tflite", "--images", pictures, "--weights", weights, *LOOSE)
    assert "16 of these images are among the 16 that FILE was calibrated with" in ran.err


@pytest.mark.slow
def test_random_weights_are_said_and_built_again(cli, validated, tmp_path):
    assert cli("--variant", "micro", "--weights", "random:1", "--quant", "int8", "--out", tmp_path, "--no-gate").code == 0
    ran = validated(tmp_path / "micro-int8.random.tflite", "--samples", "8", "--min-snr", "0")
    assert ran.code == EXIT_OK
    assert "RANDOM weights" in ran.out
    assert "8 images of builtin" in ran.out


@pytest.mark.slow
def test_a_saved_model(cli, validated, tmp_path):
    model = build(MICRO, SEED)
    model.save(tmp_path / "mine.keras")
    assert cli("--model", tmp_path / "mine.keras", "--quant", "int8", "--out", tmp_path / "out", "--no-gate").code == 0
    path = tmp_path / "out" / "mine-int8.tflite"
    ran = validated(path, "--samples", "8", "--model", tmp_path / "mine.keras", "--json", *LOOSE)
    assert _document(ran)["differences"][1]["metrics"]["logits_snr_db"] > LEAST_EXPORT_SNR_DB
    missing = validated(path, "--samples", "8")
    assert missing.code == EXIT_USAGE
    assert "--model" in missing.err
    build(MICRO, SEED + 1).save(tmp_path / "other.keras")
    other = validated(path, "--samples", "8", "--model", tmp_path / "other.keras")
    assert other.code == EXIT_UNUSABLE
    assert "other weights than the artifact's" in other.err


def test_one_clear_error(validated, made, weights, pictures, tmp_path):
    file = made / "micro-int8.tflite"
    empty = tmp_path / "empty"
    empty.mkdir()
    truncated = made / "micro-float32.tflite"
    truncated.write_bytes(truncated.read_bytes()[:5000])
    for arguments, code, words in (
        ((tmp_path / "none.tflite",), EXIT_UNUSABLE, "artifact not found"),
        ((made,), EXIT_UNUSABLE, "not an artifact"),
        ((truncated, "--weights", weights, "--images", pictures), EXIT_UNUSABLE, "damaged TFLite file"),
        ((file,), EXIT_USAGE, "--weights"),
        ((file, "--weights", weights, "--images", empty), EXIT_UNUSABLE, "no images"),
        ((file, "--weights", weights, "--images", pictures, "--samples", "0"), EXIT_USAGE, "--samples"),
        ((file, "--weights", weights, "--model", weights), EXIT_USAGE, "--model does not fit"),
        ((file, "--weights", weights, "--images", pictures, "--save", tmp_path / "no" / "a.json"), EXIT_UNUSABLE, "no such folder"),
        ((file, "--weights", weights, "--images", pictures, "--no-cache", "--cache", empty), EXIT_USAGE, "--cache"),
    ):
        ran = validated(*arguments)
        assert (ran.code, words in ran.err, len(ran.error) <= 4) == (code, True, True), (arguments, ran.err)


def test_a_manifest_that_says_too_little(validated, made, weights):
    manifest = json.loads((made / "micro-int8.json").read_text())
    for field in ("recipe", "output"):
        (made / "micro-int8.json").write_text(json.dumps({key: value for key, value in manifest.items() if key != field}))
        ran = validated(made / "micro-int8.tflite", "--weights", weights)
        assert ran.code == EXIT_UNUSABLE
        assert f"micro-int8.json: $.{field}: missing" in ran.err


def test_labels_that_do_not_fit(validated, made, weights, pictures, tmp_path):
    arguments = (made / "micro-int8.tflite", "--weights", weights, "--images", pictures, *LOOSE)
    (tmp_path / "four.txt").write_text("a\nb\nc\nd\n")
    assert "5 labels" in validated(*arguments, "--labels", tmp_path / "four.txt").err
    (tmp_path / "others.txt").write_text("a\nb\nc\nd\ne\n")
    assert "the folders are not the labels'" in validated(*arguments, "--labels", tmp_path / "others.txt").err
    (made / "micro-int8.labels.txt").unlink()
    ran = validated(*arguments)  # five folders for five classes, in sorted order
    assert "in sorted order" in ran.err
    assert "top-1:" in ran.out
    shutil.copytree(pictures, tmp_path / "less")
    shutil.rmtree(tmp_path / "less" / "eel")
    ran = validated(*arguments[:4], tmp_path / "less", *LOOSE)
    assert "no accuracy" in ran.err
    assert "top-1:" not in ran.out


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_names_that_are_no_text(validated, made, weights, tmp_path):
    folder = os.fsencode(tmp_path / "pictures")
    os.mkdir(folder)
    for index in range(40):
        with open(folder + b"/\xff\n%d.png" % index, "wb") as file:
            Image.fromarray(builtin.generate(index, SIZE, 9)).save(file, "png")
    arguments = (made / "micro-int8.tflite", "--weights", weights, "--images", tmp_path / "pictures", *LOOSE)
    ran = validated(*arguments, "--json", "--save", tmp_path / "validation.json")
    assert ran.code == EXIT_OK
    assert _document(ran)["flipped"]["number"] > 0
    assert all(image["path"].isprintable() for image in _document(ran)["flipped"]["shown"])
    assert validated(*arguments).code == EXIT_OK


def test_generated_images_are_not_those_of_the_calibration(validated, made, weights):
    ran = validated(made / "micro-int8.tflite", "--weights", weights, "--samples", "4", *LOOSE)
    assert "calibrated with" not in ran.err
    (chunk,) = (line for line in ran.out.splitlines() if "images of builtin" in line)
    assert chunk.startswith("4 images")


def test_unreadable_images_are_left_out_and_named(validated, made, weights, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "pictures")
    (tmp_path / "pictures" / "ant" / "broken.png").write_bytes(b"text")
    arguments = (made / "micro-int8.tflite", "--weights", weights, "--images", tmp_path / "pictures", *LOOSE)
    ran = validated(*arguments)
    assert ran.code == EXIT_OK
    assert "ant/broken.png" in ran.out
    for index in range(12):
        (tmp_path / "pictures" / "bee" / f"broken{index}.png").write_bytes(b"text")
    ran = validated(*arguments)
    assert ran.code == EXIT_UNUSABLE
    assert "too many unreadable images" in ran.err


def test_what_is_saved_is_what_is_printed_and_nothing_foreign_is_lost(validated, made, weights, pictures, tmp_path):
    arguments = (made / "micro-int8.tflite", "--weights", weights, "--images", pictures, "--json", *LOOSE)
    ran = validated(*arguments, "--save", tmp_path / "validation.json")
    assert json.loads((tmp_path / "validation.json").read_text()) == _document(ran)
    assert validated(*arguments, "--save", tmp_path / "validation.json").code == EXIT_OK
    (tmp_path / "mine.json").write_text('{"mine": 1}')
    refused = validated(*arguments, "--save", tmp_path / "mine.json")
    assert refused.code == EXIT_UNUSABLE
    assert (tmp_path / "mine.json").read_text() == '{"mine": 1}'


def test_thumbnails_can_be_left_out(validated, made, weights, pictures):
    ran = validated(made / "micro-int8.tflite", "--weights", weights, "--images", pictures, "--json", "--no-thumbnails", *LOOSE)
    assert all(image["thumbnail"] is None for image in _document(ran)["flipped"]["shown"])


@pytest.mark.slow
def test_interrupted_with_ctrl_c_and_resumed_it_says_the_same(cli, validated, tmp_path):
    assert cli("--variant", "nano32", "--quant", "int8", "--out", tmp_path / "out", "--quiet").code == EXIT_OK
    file, cache = tmp_path / "out" / "nano32-int8.tflite", tmp_path / "cache"
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for index in range(512):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / "pictures" / f"{index:03d}.png")
    arguments = [str(file), "--images", str(tmp_path / "pictures"), "--json", "--min-agreement", "0", "--min-snr", "0"]
    command = [sys.executable, "-m", "edge.validate", *arguments, "--cache", str(cache)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not list(cache.glob("*/*")) and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert "interrupted" in err
    done = len(list(cache.glob("*/*")))
    assert 0 < done < 3 * 8
    resumed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    whole = subprocess.run([*command[:-2], "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert resumed.stdout == whole.stdout
