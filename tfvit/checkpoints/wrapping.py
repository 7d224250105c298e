"""What training scripts put around a model's tensor names: `module.`, `_orig_mod.`, `model.`, `backbone.`, and entries of their own.

The place of the model is found by its first tensor, the patch projection, whatever stands before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from tfvit.errors import WeightsError

# The first tensor of every model that is known here: timm's and the original's name, and that of transformers with its base model's name
_ANCHORS = (
    re.compile(r"^(?P<prefix>.*?)(?P<base>)patch_embed\.proj\.weight$"),
    re.compile(r"^(?P<prefix>.*?)(?P<base>(?:swin\.|swinv2\.)?)embeddings\.patch_embeddings\.projection\.weight$"),
)
# Where a classifier stands beside its backbone
_HEADS = ("head", "head.fc", "fc", "classifier")
# How the copy is called that is a moving average of the other
_AVERAGE = re.compile(r"(^|[._])(ema|teacher|averaged?)([._]|$)", re.IGNORECASE)


def unwrapped(tensors: Mapping[str, np.ndarray], source: str, ema: bool = True) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The model's tensors under the names that the model itself gives them, and sentences on what was left out.

    Args:
        tensors: as the file has them.
        source: what the file is called in messages.
        ema: of a model and its moving average in one state dict, take the average.

    Raises:
        WeightsError: several models, and nothing says which.
    """
    found = {match["prefix"]: match["base"] for name in tensors for anchor in _ANCHORS if (match := anchor.match(name))}
    if not found:
        return dict(tensors), ()
    notes: list[str] = []
    prefix = _chosen(list(found), source, ema, notes)
    base, inner, outer = found[prefix], {}, {}
    others = tuple(other for other in found if len(other) > len(prefix))
    for name, tensor in tensors.items():
        if name.startswith(prefix) and not name.startswith(others):
            inner[name.removeprefix(prefix)] = tensor
        else:
            outer[name] = tensor
    if not any(name.startswith(("head.", "classifier.")) for name in inner):
        head = _head_beside(prefix, outer)
        if head:
            inner |= {f"{'classifier' if base else 'head'}.{part}": outer.pop(f"{head}.{part}") for part in ("weight", "bias")}
            notes.append(f"{source}: the classifier is {head}, beside the backbone {prefix}")
    if outer:
        notes.append(f"{source}: {len(outer)} tensors beside the model {prefix!r} were left out ({first(outer)})")
    return inner, tuple(notes)


def _chosen(prefixes: list[str], source: str, ema: bool, notes: list[str]) -> str:
    if len(prefixes) == 1:
        return prefixes[0]
    averages = [prefix for prefix in prefixes if _AVERAGE.search(prefix)]
    wanted = averages if ema and averages else [prefix for prefix in prefixes if prefix not in averages]
    if len(wanted) != 1:
        raise WeightsError(
            "several models in one checkpoint",
            expected="one model, or one and its moving average (ema)",
            received=f"{source}: models under {', '.join(repr(prefix) for prefix in prefixes[:3])}",
            action="save the one you want by itself",
        )
    notes.append(f"{source}: the model under {wanted[0]!r} is taken, of {', '.join(repr(prefix) for prefix in prefixes)}")
    return wanted[0]


def _head_beside(prefix: str, outer: Mapping[str, np.ndarray]) -> str | None:
    """A linear layer with a classifier's name, on the level of the backbone: `backbone.` and `head.weight`."""
    parent = prefix[: prefix.rstrip(".").rfind(".") + 1]
    for head in (f"{parent}{name}" for name in _HEADS):
        weight, bias = outer.get(f"{head}.weight"), outer.get(f"{head}.bias")
        if weight is not None and bias is not None and weight.ndim == 2 and bias.shape == weight.shape[:1]:
            return head
    return None


def first(names: Iterable[str], most: int = 3) -> str:
    """The first names of many, for a message."""
    names = list(names)
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
