"""From what `edge.validate` is given to the line of a validation: names and files become an artifact, a source and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.artifacts import atomic_files
from edge.artifacts.artifact import Artifact, load
from edge.artifacts.store import Store
from edge.drift.limits import Limits
from edge.export import recorded_source
from edge.validation.document import KIND
from edge.validation.images import choose_images
from edge.validation.settings import Settings
from edge.validation.table import table as table
from edge.validation.validate_file import validate as validate_file
from tfvit.labels import read_labels
from tfvit.preprocessing import ModelInput
from tfvit.progress import about


def validate(
    *,
    file: Any,
    images: str | Path,
    samples: int | None,
    seed: int,
    labels: Path | str | Sequence[str] | None,
    weights: Path | str | None,
    model: Any,
    checkpoint: Path | str | None,
    trust_model: bool,
    imports: Sequence[str],
    model_input: ModelInput,
    app_preprocessing: str,
    float32_samples: int | None,
    layer_samples: int,
    limits: Mapping[str, float | None],
    threads: int,
    store: Store,
    thumbnails: bool,
    save: Path | str | None,
) -> dict[str, Any]:
    """The document of docs/validation.md; the arguments are those of `edge.validate`."""
    if save:
        atomic_files.require_replaceable(Path(save), KIND)
    artifact = file if isinstance(file, Artifact) else load(Path(file), verify=False)
    recorded_source.require_usable(artifact.manifest)
    source = recorded_source.source_of(artifact.manifest, _path(weights), model, model_input, trust_model, imports, checkpoint)
    names = read_labels(Path(labels)) if isinstance(labels, str | Path) else labels
    settings = Settings(
        app_preprocessing=app_preprocessing,
        float32_samples=float32_samples,
        threads=threads,
        store=store,
        layer_samples=layer_samples,
        limits=Limits(**{name: artifact.manifest["drift"]["limits"][name] if value is None else value for name, value in limits.items()}),
        thumbnails=thumbnails,
    )
    with about(artifact.name):
        document = validate_file(artifact, source, choose_images(str(images), samples, seed, artifact, names), settings)
    if save:
        atomic_files.save_document(Path(save), document)
    return document


def _path(given: Path | str | None) -> Path | None:
    return None if given is None else Path(given)
