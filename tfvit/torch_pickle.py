"""The pickle inside a PyTorch checkpoint, interpreted without running anything it contains.

A pickle is a program; this module interprets the few instructions a state dict needs and knows seven kinds of things: plain containers,
numbers, strings, `OrderedDict`, storages, tensors and parameters. Any other name in the pickle ends in an error that says that name, and
no code of the file's choosing is imported or called. The interpreter does not recurse, so depth cannot overflow it, and a tensor is
checked against the bytes that are really there before it is described.

Instructions: the standard library's pickletools.
"""

from __future__ import annotations

import collections
import dataclasses
import pickletools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from tfvit.errors import WeightsError

# kernels have four axes, attention masks three
MAX_AXES = 16

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

_RESAVE = "save it again with a current PyTorch, torch.save(model.state_dict(), 'NAME.pth'), or as .safetensors"


class Records(Protocol):
    """Where the storages are that a pickle refers to."""

    name: str

    def size_bytes(self, record: str) -> int | None:
        """Of a record, None where there is none."""


@dataclasses.dataclass(frozen=True)
class _Name:
    """A name of `_KNOWN_NAMES` the pickle mentioned; never the thing itself."""

    module: str
    name: str


@dataclasses.dataclass(frozen=True)
class Storage:
    record: str
    dtype: str
    bfloat16: bool
    elements: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """What a tensor is cut from. Offset and strides in elements."""

    storage: Storage
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


def read_pickle(program: bytes, records: Records) -> Any:
    """What a pickle describes: containers, numbers and strings as they are, tensors as `Tensor`.

    Raises:
        WeightsError: anything else in it; if that is a name, `refused` is it.
    """
    return _Interpreter(records).run(program)


class _Interpreter:
    """Runs the instructions of a pickle that describe plain data and tensors, on a stack of its own."""

    def __init__(self, records: Records) -> None:
        self.records = records
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
        return unusable(self.records.name, received, **facts)

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
            raise self.error(f"a pickle that uses {kind_of(value)} as {kind.__name__}")
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
                raise self.error(f"{kind_of(key)} as a key")
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
            raise self.error(f"the name {short(f'{module}.{name}')}, which is no tensor and no plain data", refused=f"{module}.{name}")
        self.stack.append(_Name(module, name))

    def call(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        if not (isinstance(function, _Name) and isinstance(arguments, tuple)):
            raise self.error(f"a pickle that calls {kind_of(function)}")
        called = (function.module, function.name)
        if called == _ORDERED_DICT and arguments == ():
            self.stack.append(collections.OrderedDict())
        elif called == _REBUILD_TENSOR:
            self.stack.append(self.tensor(arguments))
        elif called == _REBUILD_PARAMETER and len(arguments) == 3 and isinstance(arguments[0], Tensor):
            self.stack.append(arguments[0])
        else:
            raise self.error(f"a pickle that calls {function.module}.{function.name} with arguments of another kind")

    def set_state(self, _: Any) -> None:
        """A state dict's `_metadata` (layer versions) is an attribute of its OrderedDict: read over."""
        state = self.pop()
        self.top(collections.OrderedDict)
        if not isinstance(state, dict):
            raise self.error(f"{kind_of(state)} as the attributes of an OrderedDict")

    def storage(self, _: Any) -> None:
        reference = self.pop()
        if not (isinstance(reference, tuple) and len(reference) == 5 and isinstance(reference[1], _Name)):
            raise self.error("a reference that is no storage")
        tag, kind, key, _, elements = reference
        if tag != "storage" or kind.module != "torch" or not isinstance(key, str) or type(elements) is not int:
            raise self.error("a reference that is no storage")
        held_bytes = self.records.size_bytes(f"data/{key}")
        if held_bytes is None:
            raise self.error(f"no storage {short(key)!r}, which a tensor needs", action="download or copy the file again")
        dtype = _STORAGES[kind.name]
        if elements < 0 or elements * np.dtype(dtype).itemsize != held_bytes:
            raise self.error(f"storage {short(key)!r} of {held_bytes} bytes, declared as {short(elements)} {kind.name} elements")
        self.stack.append(Storage(f"data/{key}", dtype, kind.name == "BFloat16Storage", elements))

    def tensor(self, arguments: tuple[Any, ...]) -> Tensor:
        # storage, offset, shape, strides, requires_grad, backward hooks and, when set, metadata (conjugate or negated views)
        if len(arguments) not in (6, 7) or not isinstance(arguments[0], Storage) or (len(arguments) == 7 and arguments[6]):
            raise self.error("a tensor that is described in an unknown way")
        storage, offset, shape, strides = arguments[:4]
        if not (type(offset) is int and _is_int_tuple(shape) and _is_int_tuple(strides) and len(shape) == len(strides)):
            raise self.error("a tensor whose offset, shape or strides are not whole numbers")
        if len(shape) > MAX_AXES or offset < 0 or min(shape + strides, default=0) < 0:
            raise self.error(f"a tensor of {len(shape)} axes with negative or too many numbers in its offset, shape or strides")
        last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
        if offset > storage.elements or (0 not in shape and last >= storage.elements):
            raise self.error(f"a tensor that ends at element {short(last)} of a storage of {storage.elements}")
        return Tensor(storage, offset, shape, strides)


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
_INSTRUCTIONS: dict[str, Callable[[_Interpreter, Any], None]] = {
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


def kind_of(value: Any) -> str:
    """A value's kind for a message; never its content, which may be endless."""
    if isinstance(value, Tensor):
        return "a tensor"
    if isinstance(value, _Name):
        return f"{value.module}.{value.name}"
    name = type(value).__name__.lstrip("_")
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def short(value: Any) -> str:
    """At most 80 characters of a string or number of the file's."""
    text = value if isinstance(value, str) else (str(value) if abs(value) < 1 << 64 else f"more than 2**{value.bit_length() - 1}")
    return text if len(text) <= 80 else f"{text[:79]}…"


def unusable(source: str, received: str, action: str = _RESAVE, **facts: Any) -> WeightsError:
    return WeightsError(
        "the checkpoint cannot be read",
        expected="a state dict of tensors in the zip format of torch.save (PyTorch 1.6 or newer)",
        received=f"{source}: {received}",
        action=action,
        **facts,
    )
