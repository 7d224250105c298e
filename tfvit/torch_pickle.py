"""The pickle inside a PyTorch checkpoint, interpreted without running anything it contains.

A pickle is a program; this module interprets its instructions and knows seven kinds of things: plain containers, numbers, strings,
`OrderedDict`, storages, tensors and parameters. Everything else (an optimizer, a namespace, a node of a configuration, a whole module) is
a `Foreign`: it holds its name and what the pickle gave it, and does nothing. No code of the file's choosing is imported or called. The
interpreter does not recurse, so depth cannot overflow it, and a tensor is checked against the bytes that are really there before it is
described.

Instructions: the standard library's pickletools.
"""

from __future__ import annotations

import collections
import pickletools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from tfvit.errors import WeightsError
from tfvit.torch_objects import Foreign, Name, Storage, Tensor, kind_of, short

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
_REBUILD_PARAMETER_WITH_STATE = ("torch._utils", "_rebuild_parameter_with_state")
_REBUILD_SUBCLASS = ("torch._tensor", "_rebuild_from_type_v2")
_ORDERED_DICT = ("collections", "OrderedDict")
_KNOWN_NAMES = {_REBUILD_TENSOR, _REBUILD_PARAMETER, _REBUILD_PARAMETER_WITH_STATE, _REBUILD_SUBCLASS, _ORDERED_DICT}
_KNOWN_NAMES |= {("torch", name) for name in _STORAGES}
_RESAVE = "save it again with a current PyTorch, torch.save(model.state_dict(), 'NAME.pth'), or as .safetensors"


class Records(Protocol):
    """Where the storages are that a pickle refers to."""

    name: str

    def size_bytes(self, record: str) -> int | None:
        """Of a record, None where there is none."""


def read_pickle(program: bytes, records: Records) -> Any:
    """What a pickle describes: containers, numbers and strings as they are, tensors as `Tensor`.

    Everything else is a `Foreign`.

    Raises:
        WeightsError: not a pickle, or a storage or tensor that cannot be.
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

    def top(self, *kinds: type) -> Any:
        value = self.pop()
        if not isinstance(value, kinds):
            raise self.error(f"a pickle that uses {kind_of(value)} as {kinds[0].__name__}")
        self.stack.append(value)
        return value

    # what the instructions do -----------------------------------------------------------------------------------------------------

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def discard(self, _: Any) -> None:
        self.pop()

    def discard_to_mark(self, _: Any) -> None:
        self.pop_to_mark()

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
        self.add([value])

    def append_mark(self, _: Any) -> None:
        self.add(self.pop_to_mark())

    def add(self, values: list[Any]) -> None:
        """To a list; what a foreign list or set holds is not asked for."""
        target = self.top(list, Foreign)
        if isinstance(target, list):
            target.extend(values)

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def set_items_of_mark(self, _: Any) -> None:
        self.set_items(self.pop_to_mark())

    def set_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise self.error("a pickle with a key without a value")
        target = self.top(dict, Foreign)
        entries = target.items if isinstance(target, Foreign) else target
        for key, value in zip(items[::2], items[1::2], strict=True):
            # hashing a tuple recurses: a deep one as a key would overflow the stack of the process. No tensor has such a name
            if isinstance(key, str | bytes | int | float | None):
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
        self.stack.append(Name(module, name) if (module, name) in _KNOWN_NAMES else Foreign(f"{module}.{name}"))

    def made(self, maker: Any) -> None:
        """What a class or function of the file would have made."""
        if isinstance(maker, Name):
            raise self.error(f"a pickle that makes {kind_of(maker)} in an unknown way")
        if not isinstance(maker, Foreign):
            raise self.error(f"a pickle that calls {kind_of(maker)}")
        self.stack.append(Foreign(maker.name))

    def instance(self, argument: str) -> None:
        self.pop_to_mark()
        self.made(Foreign(argument.replace(" ", ".", 1)))

    def instance_of_mark(self, _: Any) -> None:
        items = self.pop_to_mark()
        self.made(items[0] if items else None)

    def new_object(self, _: Any) -> None:
        self.pop()
        self.made(self.pop())

    def new_object_with_names(self, _: Any) -> None:
        self.pop()
        self.pop()
        self.made(self.pop())

    def empty_set(self, _: Any) -> None:
        self.stack.append(Foreign("builtins.set"))

    def frozen_set(self, _: Any) -> None:
        self.pop_to_mark()
        self.stack.append(Foreign("builtins.frozenset"))

    def call(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        if isinstance(function, Foreign):
            # copyreg._reconstructor(class, base, state) is how the oldest protocols write an object
            first = arguments[0] if isinstance(arguments, tuple) and arguments else None
            return self.made(first if function.name == "copyreg._reconstructor" and isinstance(first, Foreign) else function)
        if not (isinstance(function, Name) and isinstance(arguments, tuple)):
            raise self.error(f"a pickle that calls {kind_of(function)}")
        called = (function.module, function.name)
        if called == _ORDERED_DICT and arguments == ():
            self.stack.append(collections.OrderedDict())
        elif called == _REBUILD_TENSOR:
            self.stack.append(self.tensor(arguments))
        elif called in (_REBUILD_PARAMETER, _REBUILD_PARAMETER_WITH_STATE) and isinstance(next(iter(arguments), None), Tensor | Foreign):
            self.stack.append(arguments[0])
        elif called == _REBUILD_SUBCLASS and len(arguments) == 4 and isinstance(arguments[2], tuple):
            rebuilds = isinstance(arguments[0], Name) and arguments[0] == Name(*_REBUILD_TENSOR)
            self.stack.append(self.tensor(arguments[2]) if rebuilds else Foreign("torch.Tensor"))
        else:
            raise self.error(f"a pickle that calls {function.module}.{function.name} with arguments of another kind")
        return None

    def set_state(self, _: Any) -> None:
        """Attributes of a foreign object. A state dict's `_metadata` (layer versions) is an attribute of its OrderedDict: read over."""
        state = self.pop()
        target = self.top(collections.OrderedDict, Foreign)
        if isinstance(target, Foreign):
            parts = state if isinstance(state, tuple) else (state,)  # a tuple: attributes, and those in slots
            target.attributes = next((part for part in parts if isinstance(part, dict)), target.attributes)
        elif not isinstance(state, dict):
            raise self.error(f"{kind_of(state)} as the attributes of an OrderedDict")

    def storage(self, _: Any) -> None:
        reference = self.pop()
        if not (isinstance(reference, tuple) and len(reference) == 5 and isinstance(reference[1], Name | Foreign)):
            raise self.error("a reference that is no storage")
        tag, kind, key, _, elements = reference
        if isinstance(kind, Foreign):  # of numbers that numpy does not have
            return self.stack.append(kind)
        if tag != "storage" or kind.module != "torch" or not isinstance(key, str) or type(elements) is not int:
            raise self.error("a reference that is no storage")
        held_bytes = self.records.size_bytes(f"data/{key}")
        if held_bytes is None:
            raise self.error(f"no storage {short(key)!r}, which a tensor needs", action="download or copy the file again")
        dtype = _STORAGES[kind.name]
        if elements < 0 or elements * np.dtype(dtype).itemsize != held_bytes:
            raise self.error(f"storage {short(key)!r} of {held_bytes} bytes, declared as {short(elements)} {kind.name} elements")
        return self.stack.append(Storage(f"data/{key}", dtype, kind.name == "BFloat16Storage", elements))

    def tensor(self, arguments: tuple[Any, ...]) -> Tensor | Foreign:
        if arguments and isinstance(arguments[0], Foreign):
            return Foreign(arguments[0].name)
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
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_INSTRUCTIONS: dict[str, Callable[[_Interpreter, Any], None]] = {
    "PROTO": lambda interpreter, argument: None,
    "FRAME": lambda interpreter, argument: None,
    "MARK": _Interpreter.mark,
    "POP": _Interpreter.discard,
    "POP_MARK": _Interpreter.discard_to_mark,
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
    "INST": _Interpreter.instance,
    "OBJ": _Interpreter.instance_of_mark,
    "NEWOBJ": _Interpreter.new_object,
    "NEWOBJ_EX": _Interpreter.new_object_with_names,
    "EMPTY_SET": _Interpreter.empty_set,
    "ADDITEMS": _Interpreter.append_mark,
    "FROZENSET": _Interpreter.frozen_set,
    "BUILD": _Interpreter.set_state,
    "BINPERSID": _Interpreter.storage,
}


def _is_int_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(item) is int for item in value)


def unusable(source: str, received: str, action: str = _RESAVE, **facts: Any) -> WeightsError:
    return WeightsError(
        "the checkpoint cannot be read",
        expected="a state dict of tensors in the zip format of torch.save (PyTorch 1.6 or newer)",
        received=f"{source}: {received}",
        action=action,
        **facts,
    )
