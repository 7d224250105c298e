"""The steps of `edge.ship`. Each is one call of a command's function; one that fails stops only what needs its result."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import edge
from edge.artifacts.artifact import Artifact
from edge.runtime import machine
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, UserError
from tfvit.hashing import file_sha256

DONE, CURRENT, FAILED, LEFT_OUT = "done", "current", "failed", "left out"
BENCHMARK_FILE, REPORT_FILE = "benchmark.json", "report.html"


@dataclasses.dataclass
class Step:
    """One step and how it ended.

    Attributes:
        name: the command's.
        status: `DONE`, `CURRENT` (nothing had to be done), `FAILED` or `LEFT_OUT`.
        words: what it gave, or why not.
        code: its exit code.
        seconds: how long it took.
        error: the error that ended it, in its command's words.
    """

    name: str
    status: str = LEFT_OUT
    words: str = ""
    code: int = EXIT_OK
    seconds: float = 0.0
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be shipped; the arguments of `edge.ship`.

    Attributes:
        model, checkpoint: one of them.
        recipes: what to make of it.
        images: for validation, or None.
        app: an Android project or module, or None.
        out: the folder of everything that is made.
        conversion: further arguments of `edge.convert`.
        samples: how many of the images; None for all.
        preset: how long to measure.
    """

    model: Any
    checkpoint: str | Path | None
    recipes: tuple[str, ...]
    images: Path | None
    app: Path | None
    out: Path
    conversion: dict[str, Any]
    samples: int | None
    preset: str


@dataclasses.dataclass
class Shipped:
    """What came of a request: its steps, the artifacts that passed, and the documents of report and bundle (None where there is none)."""

    steps: list[Step]
    artifacts: list[Artifact] = dataclasses.field(default_factory=list)
    report: dict[str, Any] | None = None
    bundle: dict[str, Any] | None = None


def ship(request: Request) -> Shipped:
    """Convert, validate, benchmark, report, bundle."""
    shipped = Shipped([])
    _run(shipped, "convert", lambda step: _convert(request, shipped, step))
    without = "" if shipped.artifacts else "there is no file"
    _run(shipped, "validate", lambda step: _validate(request, shipped, step), without or ("" if request.images else "no --images"))
    _run(shipped, "benchmark", lambda step: _benchmark(request, shipped, step), without)
    _run(shipped, "report", lambda step: _report(request, shipped, step), without)
    no_app = "" if request.app else "no --app"
    _run(
        shipped,
        "bundle",
        lambda step: _bundle(request, shipped, step),
        without or no_app or ("" if shipped.report else "there is no report"),
    )
    return shipped


def _run(shipped: Shipped, name: str, work: Callable[[Step], None], why_not: str = "") -> None:
    """One step with its time; an error that the user can mend is kept, and the next step goes on."""
    step, start = Step(name), time.monotonic()
    shipped.steps.append(step)
    if why_not:
        step.words = why_not
        return
    step.status = DONE
    try:
        work(step)
    except UserError as error:
        step.status, step.words, step.code, step.error = FAILED, error.summary, error.exit_code, str(error)
    step.seconds = time.monotonic() - start


def _convert(request: Request, shipped: Shipped, step: Step) -> None:
    """All recipes at once, since they share an export; one at a time where one of them fails."""
    given: dict[str, Any] = {"checkpoint": request.checkpoint, "out": request.out, "quiet": True, **request.conversion}
    before = {path: path.stat().st_mtime_ns for path in request.out.glob("*.tflite")}
    errors: list[UserError] = []
    try:
        made = _listed(edge.convert(request.model, list(request.recipes), **given))
    except UserError as error:
        if len(request.recipes) == 1:
            raise
        errors, made = [], []
        for recipe in request.recipes:
            try:
                made += _listed(edge.convert(request.model, recipe, **given))
            except UserError as one:
                errors.append(one)
        if not made:
            raise error
    shipped.artifacts = [artifact for artifact in made if artifact.path is not None]
    refused = [artifact.name for artifact in made if artifact.path is None]
    kept = [one for one in shipped.artifacts if one.path in before and one.path.stat().st_mtime_ns == before[one.path]]
    step.status = CURRENT if shipped.artifacts and len(kept) == len(made) else DONE
    step.words = f"{len(shipped.artifacts)} of {len(request.recipes)} files" + (f", refused: {', '.join(refused)}" if refused else "")
    if errors:
        step.words, step.error = f"{step.words}, {errors[0].summary}", str(errors[0])
    if refused or errors:
        step.status, step.code = FAILED, max([EXIT_CHECK_FAILED] * bool(refused) + [error.exit_code for error in errors])


def _listed(found: Artifact | Sequence[Artifact]) -> list[Artifact]:
    return [found] if isinstance(found, Artifact) else list(found)


def _validate(request: Request, shipped: Shipped, step: Step) -> None:
    own: dict[str, Any] = {"model": request.model if not _is_variant(request.model) else None, "checkpoint": request.checkpoint}
    trusted: dict[str, Any] = {
        "trust_model": request.conversion.get("trust_model", False),
        "imports": request.conversion.get("imports", ()),
    }
    failed = []
    for artifact in shipped.artifacts:
        path = request.out / f"{artifact.name}.validation.json"
        found = edge.validate(artifact, str(request.images), samples=request.samples, save=path, quiet=True, **own, **trusted)
        failed += [] if found.passed else [artifact.name]
    step.words = f"{len(shipped.artifacts)} files on {request.images}"
    if failed:
        step.status, step.code, step.words = FAILED, EXIT_CHECK_FAILED, f"missed their limits: {', '.join(failed)}"


def _is_variant(model: Any) -> bool:
    return isinstance(model, str) and not model.endswith((".keras", ".h5"))


def _benchmark(request: Request, shipped: Shipped, step: Step) -> None:
    path = request.out / BENCHMARK_FILE
    if _is_measured(path, shipped.artifacts):
        step.status, step.words = CURRENT, "measured already, on this machine"
        return
    found = edge.benchmark(shipped.artifacts, preset=request.preset, save=path, quiet=True)
    valid = sum(bool(row["valid"]) for row in found.rows)
    step.words = f"{valid} of {len(found.rows)} measurements valid"
    if not found.passed:
        wrong = [f"{Path(row['file']).stem}: {row['status']}" for row in found.rows if row["status"] != "ok"]
        step.status, step.code, step.words = FAILED, EXIT_CHECK_FAILED, ", ".join(wrong)


def _is_measured(path: Path, artifacts: Sequence[Artifact]) -> bool:
    """Whether a document here has a valid row of this machine for each of these files."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        valid = {row["sha256"] for row in document["results"] if row["valid"] and row["status"] == "ok"}
        here = document["environment"]["cpu"] == machine.cpu_name()
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return here and {file_sha256(artifact.path) for artifact in artifacts if artifact.path} <= valid


def _report(request: Request, shipped: Shipped, step: Step) -> None:
    found = edge.report(request.out, output=request.out / REPORT_FILE, quiet=True)
    shipped.report = found.document
    step.words = str(request.out / REPORT_FILE)
    if not found.passed:
        step.status, step.code = FAILED, EXIT_CHECK_FAILED


def _bundle(request: Request, shipped: Shipped, step: Step) -> None:
    """The files that the report recommends."""
    assert shipped.report is not None
    chosen = recommended_files(shipped)
    if not chosen:
        step.status, step.code, step.words = FAILED, EXIT_CHECK_FAILED, "the report recommends no file that may ship"
        return
    found = edge.bundle([request.out / name for name in chosen], app=request.app, quiet=True)
    shipped.bundle = found.document
    changed = [name for kind in ("added", "replaced", "removed") for name in found.document[kind]]
    step.words = f"{', '.join(chosen)} in {found.path}"
    step.status = DONE if changed or found.refusals else CURRENT
    if found.refusals:
        step.status, step.code, step.words = FAILED, EXIT_CHECK_FAILED, found.refusals[0]


def recommended_files(shipped: Shipped) -> list[str]:
    """The files of this shipment that the report would ship, each once: for the CPU first."""
    own = {artifact.name for artifact in shipped.artifacts}
    found = [one["file"] for one in (shipped.report or {"recommendations": []})["recommendations"] if one["ships"] and one["file"] in own]
    return [f"{name}.tflite" for name in dict.fromkeys(found)]
