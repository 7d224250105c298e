"""The commands as Python functions: `edge.convert("nano32", "int8")` beside `python -m edge.convert`.

A command's module can be called: importing a submodule sets the package's attribute of its name to the module, so a function of the same
name would be lost to whoever imports `edge.convert.parser` (docs/decisions/0025).
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfvit.errors import UsageError
from tfvit.progress import heard_already, reporting

if TYPE_CHECKING:
    import argparse

    from tfvit.terminal import Terminal

Table = tuple[Sequence[str], Sequence[Sequence[str]], Sequence[str]]
"""Column titles, rows, and the lines below them."""


def make_callable(module_name: str, function: Callable[..., Any]) -> None:
    """Calling the module calls the function; signature and help are the function's."""

    class CallableModule(types.ModuleType):
        __call__ = staticmethod(function)

        @property
        def __signature__(self) -> inspect.Signature:
            return inspect.signature(function)

    sys.modules[module_name].__class__ = CallableModule


def paths_of(files: Any) -> list[Path]:
    """The `.tflite` files of one or several paths or artifacts.

    Raises:
        UsageError: an artifact that was not written.
    """
    several = [files] if isinstance(files, str | Path) or hasattr(files, "manifest") else list(files)
    paths = [getattr(file, "path", None) if hasattr(file, "manifest") else Path(file) for file in several]
    for file, path in zip(several, paths, strict=True):
        if path is None:
            raise UsageError(
                "an artifact that lies in no file",
                expected="one that was written",
                received=f"{file!r}",
                action="convert it with gate=False, or mend what it missed",
            )
    return [path for path in paths if path is not None]


@contextlib.contextmanager
def progress_on_stderr(quiet: bool) -> Iterator[None]:
    """Progress of a call from Python, on stderr as the commands show it; not where a command hears it already."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow writes dozens of lines that nobody can use
    if quiet or heard_already():
        yield
        return
    from tfvit.terminal import TerminalProgress

    with reporting(TerminalProgress(sys.stderr)):
        yield


def called(function: Callable[..., Any], arguments: argparse.Namespace, terminal: Terminal) -> Any:
    """What the command's function gives, called with its flags; its progress goes to the terminal."""
    given = {name: value for name, value in vars(arguments).items() if name not in ("json", "quiet", "debug")}
    with reporting(terminal.progress):
        return function(**given)


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """What a command found. Its `repr` is the command's table.

    Attributes:
        document: the same as JSON, as the command prints it with --json.
    """

    document: dict[str, Any]

    def table(self) -> Table:
        raise NotImplementedError

    def __repr__(self) -> str:
        from tfvit.terminal_table import rendered

        return rendered(*self.table())
