"""Child processes: the parent starts one and hears how it ended; the child answers on stdout.

Imports only the standard library: benchmarks load this module in the environments of other runtimes, which lack the packages of tfvit.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, cast

_MOST_CHARACTERS = 300
# What libraries say while all is well, and words of what ends a process
_MESSAGE = re.compile(r"^(INFO|VERBOSE|WARNING|Warning)\b|^[IW]\d{4} ")
_ERROR = re.compile(r"error|fatal|invalid|check fail|assert|terminate called|what\(\)|exception|^[EF]\d{4} ", re.IGNORECASE)


class Child:
    """A running child process; close it, or use it in a `with`.

    The child has a session of its own, so that Ctrl-C reaches only the parent. It imports the same copy of `edge` as its parent.

    Args:
        command: program and arguments, for example `module("edge.runtime.sandbox", "run")`.

    Attributes:
        process, stdin, stdout: of the child. The pipes carry bytes.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed in close()
        path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
        pipe, environment = subprocess.PIPE, {**os.environ, "PYTHONPATH": path}
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._log, env=environment, start_new_session=True)
        self.stdin, self.stdout = cast(IO[bytes], self.process.stdin), cast(IO[bytes], self.process.stdout)

    def ended(self) -> tuple[int, str]:
        """Waits for the end. Returns the exit code (minus a signal's number) and, for example, "signal SIGSEGV: last line of stderr"."""
        code = self.process.wait()
        self._log.seek(0)
        last = last_error(self._log.read().decode(errors="replace"))[:_MOST_CHARACTERS]
        if code >= 0:
            return code, f"exit code {code}: {last}"
        name = signal.Signals(-code).name
        return code, f"signal {name}: {'killed, perhaps for want of memory' if name == 'SIGKILL' else last}"

    def close(self) -> None:
        """Kills the process if it still runs."""
        self.process.kill()
        self.process.wait()
        for stream in (self.stdin, self.stdout, self._log):
            with contextlib.suppress(OSError):  # the child may have closed its end with something left unsent
                stream.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def last_error(printed: str) -> str:
    """The line of a native log that says why a process ended: the last one that is no message, an error before others."""
    lines = [line for line in map(str.strip, printed.splitlines()) if line]
    errors = [line for line in lines if _ERROR.search(line) and not _MESSAGE.match(line)]
    rest = [line for line in lines if not _MESSAGE.match(line)]
    return (errors or rest or lines or ["it printed nothing"])[-1]


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module with this Python."""
    return [sys.executable, "-m", name, *arguments]


def answers() -> IO[bytes]:
    """The child's stdout, reserved for answers: what native code prints from now on goes to stderr."""
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return stream


def answering() -> Callable[[dict[str, Any]], None]:
    """A function for the child that answers with one line of JSON."""
    stream = answers()

    def say(answer: dict[str, Any]) -> None:
        stream.write(json.dumps(answer).encode() + b"\n")
        stream.flush()

    return say


def noise(tensors: dict[str, Any]) -> dict[str, Any]:
    """An input for each tensor, by its name always the same: pixels 0..255 for images, 0..7 for integers, else standard normal numbers."""
    import numpy as np

    values = {}
    for name, tensor in tensors.items():
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        if len(tensor.shape) == 4 and tensor.shape[-1] == 3:
            values[name] = generator.integers(0, 256, tensor.shape).astype(np.float32)
        elif tensor.dtype.kind in "iu" and not tensor.scale:
            values[name] = generator.integers(0, 8, tensor.shape)
        else:
            values[name] = generator.standard_normal(tensor.shape).astype(np.float32)
    return values
