"""Files that bring the runtime down: the process that runs them first dies, the command says so and goes on."""

import json
import os
import sys
from pathlib import Path

import pytest

from edge import benchmark, bundle, inspect, validate
from edge.runtime import sandbox
from tfvit import hashing
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE, EnvironmentUnusableError, InputError

CORPUS = Path(__file__).parents[2] / "fuzz"
SOUND = CORPUS / "tflite" / "float32.tflite"
CRASHES = sorted((CORPUS / "tflite_runtime").glob("crash-*"))


@pytest.fixture
def said(capfd):
    def run(main, *arguments):
        code = main([*map(str, arguments), "--quiet"])
        printed = capfd.readouterr()
        print(code, printed.out[-1500:], printed.err)
        assert "Traceback" not in printed.err
        assert len(printed.err.splitlines()) <= 4
        return code, printed.out, printed.err

    return run


@pytest.fixture
def dying(monkeypatch, tmp_path):
    """Has the next child process die by a signal, whatever the runtime of this machine makes of a file."""
    script = tmp_path / "dies"
    script.write_text("#!/bin/sh\necho it went wrong >&2\nkill -SEGV $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(sandbox, "_tried", set())


@pytest.fixture
def made(tmp_path):
    """An artifact of any bytes, with a manifest that says what a small model's says."""

    def save(file: bytes) -> Path:
        manifest = json.loads((CORPUS / "manifest" / "nano32-int8.json").read_text())
        manifest["file"]["sha256"] = hashing.sha256(file)
        manifest["weights"] |= {"source": "random:1", "random": True}
        path = tmp_path / "nano32-int8.tflite"
        path.write_bytes(file)
        path.with_suffix(".json").write_text(json.dumps(manifest))
        return path

    return save


def test_a_sound_file():
    found = sandbox.partitions(SOUND.read_bytes())
    assert (found.total_ops, found.partitions) == (4, 1)
    sandbox.require_runs(SOUND.read_bytes())


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_every_command_outlives_the_runtime(dying, said, made, tmp_path):
    path = made(SOUND.read_bytes())
    code, out, _ = said(inspect.main, path)
    assert code == EXIT_OK
    assert "signal SIGSEGV: it went wrong" in out
    for main, arguments in ((validate.main, ("--no-cache",)), (bundle.main, ("--zip", tmp_path / "a.zip", "--allow-random"))):
        code, _, err = said(main, path, *arguments)
        assert code == EXIT_UNUSABLE
        assert "the runtime crashed on the file" in err
        assert "SIGSEGV" in err
    assert not (tmp_path / "a.zip").exists()
    code, out, _ = said(benchmark.main, path)
    assert code == EXIT_CHECK_FAILED
    assert "refused: its process ended with signal SIGSEGV" in out


@pytest.mark.parametrize("path", CRASHES, ids=lambda path: path.name)
def test_files_that_have_crashed_the_runtime(said, made, path):
    """On this machine they may or not: the command lives."""
    assert said(inspect.main, path)[0] == EXIT_OK
    assert said(validate.main, made(path.read_bytes()), "--no-cache")[0] == EXIT_UNUSABLE


def test_what_the_runtime_refuses_is_its_own_error():
    file = bytearray(SOUND.read_bytes())
    file[:4] = b"\xff\xff\xff\x7f"
    with pytest.raises(EnvironmentUnusableError, match="cannot load the file"):
        sandbox.require_runs(bytes(file))


def test_a_file_of_another_shape_than_its_manifest_says(said, made):
    code, _, err = said(validate.main, made(SOUND.read_bytes()), "--no-cache")
    assert code == EXIT_UNUSABLE
    assert "not what its manifest says" in err


def test_a_child_that_says_nothing(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(InputError, match="exit code 1: it printed nothing"):
        sandbox.partitions(b"")


def test_a_graph_that_loops_for_ever(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(sandbox, "LONGEST_S", 5)
    loop = tf.function(lambda x: tf.while_loop(lambda y: tf.reduce_all(y < 2.0), lambda y: (tf.sin(y),), [x]))
    file = tf.lite.TFLiteConverter.from_concrete_functions([loop.get_concrete_function(tf.TensorSpec([1, 4]))], loop).convert()
    with pytest.raises(InputError, match="does not come to an end"):
        sandbox.require_runs(file)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
def test_a_graph_that_asks_for_more_memory_than_there_is(monkeypatch, tmp_path, small_graph):
    """The child is told that there are 512 MiB; the graph computes with 1.6 GB in one tensor."""
    script = tmp_path / "poor"
    code = "from edge.runtime import sandbox; sandbox.memory.available_bytes = lambda: 2**29; sandbox.main('run')"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}"\n')
    script.chmod(0o755)
    side = 20_000

    def product(x):
        import tensorflow as tf

        return tf.reduce_sum(tf.reshape(x, (side, 1)) * tf.reshape(x, (1, side)) + 1.0, keepdims=True)

    file = small_graph(product, (1, side))
    monkeypatch.setattr(sys, "executable", str(script))
    sandbox.require_runs(SOUND.read_bytes())
    with pytest.raises(EnvironmentUnusableError, match="cannot load the file"):
        sandbox.require_runs(file)
