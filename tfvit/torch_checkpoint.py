"""PyTorch checkpoints (`.pth`, `.pt`) read without PyTorch, and without running anything they contain.

The file is a zip of raw storages beside one pickle, `data.pkl`, that says how they are cut into tensors (`torch.save` since PyTorch 1.6).
A pickle is a program; this module interprets the few instructions a state dict needs and knows seven kinds of things: plain containers,
numbers, strings, `OrderedDict`, storages, tensors and parameters. Any other name in the pickle ends in an error that says that name, and
no code of the file's choosing is imported or called. The interpreter does not recurse, so depth cannot overflow it, and every size is
checked against the bytes that are really there before anything of that size is made.

Format: https://pytorch.org/docs/stable/notes/serialization.html; instructions: the standard library's pickletools.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfvit.errors import WeightsError

# Large V2 is 0.8 GB in float32: room for every published model, none for a bomb
MAX_BYTES = 4 << 30
# a state dict of a thousand tensors pickles to about 0.15 MB, with optimizer and schedule to about 1 MB; one byte can ask for a list
MAX_PICKLE_BYTES = 4 << 20
# kernels have four axes, attention masks three
MAX_AXES = 16

# in this order: the plain model first, as the original release evaluates it
CONTAINERS = ("model", "state_dict", "model_ema", "state_dict_ema")
PREFIXES = ("module.", "ema.", "model.")

# little-endian on disk; bfloat16 is the upper half of a float32
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
_REBUILD_TENSOR = ("torch._utils", "_rebuild_tensor_v2")
_REBUILD_PARAMETER = ("torch._utils", "_rebuild_parameter")
_ORDERED_DICT = ("collections", "OrderedDict")
_KNOWN_NAMES = {_REBUILD_TENSOR, _REBUILD_PARAMETER, _ORDERED_DICT} | {("torch", name) for name in _STORAGES}

_ZIP_START = b"PK\x03\x04"
_ENCRYPTED = 0x1
# the number that opened every file before PyTorch 1.6, pickled; the second byte is the protocol
_LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"

_RESAVE = "save it again with a current PyTorch, torch.save(model.state_dict(), 'NAME.pth'), or as .safetensors"


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
        raise _unusable(path.name, f"damaged or cut off ({_short(str(error))})", "download or copy the file again") from error


@dataclasses.dataclass(frozen=True)
class _Name:
    """A name of `_KNOWN_NAMES` the pickle mentioned; never the thing itself."""

    module: str
    name: str


@dataclasses.dataclass(frozen=True)
class _Storage:
    record: str
    dtype: str
    bfloat16: bool
    elements: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """What a tensor is cut from. Offset and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        itemsize = 4 if self.storage.bfloat16 else np.dtype(self.storage.dtype).itemsize
        elements = 1
        for length in self.shape:
            elements *= length
        return elements * itemsize


class _Archive:
    """The zip: its members' names and sizes are believed only after they agree with each other and with the file."""

    def __init__(self, archive: zipfile.ZipFile, size_bytes: int, name: str) -> None:
        self.archive, self.name = archive, name
        self.members: dict[str, zipfile.ZipInfo] = {}
        if any(member.endswith("/constants.pkl") for member in archive.namelist()):
            raise _unusable(name, "a TorchScript program", "save the state dict of the model instead: torch.save(model.state_dict(), …)")
        for member in archive.infolist():
            if member.filename in self.members:
                raise _unusable(name, f"two members named {_short(member.filename)!r}")
            if member.flag_bits & _ENCRYPTED:
                raise _unusable(name, f"an encrypted member, {_short(member.filename)!r}")
            # torch.save never compresses; without compression a member cannot be larger than the file that holds it
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise _unusable(name, f"a compressed member, {_short(member.filename)!r} (torch.save stores them as they are)")
            self.members[member.filename] = member
        if (declared := sum(member.file_size for member in self.members.values())) > size_bytes:
            raise _unusable(name, f"members of {declared} bytes in a file of {size_bytes}")
        roots = [member.removesuffix("/data.pkl") for member in self.members if member.endswith("/data.pkl")]
        if len(roots) != 1:
            raise _unusable(name, f"a zip with {len(roots) or 'no'} data.pkl", "pass the file torch.save wrote, not another archive")
        self.root = roots[0]
        byteorder = self.size_bytes("byteorder")
        if byteorder is not None and (byteorder > 16 or self.read("byteorder") != b"little"):
            raise _unusable(name, "storages that are not little-endian")
        if self.size_bytes("data.pkl") > MAX_PICKLE_BYTES:
            raise _unusable(name, f"a data.pkl of {self.size_bytes('data.pkl')} bytes (at most {MAX_PICKLE_BYTES})")

    def size_bytes(self, record: str) -> int | None:
        member = self.members.get(f"{self.root}/{record}")
        return None if member is None else member.file_size

    def read(self, record: str) -> bytes:
        return self.archive.read(self.members[f"{self.root}/{record}"])


def _read_archive(archive: _Archive, max_bytes: int) -> TorchState:
    content = _Interpreter(archive).run(archive.read("data.pkl"))
    state, container, passed_over = _state_dict(content, archive.name)
    total_bytes = sum(tensor.size_bytes for tensor in state.values())
    if total_bytes > max_bytes:
        raise _unusable(archive.name, f"tensors of {total_bytes} bytes (at most {max_bytes})", "check what the file is")
    sharing: dict[_Storage, list[str]] = {}
    for name, tensor in state.items():
        sharing.setdefault(tensor.storage, []).append(name)
    arrays = {}
    for storage, names in sharing.items():  # one storage in memory at a time, each read once
        elements = np.frombuffer(archive.read(storage.record), storage.dtype)
        arrays |= {name: _cut(elements, state[name]) for name in names}
    return TorchState(_without_prefixes({name: arrays[name] for name in state}), container, passed_over)


def _cut(elements: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """The array a tensor describes; its bounds were checked when it was described."""
    strides = [stride * elements.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(elements[tensor.offset :], tensor.shape, strides, writeable=False)
    if tensor.storage.bfloat16:
        bits = np.array(view, dtype=np.uint32, order="C")
        bits <<= 16
        return bits.view(np.float32)
    return np.array(view, dtype=elements.dtype.newbyteorder("="), order="C")


def _state_dict(content: Any, source: str) -> tuple[dict[str, _Tensor], str | None, tuple[str, ...]]:
    if not isinstance(content, Mapping):
        raise _unusable(source, f"{_kind(content)} instead of a state dict")
    containers = [name for name in CONTAINERS if isinstance(content.get(name), Mapping)]
    container = containers[0] if containers else None
    state = content if container is None else content[container]
    if not any(isinstance(value, _Tensor) for value in state.values()):
        where = f"no tensors under {container!r}" if container else "no tensors"
        raise _unusable(source, f"{where}; entries: {_listed(state)}")
    foreign = {name: value for name, value in state.items() if not (isinstance(name, str) and isinstance(value, _Tensor))}
    if foreign:
        raise _unusable(source, f"{len(foreign)} entries that are not named tensors: {_listed(foreign)}")
    return dict(state), container, tuple(containers[1:])


def _without_prefixes(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) and name != p for name in tensors)), None):
        tensors = {name.removeprefix(prefix): array for name, array in tensors.items()}
    return tensors


class _Interpreter:
    """Runs the instructions of a pickle that describe plain data and tensors, on a stack of its own."""

    def __init__(self, archive: _Archive) -> None:
        self.archive = archive
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name == "STOP":
                return self.pop()
            if opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name]())
            elif opcode.name in _LITERALS:
                self.stack.append(argument)
            elif (instruction := _INSTRUCTIONS.get(opcode.name)) is not None:
                instruction(self, argument)
            else:
                raise self.error(f"the pickle instruction {opcode.name}, which no state dict needs")
        raise self.error("a pickle that does not end")  # pragma: no cover (genops raises first)

    def error(self, received: str, **facts: Any) -> WeightsError:
        return _unusable(self.archive.name, received, **facts)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.error("a pickle that takes more than it has put down")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise self.error("a pickle that takes more than it has put down")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self, kind: type) -> Any:
        value = self.pop()
        if not isinstance(value, kind):
            raise self.error(f"a pickle that uses {_kind(value)} as {kind.__name__}")
        self.stack.append(value)
        return value

    # what the instructions do -----------------------------------------------------------------------------------------------------

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def discard(self, _: Any) -> None:
        self.pop()

    def tuple_of_mark(self, _: Any) -> None:
        self.stack.append(tuple(self.pop_to_mark()))

    def list_of_mark(self, _: Any) -> None:
        self.stack.append(self.pop_to_mark())

    def dict_of_mark(self, _: Any) -> None:
        items = self.pop_to_mark()
        self.stack.append({})
        self.set_items(items)

    def tuple1(self, _: Any) -> None:
        self.stack.append((self.pop(),))

    def tuple2(self, _: Any) -> None:
        second, first = self.pop(), self.pop()
        self.stack.append((first, second))

    def tuple3(self, _: Any) -> None:
        third, second, first = self.pop(), self.pop(), self.pop()
        self.stack.append((first, second, third))

    def append(self, _: Any) -> None:
        value = self.pop()
        self.top(list).append(value)

    def append_mark(self, _: Any) -> None:
        items = self.pop_to_mark()
        self.top(list).extend(items)

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def set_items_of_mark(self, _: Any) -> None:
        self.set_items(self.pop_to_mark())

    def set_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise self.error("a pickle with a key without a value")
        entries = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            # hashing a tuple recurses: a deep one as a key would overflow the stack of the process
            if not isinstance(key, str | bytes | int | float | None):
                raise self.error(f"{_kind(key)} as a key")
            entries[key] = value

    def put(self, index: int) -> None:
        value = self.pop()
        self.stack.append(value)
        self.memo[index] = value

    def memoize(self, _: Any) -> None:
        self.put(len(self.memo))

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise self.error(f"a pickle that recalls item {index}, which it never put down")
        self.stack.append(self.memo[index])

    def name_in_line(self, argument: str) -> None:
        self.push_name(*argument.split(" ", 1))

    def name_on_stack(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(module, str) and isinstance(name, str)):
            raise self.error("a pickle that names code by something other than a string")
        self.push_name(module, name)

    def push_name(self, module: str, name: str) -> None:
        if (module, name) not in _KNOWN_NAMES:
            raise self.error(f"the name {_short(f'{module}.{name}')}, which is no tensor and no plain data", refused=f"{module}.{name}")
        self.stack.append(_Name(module, name))

    def call(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        if not (isinstance(function, _Name) and isinstance(arguments, tuple)):
            raise self.error(f"a pickle that calls {_kind(function)}")
        called = (function.module, function.name)
        if called == _ORDERED_DICT and arguments == ():
            self.stack.append(collections.OrderedDict())
        elif called == _REBUILD_TENSOR:
            self.stack.append(self.tensor(arguments))
        elif called == _REBUILD_PARAMETER and len(arguments) == 3 and isinstance(arguments[0], _Tensor):
            self.stack.append(arguments[0])
        else:
            raise self.error(f"a pickle that calls {function.module}.{function.name} with arguments of another kind")

    def set_state(self, _: Any) -> None:
        """A state dict's `_metadata` (layer versions) is an attribute of its OrderedDict: read over."""
        state = self.pop()
        self.top(collections.OrderedDict)
        if not isinstance(state, dict):
            raise self.error(f"{_kind(state)} as the attributes of an OrderedDict")

    def storage(self, _: Any) -> None:
        reference = self.pop()
        if not (isinstance(reference, tuple) and len(reference) == 5 and isinstance(reference[1], _Name)):
            raise self.error("a reference that is no storage")
        tag, kind, key, _, elements = reference
        if tag != "storage" or kind.module != "torch" or not isinstance(key, str) or type(elements) is not int:
            raise self.error("a reference that is no storage")
        held_bytes = self.archive.size_bytes(f"data/{key}")
        if held_bytes is None:
            raise self.error(f"no storage {_short(key)!r}, which a tensor needs", action="download or copy the file again")
        dtype = _STORAGES[kind.name]
        if elements < 0 or elements * np.dtype(dtype).itemsize != held_bytes:
            raise self.error(f"storage {_short(key)!r} of {held_bytes} bytes, declared as {_short(elements)} {kind.name} elements")
        self.stack.append(_Storage(f"data/{key}", dtype, kind.name == "BFloat16Storage", elements))

    def tensor(self, arguments: tuple[Any, ...]) -> _Tensor:
        # storage, offset, shape, strides, requires_grad, backward hooks and, when set, metadata (conjugate or negated views)
        if len(arguments) not in (6, 7) or not isinstance(arguments[0], _Storage) or (len(arguments) == 7 and arguments[6]):
            raise self.error("a tensor that is described in an unknown way")
        storage, offset, shape, strides = arguments[:4]
        if not (type(offset) is int and _is_int_tuple(shape) and _is_int_tuple(strides) and len(shape) == len(strides)):
            raise self.error("a tensor whose offset, shape or strides are not whole numbers")
        if len(shape) > MAX_AXES or offset < 0 or min(shape + strides, default=0) < 0:
            raise self.error(f"a tensor of {len(shape)} axes with negative or too many numbers in its offset, shape or strides")
        last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
        if offset > storage.elements or (0 not in shape and last >= storage.elements):
            raise self.error(f"a tensor that ends at element {_short(last)} of a storage of {storage.elements}")
        return _Tensor(storage, offset, shape, strides)


_CONSTANTS: dict[str, Any] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_INSTRUCTIONS = {
    "PROTO": lambda interpreter, argument: None,
    "FRAME": lambda interpreter, argument: None,
    "MARK": _Interpreter.mark,
    "POP": _Interpreter.discard,
    "TUPLE": _Interpreter.tuple_of_mark,
    "TUPLE1": _Interpreter.tuple1,
    "TUPLE2": _Interpreter.tuple2,
    "TUPLE3": _Interpreter.tuple3,
    "LIST": _Interpreter.list_of_mark,
    "DICT": _Interpreter.dict_of_mark,
    "APPEND": _Interpreter.append,
    "APPENDS": _Interpreter.append_mark,
    "SETITEM": _Interpreter.set_item,
    "SETITEMS": _Interpreter.set_items_of_mark,
    "PUT": _Interpreter.put,
    "BINPUT": _Interpreter.put,
    "LONG_BINPUT": _Interpreter.put,
    "MEMOIZE": _Interpreter.memoize,
    "GET": _Interpreter.get,
    "BINGET": _Interpreter.get,
    "LONG_BINGET": _Interpreter.get,
    "GLOBAL": _Interpreter.name_in_line,
    "STACK_GLOBAL": _Interpreter.name_on_stack,
    "REDUCE": _Interpreter.call,
    "BUILD": _Interpreter.set_state,
    "BINPERSID": _Interpreter.storage,
}


def _is_int_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(item) is int for item in value)


def _kind(value: Any) -> str:
    """A value's kind for a message; never its content, which may be endless."""
    if isinstance(value, _Tensor):
        return "a tensor"
    if isinstance(value, _Name):
        return f"{value.module}.{value.name}"
    name = type(value).__name__.lstrip("_")
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _short(value: Any) -> str:
    """At most 80 characters of a string or number of the file's."""
    text = value if isinstance(value, str) else (str(value) if abs(value) < 1 << 64 else f"more than 2**{value.bit_length() - 1}")
    return text if len(text) <= 80 else f"{text[:79]}…"


def _listed(entries: Mapping[Any, Any]) -> str:
    shown = [f"{_short(str(name) if isinstance(name, str) else _kind(name))} ({_kind(value)})" for name, value in _first(entries, 4)]
    return ", ".join(shown) + (", …" if len(entries) > len(shown) else "") if shown else "none"


def _first(entries: Mapping[Any, Any], count: int) -> Iterator[tuple[Any, Any]]:
    yield from (item for item, _ in zip(entries.items(), range(count), strict=False))


def _not_a_zip(path: Path, start: bytes) -> WeightsError:
    # before the number there was a tar archive with the same ending
    if start[2:] == _LEGACY_START[2:] or path.name.endswith(".tar"):
        return _unusable(path.name, "the format of PyTorch before 1.6, which is not a zip")
    return _unusable(path.name, f"no zip archive ({'an empty file' if not start else f'it starts with {start[:4]!r}'})")


def _unusable(source: str, received: str, action: str = _RESAVE, **facts: Any) -> WeightsError:
    return WeightsError(
        "the checkpoint cannot be read",
        expected="a state dict of tensors in the zip format of torch.save (PyTorch 1.6 or newer)",
        received=f"{source}: {received}",
        action=action,
        **facts,
    )
