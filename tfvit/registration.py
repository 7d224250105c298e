"""Our layers are known to Keras wherever tfvit and Keras are both imported, in whatever order; importing tfvit does not import Keras."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

# They hold everything that is registered; importing them registers it
_MODULES = ("tfvit.model", "tfvit.imagenet")


def register() -> None:
    """Now where Keras is there, else as soon as it is."""
    if "keras" in sys.modules:
        _import_ours()
    elif not any(isinstance(finder, _KerasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _KerasFinder())


def _import_ours() -> None:
    begun = [name for name, module in list(sys.modules.items()) if name.startswith("tfvit.") and _is_half_imported(module)]
    for name in _MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            if not begun:
                raise
            # Keras is imported by a module of ours that these need: what it defines, it registers itself


def _is_half_imported(module: ModuleType) -> bool:
    return bool(getattr(module.__spec__, "_initializing", False))


class _KerasFinder(importlib.abc.MetaPathFinder):
    """Finds Keras as the others do, once, and has ours imported behind it."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return None
        loader, execute = spec.loader, spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            del loader.exec_module  # the class's own again
            _import_ours()

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
