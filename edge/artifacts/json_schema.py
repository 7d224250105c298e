"""JSON documents held against a JSON Schema: the first place where they differ, in words for a message."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from tfvit.extras import require_extra

_ONE_LINE = 200


def violation(document: Any, schema: Mapping[str, Any]) -> tuple[str, str] | None:
    """Where a document is not as its schema has it: JSON path and reason, for example ("$.drift.passed", "missing"); None where it is.

    Raises:
        EnvironmentUnusableError: jsonschema is not installed.
    """
    require_extra("edge", "checking a JSON document", "jsonschema")
    from jsonschema.exceptions import best_match

    error = best_match(_validator()(schema).iter_errors(document))
    if error is None:
        return None
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"{error.json_path}.{missing}", "missing"
    if error.validator == "const":
        return error.json_path, _shortened(f"{error.instance!r} is not {error.validator_value!r}")
    return error.json_path, _shortened(error.message)


@functools.cache
def _validator() -> type:
    """JSON Schema's, but 1e300 and 2.0 are no integers: no counter of ours writes them, and in Python they are floats."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    def is_integer(_: Any, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    return extend(Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", is_integer))


def _shortened(message: str) -> str:
    """Without the middle of a long quotation of the document."""
    message = re.sub(r"\s+", " ", message)
    return message if len(message) <= _ONE_LINE else f"{message[: _ONE_LINE // 2]} ... {message[-_ONE_LINE // 2 :]}"
