"""Progress of long work, without a word on how it is shown."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

Item = TypeVar("Item")


class Progress:
    """Counts the seconds of each stage and shows nothing. `tfvit.terminal.TerminalProgress` shows the stages.

    Work in this process uses `stage`. Work in another process is reported with `begin`, `step` and `end`, of which `stage` is made.
    """

    def __init__(self, interrupted: Callable[[], bool] = lambda: False) -> None:
        self._seconds: dict[tuple[str, str], float] = {}
        self._interrupted = interrupted

    def seconds(self, subject: str | None = None) -> dict[str, float]:
        """Stage -> seconds so far, for one subject or summed over all."""
        total: dict[str, float] = {}
        for (whose, stage), seconds in self._seconds.items():
            if subject is None or whose == subject:
                total[stage] = round(total.get(stage, 0.0) + seconds, 2)
        return total

    def seconds_line(self) -> list[str]:
        """All stages in one line; no line where nothing was timed."""
        seconds = self.seconds()
        return [f"seconds: {', '.join(f'{name} {value:.1f}' for name, value in seconds.items())}"] if seconds else []

    @contextlib.contextmanager
    def stage(self, name: str, total: int | None = None, subject: str = "") -> Iterator[Callable[[], None]]:
        """One piece of work. Gives a function to call after each of its `total` steps."""
        start, finished = time.perf_counter(), False
        self.begin(name, total, subject)
        try:
            yield lambda: self.step(name, subject)
            self.stop_where_interrupted()  # native code may have swallowed the exception
            finished = True
        finally:
            self.end(name, total, subject, time.perf_counter() - start, finished)

    def begin(self, name: str, total: int | None, subject: str) -> None:
        """Called when a stage begins."""

    def step(self, name: str, subject: str) -> None:
        """Called when a stage has done one of its steps."""

    def end(self, name: str, total: int | None, subject: str, seconds: float, finished: bool) -> None:
        """Called when a stage has ended; an error leaves it unfinished."""
        self._seconds[subject, name] = self._seconds.get((subject, name), 0.0) + seconds

    @contextlib.contextmanager
    def whole(self, steps: int) -> Iterator[Callable[[str, float, float | None], None]]:
        """All the work of a command, around its stages. Gives a function to call after each step. Its arguments are a sentence, the share
        of the work that is done, and the seconds left, if known."""
        yield lambda text, share, seconds_left: None

    def stop_where_interrupted(self) -> None:
        """Repeats a Ctrl-C that native code has swallowed.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        if self._interrupted():
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        """A sentence the user should know."""

    def warn(self, text: str) -> None:
        """A sentence the user must not miss."""


def duration(seconds: float) -> str:
    """For example "40 s", "12 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def stepping(items: Iterable[Item], advance: Callable[[], None]) -> Iterator[Item]:
    """The same items, each followed by one step of a stage."""
    for item in items:
        yield item
        advance()


# Who hears of the steps that this thread takes, and of what they are; and the innermost step's way to say that an item is done
_HEARING: ContextVar[tuple[Progress, str]] = ContextVar("hearing")
_ADVANCE: ContextVar[Callable[[], None]] = ContextVar("advance")


@contextlib.contextmanager
def reporting(progress: Progress, subject: str = "") -> Iterator[None]:
    """Everything done inside reports its steps to `progress`, as work on `subject`. For a whole call, never around a `yield`."""
    token = _HEARING.set((progress, subject))
    try:
        yield
    finally:
        _HEARING.reset(token)


@contextlib.contextmanager
def about(subject: str) -> Iterator[None]:
    """Everything done inside is work on `subject`, told to whoever hears already."""
    with reporting(current(), subject):
        yield


def heard_already() -> bool:
    """Whether somebody hears of this thread's steps."""
    return _HEARING.get(None) is not None


def current() -> Progress:
    """Whoever hears of this thread's steps; a silent one where nobody does."""
    return _HEARING.get((Progress(), ""))[0]


@contextlib.contextmanager
def step(name: str, total: int | None = None, subject: str | None = None) -> Iterator[None]:
    """One step, told to whoever hears: `with step("calibrate", total=len(images)): ... counted(images)`."""
    progress, given = _HEARING.get((Progress(), ""))
    with progress.stage(name, total, given if subject is None else subject) as advance:
        token = _ADVANCE.set(advance)
        try:
            yield
        finally:
            _ADVANCE.reset(token)


def advance() -> None:
    """One item of the innermost step is done."""
    _ADVANCE.get(lambda: None)()


def counted(items: Iterable[Item]) -> Iterator[Item]:
    """The same items; each counts for the innermost step once the next is asked for."""
    return stepping(items, _ADVANCE.get(lambda: None))


def as_step(name: str, total: Callable[..., int] | None = None) -> Callable[[Callable], Callable]:
    """Decorator: every call of the function is a step of this name.

    Args:
        total: how many items it counts, from the function's own arguments.
    """

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            with step(name, total(*arguments, **keywords) if total else None):
                return function(*arguments, **keywords)

        return wrapped

    return decorate
