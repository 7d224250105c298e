"""What converting a variant takes, as measured (results/convert_matrix.csv): memory, to be checked before, and time, for an estimate."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from edge import machine
from edge.sources import Source
from tfvit.errors import EnvironmentUnusableError


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one variant.

    Attributes:
        peak_memory_mb: of a process that converts it with all its recipes.
        model_seconds: what its recipes share, until the first one is begun.
        recipe_seconds: of int8, on which the others' go by `_SHARES`.
    """

    peak_memory_mb: int
    model_seconds: int
    recipe_seconds: int


MEASURED = {
    "tiny224": Cost(2203, 24, 44),
    "small224": Cost(3180, 48, 71),
    "base224": Cost(4662, 74, 94),
    "base384": Cost(4823, 103, 149),
    "large224": Cost(8842, 109, 147),
    "large384": Cost(8991, 181, 128),
    "v2_tiny256": Cost(2271, 46, 17),
    "v2_small256": Cost(3132, 75, 81),
    "v2_base256": Cost(4827, 98, 48),
    "v2_base384": Cost(6728, 141, 77),
    "v2_large256": Cost(9044, 166, 114),
    "v2_large384": Cost(11195, 229, 131),
}
_OTHERS = Cost(1200, 12, 12)
# Seconds of a recipe, of int8's
_SHARES = {"float32": 0.1, "float16": 0.1, "int8": 1.0, "dynamic": 0.7, "int8_full": 1.0, "w8a16": 1.5}


def cost(source: Source) -> Cost:
    """Of a variant; a small one's for what was never measured."""
    return MEASURED.get(source.variant.id, _OTHERS) if source.variant else _OTHERS


def seconds(source: Source, recipe: str) -> float:
    """Of one recipe, without what recipes share. Only ratios of such numbers mean something on another machine."""
    return cost(source).recipe_seconds * _SHARES.get(recipe, 1.0)


def available_mb() -> int | None:
    """Memory that can be had without swapping; None where the system does not say."""
    available = machine.available_memory_bytes()
    return None if available is None else available // 2**20


def fits(sources: Sequence[Source], capacity_mb: int | None) -> bool:
    """Whether so many models may be converted side by side in so much memory."""
    return capacity_mb is None or sum(cost(source).peak_memory_mb for source in sources) <= capacity_mb


def require_memory(source: Source) -> None:
    """Checks that a variant can be converted without swapping. What was never measured, and systems that do not say, pass.

    Raises:
        EnvironmentUnusableError: it took more than is available.
    """
    available = available_mb()
    if source.variant is None or source.variant.id not in MEASURED or available is None:
        return
    needed_mb = MEASURED[source.variant.id].peak_memory_mb
    if available < needed_mb:
        raise EnvironmentUnusableError(
            f"not enough memory for {source.name}",
            expected=f"{needed_mb} MB, the measured peak of its conversion",
            received=f"{available} MB available",
            action="end other programs, use fewer --jobs or a larger machine, or try all the same with --no-memory-check",
            needed_mb=needed_mb,
            available_mb=available,
        )
