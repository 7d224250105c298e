"""A cell is one recipe of one model: what became of it. A group is the cells of one model, converted together in one process."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Sequence

from edge.artifacts.artifact import Artifact
from edge.artifacts.store import Store
from edge.conversion import convert_model, costs, plan
from edge.export.source import Source
from edge.quantization.recipes import Recipe
from edge.runtime import machine
from tfvit.errors import EnvironmentUnusableError
from tfvit.progress import Progress


@dataclasses.dataclass(frozen=True)
class Cell:
    """What became of one recipe of one model.

    Attributes:
        model, recipe, name: which; the name is the artifact's.
        outcome: None where it failed.
        error: why it failed; a `UserError` is something the user can mend.
        seconds: by stage, of this recipe alone.
        shared_seconds: by stage, of its model so far, for all its recipes.
        peak_memory_mb: of the process until then; None where the system does not say.
        artifact: its content, where it was made on another machine and is not saved yet.
    """

    model: str
    recipe: str
    name: str
    outcome: plan.Outcome | None = None
    error: Exception | None = None
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    shared_seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    peak_memory_mb: int | None = None
    artifact: Artifact | None = None

    @property
    def status(self) -> str:
        """ "written", "current", "refused" or "failed"."""
        return self.outcome.status if self.outcome else "failed"


class BugError(Exception):
    """An exception of another process that is no user's doing: its traceback."""


@dataclasses.dataclass(frozen=True)
class Group:
    """The cells of one model: what is given to a process.

    Attributes:
        source, recipes, settings, store: as `edge.conversion.plan.plan` takes them.
        expected: recipe -> what identifies the inputs of its file where the command runs; a machine that has others refuses.
        check_memory: whether memory is looked at before.
    """

    source: Source
    recipes: tuple[Recipe, ...]
    settings: plan.Settings
    store: Store
    expected: dict[str, str] = dataclasses.field(default_factory=dict)
    check_memory: bool = True

    def failed(self, recipe: Recipe, error: Exception) -> Cell:
        return Cell(self.source.name, recipe.name, self.source.artifact_name(recipe), error=error)


def cells(group: Group, progress: Progress) -> Generator[Cell]:
    """Converts one group in this process: the cell function, wherever it runs."""
    source, given = group.source, set()
    try:
        todo = plan.plan(source, group.recipes, group.settings, progress, group.store)
        _require_expected(todo, group.expected)
        for cell in current_cells(todo):
            given.add(cell.recipe)
            yield cell
        if todo.outstanding and group.check_memory:
            costs.require_memory(source, [recipe for recipe, _ in todo.outstanding])
        for (recipe, _), made in zip(todo.outstanding, convert_model.convert(todo, progress), strict=False):
            given.add(recipe.name)
            measured = (progress.seconds(made.name), progress.seconds(source.name), machine.peak_memory_mb())
            outcome, error = (None, made.error) if isinstance(made, convert_model.Failed) else (made, None)
            yield Cell(source.name, recipe.name, made.name, outcome, error, *measured)
    except Exception as error:
        progress.stop_where_interrupted()  # native code may have turned the one exception into another
        yield from (group.failed(recipe, error) for recipe in group.recipes if recipe.name not in given)


def current_cells(todo: plan.Plan) -> list[Cell]:
    """What is there already."""
    return [Cell(todo.model.source.name, found.manifest["recipe"], found.name, found) for found in todo.current]


def outstanding(groups: Sequence[Group], progress: Progress) -> Iterator[Cell | Group]:
    """The cells that need no work, and what is left of each group."""
    for group in groups:
        try:
            todo = plan.plan(group.source, group.recipes, group.settings, progress, group.store)
        except Exception as error:
            progress.stop_where_interrupted()
            yield from (group.failed(recipe, error) for recipe in group.recipes)
            continue
        yield from current_cells(todo)
        if todo.outstanding:
            names = dict((recipe.name, digest) for recipe, digest in todo.outstanding)
            left = tuple(recipe for recipe in group.recipes if recipe.name in names)
            yield dataclasses.replace(group, recipes=left, expected=names)


def _require_expected(todo: plan.Plan, expected: dict[str, str]) -> None:
    different = [recipe.name for recipe, digest in todo.outstanding if expected.get(recipe.name, digest) != digest]
    if different:
        raise EnvironmentUnusableError(
            f"this machine would make other files of {todo.model.source.name}",
            expected="the code, tool versions, images and weights that the command was started with",
            received=f"others, for {', '.join(different)}",
            action="install the same release of tfvit everywhere, and name files and folders that all machines see under the same path",
        )
