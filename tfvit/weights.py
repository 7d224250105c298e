"""Weights: finding and reading files, loading them into a model, drawing random ones."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfvit import memory
from tfvit.blocks import Block
from tfvit.checkpoints import huggingface
from tfvit.checkpoints.files import H5, KERAS, kind_of_file, read_file, read_safetensors
from tfvit.checkpoints.names import timm_names
from tfvit.checkpoints.official import HEADS, assign_tensors, tfvit_layers
from tfvit.checkpoints.wrapping import unwrapped
from tfvit.errors import InputError, WeightsError, first_line, reading
from tfvit.hashing import file_sha256
from tfvit.plain_layers import PlainBlock
from tfvit.plain_names import is_plain, plain_architecture
from tfvit.variants import PUBLISHED_WEIGHTS, WEIGHTS_ENDINGS, Variant

# Far more than any head has: an HDF5 file may declare a size that no memory holds, and store nothing
MOST_CLASSES = 10**6


@dataclasses.dataclass(frozen=True)
class WeightsOrigin:
    """Where a model's weights came from: the manifest's `weights` block.

    Attributes:
        source: "random:SEED", or the name of a file.
        sha256: hash of the file, or of the drawn values.
        license, origin: None if not known.
    """

    source: str
    sha256: str
    license: str | None = None
    origin: str | None = None

    @property
    def is_random(self) -> bool:
        return self.source.startswith("random:")


def load_weights(
    model: keras.Model, weights: str | os.PathLike[str], variant: Variant | None = None, adapt_window: bool = False
) -> WeightsOrigin:
    """Loads `weights` into `model`.

    Args:
        model: a built tfvit model.
        weights: "imagenet" or "imagenet21k" (fetched from the Hugging Face hub, or its cache), "cifar10" (shipped with the package, for
            the nano variants), or the path of a file: safetensors, `torch.save` or `.npz` (names of timm, the original releases or
            transformers, with whatever a training script puts before them), `.weights.h5` or `.keras`. Its content counts, not its ending.
        variant: the model's row of the table; needed for the published weights.
        adapt_window: take a checkpoint of another window, see `tfvit.checkpoints.official.assign_tensors`.

    Raises:
        WeightsError: the weights are missing, unreadable, or belong to another model. The model then keeps its weights, except that a
            `.weights.h5` may have replaced some.
    """
    name = variant.id if variant else model.name
    if str(weights) in PUBLISHED_WEIGHTS:
        if variant is None:
            raise ValueError(f"published weights belong to the variants of the table. Received: weights={weights!r} for {model.name!r}")
        from tfvit.published import published_checkpoint

        checkpoint = published_checkpoint(variant.id, str(weights))
        assign_tensors(model, read_safetensors(checkpoint.path), name, checkpoint.origin, adapt_window)
        return WeightsOrigin(str(weights), checkpoint.sha256, checkpoint.license, checkpoint.origin)
    path = existing_weights_file(weights)
    kind = kind_of_file(path)
    if kind == H5:
        _load_h5(model, path, name)
    elif kind == KERAS:
        _copy_weights(load_keras_model(path), model, name, path.name)
    else:
        assign_tensors(model, read_tensors(path), name, path.name, adapt_window)
    return WeightsOrigin(source=path.name, sha256=file_sha256(path), origin=path.name)


def existing_weights_file(weights: str | os.PathLike[str]) -> Path:
    """The path of a weights file, after a check that it exists.

    Raises:
        WeightsError: the file is missing.
    """
    path = Path(weights)
    if not path.name.endswith(WEIGHTS_ENDINGS) and not path.exists():
        raise WeightsError(
            "weights of an unknown format",
            expected=f"{', '.join(PUBLISHED_WEIGHTS)}, or a name ending in {', '.join(WEIGHTS_ENDINGS)}",
            received=str(path),
            action="check the spelling, or convert the checkpoint to safetensors",
        )
    with reading(path, "an existing file", "weights file", kind=WeightsError):
        path.open("rb").close()
    return path


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint in safetensors, of `torch.save` or of an `.npz`, under official names.

    Raises:
        WeightsError: the file is cut off, or no checkpoint.
    """
    tensors, _ = unwrapped(read_file(path).tensors, path.name, ema=False)
    if is_plain(tensors):
        return tensors
    return huggingface.timm_tensors(tensors) if huggingface.is_named(tensors) else tensors


def load_keras_model(path: str | os.PathLike[str], trusted: bool = False) -> keras.Model:
    """A saved `.keras` model with tfvit layers.

    Args:
        path: the file.
        trusted: whether Python code in it (lambdas) may run.

    Raises:
        InputError: the file is missing, or Keras cannot load it.
    """
    import tfvit.imagenet  # noqa: F401 (registers preprocess_input, which saved models may contain)

    path = Path(path)
    with reading(path, "a .keras file", "model file"):
        path.open("rb").close()
    try:
        with memory.limited():  # a few bytes of configuration may declare layers of any size
            return keras.models.load_model(path, compile=False, safe_mode=not trusted)
    except Exception as error:  # Keras raises many kinds here; each means the file cannot be used
        unknown = unknown_class(error)
        if unknown:
            raise InputError(
                "a layer or function of your own in the model",
                expected="classes that Keras or tfvit know, or that the modules named with --import register",
                received=f"{path.name} with {unknown}",
                action="name the module that defines it: --import MODULE (it runs that module's code)",
            ) from error
        runs_code = "safe_mode=False" in str(error)
        raise InputError(
            "unreadable Keras model",
            expected="a .keras file saved by Keras 3, with tfvit or built-in layers and no lambda code",
            received=f"{path.name}: {'code that would run when it is loaded (a lambda)' if runs_code else _short(error)}",
            action="replace the lambda by a named function or a layer and save again; "
            "or, where you trust the file, convert it with --model and --trust-model"
            if runs_code
            else "save it again with model.save('NAME.keras')",
        ) from error


def unknown_class(error: Exception) -> str | None:
    """The class or function that Keras does not know, from its error; None where that is not what is wrong."""
    found = re.search(r"Could not locate (?:class|function) '(\w+)'", str(error))
    if found is None:
        return None
    registered = re.findall(r"'registered_name': '([^']+)'", str(error))
    also = next((name for name in registered if name.endswith(f">{found[1]}")), None)
    return f"{found[1]!r}" + (f" (registered as {also!r})" if also else "")


def _short(error: Exception) -> str:
    return first_line(error)[:300]  # Keras quotes whole configurations


def checkpoint_classes(path: str | os.PathLike[str]) -> int | None:
    """How many classes a weights file has; None without a readable head."""
    path = Path(path)
    kind = kind_of_file(path)
    if kind == KERAS:
        return None
    if kind != H5:
        tensors = timm_names(read_tensors(path))
        head = next((tensors[bias] for _, bias in HEADS if bias in tensors), None)
        return int(head.shape[0]) if head is not None and head.ndim == 1 else None
    import h5py

    try:
        with h5py.File(path, "r") as file:
            bias = next((file.get(f"layers/{layer}/vars/1") for layer in ("head", "dense") if f"layers/{layer}" in file), None)
            if not isinstance(bias, h5py.Dataset) or len(bias.shape) != 1:
                return None
            return int(bias.shape[0]) if bias.shape[0] <= MOST_CLASSES else None  # declared is not stored
    except Exception:  # h5py raises many kinds for damaged files; loading says what is wrong
        return None


def checkpoint_arguments(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a weights file says of the model around its variant: its number of classes; of a plain model also what its head reads."""
    path = Path(path)
    tensors = {} if kind_of_file(path) in (H5, KERAS) else read_tensors(path)
    if not is_plain(tensors):
        classes = checkpoint_classes(path)
        return {} if classes is None else {"classes": classes}
    found = plain_architecture(tensors)
    return {name: found[name] for name in ("classes", "pooling", "class_token", "representation_size", "gelu") if name in found}


def randomize(model: keras.Model, seed: int) -> WeightsOrigin:
    """Draws every weight of a tfvit model at random, so that every branch computes something.

    Kernels are scaled by fan-in. Biases, norm scales (V2 initialises some with zero), position tables and logit scales are drawn too. The
    values depend only on the seed and on the name of the weight, and are the same on every backend.
    """
    writers = {id(weight) for layer in tfvit_layers(model) if isinstance(layer, Block | PlainBlock) for weight in layer.residual_writers}
    digest = hashlib.sha256()
    for path, variable in sorted(((_stable_path(weight, model), weight) for weight in model.weights), key=lambda pair: pair[0]):
        rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(path.encode())]))
        # residual branches at half gain, nearer to a trained network's: the stream stays the sum of many small changes
        gain = 0.5 if id(variable) in writers else 1.0
        value = (gain * _draw(path.rsplit("/", 1)[-1], tuple(variable.shape), rng)).astype(np.float32)
        digest.update(path.encode() + value.tobytes())
        variable.assign(value)
    return WeightsOrigin(source=f"random:{seed}", sha256=digest.hexdigest())


def _draw(role: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(shape)
    if role == "kernel":
        return noise / np.sqrt(np.prod(shape[:-1]))
    if role == "gamma":
        return 1.0 + 0.2 * noise
    if role == "logit_scale":
        return np.log(10.0) + 0.3 * noise
    if role in ("relative_position_bias_table", "class_token", "registers", "positions"):
        return 0.5 * noise
    return 0.1 * noise  # biases, beta


def _stable_path(variable: keras.Variable, model: keras.Model) -> str:
    """A variable's path without the name of its model."""
    return variable.path.removeprefix(f"{model.name}/")


def _load_h5(model: keras.Model, path: Path, expected: str) -> None:
    try:
        model.load_weights(path)
    except Exception as error:  # Keras and h5py raise many kinds here; each means the file cannot be used
        raise _foreign_weights(expected, f"{path.name}: {_short(error)}") from error


def _copy_weights(source: keras.Model, target: keras.Model, expected: str, name: str) -> None:
    theirs = [tuple(weight.shape) for weight in source.weights]
    ours = [tuple(weight.shape) for weight in target.weights]
    if theirs != ours:
        differing = next((pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]), None)
        detail = f"first difference {differing[1]} for {differing[0]}" if differing else "the others agree"
        raise _foreign_weights(expected, f"{name}: {len(theirs)} weights for {len(ours)}, {detail}")
    for mine, other in zip(target.weights, source.weights, strict=True):
        mine.assign(keras.ops.convert_to_numpy(other))


def _foreign_weights(expected: str, received: str) -> WeightsError:
    return WeightsError(
        f"the weights do not fit {expected}",
        expected=f"the weights of a {expected} model",
        received=received,
        action="pass the variant the file was saved from, or convert a whole model with --model FILE.keras",
    )
