"""The line: one model, one recipe and some images in, an artifact out. What is cached, told, saved or run side by side wraps it.

See docs/architecture.md for the same, step by step.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from calibration.image_set import BUILTIN
from edge.artifacts.artifact import Artifact
from edge.conversion import image_checks
from edge.conversion.candidate import Candidate, Further, Repair, Verdict, checked, file_logits, of_size, quantized, repaired, sensitivities
from edge.conversion.images import Images
from edge.conversion.manifest import manifest
from edge.conversion.plan import Settings, too_large, too_new
from edge.drift.meanings import CLASSES
from edge.drift.metrics import measure
from edge.export.float_model import FloatModel
from edge.quantization.float16_headroom import HEADROOM_IMAGES
from edge.quantization.float16_streams import with_room
from edge.quantization.ranges import Calibration
from edge.quantization.recipes import Recipe
from edge.quantization.repair import Sensitivity
from edge.quantization.smoothing import smoothed
from tfvit.errors import InputError
from tfvit.labels import checked_labels
from tfvit.progress import as_step, counted, current, step

# Below this a float graph does not stand for its Keras model
LEAST_GRAPH_SNR_DB = 60.0


@dataclasses.dataclass(frozen=True)
class Conversion:
    """An artifact as it was made, whether it may ship or not.

    Attributes:
        artifact: the file and its manifest.
        failures: what missed its limit.
        sensitivities: of each dense layer, where they were measured.
        repair: what was changed so that the file passes, or None.
    """

    artifact: Artifact
    failures: tuple[str, ...]
    sensitivities: tuple[Sensitivity, ...] = ()
    repair: Repair | None = None


def convert(model: FloatModel, recipe: Recipe, images: Images, settings: Settings) -> Conversion:
    """Makes one recipe's artifact of one model.

    Args:
        model: the float Keras model, built when it is first needed.
        recipe: how to quantize it.
        images: to calibrate with and to judge by.
        settings: what else was asked for.

    Raises:
        InputError: labels, images or weights that cannot be used.
        EnvironmentUnusableError: something the machine lacks.
    """
    reference = finite_reference(model, images)
    if recipe.needs_calibration:
        images.read_ahead()  # while the float graph is made, which keeps one core busy
    graph = model.graph(recipe, settings.input_dtype, settings.output)
    calibration = _calibration(model, graph, recipe, images, settings)
    graph, calibration = smoothed(graph, calibration, recipe)
    if recipe.float16_constants:
        graph = with_room(graph, (image[None] for image in images.held_out[:HEADROOM_IMAGES]), settings.threads)
    candidate = _candidate(model, graph, calibration, recipe, images, reference, settings)
    candidate = dataclasses.replace(candidate, further=_further(model, candidate, images))
    file = quantized(candidate)
    verdict = checked(candidate, file)
    most_bytes, repair = settings.most_bytes(recipe), None
    repairs = bool(verdict.failures) and settings.repair and recipe.repairs and not most_bytes
    spare = most_bytes - len(_described_file(model, recipe, images, settings, file, verdict)) if most_bytes else 0
    layers = sensitivities(candidate) if repairs or spare > 0 or (settings.explain and recipe.can_be_explained) else ()
    if spare > 0:
        file, verdict = of_size(candidate, layers, len(file) + spare)
    if repairs:
        file, verdict, repair = repaired(candidate, file, verdict, layers)
    artifact = _described(model, recipe, images, settings, file, verdict, repair)
    failures = (*verdict.failures, *too_new(artifact.manifest, settings), *too_large(artifact.manifest, recipe, settings))
    return Conversion(artifact, failures, layers, repair)


def finite_reference(model: FloatModel, images: Images) -> np.ndarray:
    """The float Keras model's logits on the held-out images, [N, D]."""
    checked_labels(images.labels, model.facts.classes)
    logits = model.reference(images.held_out, images.held_out_sha256)
    broken = int((~np.isfinite(logits)).any(axis=1).sum())
    if broken:
        raise InputError(
            "the float Keras model itself gives NaN or infinity",
            expected="finite logits on every image",
            received=f"{broken} of {len(logits)} images of {model.source.name} with non-finite logits",
            action="check the weights",
        )
    return logits


def _calibration(model: FloatModel, graph: bytes, recipe: Recipe, images: Images, settings: Settings) -> Calibration:
    """What the recipe must know of the activations, from images that were looked at first."""
    if not recipe.needs_calibration:
        return Calibration()
    for check in image_checks.unfit(images.calibration, images.source, model, settings.gate):
        current().warn(f"calibration images, {check.name}: {check.detail}")
    return model.calibration(graph, recipe, images.calibration, images.calibration_sha256, settings.threads)


def _candidate(
    model: FloatModel, graph: bytes, calibration: Calibration, recipe: Recipe, images: Images, reference: np.ndarray, settings: Settings
) -> Candidate:
    return Candidate(
        recipe=recipe,
        graph=graph,
        calibration=calibration,
        images=images.held_out,
        classes=images.held_out_classes,
        reference=reference,
        limits=settings.limits(recipe),
        asked=settings.output,
        outputs=model.facts.outputs,
        is_random=model.source.weights.is_random,
        threads=settings.threads,
    )


def _further(model: FloatModel, candidate: Candidate, images: Images) -> Further | None:
    """Images for counting changed answers, answered by the recipe's float graph: it is the Keras model to many decibels, and faster.

    None where there are none, where there is no best class, where the file is that graph, and for int16 operations, which run on the
    runtime's slow reference kernels.
    """
    recipe = candidate.recipe
    if not images.split.further or candidate.outputs[0].meaning != CLASSES or recipe.integer_bits == 16 or recipe.is_float_graph:
        return None

    def answers(pixels: np.ndarray, sha256: str) -> np.ndarray:
        def run() -> np.ndarray:
            with step("run the float graph", total=len(pixels), subject=model.source.name):
                return file_logits(candidate.graph, pixels, recipe, candidate.outputs, candidate.asked, candidate.threads, counted)

        return model.graph_answers(candidate.graph, sha256, run)

    first = model.facts.first
    near = measure(first(candidate.reference), first(answers(images.held_out, images.held_out_sha256))).logits_snr_db
    if not near >= LEAST_GRAPH_SNR_DB:
        current().warn(f"changed answers are not counted: the float graph is only {near:.1f} dB from the Keras model")
        return None
    of = f"the float graph, {near:.0f} dB from Keras on {len(images.held_out)} images"
    limit = candidate.limits.min_agreement if images.source == BUILTIN else candidate.limits.min_photo_agreement
    return Further(images.further, first(answers(images.further, images.further_sha256)), of, limit)


def _described_file(model: FloatModel, recipe: Recipe, images: Images, settings: Settings, file: bytes, verdict: Verdict) -> bytes:
    return manifest(model, recipe, images, settings, file, verdict, None)[1]


@as_step("describe")
def _described(
    model: FloatModel, recipe: Recipe, images: Images, settings: Settings, file: bytes, verdict: Verdict, repair: Repair | None
) -> Artifact:
    """The file that describes itself, and its manifest."""
    document, described = manifest(model, recipe, images, settings, file, verdict, repair)
    return Artifact(model.source.artifact_name(recipe), described, document, images.labels)
