"""The line from a variant name to artifacts, one function per arrow. Nothing here prints or parses arguments.

todo = plan(source, recipes, settings, progress, store)   names, files and images checked, nothing heavy loaded
for outcome in convert(todo, progress): ...               the model is built and exported once, recipes share it
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibration.image_set import ImageSet, Split, open_image_set
from edge import artifact, self_description
from edge.cache import Store
from edge.float_model import FloatModel, require_tensorflow_backend
from edge.provenance import code_sha256, tool_versions
from edge.recipes import Limits, Recipe
from edge.sources import Source
from tfvit.errors import InputError, UsageError
from tfvit.labels import published_labels
from tfvit.preprocessing import Preprocessing
from tfvit.terminal import Progress

# Images the drift is measured on; never among the calibration images.
DRIFT_SAMPLES = 32
# Of the latency before and after a repair
REPAIR_ROUNDS = 20


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything else a conversion depends on.

    Attributes:
        calibration: "builtin", a folder or a zip.
        calibration_samples, seed: how many images, and which.
        drift_samples: how many others the drift is measured on.
        labels: one per class, or None.
        input_dtype: "float32" or "uint8".
        output: "probabilities" or "logits".
        gate: whether a file that misses its limits is refused.
        min_snr_db, min_agreement, max_top1_drop: limits instead of the recipe's own.
        folder: where artifacts go.
        force: rebuild what is current, overwrite what is foreign.
        repair: whether a recipe that can may demote layers to pass its gate.
        explain: whether each dense layer's own effect on the logits is measured.
        min_runtime: the oldest TensorFlow Lite the files must run on, for example (2, 14); None for any.
        threads: for running files.
    """

    calibration: str = "builtin"
    calibration_samples: int = 128
    drift_samples: int = DRIFT_SAMPLES
    seed: int = 0
    labels: tuple[str, ...] | None = None
    input_dtype: str = "float32"
    output: str = "probabilities"
    gate: bool = True
    min_snr_db: float | None = None
    min_agreement: float | None = None
    max_top1_drop: float | None = None
    folder: Path = Path("artifacts")
    force: bool = False
    repair: bool = True
    explain: bool = False
    min_runtime: tuple[int, ...] | None = None
    threads: int = dataclasses.field(
        default_factory=lambda: len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )

    def limits(self, recipe: Recipe) -> Limits:
        own = recipe.limits
        return Limits(
            min_snr_db=own.min_snr_db if self.min_snr_db is None else self.min_snr_db,
            min_agreement=own.min_agreement if self.min_agreement is None else self.min_agreement,
            max_top1_drop=own.max_top1_drop if self.max_top1_drop is None else self.max_top1_drop,
        )


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one recipe.

    Attributes:
        status: "written", "current" (already there, skipped) or "refused" (the gate failed, nothing written).
        failures: what missed its limit; may be there with "written" where the gate is off.
        sensitivities: of each dense layer, where they were measured.
        repair_ms: median milliseconds of the file before and after its repair, in one interleaved run.
    """

    name: str
    status: str
    path: Path
    manifest: dict[str, Any]
    failures: tuple[str, ...] = ()
    sensitivities: tuple[Any, ...] = ()
    repair_ms: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Failed:
    """A recipe that came to nothing.

    Attributes:
        error: a `UserError` is something the user can mend.
    """

    name: str
    error: Exception


@dataclasses.dataclass(frozen=True)
class Plan:
    """What there is to do for one model, before anything heavy is loaded.

    Attributes:
        model, settings, image_set, split: with what.
        current: files that are there already.
        outstanding: recipes that are to be made, and what identifies their inputs.
    """

    model: FloatModel
    settings: Settings
    image_set: ImageSet
    split: Split
    current: tuple[Outcome, ...]
    outstanding: tuple[tuple[Recipe, str], ...]


def plan(source: Source, recipes: Sequence[Recipe], settings: Settings, progress: Progress, store: Store) -> Plan:
    """Looks at the images and at what is there. A saved model is built for it, once.

    Args:
        source: the model.
        recipes: what to make of it.
        settings: how.
        progress: stages go there.
        store: where the float file, the reference's answers and the activation ranges are kept for the next recipe or run.

    Raises:
        UsageError, InputError, EnvironmentUnusableError: from settings, images, a saved model, foreign files in the way.
    """
    if settings.labels is None:
        settings = dataclasses.replace(settings, labels=published_labels(source.weights.published))
    if settings.drift_samples < 1:
        raise UsageError(
            "nothing to measure the drift on",
            expected="--drift-samples of at least 1",
            received=str(settings.drift_samples),
            action="ask for 32 or more; --no-gate writes a file whatever its drift",
        )
    if settings.min_runtime:
        recipes = [recipe.for_runtime(settings.min_runtime) for recipe in recipes]
    image_set = open_image_set(settings.calibration)
    split = image_set.split(settings.calibration_samples, settings.drift_samples, settings.seed)
    if split.note:
        progress.note(split.note)
    model = FloatModel(source, store, progress)
    current, outstanding = [], []
    for recipe in recipes:
        digest = _inputs_sha256(source, recipe, settings, image_set, split, model.preprocessing)
        explained = settings.explain and recipe.can_be_explained
        found = None if explained or settings.force else _current_outcome(source.artifact_name(recipe), digest, settings)
        if found:
            current.append(found)
        else:
            outstanding.append((recipe, digest))
    if not settings.force:
        for recipe, _ in outstanding:
            artifact.refuse_foreign_files(settings.folder, source.artifact_name(recipe))
    return Plan(model, settings, image_set, split, tuple(current), tuple(outstanding))


def convert(todo: Plan, progress: Progress) -> Iterator[Outcome | Failed]:
    """Converts one model with every outstanding recipe; artifacts are saved one by one as they pass. One that fails does not stop the next.

    Raises:
        UserError: what no recipe of this model can do without is missing.
    """
    if not todo.outstanding:
        return
    source = todo.model.source
    require_tensorflow_backend()
    with progress.stage("load the runtime", subject=source.name):
        from edge.attempt import FloatGraphs
    model, split, preprocessing = todo.model, todo.split, todo.model.preprocessing
    labels = checked_labels(todo.settings.labels, model.facts.classes)
    images = list(todo.image_set.read(split.held_out, preprocessing))
    reference = model.reference_logits(iter(images), len(images), todo.image_set.digest(split.held_out, preprocessing))
    _require_finite_reference(reference, source.name)
    indices = _label_indices(todo.image_set, split, preprocessing, labels)
    conversion = _Conversion(
        todo, FloatGraphs(model.float_file, todo.settings.input_dtype, todo.settings.output), images, reference, indices, labels, progress
    )
    for recipe, digest in todo.outstanding:
        try:
            yield conversion.outcome(recipe, digest)
        except Exception as error:
            progress.stop_where_interrupted()  # native code may have turned the one exception into another
            yield Failed(source.artifact_name(recipe), error)


@dataclasses.dataclass
class _Conversion:
    """One model with what all its recipes are made from and judged by."""

    todo: Plan
    graphs: Any
    images: list[np.ndarray]
    reference: np.ndarray
    indices: np.ndarray | None
    labels: tuple[str, ...] | None
    progress: Progress
    images_were_checked: bool = False

    def outcome(self, recipe: Recipe, inputs_sha256: str) -> Outcome:
        from edge.attempt import Attempt
        from edge.runtime import interleaved_milliseconds

        settings, source, progress = self.todo.settings, self.todo.model.source, self.progress
        graph = self.graphs.of(recipe)
        self._calibrate(graph, recipe)
        name, limits, is_random = source.artifact_name(recipe), settings.limits(recipe), source.weights.is_random
        attempt = Attempt(recipe, graph, self.images, self.indices, self.reference, limits, settings.output, is_random, settings.threads)
        with progress.stage("quantize", subject=name):
            file = attempt.file()
        with progress.stage("check the file", total=len(self.images), subject=name) as advance:
            target = attempt.logits(file, advance)
            failures = attempt.failures(target)
        found, repair, repair_ms = [], None, None
        if (failures and settings.repair and recipe.repairs) or (settings.explain and recipe.can_be_explained):
            total = attempt.sensitivity_runs()
            with progress.stage("measure each layer", total=total, subject=name) as advance:
                found = attempt.sensitivities(advance)
        if failures and settings.repair and recipe.repairs:
            with progress.stage("repair", subject=name):
                better = attempt.repaired(file, failures, found)
            if better is not None:
                before, (file, repair) = file, better
                target = attempt.logits(file)
                repair_ms = tuple(np.median(interleaved_milliseconds((before, file), 1, REPAIR_ROUNDS, 3), axis=1).tolist())
        with progress.stage("describe", subject=name):
            manifest, file, failures = _describe(self.todo, self.labels, file, attempt, target, repair, inputs_sha256)
        path = settings.folder / f"{name}.tflite"
        outcome = Outcome(name, "written", path, manifest, tuple(failures), tuple(found), repair_ms)
        if failures and settings.gate:
            return dataclasses.replace(outcome, status="refused")
        with progress.stage("save", subject=name):
            artifact.save(artifact.Artifact(name, file, manifest, self.labels), settings.folder, force=settings.force)
        return outcome

    def _calibrate(self, graph: Any, recipe: Recipe) -> None:
        """Adds to a graph's calibration what a recipe needs and is not there yet."""
        from edge import expected_images, quantize

        model, settings, known, split = self.todo.model, self.todo.settings, graph.calibration, self.todo.split
        tensors, patches = quantize.watched_tensors(graph.file, recipe)
        tensors = {name: index for name, index in tensors.items() if name not in known.ranges or name in patches.keys() - known.rows.keys()}
        if not tensors:
            return

        def passing() -> Iterator[np.ndarray]:
            return watched.passing(self.todo.image_set.read(split.calibration, model.preprocessing))

        watched, wanted = expected_images.WatchedImages(), {name: side for name, side in patches.items() if name in tensors}
        digest = self.todo.image_set.digest(split.calibration, model.preprocessing)
        seen = model.calibrated(graph.file, tensors, wanted, passing(), len(split.calibration), digest, settings.threads)
        if not self.images_were_checked:
            if not watched.facts:  # the ranges were kept; what to think of the images is said each time
                collections.deque(passing(), maxlen=0)
            is_random = model.source.weights.is_random
            for check in expected_images.unfit(watched, self.todo.image_set.source, model, is_random, settings.gate):
                self.progress.warn(f"calibration images, {check.name}: {check.detail}")
            self.images_were_checked = True
        known.add(seen)


def _describe(
    todo: Plan,
    labels: tuple[str, ...] | None,
    quantized: bytes,
    attempt: Any,
    target: np.ndarray,
    repair: dict[str, Any] | None,
    inputs_sha256: str,
) -> tuple[dict[str, Any], bytes, list[str]]:
    """The manifest, the file that describes itself, and what missed its limit."""
    from edge.manifest import manifest

    model, settings, image_set, split = todo.model, todo.settings, todo.image_set, todo.split
    source, recipe, failures = model.source, attempt.recipe, attempt.failures(target)
    document, file = manifest(
        name=source.artifact_name(recipe),
        variant=source.variant.id if source.variant else None,
        recipe=recipe,
        weights=model.origin,
        exportable=model.facts,
        input_dtype=recipe.input_dtype(settings.input_dtype),
        output=recipe.output(settings.output),
        calibration=_calibration_block(settings, image_set, split, model.preprocessing) if recipe.needs_calibration else None,
        labels=labels,
        settings=_settings_block(source, recipe, settings, image_set, split, model.preprocessing),
        quantized=quantized,
        drift=attempt.drift(target),
        drift_source=image_set.source,
        limits=attempt.limits,
        collapse=attempt.collapse(target),
        repair=repair,
        passed=not failures,
        tools=tool_versions(),
        inputs_sha256=inputs_sha256,
        code_sha256=code_sha256(),
    )
    return document, file, [*failures, *_too_new(document, settings)]


def _too_new(document: Mapping[str, Any], settings: Settings) -> list[str]:
    """Whether the file needs a newer runtime than was asked for."""
    needed = document["file"]["min_runtime_version"]
    if settings.min_runtime is None or (
        needed and tuple(int(part) for part in needed.split("."))[: len(settings.min_runtime)] <= settings.min_runtime
    ):
        return []
    return [f"needs TensorFlow Lite {needed or 'of unknown version'}, asked for {'.'.join(map(str, settings.min_runtime))} (--min-runtime)"]


def _calibration_block(settings: Settings, image_set: ImageSet, split: Split, preprocessing: Preprocessing) -> dict[str, Any]:
    return {
        "source": image_set.source,
        "sha256": image_set.digest(split.calibration, preprocessing),
        "samples": len(split.calibration),
        "seed": settings.seed,
    }


def _settings_block(
    source: Source, recipe: Recipe, settings: Settings, image_set: ImageSet, split: Split, preprocessing: Preprocessing
) -> dict[str, Any]:
    """What was asked for: with weights and tools all that `edge.verify` needs to make the file again."""
    return {
        "input": settings.input_dtype,
        "output": settings.output,
        "takes_pixels": source.takes_pixels,
        "without_dynamic": recipe.without_dynamic,
        "repair": settings.repair,
        "labels_sha256": artifact.sha256(self_description.label_bytes(settings.labels)) if settings.labels else None,
        "images": {
            "source": image_set.source,
            "calibration_samples": settings.calibration_samples,
            "drift_samples": settings.drift_samples,
            "seed": settings.seed,
            "sha256": image_set.digest((*split.calibration, *split.held_out), preprocessing),
        },
    }


def _inputs_sha256(
    source: Source, recipe: Recipe, settings: Settings, image_set: ImageSet, split: Split, preprocessing: Preprocessing
) -> str:
    """Identifies everything an artifact's bytes and manifest depend on: equal inputs, equal files."""
    weights = f"random:{source.weights.random_seed}" if source.weights.is_random else source.weights.sha256
    inputs = {
        "schema_version": artifact.SCHEMA_VERSION,
        "name": source.artifact_name(recipe),
        "takes_pixels": source.takes_pixels,
        "recipe": dataclasses.asdict(recipe),
        "weights": weights,
        "calibration": _calibration_block(settings, image_set, split, preprocessing) if recipe.needs_calibration else None,
        "drift": [image_set.source, image_set.digest(split.held_out, preprocessing)],
        "labels": settings.labels,
        "input": settings.input_dtype,
        "output": settings.output,
        "limits": dataclasses.asdict(settings.limits(recipe)),
        "repair": settings.repair and recipe.repairs,
        "tools": tool_versions(),
        "code": code_sha256(),
    }
    return hashlib.sha256(artifact.canonical_json(inputs).encode()).hexdigest()


def _current_outcome(name: str, digest: str, settings: Settings) -> Outcome | None:
    """What is already there. A file written without the gate goes on failing its check."""
    current = artifact.load_current(settings.folder, name, digest)
    if current is None:
        return None
    failures = () if current.manifest["drift"]["passed"] else ("missed its drift limits when it was written",)
    failures = (*failures, *_too_new(current.manifest, settings))
    return Outcome(name, "current", settings.folder / f"{name}.tflite", current.manifest, failures)


def _label_indices(image_set: ImageSet, split: Split, preprocessing: Preprocessing, labels: tuple[str, ...] | None) -> np.ndarray | None:
    """Class indices of the held-out images, where every one has a label the model knows."""
    if labels is None or any(reference.label not in labels for reference in split.held_out):
        return None
    kept = [reference for reference, _ in image_set.read_with_references(split.held_out, preprocessing)]
    return np.asarray([labels.index(reference.label) for reference in kept])


def checked_labels(labels: tuple[str, ...] | None, classes: int) -> tuple[str, ...] | None:
    """The labels of a model with so many classes.

    Raises:
        InputError: another number of them.
    """
    if labels is not None and len(labels) != classes:
        raise InputError(
            "the labels do not fit the model",
            expected=f"{classes} labels, one per line",
            received=f"{len(labels)} labels",
            action="pass the label file the model was trained with",
        )
    return labels


def _require_finite_reference(logits: np.ndarray, name: str) -> None:
    if not np.isfinite(logits).all():
        raise InputError(
            "the float Keras model itself gives NaN or infinity",
            expected="finite logits on every image",
            received=f"{int((~np.isfinite(logits)).any(axis=1).sum())} of {len(logits)} images of {name} with non-finite logits",
            action="check the weights",
        )
