"""edge.benchmark on real files, in real processes of their own."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import foreign_kinds
from edge import benchmark
from edge.latency.agreement import Judgement
from edge.latency.protocol import Preset
from edge.latency.result import Turn, _Contestant, _in_turns, _result
from edge.latency.subject import Subject
from edge.latency.table import distinct_names
from edge.quantization import quantize
from edge.quantization.recipes import RECIPES
from edge.runtime.cpu import Interpreter
from edge.runtime.process import OK, REFUSED, LatencyProcess
from edge.tflite import flatbuffer
from tests.edge.small_models import MICRO, pixels
from tfvit import hashing
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE, EXIT_USAGE, EnvironmentUnusableError

pytestmark = pytest.mark.whole

# Enough to have run; nothing here judges how fast
SHORT = ("--min-runs", "3", "--min-seconds", "0", "--quiet")

# The contract's fields of a result
FIELDS = (
    "file", "delegate", "threads", "status", "reason", "software_gpu", "init_ms", "first_inference_ms", "median_ms", "p5_ms",
    "p90_ms", "p95_ms", "mean_ms", "stddev_ms", "min_ms", "max_ms", "num_runs", "seconds", "valid", "invalid_reasons",
    "peak_mem_mb", "delegated_ops", "total_ops", "partitions",
)  # fmt: skip


@pytest.fixture
def measured(capfd):
    """Runs `python -m edge.benchmark` in this process: exit code, stdout, stderr."""

    def run(*arguments):
        capfd.readouterr()
        code = benchmark.main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        print(f"exit {code}: {captured.err[-600:]}")
        return code, captured.out, captured.err

    return run


def shown(out: str) -> list[tuple[str, str]]:
    """The rows of the printed table, each with what stands under "ratio"."""
    lines = out.splitlines()
    top = next(index for index, line in enumerate(lines) if "p5 to p95" in line)
    start, end = lines[top].index(" runs ") + len(" runs"), lines[top].index(" ratio ") + len(" ratio")
    return [(line, line[start:end].strip()) for line in itertools.takewhile(str.strip, lines[top + 2 :])]


def test_files_side_by_side(measured, micro_files):
    code, out, err = measured(*micro_files.values(), *SHORT, "--json")
    document = json.loads(out)
    print(json.dumps(document["results"][1], indent=1))
    assert (code, err) == (EXIT_OK, "")
    assert [result["file"] for result in document["results"]] == [str(path) for path in micro_files.values()]
    for result in document["results"]:
        assert set(FIELDS) <= set(result)
        assert (result["status"], result["delegate"], result["threads"], result["software_gpu"]) == (OK, "cpu", 1, None)
        assert result["random_weights"] is True
        assert "XNNPACK" in result["ran_on"]
        assert result["num_runs"] >= 3
        assert 0 < result["min_ms"] <= result["median_ms"] <= result["p95_ms"] <= result["max_ms"]
        assert result["init_ms"] > 0
        assert result["peak_mem_mb"] > 1
        assert result["ratio_low"] <= result["ratio"] <= result["ratio_high"]
        assert np.isfinite(result["relative_l2_difference"])
    first, int8, full = document["results"]
    assert first["ratio"] == 1.0
    assert int8["delegated_ops"] == int8["total_ops"]
    assert int8["partitions"] == 1
    assert full["partitions"] > 1  # integer norms and softmax are not XNNPACK's
    assert document["environment"]["cpu"]
    assert document["environment"]["runtime"].startswith("LiteRT")


def test_the_table_says_where_it_ran_and_what_the_weights_are(measured, micro_files):
    code, out, _ = measured(micro_files["float32"], micro_files["int8"], *SHORT, "--threads", "1,2")
    assert code == EXIT_OK
    assert out.count("micro-int8.random.tflite  ") >= 2
    for words in ("ran on LiteRT", "machine: ", "RANDOM weights", "ratio"):
        assert words in out


def test_the_ratio_of_a_single_round_is_shown(measured, micro_files, micro_float, tmp_path):
    """There is no interval around it, as there is none around the first file's 1."""
    micro = tmp_path / "micro.tflite"
    micro.write_bytes(micro_float)
    code, out, _ = measured(micro_files["float32"], micro, *SHORT)
    print(out)
    assert code == EXIT_OK
    (_, first), (_, second) = shown(out)
    assert first == "1"
    assert second != "1"
    assert float(second.split()[0]) > 0


def test_what_is_saved_is_what_is_printed_and_nothing_foreign_is_lost(measured, micro_files, tmp_path):
    code, out, _ = measured(micro_files["int8"], *SHORT, "--json", "--save", tmp_path / "benchmark.json")
    assert code == EXIT_OK
    assert json.loads((tmp_path / "benchmark.json").read_text()) == json.loads(out)
    assert json.loads(out)["kind"] == "benchmark"
    assert json.loads(out)["results"][0]["sha256"] == hashing.sha256(micro_files["int8"].read_bytes())
    (tmp_path / "mine.json").write_text("{}")
    code, _, err = measured(micro_files["int8"], *SHORT, "--save", tmp_path / "mine.json")
    assert code == EXIT_UNUSABLE
    assert "another file is in the way" in err
    assert (tmp_path / "mine.json").read_text() == "{}"


def test_other_kernels_run_and_are_named(measured, micro_files):
    code, out, _ = measured(micro_files["int8"], "--delegate", "builtin", "--delegate", "reference", *SHORT, "--json")
    builtin, reference = json.loads(out)["results"]
    assert code == EXIT_OK
    assert "builtin kernels" in builtin["ran_on"]
    assert "reference kernels" in reference["ran_on"]
    assert builtin["delegated_ops"] == reference["delegated_ops"] == 0


def test_a_file_that_gives_nan_is_wrong(measured, micro_files, tmp_path):
    """A norm's epsilon made NaN: it loads and runs, and must not be shown as a result."""
    graph = flatbuffer.read_model(micro_files["float32"].read_bytes())
    index = next(int(operator.inputs[1]) for name, operator in flatbuffer.operators(graph) if name == "FULLY_CONNECTED")
    buffer = graph.buffers[graph.subgraphs[0].tensors[index].buffer]
    buffer.data = np.full(len(buffer.data) // 4, np.nan, np.float32).view(np.uint8)
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(flatbuffer.write_model(graph))
    code, out, _ = measured(broken, *SHORT, "--json")
    (result,) = json.loads(out)["results"]
    print(result)
    assert code == EXIT_CHECK_FAILED
    assert result["status"] == "wrong"
    assert "differ from builtin's" in result["reason"]


def test_a_file_the_runtime_cannot_load_is_refused_and_the_others_measured(measured, micro_files, tmp_path):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(micro_files["float32"].read_bytes()[:3000])
    code, out, _ = measured(micro_files["float32"], damaged, *SHORT, "--json")
    good, bad = json.loads(out)["results"]
    assert code == EXIT_CHECK_FAILED
    assert good["status"] == OK
    assert (bad["status"], bad["median_ms"], bad["valid"]) == (REFUSED, None, False)
    assert bad["reason"]


def test_a_process_that_dies_is_a_result():
    with LatencyProcess(Path("any"), "cpu", 1, command=["sh", "-c", "echo the driver said so >&2; kill -SEGV $$"]) as process:
        print(process.loaded)
        assert process.loaded.status == REFUSED
        assert "SIGSEGV" in process.loaded.reason
        assert "the driver said so" in process.loaded.reason


def test_a_process_that_dies_later_is_one_error():
    child = 'echo \'{"status": "ok"}\'; read question; echo it was too hot >&2; kill -SEGV $$'
    with LatencyProcess(Path("any.tflite"), "cpu", 1, command=["sh", "-c", child]) as process:
        assert process.loaded.status == OK
        with pytest.raises(EnvironmentUnusableError, match="SIGSEGV: it was too hot") as caught:
            process.burst(1, 0.0, 0)
    print(caught.value)


def test_no_gpu_is_unavailable_and_says_nothing_of_the_file(measured, micro_files, monkeypatch):
    monkeypatch.setenv("VK_ICD_FILENAMES", "/no/such/driver.json")
    code, out, _ = measured(micro_files["float32"], "--delegate", "gpu", *SHORT, "--json")
    (result,) = json.loads(out)["results"]
    print(result["reason"])
    assert code == EXIT_UNUSABLE
    assert (result["status"], result["median_ms"], result["ratio"]) == ("unavailable", None, None)


@pytest.mark.slow
def test_a_software_gpu_is_labelled_and_its_times_are_compared_with_nothing(measured, micro_float, vulkan_driver, tmp_path):
    if Path(vulkan_driver).name not in ("lavapipe.json", "swiftshader.json"):
        pytest.skip("the Vulkan driver may be of a real GPU")
    first, second = tmp_path / "float32.tflite", tmp_path / "float16.tflite"
    first.write_bytes(micro_float)
    second.write_bytes(quantize.quantize(micro_float, RECIPES["float16"]))
    arguments = (first, second, "--delegate", "cpu", "--delegate", "gpu_f32", *SHORT)

    code, out, _ = measured(*arguments, "--json")
    results = json.loads(out)["results"]
    print([(result["delegate"], result["median_ms"], result["ratio"], result["ran_on"]) for result in results])
    assert code == EXIT_OK
    assert [(result["delegate"], result["status"], result["software_gpu"]) for result in results] == [
        ("cpu", OK, None),
        ("cpu", OK, None),
        ("gpu_f32", OK, True),
        ("gpu_f32", OK, True),
    ]
    assert all(result["median_ms"] > 0 for result in results)
    for result in results:
        ratios = [result[name] for name in ("ratio", "ratio_low", "ratio_high")]
        assert ratios == [None] * 3 if result["software_gpu"] else None not in ratios
        assert result["ran_on"].endswith("a software GPU") == bool(result["software_gpu"])

    code, out, _ = measured(*arguments)
    print(out)
    assert code == EXIT_OK
    rows = shown(out)
    assert ["software GPU" in row for row, _ in rows] == [False, False, True, True]
    assert [bool(ratio) for _, ratio in rows] == [True, True, False, False]
    assert "its milliseconds do not" in out


def test_a_sustained_run_is_drawn(measured, micro_files, tmp_path):
    picture = tmp_path / "course.png"
    code, out, _ = measured(micro_files["int8"], "--sustained", "0.01", "--plot", picture, "--quiet", "--json")
    (result,) = json.loads(out)["results"]
    assert code == EXIT_OK
    assert len(result["curve"]) > 1
    assert result["ratio"] is None  # alone, there is nothing to compare with
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_foreign_picture_is_left_alone(measured, micro_files, tmp_path):
    picture = tmp_path / "mine.png"
    picture.write_bytes(b"mine")
    code, _, err = measured(micro_files["int8"], *SHORT, "--plot", picture)
    assert code == EXIT_UNUSABLE
    assert "in the way" in err
    assert picture.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), EXIT_USAGE, "FILE"),
        (("no-such.tflite",), EXIT_UNUSABLE, "no-such.tflite"),
        ((__file__,), EXIT_UNUSABLE, "not a TFLite file"),
        (("FILE", "--delegate", "gpuu"), EXIT_USAGE, "did you mean gpu"),
        (("FILE", "--threads", "0"), EXIT_USAGE, "--threads of at least 1"),
        (("FILE", "--threads", "two"), EXIT_USAGE, "--threads of at least 1"),
        (("FILE", "--min-runs", "0"), EXIT_USAGE, "--min-runs of at least 1"),
        (("FILE", "--min-seconds", "nan"), EXIT_USAGE, "--min-seconds of at least 0"),
        (("FILE", "--sustained", "0"), EXIT_USAGE, "--sustained above 0"),
        (("FILE", "--plot", "picture.jpg"), EXIT_USAGE, ".png"),
        (("FILE", "FILE"), EXIT_USAGE, "a file twice"),
    ],
)
def test_wrong_usage_and_unusable_files(measured, micro_files, arguments, code, words):
    received, out, err = measured(*(micro_files["float32"] if argument == "FILE" else argument for argument in arguments))
    lines = err.strip().splitlines()
    assert received == code
    assert words in err
    assert out == ""
    assert lines[0].startswith("error: ")
    assert len(lines) <= 4


def test_inputs_are_set_by_name_and_refused_by_name_and_shape(micro_files):
    interpreter = Interpreter(micro_files["int8"].read_bytes())
    (name,) = interpreter.inputs
    image = pixels(MICRO.image_size, 1).astype(np.float32)
    interpreter.write({name: image})
    np.testing.assert_array_equal(interpreter.invoke()[0], interpreter.run(image))
    with pytest.raises(ValueError, match="inputs must be among"):
        interpreter.write({"nonsense": image})
    with pytest.raises(ValueError, match="input must have the shape"):
        interpreter.write({name: image[:, 1:]})


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """The path of a foreign file of a kind."""
    folder = tmp_path_factory.mktemp("foreign")

    def path(kind: str) -> Path:
        found = folder / f"{kind.replace(' ', '_')}.tflite"
        if not found.exists():
            found.write_bytes(foreign_kinds.make(kind))
        return found

    return path


@pytest.mark.slow
def test_a_signature_is_named_and_chosen(measured, foreign):
    for arguments, name in (((), None), (("--signature", "encode"), "encode"), (("--signature", "decode"), "decode")):
        code, out, _ = measured(foreign("two signatures"), *SHORT, "--json", *arguments)
        (result,) = json.loads(out)["results"]
        assert (code, result["status"]) == (EXIT_OK, OK)
        assert name in (None, result["signature"])
        assert [remark for remark in result["remarks"] if f"signature {result['signature']}; the file has " in remark]
    code, _, err = measured(foreign("two signatures"), *SHORT, "--signature", "encod")
    assert (code, "did you mean encode" in err) == (EXIT_USAGE, True)


def test_dynamic_sides_need_a_size(measured, foreign):
    code, out, err = measured(foreign("image of any size"), *SHORT)
    assert (code, out) == (EXIT_USAGE, "")
    assert "[1, any, any, 3]" in err
    code, out, _ = measured(foreign("image of any size"), *SHORT, "--json", "--input-shape", "1,40,30,3")
    assert (code, json.loads(out)["results"][0]["status"]) == (EXIT_OK, OK)


@pytest.mark.slow
def test_rows_of_one_name_are_told_apart_and_threads_are_named(measured, foreign, tmp_path):
    paths = [tmp_path / version / "model.tflite" for version in ("v1", "v2")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(foreign("with a signature").read_bytes())
    code, out, _ = measured(*paths, *SHORT, "--threads", "1,99")
    print(out)
    assert code == EXIT_OK
    assert "v1/model.tflite" in out
    assert "v2/model.tflite on cpu, 99 threads: 99 threads on " in out
    assert "v2/model.tflite on cpu, 1 thread: 1 thread" not in out


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x.tflite", "b/y.tflite"], ["x.tflite", "y.tflite"]),
        (["a/x.tflite", "b/x.tflite"], ["a/x.tflite", "b/x.tflite"]),
        (["x.tflite", "b/x.tflite"], ["x.tflite", "b/x.tflite"]),
        (["/r/a/1/x.tflite", "/r/b/1/x.tflite"], ["a/1/x.tflite", "b/1/x.tflite"]),
    ],
)
def test_the_shortest_distinct_names(paths, names):
    assert list(distinct_names(paths).values()) == names


def test_a_file_on_stdin_is_measured_and_a_pipe_is_refused(foreign):
    command = [sys.executable, "-m", "edge.benchmark", "/dev/stdin", *SHORT]
    with foreign("with a signature").open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, timeout=300)
    print(done.stdout, done.stderr)
    assert done.returncode == EXIT_OK
    with subprocess.Popen(["cat", foreign("with a signature")], stdout=subprocess.PIPE) as pipe:
        done = subprocess.run(command, stdin=pipe.stdout, capture_output=True, text=True, timeout=300)
    assert (done.returncode, "a pipe is no file" in done.stderr) == (EXIT_UNUSABLE, True)


def test_what_was_measured_before_a_failure_is_kept(micro_files, tmp_path):
    """One process dies while it is timed: the other row is as if nothing had been, and its own says what happened."""
    child = (
        """echo '{"status": "ok"}'; for i in 1 2; do read q; echo '{"milliseconds": [1.0, 1.0]}'; done; echo it broke >&2; kill -SEGV $$"""
    )
    with (
        LatencyProcess(tmp_path / "bad.tflite", "cpu", 1, command=["sh", "-c", child]) as dying,
        LatencyProcess(micro_files["int8"], "cpu", 1) as lasting,
    ):
        pair = [
            _Contestant(Subject(path), process, Judgement())
            for path, process in ((tmp_path / "bad.tflite", dying), (micro_files["int8"], lasting))
        ]
        times, _ = _in_turns(pair, Turn("cpu", 1), Preset(3, 0.0))
        (tmp_path / "bad.tflite").write_bytes(b"gone")
        rows = [_result(one, Turn("cpu", 1), times.get(one.file.path), Preset(3, 0.0), None) for one in pair]
    print(rows[0])
    assert (rows[0]["status"], rows[0]["valid"]) == ("refused", False)
    assert "SIGSEGV: it broke" in rows[0]["reason"]
    assert rows[1]["status"] == OK
    assert rows[1]["num_runs"] >= 3
    assert rows[1]["sha256"] == hashing.sha256(micro_files["int8"].read_bytes())


@pytest.mark.slow
def test_many_files_take_turns_with_the_first_a_few_at_a_time(measured, foreign, monkeypatch):
    kinds = ("with a signature", "float16 constants", "no operation", "two inputs in another order", "variables")
    monkeypatch.setattr("edge.latency.result.MOST_AT_ONCE", 2)
    code, out, _ = measured(*map(foreign, kinds), *SHORT, "--json")
    results = json.loads(out)["results"]
    assert code == EXIT_OK
    assert [result["file"] for result in results] == [str(foreign(kind)) for kind in kinds]
    assert all(result["ratio"] is not None for result in results)
