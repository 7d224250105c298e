"""PyTorch checkpoints (`.pth`, `.pt`) read without PyTorch, and without running anything they contain.

The file is a zip of raw storages beside one pickle, `data.pkl`, that says how they are cut into tensors (`torch.save` since PyTorch 1.6).
`tfvit.torch_pickle` interprets the pickle; this module opens the zip, finds the state dict and cuts its tensors. Every size is
checked against the bytes that are really there before anything of that size is made.

Format: https://pytorch.org/docs/stable/notes/serialization.html
"""

from __future__ import annotations

import dataclasses
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfvit.errors import WeightsError
from tfvit.torch_pickle import Storage, Tensor, kind_of, read_pickle, short, unusable

# Large V2 is 0.8 GB in float32: room for every published model, none for a bomb
MAX_BYTES = 4 << 30
# a state dict of a thousand tensors pickles to about 0.15 MB, with optimizer and schedule to about 1 MB; one byte can ask for a list
MAX_PICKLE_BYTES = 4 << 20
# in this order: the plain model first, as the original release evaluates it
CONTAINERS = ("model", "state_dict", "model_ema", "state_dict_ema")
PREFIXES = ("module.", "ema.", "model.")

_ZIP_START = b"PK\x03\x04"
_ENCRYPTED = 0x1
# the number that opened every file before PyTorch 1.6, pickled; the second byte is the protocol
_LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"


@dataclasses.dataclass(frozen=True)
class TorchState:
    """The state dict of a checkpoint.

    Attributes:
        tensors: arrays by tensor name, prefixes removed, in the file's order.
        container: the entry they were under ("model", "state_dict", …), or None if the file is a bare state dict.
        passed_over: the other state dicts of the file, which were not read ("model_ema", …).
    """

    tensors: dict[str, np.ndarray]
    container: str | None
    passed_over: tuple[str, ...]


def read_torch_checkpoint(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """All tensors of a PyTorch checkpoint's state dict, by name.

    The state dict may be bare, or under "model", "state_dict", "model_ema" or "state_dict_ema". Where several of these are there the
    first in this order is taken: the plain weights, as the original release does, and not their moving average
    (`read_torch_state` says which was taken). A prefix "module.", "ema." or "model." that every name has is removed.

    Args:
        path: a file written by `torch.save` of PyTorch 1.6 or newer.
        max_bytes: the most the returned arrays may take together.

    Returns:
        Arrays of the tensors' shapes and types, writable and contiguous; bfloat16 becomes float32.

    Raises:
        WeightsError: no such file, not a whole checkpoint, one with more in it than tensors, or one that is not safe to read; if it
            names code, `refused` is that name.
    """
    return read_torch_state(path, max_bytes).tensors


def read_torch_state(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> TorchState:
    """Like `read_torch_checkpoint`, and says which of a checkpoint's state dicts was taken."""
    path = Path(path)
    try:
        size_bytes = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(len(_LEGACY_START))
            if not start.startswith(_ZIP_START):
                raise _not_a_zip(path, start)
            with zipfile.ZipFile(file) as archive:
                return _read_archive(_Archive(archive, size_bytes, path.name), max_bytes)
    except OSError as error:
        raise WeightsError(
            "unreadable checkpoint",
            expected="a .pth file written by torch.save",
            received=f"{path}: {'a folder' if path.is_dir() else error.strerror or error}",
            action="check the path and its permissions",
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error, ValueError, OverflowError) as error:
        raise unusable(path.name, f"damaged or cut off ({short(str(error))})", "download or copy the file again") from error


class _Archive:
    """The zip: its members' names and sizes are believed only after they agree with each other and with the file."""

    def __init__(self, archive: zipfile.ZipFile, size_bytes: int, name: str) -> None:
        self.archive, self.name = archive, name
        self.members: dict[str, zipfile.ZipInfo] = {}
        if any(member.endswith("/constants.pkl") for member in archive.namelist()):
            raise unusable(name, "a TorchScript program", "save the state dict of the model instead: torch.save(model.state_dict(), …)")
        for member in archive.infolist():
            if member.filename in self.members:
                raise unusable(name, f"two members named {short(member.filename)!r}")
            if member.flag_bits & _ENCRYPTED:
                raise unusable(name, f"an encrypted member, {short(member.filename)!r}")
            # torch.save never compresses; without compression a member cannot be larger than the file that holds it
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise unusable(name, f"a compressed member, {short(member.filename)!r} (torch.save stores them as they are)")
            self.members[member.filename] = member
        if (declared := sum(member.file_size for member in self.members.values())) > size_bytes:
            raise unusable(name, f"members of {declared} bytes in a file of {size_bytes}")
        roots = [member.removesuffix("/data.pkl") for member in self.members if member.endswith("/data.pkl")]
        if len(roots) != 1:
            raise unusable(name, f"a zip with {len(roots) or 'no'} data.pkl", "pass the file torch.save wrote, not another archive")
        self.root = roots[0]
        byteorder = self.size_bytes("byteorder")
        if byteorder is not None and (byteorder > 16 or self.read("byteorder") != b"little"):
            raise unusable(name, "storages that are not little-endian")
        pickle_bytes = self.size_bytes("data.pkl") or 0
        if pickle_bytes > MAX_PICKLE_BYTES:
            raise unusable(name, f"a data.pkl of {pickle_bytes} bytes (at most {MAX_PICKLE_BYTES})")

    def size_bytes(self, record: str) -> int | None:
        member = self.members.get(f"{self.root}/{record}")
        return None if member is None else member.file_size

    def read(self, record: str) -> bytes:
        return self.archive.read(self.members[f"{self.root}/{record}"])


def _read_archive(archive: _Archive, max_bytes: int) -> TorchState:
    content = read_pickle(archive.read("data.pkl"), archive)
    state, container, passed_over = _state_dict(content, archive.name)
    total_bytes = sum(tensor.size_bytes for tensor in state.values())
    if total_bytes > max_bytes:
        raise unusable(archive.name, f"tensors of {total_bytes} bytes (at most {max_bytes})", "check what the file is")
    sharing: dict[Storage, list[str]] = {}
    for name, tensor in state.items():
        sharing.setdefault(tensor.storage, []).append(name)
    arrays = {}
    for storage, names in sharing.items():  # one storage in memory at a time, each read once
        elements = np.frombuffer(archive.read(storage.record), storage.dtype)
        arrays |= {name: _cut(elements, state[name]) for name in names}
    return TorchState(_without_prefixes({name: arrays[name] for name in state}), container, passed_over)


def _cut(elements: np.ndarray, tensor: Tensor) -> np.ndarray:
    """The array a tensor describes; its bounds were checked when it was described."""
    strides = [stride * elements.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(elements[tensor.offset :], tensor.shape, strides, writeable=False)
    if tensor.storage.bfloat16:
        bits = np.array(view, dtype=np.uint32, order="C")
        bits <<= 16
        return bits.view(np.float32)
    return np.array(view, dtype=elements.dtype.newbyteorder("="), order="C")


def _state_dict(content: Any, source: str) -> tuple[dict[str, Tensor], str | None, tuple[str, ...]]:
    if not isinstance(content, Mapping):
        raise unusable(source, f"{kind_of(content)} instead of a state dict")
    containers = [name for name in CONTAINERS if isinstance(content.get(name), Mapping)]
    container = containers[0] if containers else None
    state = content if container is None else content[container]
    if not any(isinstance(value, Tensor) for value in state.values()):
        where = f"no tensors under {container!r}" if container else "no tensors"
        raise unusable(source, f"{where}; entries: {_listed(state)}")
    foreign = {name: value for name, value in state.items() if not (isinstance(name, str) and isinstance(value, Tensor))}
    if foreign:
        raise unusable(source, f"{len(foreign)} entries that are not named tensors: {_listed(foreign)}")
    return dict(state), container, tuple(containers[1:])


def _without_prefixes(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) and name != p for name in tensors)), None):
        tensors = {name.removeprefix(prefix): array for name, array in tensors.items()}
    return tensors


def _listed(entries: Mapping[Any, Any]) -> str:
    shown = [f"{short(str(name) if isinstance(name, str) else kind_of(name))} ({kind_of(value)})" for name, value in _first(entries, 4)]
    return ", ".join(shown) + (", …" if len(entries) > len(shown) else "") if shown else "none"


def _first(entries: Mapping[Any, Any], count: int) -> Iterator[tuple[Any, Any]]:
    yield from (item for item, _ in zip(entries.items(), range(count), strict=False))


def _not_a_zip(path: Path, start: bytes) -> WeightsError:
    # before the number there was a tar archive with the same ending
    if start[2:] == _LEGACY_START[2:] or path.name.endswith(".tar"):
        return unusable(path.name, "the format of PyTorch before 1.6, which is not a zip")
    return unusable(path.name, f"no zip archive ({'an empty file' if not start else f'it starts with {start[:4]!r}'})")
