"""Variants times recipes: a model's cells together, several models one after the other or side by side, each in a process of its own.

A cell that fails is an outcome like any other. What a stopped run had finished is current in the next one, and what it had made on the way
lies in the cache, so that taking up a run is the same as starting it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import time
from collections.abc import Callable, Generator, Iterator, Sequence

from edge.artifacts.artifact import Artifact
from edge.cache import Store
from edge.conversion import convert_model, costs, plan
from edge.conversion.worker import MatrixProcess
from edge.export.source import Source
from edge.quantization.recipes import Recipe
from edge.runtime import machine
from tfvit.errors import EnvironmentUnusableError
from tfvit.terminal import Progress


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


def run(groups: Sequence[Group], jobs: int, cluster: str | None, progress: Progress, finished: Callable[[Cell], None]) -> list[Cell]:
    """Converts all groups.

    Args:
        groups: one for each model.
        jobs: how many models side by side. A single one is converted in this process, several in processes of their own.
        cluster: address of a dask scheduler whose workers convert instead.
        progress: stages and the whole go there.
        finished: called with every cell as it comes.

    Returns:
        Every cell, in the order of the groups and their recipes.
    """
    found: dict[tuple[str, str], Cell] = {}
    order = [(group.source.name, recipe.name) for group in groups for recipe in group.recipes]
    estimate = Estimate(groups, time.monotonic)
    if cluster is not None:
        from edge.conversion.cluster import cells_on_cluster

        coming = cells_on_cluster(cluster, groups, progress)
    else:
        coming = cells(groups[0], progress) if len(groups) == 1 else _side_by_side(groups, jobs, progress)
    with progress.whole(len(order)) as whole, contextlib.closing(coming):
        for cell in coming:
            found[cell.model, cell.recipe] = cell
            estimate.finished(cell)
            finished(cell)  # before it is said: what was said is kept
            whole(f"{cell.name} {cell.status}", estimate.share, estimate.seconds_left)
    return [found[key] for key in order]


class Estimate:
    """How much of the work is done, by what each cell was measured to cost.

    Args:
        groups: all the work.
        clock: gives seconds.
    """

    def __init__(self, groups: Sequence[Group], clock: Callable[[], float]) -> None:
        self._clock, self._start = clock, clock()
        self._weights = {
            (group.source.name, recipe.name): costs.seconds(group.source, recipe.name)
            + costs.cost(group.source).model_seconds / len(group.recipes)
            for group in groups
            for recipe in group.recipes
        }
        self._left, self._done = sum(self._weights.values()), 0.0

    def finished(self, cell: Cell) -> None:
        """What is found there already counts as no work."""
        weight = self._weights[cell.model, cell.recipe]
        self._left -= weight
        if cell.status != "current":
            self._done += weight

    @property
    def share(self) -> float:
        total = self._left + self._done
        return self._done / total if total > 0 else 1.0

    @property
    def seconds_left(self) -> float | None:
        """None before anything has been done, and at the end."""
        known = self._done > 0 and self.share < 1 - 1e-9
        return (self._clock() - self._start) * self._left / self._done if known else None


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


def _side_by_side(groups: Sequence[Group], jobs: int, progress: Progress) -> Generator[Cell]:
    """Each group in a process of its own, as many at once as there are jobs and as memory allows."""
    waiting: list[Group] = []
    for one in outstanding(groups, progress):
        if isinstance(one, Group):
            waiting.append(one)
        else:
            yield one
    if jobs > 1:  # the longest first, so that none is left for the end
        waiting.sort(key=lambda group: -costs.cost(group.source).model_seconds)
        threads = max(1, machine.usable_cores() // jobs)  # of the runtime, whose answers do not depend on them; TensorFlow's may
        waiting = [dataclasses.replace(group, settings=dataclasses.replace(group.settings, threads=threads)) for group in waiting]
    events: queue.SimpleQueue[tuple[MatrixProcess, str, tuple]] = queue.SimpleQueue()
    running: dict[MatrixProcess, Group] = {}
    capacity_mb = None
    try:
        while waiting or running:
            if not running:
                capacity_mb = costs.available_mb()
            for group in list(waiting):
                work = [(each.source, each.recipes) for each in (*running.values(), group)]
                if len(running) < jobs and (not running or costs.fits(work, capacity_mb)):
                    waiting.remove(group)
                    running[MatrixProcess(group, events)] = group
            process, kind, content = events.get()
            if kind == "stage":
                progress.stage_elsewhere(*content)
            elif kind == "note":
                progress.note(*content)
            elif kind == "warn":
                progress.warn(*content)
            elif kind == "cell":
                (cell,) = content
                left = tuple(recipe for recipe in running[process].recipes if recipe.name != cell.recipe)
                running[process] = dataclasses.replace(running[process], recipes=left)
                yield cell
            else:  # it ended
                group = running.pop(process)
                if group.recipes:  # one recipe took it down; the others get another process
                    first, *others = group.recipes
                    yield group.failed(first, *content)
                    if others:
                        waiting.insert(0, dataclasses.replace(group, recipes=tuple(others)))
    finally:
        for process in running:
            process.interrupt()
        for process in running:
            process.close()


def _require_expected(todo: plan.Plan, expected: dict[str, str]) -> None:
    different = [recipe.name for recipe, digest in todo.outstanding if expected.get(recipe.name, digest) != digest]
    if different:
        raise EnvironmentUnusableError(
            f"this machine would make other files of {todo.model.source.name}",
            expected="the code, tool versions, images and weights that the command was started with",
            received=f"others, for {', '.join(different)}",
            action="install the same release of tfvit everywhere, and name files and folders that all machines see under the same path",
        )
