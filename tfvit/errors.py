"""The errors a user can cause: one base class, three parts, one exit code each.

Every message says what was expected, what was received and what to do next, in at most four lines. A failed *check* (drift gate,
validation) is a result with exit code 1 and never an exception.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

EXIT_OK, EXIT_CHECK_FAILED, EXIT_USAGE, EXIT_UNUSABLE = 0, 1, 2, 3
EXIT_BUG, EXIT_INTERRUPTED = 70, 130
# Characters of one part of a message: room for the name of every tensor of a large model. Of longer ones, a hostile file's own words, the
# middle is left out.
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
        """For the way from one process to another."""
        return _again, (type(self), dict(vars(self)))


class UsageError(UserError):
    """The command or call itself is wrong: unknown variant, recipe, flag or combination (exit 2)."""

    exit_code = EXIT_USAGE


class InputError(UserError):
    """A file or folder given by the user cannot be used (exit 3)."""


class WeightsError(UserError):
    """Weights cannot be had, or do not belong to the model (exit 3)."""


class EnvironmentUnusableError(UserError):
    """The machine lacks what the command needs: memory, disk, a package, a device (exit 3)."""


def unknown_name(kind: str, received: str, known: Iterable[str], **facts: Any) -> UsageError:
    """A `UsageError` for a misspelt name, with the near misses named."""
    known = list(known)
    near = difflib.get_close_matches(received, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "choose one of the names above"
    return UsageError(f"unknown {kind}", expected="one of " + ", ".join(known), received=repr(received), action=hint, near=near, **facts)


def _again(kind: type[UserError], parts: dict[str, Any]) -> UserError:
    parts.pop("__notes__", None)
    return kind(parts.pop("summary"), **parts)


def printable(text: str) -> str:
    """Text from outside for the eye: control characters, line ends and undecodable bytes escaped, so that a terminal takes no orders."""
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)


def _one_line(text: str) -> str:
    line = printable(" ".join(str(text).split()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST * 3 // 4]} … {line[-_LONGEST // 4 :]}"
