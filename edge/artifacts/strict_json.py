"""Reads JSON from outside strictly: every value can be computed with, printed and written again."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

# Far beyond what a double holds exactly, and beyond every figure here
_MOST_DIGITS = 18


def loads(data: bytes) -> Any:
    """The value of a JSON document in UTF-8.

    Raises:
        ValueError: no JSON, a number that is not finite, an integer that is too long, half a surrogate pair, or too many nested levels.
    """
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_float, parse_int=_int)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # half a surrogate pair could be read, and not written again
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _int(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)
