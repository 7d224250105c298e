"""What there is to convert: a variant with weights, a saved Keras model, or a model in memory; named and checked before it is built."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from edge.quantization.recipes import Recipe
from tfvit import weights_choice
from tfvit.errors import InputError
from tfvit.variants import Variant
from tfvit.weights_choice import WeightsChoice

# Where the weights of a model in memory came from, as its manifest says it
IN_MEMORY = "a Keras model in memory"


@dataclasses.dataclass(frozen=True)
class Source:
    """A model to convert.

    Attributes:
        name: the artifacts' names begin with it.
        variant: the table's row, or None for a model of its own.
        weights: of the variant, or the model itself.
        takes_pixels: for a model of its own: whether it normalises pixels by itself; None to find out.
        trusted: for a saved model: whether code in it may run.
        live: the Keras model, where it is in memory.
    """

    name: str
    variant: Variant | None
    weights: WeightsChoice
    takes_pixels: bool | None = None
    trusted: bool = False
    live: Any = None

    @property
    def identity(self) -> dict[str, Any]:
        """What the model depends on: equal identities, equal models. The one place that says so."""
        weights = self.weights
        return {
            "name": self.name,
            "variant": dataclasses.asdict(self.variant) if self.variant else None,
            "weights": f"random:{weights.random_seed}" if weights.is_random else weights.sha256,
            "weights_origin": [weights.path.name if weights.path else None, weights.published, weights.license, weights.origin],
            "takes_pixels": self.takes_pixels,
        }

    def artifact_name(self, recipe: Recipe) -> str:
        return f"{self.name}-{recipe.name}{'.random' if self.weights.is_random else ''}"


def resolve_model(path: Path, takes_pixels: bool | None, trusted: bool = False) -> Source:
    """`--model` without loading it.

    Raises:
        InputError: there is no such file, or its name cannot be an artifact's.
    """
    if path.suffix != ".keras":
        raise InputError(
            "not a Keras model file",
            expected="a file saved by model.save('NAME.keras')",
            received=str(path),
            action="save the whole model as .keras",
        )
    if path.stem.encode("utf-8", "replace").decode() != path.stem:
        raise InputError(
            "a name that no manifest can hold", expected="a file name in UTF-8", received=str(path), action="rename the model file"
        )
    weights = WeightsChoice(path=path, sha256=weights_choice.sha256_of_given(path, InputError, "model"))
    return Source(path.stem, None, weights, takes_pixels, trusted)


def own_model(model: Any, takes_pixels: bool | None, trusted: bool = False, name: str | None = None) -> Source:
    """A model of the user's own: the path of a saved one, or the Keras model itself."""
    if isinstance(model, str | os.PathLike):
        return resolve_model(Path(model), takes_pixels, trusted)
    return _in_memory(model, name, takes_pixels)


def _in_memory(model: Any, name: str | None, takes_pixels: bool | None) -> Source:
    """Known by its configuration and weights."""
    import keras
    import numpy as np

    configuration = keras.saving.serialize_keras_object(model)
    digest = hashlib.sha256(json.dumps(configuration, sort_keys=True, default=str).encode())
    for weight in model.weights:
        digest.update(f"{weight.path}{weight.shape}".encode() + np.asarray(keras.ops.convert_to_numpy(weight)).tobytes())
    return Source(name or model.name, None, WeightsChoice(sha256=digest.hexdigest(), origin=IN_MEMORY), takes_pixels, True, model)


def build(source: Source) -> tuple[Any, Any]:
    """The Keras model of a source, and where its weights came from (`tfvit.weights.WeightsOrigin`)."""
    from tfvit import weights as tfvit_weights

    if source.live is not None:
        return source.live, tfvit_weights.WeightsOrigin(source.name, str(source.weights.sha256), None, IN_MEMORY)
    if source.variant is None:
        path, sha256 = source.weights.file
        return tfvit_weights.load_keras_model(path, source.trusted), tfvit_weights.WeightsOrigin(path.name, sha256)
    return weights_choice.build(source.variant, source.weights)


def on_this_machine(source: Source) -> Source:
    """A source that another machine has resolved: published weights are this machine's own.

    Raises:
        WeightsError: they cannot be had here.
        InputError: here they are others.
    """
    weights = source.weights
    if weights.path is None:
        return source
    if weights.published and source.variant:
        weights = weights_choice.resolve_weights(weights.published, source.variant)
    source = dataclasses.replace(source, weights=dataclasses.replace(source.weights, path=weights.path))
    require_unchanged(source)
    return source


def require_unchanged(source: Source) -> None:
    """Checks that the file of a model is the one that was chosen: what is kept goes by its hash.

    Raises:
        InputError: it was overwritten meanwhile, or is another on this machine.
        WeightsError: it is not there.
    """
    path, expected = source.weights.path, source.weights.sha256
    if path is None:
        return
    received = weights_choice.sha256_of_given(path)
    if received != expected:
        raise InputError(
            "the file of the weights is another one",
            expected=f"SHA-256 {expected}, as when the command began",
            received=f"SHA-256 {received} of {path}",
            action="convert again, with one file under this path on every machine",
        )
