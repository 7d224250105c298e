"""Image files in a folder or a zip, listed by relative path and read one at a time. Nothing is unpacked to disk."""

from __future__ import annotations

import collections
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from calibration.decoding import EXTENSIONS, MAX_FILE_BYTES, UnreadableImageError
from tfvit.errors import InputError, printable


class Files:
    """Image files by relative path, with `/` between the parts.

    Attributes:
        name: the last part of the path of the folder or zip, which is the same on every machine.
        paths: of the image files, sorted.
        others: extension in lower case ("" for none) -> how many other files have it. Hidden files and __MACOSX do not count.
    """

    def __init__(self, location: Path) -> None:
        self.name = Path(os.path.abspath(location)).name or "root"
        found = {path: item for path, item in self._list(location) if not _hidden(path)}
        self.paths = sorted(path for path in found if _extension(path) in EXTENSIONS)
        self.others = collections.Counter(_extension(path) for path in found if _extension(path) not in EXTENSIONS)
        self._found = {path: found[path] for path in self.paths}

    def read(self, path: str) -> bytes:
        """The bytes of one of `paths`.

        Raises:
            UnreadableImageError: the file is gone, not readable, encrypted, damaged, or larger than MAX_FILE_BYTES.
        """
        try:
            return self._read(self._found[path])
        except UnreadableImageError:
            raise
        except Exception as error:  # zipfile passes on the errors of every compression library
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
            raise UnreadableImageError(f"cannot be read: {reason}") from error

    def _list(self, location: Path) -> Iterator[tuple[str, Any]]:
        raise NotImplementedError

    def _read(self, item: Any) -> bytes:
        raise NotImplementedError


class FolderFiles(Files):
    """The files in a folder and its subfolders. Links are followed, each folder once."""

    def _list(self, location: Path) -> Iterator[tuple[str, str]]:
        yield from _walk(os.fspath(location), "", set())

    def _read(self, item: str) -> bytes:
        with open(item, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        _check_size(len(content))
        return content


class ZipFiles(Files):
    """The members of a zip, which stays open. A single folder around all members, as file managers add it, is not part of the paths."""

    def _list(self, location: Path) -> Iterator[tuple[str, zipfile.ZipInfo]]:
        try:
            self._zip = zipfile.ZipFile(location)
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise InputError(
                f"cannot open {printable(location.name)} as a zip",
                expected="a folder, or a zip of images",
                received=str(error),
                action="check the file, or unpack it and name the folder",
            ) from error
        members = {}
        for member in self._zip.infolist():
            parts = [part for part in member.filename.replace("\\", "/").split("/") if part not in ("", ".", "..")]
            if parts and not member.is_dir() and not _hidden("/".join(parts)):
                members[tuple(parts)] = member
        if len({parts[0] for parts in members}) == 1 and all(len(parts) > 1 for parts in members):
            members = {parts[1:]: member for parts, member in members.items()}
        for parts, member in members.items():
            yield "/".join(parts), member

    def _read(self, item: zipfile.ZipInfo) -> bytes:
        _check_size(item.file_size)  # zipfile never gives more than the size it announces
        return self._zip.read(item)


def open_files(location: Path) -> Files:
    """The image files at a path.

    Raises:
        InputError: the path is neither a folder nor a zip.
    """
    if location.is_dir():
        return FolderFiles(location)
    if location.is_file() and (location.suffix.lower() == ".zip" or zipfile.is_zipfile(location)):
        return ZipFiles(location)
    raise InputError(
        "no image set there",
        expected="a folder or a .zip of images, or builtin",
        received=f"{printable(os.fspath(location))} ({'a file of another kind' if location.exists() else 'which does not exist'})",
        action="check the path",
    )


def _walk(folder: str, prefix: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            "cannot list a folder of the image set",
            expected="a folder that may be read",
            received=f"{printable(prefix or folder)}: {error.strerror}",
            action="change its permissions, or move it elsewhere",
        ) from error
    for entry in entries:
        path = prefix + entry.name
        if _hidden(entry.name):
            continue
        if entry.is_dir():
            yield from _walk(entry.path, path + "/", seen)
        elif entry.is_file():  # no pipes or devices, no broken links
            yield path, entry.path


def _hidden(path: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _check_size(size_bytes: int) -> None:
    if size_bytes > MAX_FILE_BYTES:
        raise UnreadableImageError(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
