"""Changes JSON documents as documents: bytes changed at random hardly ever stay JSON, and so never get behind a parser."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

_VALUES: tuple[Any, ...] = (
    *(None, True, False, "", "x", "../../etc/passwd", "\ud800", "\x00\n\u202e", "9" * 30, [], {}, [[]], [None], {"": None}),
    *(0, 1, -1, 2**31, 2**63, 10**17, -(10**17), 0.0, -0.5, 1.5, 1e-320, 1e308, -1e308),
)


def mutate(data: bytes, max_size: int, seed: int) -> bytes | None:
    """The document with one to four values changed, taken out, repeated or moved; None where it is no JSON, or grew too large."""
    chance = random.Random(seed)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    holder = [document]
    for _ in range(chance.randint(1, 4)):
        _change(holder, chance)
    try:
        changed = json.dumps(holder[0] if holder else None).encode()
    except (ValueError, RecursionError):
        return None
    return changed if len(changed) <= max_size else None


def _change(root: list[Any], chance: random.Random) -> None:
    places = list(_places(root))
    if not places:
        return
    container, key = chance.choice(places)
    what = chance.randrange(6)
    if what == 0:
        del container[key]
    elif what == 1 and isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    elif what == 2:
        other, place = chance.choice(places)
        container[key] = copy.deepcopy(other[place])
    elif what == 3 and isinstance(container[key], int | float) and not isinstance(container[key], bool):
        container[key] = container[key] * chance.choice((-1, 2, 0.5, 1e6, 1e-6)) + chance.choice((0, 1, -1))
    else:
        container[key] = copy.deepcopy(chance.choice(_VALUES))


def _places(value: Any):
    """(container, key) of every value inside."""
    waiting = [value]
    while waiting:
        container = waiting.pop()
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            yield container, key
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
