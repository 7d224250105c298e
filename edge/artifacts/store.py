"""The cache: results of one run that another run can use, found by a key.

A key is the hash of everything that an entry depends on, so no entry is ever out of date. A stopped run continues by finding its own
entries. Each entry holds its hash; a damaged entry is made again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from edge.artifacts.atomic_files import locked
from tfvit.errors import UsageError
from tfvit.extras import require_extra

# tiny224 in every recipe takes 0.34 GB of it (32 calibration images); the largest variants have seven times its weights, and more constants
LIMIT_BYTES = 10 * 2**30


FOLDER_VARIABLE, LIMIT_VARIABLE = "TFVIT_CACHE", "TFVIT_CACHE_GIB"


# An entry begins with a line of JSON that says what it is
_HEADER_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file of the cache.

    Attributes:
        kind: for example "float file".
        subject: the model or file that the entry belongs to.
        size_bytes: on disk.
        used: when it was last written or read, in seconds since 1970.
        path: of the file.
    """

    kind: str
    subject: str
    size_bytes: int
    used: float
    path: Path


class Store:
    """Bytes by key, each in a file of its own. Any number of processes may share a folder.

    Args:
        folder: None keeps nothing.
        limit_bytes: the size to which `prune` reduces the folder.
    """

    def __init__(self, folder: Path | None, limit_bytes: int = LIMIT_BYTES) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes

    def __contains__(self, key: str) -> bool:
        return self._folder is not None and _path(self._folder, key).is_file()

    def read(self, key: str) -> bytes | None:
        """The bytes of an entry; None if there is none. A damaged entry is removed."""
        if self._folder is None:
            return None
        path = _path(self._folder, key)
        try:
            with open(path, "rb") as file:
                header, content = _header(file.readline(_HEADER_BYTES)), file.read()
            if header.get("key") != key or header.get("sha256") != hashlib.sha256(content).hexdigest():
                path.unlink(missing_ok=True)
                return None
            os.utime(path)
        except OSError:
            return None
        return content

    def write(self, key: str, content: bytes, kind: str, subject: str) -> None:
        """Writes an entry. A disk that refuses is no error: the entry is made again when it is needed."""
        if self._folder is None or len(content) > self._limit_bytes:
            return
        header = json.dumps({"key": key, "sha256": hashlib.sha256(content).hexdigest(), "kind": kind, "subject": subject[:200]})
        path, temporary = _path(self._folder, key), None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
            with os.fdopen(handle, "wb") as file:
                file.write(header.encode() + b"\n")
                file.write(content)
            os.replace(temporary, path)
        except BaseException as error:  # Ctrl-C too
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            if not isinstance(error, OSError):
                raise

    def made(self, key: str, make: Callable[[], bytes], kind: str, subject: str) -> bytes:
        """The entry, made if it is missing. If several processes want it at once, one makes it and the others wait."""
        content = self.read(key)
        if content is None:
            with self._turn(key):
                content = self.read(key)
                if content is None:
                    content = make()
                    self.write(key, content, kind, subject)
        return content

    def prune(self) -> None:
        """Removes the least recently used files, until the rest is within the limit."""
        files = self._files()
        excess = sum(size for _, size, _ in files) - self._limit_bytes
        for _, size, path in sorted(files):
            if excess <= 0:
                return
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            excess -= size

    def entries(self) -> list[Entry]:
        """All entries, the last used first."""
        found = []
        for used, size, path in sorted(self._files(), reverse=True):
            try:
                with open(path, "rb") as file:
                    header = _header(file.readline(_HEADER_BYTES))
            except OSError:  # another process removed it
                continue
            found.append(Entry(str(header.get("kind", "unfinished")), str(header.get("subject", "")), size, used, path))
        return found

    def _files(self) -> list[tuple[float, int, Path]]:
        """(last use, bytes, path) of every file, half-written files of killed processes included."""
        if self._folder is None or not self._folder.is_dir():
            return []
        found = []
        for path in self._folder.glob("[0-9a-f][0-9a-f]/*"):
            with contextlib.suppress(OSError):  # another process removed it
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return found

    @contextlib.contextmanager
    def _turn(self, key: str) -> Iterator[None]:
        """Waits until no other process makes the entry. The turn of a killed process ends with it."""
        if self._folder is None:
            yield
            return
        folder = _path(self._folder, key).parent
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # without a folder, each process makes the entry for itself
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(folder))
            yield


def _path(folder: Path, key: str) -> Path:
    return folder / key[:2] / key


def default_folder() -> Path:
    """TFVIT_CACHE, or the system's cache folder for this user."""
    if os.environ.get(FOLDER_VARIABLE):
        return Path(os.environ[FOLDER_VARIABLE])
    require_extra("edge", "the cache folder", "platformdirs", otherwise=f", or set {FOLDER_VARIABLE}")
    import platformdirs

    return Path(platformdirs.user_cache_dir("tfvit"))


def open_store(folder: Path | None = None) -> Store:
    """The store in a folder, by default `default_folder`, with the limit of TFVIT_CACHE_GIB.

    Raises:
        UsageError: TFVIT_CACHE_GIB is no size.
    """
    text = os.environ.get(LIMIT_VARIABLE)
    try:
        limit = LIMIT_BYTES if text is None else int(float(text) * 2**30)
    except (ValueError, OverflowError):
        limit = -1
    if limit < 0:
        raise UsageError(
            "unusable cache limit", expected=f"{LIMIT_VARIABLE}=GIB, a number from 0", received=repr(text), action="change or unset it"
        )
    return Store(folder or default_folder(), limit)


def _header(line: bytes) -> dict[str, str]:
    try:
        header = json.loads(line)
    except ValueError:
        return {}
    return header if isinstance(header, dict) else {}
