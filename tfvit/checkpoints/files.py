"""One file's tensors, whatever its name: the first bytes tell safetensors, `torch.save`, HDF5, `.keras` and `.npz` apart."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfvit import memory
from tfvit.checkpoints.h5 import read_h5
from tfvit.checkpoints.wrapping import first
from tfvit.errors import WeightsError, reading

SAFETENSORS, TORCH, H5, KERAS, NPZ = "safetensors", "torch", "h5", "keras", "npz"
# A .keras holds these
_KERAS_CONFIG, _KERAS_WEIGHTS = "config.json", "model.weights.h5"
_MOST_CONFIG_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class FileContent:
    """What is in a file of weights.

    Attributes:
        kind: "safetensors", "torch", "h5", "keras" or "npz".
        tensors: by the names that the file gives them.
        notes: sentences on what was chosen and passed over.
        others: what a training checkpoint holds beside its tensors, or a `.keras` its configuration.
    """

    kind: str
    tensors: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()
    others: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def kind_of_file(path: Path) -> str | None:
    """By its content; None where it is no file of weights.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(b"\x89HDF\r\n"):
        return H5
    if start.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(path) as archive:
                names = set(archive.namelist())
            if names and all(name.endswith(".npy") for name in names):
                return NPZ
            return KERAS if {_KERAS_CONFIG, _KERAS_WEIGHTS} <= names else TORCH
        except (zipfile.BadZipFile, NotImplementedError):
            return TORCH
    if len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < 1 << 32:
        return SAFETENSORS
    return TORCH if start[:1] == b"\x80" else None  # a pickle, whose reader says what is wrong with it


def read_file(path: Path, ema: bool = False) -> FileContent:
    """All tensors of a file.

    Args:
        ema: of a checkpoint with a moving average of its weights, take the average.

    Raises:
        WeightsError: no file of weights, or a damaged one.
    """
    with reading(path, "an existing file", "weights file", kind=WeightsError):
        kind = kind_of_file(path)
    if kind == SAFETENSORS:
        return FileContent(kind, read_safetensors(path))
    if kind == TORCH:
        return _torch(path, ema)
    if kind == H5:
        return FileContent(kind, read_h5(path, path.name))
    if kind == KERAS:
        return _keras(path)
    if kind == NPZ:
        return FileContent(kind, _npz(path))
    raise WeightsError(
        "weights of an unknown format",
        expected="a file of safetensors, torch.save or Keras",
        received=f"{path.name}, which begins with {_start(path)!r}",
        action="check which file it is, or convert the checkpoint to safetensors",
    )


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file; bfloat16, which numpy does not have, becomes float32.

    Raises:
        WeightsError: the file is cut off, or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import load_file

    errors = (SafetensorError, OSError, ValueError, TypeError, KeyError)
    with reading(Path(path).name, "a complete safetensors file", "weights file", "download or export the file again", WeightsError, errors):
        with safe_open(path, "np") as file:  # whole, and its offsets fit the shapes
            narrow = [name for name in file.keys() if file.get_slice(name).get_dtype() == "BF16"]  # noqa: SIM118 (no dict)
            if not narrow:
                return load_file(path)
            tensors = {name: file.get_tensor(name) for name in file.keys() if name not in set(narrow)}  # noqa: SIM118
        return tensors | _bfloat16(Path(path), narrow)


def _bfloat16(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """These tensors of a safetensors file that has been checked: each is the upper half of a float32."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    data, tensors = np.memmap(path, np.uint8, "r", offset=8 + length), {}
    for name in names:
        begin, end = header[name]["data_offsets"]
        bits = data[begin:end].view("<u2").astype(np.uint32)
        bits <<= 16
        tensors[name] = bits.view(np.float32).reshape(header[name]["shape"])
    return tensors


def _npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an archive; no pickles."""
    advice = "download or export the file again"
    unreadable = reading(path.name, "a complete .npz of numbers", "weights file", advice, WeightsError, Exception)
    with unreadable, memory.limited(), np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)


def _torch(path: Path, ema: bool) -> FileContent:
    from tfvit.torch_checkpoint import read_torch_state

    state = read_torch_state(path, ema=ema)
    notes = []
    if state.passed_over:
        what = "the moving average of the weights" if state.is_average else "the weights as they were trained"
        notes.append(f"{path.name}: {what} is taken, {state.container!r}; {first(state.passed_over)} passed over")
    if state.no_tensors:
        notes.append(f"{path.name}: {len(state.no_tensors)} entries that are no tensors were passed over ({first(state.no_tensors)})")
    return FileContent(TORCH, state.tensors, tuple(notes), state.others)


def _keras(path: Path) -> FileContent:
    errors = (OSError, ValueError, zipfile.BadZipFile, RecursionError)
    with reading(path, "a .keras file", "model file", kind=WeightsError, errors=errors), zipfile.ZipFile(path) as archive:
        members = {name: archive.getinfo(name) for name in (_KERAS_CONFIG, _KERAS_WEIGHTS)}
        # neither may declare more than the file could hold
        if members[_KERAS_CONFIG].file_size > _MOST_CONFIG_BYTES or members[_KERAS_WEIGHTS].file_size > 4 * path.stat().st_size:
            raise ValueError("members larger than the file that holds them")
        config, weights = json.loads(archive.read(_KERAS_CONFIG)), archive.read(_KERAS_WEIGHTS)
    return FileContent(KERAS, read_h5(weights, path.name), others=config if isinstance(config, dict) else {})
