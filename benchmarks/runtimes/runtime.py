"""What the driver knows of a runtime: what it is called, what it should run, how to get it and how to call it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "runtimes"


class UnavailableError(Exception):
    """The runtime cannot be had on this machine; the message is the reason."""


@dataclasses.dataclass(frozen=True)
class Runtime:
    """One runtime on one kind of machine.

    Attributes:
        name, version: as its registry has them.
        machine: what it runs on, until it says more itself.
        recipes: by variant.
        prepare: fetches what it needs; raises `UnavailableError`.
        command: of one file; the names of the file, its inputs and its outputs follow. It prints a report (see `interpret.py`).
        environment: variables for the command.
        reads_min_runtime: whether `min_runtime_version` counts in this runtime's own versions.
    """

    name: str
    version: str
    machine: str
    recipes: Mapping[str, Sequence[str]]
    prepare: Callable[[], None]
    command: Callable[[], Sequence[str]]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    reads_min_runtime: bool = False


def fetch(*command: str | Path, **environment: str) -> None:
    """Runs one step of preparing.

    Raises:
        UnavailableError: it failed, or the program is not there.
    """
    try:
        done = subprocess.run([*map(str, command)], env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UnavailableError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise UnavailableError(f"{Path(command[0]).name} failed: {last_line(done.stderr) or last_line(done.stdout)}")


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
