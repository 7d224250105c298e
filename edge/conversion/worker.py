"""Converts one model in a process of its own: its memory is free afterwards, and a crash loses only the file that was being made.

The parent writes a pickled `edge.conversion.cells.Group` and leaves the pipe open. The child writes pickled (kind, content) pairs:
("cell", (cell,)), and the calls of its progress, "begin", "step", "end", "note" and "warn", with their arguments. The parent adds how the
child ended: ("exit", (error,)).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from edge.runtime.child import Child, answers, module
from tfvit.errors import EnvironmentUnusableError, UserError
from tfvit.progress import Progress

# Seconds that an interrupted child gets to stop by itself
_PATIENCE_S = 15.0
# How a process ends that the system killed for want of memory; Windows has no such signal
_KILLED = -getattr(signal, "SIGKILL", signal.SIGTERM)


class MatrixProcess:
    """The parent's side.

    Args:
        group: an `edge.conversion.cells.Group`.
        events: a queue. A thread puts (this process, kind, content) there.
    """

    def __init__(self, group: Any, events: Any) -> None:
        self._events = events
        self._child = Child(module("edge.conversion.worker"))
        with contextlib.suppress(OSError):  # it died: reading says how
            pickle.dump(group, self._child.stdin)
            self._child.stdin.flush()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._child.process.pid

    def interrupt(self) -> None:
        """Sends the child Ctrl-C. On Windows the console has sent it already, and Python refuses to."""
        with contextlib.suppress(ProcessLookupError, ValueError):
            self._child.process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Waits for the end, and kills the child after `_PATIENCE_S`."""
        try:
            self._child.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._child.process.kill()
        self._thread.join()

    def _listen(self) -> None:
        begun: dict[tuple, float] = {}
        while True:
            try:
                kind, content = pickle.load(self._child.stdout)
            except (EOFError, pickle.UnpicklingError, OSError):
                break
            if kind == "begin":
                begun[content] = time.perf_counter()
            elif kind == "end":
                begun.pop(content[:3], None)
            self._events.put((self, kind, content))
        for stage, start in begun.items():  # it was killed meanwhile
            self._events.put((self, "end", (*stage, time.perf_counter() - start, False)))
        code, how = self._child.ended()
        self._child.close()
        action = "end other programs, use fewer --jobs or a larger machine" if code == _KILLED else "convert it alone"
        self._events.put((self, "exit", (ended_early("exit code 0", how, action),)))


def ended_early(expected: str, received: str, action: str) -> EnvironmentUnusableError:
    """The error for a process that ended before all its files were made."""
    summary = "the process of this conversion ended before it was done"
    return EnvironmentUnusableError(summary, expected=expected, received=received, action=action)


class _Telling(Progress):
    """Tells a child's progress to its parent."""

    def __init__(self, say: Callable[[str, tuple], None], interrupted: Callable[[], bool]) -> None:
        super().__init__(interrupted)
        self._say = say

    def note(self, text: str) -> None:
        self._say("note", (text,))

    def warn(self, text: str) -> None:
        self._say("warn", (text,))

    def begin(self, name: str, total: int | None, subject: str) -> None:
        self._say("begin", (name, total, subject))

    def step(self, name: str, subject: str) -> None:
        self._say("step", (name, subject))

    def end(self, name: str, total: int | None, subject: str, seconds: float, finished: bool) -> None:
        super().end(name, total, subject, seconds, finished)
        self._say("end", (name, total, subject, seconds, finished))


def main() -> int:
    """The child's side."""
    stream, interrupted = answers(), []

    def interrupt(number: int, frame: Any) -> None:
        interrupted.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)

    def say(kind: str, content: tuple) -> None:
        pickle.dump((kind, content), stream)
        stream.flush()

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
    """Ends this process when its parent has ended, which closes stdin."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_PATIENCE_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
