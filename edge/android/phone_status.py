"""The status file that the app writes while it measures: JSON of kind "device_status"."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from edge.artifacts import strict_json

KIND, SCHEMA_VERSION = "device_status", 1
DONE, STOPPED, LEFT, FAILED = "done", "stopped", "left", "failed"
_ENDINGS = (None, DONE, STOPPED, LEFT, FAILED)


@dataclasses.dataclass(frozen=True)
class Status:
    """How far a benchmark is.

    Attributes:
        run: the name the benchmark was started with.
        tasks, finished: models times backends, and how many are done.
        share: progress of the whole benchmark, 0 to 1.
        current: what is measured now, in words.
        ending: None while it runs, then `DONE`, `STOPPED`, `LEFT` or `FAILED`.
        failures: sentences.
    """

    run: str
    tasks: int
    finished: int
    share: float
    current: str | None
    ending: str | None
    failures: tuple[str, ...]


def parse_status(text: str) -> Status:
    """The status in a text.

    Raises:
        ValueError: the text is no status; the message says why.
    """
    document = strict_json.loads(text.encode("utf-8", "replace"))
    if not isinstance(document, dict) or (document.get("kind"), document.get("schema_version")) != (KIND, SCHEMA_VERSION):
        raise ValueError(f"no {KIND} of version {SCHEMA_VERSION}")
    status = Status(
        run=_text(document, "run"),
        tasks=_count(document, "tasks"),
        finished=_count(document, "finished"),
        share=_share(document.get("share")),
        current=None if document.get("current") is None else _text(document, "current"),
        ending=document.get("ending"),
        failures=tuple(document["failures"]) if isinstance(document.get("failures"), list) else (),
    )
    if status.ending not in _ENDINGS or not all(isinstance(sentence, str) for sentence in status.failures):
        raise ValueError("an ending or failures that this command does not know")
    return status


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return value


def _count(document: dict[str, Any], name: str) -> int:
    value = document.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} is no number of tasks")
    return value


def _share(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError("share is no number")
    return min(max(float(value), 0.0), 1.0)
