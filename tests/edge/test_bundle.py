"""edge.bundle: what an app gets, what must not ship, and what is left alone.

Covers edge/android/package.py, assets.py and kotlin.py where real files are needed.
"""

import dataclasses
import hashlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import jsonschema
import keras
import numpy as np
import pytest
from PIL import Image

from edge import bundle
from edge.android import kotlin, package
from edge.artifacts import artifact, self_description
from edge.runtime.cpu import Interpreter
from tests.edge.small_models import MICRO, SEED, build
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE, EXIT_USAGE
from tfvit.preprocessing import Preprocessing, resize_and_crop

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[2]
NAMES = ("ant", "bee", "cat", "dog", "eel")
RECIPES = ("float32", "float16", "int8", "int8_full")
SCHEMA = json.loads((ROOT / "edge" / "edge_package.schema.json").read_text(encoding="utf-8"))
_MADE: dict[str, Path] = {}


@pytest.fixture
def made(cli, tmp_path_factory, tmp_path):
    """A copy of artifacts of weights of the user's own, which the test may change."""
    if "folder" not in _MADE:
        folder = tmp_path_factory.mktemp("bundle")
        build(MICRO, SEED).save_weights(folder / "mine.weights.h5")
        (folder / "names.txt").write_text("\n".join(NAMES))
        arguments = ("--variant", "micro", "--weights", folder / "mine.weights.h5", "--quant", ",".join(RECIPES))
        arguments += (
            "--labels",
            folder / "names.txt",
            "--calibration-samples",
            "8",
            "--out",
            folder / "out",
            "--quiet",
            "--min-agreement",
            "0",
        )
        assert cli(*arguments, "--min-snr", "0").code == EXIT_OK
        _MADE["folder"] = folder / "out"
    copy = tmp_path / "made"
    copy.mkdir()
    for path in _MADE["folder"].iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


@pytest.fixture
def bundled(capfd):
    """Runs `python -m edge.bundle` in this process: (exit code, stdout, stderr)."""

    def run(*arguments):
        capfd.readouterr()
        code = bundle.main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        print(f"exit {code}: {captured.err[-600:]}")
        return code, captured.out, captured.err

    return run


@pytest.fixture
def project(tmp_path):
    """The least there is of an Android project."""
    (tmp_path / "project" / "app" / "src" / "main").mkdir(parents=True)
    (tmp_path / "project" / "app" / "build.gradle.kts").write_text("")
    return tmp_path / "project"


def _file(folder, recipe):
    return folder / f"micro-{recipe}.tflite"


def _assets(project):
    return project / "app" / "src" / "main" / "assets"


def _listing(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _change(folder, recipe, **blocks):
    path = folder / f"micro-{recipe}.json"
    manifest = json.loads(path.read_text())
    for name, change in blocks.items():
        manifest[name] = manifest[name] | change if isinstance(change, dict) else change
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(("name", "line"), [("build.gradle.kts", 'noCompress += "tflite"'), ("build.gradle", "noCompress 'tflite'")])
def test_what_to_paste_is_in_the_language_of_the_build_file(bundled, made, project, name, line):
    (project / "app" / "build.gradle.kts").rename(project / "app" / name)
    code, out, _ = bundled(_file(made, RECIPES[0]), "--app", project)
    assert code == EXIT_OK
    assert f"\n{name} of the module:\n" in out
    assert line in out


def test_a_bundle_in_an_app(bundled, made, project):
    code, out, _ = bundled(*(_file(made, recipe) for recipe in RECIPES), "--app", project, "--json")
    document = json.loads(out)
    assert code == EXIT_OK
    files = _listing(_assets(project) / "edge")
    expected = {name for recipe in RECIPES for name in (f"micro-{recipe}.tflite", f"micro-{recipe}.labels.txt")}
    assert set(files) == expected | {"edge_package.json", "golden.png"}
    assert sorted(path.name for path in _assets(project).iterdir()) == ["edge"]
    written = {row["file"]: (row["sha256"], row["size_bytes"]) for row in document["written"]}
    assert written == {name: (hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()}
    found = json.loads(files["edge_package.json"])
    assert found == document["edge_package"]
    jsonschema.validate(found, SCHEMA)
    assert [model["name"] for model in found["models"]] == sorted(f"micro-{recipe}" for recipe in RECIPES)
    for model in found["models"]:
        assert model["sha256"] == hashlib.sha256(files[model["file"]]).hexdigest()
        assert model["labels"]["sha256"] == hashlib.sha256(files[model["labels"]["file"]]).hexdigest()
        assert files[model["file"]] == (made / model["file"]).read_bytes()
        assert files[model["labels"]["file"]].decode().splitlines() == list(NAMES)
        assert model["golden"]["tolerance"] == {"cpu": 0.001 if "float" in model["recipe"] else 0.05, "gpu": 0.05}
    assert found["golden_image"]["sha256"] == hashlib.sha256(files["golden.png"]).hexdigest()


def test_the_schema_can_fail(made):
    found = package.build([artifact.load(_file(made, "int8"))]).document
    broken = [found | {"schema_version": 2}, found | {"models": []}, found | {"models": [found["models"][0] | {"file": "../a.tflite"}]}]
    for document in broken:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, SCHEMA)


def test_golden_answers_are_those_of_the_files_run_by_hand(made):
    found = package.build([artifact.load(_file(made, recipe)) for recipe in RECIPES])
    image = Image.open(io.BytesIO(found.files["golden.png"]))
    assert (image.mode, image.size) == ("RGB", (300, 200))
    for model in found.document["models"]:
        pixels = resize_and_crop(image, Preprocessing(**model["preprocessing"]))
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == model["golden"]["pixels_sha256"]
        scores = Interpreter(found.files[model["file"]]).run(pixels[None])[0].astype(np.float64)
        if model["output"]["activation"] is None:
            scores = np.exp(scores) / np.exp(scores).sum()
        top5 = sorted(range(len(scores)), key=lambda index: -scores[index])
        assert [row["index"] for row in model["golden"]["top5"]] == top5
        assert [row["label"] for row in model["golden"]["top5"]] == [NAMES[index] for index in top5]
        assert [row["score"] for row in model["golden"]["top5"]] == pytest.approx(scores[top5], abs=1e-6)
    int8_full = next(model for model in found.document["models"] if model["recipe"] == "int8_full")
    assert int8_full["input"]["dtype"] == int8_full["output"]["dtype"] == "int8"
    assert sum(row["score"] for row in int8_full["golden"]["top5"]) == pytest.approx(1, abs=1e-5)


def test_equal_artifacts_give_equal_bytes_in_any_order(bundled, made, tmp_path):
    zips = []
    for name, order in (("a", RECIPES), ("b", RECIPES), ("c", RECIPES[::-1])):
        assert bundled(*(_file(made, recipe) for recipe in order), "--zip", tmp_path / f"{name}.zip")[0] == EXIT_OK
        zips.append((tmp_path / f"{name}.zip").read_bytes())
    assert zips[0] == zips[1] == zips[2]
    with zipfile.ZipFile(io.BytesIO(zips[0])) as members:
        assert members.namelist() == sorted(members.namelist())
        assert {member.date_time[0] for member in members.infolist()} == {1980}
        assert json.loads(members.read("edge_package.json"))["kind"] == "edge_package"
    bundled(_file(made, "int8"), "--zip", tmp_path / "other.zip")
    assert (tmp_path / "other.zip").read_bytes() != zips[0]


def test_a_file_named_twice_is_there_once(bundled, made, tmp_path):
    code, out, _ = bundled(_file(made, "int8"), made / ".." / "made" / "micro-int8.tflite", "--zip", tmp_path / "a.zip", "--json")
    assert (code, len(json.loads(out)["edge_package"]["models"])) == (EXIT_OK, 1)


def _random(folder):
    _change(folder, "int8", weights={"random": True})


def _drifted(folder):
    _change(folder, "int8", drift={"passed": False})


def _tampered(folder):
    path = _file(folder, "int8")
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def _label_short(folder):
    (folder / "micro-int8.labels.txt").write_text("ant\nbee\n")


def _label_edited(folder):
    """An app reads this file, MediaPipe the names in the model file."""
    (folder / "micro-int8.labels.txt").write_text("\n".join(reversed(NAMES)) + "\n")


def _label_gone(folder):
    (folder / "micro-int8.labels.txt").unlink()


def _features(folder):
    _change(folder, "int8", output={"meaning": "features"})


def _another_input(folder):
    _change(folder, "int8", input={"dtype": "uint8"})


def _another_scale(folder):
    _change(folder, "int8", input={"quantization": {"scale": 0.5, "zero_point": 0}})


def _another_size(folder):
    _change(folder, "int8", preprocessing={"crop_px": 31})


def _another_output(folder):
    _change(folder, "int8", output={"shape": [1, 6]})


REFUSED = [
    (_random, "random weights"),
    (_drifted, "drift check failed"),
    (_tampered, "is not the one in its manifest"),
    (_label_short, "2 labels for 5 classes"),
    (_label_edited, "has other names than the file itself"),
    (_label_gone, "is not there"),
    (_features, "features that end in a softmax"),
    (_another_input, "its manifest has the input uint8"),
    (_another_scale, '"scale": 0.5'),
    (_another_size, "31 x 31 pixels"),
    (_another_output, "its manifest has the output float32 [1, 6]"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED, ids=[change.__name__.strip("_") for change, _ in REFUSED])
def test_what_must_not_ship_is_refused_and_nothing_is_written(bundled, made, project, tmp_path, change, words):
    change(made)
    arguments = (_file(made, "float32"), _file(made, "int8"))
    for target in (("--app", project), ("--zip", tmp_path / "a.zip")):
        code, out, _ = bundled(*arguments, *target)
        assert (code, words in out, "micro-int8: " in out) == (EXIT_CHECK_FAILED, True, True), out
        code, out, _ = bundled(*arguments, *target, "--json")
        document = json.loads(out)
        assert (code, document["written"], document["edge_package"]) == (EXIT_CHECK_FAILED, [], None)
        assert all(refusal.startswith("micro-int8: ") for refusal in document["refused"])
    assert not (tmp_path / "a.zip").exists()
    assert not _assets(project).exists()
    # with the artifact that can ship alone, it goes
    assert bundled(arguments[0], "--app", project)[0] == EXIT_OK


def test_two_artifacts_of_one_name(bundled, made, tmp_path):
    other = tmp_path / "elsewhere"
    other.mkdir()
    for path in made.glob("micro-int8.*"):
        (other / path.name).write_bytes(path.read_bytes())
    code, out, _ = bundled(_file(made, "int8"), other / "micro-int8.tflite", "--zip", tmp_path / "a.zip")
    assert (code, "two artifacts of one name" in out) == (EXIT_CHECK_FAILED, True)
    # names that differ in case alone are one file on many a developer's disk
    twice = [artifact.load(_file(made, "int8")), dataclasses.replace(artifact.load(_file(made, "int8")), name="Micro-int8")]
    assert "two artifacts of one name" in package.build(twice).refusals[0]


def test_an_input_that_no_app_reads(made):
    given = artifact.load(_file(made, "int8"))
    sixteen = dataclasses.replace(given, manifest=given.manifest | {"input": given.manifest["input"] | {"dtype": "int16"}})
    assert "its input is int16" in package.build([sixteen]).refusals[0]


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """Files of models that give values, an embedding and a map: meaning -> artifact."""
    from edge import convert

    folder, micro = tmp_path_factory.mktemp("numbers"), build(MICRO, SEED)
    embedding, feature_map = micro.get_layer("avg_pool").output, micro.get_layer("norm").output
    values = keras.Model(micro.input, keras.layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(0))(embedding))
    values.compile(loss="mse")
    made = {"values": values, "embedding": keras.Model(micro.input, embedding), "map": keras.Model(micro.input, feature_map)}
    (folder / "names.txt").write_text("age\nheight\n")
    for name, model in made.items():
        model.save(folder / f"{name}.keras")
        labels = ("--labels", str(folder / "names.txt")) if name == "values" else ()
        arguments = ("--model", str(folder / f"{name}.keras"), "--quant", "float32", "--model-input", "normalized", "--resize", "32")
        assert convert.main([*arguments, *labels, "--out", str(folder), "--calibration-samples", "2", "--no-cache", "--quiet"]) == EXIT_OK
    return {name: artifact.load(folder / f"{name}-float32.tflite") for name in made}


@pytest.mark.slow
def test_values_and_features_are_bundled_as_they_are(bundled, numbers, tmp_path):
    shapes = {"values": [1, 2], "embedding": [1, 16], "map": [1, 8, 8, 16]}
    code, out, _ = bundled(*(one.path for one in numbers.values()), "--zip", tmp_path / "a.zip", "--json")
    package_document = json.loads(out)["edge_package"]
    assert code == EXIT_OK
    jsonschema.validate(package_document, SCHEMA)
    golden = Image.open(io.BytesIO(zipfile.ZipFile(tmp_path / "a.zip").read("golden.png")))
    for model in package_document["models"]:
        name = model["name"].removesuffix("-float32")
        assert (model["output"]["shape"], model["output"]["activation"]) == (shapes[name], None)
        assert model["output"]["meaning"] == ("values" if name == "values" else "features")
        assert "top5" not in model["golden"]
        pixels = resize_and_crop(golden, Preprocessing(**model["preprocessing"]))
        expected = Interpreter(numbers[name].file).run(pixels[None]).reshape(-1)
        found = {one["index"]: one["value"] for one in model["golden"]["numbers"]}
        assert len(found) == min(64, expected.size)
        np.testing.assert_allclose([expected[index] for index in found], list(found.values()), rtol=1e-6)
        # a thousandth of what the output reaches
        assert 0.0005 * np.abs(expected).max() < model["golden"]["tolerance"]["cpu"] < 0.01 * np.abs(expected).max()
        code = kotlin.kotlin(model)
        assert ("class Regressor(" in code, "exp(" in code) == (name == "values", False)
    shown = bundled(numbers["values"].path, "--zip", tmp_path / "b.zip")[1]
    assert "fun predict(pixels: ByteArray): FloatArray" in shown
    assert zipfile.ZipFile(tmp_path / "b.zip").read("values-float32.labels.txt") == b"age\nheight\n"


def test_random_weights_with_allow_random_are_marked(bundled, made, project):
    _random(made)
    code, out, _ = bundled(_file(made, "int8"), "--app", project, "--allow-random")
    assert code == EXIT_OK
    assert "RANDOM weights" in out
    found = json.loads((_assets(project) / "edge" / "edge_package.json").read_text())
    assert found["models"][0]["random_weights"] is True
    assert "RANDOM" in found["recommended"]["cpu"]["why"]


def test_an_answer_without_numbers_is_refused(made, monkeypatch):
    monkeypatch.setattr(Interpreter, "run_each", lambda self, pixels: iter([np.full((1, 5), np.nan, np.float32)]))
    assert "gives NaN" in package.build([artifact.load(_file(made, "int8"))]).refusals[0]


def test_a_model_without_labels(bundled, made, tmp_path):
    named = artifact.load(_file(made, "int8"))
    file = self_description.describe(bytes(self_description.read(named.file).graph), named.manifest, None)
    _file(made, "int8").write_bytes(file)
    _change(made, "int8", file={"sha256": hashlib.sha256(file).hexdigest()})
    (made / "micro-int8.labels.txt").unlink()
    code, out, _ = bundled(_file(made, "int8"), "--zip", tmp_path / "a.zip", "--json")
    model = json.loads(out)["edge_package"]["models"][0]
    assert (code, model["labels"], model["golden"]["top5"][0]["label"]) == (EXIT_OK, None, None)


def test_wrong_usage_and_unusable_things(bundled, made, project, tmp_path):
    file = _file(made, "int8")
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.tflite").write_bytes(b"")
    (broken / "a.json").write_text('{"name": "a", "file": {"sha256": ""}}')
    for name in ("micro-int8.tflite", "micro-int8.json"):
        (made / name.replace("micro", "-x y")).write_bytes((made / name).read_bytes())
    cases = [
        ((file,), EXIT_USAGE, "--app, --zip or --web"),
        ((file, "--app", project, "--zip", tmp_path / "a.zip"), EXIT_USAGE, "--app and --zip"),
        (("--zip", tmp_path / "a.zip"), EXIT_USAGE, "FILE"),
        ((file, "--app", tmp_path / "empty"), EXIT_UNUSABLE, "no project of an app"),
        ((file, "--app", tmp_path / "nowhere"), EXIT_UNUSABLE, "no folder"),
        ((file, "--zip", tmp_path / "nowhere" / "a.zip"), EXIT_UNUSABLE, "no such folder"),
        ((file, "--zip", tmp_path / "empty"), EXIT_UNUSABLE, "another file is in the way"),
        ((made / "nothing.tflite", "--app", project), EXIT_UNUSABLE, "artifact not found"),
        ((broken / "a.tflite", "--app", project), EXIT_UNUSABLE, "a.json: $.schema_version: missing"),
        (("--app", project, "--", str(made / "-x y-int8.tflite")), EXIT_UNUSABLE, "cannot be an asset's"),
    ]
    for arguments, code, words in cases:
        found, _, err = bundled(*arguments)
        lines = err[err.find("error:") :].splitlines()
        assert (found, words in err, len(lines) <= 4) == (code, True, True), (arguments, err)
    assert not _assets(project).exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 2}, "$.schema_version: 2 is not 1"),
        ({"drift": {"passed": "true"}}, "$.drift.passed: 'true' is not of type 'boolean'"),
        ({"input": {"range": [0, 1]}}, "$.input.range: [0, 1] is not [0, 255]"),
        ({"input": {"channels": "BGR"}}, "$.input.channels: 'BGR' is not 'RGB'"),
        ({"preprocessing": {"interpolation": "nearest"}}, "$.preprocessing.interpolation: 'nearest' is not one of ['bicubic', 'bilinear']"),
        ({"preprocessing": {"crop_px": 10**6}}, "$.preprocessing.crop_px: 1000000 is greater than the maximum of 16384"),
        ({"output": 3}, "$.output: 3 is not of type 'object'"),
    ],
)
def test_a_manifest_that_says_something_else(bundled, made, project, change, words):
    _change(made, "int8", **change)
    code, _, err = bundled(_file(made, "int8"), "--app", project)
    assert (code, words in err) == (EXIT_UNUSABLE, True), err


def test_a_module_is_found_too_and_its_assets_stay(bundled, made, project):
    module = project / "app"
    _assets(project).mkdir()
    (_assets(project) / "font.ttf").write_bytes(b"font")
    assert bundled(_file(made, "int8"), "--app", module)[0] == EXIT_OK
    assert sorted(path.name for path in _assets(project).iterdir()) == ["edge", "font.ttf"]
    assert (_assets(project) / "font.ttf").read_bytes() == b"font"


def test_what_was_replaced_and_removed_is_said(bundled, made, project):
    first = json.loads(bundled(_file(made, "int8"), _file(made, "float16"), "--app", project, "--json")[1])
    assert (len(first["added"]), first["replaced"], first["removed"]) == (6, [], [])
    _, out, _ = bundled(_file(made, "int8"), _file(made, "float32"), "--app", project)
    assert "replaced, another content: edge_package.json\n" in out
    assert "removed, no longer in the bundle: micro-float16.labels.txt, micro-float16.tflite\n" in out
    assert "unchanged: 3 of the files\n" in out
    assert not (_assets(project) / "edge" / "micro-float16.tflite").exists()
    last = json.loads(bundled(_file(made, "int8"), _file(made, "float32"), "--app", project, "--json")[1])
    assert (last["added"], last["replaced"], last["removed"], len(last["unchanged"])) == ([], [], [], 6)


def test_a_zip_replaces_an_older_one_of_ours_alone(bundled, made, tmp_path):
    path = tmp_path / "a.zip"
    assert bundled(_file(made, "int8"), "--zip", path)[0] == EXIT_OK
    code, out, _ = bundled(_file(made, "float32"), "--zip", path, "--json")
    assert (code, json.loads(out)["removed"]) == (EXIT_OK, ["micro-int8.labels.txt", "micro-int8.tflite"])
    foreign = io.BytesIO()
    with zipfile.ZipFile(foreign, "w") as members:
        members.writestr("thesis.txt", "a year's work")
    for content in (foreign.getvalue(), b"not a zip"):
        path.write_bytes(content)
        code, _, err = bundled(_file(made, "float32"), "--zip", path)
        assert (code, path.read_bytes() == content, "in the way" in err) == (EXIT_UNUSABLE, True, True)
    code, out, _ = bundled(_file(made, "float32"), "--zip", path, "--force", "--json")
    assert (code, json.loads(out)["overwritten"]) == (EXIT_OK, ["a.zip"])


def _note(edge):
    (edge / "notes.txt").write_text("mine")
    return "notes.txt"


def _retrained(edge):
    (edge / "micro-int8.tflite").write_bytes(b"mine")
    return "micro-int8.tflite"


def _nested(edge):
    (edge / "more").mkdir()
    (edge / "more" / "a.bin").write_text("mine")
    return "more"


def _linked(edge):
    (edge / "away.txt").write_text("mine")
    (edge.parent / "golden").write_bytes((edge / "golden.png").read_bytes())
    (edge / "golden.png").unlink()
    (edge / "golden.png").symlink_to("../golden")
    return "away.txt, golden.png"


@pytest.mark.parametrize("change", [_note, _retrained, _nested, _linked])
def test_what_is_not_ours_is_left_alone(bundled, made, project, change):
    assert bundled(_file(made, "int8"), "--app", project)[0] == EXIT_OK
    edge = _assets(project) / "edge"
    named = change(edge)
    before = _listing(_assets(project))
    code, _, err = bundled(_file(made, "float32"), "--app", project)
    assert (code, f"received: {named}\n" in err) == (EXIT_UNUSABLE, True), err
    assert _listing(_assets(project)) == before
    assert sorted(path.name for path in _assets(project).iterdir() if path.name.startswith(".")) == []


def test_force_keeps_what_is_not_in_the_way(bundled, made, project):
    assert bundled(_file(made, "int8"), "--app", project)[0] == EXIT_OK
    edge = _assets(project) / "edge"
    _note(edge), _nested(edge), _retrained(edge)
    code, out, _ = bundled(_file(made, "int8"), "--app", project, "--force", "--json")
    document = json.loads(out)
    assert (code, document["kept"], document["overwritten"]) == (EXIT_OK, ["more", "notes.txt"], ["micro-int8.tflite"])
    assert (edge / "notes.txt").read_text() == (edge / "more" / "a.bin").read_text() == "mine"
    assert (edge / "micro-int8.tflite").read_bytes() == _file(made, "int8").read_bytes()
    assert "not ours, kept: more, notes.txt" in bundled(_file(made, "int8"), "--app", project, "--force")[1]


def test_paths_in_an_old_package_reach_nothing_outside(bundled, made, project):
    assert bundled(_file(made, "int8"), "--app", project)[0] == EXIT_OK
    edge = _assets(project) / "edge"
    source = project / "app" / "src" / "main" / "AndroidManifest.xml"
    source.write_text("<manifest/>")
    document = json.loads((edge / "edge_package.json").read_text())
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    for name in ("../../AndroidManifest.xml", str(source)):
        document["models"].append({"file": name, "sha256": digest, "labels": None})
    (edge / "edge_package.json").write_text(json.dumps(document))
    code, out, _ = bundled(_file(made, "float32"), "--app", project, "--json")
    assert (code, json.loads(out)["removed"]) == (EXIT_OK, ["micro-int8.labels.txt", "micro-int8.tflite"])
    assert source.read_text() == "<manifest/>"


def test_a_link_in_the_place_of_the_folder(bundled, made, project, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    _assets(project).mkdir()
    (_assets(project) / "edge").symlink_to(tmp_path / "elsewhere")
    code, _, err = bundled(_file(made, "int8"), "--app", project)
    assert (code, "a link or a file is in the way" in err) == (EXIT_UNUSABLE, True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def _no_space(*_):
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_exit_3_and_leaves_nothing(bundled, made, project, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", _no_space)
    for target in (("--app", project), ("--zip", tmp_path / "a.zip")):
        code, _, err = bundled(_file(made, "int8"), *target)
        assert (code, "No space left" in err) == (EXIT_UNUSABLE, True)
    assert not _assets(project).exists()
    assert not list(tmp_path.glob("*.zip")) + list(tmp_path.glob(".edge*"))


def test_what_to_paste_fits_the_model(bundled, made, tmp_path):
    models = {model["recipe"]: model for model in package.build([artifact.load(_file(made, one)) for one in RECIPES]).document["models"]}
    code, out, _ = bundled(_file(made, "int8"), _file(made, "float16"), "--zip", tmp_path / "a.zip")
    assert code == EXIT_OK
    assert kotlin.GRADLE in out
    assert kotlin.kotlin(models["int8"]) in out
    for recipe, model in models.items():
        code = kotlin.kotlin(model)
        assert f'"edge/micro-{recipe}.tflite"' in code
        assert f'"edge/micro-{recipe}.labels.txt"' in code
        assert code.count("{") == code.count("}")
        assert ("writeInt8" in code, "readInt8" in code, "exp(" in code) == (recipe == "int8_full",) * 3
        assert "Options(accelerator)" in code
    uint8 = models["int8"] | {"input": models["int8"]["input"] | {"dtype": "uint8"}, "labels": None}
    assert "inputs[0].writeInt8(pixels)" in kotlin.kotlin(uint8)
    assert "labels" not in kotlin.kotlin(uint8)


def test_commands_in_the_readme_parse():
    found = [
        line.split("-m edge.bundle", 1)[1]
        for page in ("README.md", "docs/android.md")
        for line in (ROOT / page).read_text(encoding="utf-8").splitlines()
        if line.startswith("python -m edge.bundle")
    ]
    assert len(found) >= 3
    for command in found:
        arguments = bundle.parser().parse_args(shlex.split(command))
        assert (arguments.app is None) != (arguments.zip is None)
        assert all(re.fullmatch(r"[\w-]+", file.stem) for file in arguments.files)


def test_no_framework_is_loaded(made, tmp_path):
    arguments = [str(_file(made, "int8")), "--zip", str(tmp_path / "a.zip"), "--quiet", "--json"]
    code = f"import sys\nfrom edge.bundle import main\nassert main({arguments!r}) == 0\nassert 'tensorflow' not in sys.modules, 'loaded'"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
