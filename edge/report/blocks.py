"""What sections of the page are made of, as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from edge.report.plots import Plot
from edge.report.tables import Table


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of a section; folded where only some readers want it."""

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
