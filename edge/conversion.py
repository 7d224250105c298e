"""The line from a variant name to artifacts, one function per arrow. Nothing here prints or parses arguments.

source = resolve_variant("small224", "auto", ...)      names and files checked, nothing heavy loaded
for outcome in convert(source, recipes, settings): ... the model is built and exported once, recipes share it
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from calibration.image_set import ImageSet, Split, open_image_set
from edge import artifact
from edge.recipes import Limits, Recipe
from edge.sources import Source, build
from tfvit.errors import EnvironmentUnusableError, InputError, UsageError
from tfvit.labels import published_labels
from tfvit.preprocessing import Preprocessing
from tfvit.terminal import Progress, stepping

# Images the drift is measured on; never among the calibration images.
DRIFT_SAMPLES = 32
# Of the latency before and after a repair
REPAIR_ROUNDS = 20
TOOLS = ("tfvit", "tensorflow", "keras", "ai-edge-litert", "ai-edge-quantizer", "numpy", "pillow")


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


def convert(source: Source, recipes: Sequence[Recipe], settings: Settings, progress: Progress) -> Iterator[Outcome]:
    """Converts one model with every recipe; artifacts are saved one by one as they pass.

    Raises:
        UserError: of any kind named in the functions below; nothing is half-written then.
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
    geometry = source.variant.preprocessing if source.variant else None
    outstanding = []
    for recipe in recipes:
        digest = _inputs_sha256(source, recipe, settings, image_set, split, geometry) if geometry else None
        if settings.explain and recipe.can_be_explained:
            digest = None
        current = _current_outcome(source.artifact_name(recipe), digest, settings) if digest and not settings.force else None
        if current:
            yield current
        else:
            outstanding.append(recipe)
    if not settings.force:
        for recipe in outstanding:
            artifact.refuse_foreign_files(settings.folder, source.artifact_name(recipe))
    if outstanding:
        yield from _convert_outstanding(source, outstanding, settings, image_set, split, progress)


def _convert_outstanding(
    source: Source, recipes: Sequence[Recipe], settings: Settings, image_set: ImageSet, split: Split, progress: Progress
) -> Iterator[Outcome]:
    with progress.stage("load TensorFlow", subject=source.name):
        require_tensorflow_backend()
        from edge import expected_images, export, quantize, ranges
        from edge.attempt import Attempt, FloatGraphs
        from edge.runtime import interleaved_milliseconds
    with progress.stage("build the model", subject=source.name):
        model, origin = build(source)
        preprocessing = source.variant.preprocessing if source.variant else None
        exportable = export.exportable(model, preprocessing, takes_pixels=source.takes_pixels if source.variant is None else False)
    preprocessing = exportable.preprocessing
    labels = checked_labels(settings.labels, exportable.classes)
    if source.variant is None and not settings.force:
        recipes, current = _without_current(source, recipes, settings, image_set, split, preprocessing)
        yield from current
        if not recipes:
            return
    graphs = FloatGraphs(exportable, settings.input_dtype, settings.output, progress, source.name)

    def pixels(references: Sequence[Any]) -> Iterator[np.ndarray]:
        return image_set.read(references, preprocessing)

    with progress.stage("run the float Keras model", total=len(split.held_out), subject=source.name) as advance:
        images, reference = [], []
        for image, logits in zip(pixels(split.held_out), export.reference_logits(exportable, pixels(split.held_out)), strict=True):
            images.append(image)
            reference.append(logits)
            advance()
    reference = np.stack(reference)
    _require_finite_reference(reference, source.name)

    checked, indices = False, _label_indices(image_set, split, exportable, labels)
    for recipe in recipes:
        graph = graphs.of(recipe)
        tensors, patches = quantize.watched_tensors(graph.file, recipe)
        known = graph.calibration
        tensors = {name: index for name, index in tensors.items() if name not in known.ranges or name in patches.keys() - known.rows.keys()}
        if tensors:
            with progress.stage("calibrate", total=len(split.calibration), subject=source.name) as advance:
                watched = expected_images.WatchedImages()
                samples = stepping((image[None] for image in watched.passing(pixels(split.calibration))), advance)
                wanted = {name: side for name, side in patches.items() if name in tensors}
                known.add(ranges.collect(graph.file, tensors, samples, settings.threads, wanted))
            if not checked:
                for check in expected_images.unfit(watched, image_set.source, exportable, origin.is_random, settings.gate):
                    progress.warn(f"calibration images, {check.name}: {check.detail}")
                checked = True
        name = source.artifact_name(recipe)
        limits, is_random = settings.limits(recipe), source.weights.is_random
        attempt = Attempt(recipe, graph, images, indices, reference, limits, settings.output, is_random, settings.threads)
        with progress.stage("quantize", subject=name):
            file = attempt.file()
        with progress.stage("check the file", total=len(images), subject=name) as advance:
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
        if labels:
            file = artifact.embed_labels(file, labels)
        with progress.stage("describe", subject=name):
            manifest, failures = _describe(source, settings, image_set, split, exportable, origin, file, attempt, target, repair)
        path = settings.folder / f"{name}.tflite"
        outcome = Outcome(name, "written", path, manifest, tuple(failures), tuple(found), repair_ms)
        if failures and settings.gate:
            yield dataclasses.replace(outcome, status="refused")
            continue
        with progress.stage("save", subject=name):
            artifact.save(artifact.Artifact(name, file, manifest, labels), settings.folder, force=settings.force)
        yield outcome


def _describe(
    source: Source,
    settings: Settings,
    image_set: ImageSet,
    split: Split,
    exportable: Any,
    origin: Any,
    file: bytes,
    attempt: Any,
    target: np.ndarray,
    repair: dict[str, Any] | None,
) -> tuple[dict[str, Any], list[str]]:
    """The manifest, and what missed its limit."""
    from edge.manifest import manifest

    recipe, failures = attempt.recipe, attempt.failures(target)
    document = manifest(
        name=source.artifact_name(recipe),
        variant=source.variant.id if source.variant else None,
        recipe=recipe,
        weights=origin,
        exportable=exportable,
        input_dtype=recipe.input_dtype(settings.input_dtype),
        output=recipe.output(settings.output),
        calibration=_calibration_block(settings, image_set, split, exportable.preprocessing) if recipe.needs_calibration else None,
        file=file,
        drift=attempt.drift(target),
        drift_source=image_set.source,
        limits=attempt.limits,
        collapse=attempt.collapse(target),
        repair=repair,
        passed=not failures,
        tools=tool_versions(),
        inputs_sha256=_inputs_sha256(source, recipe, settings, image_set, split, exportable.preprocessing),
    )
    return document, [*failures, *_too_new(document, settings)]


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


def _without_current(
    source: Source, recipes: Sequence[Recipe], settings: Settings, image_set: ImageSet, split: Split, preprocessing: Preprocessing
) -> tuple[list[Recipe], list[Outcome]]:
    """For a saved model, whose input size is known only once it is loaded."""
    outstanding, current = [], []
    for recipe in recipes:
        digest = _inputs_sha256(source, recipe, settings, image_set, split, preprocessing)
        explained = settings.explain and recipe.can_be_explained
        outcome = None if explained else _current_outcome(source.artifact_name(recipe), digest, settings)
        if outcome:
            current.append(outcome)
        else:
            outstanding.append(recipe)
    return outstanding, current


def _current_outcome(name: str, digest: str, settings: Settings) -> Outcome | None:
    """What is already there. A file written without the gate goes on failing its check."""
    current = artifact.load_current(settings.folder, name, digest)
    if current is None:
        return None
    failures = () if current.manifest["drift"]["passed"] else ("missed its drift limits when it was written",)
    failures = (*failures, *_too_new(current.manifest, settings))
    return Outcome(name, "current", settings.folder / f"{name}.tflite", current.manifest, failures)


def _label_indices(image_set: ImageSet, split: Split, exportable: Any, labels: tuple[str, ...] | None) -> np.ndarray | None:
    """Class indices of the held-out images, where every one has a label the model knows."""
    if labels is None or any(reference.label not in labels for reference in split.held_out):
        return None
    kept = [reference for reference, _ in image_set.read_with_references(split.held_out, exportable.preprocessing)]
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


def require_tensorflow_backend() -> None:
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise EnvironmentUnusableError(
            "conversion needs Keras on TensorFlow",
            expected="KERAS_BACKEND=tensorflow",
            received=f"KERAS_BACKEND={backend}",
            action="set KERAS_BACKEND=tensorflow for this command; models trained on another backend load there",
        )


def tool_versions() -> dict[str, str]:
    return {tool: metadata.version(tool) for tool in TOOLS}


@functools.cache
def code_sha256() -> str:
    """Our own source code: between two releases, a changed line makes every artifact outdated."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(path for package in ("tfvit", "calibration", "edge") for path in (root / package).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
