"""A file against the model it was made from, on many images: who answers, what is compared with what, and the document that says so."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from calibration.image_set import ImageReference, ImageSet
from edge.artifacts.artifact import Artifact, preprocessing_of
from edge.artifacts.provenance import tool_versions
from edge.artifacts.store import Store
from edge.drift import statistics
from edge.drift.collapse import signs_of_collapse
from edge.drift.limits import Limits
from edge.drift.metrics import ImageDrifts, compare, summary
from edge.export.source import Source
from edge.runtime import machine, sandbox
from edge.runtime.cpu import Interpreter, runtime_version
from edge.tflite import flatbuffer
from edge.validation import predictions
from edge.validation.layer_drift import layer_drifts
from edge.validation.reference import Reference
from tfvit import memory
from tfvit.errors import InputError, printable
from tfvit.hashing import sha256
from tfvit.preprocessing import Preprocessing
from tfvit.progress import Progress, stepping

KIND, SCHEMA_VERSION = "validation", 1
# At most this share of the images may be unreadable; one always may
MOST_UNREADABLE = 0.1
# Images whose logits are kept whole, to look for signs of collapse
_KEPT_LOGITS = 1024
# Images a file answers before it looks whether to stop
_FILE_BATCH = 8
# An interpreter holds a file's weights once as they are and once as XNNPACK packs them (in float32, of float16 ones); two files run
_COPIES_AN_INTERPRETER = 5
_MEMORY_SHARE = 0.6
_FLIPPED_SHOWN = 24
_THUMBNAIL_PX = 96
# Pictures up to this side are stored as they are
_PNG_PX = 64
# --app-preprocessing -> interpolation, keep_aspect; None leaves the manifest's
APP_PREPROCESSING = {
    "manifest": (None, None),
    "bilinear": ("bilinear", None),
    "squash": (None, False),
    "squash-bilinear": ("bilinear", False),
}
# What is printed apart, the last one against the limits
DIFFERENCES = ("preprocessing", "export", "quantization", "total")
_KERAS, _APP, _FLOAT32, _FILE = "keras", "keras, app", "float32", "file"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to validate.

    Attributes:
        app_preprocessing: one of `APP_PREPROCESSING`.
        float32_samples: on about how many images, spread over all, the float32 file runs too; None: on all.
        threads: images side by side.
        store: where answers are kept.
        layer_samples: on how many images the layers are compared; 0 leaves them out.
        limits: instead of the manifest's.
        thumbnails: whether the document holds pictures.
    """

    app_preprocessing: str
    float32_samples: int | None
    threads: int
    store: Store
    layer_samples: int
    limits: Limits
    thumbnails: bool


@dataclasses.dataclass(frozen=True)
class Images:
    """What to validate on.

    Attributes:
        image_set, references: which images, in order.
        names: of the classes, where they are known.
        indices: label -> class; empty without labels.
    """

    image_set: ImageSet
    references: Sequence[ImageReference]
    names: Sequence[str] | None
    indices: dict[str, int]

    def class_name(self, index: int) -> str:
        """The model's own name of a class; where it has none the folder's, or the number."""
        folders = {number: label for label, number in self.indices.items()}
        return self.names[index] if self.names else printable(folders.get(index, str(index)))

    def labels(self, references: Sequence[ImageReference]) -> np.ndarray | None:
        """Class indices, or None without labels."""
        return np.asarray([self.indices[reference.label or ""] for reference in references]) if self.indices else None


@dataclasses.dataclass
class _Seen:
    """What is kept of the answers as they come in."""

    references: list[ImageReference] = dataclasses.field(default_factory=list)
    unreadable: list[tuple[ImageReference, str]] = dataclasses.field(default_factory=list)
    differences: dict[str, list[ImageDrifts]] = dataclasses.field(default_factory=lambda: {name: [] for name in DIFFERENCES})
    first: list[tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=list)


def validate(artifact: Artifact, source: Source, images: Images, settings: Settings, progress: Progress) -> dict[str, Any]:
    """Runs the float Keras model, its float32 file and the artifact's file, and says how far they are apart.

    Args:
        artifact: the file and its manifest; a file that the manifest does not describe is a failure in the document.
        source: of `edge.export.recorded_source.source_of`.
        images: what to run them on.
        settings: how.
        progress: stages go there.

    Returns:
        The document of docs/validation.md.

    Raises:
        InputError: a damaged file, too many unreadable images, a model that is not finite itself, a manifest that does not fit.
    """
    manifest = artifact.manifest
    flatbuffer.read_model(artifact.file)
    with progress.stage("try the file", subject=artifact.name):
        sandbox.require_runs(artifact.file)
    ran_on = _described(Interpreter(artifact.file), manifest).ran_on
    reference = Reference(source, manifest, settings.store, progress)
    app = _app_preprocessing(preprocessing_of(manifest), settings.app_preprocessing)
    models = _models(artifact, reference, app, _share(len(images.references), settings.float32_samples))
    subject = artifact.name
    with progress.stage("look at the images", total=len(images.references), subject=subject) as advance:
        run = predictions.Run(images.image_set, images.references, models, settings.store, advance)
        missing = run.missing()
    workers = _workers(settings.threads, max(len(artifact.file), reference.float32_bytes if _FLOAT32 in missing else 0))
    with progress.stage("answer", total=len(images.references), subject=subject) as advance:
        seen = _seen(run.answers(workers, advance), images, len(images.references))
    settings.store.prune()
    differences = _differences(seen, identical=len(models) == 3, app=settings.app_preprocessing)
    total = differences[-1].images
    labels = images.labels(seen.references)
    limits, is_random = settings.limits, manifest["weights"]["random"]
    collapse = _collapse(seen)
    failures = [*collapse, *_not_finite(seen.references, total), *summary(total).failures(limits, random_weights=is_random)]
    if sha256(artifact.file) != manifest["file"]["sha256"]:
        failures.insert(0, "the file is not the one its manifest describes (SHA-256 differs)")
    layers = None
    if settings.layer_samples:
        layers = _layers(reference, artifact.file, images, seen.references[: settings.layer_samples], app, settings.threads, progress)
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "name": artifact.name,
        "file": f"{artifact.name}.tflite",
        "sha256": sha256(artifact.file),
        "variant": manifest["variant"],
        "recipe": manifest["recipe"],
        "weights": {key: manifest["weights"][key] for key in ("source", "sha256", "random")},
        "images": {
            "source": images.image_set.source,
            "sha256": images.image_set.digest(seen.references, app),
            "number": len(seen.references),
            "labelled": labels is not None,
            "skipped": [{"path": printable(reference.path), "reason": reason} for reference, reason in seen.unreadable],
        },
        "preprocessing": {"reference": reference.preprocessing.geometry(), "target": app.geometry()},
        "differences": [difference.document() for difference in differences],
        "accuracy": None
        if labels is None
        else statistics.accuracy(total, labels, [images.class_name(i) for i in range(manifest["classes"])]),
        "confidence": statistics.confidence(total),
        "flipped": _flipped(total, seen.references, images, app, settings.thumbnails),
        "non_finite": [printable(seen.references[index].path) for index in np.flatnonzero(~total.finite_target)],
        "collapse": collapse,
        "gate": {
            "limits": dataclasses.asdict(limits),
            "failures": failures,
            "passed": not failures,
            "proof": [] if is_random else statistics.proofs(total, limits, labels is not None),
        },
        "layers": layers,
        "runtime": f"{ran_on}, 1 thread an image",
        "machine": machine.environment(),
        "tools": tool_versions(),
    }


def _described(interpreter: Interpreter, manifest: Mapping[str, Any]) -> Interpreter:
    """The same, if its input and output are the manifest's."""
    expected = {"input": [manifest["input"]["shape"]], "output": [[1, manifest["classes"]]]}
    found = {
        "input": [list(tensor.shape) for tensor in interpreter.inputs.values()],
        "output": [list(tensor.shape) for tensor in interpreter.outputs.values()],
    }
    if found != expected:
        raise InputError(
            "the file is not what its manifest says",
            expected=f"one input {expected['input'][0]}, one output {expected['output'][0]}",
            received=f"inputs {found['input']}, outputs {found['output']}",
            action="convert the model again with --force",
        )
    return interpreter


def _app_preprocessing(preprocessing: Preprocessing, name: str) -> Preprocessing:
    interpolation, keep_aspect = APP_PREPROCESSING[name]
    if interpolation is not None:
        preprocessing = dataclasses.replace(preprocessing, interpolation=interpolation)
    if keep_aspect is False:
        preprocessing = dataclasses.replace(preprocessing, keep_aspect=False, resize_px=preprocessing.crop_px)
    return preprocessing


def _workers(threads: int, largest_file_bytes: int) -> int:
    """How many images side by side: each has an interpreter of each file, which unpacks the weights for itself."""
    available = memory.available_bytes()
    fit = threads if available is None else int(_MEMORY_SHARE * available / (_COPIES_AN_INTERPRETER * largest_file_bytes))
    return max(1, min(threads, fit))


def _share(images: int, wanted: int | None) -> Fraction:
    """Of the chunks, so that about as many images as wanted are in them."""
    chunks = math.ceil(images / predictions.CHUNK)
    return Fraction(1) if wanted is None else min(Fraction(1), Fraction(math.ceil(wanted / predictions.CHUNK), chunks))


def _models(artifact: Artifact, reference: Reference, app: Preprocessing, share_of_float32: Fraction) -> list[predictions.Model]:
    """The file, the float model on what it was made for, again on what the app gives it where that differs, its float32 file: what loads
    fast goes first.
    """
    softmax = artifact.manifest["output"]["activation"] == "softmax"
    on_this = f"{runtime_version()} {machine.cpu_name()}"
    keras_key = f"keras {reference.key} {machine.cpu_name()}"
    keras = predictions.Model(_KERAS, keras_key, reference.preprocessing, lambda workers: reference.keras_logits, reference.batch)
    of_keras = [keras]
    if app != reference.preprocessing:
        of_keras.append(dataclasses.replace(keras, name=_APP, preprocessing=app))
    float32_key = f"float32 {reference.key} {on_this}"
    float32 = predictions.Model(
        _FLOAT32,
        float32_key,
        app,
        lambda workers: predictions.FileModel(reference.float32_file, softmax, workers),
        _FILE_BATCH,
        share_of_float32,
    )
    file_key = f"file {sha256(artifact.file)} {softmax} {on_this}"
    file = predictions.Model(_FILE, file_key, app, lambda workers: predictions.FileModel(artifact.file, softmax, workers), _FILE_BATCH)
    return [file, float32, *of_keras] if reference.float32_file_is_kept else [file, *of_keras, float32]


def _seen(chunks: Iterator[predictions.Answers], images: Images, asked: int) -> _Seen:
    seen = _Seen()
    limit = max(1, int(asked * MOST_UNREADABLE))
    for chunk in chunks:
        seen.unreadable += chunk.unreadable
        if len(seen.unreadable) > limit:
            raise InputError(
                f"too many unreadable images in {images.image_set.source}",
                expected=f"at most {limit} of {asked}",
                received="; ".join(f"{printable(reference.path)} ({printable(reason)})" for reference, reason in seen.unreadable[:3]),
                action="repair or remove these files",
            )
        if not chunk.references:
            continue
        labels, logits = images.labels(chunk.references), chunk.logits
        if not np.isfinite(logits[_KERAS]).all():
            broken = chunk.references[int(np.flatnonzero(~np.isfinite(logits[_KERAS]).all(axis=1))[0])]
            raise InputError(
                "the float Keras model itself gives NaN or infinity",
                expected="finite logits on every image",
                received=printable(broken.path),
                action="check the weights, or leave the image out",
            )
        on_app = logits.get(_APP, logits[_KERAS])
        pairs = {"preprocessing": (logits[_KERAS], on_app), "total": (logits[_KERAS], logits[_FILE])}
        if _FLOAT32 in logits:
            pairs |= {"export": (on_app, logits[_FLOAT32]), "quantization": (logits[_FLOAT32], logits[_FILE])}
        for name, (one, other) in pairs.items():
            seen.differences[name].append(compare(one, other, labels))
        seen.references += chunk.references
        if len(seen.references) - len(chunk.references) < _KEPT_LOGITS:
            seen.first.append((logits[_KERAS], logits[_FILE]))
    if not seen.references:
        raise InputError(
            "no image that can be read",
            expected="at least one",
            received=f"{asked} unreadable ones",
            action="name other images with --images",
        )
    return seen


def _differences(seen: _Seen, identical: bool, app: str) -> list[statistics.Difference]:
    keras, on_app = "float Keras model", f"float Keras model, preprocessing {app}" if not identical else "float Keras model"
    words = {
        "preprocessing": (keras, "the same: the app does what the model was made for" if identical else on_app),
        "export": (on_app, "its float32 file"),
        "quantization": ("float32 file", "this file"),
        "total": (keras, "this file"),
    }
    return [
        statistics.Difference(name, *words[name], ImageDrifts.joined(parts), identical and name == "preprocessing")
        for name, parts in seen.differences.items()
        if parts
    ]


def _collapse(seen: _Seen) -> list[str]:
    """Of the answers that are numbers; the others are named image by image."""
    reference, target = (np.concatenate(side) for side in zip(*seen.first, strict=True))
    finite = np.isfinite(target).all(axis=1)
    return signs_of_collapse(reference[finite], target[finite]) if finite.any() else []


def _not_finite(references: Sequence[ImageReference], images: ImageDrifts) -> list[str]:
    broken = [printable(references[index].path) for index in np.flatnonzero(~images.finite_target).tolist()]
    more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
    return [f"NaN or infinity on {len(broken)} of {len(references)} images: {', '.join(broken[:3])}{more}"] if broken else []


def _flipped(
    total: ImageDrifts, references: Sequence[ImageReference], images: Images, preprocessing: Preprocessing, thumbnails: bool
) -> dict[str, Any]:
    """The images with another answer, those first of which the reference was surest."""
    flipped = np.flatnonzero(~total.same_top1 & total.finite).tolist()
    order = sorted(flipped, key=lambda index: (-total.confidence_reference[index], references[index].path))
    listed = []
    for index in order[:_FLIPPED_SHOWN]:
        reference = references[index]
        listed.append(
            {
                "path": printable(reference.path),
                "label": printable(reference.label) if images.indices and reference.label is not None else None,
                "reference": _answer(images, total.top1_reference[index], total.confidence_reference[index]),
                "target": _answer(images, total.top1_target[index], total.confidence_target[index]),
                "thumbnail": _thumbnail(images.image_set.pixels(reference, preprocessing)) if thumbnails else None,
            }
        )
    return {"number": len(flipped), "shown": listed}


def _answer(images: Images, index: int, probability: float) -> dict[str, Any]:
    return {"answer": images.class_name(int(index)), "probability": float(probability)}


def _thumbnail(pixels: np.ndarray) -> str:
    """A small picture as a data URI."""
    picture, kind, file = Image.fromarray(pixels), "png", io.BytesIO()
    picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    if max(picture.size) > _PNG_PX:
        kind = "jpeg"
    picture.save(file, kind)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _layers(
    reference: Reference,
    file: bytes,
    images: Images,
    references: Sequence[ImageReference],
    preprocessing: Preprocessing,
    threads: int,
    progress: Progress,
) -> dict[str, Any]:
    graph = reference.recipe_graph()
    with progress.stage("compare the layers", total=len(references), subject=reference.source.name) as advance:
        pixels = stepping((images.image_set.pixels(one, preprocessing) for one in references), advance)
        try:
            rows = layer_drifts(graph, file, pixels, threads)
        except ValueError as error:
            raise InputError(
                "the file's layers are not those of its recipe",
                expected="the dense layers that edge.convert made",
                received=str(error),
                action="validate without --layers, or convert again",
            ) from error
    numbers = ("snr_db", "cosine", "own_snr_db", "own_cosine")
    listed = [dataclasses.asdict(row) | {name: statistics.finite(getattr(row, name)) for name in numbers} for row in rows]
    return {"images": len(references), "worst": rows[0].layer, "rows": listed}
