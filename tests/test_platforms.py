"""Nothing is tied to Linux: the packages work without the modules and functions that Windows, or macOS, lacks.

Neither system is here. These tests take away from Python on Linux what is missing there, in every process that is started.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("tfvit", "calibration", "edge")
_WITHOUT = """
import psutil  # on Linux psutil itself needs `resource`

import os
import signal
import sys

for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
for name in ("O_DIRECTORY", "O_NOFOLLOW", "getloadavg", "geteuid", "getuid", "pread", "sched_getaffinity", "sysconf"):
    delattr(os, name)
for name in ("SIGHUP", "SIGPIPE", "SIGUSR1", "alarm", "setitimer"):
    delattr(signal, name)
"""
_IMPORTED = """
import importlib, os, pkgutil, sys
from pathlib import Path


class Frameworks:
    def find_spec(self, name, path=None, target=None):
        if name in ("tensorflow", "keras"):
            raise ModuleNotFoundError(name, name=name)


sys.meta_path.insert(0, Frameworks())
imported = 0
for package in sys.argv[1:]:
    for module in pkgutil.walk_packages([package], package + "."):
        try:
            importlib.import_module(module.name)
            imported += 1
        except ModuleNotFoundError as error:
            assert error.name in ("tensorflow", "keras"), (module.name, error)
print("imported", imported)

from edge.artifacts import atomic_files
from edge.runtime import cpu, machine

with cpu.captured_stderr() as log:
    os.write(2, b"first\\n")
    print("heard", log.text().split())
    os.write(2, b"second\\n")
    print("heard", log.text().split())
with atomic_files.scratch_folder() as folder:
    atomic_files.save_bytes(folder / "file", b"whole", "file")
    print("saved", (folder / "file").read_bytes())
print("cores", machine.environment()["cores"], machine.peak_memory_mb() > 0)
"""


@pytest.fixture
def poorer(tmp_path):
    """The environment of processes that lack all that."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_WITHOUT)
    paths = [str(tmp_path / "site"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def test_modules_are_imported_without_what_other_systems_lack(poorer):
    done = subprocess.run([sys.executable, "-c", _IMPORTED, *PACKAGES], cwd=ROOT, env=poorer, capture_output=True, text=True)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    imported, *rest = done.stdout.splitlines()
    assert int(imported.split()[1]) > 150
    assert rest == ["heard ['first']", "heard ['first', 'second']", "saved b'whole'", f"cores {os.cpu_count()} True"]


@pytest.mark.slow
def test_a_model_is_shipped_without_what_other_systems_lack(poorer, tmp_path):
    command = [sys.executable, "-m", "edge.ship", "--variant", "nano32", "--quant", "float32,int8"]
    done = subprocess.run(command, cwd=tmp_path, env=poorer, capture_output=True, text=True)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert (tmp_path / "artifacts" / "nano32-int8.tflite").is_file()
    assert (tmp_path / "artifacts" / "report.html").is_file()


def test_signals_of_one_system_are_asked_for():
    """`signal.SIGKILL` is no name on Windows; Python's own subprocess needs it here, so that it cannot be taken away above."""
    names = re.compile(r"signal\.SIG(?!INT\b|TERM\b|ABRT\b|SEGV\b|FPE\b|ILL\b)[A-Z]")
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert [path.name for path in paths if names.search(path.read_text(encoding="utf-8"))] == []
    assert names.search("code == -signal.SIGKILL")
