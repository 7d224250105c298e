"""Tables and text as a terminal shows them, or a file where nobody looks."""

from __future__ import annotations

import io
import re
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

from tfvit.errors import printable

# Characters of a line where nobody looks: files, pipes, notebooks
WIDTH_OF_FILES = 200


def rendered(columns: Sequence[str], rows: Sequence[Sequence[str]], closing: Sequence[str] = ()) -> str:
    """A table and its closing lines as text."""
    text = io.StringIO()
    print_table(new_console(file=text, width=WIDTH_OF_FILES), columns, rows, closing)
    return text.getvalue().rstrip()


def new_console(**options: Any) -> Any:
    """rich's console; one that tells a closed pipe from a failed check, which rich ends with the same exit code."""
    from rich.console import Console

    class OurConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return OurConsole(highlight=False, **options)


def print_table(console: Any, columns: Sequence[str], rows: Sequence[Sequence[str]], closing: Sequence[str]) -> None:
    """As a table; a row below the other where the terminal is too narrow for whole words side by side."""
    from rich import box
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for position, column in enumerate(columns):
        edge = position in (0, len(columns) - 1)
        table.add_column(column, justify="left" if edge else "right", overflow="fold", no_wrap=position == 0)
    for row in rows:
        table.add_row(*(_coloured(cell) for cell in row))
    if console.measure(table, options=console.options.update(width=1000)).minimum <= console.width:
        console.print(table)
    else:
        for name, *cells in rows:
            console.print(Text(printable(name)), soft_wrap=True)
            figures = [f"{column} {printable(cell)}" for column, cell in zip(columns[1:], cells, strict=True) if cell]
            console.print(Padding(Text(", ".join(figures)), (0, 0, 1, 2)))
    for line in closing:
        console.print(fitted(printable_lines(line), console.file), markup=False, soft_wrap=True)


# The first word of a cell that says how something ended -> its colour on a terminal
_COLOURS = {
    **dict.fromkeys(("passed", "written", "current", "done", "ok", "valid", "whole", "equal"), "green"),
    **dict.fromkeys(("refused", "failed", "wrong", "error", "missing", "tampered"), "bold red"),
}


def _coloured(cell: str) -> Any:
    from rich.text import Text

    text = printable(cell)
    word = re.split(r"[\s,:(]", text, maxsplit=1)[0]
    style = "yellow" if "not valid" in text else _COLOURS.get(word, "")
    return Text(text, style=style)


def fitted(text: str, stream: Any) -> str:
    """The lines of a text broken between words where a terminal would break them inside; elsewhere as they are."""
    if not getattr(stream, "isatty", bool)():
        return text
    width = shutil.get_terminal_size().columns
    return "\n".join(fitted_line(line, width) for line in text.split("\n"))


def fitted_line(line: str, width: int) -> str:
    """One line broken between words, what follows indented by two more."""
    if len(line) <= width or line.lstrip().startswith("|"):  # the rows of a Markdown table stay whole
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, replace_whitespace=False)


def printable_lines(text: str) -> str:
    """Text of several lines, each of them `printable`."""
    return "\n".join(map(printable, text.split("\n")))
