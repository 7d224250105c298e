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
from tfvit.torch_objects import Foreign, Storage, Tensor, kind_of, short
from tfvit.torch_pickle import read_pickle, unusable

# Large V2 is 0.8 GB in float32: room for every published model, none for a bomb
MAX_BYTES = 4 << 30
# a state dict of a thousand tensors pickles to about 0.15 MB, with optimizer and schedule to about 1 MB; one byte can ask for a list
MAX_PICKLE_BYTES = 4 << 20
# in this order: the plain model first, as the original release evaluates it; then its moving average
CONTAINERS = ("model", "state_dict", "model_state_dict", "net", "network", "module", "weights")
EMA_CONTAINERS = ("model_ema", "state_dict_ema", "ema_state_dict", "model_ema_state_dict", "ema_model", "ema")

_ZIP_START = b"PK\x03\x04"
_ENCRYPTED = 0x1
# the number that opened every file before PyTorch 1.6, pickled; the second byte is the protocol
_LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"


@dataclasses.dataclass(frozen=True)
class TorchState:
    """The state dict of a checkpoint.

    Attributes:
        tensors: arrays by tensor name, in the file's order.
        container: the entry they were under ("model", "state_dict", …), or None if the file is a bare state dict or a pickled module.
        passed_over: the other state dicts of the file, which were not read ("model_ema", …).
        no_tensors: names in the state dict of what is no tensor.
        others: what else the file holds beside the state dict, by name, read without running anything.
    """

    tensors: dict[str, np.ndarray]
    container: str | None
    passed_over: tuple[str, ...]
    no_tensors: tuple[str, ...] = ()
    others: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_average(self) -> bool:
        """Whether the tensors are a moving average of the trained ones."""
        return self.container in EMA_CONTAINERS


def read_torch_checkpoint(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """All tensors of a PyTorch checkpoint's state dict, by name.

    The state dict may be bare, under one of `CONTAINERS` or `EMA_CONTAINERS`, or the attributes of a pickled module. Where several are
    there the first in this order is taken: the plain weights, as the original release does, and not their moving average
    (`read_torch_state` says which was taken, and takes the average where it is asked to).

    Args:
        path: a file written by `torch.save` of PyTorch 1.6 or newer.
        max_bytes: the most the returned arrays may take together.

    Returns:
        Arrays of the tensors' shapes and types, writable and contiguous; bfloat16 becomes float32.

    Raises:
        WeightsError: no such file, not a whole checkpoint, or one without tensors.
    """
    return read_torch_state(path, max_bytes).tensors


def read_torch_state(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES, ema: bool = False) -> TorchState:
    """Like `read_torch_checkpoint`, and says which of a checkpoint's state dicts was taken.

    Args:
        ema: whether a moving average goes before the plain weights.
    """
    path = Path(path)
    try:
        size_bytes = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(len(_LEGACY_START))
            if not start.startswith(_ZIP_START):
                raise _not_a_zip(path, start)
            with zipfile.ZipFile(file) as archive:
                return _read_archive(_Archive(archive, size_bytes, path.name), max_bytes, ema)
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


def _read_archive(archive: _Archive, max_bytes: int, ema: bool) -> TorchState:
    content = read_pickle(archive.read("data.pkl"), archive)
    found, container, passed_over = _state_dict(content, archive.name, ema)
    state = {name: tensor for name, tensor in found.items() if isinstance(name, str) and isinstance(tensor, Tensor)}
    if not state:
        raise unusable(archive.name, f"no named tensors; entries: {_listed(found)}" if found else "a pickled module, and no tensors in it")
    no_tensors = tuple(short(name) if isinstance(name, str) else kind_of(name) for name in found if name not in state)
    others = {name: value for name, value in _entries(content).items() if isinstance(name, str)} if container else {}
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
    return TorchState({name: arrays[name] for name in state}, container, passed_over, no_tensors, others)


def _cut(elements: np.ndarray, tensor: Tensor) -> np.ndarray:
    """The array a tensor describes; its bounds were checked when it was described."""
    strides = [stride * elements.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(elements[tensor.offset :], tensor.shape, strides, writeable=False)
    if tensor.storage.bfloat16:
        bits = np.array(view, dtype=np.uint32, order="C")
        bits <<= 16
        return bits.view(np.float32)
    return np.array(view, dtype=elements.dtype.newbyteorder("="), order="C")


def _state_dict(content: Any, source: str, ema: bool) -> tuple[Mapping[Any, Any], str | None, tuple[str, ...]]:
    """The state dict in what a pickle describes, the entry it was under, and the others that could have been taken."""
    if isinstance(content, Foreign) and content.is_module:
        return content.module_tensors(), None, ()
    if not isinstance(content, Mapping) and not (isinstance(content, Foreign) and content.items):
        raise unusable(source, f"{kind_of(content)} instead of a state dict")
    entries = _entries(content)
    looked_at: dict[int, Mapping[Any, Any] | None] = {}  # one thing may be there under many names
    for value in entries.values():
        if id(value) not in looked_at:
            looked_at[id(value)] = _tensors_of(value)
    states = {name: state for name, value in entries.items() if isinstance(name, str) and (state := looked_at[id(value)])}
    order = (*EMA_CONTAINERS, *CONTAINERS) if ema else (*CONTAINERS, *EMA_CONTAINERS)
    known = [name for name in order if name in states]
    if not known and any(isinstance(value, Tensor) for value in entries.values()):
        return entries, None, ()
    if not known and len(states) > 1:
        action = "save the one you want by itself: torch.save(state_dict, 'NAME.pth')"
        raise unusable(source, f"several state dicts: {_listed(states)}", action)
    if not states:
        raise unusable(source, f"no tensors; entries: {_listed(entries)}")
    taken = known[0] if known else next(iter(states))
    return states[taken], taken, tuple(name for name in known if name != taken)


def _entries(content: Any) -> Mapping[Any, Any]:
    return content.items if isinstance(content, Foreign) else content


def _tensors_of(value: Any) -> Mapping[Any, Any] | None:
    """The state dict that an entry is; None for an entry of another kind."""
    if isinstance(value, Foreign) and value.is_module:
        return value.module_tensors() or None
    entries = value.items if isinstance(value, Foreign) else value
    return entries if isinstance(entries, Mapping) and any(isinstance(one, Tensor) for one in entries.values()) else None


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
