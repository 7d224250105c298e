"""The line from a variant name to artifacts, one function per arrow. Nothing here prints or parses arguments.

source = resolve_variant("small224", "auto", ...)      names and files checked, nothing heavy loaded
for outcome in convert(source, recipes, settings): ... the model is built and exported once, recipes share it
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from calibration.checks import FAIL, NORMALIZED_HIGHEST, OK, Check, check_channel_order, check_content, check_statistics
from calibration.image_set import ImageSet, Split, open_image_set
from calibration.survey import PixelFacts, pixel_facts
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
        _require_tensorflow_backend()
        from edge import export, quantize, ranges
        from edge.runtime import interleaved_milliseconds
    with progress.stage("build the model", subject=source.name):
        model, origin = build(source)
        preprocessing = source.variant.preprocessing if source.variant else None
        exportable = export.exportable(model, preprocessing, takes_pixels=source.takes_pixels if source.variant is None else False)
    preprocessing = exportable.preprocessing
    labels = _checked_labels(settings.labels, exportable.classes)
    if source.variant is None and not settings.force:
        recipes, current = _without_current(source, recipes, settings, image_set, split, preprocessing)
        yield from current
        if not recipes:
            return
    graphs = _FloatGraphs(exportable, settings, progress, source.name)

    def pixels(references: Sequence[Any]) -> Iterator[np.ndarray]:
        return image_set.read(references, preprocessing)

    with progress.stage("run the float Keras model", total=len(split.held_out), subject=source.name) as advance:
        images, reference = [], []
        for image, logits in zip(pixels(split.held_out), export.reference_logits(exportable, pixels(split.held_out)), strict=True):
            images.append(image)
            reference.append(logits)
            advance()
    _require_finite_reference(np.stack(reference), source.name)

    checked, indices = False, _label_indices(image_set, split, exportable, labels)
    for recipe in recipes:
        graph = graphs.of(recipe)
        tensors, patches = quantize.watched_tensors(graph.file, recipe)
        known = graph.calibration
        tensors = {name: index for name, index in tensors.items() if name not in known.ranges or name in patches.keys() - known.rows.keys()}
        if tensors:
            with progress.stage("calibrate", total=len(split.calibration), subject=source.name) as advance:
                watched = _Watched()
                samples = stepping((image[None] for image in watched.passing(pixels(split.calibration))), advance)
                wanted = {name: side for name, side in patches.items() if name in tensors}
                known.add(ranges.collect(graph.file, tensors, samples, settings.threads, wanted))
            if not checked:
                _check_calibration(watched, exportable, origin, image_set, settings, progress)
                checked = True
        name = source.artifact_name(recipe)
        line = _Quantization(recipe, graph, images, np.stack(reference), settings, source.weights.is_random)
        with progress.stage("quantize", subject=name):
            file = line.file()
        with progress.stage("check the file", total=len(images), subject=name) as advance:
            target = line.logits(file, advance)
            failures = line.failures(target, indices)
        found, repair, repair_ms = [], None, None
        if (failures and settings.repair and recipe.repairs) or (settings.explain and recipe.can_be_explained):
            total = line.sensitivity_runs()
            with progress.stage("measure each layer", total=total, subject=name) as advance:
                found = line.sensitivities(advance)
        if failures and settings.repair and recipe.repairs:
            with progress.stage("repair", subject=name):
                better = line.repaired(found, indices)
            if better is not None:
                before, (file, repair) = file, better
                target = line.logits(file)
                repair_ms = tuple(np.median(interleaved_milliseconds((before, file), 1, REPAIR_ROUNDS, 3), axis=1).tolist())
        if labels:
            file = artifact.embed_labels(file, labels)
        with progress.stage("describe", subject=name):
            manifest, failures = _describe(
                source, recipe, settings, image_set, split, exportable, origin, file, indices, np.stack(reference), target, repair
            )
        path = settings.folder / f"{name}.tflite"
        outcome = Outcome(name, "written", path, manifest, tuple(failures), tuple(found), repair_ms)
        if failures and settings.gate:
            yield dataclasses.replace(outcome, status="refused")
            continue
        with progress.stage("save", subject=name):
            artifact.save(artifact.Artifact(name, file, manifest, labels), settings.folder, force=settings.force)
        yield outcome


class _Watched:
    """What passes through of a set of images: the facts of each, and the first few themselves."""

    KEPT = 16

    def __init__(self) -> None:
        self.facts: list[PixelFacts] = []
        self.first: list[np.ndarray] = []

    def passing(self, images: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for image in images:
            self.facts.append(pixel_facts(image))
            if len(self.first) < self.KEPT:
                self.first.append(image)
            yield image


def _check_calibration(
    watched: _Watched, exportable: Any, origin: Any, image_set: ImageSet, settings: Settings, progress: Progress
) -> None:
    """Refuses calibration images that are not what the model expects; without the gate, warns.

    Only what no data of anyone's can be is refused: images of one colour, normalised ones, and such that a trained model is surer of with
    red and blue exchanged. Dark or pale images may be what an app sees: a warning.
    """
    from edge.collapse import looks_swapped

    found = [check_content(watched.facts), *check_statistics(watched.facts, exportable.preprocessing), check_channel_order(watched.facts)]
    order = found[-1]
    if order.status != OK and not origin.is_random:
        images = np.stack(watched.first).astype(np.float32)
        if looks_swapped(lambda pixels: np.asarray(exportable.logits(pixels)), images):
            found[-1] = Check(order.name, FAIL, f"{order.detail} The model is surer of them with red and blue exchanged")
    photographed = any(fact.highest > NORMALIZED_HIGHEST for fact in watched.facts)
    refused = [check for check in found if check.status == FAIL and not (check.name in ("brightness", "contrast") and photographed)]
    if refused and settings.gate:
        raise InputError(
            f"the calibration images in {image_set.source} are not what the model expects",
            expected="RGB images of 0..255 as the app will see them",
            received="; ".join(f"{check.name}: {check.detail}" for check in refused),
            action="give other images with --calibration, or --no-gate to use these",
        )
    for check in found:
        if check.status != OK:
            progress.warn(f"calibration images, {check.name}: {check.detail}")


@dataclasses.dataclass
class _FloatGraph:
    """A float file with what is known of its activations, as far as it has been asked for."""

    file: bytes
    calibration: Any


class _FloatGraphs:
    """The float file of each recipe: recipes that want the same one share it, and only the last one is kept."""

    def __init__(self, exportable: Any, settings: Settings, progress: Progress, name: str) -> None:
        self._exportable, self._settings, self._progress, self._name = exportable, settings, progress, name
        self._key: Any = None
        self._graph: _FloatGraph | None = None

    def of(self, recipe: Recipe) -> _FloatGraph:
        from edge import export, quantize
        from edge.ranges import Calibration
        from edge.reparametrize import reparametrize

        key = (recipe.rewrites, bool(recipe.integer_bits), recipe.integer_interface)
        if key != self._key or self._graph is None:
            self._graph = None
            with self._progress.stage("export the float graph", subject=self._name):
                rewritten = reparametrize(self._exportable, recipe.rewrites)
                # integers come in by quantizing a float input, not by a cast
                input_dtype = "float32" if recipe.integer_interface else self._settings.input_dtype
                file = export.export_float(rewritten, input_dtype, self._settings.output)
                self._key, self._graph = key, _FloatGraph(quantize.prepared(file, recipe), Calibration())
        return self._graph


class _Quantization:
    """One recipe on its float graph: its file, and what becomes of the file's answers."""

    def __init__(
        self, recipe: Recipe, graph: _FloatGraph, images: Sequence[np.ndarray], reference: np.ndarray, settings: Settings, is_random: bool
    ) -> None:
        self._recipe, self._graph, self._images, self._reference = recipe, graph, images, reference
        self._settings, self._is_random = settings, is_random

    def file(self, modes: Mapping[str, str] | None = None) -> bytes:
        from edge import quantize

        return quantize.quantize(self._graph.file, self._recipe, self._graph.calibration, modes)

    def logits(self, file: bytes, advance: Callable[[], None] = lambda: None) -> np.ndarray:
        """[N, classes], of the held-out images."""
        from edge.drift import logits_of_probabilities
        from edge.runtime import Interpreter

        interpreter = Interpreter(file, threads=self._settings.threads)
        outputs = np.stack([interpreter.run(image[None])[0] for image in stepping(self._images, advance)])
        return logits_of_probabilities(outputs) if self._recipe.output(self._settings.output) == "probabilities" else outputs

    def failures(self, target: np.ndarray, indices: np.ndarray | None) -> list[str]:
        """What misses its limit, collapse first."""
        from edge.collapse import signs_of_collapse
        from edge.drift import measure

        limits = self._settings.limits(self._recipe)
        measured = measure(self._reference, target, indices)
        return [*signs_of_collapse(self._reference, target), *measured.failures(limits, random_weights=self._is_random)]

    def _modes(self) -> dict[str, str]:
        from edge import flatbuffer, quantize

        return quantize.layer_modes(flatbuffer.read_model(self._graph.file), self._recipe, self._graph.calibration)

    def sensitivity_runs(self) -> int:
        """How many files `sensitivities` makes."""
        from edge import repair

        return sum(repair.steps_to_float(mode) for mode in self._modes().values())

    def sensitivities(self, advance: Callable[[], None]) -> list[Any]:
        from edge import repair

        return repair.sensitivities(self._graph.file, self._recipe, self._graph.calibration, self.logits, advance)

    def repaired(self, found: Sequence[Any], indices: np.ndarray | None) -> tuple[bytes, dict[str, Any]] | None:
        """A file that passes, and the manifest's `repair` block; None where even all layers in float do not."""
        from edge import repair

        original = self._modes()
        before = self.file()
        result = repair.repaired(original, repair.demotions(found), lambda modes: not self.failures(self.logits(self.file(modes)), indices))
        if result is None:
            return None
        modes, _ = result
        file = self.file(modes)
        measured = {(sensitivity.name, sensitivity.mode): sensitivity for sensitivity in found}
        total = sum({sensitivity.name: sensitivity.multiplications for sensitivity in found}.values())
        demoted = [
            {
                "layer": sensitivity.layer,
                "before": original[name],
                "after": mode,
                "alone_snr_db": round(sensitivity.snr_db, 2) if np.isfinite(sensitivity.snr_db) else None,
                "multiplications_share": round(sensitivity.multiplications / total, 6),
            }
            for name, mode in modes.items()
            if mode != original[name] and (sensitivity := measured[name, original[name]])
        ]
        return file, {"why": self.failures(self.logits(before), indices), "demoted": demoted, "cost_bytes": len(file) - len(before)}


def _describe(
    source: Source,
    recipe: Recipe,
    settings: Settings,
    image_set: ImageSet,
    split: Split,
    exportable: Any,
    origin: Any,
    file: bytes,
    indices: np.ndarray | None,
    reference: np.ndarray,
    target: np.ndarray,
    repair: dict[str, Any] | None,
) -> tuple[dict[str, Any], list[str]]:
    """The manifest, and what missed its limit."""
    from edge import drift
    from edge.collapse import signs_of_collapse
    from edge.manifest import manifest

    measured = drift.measure(reference, target, indices)
    limits = settings.limits(recipe)
    collapse = signs_of_collapse(reference, target)
    failures = [*collapse, *measured.failures(limits, random_weights=origin.is_random)]
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
        drift=measured,
        drift_source=image_set.source,
        limits=limits,
        collapse=collapse,
        repair=repair,
        passed=not failures,
        tools=_tool_versions(),
        inputs_sha256=_inputs_sha256(source, recipe, settings, image_set, split, exportable.preprocessing),
    )
    return document, failures


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
        "tools": _tool_versions(),
        "code": _code_sha256(),
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
    return Outcome(name, "current", settings.folder / f"{name}.tflite", current.manifest, failures)


def _label_indices(image_set: ImageSet, split: Split, exportable: Any, labels: tuple[str, ...] | None) -> np.ndarray | None:
    """Class indices of the held-out images, where every one has a label the model knows."""
    if labels is None or any(reference.label not in labels for reference in split.held_out):
        return None
    kept = [reference for reference, _ in image_set.read_with_references(split.held_out, exportable.preprocessing)]
    return np.asarray([labels.index(reference.label) for reference in kept])


def _checked_labels(labels: tuple[str, ...] | None, classes: int) -> tuple[str, ...] | None:
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


def _require_tensorflow_backend() -> None:
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise EnvironmentUnusableError(
            "conversion needs Keras on TensorFlow",
            expected="KERAS_BACKEND=tensorflow",
            received=f"KERAS_BACKEND={backend}",
            action="set KERAS_BACKEND=tensorflow for this command; models trained on another backend load there",
        )


def _tool_versions() -> dict[str, str]:
    return {tool: metadata.version(tool) for tool in TOOLS}


@functools.cache
def _code_sha256() -> str:
    """Our own source code: between two releases, a changed line makes every artifact outdated."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(path for package in ("tfvit", "calibration", "edge") for path in (root / package).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
