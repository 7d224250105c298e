"""Memory and time that a conversion takes, as measured (results/convert_matrix.csv): for a check before it, and for an estimate."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from edge.export.source import Source
from edge.quantization.recipes import Recipe
from tfvit import memory
from tfvit.errors import EnvironmentUnusableError
from tfvit.variants import VARIANTS


@dataclasses.dataclass(frozen=True)
class Cost:
    """Costs of one variant.

    Attributes:
        peak_memory_mb: of a process that converts it with all recipes but int8_full and w8a16.
        integer_peak_memory_mb: of a process that converts it with all recipes.
        model_seconds: for what the recipes share.
        recipe_seconds: for int8; `_SHARES` gives the other recipes.
    """

    peak_memory_mb: int
    integer_peak_memory_mb: int
    model_seconds: int
    recipe_seconds: int


MEASURED = {
    "tiny224": Cost(2134, 2177, 44, 12),
    "small224": Cost(2824, 2843, 72, 25),
    "base224": Cost(4148, 4273, 102, 44),
    "base384": Cost(4285, 5875, 168, 46),
    "large224": Cost(8001, 8358, 179, 77),
    "large384": Cost(8152, 10181, 351, 89),
    "v2_tiny256": Cost(2254, 2567, 55, 14),
    "v2_small256": Cost(3194, 3739, 100, 26),
    "v2_base256": Cost(4521, 5303, 135, 41),
    "v2_base384": Cost(6879, 10194, 276, 50),
    "v2_large256": Cost(9035, 9401, 234, 91),
    "v2_large384": Cost(11118, 15538, 473, 109),
}
_OTHERS = Cost(1200, 1200, 12, 12)
# Parameters below which a model is a small one
_SMALL = 10_000_000
# Recipe -> its seconds / int8's
_SHARES = {
    "float32": 0.16, "float16": 0.14, "int8": 1.0, "dynamic": 0.1, "int4": 2.0, "smallest": 2.0, "int8_full": 0.85, "int8_wide": 0.85,
    "w8a16": 2.5,
}  # fmt: skip


def cost(source: Source) -> Cost:
    """The measured cost of a variant. Of one that was not measured, that of the measured one with the most similar number of parameters:
    vit_small16_224 took 2085 MB, tiny224 2134. Of any other model, that of a small one.
    """
    if source.variant is None or source.variant.num_parameters < _SMALL:
        return _OTHERS
    parameters = source.variant.num_parameters
    nearest = min(MEASURED, key=lambda name: abs(VARIANTS[name].num_parameters - parameters))
    return MEASURED.get(source.variant.id, MEASURED[nearest])


def seconds(source: Source, recipe: str) -> float:
    """For one recipe, without what recipes share. On another machine only ratios of these numbers hold."""
    return cost(source).recipe_seconds * _SHARES.get(recipe, 1.0)


def available_mb() -> int | None:
    """`tfvit.memory.available_bytes` in MB."""
    available = memory.available_bytes()
    return None if available is None else available // 2**20


def peak_memory_mb(source: Source, recipes: Sequence[Recipe]) -> int:
    """Measured peak of a process that converts a model with these recipes."""
    on_integers = any(recipe.integer_bits for recipe in recipes)
    return cost(source).integer_peak_memory_mb if on_integers else cost(source).peak_memory_mb


def fits(work: Sequence[tuple[Source, Sequence[Recipe]]], capacity_mb: int | None) -> bool:
    """Whether the models can be converted side by side in this much memory; None passes."""
    return capacity_mb is None or sum(peak_memory_mb(source, recipes) for source, recipes in work) <= capacity_mb


def require_memory(source: Source, recipes: Sequence[Recipe]) -> None:
    """Checks that there is enough memory to convert a variant without swapping.

    Models that were never measured pass, and so does a system that does not say how much is available.

    Raises:
        EnvironmentUnusableError: the measured peak is more than is available.
    """
    available = available_mb()
    if source.variant is None or source.variant.id not in MEASURED or available is None:
        return
    needed_mb = peak_memory_mb(source, recipes)
    if available < needed_mb:
        raise EnvironmentUnusableError(
            f"not enough memory for {source.name}",
            expected=f"{needed_mb} MB, the measured peak of its conversion",
            received=f"{available} MB available",
            action="end other programs, use fewer --jobs or a larger machine, or try all the same with --no-memory-check",
            needed_mb=needed_mb,
            available_mb=available,
        )
