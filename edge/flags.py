"""Flags of several commands."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

from edge.artifacts.store import Store, open_store
from tfvit.errors import UsageError
from tfvit.preprocessing import CHANNELS, INTERPOLATIONS, MODEL_INPUTS, PAD, SQUASH, Size, size_of

PREPROCESSING_FLAGS = ("--model-input", "--resize", "--crop", "--interpolation", "--mean", "--std", "--channels")


def add_preprocessing_flags(parser: argparse.ArgumentParser) -> None:
    """Adds what says how an image becomes a model's input."""
    words = "; ".join(f"{name}: {said}" for name, said in MODEL_INPUTS.items())
    parser.add_argument(
        "--model-input", choices=MODEL_INPUTS, default="auto", help=f"which values --model takes ({words}; default: %(default)s)"
    )
    parser.add_argument(
        "--resize",
        type=_resize,
        metavar="N|squash|pad",
        help="short side in pixels (HEIGHTxWIDTH: what the image is to cover); squash: both sides to the input's size; pad: the whole "
        "image with a black margin, pad:VALUE with one of that value (default: the model's own)",
    )
    parser.add_argument(
        "--crop",
        type=finite,
        metavar="N",
        help="side of the centre that is cut out, in pixels or as a share of --resize (default: the model's own)",
    )
    parser.add_argument("--interpolation", choices=INTERPOLATIONS, help="of the resize (default: the model's own)")
    parser.add_argument(
        "--mean",
        type=_three,
        metavar="R,G,B",
        help="of pixels 0..255, with --std: what the model's images were normalized with (default: the model's own)",
    )
    parser.add_argument("--std", type=_three, metavar="R,G,B", help="with --mean")
    parser.add_argument(
        "--channels", choices=CHANNELS, help="in which order --model takes the values (default: RGB); the file takes RGB either way"
    )


def _resize(text: str) -> Size | str:
    if text == SQUASH or re.fullmatch(rf"{PAD}(:\d+)?", text):
        return text
    try:
        return image_size(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"must be a number of pixels, HEIGHTxWIDTH, {SQUASH} or {PAD}. Received: {text}") from None


def image_size(text: str) -> Size:
    """Parses 224 or 160x320 (height x width)."""
    if not re.fullmatch(r"\d+(x\d+)?", text):
        raise argparse.ArgumentTypeError(f"must be a number of pixels, or HEIGHTxWIDTH. Received: {text}")
    height, _, width = text.partition("x")
    return size_of(int(height), int(width or height))


def _three(text: str) -> tuple[float, ...]:
    try:
        return tuple(finite(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be three numbers like 123.7,116.3,103.5. Received: {text}") from None


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
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="folder for results that another run can use (default: the user's cache folder)"
    )
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
