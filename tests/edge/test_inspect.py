"""edge.inspect: what it says of our files and of others."""

import json

import pytest
import tensorflow as tf

from benchmarks import foreign_kinds
from edge import inspect
from edge.inspection import command
from edge.quantization.recipes import RECIPES
from edge.runtime import cpu
from tests.edge.gpu_probes import PROBES
from tfvit.errors import EXIT_OK, EXIT_UNUSABLE, EXIT_USAGE

pytestmark = pytest.mark.whole


@pytest.fixture
def inspected(capfd):
    def run(*arguments):
        capfd.readouterr()
        code = inspect.main([str(argument) for argument in (*arguments, "--quiet")])
        captured = capfd.readouterr()
        print(captured.out[-3000:], captured.err)
        return code, captured.out, captured.err

    return run


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_our_files(inspected, tiny, recipe):
    path = tiny.folder / f"{tiny.name(recipe)}.tflite"
    code, out, _ = inspected(path, "--json")
    document, manifest = json.loads(out), tiny.manifest(recipe)
    assert code == EXIT_OK
    assert document["sha256"] == manifest["file"]["sha256"]
    assert document["ops"] == manifest["file"]["ops"]
    assert document["max_rank"] == manifest["file"]["max_rank"] == 4
    assert document["min_runtime_version"] == manifest["file"]["min_runtime_version"]
    assert [tensor["name"] for tensor in document["inputs"]] == [manifest["input"]["name"]]
    assert document["inputs"][0]["shape"] == manifest["input"]["shape"]
    xnnpack = document["delegates"]["xnnpack"]
    assert {name: xnnpack[name] for name in ("delegated_ops", "total_ops", "partitions", "left_over")} == manifest["delegates"]["xnnpack"]
    # by rule and by the runtime
    rule = xnnpack["by_rule"]
    left_over = {name: sum(found["op"] == name for found in rule["left_over"]) for name in {found["op"] for found in rule["left_over"]}}
    assert left_over == xnnpack["left_over"]
    assert rule["partitions"] == xnnpack["partitions"]
    assert document["delegates"]["gpu"]["verdict"] == ("refused" if recipe in ("w8a16", "int8_wide") else "whole")
    assert document["delegates"]["npu"]["verdict"] == {"int8_full": "whole", "int8_wide": "whole", "int8": "partly", "w8a16": "partly"}.get(
        recipe, "nothing"
    )
    assert {name: document["delegates"]["npu"][name] for name in ("verdict", "basis", "on_cpu")} == manifest["delegates"]["npu"]
    assert document["delegates"]["gpu"]["measured"] is None
    said = document["self_description"]
    assert (said["graph_matches"], said["problems"], len(said["labels"])) == (True, [], manifest["classes"])
    assert said["provenance"]["graph"]["sha256"] == manifest["file"]["graph_sha256"]
    assert said["metadata"]["name"] == manifest["name"]
    assert sum(document["constant_bytes"].values()) < len(tiny.file(recipe))
    assert sum(document["contents"].values()) == document["size_bytes"]


def test_why_not_on_the_gpu(inspected, tiny_v1):
    code, out, _ = inspected(tiny_v1.folder / f"{tiny_v1.name('w8a16')}.tflite")
    assert code == EXIT_OK
    assert "GPU delegate: refused" in out
    assert "INT16 tensor; use float32, int8 or int32" in out
    assert "stage1_block1" in out  # the Keras layer
    assert "not tested" in out


def test_what_a_file_says_of_itself(inspected, tiny_v1, tmp_path):
    file = tiny_v1.file("int8")
    path = tmp_path / "file.tflite"
    path.write_bytes(file)
    _, out, _ = inspected(path)
    assert "RANDOM weights: its answers mean nothing" in out
    assert "10 labels: label 0, label 1" in out
    assert "calibration: 8 images of builtin" in out
    assert "graph: the one this was written for" in out
    changed = bytearray(file)
    changed[len(file) * 3 // 4] ^= 1
    path.write_bytes(changed)
    _, out, _ = inspected(path)
    assert "graph: NOT the one this was written for" in out


def test_a_foreign_file_without_signature_names(inspected, small_graph, tmp_path):
    path = tmp_path / "foreign name 🙂.tflite"
    path.write_bytes(small_graph(lambda x: tf.gather(tf.reverse(x * 2.0, [1]), [[1, 0]], axis=1) + 1.0, (1, 4, 8)))
    code, out, _ = inspected(path)
    assert code == EXIT_OK
    assert "REVERSE_V2: no kernel" in out
    assert "indices of rank 2" in out
    assert "says of itself: nothing" in out


@pytest.mark.slow
def test_xnnpack_rules_say_what_the_runtime_does(small_graph):
    """On every probe of the GPU suite."""
    different = {}
    for name, (function, shapes) in PROBES.items():
        file = small_graph(lambda *inputs, function=function: function(tf, *inputs), *shapes)
        measured, ruled = cpu.xnnpack_partitions(file), command.description(file, ask_runtime=False)["delegates"]["xnnpack"]["by_rule"]
        left_over = sorted(found["op"] for found in ruled["left_over"])
        if (left_over, ruled["partitions"]) != (
            sorted(n for n, count in measured.left_over.items() for _ in range(count)),
            measured.partitions,
        ):
            different[name] = (measured, ruled)
    assert different == {}
    assert len(PROBES) > 50


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "unreadable file"), (b"hello", "not a TFLite file"), (b"\x10\0\0\0TFL3" + b"\xff" * 40, "damaged TFLite file")],
)
def test_unreadable_files(inspected, tmp_path, content, words):
    path = tmp_path / "file.tflite"
    if content is not None:
        path.write_bytes(content)
    code, out, err = inspected(path)
    assert code == EXIT_UNUSABLE
    assert words in err
    assert len(err.strip().splitlines()) <= 4
    assert out == ""


def test_no_file_is_wrong_usage(inspected):
    assert inspected()[0] == EXIT_USAGE


def test_the_gpu_is_not_tested_without_one(inspected, tiny_v1, monkeypatch):
    monkeypatch.setenv("VK_ICD_FILENAMES", "/no/such/driver.json")
    code, out, _ = inspected(tiny_v1.folder / f"{tiny_v1.name('int8')}.tflite", "--gpu")
    assert code == EXIT_UNUSABLE
    assert "on the delegate itself: not tested" in out


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """The path of a foreign file of a kind."""
    folder = tmp_path_factory.mktemp("foreign")

    def path(kind: str):
        found = folder / f"{kind.replace(' ', '_')}.tflite"
        found.write_bytes(foreign_kinds.make(kind))
        return found

    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("variables", ["ASSIGN_VARIABLE", "needs TensorFlow Lite 2.6.0", "GPU delegate: refused"]),
        ("two signatures", ["signature encode: x0 -> y", "signature decode: x0 -> y", "the one shown here"]),
        ("image of any size", ["[1, any, any, 3]", "--input-shape"]),
        ("custom operation", ["and MyOperation", "GPU delegate: unknown, 1 x MyOperation never tried", "not known by rule"]),
        ("memory in a variable tensor", ["keeps its value from run to run"]),
        ("Ultralytics' metadata", ["Ultralytics: description Ultralytics YOLOv8n model, task detect", "2 labels: person, bicycle"]),
        ("no operation", ["operations (0)"]),
    ],
)
def test_files_of_others(inspected, foreign, kind, words):
    code, out, _ = inspected(foreign(kind))
    assert code == EXIT_OK
    assert [word for word in words if word not in out] == []


def test_the_gpu_is_asked_about_a_file_that_no_accelerator_loads(inspected, foreign, monkeypatch):
    """It says so of the file, on a machine without a GPU too."""
    monkeypatch.setenv("VK_ICD_FILENAMES", "/no/such/driver.json")
    code, out, _ = inspected(foreign("memory in a variable tensor"), "--gpu")
    assert code == EXIT_OK
    assert "on the delegate itself: refused" in out
    assert "Variable tensors not yet supported" in out
