"""What the pickle of a PyTorch checkpoint describes: storages, tensors, and inert stand-ins for everything else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

# far more than any model has; modules that share their parts would grow without end
_LONGEST_NAME, _MOST_TENSORS = 1000, 1 << 16
# of a pickled torch.nn.Module, in its attributes
_PARAMETERS, _BUFFERS, _MODULES = "_parameters", "_buffers", "_modules"


@dataclasses.dataclass(frozen=True)
class Name:
    """A name that `tfvit.torch_pickle` knows and the pickle mentioned; never the thing itself."""

    module: str
    name: str


@dataclasses.dataclass(eq=False, repr=False)
class Foreign:
    """Where the pickle has a class, a function, or what one of them makes. Inert: nothing was imported, nothing called.

    Attributes:
        name: of the class or function.
        attributes: what the pickle set on it, where that is a dict with plain keys.
        items: what it put into it by key, as into a dict.
    """

    name: str
    attributes: dict[Any, Any] = dataclasses.field(default_factory=dict)
    items: dict[Any, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_module(self) -> bool:
        """Whether it has the parts of a torch.nn.Module."""
        return isinstance(self.attributes.get(_PARAMETERS), dict) and isinstance(self.attributes.get(_MODULES), dict)

    def module_tensors(self) -> dict[str, Any]:
        """Parameters and buffers of a pickled module, by the names that its state dict would have."""
        found: dict[str, Any] = {}
        waiting: list[tuple[str, Foreign]] = [("", self)]
        met: set[int] = set()
        while waiting:
            prefix, module = waiting.pop()
            if id(module) in met:  # a module used twice, or inside itself
                continue
            met.add(id(module))
            if len(prefix) > _LONGEST_NAME or len(found) > _MOST_TENSORS:
                raise ValueError("modules without end in modules")
            for part in (_PARAMETERS, _BUFFERS):
                entries = module.attributes.get(part)
                found |= {f"{prefix}{name}": value for name, value in _named(entries) if isinstance(value, Tensor)}
            inner = [(f"{prefix}{name}.", one) for name, one in _named(module.attributes.get(_MODULES)) if isinstance(one, Foreign)]
            waiting += reversed(inner)
        return found


@dataclasses.dataclass(frozen=True)
class Storage:
    record: str
    dtype: str
    bfloat16: bool
    elements: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """What a tensor is cut from. Offset and strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        itemsize = 4 if self.storage.bfloat16 else np.dtype(self.storage.dtype).itemsize
        elements = 1
        for length in self.shape:
            elements *= length
        return elements * itemsize


def entries_of(value: Any) -> dict[Any, Any]:
    """The entries of a dict, or of a foreign thing that was filled like one; none of anything else."""
    return value if isinstance(value, dict) else value.items if isinstance(value, Foreign) else {}


def attributes_of(value: Any) -> dict[Any, Any]:
    """The attributes of a foreign object; none of anything else."""
    return value.attributes if isinstance(value, Foreign) else {}


def _named(entries: Any) -> Iterator[tuple[str, Any]]:
    yield from ((name, value) for name, value in (entries.items() if isinstance(entries, dict) else ()) if isinstance(name, str))


def kind_of(value: Any) -> str:
    """A value's kind for a message; never its content, which may be endless."""
    if isinstance(value, Tensor):
        return "a tensor"
    if isinstance(value, Name):
        return f"{value.module}.{value.name}"
    if isinstance(value, Foreign):
        return f"a {short(value.name)}"
    name = type(value).__name__.lstrip("_")
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def short(value: Any) -> str:
    """At most 80 characters of a string or number of the file's."""
    text = value if isinstance(value, str) else (str(value) if abs(value) < 1 << 64 else f"more than 2**{value.bit_length() - 1}")
    return text if len(text) <= 80 else f"{text[:79]}…"
