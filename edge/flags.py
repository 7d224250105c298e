"""Flags of several commands."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from edge.artifacts.store import Store, open_store
from tfvit.errors import UsageError

# --model-input -> whether a model of the user's own normalises pixels by itself; None to find out
TAKES_PIXELS = {"auto": None, "normalized": False, "pixels": True}


def add_import_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --import, whose argument is called `imports`: `import` is a word of Python's."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="import this module before --model is loaded: it registers layers of your own; may be given several times",
    )


def add_cache_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --cache and --no-cache."""
    parser.add_argument("--cache", type=Path, metavar="DIR", help="folder for results that another run can use (the user's cache folder)")
    parser.add_argument("--no-cache", action="store_true", help="neither use nor write a cache")


def chosen_store(cache: Path | str | None, no_cache: bool) -> Store:
    """The store that --cache or --no-cache ask for.

    Raises:
        UsageError: both flags are given.
    """
    if cache and no_cache:
        raise UsageError("a cache, or none?", expected="--cache or --no-cache", received="both", action="leave one out", folder=cache)
    return Store(None) if no_cache else open_store(Path(cache) if cache else None)


def finite(text: str) -> float:
    """Parses a limit. NaN would fail every file, and JSON has no infinity."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number. Received: {text}")
    return value
