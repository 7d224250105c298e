"""The source of an artifact, from its manifest: names and hashes checked, nothing built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.artifacts import artifact
from edge.drift.meanings import AUTO as AUTO_OUTPUT
from edge.export import source as sources
from tfvit.errors import InputError, UsageError
from tfvit.preprocessing import AUTO, NORMALIZED, NOTHING_SAID, PIXELS, ModelInput, sides, size_words
from tfvit.variants import PUBLISHED_WEIGHTS, find_variant
from tfvit.weights_choice import resolve_weights


def require_usable(manifest: Mapping[str, Any]) -> None:
    """Checks everything in a manifest that its model is rebuilt from and its file judged by.

    Raises:
        InputError: the first thing that cannot be.
    """
    artifact.require_valid(manifest)
    crop, shape, weights = artifact.preprocessing_of(manifest).crop_px, manifest["input"]["shape"], manifest["weights"]
    if shape != [1, *sides(crop), 3]:
        raise artifact.unusable_manifest(manifest, f"images {size_words(crop)} pixels for the input {shape}")
    if weights["random"] != weights["source"].startswith("random:"):
        raise artifact.unusable_manifest(manifest, f"weights {weights['source']}, random: {weights['random']}")


def recorded_input(manifest: Mapping[str, Any]) -> ModelInput:
    """What was said of the model's images when the artifact was made.

    Raises:
        InputError: a record that nothing can be done with.
    """
    settings = manifest.get("settings") or {}
    if "model_input" not in settings:
        return ModelInput({None: AUTO, True: PIXELS, False: NORMALIZED}.get(settings.get("takes_pixels"), AUTO))
    try:
        return ModelInput.of_document(settings["model_input"])
    except (TypeError, ValueError, UsageError) as error:
        raise artifact.unusable_manifest(manifest, "with settings.model_input that says nothing") from error


def needed_flag(manifest: Mapping[str, Any]) -> str | None:
    """Which of a command's flags must name a file of the user's: --weights, --model, --checkpoint or none."""
    recorded = manifest["weights"]
    if (manifest.get("settings") or {}).get("checkpoint"):
        return "--checkpoint"
    if manifest["variant"] is None:
        return "--model"
    return None if recorded["random"] or recorded["source"] in PUBLISHED_WEIGHTS else "--weights"


def source_of(
    manifest: Mapping[str, Any],
    weights: Path | None,
    model: Any,
    model_input: ModelInput,
    trusted: bool = False,
    imports: Sequence[str] = (),
    checkpoint: str | Path | None = None,
) -> sources.Source:
    """The model an artifact was made from: names and hashes checked, nothing built.

    Args:
        manifest: the artifact's.
        weights: the file of weights, where the manifest names one of the user's.
        model: the Keras model, where it names one: the path of a saved one, or the model in memory.
        model_input: what is said of its images; where nothing is, what the manifest recorded.
        trusted: whether code in the saved model may run.
        imports: modules that register layers of the user's own, for a saved model.
        checkpoint: the folder or file, or "hf://OWNER/NAME", where the manifest is of a checkpoint of anyone's.

    Raises:
        UsageError: a file is needed and was not given, or the other way round.
        InputError: another file than the one the manifest names.
        WeightsError: published weights that cannot be had.
    """
    recorded, needed = manifest["weights"], needed_flag(manifest)
    given = {"--weights": weights, "--model": model, "--checkpoint": checkpoint}
    for flag, path in given.items():
        if path is not None and flag != needed:
            raise UsageError(
                f"{flag} does not fit",
                expected=f"{needed} FILE" if needed else f"none of {', '.join(given)}: the manifest says {recorded['source']}",
                received=f"{flag} {path if isinstance(path, str | Path) else path.name}",
                action=f"leave {flag} out",
            )
    if trusted and model is None:
        raise UsageError(
            "--trust-model does not fit",
            expected="--trust-model with --model FILE",
            received="no --model",
            action="leave --trust-model out",
        )
    if needed and given[needed] is None:
        raise UsageError(
            "the float reference is a file of yours",
            expected=f"{needed} FILE, the {recorded['source']} with SHA-256 {recorded['sha256'][:16]}…",
            received=f"no {needed}",
            action=f"name the file {manifest['name']} was made from",
        )
    said = model_input if model_input != NOTHING_SAID else recorded_input(manifest)
    settings = manifest.get("settings") or {}
    output, size = settings.get("output", AUTO_OUTPUT), settings.get("image_size")
    adapted: dict[str, Any] = {
        "image_size": size if size is None or isinstance(size, int) else tuple(size),
        "window": settings.get("window"),
    }
    if checkpoint is not None:  # the checks above: exactly where the manifest is of one
        read = manifest["settings"]["checkpoint"]
        variant = find_variant(read["variant"]) if read["variant"] else None
        source = sources.resolve_checkpoint(checkpoint, said, variant, read["ema"], output)
    elif model is not None:  # likewise of a saved model
        source = sources.own_model(model, said, trusted, imports=imports, output=output, image_size=adapted["image_size"])
    else:
        variant = find_variant(manifest["variant"])
        source = sources.of_variant(variant, resolve_weights(str(weights or recorded["source"]), variant), said, **adapted)
    if not recorded["random"] and source.weights.sha256 != recorded["sha256"]:
        if recorded.get("origin") == sources.IN_MEMORY and source.live is None:
            raise InputError(
                "the artifact was made from a Keras model in memory, which is known by its weights and not by a file",
                expected=f"the model itself, in Python: edge.validate(file, model=model), SHA-256 {recorded['sha256']}",
                received=f"the file {source.weights.path}",
                action="validate it in Python, or save the model as .keras and convert that",
            )
        raise InputError(
            "other weights than the artifact's",
            expected=f"SHA-256 {recorded['sha256']}",
            received=f"SHA-256 {source.weights.sha256} of {source.weights.path or source.name}",
            action="name the file it was made from, or convert again from this one",
        )
    return source
