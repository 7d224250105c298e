"""edge.ship: from a model to an app by one command, again without doing anything twice, and on where one step fails."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from PIL import Image

import edge
from edge import ship
from edge.artifacts.artifact import Artifact
from edge.shipping import steps, summary
from tests.edge import report_documents as made
from tests.edge.small_models import MICRO, SEED, build, exports_remembered, rows_in_the_table, run_command
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE, EXIT_USAGE

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[2]
FEW = ("--quiet",)


@pytest.fixture(autouse=True)
def _small_variants(tmp_path, monkeypatch):
    monkeypatch.setenv("TFVIT_CACHE", str(tmp_path / "cache"))
    with rows_in_the_table(), exports_remembered():
        yield


@pytest.fixture
def shipped(capfd):
    def run(*arguments):
        return run_command(ship.main, capfd, *arguments, *FEW)

    return run


@pytest.fixture
def project(tmp_path):
    """An Android project."""
    (tmp_path / "app" / "app" / "src" / "main").mkdir(parents=True)
    (tmp_path / "app" / "app" / "build.gradle.kts").write_text("")
    return tmp_path / "app"


def statuses(out: str) -> dict[str, str]:
    return {step["name"]: step["status"] for step in json.loads(out)["steps"]}


def test_from_a_variant_to_an_app_and_again(shipped, project, tmp_path):
    arguments = ("--variant", "nano32", "--quant", "float32,float16", "--app", project, "--out", tmp_path / "out", "--json")
    first = shipped(*arguments)
    print(first.out, first.err)
    document = json.loads(first.out)
    assert document["exit_code"] == first.code == EXIT_OK
    assert statuses(first.out) == {"convert": "done", "validate": "left out", "benchmark": "done", "report": "done", "bundle": "done"}
    assert {Path(file).name for file in document["files"]} == {"nano32-float32.tflite", "nano32-float16.tflite"}
    assert {"benchmark.json", "report.html", "report.json"} <= {path.name for path in (tmp_path / "out").iterdir()}
    bundled = {path.name for path in (project / "app" / "src" / "main" / "assets" / "edge").iterdir()}
    assert "edge_package.json" in bundled
    recommended = {one["file"] for one in document["recommendations"] if one["ships"]}
    assert {name.removesuffix(".tflite") for name in bundled if name.endswith(".tflite")} == recommended
    again = statuses(shipped(*arguments).out)
    print(again)
    assert again["convert"] == "current"
    # an invalid measurement is taken again, and what is recommended then may be another file
    assert again["bundle"] == "current" or again["benchmark"] == "done", again


@pytest.mark.slow
def test_the_last_lines(shipped, tmp_path):
    """What was made, what it is worth, what to paste, what to do next: at most ten lines."""
    found = shipped("--variant", "nano32", "--quant", "float16", "--out", tmp_path / "out")
    print(found.out)
    closing = re.split(r"\n\s*\n", found.out.strip())[-1].splitlines()
    beginnings = [line.split()[0] for line in closing]
    assert len(closing) <= summary.MOST_LINES
    assert [word for word in ("made", "answers", "page", "paste", "next") if word not in beginnings] == []


@pytest.mark.slow
def test_on_a_fine_tuned_model_with_images(shipped, tmp_path):
    model = build(MICRO, SEED)
    model.save(tmp_path / "mine.keras")
    (tmp_path / "photos").mkdir()
    for index in range(4):
        Image.effect_noise((40, 40), 30 + 20 * index).convert("RGB").save(tmp_path / "photos" / f"{index}.png")
    found = shipped(tmp_path / "mine.keras", "--quant", "float32", "--images", tmp_path / "photos", "--out", tmp_path / "out", "--json")
    print(found.out, found.err)
    assert statuses(found.out)["validate"] == "done"
    assert (tmp_path / "out" / "mine-float32.validation.json").is_file()


@pytest.mark.slow
def test_on_a_model_that_gives_numbers(shipped, project, tmp_path):
    micro = build(MICRO, SEED)
    values = keras.Model(micro.input, keras.layers.Dense(2)(micro.get_layer("avg_pool").output))
    values.compile(loss="mse")
    values.save(tmp_path / "mine.keras")
    preprocessing = ("--model-input", "normalized", "--resize", "32")
    found = shipped(
        tmp_path / "mine.keras", "--quant", "float32", *preprocessing, "--app", project, "--images", "builtin", "--samples", "4", "--out",
        tmp_path / "out", "--json",
    )  # fmt: skip
    print(found.out, found.err)
    assert set(statuses(found.out).values()) == {"done"}
    assert any(line.startswith("answers as Keras on ") for line in json.loads(found.out)["closing"])


@pytest.mark.slow
def test_on_a_checkpoint(shipped, tmp_path):
    found = shipped(
        "--checkpoint", ROOT / "tfvit" / "cifar10" / "nano32.safetensors", "--quant", "float32", "--out", tmp_path / "out", "--json"
    )
    print(found.out, found.err)
    assert statuses(found.out)["convert"] == "done"
    assert len(json.loads(found.out)["files"]) == 1


@pytest.mark.slow
def test_a_step_that_fails_stops_nothing_else(shipped, tmp_path):
    found = shipped("--variant", "nano32", "--quant", "float32", "--images", tmp_path / "nothing", "--out", tmp_path / "out", "--json")
    print(found.out)
    assert found.code == EXIT_UNUSABLE
    assert statuses(found.out) == {"convert": "done", "validate": "failed", "benchmark": "done", "report": "done", "bundle": "left out"}
    assert any(line.startswith("next   mend what failed") for line in json.loads(found.out)["closing"])


def test_nothing_goes_on_without_a_file(shipped, tmp_path):
    found = shipped(tmp_path / "no.keras", "--quant", "float32", "--out", tmp_path / "out", "--json")
    assert found.code == EXIT_UNUSABLE
    assert statuses(found.out) == {
        "convert": "failed", "validate": "left out", "benchmark": "left out", "report": "left out", "bundle": "left out"
    }  # fmt: skip
    assert "no.keras" in json.loads(found.out)["closing"][2]


@pytest.mark.slow
def test_random_weights_are_not_bundled(shipped, project, tmp_path):
    arguments = ("--variant", MICRO.id, "--weights", f"random:{SEED}", "--quant", "float32", "--app", project)
    found = shipped(*arguments, "--out", tmp_path / "out", "--json")
    print(found.out)
    assert found.code == EXIT_CHECK_FAILED
    assert statuses(found.out)["bundle"] == "failed"
    assert not (project / "app" / "src" / "main" / "assets").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), EXIT_USAGE, "one of them"),
        (("x.keras", "--variant", "nano32"), EXIT_USAGE, "x.keras and nano32"),
        (("--variant", "nano32", "--app", "NOWHERE"), EXIT_UNUSABLE, "no project of an app"),
        (("--variant", "nano32", "--quantize", "int8"), EXIT_USAGE, "did you mean --quant?"),
    ],
)
def test_wrong_usage_makes_nothing(shipped, tmp_path, arguments, code, words):
    found = shipped(*arguments, "--out", tmp_path / "out")
    assert (found.code, words in found.err, (tmp_path / "out").exists()) == (code, True, False)


@pytest.mark.slow
def test_in_python(tmp_path):
    found = edge.ship("nano32", quant=["float32"], out=tmp_path / "out", quiet=True)
    print(found)
    assert isinstance(found, ship.Shipment)
    assert found.passed == (found.exit_code == EXIT_OK)
    assert "convert" in repr(found)


@pytest.mark.parametrize(("same", "words"), [(0.96875, "the same top-1 as Keras on 96.9 % of 32"), (None, "as Keras on 32")])
def test_what_a_file_is_worth_where_it_gives_no_classes(same, words, tmp_path):
    document = made.manifest("float16", top1_agreement=same)
    request = steps.Request("mine.keras", None, ("float16",), None, None, tmp_path, {}, None, "quick")
    recommended = [{"target": "GPU", "file": document["name"], "basis": "by rule", "ships": True, "reasons": []}]
    found = steps.Shipped([], [Artifact(document["name"], b"", document)], {"recommendations": recommended})
    assert f"answers {words} images (74.2 dB)" in summary.closing(request, found)


def test_a_measurement_of_other_files_is_not_current(tmp_path):
    assert not steps._is_measured(tmp_path / "none.json", [])
    (tmp_path / "bad.json").write_text("{}")
    assert not steps._is_measured(tmp_path / "bad.json", [])


@pytest.mark.slow
def test_a_terminal_of_80_columns(tmp_path):
    """No line is longer, so no number and no word is cut."""
    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    command = [sys.executable, "-m", "edge.ship", "--variant", "nano32", "--quant", "float32", "--out", "out", "--quiet"]
    process = subprocess.Popen(command, stdout=child, cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)}, close_fds=True)
    os.close(child)
    shown = b""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    assert process.wait() == EXIT_OK
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "").splitlines()
    print("\n".join(lines))
    assert [line for line in lines if len(line) > 80 and " " in line.strip()] == []
