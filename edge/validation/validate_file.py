"""The line of a validation: an artifact, the model it was made from and many images in, a document out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from edge.artifacts.artifact import Artifact, outputs, preprocessing_of
from edge.drift import statistics
from edge.export.source import Source
from edge.runtime import machine, sandbox
from edge.runtime.cpu import Interpreter, runtime_version
from edge.tflite import flatbuffer
from edge.validation import predictions
from edge.validation.document import validation_document
from edge.validation.images import Images
from edge.validation.layer_drift import layer_drifts
from edge.validation.reference import Reference
from edge.validation.seen import APP, FILE, FLOAT32, KERAS, Seen, seen_of
from edge.validation.settings import Settings, app_preprocessing
from tfvit import memory
from tfvit.errors import InputError
from tfvit.hashing import sha256
from tfvit.preprocessing import Preprocessing
from tfvit.progress import as_step, counted, step

# Images a file answers before it looks whether to stop
_FILE_BATCH = 8
# An interpreter holds a file's weights once as they are and once as XNNPACK packs them (in float32, of float16 ones); two files run
_COPIES_AN_INTERPRETER = 5
_MEMORY_SHARE = 0.6


def validate(artifact: Artifact, source: Source, images: Images, settings: Settings) -> dict[str, Any]:
    """Runs the float Keras model, its float32 file and the artifact's file, and says how far they are apart.

    Args:
        artifact: the file and its manifest; a file that the manifest does not describe is a failure in the document.
        source: of `edge.export.recorded_source.source_of`.
        images: what to run them on.
        settings: how.

    Returns:
        The document of docs/validation.md.

    Raises:
        InputError: a damaged file, too many unreadable images, a model that is not finite itself, a manifest that does not fit.
    """
    ran_on = _tried(artifact)
    reference = Reference(source, artifact.manifest, settings.store)
    app = app_preprocessing(preprocessing_of(artifact.manifest), settings.app_preprocessing)
    models = _models(artifact, reference, app, _share(len(images.references), settings.float32_samples))
    seen = _answered(models, artifact, reference, images, settings)
    document = validation_document(artifact, reference.preprocessing, app, images, seen, settings, ran_on)
    if settings.layer_samples:
        document["layers"] = _layers(artifact, reference, images, seen, app, settings)
    return document


@as_step("try the file")
def _tried(artifact: Artifact) -> str:
    """What ran it.

    Raises:
        InputError: a damaged file, or another than the manifest says.
    """
    flatbuffer.read_model(artifact.file)
    sandbox.require_runs(artifact.file)
    return _described(Interpreter(artifact.file), artifact.manifest).ran_on


def _described(interpreter: Interpreter, manifest: Mapping[str, Any]) -> Interpreter:
    """The same, if its input and outputs are the manifest's."""
    expected = {"input": [manifest["input"]["shape"]], "output": [output["shape"] for output in outputs(manifest)]}
    found = {
        "input": [list(tensor.shape) for tensor in interpreter.inputs.values()],
        "output": [list(tensor.shape) for tensor in interpreter.outputs.values()],
    }
    if found != expected:
        raise InputError(
            "the file is not what its manifest says",
            expected=f"inputs {expected['input']}, outputs {expected['output']}",
            received=f"inputs {found['input']}, outputs {found['output']}",
            action="convert the model again with --force",
        )
    return interpreter


def _answered(models: Sequence[predictions.Model], artifact: Artifact, reference: Reference, images: Images, settings: Settings) -> Seen:
    """What the models say of the images."""
    with step("look at the images", total=len(images.references)):
        run = predictions.Run(images.image_set, images.references, models, settings.store)
        missing = run.missing()
    largest = max(len(artifact.file), reference.float32_bytes if FLOAT32 in missing else 0)
    with step("answer", total=len(images.references)):
        seen = seen_of(run.answers(_workers(settings.threads, largest)), images, len(images.references))
    settings.store.prune()
    return seen


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
    final = [output["activation"] for output in outputs(artifact.manifest)]
    on_this = f"{runtime_version()} {machine.cpu_name()}"
    keras_key = f"keras {reference.key} {machine.cpu_name()}"
    keras = predictions.Model(KERAS, keras_key, reference.preprocessing, lambda workers: reference.keras_logits, reference.batch)
    of_keras = [keras]
    if app != reference.preprocessing:
        of_keras.append(dataclasses.replace(keras, name=APP, preprocessing=app))
    float32_key = f"float32 {reference.key} {on_this}"
    float32 = predictions.Model(
        FLOAT32,
        float32_key,
        app,
        lambda workers: predictions.FileModel(reference.float32_file, final, workers),
        _FILE_BATCH,
        share_of_float32,
    )
    file_key = f"file {sha256(artifact.file)} {final} {on_this}"
    file = predictions.Model(FILE, file_key, app, lambda workers: predictions.FileModel(artifact.file, final, workers), _FILE_BATCH)
    return [file, float32, *of_keras] if reference.float32_file_is_kept else [file, *of_keras, float32]


def _layers(
    artifact: Artifact, reference: Reference, images: Images, seen: Seen, preprocessing: Preprocessing, settings: Settings
) -> dict[str, Any]:
    """Where the error comes from."""
    graph, references = reference.recipe_graph(), seen.references[: settings.layer_samples]
    with step("compare the layers", total=len(references), subject=reference.source.name):
        pixels = counted(images.image_set.pixels(one, preprocessing) for one in references)
        try:
            rows = layer_drifts(graph, artifact.file, pixels, settings.threads)
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
