"""From what `edge.convert` is given to its cells: names and files become sources, and every source is converted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.artifacts import atomic_files
from edge.artifacts.artifact import Artifact, load
from edge.artifacts.store import Store
from edge.conversion import plan, scheduler, table
from edge.conversion.cells import Cell, Group
from edge.conversion.plan import Settings
from edge.export import source as sources
from edge.export.source import Source
from edge.quantization.recipes import Recipe
from tfvit.errors import UserError
from tfvit.labels import read_labels
from tfvit.preprocessing import ModelInput, Size
from tfvit.progress import current
from tfvit.variants import Variant
from tfvit.weights_choice import NETWORK_TIMEOUT_S, resolve_weights

# Where the network was silent once, the next weights wait only a moment for it
_SHORT_TIMEOUT_S = 1.0


def convert(
    *,
    variants: Sequence[Variant],
    weights: str,
    model: Any,
    model_name: str | None,
    checkpoint: str | Path | None,
    ema: bool,
    model_input: ModelInput,
    trusted: bool,
    imports: Sequence[str],
    recipes: Sequence[Recipe],
    labels: Any,
    drift_samples: int | None,
    settings: dict[str, Any],
    store: Store,
    jobs: int,
    cluster: str | None,
    check_memory: bool,
    save: Path | None,
    image_size: Size | None = None,
    window: int | None = None,
) -> list[Cell]:
    """Every recipe of every model, in the order asked for.

    Args:
        variants, weights: the models, or none and
        model, model_name, model_input, trusted, imports: one of the user's own, or
        checkpoint, ema: a checkpoint as its maker left it; `variants` has what it should be, or nothing.
        recipes: what to make of each.
        labels: class names, or a text file of them.
        drift_samples: None for the usual number.
        settings: the other fields of `edge.conversion.plan.Settings`.
        store: where things are kept for the next run.
        jobs, cluster, check_memory: as `edge.conversion.scheduler.run` and `Group` take them.
        save: a JSON file for the table, or None.
        image_size, window: instead of the model's own.
    """
    if save:
        atomic_files.require_replaceable(save, table.KIND)
    names = read_labels(Path(labels)) if isinstance(labels, str | Path) else labels
    samples = plan.DRIFT_SAMPLES if drift_samples is None else drift_samples
    asked = Settings(labels=tuple(names) if names else None, drift_samples=samples, **settings)
    found: dict[tuple[str, str], Cell] = {}
    groups, order = [], []
    if checkpoint is not None:
        source = sources.resolve_checkpoint(checkpoint, model_input, variants[0] if variants else None, ema, asked.output)
        chosen: list[tuple[str, Source | UserError]] = [(source.name, source)]
    else:
        chosen = _sources(variants, weights, model, model_name, model_input, trusted, imports, asked.output, image_size, window)
    for name, source in chosen:
        order.append(name)
        if isinstance(source, UserError):
            found |= {(name, recipe.name): Cell(name, recipe.name, f"{name}-{recipe.name}", error=source) for recipe in recipes}
        else:
            groups.append(Group(source, tuple(recipes), asked, store, check_memory=check_memory))
    saved = table.SavedCells(save)
    if groups:
        with atomic_files.prepared_folder(asked.folder):
            for cell in scheduler.run(groups, jobs, cluster, current(), saved.add):
                found[cell.model, cell.recipe] = cell
                _draw(cell, asked)
    return [found[name, recipe.name] for name in order for recipe in recipes]


def summary(cells: list[Cell], explained: bool = False) -> tuple[dict[str, Any], list[Cell], tuple[Any, ...], list[str], int]:
    """The document, the cells, their table, lines on how many files there are not, and the exit code.

    Args:
        cells: what was made.
        explained: whether each layer is in the table, and not the worst few.

    Raises:
        Exception: what every cell failed of, if it is the same.
    """
    table.require_some(cells)
    return table.document(cells, current().seconds()), cells, table.table(cells, explained), table.counts(cells), table.exit_code(cells)


def artifact_of(cell: Cell) -> Artifact:
    """What is there now; of a file that was refused what is known of it."""
    assert cell.outcome is not None
    return Artifact(cell.name, b"", cell.outcome.manifest) if cell.status == "refused" else load(cell.outcome.path)


def _draw(cell: Cell, settings: Settings) -> None:
    """The effect of each layer, where it was asked for."""
    if settings.explain and cell.outcome and cell.outcome.sensitivities:
        picture = table.drawing(cell.outcome.sensitivities, f"{cell.name}: each layer quantized alone")
        atomic_files.save_picture(settings.folder, f"{cell.name}.sensitivity", picture, settings.force)


def _sources(
    variants: Sequence[Variant],
    weights: str,
    model: Any,
    model_name: str | None,
    model_input: ModelInput,
    trusted: bool,
    imports: Sequence[str],
    output: str,
    image_size: Size | None,
    window: int | None,
) -> list[tuple[str, Source | UserError]]:
    """Name and source of each model, or what is wrong with its weights."""
    if model is not None:
        source = sources.own_model(model, model_input, trusted, model_name, imports, output, image_size)
        return [(source.name, source)]
    chosen: list[tuple[str, Source | UserError]] = []
    warned = False
    for variant in variants:
        try:
            resolved = resolve_weights(weights, variant, _SHORT_TIMEOUT_S if warned else NETWORK_TIMEOUT_S)
        except UserError as error:
            chosen.append((variant.id, error))
            continue
        if resolved.warning and not warned:
            current().warn(resolved.warning)
            warned = True
        source = sources.of_variant(variant, resolved, model_input, image_size, window)
        chosen.append((source.name, source))
    return chosen
