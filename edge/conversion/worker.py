"""A process that converts one model: memory it used is free afterwards, and its crash is the outcome of one cell and not the end of all.

The parent writes a pickled `edge.conversion.cells.Group` and leaves the pipe open; the child writes pickled (kind, content) pairs:
("stage", (name, total, subject, seconds)), ("note", (text,)), ("warn", (text,)), ("cell", (cell,)). What it ended with is the parent's to
say: ("ended", (error,)).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from tfvit.errors import EnvironmentUnusableError, UserError
from tfvit.progress import Progress

# How long a child may take to put down its work before it is killed
_PATIENCE_S = 15.0


class MatrixProcess:
    """The parent's side.

    Args:
        group: `edge.conversion.cells.Group`.
        events: (this, kind, content) are put there, from a thread.
    """

    def __init__(self, group: Any, events: Any) -> None:
        self._events = events
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed when the child has ended
        # the child finds this very edge, wherever its parent found it
        path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge.conversion.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        self._stdin, self._stdout = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)  # both are pipes
        with contextlib.suppress(OSError):  # it died: reading says how
            pickle.dump(group, self._stdin)
            self._stdin.flush()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def interrupt(self) -> None:
        """Asks it to stop."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Waits for its end, for a while."""
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._thread.join()

    def _listen(self) -> None:
        while True:
            try:
                kind, content = pickle.load(self._stdout)
            except (EOFError, pickle.UnpicklingError, OSError):
                break
            self._events.put((self, kind, content))
        code = self._process.wait()
        self._log.seek(0)
        last = (self._log.read().decode(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]
        for stream in (self._stdin, self._stdout, self._log):
            with contextlib.suppress(OSError):
                stream.close()
        self._events.put((self, "ended", (_ended(code, last),)))


def _ended(code: int, last: str) -> EnvironmentUnusableError:
    """The error for a process that did not do all it was asked."""
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    killed = code == -signal.SIGKILL
    return EnvironmentUnusableError(
        "the process of this conversion ended before it was done",
        expected="exit code 0",
        received=f"{how}: {'killed, perhaps for want of memory' if killed else last}",
        action="convert it alone" if not killed else "end other programs, use fewer --jobs or a larger machine",
    )


class _Telling(Progress):
    """Progress of a child: told to the parent."""

    def __init__(self, say: Callable[[str, tuple], None], interrupted: Callable[[], bool]) -> None:
        super().__init__(interrupted)
        self._say = say

    def note(self, text: str) -> None:
        self._say("note", (text,))

    def warn(self, text: str) -> None:
        self._say("warn", (text,))

    @contextlib.contextmanager
    def _show(self, name: str, total: int | None, subject: str) -> Iterator[Callable[[], None]]:
        start = time.perf_counter()
        yield lambda: None
        self._say("stage", (name, total, subject, time.perf_counter() - start))


def main() -> int:
    """The child's side."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what native code prints is no answer
    interrupted = []

    def interrupt(number: int, frame: Any) -> None:
        interrupted.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)

    def say(kind: str, content: tuple) -> None:
        pickle.dump((kind, content), answers)
        answers.flush()

    try:
        group = pickle.load(sys.stdin.buffer)
        threading.Thread(target=_stop_without_parent, daemon=True).start()
        from edge.conversion import cells

        for cell in cells.cells(group, _Telling(say, lambda: bool(interrupted))):
            error = cell.error
            if error is not None and not isinstance(error, UserError):
                error = cells.BugError("".join(traceback.format_exception(error)).rstrip())
            say("cell", (dataclasses.replace(cell, error=error),))
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
    return 0


def _stop_without_parent() -> None:
    """Ends this process where its parent has ended, however it did."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_PATIENCE_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
