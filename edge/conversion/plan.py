"""What there is to make of one model: settings, images, files that are there already, and what identifies the others' inputs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calibration.image_set import open_image_set
from edge.artifacts import artifact, self_description
from edge.artifacts.provenance import code_sha256, tool_versions
from edge.conversion.images import Images
from edge.drift.limits import Limits
from edge.drift.meanings import AUTO
from edge.export.float_model import FloatModel
from edge.export.source import Source
from edge.quantization.recipes import Recipe
from tfvit import hashing
from tfvit.errors import UsageError
from tfvit.labels import published_labels
from tfvit.progress import current as current_progress

# Images the drift is measured on; never among the calibration images.
DRIFT_SAMPLES = 32
# For each of them so many further ones, on which changed answers are counted: 288 give an interval of two points and less each way
FURTHER_SAMPLES = 8


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything else a conversion depends on.

    Attributes:
        calibration: "builtin", a folder or a zip.
        calibration_samples, seed: how many images, and which.
        drift_samples: how many others the drift is measured on.
        agreement_samples: how many further ones changed answers are counted on, where there are as many; None for eight times as many.
        labels: one per class, or None.
        input_dtype: "float32" or "uint8"; "int16" for recipes that `takes_int16`.
        output: a key of `edge.drift.meanings.OUTPUTS`, or one an output with commas between them.
        gate: whether a file that misses its limits is refused.
        min_snr_db, min_agreement, max_top1_drop: limits instead of the recipe's own.
        min_photo_agreement: likewise; `min_agreement` where that is given alone.
        folder: where artifacts go.
        force: rebuild what is current, overwrite what is foreign.
        repair: whether a recipe that can may demote layers to pass its gate.
        explain: whether each dense layer's own effect on the logits is measured.
        min_runtime: the oldest TensorFlow Lite the files must run on, for example (2, 14); None for any.
        max_size_bytes: of a file of the recipe that fits one, with its metadata and labels; None for the smallest.
        position_tables: whether recipes that can store position biases and masks as tables do.
        portable: whether files hold nothing but what readers other than LiteRT have too; of recipes that `has_portable_form`.
        threads: for running files.
    """

    calibration: str = "builtin"
    calibration_samples: int = 128
    drift_samples: int = DRIFT_SAMPLES
    agreement_samples: int | None = None
    seed: int = 0
    labels: tuple[str, ...] | None = None
    input_dtype: str = "float32"
    output: str = AUTO
    gate: bool = True
    min_snr_db: float | None = None
    min_agreement: float | None = None
    max_top1_drop: float | None = None
    min_photo_agreement: float | None = None
    folder: Path = Path("artifacts")
    force: bool = False
    repair: bool = True
    explain: bool = False
    min_runtime: tuple[int, ...] | None = None
    max_size_bytes: int | None = None
    position_tables: bool = True
    portable: bool = False
    threads: int = dataclasses.field(
        default_factory=lambda: len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )

    @property
    def further_samples(self) -> int:
        return FURTHER_SAMPLES * self.drift_samples if self.agreement_samples is None else self.agreement_samples

    def most_bytes(self, recipe: Recipe) -> int | None:
        """What a recipe's file is to fit into."""
        return self.max_size_bytes if recipe.fits_size else None

    def limits(self, recipe: Recipe) -> Limits:
        own = recipe.limits
        of_photos = self.min_agreement if self.min_photo_agreement is None else self.min_photo_agreement
        return Limits(
            min_snr_db=own.min_snr_db if self.min_snr_db is None else self.min_snr_db,
            min_agreement=own.min_agreement if self.min_agreement is None else self.min_agreement,
            max_top1_drop=own.max_top1_drop if self.max_top1_drop is None else self.max_top1_drop,
            min_photo_agreement=own.min_photo_agreement if of_photos is None else of_photos,
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
class Plan:
    """What there is to do for one model; plain data.

    Attributes:
        source, settings, images: with what.
        current: files that are there already.
        outstanding: recipes that are to be made, and what identifies their inputs.
    """

    source: Source
    settings: Settings
    images: Images
    current: tuple[Outcome, ...]
    outstanding: tuple[tuple[Recipe, str], ...]


def plan(model: FloatModel, recipes: Sequence[Recipe], settings: Settings) -> Plan:
    """Looks at the images and at what is there. A model of the user's own is built for it, where nothing is known of it yet.

    Args:
        model: what to convert.
        recipes: what to make of it.
        settings: how.

    Raises:
        UsageError, InputError, EnvironmentUnusableError: from settings, images, a saved model, foreign files in the way.
    """
    source = model.source
    if settings.labels is None:
        own = source.checkpoint.labels if source.checkpoint else None
        settings = dataclasses.replace(settings, labels=own or published_labels(source.weights.published))
    if settings.drift_samples < 1:
        raise UsageError(
            "nothing to measure the drift on",
            expected="--drift-samples of at least 1",
            received=str(settings.drift_samples),
            action="ask for 32 or more; --no-gate writes a file whatever its drift",
        )
    if settings.further_samples < 0:
        raise UsageError(
            "unusable number of images",
            expected="--agreement-samples of at least 0",
            received=str(settings.agreement_samples),
            action="leave it out, or pass 0 to count on none",
        )
    recipes = [recipe.for_input(settings.input_dtype) for recipe in recipes]
    if settings.min_runtime:
        recipes = [recipe.for_runtime(settings.min_runtime) for recipe in recipes]
    if not settings.position_tables:
        recipes = [recipe.with_written_out_biases() for recipe in recipes]
    if settings.portable:
        recipes = [recipe.for_any_reader() for recipe in recipes]
    image_set = open_image_set(settings.calibration)
    further = 0 if source.weights.is_random else settings.further_samples  # whose answers mean nothing
    split = image_set.split(settings.calibration_samples, settings.drift_samples, settings.seed, further)
    if split.note:
        current_progress().note(split.note)
    images = Images(image_set, split, model.preprocessing, settings.labels)
    current, outstanding = [], []
    for recipe in recipes:
        digest = inputs_sha256(source, recipe, settings, images)
        explained = settings.explain and recipe.can_be_explained
        found = None if explained or settings.force else _current_outcome(source.artifact_name(recipe), digest, recipe, settings)
        if found:
            current.append(found)
        else:
            outstanding.append((recipe, digest))
    if not settings.force:
        for recipe, _ in outstanding:
            artifact.refuse_foreign_files(settings.folder, source.artifact_name(recipe))
    return Plan(source, settings, images, tuple(current), tuple(outstanding))


def too_new(document: Mapping[str, Any], settings: Settings) -> list[str]:
    """Whether the file needs a newer runtime than was asked for."""
    needed = document["file"]["min_runtime_version"]
    if settings.min_runtime is None or (
        needed and tuple(int(part) for part in needed.split("."))[: len(settings.min_runtime)] <= settings.min_runtime
    ):
        return []
    return [f"needs TensorFlow Lite {needed or 'of unknown version'}, asked for {'.'.join(map(str, settings.min_runtime))} (--min-runtime)"]


def too_large(document: Mapping[str, Any], recipe: Recipe, settings: Settings) -> list[str]:
    """Whether the file is larger than was asked for."""
    size, most = document["file"]["size_bytes"], settings.most_bytes(recipe)
    if most is None or size <= most:
        return []
    return [f"{size / 1e6:.3f} MB at its smallest, asked for at most {most / 1e6:g} MB (--max-size)"]


def calibration_block(settings: Settings, images: Images) -> dict[str, Any]:
    """The manifest's `calibration`."""
    return {
        "source": images.source,
        "sha256": images.calibration_sha256,
        "samples": len(images.split.calibration),
        "seed": settings.seed,
    }


def settings_block(source: Source, recipe: Recipe, settings: Settings, images: Images) -> dict[str, Any]:
    """What was asked for: with weights and tools all that `edge.verify` needs to make the file again."""
    size = source.image_size if source.image_size is None or isinstance(source.image_size, int) else list(source.image_size)
    return {
        **({"checkpoint": source.checkpoint.document()} if source.checkpoint else {}),
        **{name: value for name, value in (("image_size", size), ("window", source.window)) if value},
        "input": settings.input_dtype,
        "output": settings.output,
        "takes_pixels": source.model_input.takes_pixels,
        "model_input": source.model_input.document(),
        "without_dynamic": recipe.without_dynamic,
        "position_tables": settings.position_tables,
        **({"portable": True} if settings.portable else {}),
        **({"max_size_bytes": settings.most_bytes(recipe)} if settings.most_bytes(recipe) else {}),
        "repair": settings.repair,
        "labels_sha256": hashing.sha256(self_description.label_bytes(settings.labels)) if settings.labels else None,
        "images": {
            "source": images.source,
            "calibration_samples": settings.calibration_samples,
            "drift_samples": settings.drift_samples,
            "agreement_samples": settings.further_samples,
            "seed": settings.seed,
            "sha256": images.sha256,
        },
    }


def inputs_sha256(source: Source, recipe: Recipe, settings: Settings, images: Images) -> str:
    """Identifies everything an artifact's bytes and manifest depend on: equal inputs, equal files."""
    inputs = {
        "schema_version": artifact.SCHEMA_VERSION,
        "source": source.identity,
        "recipe": dataclasses.asdict(recipe),
        "calibration": calibration_block(settings, images) if recipe.needs_calibration else None,
        "drift": [images.source, images.held_out_sha256, images.further_sha256],
        "labels": settings.labels,
        "input": settings.input_dtype,
        "output": settings.output,
        "limits": dataclasses.asdict(settings.limits(recipe)),
        "repair": settings.repair and recipe.repairs,
        "most_bytes": settings.most_bytes(recipe),
        "tools": tool_versions(),
        "code": code_sha256(),
    }
    return hashing.sha256(artifact.canonical_json(inputs).encode())


def _current_outcome(name: str, digest: str, recipe: Recipe, settings: Settings) -> Outcome | None:
    """What is already there. A file written without the gate goes on failing its check."""
    current = artifact.load_current(settings.folder, name, digest)
    if current is None:
        return None
    failures = () if current.manifest["drift"]["passed"] else ("missed its drift limits when it was written",)
    failures = (*failures, *too_new(current.manifest, settings), *too_large(current.manifest, recipe, settings))
    return Outcome(name, "current", settings.folder / f"{name}.tflite", current.manifest, failures)
