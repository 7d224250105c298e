"""A checkpoint as its maker left it, folder or file, recognised by what is in it.

A format is a module beside this one with two functions: `said` (what its configuration says) and `timm_tensors` (its tensors under timm's
names). What is here is the same for all: find the files, hold the configuration against the tensors, fill in what neither says.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfvit.checkpoints import h5, huggingface, kerashub, names, original, plain, timm
from tfvit.checkpoints.checkpoint import IMAGE_SIZE, Checkpoint, Said, contradiction, unsupported
from tfvit.checkpoints.files import H5, KERAS, SAFETENSORS, TORCH, FileContent, kind_of_file, read_file
from tfvit.checkpoints.wrapping import first, unwrapped
from tfvit.errors import WeightsError, reading
from tfvit.graph_constants import AFTER_SHIFT, BEFORE_SHIFT, MASKED
from tfvit.hashing import file_sha256
from tfvit.plain_names import is_plain
from tfvit.preprocessing import Preprocessing, sides
from tfvit.variants import VARIANTS, Variant, WindowedVariant

OURS = "tfvit"
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
CONVERTER, TASK_WEIGHTS = "image_converter.json", "task.weights.h5"
# What the formats call their weights, the preferred one first
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.weights.h5")
INDEX_ENDING = ".index.json"
# What lies beside the weights in a folder of a training run, and is none
_NO_WEIGHTS = ("optimizer", "scheduler", "rng_state", "scaler", "training_args")
_MOST_JSON_BYTES = 64 << 20
_MOST_PX = 1 << 13


@dataclasses.dataclass(frozen=True)
class _Found:
    """What a folder or file holds."""

    files: tuple[Path, ...]
    config: Mapping[str, Any] | None = None


def read_checkpoint(path: Path, variant: Variant | None = None, ema: bool = True, image_size: int | None = None) -> Checkpoint:
    """A checkpoint, whatever its format.

    >>> read_checkpoint(Path("runs/best")).architecture["embed_dim"]
    96

    Args:
        path: a folder (Hugging Face transformers, timm, KerasHub) or a file (a state dict, a training checkpoint, our own).
        variant: which row of the table it should be; says what the checkpoint does not.
        ema: of a checkpoint with a moving average of its weights, take the average.
        image_size: in pixels, for a checkpoint that does not say it.

    Raises:
        InputError: there is no such folder or file.
        WeightsError: of another model, damaged, or one that contradicts its configuration or `variant`.
    """
    found = _found(path)
    try:
        return _read(found, path.name, variant, ema, image_size)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise WeightsError(
            "a checkpoint that cannot be read",
            expected="tensors and a configuration as one of the known formats has them",
            received=f"{path.name}: {type(error).__name__}: {str(error)[:200]}",
            action="save it again, or save the state dict alone",
        ) from error


def checkpoint_sha256(path: Path) -> str:
    """Of everything that `read_checkpoint` reads: the file's own, or, of several files, of their names and hashes.

    Raises:
        InputError: there is no such folder or file.
    """
    files = _found(path).files
    with reading(path, "a checkpoint that can be read", "checkpoint"):
        if len(files) == 1:
            return file_sha256(files[0])
        lines = [f"{file.name} {file_sha256(file)}\n" for file in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def whole(path: Path) -> Path:
    """The folder of a file that is called as in every folder of its format and has its configuration beside it; else the path itself."""
    return path.parent if path.name in WEIGHTS and path.is_file() and (path.parent / CONFIG).is_file() else path


def is_keras_model(path: Path) -> bool:
    """Whether it is a saved Keras model, whatever its name."""
    with reading(path, "an existing folder or file", "checkpoint"):
        return path.is_file() and kind_of_file(path) == KERAS


def _found(path: Path) -> _Found:
    """The files that belong to a checkpoint."""
    with reading(path, "an existing folder or file", "checkpoint", "check the path; hf://OWNER/NAME fetches one from the hub"):
        if not path.is_dir():
            path.open("rb").close()
        folder = whole(path)
        config = _json(folder / CONFIG) if (folder / CONFIG).is_file() else None
        weights = _weights_in(folder, config) if folder.is_dir() else (path,)
    beside = (CONFIG, PROCESSOR, CONVERTER, TASK_WEIGHTS) if config is not None else ()
    return _Found((*weights, *(folder / name for name in beside if (folder / name).is_file())), config)


def _weights_in(folder: Path, config: Mapping[str, Any] | None) -> tuple[Path, ...]:
    """The weights of a folder: one file, or shards and their index."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return (folder / name,)
        index = folder / f"{name}{INDEX_ENDING}"
        if index.is_file():
            shards = sorted({str(shard) for shard in _json(index).get("weight_map", {}).values()})
            missing = [shard for shard in shards if Path(shard).name != shard or not (folder / shard).is_file()]
            if not missing and shards:
                return (index, *(folder / shard for shard in shards))
            raise _no_weights(folder, f"{index.name}, without {first(missing) or 'shards'}")
    others = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(_NO_WEIGHTS)]
    others = [file for file in others if kind_of_file(file) is not None]
    if len(others) == 1:
        return (others[0],)
    if others:
        raise _no_weights(folder, f"{len(others)} files of weights ({first(one.name for one in others)})")
    raise _no_weights(folder, f"no weights{'' if config is None else ', only their configuration'}")


def _no_weights(folder: Path, received: str) -> WeightsError:
    return WeightsError(
        "a folder without the weights of one model",
        expected=f"one of {', '.join(WEIGHTS)}, or shards with their index",
        received=f"{folder.name}: {received}",
        action="name the file itself, or copy the whole folder",
    )


def _json(path: Path) -> dict[str, Any]:
    with reading(
        path, "a JSON object", "configuration", "copy or download the folder again", WeightsError, (OSError, ValueError, RecursionError)
    ):
        if path.stat().st_size > _MOST_JSON_BYTES:
            raise ValueError("far larger than any configuration")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}")
    return content


def _read(found: _Found, source: str, variant: Variant | None, ema: bool, image_size: int | None) -> Checkpoint:
    beside = {file.name: file for file in found.files}
    # first: a configuration of another model is refused before its weights are read
    configured = _said(found.config, beside, source) if found.config is not None else None
    content = _content(found, ema)
    if content.kind in (H5, KERAS):
        tensors, notes = content.tensors, ()
        format, said = configured or (OURS, Said(h5.of_keras_config(content.others) | {"padding": MASKED}))
        if format == OURS:
            tensors = h5.timm_tensors(tensors)
        else:
            tensors = kerashub.timm_tensors(tensors, read_file(beside[TASK_WEIGHTS]).tensors if TASK_WEIGHTS in beside else None)
    else:
        tensors, notes = unwrapped(content.tensors, source, ema)
        format, said = configured or _said_in_training(content, tensors, source)
        if huggingface.is_named(tensors) and not is_plain(tensors):
            tensors = huggingface.timm_tensors(tensors)
    if is_plain(tensors):
        checkpoint = plain.joined(format, tensors, said, variant, source)
    else:
        checkpoint = _joined(format, tensors, said, variant, image_size, source)
    _require_images(checkpoint.preprocessing, checkpoint.image_size, source)
    return dataclasses.replace(checkpoint, notes=(*content.notes, *notes, *checkpoint.notes))


def _said(config: Mapping[str, Any], beside: Mapping[str, Path], source: str) -> tuple[str, Said]:
    """The format of a `config.json`, and what it says."""

    def document(name: str) -> dict[str, Any] | None:
        return _json(beside[name]) if name in beside else None

    if "architecture" in config:  # timm's own, and its models inside transformers
        is_plain_name = str(config["architecture"]).startswith(plain.ARCHITECTURES)
        return timm.FORMAT, plain.said_by_timm(config, source) if is_plain_name else timm.said(config, source)
    if config.get("model_type") in plain.MODEL_TYPES:
        return huggingface.FORMAT, plain.said(config, document(PROCESSOR), source)
    if "model_type" in config or "architectures" in config:
        return huggingface.FORMAT, huggingface.said(config, document(PROCESSOR), source)
    if kerashub.is_config(config):
        return kerashub.FORMAT, kerashub.said(config, document(CONVERTER), source)
    raise unsupported(source, f"a config.json that is nobody's ({first(config)})")


def _said_in_training(content: FileContent, tensors: Mapping[str, np.ndarray], source: str) -> tuple[str, Said]:
    """The format of tensors without a configuration beside them, and what the other entries of their file say."""
    if is_plain(tensors):
        official = any(name.startswith("Transformer/") for name in tensors)
        return (original.FORMAT if official else huggingface.FORMAT if huggingface.is_named(tensors) else timm.FORMAT), Said()
    if huggingface.is_named(tensors):
        return huggingface.FORMAT, Said({"padding": BEFORE_SHIFT})
    if original.CONFIGURATION in content.others:
        return original.FORMAT, original.said_in_training(content.others, source)
    format = original.FORMAT if any(name.startswith("layers.0.downsample") for name in tensors) else timm.FORMAT
    return format, timm.said_in_training(content.others, source)


def _content(found: _Found, ema: bool) -> FileContent:
    """The weights: one file, or all shards."""
    if not found.files[0].name.endswith(INDEX_ENDING):
        return read_file(found.files[0], ema)
    tensors: dict[str, np.ndarray] = {}
    for shard in found.files[1:]:
        if shard.suffix != ".json" and shard.name != TASK_WEIGHTS:
            content = read_file(shard, ema)
            if content.kind not in (SAFETENSORS, TORCH):
                raise unsupported(shard.name, f"a shard of {content.kind}", "shards of safetensors or torch.save")
            tensors |= content.tensors
    missing = [name for name in _json(found.files[0])["weight_map"] if name not in tensors]
    if missing:
        raise contradiction(found.files[0].name, f"the {len(missing)} tensors {first(missing)}", "shards without them")
    return FileContent(SAFETENSORS, tensors)


def _joined(
    format: str, tensors: Mapping[str, np.ndarray], said: Said, variant: Variant | None, image_size: int | None, source: str
) -> Checkpoint:
    """What the tensors tell and what was said, held against each other; what neither says is filled in."""
    shapes = names.architecture(tensors)
    _require_agreement(shapes, said.architecture, source)
    known: dict[str, Any] = {**shapes, **{key: value for key, value in said.architecture.items() if value is not None}}
    if variant is not None:
        _require_variant(known, variant, source)
        assert isinstance(variant, WindowedVariant)  # it fits
        known = {"window_size": variant.window_size, "image_size": variant.image_size, **known}
        if variant.version == 2:
            known = {"pretrained_window_sizes": variant.pretrained_window_sizes, **known}
    assumed: tuple[str, ...] = ()
    notes = list(said.notes)
    if "window_size" not in known:
        rows = [row.id for row in VARIANTS.values() if _fits(known, row)]
        raise WeightsError(
            "a checkpoint that does not tell its window",
            expected="buffers, a config.json beside it, or the variant: the tensors of version 2 fit windows of any size",
            received=f"{source}: {len(tensors)} tensors" + (f" like those of {', '.join(rows)}" if rows else ""),
            action=f"name the variant, for example {rows[0]}" if rows else "put the configuration beside it that it was trained with",
        )
    if known.get("image_size") is None and image_size is not None:
        known["image_size"] = image_size
    elif known.get("image_size") is None:
        known["image_size"] = _usual_size(known)
        assumed = (IMAGE_SIZE,)
        notes.append(
            f"{source}: nothing says for which image size; {known['image_size']} px is assumed from its windows (--crop N says it)"
        )
    _require_one_window(tensors, known, source)
    preprocessing = said.preprocessing or (variant.preprocessing if variant and variant.image_size == known["image_size"] else None)
    if said.labels is not None and known.get("classes") not in (None, len(said.labels)):
        raise contradiction(source, f"{len(said.labels)} classes, as its labels say", f"a head of {known['classes']} classes")
    if known.get("pretrained_window_sizes"):  # a name of timm's tells four
        known["pretrained_window_sizes"] = known["pretrained_window_sizes"][: len(known["depths"])]
    side = known.pop("image_size")
    if not _pads(known, side):
        known["padding"] = MASKED  # the same arithmetic
    elif "padding" not in known:
        if format == kerashub.FORMAT:
            raise unsupported(source, f"{side} px in windows of {known['window_size']}", "grids of whole windows")
        known["padding"] = AFTER_SHIFT
    architecture = {**known, "input_shape": (side, side, 3)}
    tensors = names.timm_names(tensors)
    return Checkpoint(format, tensors, architecture, said.labels if "classes" in known else None, preprocessing, tuple(notes), assumed)


def _require_agreement(shapes: Mapping[str, Any], said: Mapping[str, Any], source: str) -> None:
    """Holds a configuration against the tensors."""
    for key, value in said.items():
        if value is None or key not in shapes or key in ("image_size", "padding"):
            continue
        received = shapes[key]
        if key == "window_size":
            grid = (said.get("image_size") or 0) // shapes["patch_size"]
            fits = received == value or received == min(value, grid)  # the windows of a small grid are smaller
        elif key == "mlp_ratio":
            fits = abs(received - value) < 0.01
        else:
            fits = received == value
        if not fits:
            raise contradiction(source, f"{key} {_plain(value)}, as its configuration says", f"tensors of {key} {_plain(received)}")


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _fits(known: Mapping[str, Any], row: Variant) -> bool:
    """Whether it can be that row: as far as it is known."""
    keys = ("version", "embed_dim", "depths", "num_heads", "patch_size", "window_size", "image_size")
    return isinstance(row, WindowedVariant) and all(known.get(key) in (None, getattr(row, key)) for key in keys)


def _require_variant(known: Mapping[str, Any], variant: Variant, source: str) -> None:
    if _fits(known, variant):
        return
    like = [row.id for row in VARIANTS.values() if _fits(known, row)]
    keys = ("version", "embed_dim", "depths", "num_heads", "window_size", "image_size")
    # a plain variant has neither version nor windows
    differs = [key for key in keys if known.get(key) not in (None, getattr(variant, key, None))]
    raise WeightsError(
        f"the checkpoint is not {variant.id}",
        expected=", ".join(f"{key} {_plain(getattr(variant, key, 'none'))}" for key in differs),
        received=f"{source}: " + ", ".join(f"{key} {_plain(known[key])}" for key in differs),
        action=f"it looks like {' or '.join(like)}: use that variant" if like else "leave the variant out: it is built as it is",
    )


def _usual_size(known: Mapping[str, Any]) -> int:
    """The size of the row of the table that it is; for any other, of one whole window in the last stage."""
    sizes = {max(sides(row.image_size)) for row in VARIANTS.values() if _fits(known, row)}
    if len(sizes) == 1:
        return sizes.pop()
    return known["patch_size"] * known["window_size"] << (len(known["depths"]) - 1)


def _require_one_window(tensors: Mapping[str, np.ndarray], known: Mapping[str, Any], source: str) -> None:
    """Checks that all stages have the same window, but for small grids."""
    windows, grid = names.trained_windows(tensors), known["image_size"] // known["patch_size"]
    wrong = {stage: side for stage, side in windows.items() if side not in (known["window_size"], min(known["window_size"], grid >> stage))}
    if wrong:
        sides = ", ".join(str(windows[stage]) for stage in sorted(windows))
        raise unsupported(source, f"windows of {sides} tokens in its stages at {known['image_size']} px", "one window for all stages")


def _require_images(preprocessing: Preprocessing | None, side: int, source: str) -> None:
    """Checks that images of this size can be made: the rest of the line computes with the numbers as they are."""
    if not 1 <= side <= _MOST_PX:
        raise unsupported(source, f"images of {side} px", f"images of at most {_MOST_PX} px")
    if preprocessing is None:
        return
    numbers = (*preprocessing.mean, *preprocessing.std)
    if not all(map(math.isfinite, numbers)) or min(preprocessing.std) <= 0:
        raise unsupported(source, f"images normalized by {numbers}", "finite means, and deviations above 0")
    resized = sides(preprocessing.resize_px)
    if preprocessing.crop_px != side or not side <= min(resized) <= max(resized) <= _MOST_PX:
        received = f"images resized to {preprocessing.resize_px} px and cut to {preprocessing.crop_px}, for an input of {side}"
        raise unsupported(source, received, "a cut of the input's size out of an image that is no smaller")


def _pads(known: Mapping[str, Any], side: int) -> bool:
    """Whether some stage's grid is no whole number of windows."""
    window, grid = known["window_size"], -(-side // known["patch_size"])
    for _ in known["depths"]:
        if grid > window and grid % window:
            return True
        grid = -(-grid // 2)
    return False
