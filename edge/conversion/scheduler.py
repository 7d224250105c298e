"""Converts several models with several recipes, one model after the other or side by side, each in a process of its own.

A file that cannot be made is an outcome, and the others go on. Running a stopped command again continues it: finished files are current,
and intermediate results lie in the cache.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import time
from collections.abc import Callable, Generator, Sequence

from edge.conversion import costs
from edge.conversion.cells import Cell, Group, cells, outstanding
from edge.conversion.worker import MatrixProcess
from edge.runtime import machine
from tfvit.progress import Progress


def run(groups: Sequence[Group], jobs: int, cluster: str | None, progress: Progress, finished: Callable[[Cell], None]) -> list[Cell]:
    """Converts all groups.

    Args:
        groups: one for each model.
        jobs: how many models to convert side by side. A single model is converted in this process.
        cluster: address of a dask scheduler whose workers convert instead of this machine.
        progress: is told everything that goes on.
        finished: called with each cell when it is done.

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
            finished(cell)  # before the user is told, so that what the user was told is kept
            whole(f"{cell.name} {cell.status}", estimate.share, estimate.seconds_left)
    return [found[key] for key in order]


class Estimate:
    """How much of the work is done, by the measured cost of each cell.

    Args:
        groups: all the work.
        clock: gives seconds.
    """

    def __init__(self, groups: Sequence[Group], clock: Callable[[], float]) -> None:
        self._clock, self._start = clock, clock()
        self._files = {
            (group.source.name, recipe.name): costs.seconds(group.source, recipe.name) for group in groups for recipe in group.recipes
        }
        self._models = {group.source.name: float(costs.cost(group.source).model_seconds) for group in groups}
        self._done = 0.0

    def finished(self, cell: Cell) -> None:
        """Counts a cell as done. A file that was there already counts as no work; a model's first one counts with what its files share."""
        seconds = self._files.pop((cell.model, cell.recipe))
        if cell.status != "current":
            self._done += seconds + self._models.pop(cell.model, 0.0)

    @property
    def _left(self) -> float:
        models = {model for model, _ in self._files}
        return sum(self._files.values()) + sum(seconds for model, seconds in self._models.items() if model in models)

    @property
    def share(self) -> float:
        total = self._left + self._done
        return self._done / total if total > 0 else 1.0

    @property
    def seconds_left(self) -> float | None:
        """None before the first file is made, and at the end."""
        known = self._done > 0 and self.share < 1 - 1e-9
        return (self._clock() - self._start) * self._left / self._done if known else None


def _side_by_side(groups: Sequence[Group], jobs: int, progress: Progress) -> Generator[Cell]:
    """Converts each group in a process of its own, as many at once as `jobs` and the memory allow."""
    waiting: list[Group] = []
    for one in outstanding(groups, progress):
        if isinstance(one, Group):
            waiting.append(one)
        else:
            yield one
    if jobs > 1:  # the longest first, so that no long one runs alone at the end
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
            if kind == "cell":
                (cell,) = content
                left = tuple(recipe for recipe in running[process].recipes if recipe.name != cell.recipe)
                running[process] = dataclasses.replace(running[process], recipes=left)
                yield cell
            elif kind == "exit":
                group = running.pop(process)
                if group.recipes:  # one recipe took it down; the others get another process
                    first, *others = group.recipes
                    yield group.failed(first, *content)
                    if others:
                        waiting.insert(0, dataclasses.replace(group, recipes=tuple(others)))
            else:
                getattr(progress, kind)(*content)
    finally:
        for process in running:
            process.interrupt()
        for process in running:
            process.close()
