"""What the targets of this folder have in common: where bytes become a file, and what is a fair end of reading them.

A target is a module with `read(data)`, which hands `data` to a reader as the commands do. It returns, or raises a `UserError`: anything
else is a bug. Seeds and past crashers lie in tests/fuzz/NAME; `make fuzz` looks for new ones, tests/test_fuzz_corpus.py reads the old.
"""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import tempfile
from pathlib import Path
from types import ModuleType

from tfvit.errors import UserError

CORPUS = Path(__file__).parents[1] / "tests" / "fuzz"
_LONGEST_LINE = 40_000
# Not a reader
_OTHERS = ("run", "seeds", "target", "json_mutator")


def names() -> list[str]:
    """Of all targets."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _OTHERS)


def load(name: str) -> ModuleType:
    return importlib.import_module(f"fuzz.{name}")


def corpus(name: str) -> Path:
    """Where a target's seeds and past crashers lie: its own folder, or that of the target it names."""
    return CORPUS / getattr(load(name), "SEEDS", name)


def outcome(target: ModuleType, data: bytes) -> str:
    """How reading ended: "read", or the kind of the user error. Everything else is raised."""
    try:
        target.read(data)
    except UserError as error:
        lines = str(error).splitlines()
        if not 1 <= len(lines) <= 4 or max(map(len, lines)) > _LONGEST_LINE:
            raise AssertionError(f"a message of {len(lines)} lines, {max(map(len, lines))} characters") from error
        return type(error).__name__
    return "read"


_root: str | None = None


def folder(name: str) -> Path:
    """A target's own, of this process, in memory where the system has such a place; removed when the process ends."""
    global _root
    if _root is None:
        _root = tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        atexit.register(shutil.rmtree, _root, ignore_errors=True)
    path = Path(_root) / name
    path.mkdir(exist_ok=True)
    return path


def file(path: str, data: bytes) -> Path:
    """A file of these bytes, FOLDER/NAME; the next one takes its place."""
    name = folder(os.path.dirname(path)) / os.path.basename(path)
    name.write_bytes(data)
    return name
