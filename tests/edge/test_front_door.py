"""The commands as Python functions: one name that is module and function, results that show themselves, errors that are raised."""

import argparse
import inspect
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import edge
from edge.front_door import paths_of
from tests.edge.small_models import MICRO, SEED, exports_remembered, rows_in_the_table
from tfvit.errors import InputError, UsageError

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[2]
FEW = {"calibration_samples": 4, "drift_samples": 4, "no_cache": True, "quiet": True}
QUICK = {"min_runs": 1, "min_seconds": 0.0, "quiet": True}
COMMANDS = ("benchmark", "bundle", "convert", "inspect", "publish", "report", "ship", "validate")
HEAVY = ("tensorflow", "keras", "numpy", "PIL", "rich", "argparse", "inspect")

_EVERY_WAY_IN = """
import sys
import edge
first = edge.{name}
import edge.{name}
assert edge.{name} is first is sys.modules["edge.{name}"]
from edge import {name}
assert {name} is first and callable({name})
from edge.{name}{main} import main, parser
assert parser().prog and callable(main)
assert edge.{name} is first and callable(edge.{name})
"""


@pytest.fixture(autouse=True)
def _small_variants():
    with rows_in_the_table(), exports_remembered():
        yield


@pytest.mark.parametrize("name", COMMANDS)
def test_module_and_function_of_one_name(name):
    """In whatever order they are imported; and `python -m` starts the command."""
    code = _EVERY_WAY_IN.format(name=name, main=".__main__" if name == "report" else "")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    done = subprocess.run([sys.executable, "-m", f"edge.{name}", "--help"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.startswith(f"usage: python -m edge.{name} ")


@pytest.mark.parametrize("name", COMMANDS)
def test_documented_and_typed(name):
    function = getattr(getattr(edge, name), name)
    assert inspect.signature(getattr(edge, name)) == inspect.signature(function)
    assert f">>> edge.{name}(" in function.__doc__ or f"= edge.{name}(" in function.__doc__
    parameters = inspect.signature(function).parameters.values()
    assert all(parameter.annotation is not parameter.empty for parameter in parameters)
    assert inspect.signature(function).return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("name", COMMANDS)
def test_the_flags_are_the_arguments(name):
    module = __import__(f"edge.{name}.__main__" if name == "report" else f"edge.{name}", fromlist=["parser"])
    flags = {action.dest for action in module.parser()._actions} - {"help", "json", "debug", "version", argparse.SUPPRESS}
    arguments = set(inspect.signature(getattr(edge, name)).parameters)
    renamed = {"variant": "model"}  # one argument for both
    missing = {renamed.get(flag, flag) for flag in flags} - arguments
    assert missing == set()


def test_importing_edge_is_light():
    code = f"import sys, edge\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
    assert set(COMMANDS) <= set(dir(edge))
    with pytest.raises(AttributeError, match="no attribute 'konvert'"):
        edge.konvert  # noqa: B018


@pytest.mark.slow
def test_from_a_variant_to_a_benchmark(tmp_path):
    artifact = edge.convert(MICRO.id, "int8", weights=f"random:{SEED}", out=tmp_path, gate=False, **FEW)
    assert artifact.path == tmp_path / f"{artifact.name}.tflite"
    assert artifact.path.read_bytes() == artifact.file
    assert repr(artifact).startswith(f"<Artifact {artifact.name}: ")
    assert str(artifact.path) in repr(artifact)
    found = edge.validate(artifact, samples=4, no_cache=True, min_snr=-99, quiet=True)
    assert (found.passed, found.failures) == (True, [])
    assert "passed: " in repr(found)
    assert not edge.validate(artifact, samples=4, no_cache=True, min_snr=199, quiet=True).passed
    measured = edge.benchmark([artifact], **QUICK)
    assert [row["status"] for row in measured.rows] == ["ok"]
    assert artifact.path.name in repr(measured)
    assert edge.inspect(artifact, quiet=True).document["sha256"] == artifact.manifest["file"]["sha256"]


def test_several_recipes_give_a_list(tmp_path):
    asked = {"weights": f"random:{SEED}", "out": tmp_path, "gate": False, **FEW}
    artifacts = edge.convert(MICRO.id, ["float32", "float16"], **asked)
    assert [artifact.manifest["recipe"] for artifact in artifacts] == ["float32", "float16"]
    assert [artifact.manifest for artifact in edge.convert(MICRO.id, "float32,float16", **asked)] == [one.manifest for one in artifacts]


def test_a_model_in_memory(micro_model, tmp_path):
    """The same file as from the saved model, and its reference is the model itself."""
    micro_model.save(tmp_path / "saved.keras")
    asked = {"out": tmp_path, "gate": False, **FEW}
    live = edge.convert(micro_model, "float32", name="live", **asked)
    saved = edge.convert(tmp_path / "saved.keras", "float32", **asked)
    assert live.manifest["file"]["graph_sha256"] == saved.manifest["file"]["graph_sha256"]
    assert live.manifest["weights"]["origin"] == "a Keras model in memory"
    assert edge.validate(live, model=micro_model, samples=4, no_cache=True, quiet=True).passed
    with pytest.raises(InputError, match="made from a Keras model in memory"):
        edge.validate(live, model=tmp_path / "saved.keras", samples=4, no_cache=True, quiet=True)
    other = keras.models.clone_model(micro_model)
    with pytest.raises(InputError, match="other weights"):
        edge.validate(live, model=other, samples=4, no_cache=True, quiet=True)


def test_what_is_refused_is_a_result(tmp_path):
    artifact = edge.convert(MICRO.id, "int8", weights=f"random:{SEED}", out=tmp_path, min_snr=199, repair=False, **FEW)
    assert (artifact.passed, artifact.path, artifact.file) == (False, None, b"")
    assert "NOT within its limits" in repr(artifact)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="lies in no file"):
        edge.benchmark(artifact, **QUICK)


def test_errors_are_those_of_the_commands(tmp_path):
    with pytest.raises(UsageError, match="unknown variant") as caught:
        edge.convert("smal224", "int8")
    assert caught.value.near
    with pytest.raises(UsageError, match="unknown recipe"):
        edge.convert(MICRO.id, "int9")
    with pytest.raises(UsageError, match="unknown --output"):
        edge.convert(MICRO.id, "int8", output="scores")
    with pytest.raises(InputError, match=r"there\.keras"):
        edge.convert(tmp_path / "not" / "there.keras", "int8")


def test_paths_of_one_and_several(tmp_path):
    assert paths_of("a.tflite") == [Path("a.tflite")]
    assert paths_of(["a.tflite", tmp_path]) == [Path("a.tflite"), tmp_path]


def test_progress_is_told_on_stderr_unless_quiet(tmp_path, capsys):
    asked = {"weights": f"random:{SEED}", "out": tmp_path, "gate": False, "force": True, **FEW}
    edge.convert(MICRO.id, "float32", **asked)
    assert capsys.readouterr() == ("", "")
    edge.convert(MICRO.id, "float32", **(asked | {"quiet": False}))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{MICRO.id}-float32.random: quantize" in captured.err
