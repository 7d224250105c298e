"""No more memory than there is, for what a file asks for."""

import subprocess
import sys
import zipfile

import keras
import pytest

from tfvit import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
MIB = 2**20
_LOADS_WITH_1_GIB = """
import sys
from tfvit import memory, weights
from tfvit.errors import InputError
memory.available_bytes = lambda: 2**30
try:
    weights.load_keras_model(sys.argv[1])
except InputError as error:
    print(error)
"""


def test_what_is_available():
    assert 64 * MIB < memory.available_bytes() < 2**50


def test_more_than_available_is_not_given(monkeypatch):
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setattr(memory, "available_bytes", lambda: 256 * MIB)
    with memory.limited():
        bytearray(128 * MIB)
        with pytest.raises(MemoryError):
            bytearray(512 * MIB)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    bytearray(512 * MIB)


def test_a_lower_limit_stays(monkeypatch):
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    with memory.limited():
        set_by_first = resource.getrlimit(resource.RLIMIT_DATA)
        monkeypatch.setattr(memory, "available_bytes", lambda: 2**50)
        with memory.limited():
            assert resource.getrlimit(resource.RLIMIT_DATA) == set_by_first
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.parametrize("unknown", ["available_bytes", "_private_bytes"])
def test_a_system_that_does_not_say(monkeypatch, unknown):
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setattr(memory, unknown, lambda: None)
    with memory.limited():
        assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_the_peak_is_of_this_process_alone():
    """Not of the one that started it: getrusage's is."""
    held = bytearray(300 * MIB)
    child = subprocess.run([sys.executable, "-c", "from tfvit import memory; print(memory.peak_bytes())"], capture_output=True, check=True)
    assert memory.peak_bytes() > len(held) > 2 * int(child.stdout) > 2 * MIB


@pytest.mark.slow
def test_a_model_larger_than_the_memory(tmp_path):
    """A few kB that declare 1.6 GB of weights, where there is 1 GiB; in a process of its own, which has nothing to give back."""
    inputs, saved, path = keras.Input((3,)), tmp_path / "small.keras", tmp_path / "large.keras"
    keras.Model(inputs, keras.layers.Dense(3)(inputs)).save(saved)
    with zipfile.ZipFile(saved) as small, zipfile.ZipFile(path, "w") as large:
        for name in small.namelist():
            content = small.read(name)
            if name == "config.json":
                content = content.replace(b"[null, 3]", b"[null, 20000]").replace(b'"units": 3', b'"units": 20000')
                assert content.count(b"20000") >= 3
            large.writestr(name, content)
    ended = subprocess.run([sys.executable, "-c", _LOADS_WITH_1_GIB, path], capture_output=True, text=True, timeout=300)
    print(ended.stderr[-2000:])
    assert ended.returncode == 0
    assert "unreadable Keras model" in ended.stdout
    assert "OOM" in ended.stdout
