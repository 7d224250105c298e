"""Converts models on the workers of a dask cluster (the extra `cluster`), each model in a process of its own.

The files come back and are saved where the command runs. Each worker uses the cache of its machine.
"""

from __future__ import annotations

import dataclasses
import queue
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from edge.artifacts import artifact, store
from edge.conversion import cells
from edge.conversion.worker import MatrixProcess, ended_early
from edge.export import source as sources
from tfvit.errors import EnvironmentUnusableError, UserError
from tfvit.progress import Progress

_CONNECT_S = 10


def cells_on_cluster(address: str, groups: Sequence[cells.Group], progress: Progress) -> Generator[cells.Cell]:
    """Every cell, as the workers finish their groups.

    Args:
        address: of the scheduler, for example "tcp://10.0.0.1:8786".
        groups: one for each model.
        progress: is told the stages and notes of a group when the group is finished.

    Raises:
        EnvironmentUnusableError: there is no scheduler at the address, or it has no workers.
    """
    client = _connect(address)
    with client:
        submitted = {}
        for one in cells.outstanding(groups, progress):
            if isinstance(one, cells.Group):
                group = dataclasses.replace(one, store=store.Store(None))
                submitted[client.submit(cells_of, group, pure=False, retries=0)] = one
            else:
                yield one
        from distributed import as_completed

        try:
            for future in as_completed(submitted):
                group, saved = submitted[future], set()
                error: Exception = ended_early("every recipe's outcome", "none", "look at the worker's log")
                if future.status != "finished":
                    error = EnvironmentUnusableError(
                        f"the cluster did not convert {group.source.name}",
                        expected="a worker that lives until it is done",
                        received=str(future.exception() or future.status).splitlines()[0],
                        action="look at the workers' logs",
                    )
                for kind, content in future.result() if future.status == "finished" else ():
                    if kind == "cell":
                        saved.add(content[0].recipe)
                        yield _saved(content[0], group)
                    elif kind == "exit":
                        (error,) = content
                    else:
                        getattr(progress, kind)(*content)
                future.release()
                yield from (group.failed(recipe, error) for recipe in group.recipes if recipe.name not in saved)
        finally:
            client.cancel([future for future in submitted if not future.done()], force=True)


def cells_of(group: cells.Group) -> list[tuple[str, tuple]]:
    """Runs on a worker: converts a group and returns the events of its process. Cells carry their artifacts."""
    events: queue.SimpleQueue[tuple[Any, str, tuple]] = queue.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="tfvit-") as folder:
        try:
            source = sources.on_this_machine(group.source)
        except UserError as error:
            return [("cell", (group.failed(recipe, error),)) for recipe in group.recipes]
        settings = dataclasses.replace(group.settings, folder=Path(folder))
        process = MatrixProcess(dataclasses.replace(group, source=source, settings=settings, store=store.open_store()), events)
        told = []
        try:
            while not told or told[-1][0] != "exit":
                _, kind, content = events.get()
                if kind == "cell" and content[0].status == "written":
                    content = (dataclasses.replace(content[0], artifact=artifact.load(content[0].outcome.path)),)
                if kind not in ("begin", "step"):  # what comes back at the end shows no bars
                    told.append((kind, content))
        finally:
            process.interrupt()
            process.close()
    return told


def _saved(cell: cells.Cell, group: cells.Group) -> cells.Cell:
    """A worker's cell, with its file saved in the folder of the command."""
    if cell.outcome is None:
        return cell
    folder = group.settings.folder
    try:
        if cell.artifact is not None:
            artifact.save(cell.artifact, folder, force=group.settings.force)
    except UserError as error:
        return dataclasses.replace(cell, outcome=None, error=error, artifact=None)
    return dataclasses.replace(cell, outcome=dataclasses.replace(cell.outcome, path=folder / cell.outcome.path.name), artifact=None)


def _connect(address: str) -> Any:
    from distributed import Client

    try:
        client = Client(address, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:
        raise EnvironmentUnusableError(
            "no dask scheduler answers",
            expected=f"one at {address}",
            received=str(error) or type(error).__name__,
            action="start one with `dask scheduler`, and workers with `dask worker ADDRESS --nthreads 1`",
        ) from error
    if not client.scheduler_info()["workers"]:
        client.close()
        raise EnvironmentUnusableError(
            "the cluster has no workers",
            expected=f"workers of the scheduler at {address}",
            received="none",
            action="start some with `dask worker ADDRESS --nthreads 1`",
        )
    return client
