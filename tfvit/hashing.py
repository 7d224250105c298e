"""SHA-256 of files."""

from __future__ import annotations

import hashlib
import os


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The hash in hexadecimal digits. The file is read piece by piece.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()
