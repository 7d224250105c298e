"""What a phone says of its benchmark while it runs, and the bundle inside its app."""

import contextlib
import json

from edge.android.phone import bundle_hashes
from edge.android.phone_status import parse_status
from fuzz.json_mutator import mutate as mutate


def read(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(ValueError):  # the reader's own word for "unreadable"
        parse_status(text)
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):  # as edge.android.phone reads it
        bundle_hashes(json.loads(text))
