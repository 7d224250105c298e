"""What a report is put together from, as data without markup: cells, tables, blocks, sections.

A table is read as a list of columns: title, value of a row, how figures are written. `table` renders them all.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from edge.report.plots import Plot

GOOD, BAD, WARN = "good", "bad", "warn"
NOTHING = "–"


@dataclasses.dataclass(frozen=True)
class Cell:
    """The text of a cell.

    Attributes:
        value: the column is sorted by it; by the text where it is None.
        mark: `GOOD`, `BAD` or `WARN` shows the text as a label; "" as it is.
    """

    text: str
    value: float | None = None
    mark: str = ""


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        value: where a row has the value, for example "manifest.drift.cosine", or a function of the row. The value is text, a figure, an
            interval {"value", "low", "high"}, None (shown as a dash) or a `Cell`.
        form: how figures are written, for example ".2f". Columns with a form are aligned as numbers, those without as text.
        factor: figures are multiplied by it, for example by 100 for per cent.
    """

    title: str
    value: str | Callable[[Any], Any]
    form: str = ""
    factor: float = 1.0

    def cell(self, row: Any) -> Cell:
        """The cell of a row."""
        value = _at(row, self.value) if isinstance(self.value, str) else self.value(row)
        if isinstance(value, Cell):
            return value
        if value is None or isinstance(value, str):
            return Cell(NOTHING if value is None else value)
        if isinstance(value, Mapping):
            middle, low, high = (self.factor * value[key] for key in ("value", "low", "high"))
            return Cell(f"{middle:{self.form}} ({low:{self.form}} to {high:{self.form}})", middle)
        return Cell(f"{self.factor * value:{self.form}}", self.factor * value)


@dataclasses.dataclass(frozen=True)
class Table:
    """A rendered table.

    Attributes:
        columns: (title, whether aligned as numbers).
        ids: one anchor a row, or none.
    """

    caption: str
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[Cell, ...], ...]
    ids: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of a section; `folded` where only some readers want it."""

    title: str = ""
    words: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    remarks: tuple[str, ...] = ()
    flips: tuple[Mapping[str, Any], ...] = ()
    inside: tuple[Block, ...] = ()
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Section:
    """An entry of the table of contents."""

    id: str
    title: str
    blocks: tuple[Block, ...]


def table(caption: str, columns: Sequence[Column], rows: Iterable[Any], ids: Sequence[str] = ()) -> Table:
    """The table of these rows: one cell for each row and column."""
    titles = tuple((column.title, bool(column.form)) for column in columns)
    return Table(caption, titles, tuple(tuple(column.cell(row) for column in columns) for row in rows), tuple(ids))


def passed_cell(passed: bool, words: tuple[str, str] = ("passed", "failed"), bad: str = BAD) -> Cell:
    """The result of a check, as a label."""
    return Cell(words[0], 1.0, GOOD) if passed else Cell(words[1], 0.0, bad)


def pairs_table(caption: str, pairs: Iterable[tuple[str, Any]]) -> Table:
    return words_table(caption, ("what", "value"), [(name, "not known" if value is None else str(value)) for name, value in pairs])


def words_table(caption: str, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    return table(caption, [Column(title, operator.itemgetter(index)) for index, title in enumerate(titles)], rows)


def _at(row: Any, path: str) -> Any:
    """The value at a path of attributes and keys; None where the path meets None."""
    for name in path.split("."):
        if row is None:
            return None
        row = row[name] if isinstance(row, Mapping) else getattr(row, name)
    return row
