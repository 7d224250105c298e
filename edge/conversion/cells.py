"""A cell is one recipe of one model: what became of it. A group is the cells of one model, converted together in one process."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from edge.artifacts import artifact
from edge.artifacts.artifact import Artifact
from edge.artifacts.store import Store
from edge.conversion import costs
from edge.conversion.plan import Outcome, Plan, Settings, plan
from edge.export.backend import require_tensorflow_backend
from edge.export.float_model import FloatModel
from edge.export.kept_model import KeptFloatModel
from edge.export.source import Source
from edge.quantization.recipes import Recipe
from edge.runtime import machine
from tfvit.errors import EnvironmentUnusableError
from tfvit.progress import Progress, reporting, step

if TYPE_CHECKING:
    from edge.conversion.convert_model import Conversion


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
    outcome: Outcome | None = None
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
        source, recipes, settings, store: the model, what to make of it, how, and where things are kept.
        expected: recipe -> what identifies the inputs of its file where the command runs; a machine that has others refuses.
        check_memory: whether memory is looked at before.
    """

    source: Source
    recipes: tuple[Recipe, ...]
    settings: Settings
    store: Store
    expected: dict[str, str] = dataclasses.field(default_factory=dict)
    check_memory: bool = True

    def failed(self, recipe: Recipe, error: Exception) -> Cell:
        return Cell(self.source.name, recipe.name, self.source.artifact_name(recipe), error=error)


def cells(group: Group, progress: Progress) -> Generator[Cell]:
    """Converts one group in this process: the cell function, wherever it runs."""
    source, given = group.source, set()
    try:
        model, todo = _planned(group, progress)
        _require_expected(todo, group.expected)
        for cell in current_cells(todo):
            given.add(cell.recipe)
            yield cell
        if todo.outstanding and group.check_memory:
            costs.require_memory(source, [recipe for recipe, _ in todo.outstanding])
        for recipe, made in converted(model, todo, progress):
            given.add(recipe.name)
            name = source.artifact_name(recipe)
            measured = (progress.seconds(name), progress.seconds(source.name), machine.peak_memory_mb())
            outcome, error = (None, made) if isinstance(made, Exception) else (made, None)
            yield Cell(source.name, recipe.name, name, outcome, error, *measured)
    except Exception as error:
        progress.stop_where_interrupted()  # native code may have turned the one exception into another
        yield from (group.failed(recipe, error) for recipe in group.recipes if recipe.name not in given)


def converted(model: FloatModel, todo: Plan, progress: Progress) -> Iterator[tuple[Recipe, Outcome | Exception]]:
    """Every outstanding recipe with what became of it, saved one by one as they pass. One that fails does not stop the next.

    Raises:
        UserError: something is missing that no recipe of this model can do without.
    """
    if not todo.outstanding:
        return
    require_tensorflow_backend()
    with reporting(progress, todo.source.name), _rare_collections():
        with step("load the runtime"):
            from edge.conversion import assumptions, convert_model
        reference = convert_model.finite_reference(model, todo.images)
        # first: a model that is fed wrongly can look as if its labels were in another order
        assumptions.check_assumptions(model, todo.images, todo.settings.gate)
        assumptions.check_label_order(model.facts.first(reference), todo.images, todo.settings.gate)
    for recipe, _ in todo.outstanding:
        try:
            with reporting(progress, todo.source.artifact_name(recipe)), _rare_collections():
                made: Outcome | Exception = _saved(convert_model.convert(model, recipe, todo.images, todo.settings), todo.settings)
        except Exception as error:
            progress.stop_where_interrupted()
            made = error
        yield recipe, made


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Lets Python look for cycles less often. It goes through all objects that there are, those of TensorFlow and Keras among them, and
    graphs are made of hundreds of thousands more: 4 % of a conversion's processor time, for next to nothing found."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _saved(conversion: Conversion, settings: Settings) -> Outcome:
    """What passed is written, and with the gate off what did not."""
    made, repair = conversion.artifact, conversion.repair
    refused = bool(conversion.failures) and settings.gate
    if not refused:
        with step("save"):
            artifact.save(made, settings.folder, force=settings.force)
    return Outcome(
        name=made.name,
        status="refused" if refused else "written",
        path=settings.folder / f"{made.name}.tflite",
        manifest=made.manifest,
        failures=conversion.failures,
        sensitivities=conversion.sensitivities,
        repair_ms=repair.milliseconds if repair else None,
    )


def _planned(group: Group, progress: Progress) -> tuple[FloatModel, Plan]:
    with reporting(progress, group.source.name):
        model = KeptFloatModel(group.source, group.store)
        return model, plan(model, group.recipes, group.settings)


def current_cells(todo: Plan) -> list[Cell]:
    """What is there already."""
    return [Cell(todo.source.name, found.manifest["recipe"], found.name, found) for found in todo.current]


def outstanding(groups: Sequence[Group], progress: Progress) -> Iterator[Cell | Group]:
    """The cells that need no work, and what is left of each group."""
    for group in groups:
        try:
            _, todo = _planned(group, progress)
        except Exception as error:
            progress.stop_where_interrupted()
            yield from (group.failed(recipe, error) for recipe in group.recipes)
            continue
        yield from current_cells(todo)
        if todo.outstanding:
            names = dict((recipe.name, digest) for recipe, digest in todo.outstanding)
            left = tuple(recipe for recipe in group.recipes if recipe.name in names)
            yield dataclasses.replace(group, recipes=left, expected=names)


def _require_expected(todo: Plan, expected: dict[str, str]) -> None:
    different = [recipe.name for recipe, digest in todo.outstanding if expected.get(recipe.name, digest) != digest]
    if different:
        raise EnvironmentUnusableError(
            f"this machine would make other files of {todo.source.name}",
            expected="the code, tool versions, images and weights that the command was started with",
            received=f"others, for {', '.join(different)}",
            action="install the same release of tfvit everywhere, and name files and folders that all machines see under the same path",
        )
