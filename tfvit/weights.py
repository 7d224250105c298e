"""Weights in and out: checkpoint names to ours, reading files, drawing random weights. The only module of tfvit that touches the disk.

Official names are timm's (`layers.1.downsample` belongs to the start of stage 1) or the original release's (`layers.0.downsample`, the end
of stage 0; `head.weight`); both are read. Index, mask and coordinate buffers are ignored: they are recomputed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfvit.attention import CosineWindowAttention, _WindowAttention
from tfvit.blocks import Block, LayerNorm, PatchEmbedding, PatchMerging
from tfvit.errors import InputError, WeightsError
from tfvit.variants import VARIANTS, Variant

_BUFFERS = re.compile(r"(relative_position_index|attn_mask|relative_coords_table|k_bias)$")
# our block order (0,0), (0,1), (1,0), (1,1) taken from the original's concatenation (0,0), (1,0), (0,1), (1,1)
_MERGING_ORDER = (0, 2, 1, 3)


@dataclasses.dataclass(frozen=True)
class WeightsOrigin:
    """Where a model's weights came from: the manifest's `weights` block.

    Attributes:
        source: "random:SEED" or the file's name.
        sha256: of the file, or of the drawn values.
        license, origin: as far as known, else None.
    """

    source: str
    sha256: str
    license: str | None = None
    origin: str | None = None

    @property
    def is_random(self) -> bool:
        return self.source.startswith("random:")


def load_weights(model: keras.Model, weights: str | os.PathLike[str], variant: Variant | None = None) -> WeightsOrigin:
    """Loads `weights` into `model`.

    Args:
        model: a built tfvit model.
        weights: "imagenet", or the path of a `.safetensors` (official names), `.weights.h5` or `.keras` file.
        variant: the model's row of the table, for messages.

    Raises:
        WeightsError: the file is missing, unreadable, or of another model; nothing has been assigned then, except by a `.weights.h5`.
    """
    if str(weights) in ("imagenet", "imagenet21k"):
        raise WeightsError(
            f"no pretrained weights named {str(weights)!r} yet",
            expected="a checkpoint file: this release does not download the published weights",
            received=repr(str(weights)),
            action="pass the path of a .safetensors, .weights.h5 or .keras file, or random weights (weights=None, --weights random)",
        )
    path = existing_weights_file(weights)
    name = variant.id if variant else model.name
    if path.name.endswith(".safetensors"):
        assign_tensors(model, read_safetensors(path), f"{name}", path.name)
    elif path.name.endswith(".weights.h5"):
        _load_h5(model, path, name)
    elif path.name.endswith(".keras"):
        _copy_weights(load_keras_model(path), model, name, path.name)
    else:
        raise _unknown_format(path)
    return WeightsOrigin(source=path.name, sha256=file_sha256(path), origin=path.name)


def existing_weights_file(weights: str | os.PathLike[str]) -> Path:
    """The path of a weights file that is there and has a known ending.

    Raises:
        WeightsError: it is missing or of an unknown format.
    """
    path = Path(weights)
    if not path.name.endswith((".safetensors", ".weights.h5", ".keras")):
        raise _unknown_format(path)
    if not path.is_file():
        raise WeightsError(
            "weights file not found",
            expected="a .safetensors, .weights.h5 or .keras file",
            received=f"{path} ({'a folder' if path.is_dir() else 'no such file'})",
            action="check the path",
        )
    return path


def _unknown_format(path: Path) -> WeightsError:
    return WeightsError(
        "weights of an unknown format",
        expected="a name ending in .safetensors, .weights.h5 or .keras",
        received=str(path),
        action="convert the checkpoint to safetensors, or check the spelling",
    )


def file_sha256(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read()).hexdigest()
        )


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file.

    Raises:
        WeightsError: not a whole safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            "unreadable weights file",
            expected="a complete safetensors file",
            received=f"{Path(path).name}: {error}",
            action="download or export the file again",
        ) from error


def load_keras_model(path: str | os.PathLike[str]) -> keras.Model:
    """A saved `.keras` model with tfvit layers.

    Raises:
        InputError: the file is missing or no loadable Keras model.
    """
    import tfvit.imagenet  # noqa: F401 (registers preprocess_input, which saved models may contain)

    path = Path(path)
    if not path.is_file():
        raise InputError("model file not found", expected="a .keras file", received=str(path), action="check the path")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds here; each means the file cannot be used
        raise InputError(
            "unreadable Keras model",
            expected="a .keras file saved by Keras 3, with tfvit or built-in layers and no lambda code",
            received=f"{path.name}: {str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}",
            action="save it again with model.save('NAME.keras'); replace lambdas by named functions or layers",
        ) from error


def checkpoint_classes(path: str | os.PathLike[str]) -> int | None:
    """How many classes the head of a weights file has, or None if it has no readable head."""
    path = Path(path)
    if path.name.endswith(".safetensors"):
        tensors = _timm_names(read_safetensors(path))
        head = tensors.get("head.fc.bias")
        return None if head is None else int(head.shape[0])
    if path.name.endswith(".weights.h5"):
        import h5py

        try:
            with h5py.File(path, "r") as file:
                bias = file.get("layers/head/vars/1")
                return None if bias is None else int(bias.shape[0])
        except OSError:
            return None
    return None


def tfvit_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The tfvit layers of a model, nested models included, in the order they were built."""
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, PatchEmbedding | Block | PatchMerging | _WindowAttention | LayerNorm):
            yield layer


def official_targets(model: keras.Model) -> dict[str, list[tuple[keras.Variable, Any]]]:
    """For every official (timm) tensor name: the variables it fills, each with the function that makes its value from the tensor."""
    targets: dict[str, list[tuple[keras.Variable, Any]]] = {}

    def one(name: str, variable: keras.Variable, transform: Any = lambda tensor: tensor) -> None:
        targets.setdefault(name, []).append((variable, transform))

    def norm(prefix: str, layer: LayerNorm, transform: Any = lambda tensor: tensor) -> None:
        one(f"{prefix}.weight", layer.gamma, transform)
        one(f"{prefix}.bias", layer.beta, transform)

    def dense(prefix: str, layer: keras.layers.Dense | keras.layers.EinsumDense) -> None:
        one(f"{prefix}.weight", layer.kernel, np.transpose)
        if layer.bias is not None:
            one(f"{prefix}.bias", layer.bias)

    stage, block = 0, 0
    for layer in model.layers:
        if isinstance(layer, PatchEmbedding):
            one("patch_embed.proj.weight", layer.projection.kernel, lambda tensor: tensor.transpose(2, 3, 1, 0))
            one("patch_embed.proj.bias", layer.projection.bias)
            norm("patch_embed.norm", layer.norm)
        elif isinstance(layer, PatchMerging):
            stage, block = stage + 1, 0
            norm(f"layers.{stage}.downsample.norm", layer.norm, (lambda tensor: tensor) if layer.post_norm else _merge_order_vector)
            one(f"layers.{stage}.downsample.reduction.weight", layer.reduction.kernel, _merge_order_kernel)
        elif isinstance(layer, Block):
            prefix = f"layers.{stage}.blocks.{block}"
            block += 1
            norm(f"{prefix}.norm1", layer.norm1)
            norm(f"{prefix}.norm2", layer.norm2)
            dense(f"{prefix}.mlp.fc1", layer.mlp.fc1)
            dense(f"{prefix}.mlp.fc2", layer.mlp.fc2)
            attention = layer.attention
            dense(f"{prefix}.attn.proj", attention.projection)
            for part, projection in enumerate((attention.query, attention.key, attention.value)):
                one(f"{prefix}.attn.qkv.weight", projection.kernel, _third(part, transpose=True))
            if isinstance(attention, CosineWindowAttention):
                one(f"{prefix}.attn.logit_scale", attention.logit_scale, lambda tensor: tensor.reshape(-1, 1))
                if attention.qkv_bias:
                    one(f"{prefix}.attn.q_bias", attention.query.bias)
                    one(f"{prefix}.attn.v_bias", attention.value.bias)
                dense(f"{prefix}.attn.cpb_mlp.0", attention.cpb_fc1)
                dense(f"{prefix}.attn.cpb_mlp.2", attention.cpb_fc2)
            else:
                one(f"{prefix}.attn.relative_position_bias_table", attention.relative_position_bias_table)
                if attention.qkv_bias:
                    for part, projection in enumerate((attention.query, attention.key, attention.value)):
                        one(f"{prefix}.attn.qkv.bias", projection.bias, _third(part, transpose=False))
        elif isinstance(layer, LayerNorm):
            norm("norm", layer)
        elif isinstance(layer, keras.layers.Dense) and layer.name == "head":
            dense("head.fc", layer)
    return targets


def assign_tensors(model: keras.Model, tensors: Mapping[str, np.ndarray], expected: str, source: str) -> None:
    """Assigns a checkpoint's tensors to a tfvit model; checks every name and shape before the first assignment.

    Args:
        tensors: official names (timm's or the original's) to arrays.
        expected, source: what the model and the file are called in the error.

    Raises:
        WeightsError: naming everything missing, unexpected or misshapen (`missing`, `unexpected`, `misshapen` on the error).
    """
    tensors = _timm_names(tensors)
    targets = official_targets(model)
    missing = sorted(set(targets) - set(tensors))
    unexpected = sorted(set(tensors) - set(targets))
    values: list[tuple[keras.Variable, np.ndarray]] = []
    misshapen = []
    for name in sorted(set(targets) & set(tensors)):
        for variable, transform in targets[name]:
            try:
                value = transform(np.asarray(tensors[name], dtype=np.float32))
            except ValueError:
                value = tensors[name]
            if tuple(value.shape) != tuple(variable.shape):
                misshapen.append(f"{name} {list(tensors[name].shape)}")
                break
            values.append((variable, value))
    if missing or unexpected or misshapen:
        found = guess_variant(tensors)
        raise WeightsError(
            f"the weights do not fit {expected}",
            expected=f"the {len(targets)} tensors of {expected}",
            received=f"{source}: " + ", ".join(_listed(k, v) for k, v in _problems(missing, unexpected, misshapen)),
            action=f"these look like {found}: pass --variant {found.split(' or ')[0]}"
            if found
            else "pass the variant the checkpoint was made for",
            missing=missing,
            unexpected=unexpected,
            misshapen=misshapen,
        )
    for variable, value in values:
        variable.assign(value)


def guess_variant(tensors: Mapping[str, np.ndarray]) -> str | None:
    """The variant ids a checkpoint with official names can belong to, joined by "or"; None if it is none of the table's."""
    tensors = _timm_names(tensors)
    projection = tensors.get("patch_embed.proj.weight")
    if projection is None:
        return None
    depths: dict[int, set[int]] = {}
    for name in tensors:
        if match := re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", name):
            depths.setdefault(int(match[1]), set()).add(int(match[2]))
    version = 2 if any(name.endswith("logit_scale") for name in tensors) else 1
    table = tensors.get("layers.0.blocks.0.attn.relative_position_bias_table")
    found = [
        variant.id
        for variant in VARIANTS.values()
        if variant.version == version
        and variant.embed_dim == projection.shape[0]
        and variant.depths == tuple(len(depths[stage]) for stage in sorted(depths))
        and (table is None or table.shape[0] == (2 * variant.window_size - 1) ** 2)
    ]
    return " or ".join(found) or None


def randomize(model: keras.Model, seed: int) -> WeightsOrigin:
    """Draws every weight of a tfvit model from `seed`, so that no branch is dead and none folds away.

    Kernels are scaled by fan-in; biases, norm scales (V2's zero-initialised ones included), position tables and logit scales are drawn
    too. The values depend on the seed and on each weight's own name alone, and are the same on every backend.
    """
    writers = {id(weight) for layer in tfvit_layers(model) if isinstance(layer, Block) for weight in layer.residual_writers}
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
    if role == "relative_position_bias_table":
        return 0.5 * noise
    return 0.1 * noise  # biases, beta


def _stable_path(variable: keras.Variable, model: keras.Model) -> str:
    """A variable's path below its model: the same however the model was named."""
    return variable.path.removeprefix(f"{model.name}/")


def _timm_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    original = any(name.startswith("layers.0.downsample") for name in tensors)
    named = {}
    for name, tensor in tensors.items():
        if _BUFFERS.search(name):
            continue
        if original:
            name = re.sub(r"^layers\.(\d+)\.downsample", lambda match: f"layers.{int(match[1]) + 1}.downsample", name)
        named[re.sub(r"^head\.(weight|bias)$", r"head.fc.\1", name)] = tensor
    return named


def _third(part: int, transpose: bool) -> Any:
    def take(tensor: np.ndarray) -> np.ndarray:
        third = np.split(tensor, 3, axis=0)[part]
        return third.T if transpose else third

    return take


def _merge_order_vector(tensor: np.ndarray) -> np.ndarray:
    return tensor.reshape(4, -1)[list(_MERGING_ORDER)].reshape(-1)


def _merge_order_kernel(tensor: np.ndarray) -> np.ndarray:
    outputs, inputs = tensor.shape
    return tensor.T.reshape(4, inputs // 4, outputs)[list(_MERGING_ORDER)].reshape(inputs, outputs)


def _problems(missing: list[str], unexpected: list[str], misshapen: list[str]) -> Iterator[tuple[str, list[str]]]:
    yield from ((kind, names) for kind, names in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen)) if names)


def _listed(kind: str, names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{len(names)} {kind} ({shown}{', …' if len(names) > 3 else ''})"


def _load_h5(model: keras.Model, path: Path, expected: str) -> None:
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise _foreign_weights(expected, f"{path.name}: {str(error).strip().splitlines()[0]}") from error


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
