"""A saved `.keras` model: the whole zip, or, where the bytes are none, the config.json in one. No code of the file's choosing may run."""

import functools
import io
import sys
import zipfile
from unittest import mock

from fuzz.json_mutator import mutate as mutate
from fuzz.target import file
from fuzz.weights_h5 import model
from tfvit import memory

_FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "marshal.loads", "socket.connect", "urllib.Request")
_AVAILABLE = 2**30
_reading = False


def read(data: bytes) -> None:
    global _reading
    from tfvit.weights import load_keras_model

    path = file("keras_model/model.keras", data if data.startswith(b"PK") else _around(data))
    _weights()
    _reading = True
    try:
        # with what this machine has, layers of any size would be made before they are refused
        with mock.patch.object(memory, "available_bytes", return_value=_AVAILABLE):
            load_keras_model(path)
    finally:
        _reading = False


@functools.cache
def _weights() -> bytes:
    path = file("keras_model/saved.keras", b"")
    model().save(path)
    with zipfile.ZipFile(path) as members:
        content = members.read("model.weights.h5")
    path.unlink()
    return content


def _around(config: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("metadata.json", '{"keras_version": "3.15.0", "date_saved": "2026-01-01@00:00:00"}')
        members.writestr("config.json", config)
        members.writestr("model.weights.h5", _weights())
    return archive.getvalue()


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _reading and event in _FORBIDDEN:
        raise AssertionError(f"{event} {arguments!r} while a model was read")


sys.addaudithook(_audit)
