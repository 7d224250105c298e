"""The errors a user can cause, each with an exit code.

Every message has at most four lines: a summary, what was expected, what was received, what to do next. A failed check (drift gate,
validation) is a result with exit code 1 and never an exception. Errors that are raised in many places have a function each below.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

EXIT_OK, EXIT_CHECK_FAILED, EXIT_USAGE, EXIT_UNUSABLE = 0, 1, 2, 3
EXIT_BUG, EXIT_INTERRUPTED = 70, 130
# As shells report a program that SIGPIPE ended: whoever read its output wanted no more
EXIT_CLOSED_PIPE = 141
# Characters of one part of a message: room for the name of every tensor of a large model. Longer parts, such as the words of a hostile
# file, lose their middle.
_LONGEST = 1 << 15


class UserError(Exception):
    """Something a user can mend.

    Args:
        summary: one line naming what went wrong.
        expected: what would have been right.
        received: what came instead.
        action: what to do next.
        facts: further attributes of the error, readable as `error.NAME`.
    """

    exit_code = EXIT_UNUSABLE

    def __init__(self, summary: str, *, expected: str, received: str, action: str, **facts: Any) -> None:
        self.summary, self.expected, self.received, self.action = (_one_line(part) for part in (summary, expected, received, action))
        for name, value in facts.items():
            setattr(self, name, value)
        super().__init__(f"{self.summary}\n  expected: {self.expected}\n  received: {self.received}\n  do: {self.action}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets the error travel from one process to another."""
        return _again, (type(self), dict(vars(self)))


class UsageError(UserError):
    """The command or call itself is wrong: unknown variant, recipe, flag or combination (exit 2)."""

    exit_code = EXIT_USAGE


class InputError(UserError):
    """A file or folder given by the user cannot be used (exit 3)."""


class WeightsError(UserError):
    """Weights are missing, unreadable, or belong to another model (exit 3)."""


class EnvironmentUnusableError(UserError):
    """The machine lacks what the command needs: memory, disk, a package, a device (exit 3)."""


def unknown_name(kind: str, received: str, known: Iterable[str], **facts: Any) -> UsageError:
    """The error for a misspelt name; the action names similar ones ("did you mean tiny224?")."""
    known = list(known)
    near = difflib.get_close_matches(received, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "choose one of the names above"
    return UsageError(f"unknown {kind}", expected="one of " + ", ".join(known), received=repr(received), action=hint, near=near, **facts)


@contextlib.contextmanager
def reading(
    path: Path | str,
    expected: str,
    what: str = "file",
    action: str = "check the path",
    kind: type[UserError] = InputError,
    errors: type[Exception] | tuple[type[Exception], ...] = (OSError, ValueError),
) -> Iterator[None]:
    """Raises one error of ours for a file that cannot be opened, or that holds something else.

        with reading(path, "a .tflite file"):
            data = path.read_bytes()

    Args:
        path: the file, for the message.
        expected: what the file should be.
        what: the file in one or two words, for the summary.
        action: what to do next.
        kind: the error to raise.
        errors: what may be raised inside the `with`.
    """
    try:
        yield
    except errors as error:
        # an OSError's own text repeats the path
        received = f"{path}: {getattr(error, 'strerror', None) or first_line(error)}"
        raise kind(f"unreadable {what}", expected=expected, received=received, action=action) from error


def no_such_folder(path: Path, expected: str = "an existing folder", action: str = "create it, or choose another") -> InputError:
    """The error for a folder that is not there, or is a file."""
    return InputError("no such folder", expected=expected, received=str(path), action=action)


def in_the_way(path: Path, ours: str, what: str = "another file", action: str = "move it away, or choose another name") -> InputError:
    """The error for a file that would have to be overwritten and is none of ours.

    Args:
        ours: what may be overwritten, for example "an older report of ours".
    """
    return InputError(f"{what} is in the way", expected=f"no {path.name}, or {ours}", received=str(path), action=action)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where it has none; for `received`."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _again(kind: type[UserError], parts: dict[str, Any]) -> UserError:
    parts.pop("__notes__", None)
    return kind(parts.pop("summary"), **parts)


def printable(text: str) -> str:
    """Text from outside, safe to print: control characters, line ends and undecodable bytes are escaped, so that they cannot steer a
    terminal."""
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)


def _one_line(text: str) -> str:
    line = printable(" ".join(str(text).split()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST * 3 // 4]} … {line[-_LONGEST // 4 :]}"
