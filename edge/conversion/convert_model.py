"""The line from a variant name to artifacts, one function per arrow. Nothing here prints or parses arguments.

todo = plan(source, recipes, settings, progress, store)   names, files and images checked, nothing heavy loaded
for outcome in convert(todo, progress): ...               the model is built and exported once, recipes share it
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from calibration.image_set import ImageSet, Split
from edge.artifacts import artifact
from edge.artifacts.provenance import code_sha256, tool_versions
from edge.conversion.plan import Outcome, Plan, calibration_block, settings_block, too_new
from edge.export.float_model import require_tensorflow_backend
from edge.quantization.recipes import Recipe
from tfvit.errors import InputError
from tfvit.labels import checked_labels
from tfvit.preprocessing import Preprocessing
from tfvit.progress import Progress

# Of the latency before and after a repair
REPAIR_ROUNDS = 20


@dataclasses.dataclass(frozen=True)
class Failed:
    """A recipe that came to nothing.

    Attributes:
        error: a `UserError` is something the user can mend.
    """

    name: str
    error: Exception


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
        from edge.quantization.float_graph import FloatGraphs
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
        from edge.conversion.candidate import Attempt
        from edge.runtime.cpu import interleaved_milliseconds

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
        from edge.conversion import image_checks
        from edge.quantization import quantize

        model, settings, known, split = self.todo.model, self.todo.settings, graph.calibration, self.todo.split
        tensors, patches = quantize.watched_tensors(graph.file, recipe)
        tensors = {name: index for name, index in tensors.items() if name not in known.ranges or name in patches.keys() - known.rows.keys()}
        if not tensors:
            return

        def passing() -> Iterator[np.ndarray]:
            return watched.passing(self.todo.image_set.read(split.calibration, model.preprocessing))

        watched, wanted = image_checks.WatchedImages(), {name: side for name, side in patches.items() if name in tensors}
        digest = self.todo.image_set.digest(split.calibration, model.preprocessing)
        seen = model.calibrated(graph.file, tensors, wanted, passing(), len(split.calibration), digest, settings.threads)
        if not self.images_were_checked:
            if not watched.facts:  # the ranges were kept; what to think of the images is said each time
                collections.deque(passing(), maxlen=0)
            is_random = model.source.weights.is_random
            for check in image_checks.unfit(watched, self.todo.image_set.source, model, is_random, settings.gate):
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
    from edge.conversion.manifest import manifest

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
        calibration=calibration_block(settings, image_set, split, model.preprocessing) if recipe.needs_calibration else None,
        labels=labels,
        settings=settings_block(source, recipe, settings, image_set, split, model.preprocessing),
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
    return document, file, [*failures, *too_new(document, settings)]


def _label_indices(image_set: ImageSet, split: Split, preprocessing: Preprocessing, labels: tuple[str, ...] | None) -> np.ndarray | None:
    """Class indices of the held-out images, where every one has a label the model knows."""
    if labels is None or any(reference.label not in labels for reference in split.held_out):
        return None
    kept = [reference for reference, _ in image_set.read_with_references(split.held_out, preprocessing)]
    return np.asarray([labels.index(reference.label) for reference in kept])


def _require_finite_reference(logits: np.ndarray, name: str) -> None:
    if not np.isfinite(logits).all():
        raise InputError(
            "the float Keras model itself gives NaN or infinity",
            expected="finite logits on every image",
            received=f"{int((~np.isfinite(logits)).any(axis=1).sum())} of {len(logits)} images of {name} with non-finite logits",
            action="check the weights",
        )
