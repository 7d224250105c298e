"""What there is to convert: a variant with weights, a saved Keras model, or a model in memory; named and checked before it is built."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edge.drift.meanings import AUTO, FEATURES, PROBABILITIES
from edge.quantization.recipes import Recipe
from tfvit import hub, weights_choice
from tfvit.checkpoints import reading
from tfvit.errors import InputError, UsageError, first_line
from tfvit.hashing import file_sha256
from tfvit.preprocessing import NOTHING_SAID, ModelInput, Size, sides, size_words
from tfvit.progress import current, step
from tfvit.variants import Variant, WindowedVariant, at_image_size, find_variant
from tfvit.weights_choice import WeightsChoice

# Where the weights of a model in memory came from, as its manifest says it
IN_MEMORY = "a Keras model in memory"
# What a checkpoint's name ends in and an artifact's does not
_ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".h5", ".weights", ".keras")


@dataclasses.dataclass(frozen=True)
class FromCheckpoint:
    """How a checkpoint of anyone's was read, and what it says of its classes.

    Attributes:
        format: as `tfvit.checkpoints.Checkpoint` has it.
        ema: whether a moving average of the weights was wanted.
        variant: what it was said to be, or None.
        labels: its own, or None.
        assumed: what nothing in it says and was guessed.
    """

    format: str
    ema: bool = True
    variant: str | None = None
    labels: tuple[str, ...] | None = None
    assumed: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """As JSON: what is needed to read it again in the same way."""
        return {"format": self.format, "ema": self.ema, "variant": self.variant}


@dataclasses.dataclass(frozen=True)
class Source:
    """A model to convert.

    Attributes:
        name: the artifacts' names begin with it.
        variant: the table's row, or None for a model of its own.
        weights: of the variant, or the model itself.
        model_input: what was said of its images.
        trusted: for a saved model: whether code in it may run.
        live: the Keras model, where it is in memory.
        imports: for a saved model: modules to import first, which register layers of the user's own, each with the SHA-256 of its file.
        output: what was said of its outputs: keys of `edge.drift.meanings.OUTPUTS`, with commas between them.
        checkpoint: how it was read, for a checkpoint of anyone's.
        image_size, window: of a variant, instead of its own; the row `variant` is for that size already.
    """

    name: str
    variant: Variant | None
    weights: WeightsChoice
    model_input: ModelInput = NOTHING_SAID
    trusted: bool = False
    live: Any = None
    imports: tuple[tuple[str, str | None], ...] = ()
    output: str = AUTO
    checkpoint: FromCheckpoint | None = None
    image_size: Size | None = None
    window: int | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What the model depends on: equal identities, equal models. The one place that says so."""
        weights = self.weights
        return {
            "name": self.name,
            "variant": dataclasses.asdict(self.variant) if self.variant else None,
            "weights": f"random:{weights.random_seed}" if weights.is_random else weights.sha256,
            "weights_origin": [weights.path.name if weights.path else None, weights.published, weights.license, weights.origin],
            "model_input": self.model_input.document(),
            "imports": [list(one) for one in self.imports],
            "output": self.output,
            "checkpoint": self.checkpoint.document() if self.checkpoint else None,
            "sizes": [sides(self.image_size) if self.image_size else None, self.window],
        }

    @property
    def recorded_name(self) -> str:
        """Of a checkpoint, as its manifest says it: the name of its folder or file, or of its repository."""
        path = self.weights.path
        return self.name if path is None or (self.weights.origin or "").startswith(hub.SCHEME) else Path(os.path.abspath(path)).name

    def artifact_name(self, recipe: Recipe) -> str:
        return f"{self.name}-{recipe.name}{'.random' if self.weights.is_random else ''}"


def of_variant(
    variant: Variant,
    weights: WeightsChoice,
    model_input: ModelInput = NOTHING_SAID,
    image_size: Size | None = None,
    window: int | None = None,
) -> Source:
    """A row of the table with weights, for images or with windows of another size where one is given.

    Raises:
        UsageError: a size or a window that the variant cannot have.
    """
    name, row = variant.id, variant
    if image_size is not None:
        _require_size(variant, image_size)
        words = image_size if isinstance(image_size, int) else "x".join(map(str, image_size))
        name, row = f"{name}-{words}px", at_image_size(variant, image_size)
    if window is not None:
        if not isinstance(variant, WindowedVariant) or not 2 <= window <= min(sides(row.image_size)) // variant.patch_size:
            raise UsageError(
                "an impossible window",
                expected="--window of 2 tokens to the side of the grid, of a variant with windows",
                received=f"--window {window} for {variant.id} at {size_words(row.image_size)} px",
                action="leave --window out, or pass another",
            )
        name = f"{name}-window{window}"
    return Source(name, row, weights, model_input, image_size=image_size, window=window)


def _require_size(variant: Variant, size: Size) -> None:
    """Checks that there are whole patches, and one of them in the last stage."""
    least = variant.patch_size << (len(variant.depths) - 1) if isinstance(variant, WindowedVariant) else variant.patch_size
    if any(side < least or side % variant.patch_size for side in sides(size)):
        raise UsageError(
            "an impossible image size",
            expected=f"--image-size of at least {least} px, a multiple of {variant.patch_size}",
            received=f"--image-size {'x'.join(map(str, sides(size)))} for {variant.id}",
            action="pass another",
        )


def resolve_model(path: Path, model_input: ModelInput = NOTHING_SAID, trusted: bool = False, imports: Sequence[str] = ()) -> Source:
    """`--model` without loading it.

    Args:
        imports: modules that register layers of the user's own.

    Raises:
        InputError: there is no such file or module, or its name cannot be an artifact's.
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
    return Source(path.stem, None, weights, model_input, trusted, imports=tuple((name, _module_sha256(name)) for name in imports))


def resolve_checkpoint(
    path: str | Path,
    model_input: ModelInput = NOTHING_SAID,
    variant: Variant | None = None,
    ema: bool = True,
    output: str = AUTO,
) -> Source:
    """`--checkpoint`: what it is, by its content; its weights are read again when the model is built.

    Args:
        path: a folder, a file, or "hf://OWNER/NAME".
        variant: what it should be, or None.
        ema: of a checkpoint with a moving average of its weights, take the average.
        output: what was said of its output; a head's logits are of classes where nothing was.

    Raises:
        InputError: there is no such thing, it has no head, or its name cannot be an artifact's.
        WeightsError: of another model, damaged, or contradicting itself or `variant`.
    """
    local = hub.local_checkpoint(path)
    local = local._replace(path=reading.whole(local.path))
    if reading.is_keras_model(local.path):
        if variant is not None:
            raise UsageError(
                "a saved Keras model is built as it is",
                expected="--checkpoint FILE.keras without --variant",
                received=f"--variant {variant.id}",
                action="leave --variant out",
            )
        return dataclasses.replace(resolve_model(local.path, model_input), output=output)
    with step("read the checkpoint", subject=local.name):
        found = reading.read_checkpoint(local.path, variant, ema, _image_size(model_input))
        sha256 = reading.checkpoint_sha256(local.path)
    if found.classes is None and output != FEATURES:
        raise InputError(
            "a checkpoint without a classifier",
            expected=f"a head: {found.missing_head}; or --output features, for what it gives without one",
            received=f"{local.name}: {len(found.tensors)} tensors of a backbone",
            action="say --output features, or fine-tune it first: tfvit.from_checkpoint(PATH) in Python gives it as a Keras model",
        )
    name = _artifact_name(local)
    for note in found.notes:
        current().note(note)
    said = model_input.over_preprocessing(found.preprocessing) if found.preprocessing else model_input
    weights = WeightsChoice(path=local.path, sha256=sha256, origin=local.origin or name)
    read = FromCheckpoint(found.format, ema, variant.id if variant else None, found.labels, found.assumed)
    return Source(name, None, weights, said, checkpoint=read, output=PROBABILITIES if output == AUTO else output)


def _image_size(model_input: ModelInput) -> int | None:
    """What is cut out is what the model sees: the size of a checkpoint that does not say its own."""
    return int(model_input.crop) if model_input.crop is not None and model_input.crop >= 1 else None


def _artifact_name(local: hub.LocalCheckpoint) -> str:
    """A folder's name, or a file's without its endings."""
    name = local.name if local.origin else Path(os.path.abspath(local.path)).name
    while name.endswith(_ENDINGS):
        name = name[: name.rindex(".")]
    if not name or name.encode("utf-8", "replace").decode() != name:
        raise InputError(
            "a name that no manifest can hold", expected="a name in UTF-8", received=str(local.path), action="rename the folder or file"
        )
    return name


def _module_sha256(name: str) -> str | None:
    """Of a module's file; None where it lies in none."""
    with _current_folder_first():
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
    if spec is None:
        raise InputError(
            "no such module",
            expected="--import MODULE, as it would stand behind `import` in the current folder",
            received=name,
            action="check the name and the folder; a file layers.py is --import layers",
        )
    return file_sha256(Path(spec.origin)) if spec.origin and Path(spec.origin).is_file() else None


@contextlib.contextmanager
def _current_folder_first() -> Iterator[None]:
    """Modules are looked for where a script would find them; the console scripts do not look there."""
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path.remove(os.getcwd())


def _import(modules: Sequence[str]) -> None:
    """Imports the user's modules, which register their layers.

    Raises:
        InputError: one fails.
    """
    for name in modules:
        try:
            with _current_folder_first():
                importlib.import_module(name)
        except Exception as error:  # the module's own code
            raise InputError(
                "a module that cannot be imported",
                expected=f"import {name} without an error",
                received=f"{type(error).__name__}: {first_line(error)}",
                action="run it by itself, and mend it",
            ) from error


def own_model(
    model: Any,
    model_input: ModelInput,
    trusted: bool = False,
    name: str | None = None,
    imports: Sequence[str] = (),
    output: str = AUTO,
    image_size: Size | None = None,
) -> Source:
    """A model of the user's own: the path of a saved one, or the Keras model itself."""
    saved = isinstance(model, str | os.PathLike)
    source = resolve_model(Path(model), model_input, trusted, imports) if saved else _in_memory(model, name, model_input)
    return dataclasses.replace(source, output=output, image_size=image_size)


def _in_memory(model: Any, name: str | None, model_input: ModelInput) -> Source:
    """Known by its configuration and weights."""
    import keras
    import numpy as np

    configuration = keras.saving.serialize_keras_object(model)
    digest = hashlib.sha256(json.dumps(configuration, sort_keys=True, default=str).encode())
    for weight in model.weights:
        digest.update(f"{weight.path}{weight.shape}".encode() + np.asarray(keras.ops.convert_to_numpy(weight)).tobytes())
    return Source(name or model.name, None, WeightsChoice(sha256=digest.hexdigest(), origin=IN_MEMORY), model_input, True, model)


def build(source: Source) -> tuple[Any, Any]:
    """The Keras model of a source, and where its weights came from (`tfvit.weights.WeightsOrigin`)."""
    from tfvit import weights as tfvit_weights

    if source.live is not None:
        return source.live, tfvit_weights.WeightsOrigin(source.name, str(source.weights.sha256), None, IN_MEMORY)
    if source.checkpoint is not None:
        from tfvit.checkpoints import building

        path, sha256 = source.weights.file
        variant = find_variant(source.checkpoint.variant) if source.checkpoint.variant else None
        found = reading.read_checkpoint(path, variant, source.checkpoint.ema, _image_size(source.model_input))
        model = building.build(found, source.name, classifier_activation=None)
        return model, tfvit_weights.WeightsOrigin(source.recorded_name, sha256, source.weights.license, source.weights.origin)
    if source.variant is None:
        path, sha256 = source.weights.file
        _import([name for name, _ in source.imports])
        return tfvit_weights.load_keras_model(path, source.trusted), tfvit_weights.WeightsOrigin(path.name, sha256)
    return weights_choice.build(source.variant, source.weights, source.window)


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
    received = reading.checkpoint_sha256(path) if source.checkpoint else weights_choice.sha256_of_given(path)
    if received != expected:
        raise InputError(
            "the file of the weights is another one",
            expected=f"SHA-256 {expected}, as when the command began",
            received=f"SHA-256 {received} of {path}",
            action="convert again, with one file under this path on every machine",
        )
