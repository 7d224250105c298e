"""A `.pth` checkpoint: the whole zip, or, where the bytes are none, the pickle in one (behind the zip's checksums nothing else reaches it).

Nothing of the file's choosing may run: imports, calls and new processes while reading are findings of their own.
"""

import io
import sys
import zipfile

from fuzz.target import file
from tfvit.torch_checkpoint import read_torch_checkpoint

_STORAGE = bytes(range(48))
_FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class", "socket.connect")
_reading = False


def read(data: bytes) -> None:
    global _reading
    path = file("torch_checkpoint/checkpoint.pth", data if data.startswith(b"PK") else _around(data))
    _reading = True
    try:
        read_torch_checkpoint(path, max_bytes=1 << 24)
    finally:
        _reading = False


def _around(program: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("archive/data.pkl", program)
        members.writestr("archive/byteorder", "little")
        members.writestr("archive/data/0", _STORAGE)
    return archive.getvalue()


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _reading and event in _FORBIDDEN:
        raise AssertionError(f"{event} {arguments!r} while a checkpoint was read")


sys.addaudithook(_audit)
