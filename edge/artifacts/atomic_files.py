"""Writes files completely or not at all, and only over files of ours: staged beside their place, synced, renamed."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfvit.errors import EnvironmentUnusableError, in_the_way, no_such_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# A PNG begins with 8 bytes of signature and 25 of its header chunk; a text chunk behind them says who drew it
PNG_HEADER_BYTES = 33
_TEXT = b"tEXtSoftware\0tfvit edge"
_PICTURE_MARK = (len(_TEXT) - 4).to_bytes(4, "big") + _TEXT + zlib.crc32(_TEXT).to_bytes(4, "big")
# How the names of staged files begin and end
_STAGED, _STAGED_NAMES = (".edge-", ".tmp"), ".edge-????????.tmp"
# Errors of file systems without locks, as some network file systems are
_NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK)
# In the head of every page and Markdown text of ours
TEXT_MARK, _MARK_WITHIN = "tfvit edge.report", 256


@contextlib.contextmanager
def prepared_folder(folder: Path) -> Iterator[None]:
    """Makes a folder for artifacts and checks that it can be written to, before any long work. A new folder that stays empty is removed.

    Raises:
        EnvironmentUnusableError: the folder cannot be made or written to.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder), contextlib.ExitStack() as cleanup:
            stage(folder, b"", cleanup)
    except OSError as error:
        raise EnvironmentUnusableError(
            "the output directory cannot be written to",
            expected="a directory that exists or can be made, with write permission",
            received=f"{folder}: {error.strerror or error}",
            action="choose another directory with --out",
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the first one that holds something
            for one in missing:
                one.rmdir()


def save_picture(folder: Path, name: str, png: bytes, force: bool = False) -> Path:
    """Writes NAME.png completely or not at all. A picture that we did not draw is not overwritten.

    Raises:
        InputError: such a picture is in the way, and `force` is off.
        EnvironmentUnusableError: the folder cannot be written to, or the disk is full.
    """
    path = folder / f"{name}.png"
    marked = png[:PNG_HEADER_BYTES] + _PICTURE_MARK + png[PNG_HEADER_BYTES:]
    with writing("picture", len(marked), folder):
        foreign = path.exists() and not force and _PICTURE_MARK not in path.read_bytes()[:256]
    if foreign:
        raise in_the_way(path, "an older one of ours", "a picture that edge did not draw")
    save_bytes(path, marked, "picture")
    return path


def utf8_name(path: Path) -> str:
    """A file's name for a document; bytes that are no UTF-8 are escaped."""
    return path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def require_replaceable(path: Path, kind: str) -> None:
    """Checks that a JSON document can be written, before any long work: the path is free, or holds a document of the same kind.

    Raises:
        InputError: there is no such folder, or the path holds something else.
        EnvironmentUnusableError: the folder cannot be written to.
    """
    if not path.parent.is_dir():
        raise no_such_folder(path.parent)
    with writing(kind, 0, path.parent), locked(path.parent), contextlib.ExitStack() as cleanup:
        stage(path.parent, b"", cleanup)
    if not path.exists():
        return
    try:
        found = _kind(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        found = None
    if found != kind:
        raise in_the_way(path, f"an older {kind} of ours")


def save_document(path: Path, document: dict[str, Any]) -> None:
    """Writes a JSON document that names its `kind` completely or not at all, after `require_replaceable`.

    Raises:
        InputError: there is no such folder, or the path holds something else.
        EnvironmentUnusableError: the folder cannot be written to, or the disk is full.
    """
    require_replaceable(path, document["kind"])
    save_bytes(path, (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(), document["kind"])


def save_bytes(path: Path, data: bytes, what: str) -> None:
    """Writes a file completely or not at all, over any file that is there.

    Raises:
        EnvironmentUnusableError: the folder cannot be written to, or the disk is full.
    """
    with writing(what, len(data), path.parent), locked(path.parent), contextlib.ExitStack() as cleanup:
        os.replace(stage(path.parent, data, cleanup), path)


def save_texts(texts: Mapping[Path, str], force: bool = False, mark: str = TEXT_MARK) -> None:
    """Writes documents together, all of them or none. Only documents of ours are overwritten: JSON of the same `kind`, and a page or text
    with the mark near its start.

    Args:
        texts: path -> JSON that names its `kind`, or text with the mark.
        force: overwrites other files too.
        mark: what a text of ours has near its start.

    Raises:
        InputError: another file is in the way, and `force` is off.
        EnvironmentUnusableError: a folder cannot be written to, or the disk is full.
    """
    for path, text in texts.items():
        with writing("document", len(text), path.parent):
            foreign = path.exists() and not force and not _is_our_text(path.read_text(encoding="utf-8", errors="replace"), text, mark)
        if foreign:
            action = "move it away, choose another name, or overwrite it with --force"
            raise in_the_way(path, "an older one of ours", "a file that edge did not write", action)
    with writing("document", sum(map(len, texts.values())), path.parent), contextlib.ExitStack() as cleanup:
        for folder in sorted({path.parent.resolve() for path in texts}):
            cleanup.enter_context(locked(folder))
        for temporary, path in [(stage(path.parent, text.encode(), cleanup), path) for path, text in texts.items()]:
            os.replace(temporary, path)


def _is_our_text(old: str, new: str, mark: str) -> bool:
    if mark in new[:_MARK_WITHIN]:
        return mark in old[:_MARK_WITHIN]
    kind = _kind(new)
    return kind is not None and kind == _kind(old)


def _kind(text: str) -> str | None:
    """The `kind` of a JSON document; None for any other text."""
    try:
        return str(json.loads(text)["kind"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


@contextlib.contextmanager
def writing(what: str, size_bytes: int, folder: Path, action: str = "free space or choose another directory") -> Iterator[None]:
    """Raises `EnvironmentUnusableError` for an `OSError` inside the `with`: the folder cannot be written to, or the disk is full."""
    try:
        yield
    except OSError as error:
        raise EnvironmentUnusableError(
            f"the {what} could not be written",
            expected=f"{size_bytes / 1e6:.1f} MB of free space and write permission in {folder}",
            received=error.strerror or str(error),
            action=action,
        ) from error


def stage(folder: Path, data: bytes, cleanup: contextlib.ExitStack) -> str:
    """A synced temporary file beside its destination, removed unless it is renamed. The folder must be `locked`."""
    handle, path = tempfile.mkstemp(dir=folder, prefix=_STAGED[0], suffix=_STAGED[1])
    cleanup.callback(lambda: Path(path).unlink(missing_ok=True))
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)
    return path


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds an exclusive lock on the folder itself, and removes what a killed process had staged there.

    By hand, since the package filelock locks a file of its own and leaves it in the user's folder.
    """
    if fcntl is None:  # Windows: renames stay atomic there, only the order between processes is open
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        else:
            for leftover in folder.glob(_STAGED_NAMES):  # whoever stages holds the lock: these have no owner
                leftover.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder for large files, and for all temporary files inside the `with` (TensorFlow writes the code that it traces).

    A process holds a lock on its folder. Folders that can be locked belong to killed processes and are removed first.
    """
    if fcntl is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    prefix = f"tfvit-{os.getuid()}-"
    with contextlib.ExitStack() as cleanup:
        for leftover in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
            with contextlib.suppress(OSError), _locked_at_once(leftover):
                shutil.rmtree(leftover, ignore_errors=True)
        while True:
            folder = Path(tempfile.mkdtemp(prefix=prefix))
            try:
                cleanup.enter_context(_locked_at_once(folder))
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    break
            if folder.is_dir():  # else another process took it for a leftover, before it was locked
                break
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        cleanup.callback(setattr, tempfile, "tempdir", tempfile.tempdir)
        tempfile.tempdir = str(folder)
        yield folder


@contextlib.contextmanager
def _locked_at_once(folder: Path) -> Iterator[None]:
    """Locks a folder without waiting; OSError if another process holds the lock, or the file system has no locks."""
    assert fcntl is not None
    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Syncs the names in a folder to the disk, if the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_DPI = 110


def png(figure: Any) -> bytes:
    """A matplotlib figure as PNG, without date and version."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()
