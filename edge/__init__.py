"""From a Keras model with tfvit layers to a TFLite file an app can ship.

>>> import edge
>>> artifact = edge.convert("nano32", "int8")
>>> edge.validate(artifact, images="photos")

`edge.convert`, `validate`, `benchmark`, `inspect`, `bundle`, `report`, `publish`
and `ship` are the commands of the same names (`python -m edge.convert`) as
functions, with the flags' names as arguments. They return objects and raise the errors that the commands print. Importing this package
imports nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge.benchmark import benchmark
    from edge.bundle import bundle
    from edge.convert import convert
    from edge.inspect import inspect
    from edge.publish import publish
    from edge.report import report
    from edge.ship import ship
    from edge.validate import validate

__all__ = ["benchmark", "bundle", "convert", "inspect", "publish", "report", "ship", "validate"]


def __getattr__(name: str) -> Any:
    """A command's module, which can be called, the first time somebody asks for it."""
    if name not in __all__:
        raise AttributeError(f"module 'edge' has no attribute {name!r}")
    return importlib.import_module(f"edge.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
