"""Processes of our own: what a child imports, how it ended, and that it leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import edge
from edge.runtime.child import Child

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sessions and signals")


@pytest.mark.parametrize(
    ("script", "code", "how"),
    [
        ("echo first >&2; echo last >&2; exit 3", 3, "exit code 3: last"),
        ("exit 0", 0, "exit code 0: it printed nothing"),
        ("echo the driver >&2; kill -SEGV $$", -11, "signal SIGSEGV: the driver"),
        ("echo a warning >&2; kill -KILL $$", -9, "signal SIGKILL: killed, perhaps for want of memory"),
    ],
)
def test_how_it_ended(script, code, how):
    with Child(["sh", "-c", script]) as child:
        assert child.ended() == (code, how)


def test_it_imports_this_edge_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Child([sys.executable, "-c", "import edge, sys; print(edge.__file__, sys.path)"]) as child:
        file, path = child.stdout.read().decode().split(maxsplit=1)
    assert Path(file) == Path(edge.__file__)
    assert str(tmp_path) in path


def test_ctrl_c_reaches_the_parent_alone():
    with Child(["sleep", "60"]) as child:
        assert os.getsid(child.process.pid) == child.process.pid


def test_closing_ends_it():
    child = Child(["sleep", "60"])
    child.close()
    assert child.process.returncode == -9


def test_other_environments_load_what_they_use():
    """Those of other runtimes (benchmarks/peers) have their own packages and not ours."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import edge.runtime.child; import edge.runtime.process"
    root = str(Path(edge.__file__).parents[1])
    subprocess.run([sys.executable, "-I", "-S", "-c", code, root], check=True)
    blocked = subprocess.run([sys.executable, "-I", "-S", "-c", f"{code}; import numpy", root], capture_output=True, check=False)
    assert b"No module named 'numpy'" in blocked.stderr
