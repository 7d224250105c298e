"""Progress on stderr: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

_LINES = 10  # so many plain lines from start to end


def with_progress(items: Iterable[Item], total: int, what: str, quiet: bool = False) -> Iterator[Item]:
    """The same items, with the progress shown while they are used.

    Args:
        items: anything to iterate.
        total: how many there are.
        what: one or two words for what is going on.
        quiet: show nothing.
    """
    if quiet:
        yield from items
        return
    if sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import track
        except ImportError:  # the bar is a comfort, the package without it is complete
            pass
        else:
            yield from track(items, description=what, total=total, console=Console(stderr=True), transient=True)
            return
    for count, item in enumerate(items, 1):
        yield item
        if count == total or count * _LINES // total > (count - 1) * _LINES // total:
            print(f"{what}: {count}/{total}", file=sys.stderr, flush=True)
