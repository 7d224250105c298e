"""PyTorch checkpoints without PyTorch: real ones, and hand-made ones that try to do more than hold tensors."""

import pickle
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tfvit import torch_checkpoint
from tfvit.errors import WeightsError
from tfvit.torch_checkpoint import read_torch_checkpoint, read_torch_state
from tfvit.torch_objects import attributes_of, entries_of

REFERENCE = Path(__file__).parents[2].parent / "shared" / "data" / "reference"
BUFFERS = ("relative_position_index", "attn_mask", "relative_coords_table")

VALUES = np.arange(12, dtype="<f4")


# pickles by hand: each function returns the instructions that put one thing on the stack


def _text(text):
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _number(value):
    return b"\x8a" + bytes([16]) + value.to_bytes(16, "little", signed=True)


def _numbers(*values):
    return b"(" + b"".join(map(_number, values)) + b"t"


def _name(module, name):
    return f"c{module}\n{name}\n".encode()


def _storage(kind="FloatStorage", key="0", elements=12):
    return b"(" + _text("storage") + _name("torch", kind) + _text(key) + _text("cpu") + _number(elements) + b"tQ"


def _tensor(storage=None, offset=0, shape=(3, 4), strides=(4, 1), more=b"\x89}"):
    arguments = (storage or _storage()) + _number(offset) + _numbers(*shape) + _numbers(*strides) + more
    return _name("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"tR"


def _entries(**entries):
    return b"}(" + b"".join(_text(name) + value for name, value in entries.items()) + b"u"


def _write(path, program, storages=None, byteorder=b"little", extra=(), root="archive"):
    """A checkpoint of one pickle and its storages."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/data.pkl", b"\x80\x02" + program + b".")
        if byteorder is not None:
            archive.writestr(f"{root}/byteorder", byteorder)
        for key, values in ({"0": VALUES} if storages is None else storages).items():
            archive.writestr(f"{root}/data/{key}", bytes(values))
        archive.writestr(f"{root}/version", "3\n")
        for name, content in extra:
            archive.writestr(name, content)
    return path


@pytest.fixture
def checkpoint(tmp_path):
    return lambda program, **files: _write(tmp_path / "w.pth", program, **files)


def _refused(path, match, **limits):
    with pytest.raises(WeightsError, match=match) as caught:
        read_torch_checkpoint(path, **limits)
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == ["expected", "received", "do"]
    return caught.value


# what is read


@pytest.mark.parametrize("name", ["v1_window7_224", "v2_window16_256"])
def test_the_original_release_equals_its_conversion(name):
    path = REFERENCE / f"{name}.original.pth"
    if not path.is_file():
        pytest.skip(f"{path.name} is not on this machine")
    state = read_torch_state(path)
    assert (state.container, state.passed_over) == ("model", ())
    tensors = {}
    for key, tensor in state.tensors.items():
        if not key.endswith(BUFFERS):
            key = re.sub(r"^layers\.(\d+)\.downsample", lambda match: f"layers.{int(match[1]) + 1}.downsample", key)
            tensors[re.sub(r"^head\.", "head.fc.", key)] = tensor
    expected = load_file(REFERENCE / f"{name}.safetensors")
    assert sorted(tensors) == sorted(expected)
    for key, tensor in expected.items():
        np.testing.assert_array_equal(tensors[key], tensor)
        assert tensors[key].dtype == tensor.dtype


def test_a_state_dict_made_by_hand(checkpoint):
    tensors = read_torch_checkpoint(checkpoint(_entries(**{"a.weight": _tensor(), "b": _tensor(offset=2, shape=(), strides=())})))
    assert list(tensors) == ["a.weight", "b"]
    np.testing.assert_array_equal(tensors["a.weight"], VALUES.reshape(3, 4))
    assert tensors["b"] == VALUES[2]
    tensors["a.weight"][:] = 0  # writable, and its own


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "expected"),
    [
        (0, (4, 3), (1, 4), VALUES.reshape(3, 4).T),
        (5, (2, 2), (4, 2), [[5, 7], [9, 11]]),
        (11, (3,), (0,), [11, 11, 11]),
        (12, (0, 4), (4, 1), np.zeros((0, 4))),
        (7, (), (), 7),
    ],
)
def test_strides_and_offsets(offset, shape, strides, expected, checkpoint):
    program = _entries(x=_tensor(offset=offset, shape=shape, strides=strides))
    tensor = read_torch_checkpoint(checkpoint(program))["x"]
    np.testing.assert_array_equal(tensor, expected)
    assert tensor.flags.c_contiguous
    brain = program.replace(b"FloatStorage", b"BFloat16Storage")
    tensor = read_torch_checkpoint(checkpoint(brain, storages={"0": (VALUES.view("<u4") >> 16).astype("<u2")}))["x"]
    np.testing.assert_array_equal(tensor, expected)  # twelve small whole numbers, exact in bfloat16
    assert tensor.flags.c_contiguous
    assert (type(tensor), tensor.dtype) == (np.ndarray, np.float32)


@pytest.mark.parametrize(
    ("kind", "stored", "expected"),
    [
        ("FloatStorage", np.array([1.5, -2], "<f4"), np.array([1.5, -2], "float32")),
        ("DoubleStorage", np.array([1.5, -2], "<f8"), np.array([1.5, -2], "float64")),
        ("HalfStorage", np.array([1.5, -2], "<f2"), np.array([1.5, -2], "float16")),
        ("BFloat16Storage", np.array([0x3FC0, 0xC000], "<u2"), np.array([1.5, -2], "float32")),
        ("IntStorage", np.array([3, -4], "<i4"), np.array([3, -4], "int32")),
        ("LongStorage", np.array([3, -4], "<i8"), np.array([3, -4], "int64")),
        ("ShortStorage", np.array([3, -4], "<i2"), np.array([3, -4], "int16")),
        ("CharStorage", np.array([3, -4], "i1"), np.array([3, -4], "int8")),
        ("ByteStorage", np.array([3, 250], "u1"), np.array([3, 250], "uint8")),
        ("BoolStorage", np.array([1, 0], "u1"), np.array([True, False])),
    ],
)
def test_every_storage(kind, stored, expected, checkpoint):
    program = _entries(x=_tensor(_storage(kind, elements=2), shape=(2,), strides=(1,)))
    tensor = read_torch_checkpoint(checkpoint(program, storages={"0": stored.tobytes()}))["x"]
    np.testing.assert_array_equal(tensor, expected)
    assert tensor.dtype == expected.dtype


def test_only_the_chosen_tensors_are_read(checkpoint, monkeypatch):
    program = _entries(model=_entries(x=_tensor()), optimizer=_entries(y=_tensor(_storage(key="1"))))
    read = []
    original = torch_checkpoint._Archive.read
    monkeypatch.setattr(torch_checkpoint._Archive, "read", lambda self, record: read.append(record) or original(self, record))
    assert list(read_torch_checkpoint(checkpoint(program, storages={"0": VALUES, "1": VALUES}))) == ["x"]
    assert read == ["byteorder", "data.pkl", "data/0"]


@pytest.mark.parametrize(
    ("containers", "taken", "passed_over"),
    [
        (["model"], "model", ()),
        (["state_dict"], "state_dict", ()),
        (["model_ema"], "model_ema", ()),
        (["state_dict_ema", "state_dict"], "state_dict", ("state_dict_ema",)),
        (["model_ema", "model"], "model", ("model_ema",)),
    ],
)
def test_containers(containers, taken, passed_over, checkpoint):
    held = {name: _entries(x=_tensor(offset=index, shape=(), strides=())) for index, name in enumerate(containers)}
    state = read_torch_state(checkpoint(_entries(**held, epoch=_number(3))))
    assert (state.container, state.passed_over) == (taken, passed_over)
    assert state.tensors["x"] == containers.index(taken)


@pytest.mark.parametrize(
    ("containers", "taken", "passed_over"),
    [
        (["state_dict", "state_dict_ema"], "state_dict_ema", ("state_dict",)),
        (["model", "model_ema"], "model_ema", ("model",)),
        (["model_state_dict"], "model_state_dict", ()),
        (["my_weights"], "my_weights", ()),
    ],
)
def test_the_moving_average_where_it_is_asked_for(containers, taken, passed_over, checkpoint):
    held = {name: _entries(x=_tensor(offset=index, shape=(), strides=())) for index, name in enumerate(containers)}
    state = read_torch_state(checkpoint(_entries(**held, epoch=_number(3))), ema=True)
    assert (state.container, state.passed_over, state.is_average) == (taken, passed_over, "ema" in taken)
    assert state.tensors["x"] == containers.index(taken)
    assert state.others["epoch"] == 3


def test_several_state_dicts_of_unknown_names(checkpoint):
    error = _refused(checkpoint(_entries(one=_entries(x=_tensor()), two=_entries(x=_tensor()))), "several state dicts: one .a dict., two")
    assert "by itself" in str(error)


def test_files_made_by_torch(tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    path = tmp_path / "w.pth"
    shared = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = model.state_dict()  # an OrderedDict with attributes
    state["1.parameter"] = torch.nn.Parameter(torch.ones(2))
    state["1.transposed"], state["1.cut"], state["1.grown"] = shared.t(), shared[1:3, 2:5], torch.ones(1, 3).expand(5, 3)
    for index, kind in enumerate(
        (torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    ):
        state[f"1.kind{index}"] = (torch.arange(5) - (0 if kind == torch.uint8 else 2)).to(kind)
    state["1.empty"], state["1.scalar"] = torch.zeros(0, 3), torch.tensor(7)
    for protocol in (2, 4):
        torch.save({"model": state, "epoch": 3, "lr": 1e-3, "tags": ["a", None, True, (1, 2, 3, 4)]}, path, pickle_protocol=protocol)
        tensors = read_torch_checkpoint(path)
        assert list(tensors) == list(state)
        for name, tensor in state.items():
            expected = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
            np.testing.assert_array_equal(tensors[name], expected)
            assert tensors[name].dtype == expected.dtype
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)
    assert "before 1.6" in str(_refused(path, "torch.save"))
    torch.save(model, path)
    tensors = read_torch_checkpoint(path)
    assert sorted(tensors) == sorted(model.state_dict())
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), path)
    _refused(path, "TorchScript")


# what is read over, and does not run


class _Bomb:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def _object(name, state, make=b")\x81"):
    """An instance as pickle writes it: a class, made of nothing, and its attributes."""
    return _name(*name.rsplit(".", 1)) + make + state + b"b"


def _module(parameters=b"}", buffers=b"}", modules=b"}", **more):
    """A pickled torch.nn.Module."""
    parts = {"_parameters": parameters, "_buffers": buffers, "_modules": modules, **more}
    return _object("torch.nn.modules.module.Module", _entries(**parts))


def _positions(bomb):
    """A file's pickle with something else than a tensor in every place where there can be one."""
    good = _entries(x=_tensor())
    return {
        "beside the tensors": _entries(model=good, optimizer=bomb),
        "in a list": _entries(model=good, callbacks=b"](" + bomb + b"e"),
        "in a tuple": _entries(model=good, callbacks=bomb + b"\x85"),
        "as a key": _entries(model=good, callbacks=b"}" + bomb + b"K\x01s"),
        "in a set": _entries(model=good, callbacks=b"\x8f(" + bomb + b"\x90"),
        "in a frozen set": _entries(model=good, callbacks=b"(" + bomb + b"\x91"),
        "among the tensors": _entries(model=_entries(x=_tensor(), y=bomb)),
        "as metadata": _entries(
            model=_name("collections", "OrderedDict") + b")R(" + _text("x") + _tensor() + b"u}" + _text("m") + bomb + b"sb"
        ),
        "as a hook of a tensor": _entries(model=_entries(x=_tensor(more=b"\x89" + bomb))),
        "as a parameter's state": _entries(
            model=_entries(x=_name("torch._utils", "_rebuild_parameter_with_state") + b"(" + _tensor() + b"\x89}" + bomb + b"tR")
        ),
        "as a device": _entries(model=_entries(x=_tensor(_storage().replace(_text("cpu"), bomb)))),
        "in a namespace": _entries(model=good, args=_object("argparse.Namespace", _entries(lr=bomb))),
        "as a namespace's state": _entries(model=good, args=_object("argparse.Namespace", bomb)),
        "in slots": _entries(model=good, args=_object("a.B", b"N}" + _text("slot") + bomb + b"s\x86")),
        "in a configuration": _entries(model=good, config=_name("yacs.config", "CfgNode") + b")\x81(" + _text("DATA") + bomb + b"u}b"),
        "as a class": _entries(model=good, x=bomb + b")\x81"),
        "as an argument": _entries(model=good, x=_name("a", "b") + bomb + b"\x85R"),
        "as an argument of a new object": _entries(model=good, x=_name("a", "B") + bomb + b"\x85\x81"),
        "as named arguments": _entries(model=good, x=_name("a", "B") + b")" + bomb + b"\x92"),
        "as an old instance": _entries(model=good, x=b"(" + bomb + b"ia\nB\n"),
        "as an old object": _entries(model=good, x=b"(" + _name("a", "B") + bomb + b"o"),
        "in a pickled module": _module(_entries(x=_tensor()), hooks=bomb),
        "as a module's parameter": _module(_entries(x=_tensor(), y=bomb)),
        "as a module's module": _module(_entries(x=_tensor()), modules=_entries(y=bomb)),
        "in a module of the file": _entries(model=_module(_entries(x=_tensor()), forward=bomb)),
        "discarded": bomb + b"0" + _entries(model=good),
    }


@pytest.mark.parametrize("position", _positions(b"N"))
@pytest.mark.parametrize("way", ["REDUCE", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"])
def test_a_bomb_goes_off_in_no_position(position, way, checkpoint, tmp_path):
    marker = tmp_path / "marker"
    argument = _text(f"touch {marker}")
    system = _name("os", "system")
    bomb = {
        "REDUCE": system + argument + b"\x85R",
        "STACK_GLOBAL": _text("os") + _text("system") + b"\x93" + argument + b"\x85R",
        "INST": b"(" + argument + b"ios\nsystem\n",
        "OBJ": b"(" + system + argument + b"o",
        "NEWOBJ": system + argument + b"\x85\x81",
        "NEWOBJ_EX": system + argument + b"\x85}\x92",
    }[way]
    tensors = read_torch_checkpoint(checkpoint(_positions(bomb)[position]))
    np.testing.assert_array_equal(tensors["x"], VALUES.reshape(3, 4))
    assert not marker.exists()
    if way in ("REDUCE", "STACK_GLOBAL", "INST"):
        pickle.loads(b"\x80\x04" + bomb + b".")
        assert marker.exists()  # it was one


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_bomb_alone_is_no_checkpoint(protocol, tmp_path):
    import os

    marker = tmp_path / "marker"
    bomb = pickle.dumps({"x": _Bomb(os.system, f"touch {marker}")}, protocol)
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("archive/data.pkl", bomb)
    _refused(tmp_path / "w.pth", r"no tensors; entries: x \(a (posix|nt)\.system\)")
    assert not marker.exists()
    pickle.loads(bomb)
    assert marker.exists()  # it was one


def test_nothing_is_imported(checkpoint):
    import sys

    program = _entries(model=_entries(x=_tensor()), x=_name("this", "s"), y=_object("antigravity.Geohash", b"}"))
    assert list(read_torch_checkpoint(checkpoint(program))) == ["x"]
    assert not {"this", "antigravity"} & set(sys.modules)


def test_a_pickled_module_gives_its_tensors(checkpoint):
    inner = _module(
        _entries(weight=_tensor(), bias=_tensor(offset=4, shape=(4,), strides=(1,))), _entries(mask=_tensor(shape=(), strides=()))
    )
    program = _module(_entries(scale=_tensor(shape=(), strides=())), modules=_entries(layer=inner, drop=_module(), nothing=b"N"))
    for whole in (program, _entries(model=program, epoch=b"K\x03")):
        tensors = read_torch_checkpoint(checkpoint(whole))
        assert sorted(tensors) == ["layer.bias", "layer.mask", "layer.weight", "scale"]
        np.testing.assert_array_equal(tensors["layer.bias"], VALUES[4:8])


def test_modules_inside_themselves_end(checkpoint):
    looping = _name("a", "B") + b")\x81q\x00" + _entries(_parameters=_entries(x=_tensor()), _modules=_entries(y=b"h\x00")) + b"b"
    assert list(read_torch_checkpoint(checkpoint(looping))) == ["x"]
    deep = _module(_entries(x=_tensor()))
    for _ in range(1000):
        deep = _module(modules=_entries(y=deep))
    _refused(checkpoint(deep), "without end")


def test_namespaces_and_configurations_are_read(checkpoint):
    args = _object("argparse.Namespace", _entries(model=_text("swin"), img_size=b"K\x60"))
    node = _name("yacs.config", "CfgNode") + b")\x81(" + _text("SIZE") + b"K\x60u}b"
    others = read_torch_state(checkpoint(_entries(model=_entries(x=_tensor()), args=args, config=node))).others
    assert attributes_of(others["args"]) == {"model": "swin", "img_size": 96}
    assert entries_of(others["config"]) == {"SIZE": 96}
    assert (entries_of(others["args"]), attributes_of(3)) == ({}, {})


def test_storages_of_unknown_numbers_are_read_over(checkpoint):
    program = _entries(model=_entries(x=_tensor(), y=_tensor(_storage("ComplexFloatStorage"))))
    state = read_torch_state(checkpoint(program))
    assert (list(state.tensors), state.no_tensors) == (["x"], ("y",))


def test_a_tensor_of_a_subclass(checkpoint):
    plain = _name("torch._utils", "_rebuild_tensor_v2")
    arguments = _tensor()[len(plain) : -1]
    wrapped = _name("torch._tensor", "_rebuild_from_type_v2") + b"(" + plain + _name("torch.nn", "Buffer") + arguments + b"}tR"
    np.testing.assert_array_equal(read_torch_checkpoint(checkpoint(_entries(x=wrapped)))["x"], VALUES.reshape(3, 4))
    foreign = _name("torch._tensor", "_rebuild_from_type_v2") + b"(" + _name("os", "system") + _name("a", "B") + b")}tR"
    assert read_torch_state(checkpoint(_entries(x=_tensor(), y=foreign))).no_tensors == ("y",)


@pytest.mark.parametrize(
    ("instructions", "named"),
    [
        (b"\x82\x01", "EXT1"),
        (b"Pstorage\n", "PERSID"),
        (_name("collections", "OrderedDict") + b")\x81", "makes collections.OrderedDict"),
        (b"K\x01)\x81", "calls an int"),
        (b"(o", "calls a NoneType"),
    ],
)
def test_other_instructions_are_refused_by_name(instructions, named, checkpoint):
    _refused(checkpoint(b"(" + instructions), named)


ORDERED_DICT = _name("collections", "OrderedDict")


@pytest.mark.parametrize(
    ("program", "received"),
    [
        (ORDERED_DICT + b"](K\x01eR", "calls collections.OrderedDict"),
        (ORDERED_DICT + b"(](K\x01etR", "arguments of another kind"),
        (_name("torch", "FloatStorage") + b")R", "arguments of another kind"),
        (_name("torch._utils", "_rebuild_parameter") + b"(K\x01\x89}tR", "arguments of another kind"),
        (_name("torch._utils", "_rebuild_parameter") + b")R", "arguments of another kind"),
        (_name("torch._utils", "_rebuild_tensor_v2") + b")R", "an unknown way"),
        (_tensor(storage=_number(1)), "an unknown way"),
        (_tensor(more=b"\x89}" + _entries(neg=b"\x88")), "an unknown way"),
        (_text("print") + b")R", "calls a str"),
        (b"}" + ORDERED_DICT + b"b", "uses a dict as OrderedDict"),
        (ORDERED_DICT + b")RK\x01b", "attributes of an OrderedDict"),
        (b"K\x01K\x02\x93", "other than a string"),
    ],
)
def test_allowed_names_with_other_arguments(program, received, checkpoint):
    _refused(checkpoint(program), received)


@pytest.mark.parametrize(
    ("program", "received"),
    [
        (_storage(elements=13), "48 bytes, declared as 13"),
        (_storage(elements=11), "48 bytes, declared as 11"),
        (_storage(elements=-12), "declared as -12"),
        (_storage("DoubleStorage"), "declared as 12 DoubleStorage"),
        (_storage(elements=1 << 100), r"more than 2\*\*100"),
        (_storage(key="1"), "no storage '1'"),
        (_storage(key="../data.pkl"), "no storage"),
        (b"K\x01Q", "no storage"),
        (b"(" + _text("module") + _name("torch", "FloatStorage") + _text("0") + _text("cpu") + _number(12) + b"tQ", "no storage"),
        (b"(" + _text("storage") + ORDERED_DICT + _text("0") + _text("cpu") + _number(12) + b"tQ", "no storage"),
        (b"(" + _text("storage") + _name("torch", "FloatStorage") + _number(0) + _text("cpu") + _number(12) + b"tQ", "no storage"),
        (_tensor(shape=(4, 4)), "ends at element 15 of a storage of 12"),
        (_tensor(offset=1), "ends at element 12"),
        (_tensor(offset=13, shape=(0,), strides=(1,)), "a storage of 12"),
        (_tensor(offset=-1), "negative"),
        (_tensor(strides=(-4, 1)), "negative"),
        (_tensor(offset=11, strides=(-4, -1)), "negative"),
        (_tensor(shape=(-3, 4)), "negative"),
        (_tensor(shape=(3,)), "not whole numbers"),
        (_tensor(shape=(1 << 100, 4)), r"more than 2\*\*"),
        (_tensor(shape=(0,), strides=(1 << 100,)), "damaged"),
        (_tensor(shape=(0, 1 << 100)), "damaged"),
        (_tensor(shape=(1,) * 17, strides=(0,) * 17), "17 axes"),
    ],
)
def test_storages_and_tensors_out_of_bounds(program, received, checkpoint):
    _refused(checkpoint(_entries(x=program)), received)


def test_a_shape_of_other_things_than_whole_numbers(checkpoint):
    for shape in (b"(\x88t", b"(G" + struct.pack(">d", 3.0) + b"t", b"](K\x03e"):
        arguments = _storage() + _number(0) + shape + _numbers(1) + b"\x89}"
        _refused(
            checkpoint(_entries(x=_name("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"tR")),
            "whole numbers|unknown way|takes",
        )


def test_the_size_of_the_result_is_limited(checkpoint):
    grown = _tensor(shape=(1 << 40,), strides=(0,))
    _refused(checkpoint(_entries(x=grown)), f"{4 << 40} bytes")
    _refused(checkpoint(_entries(x=_tensor(), y=_tensor())), "96 bytes", max_bytes=95)
    assert len(read_torch_checkpoint(checkpoint(_entries(x=_tensor(), y=_tensor())), max_bytes=96)) == 2
    half = _tensor(_storage("BFloat16Storage", elements=24))
    _refused(checkpoint(_entries(x=half)), "48 bytes", max_bytes=47)  # of float32


def test_memo_bombs_end_in_an_error(checkpoint):
    doubling = b"]q\x00" + b"".join(b"0](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(200))
    _refused(checkpoint(_entries(y=doubling)), r"y \(a list\)")
    _refused(checkpoint(_entries(y=b"]r\xff\xff\xff\xff")), r"y \(a list\)")
    _refused(checkpoint(_entries(y=b"]q\x00h\x00a")), r"y \(a list\)")  # a list in itself
    _refused(checkpoint(b"}q\x00(" + _text("model") + b"h\x00u"), r"no tensors; entries: model \(a dict\)")  # a container in itself
    _refused(checkpoint(b"h\x07"), "recalls item 7")
    _refused(checkpoint(b"j\xff\xff\xff\x7f"), "recalls item 2147483647")


DEPTH = 200_000  # more frames than any stack has


@pytest.mark.parametrize(
    ("program", "received"),
    [
        (b"(" * DEPTH + b"t" * DEPTH, "a tuple instead"),
        (b")" + b"\x85" * DEPTH, "a tuple instead"),
        (b"]" * DEPTH + b"a" * (DEPTH - 1), "a list instead"),
        (b"}" + b")" + b"\x85" * DEPTH + b"K\x01s", "entries: none"),
        ((_name("a", "B") + b")\x81}" + _text("x")) * (DEPTH // 20) + b"N" + b"sb" * (DEPTH // 20), "a a.B instead"),
        (b"}" * DEPTH + b"K\x01K\x02s", "no tensors"),
    ],
)
def test_depth_does_not_overflow_the_stack(program, received, checkpoint):
    _refused(checkpoint(program), received)


@pytest.mark.parametrize(
    "program", [b"0", b"t", b"a", b"](a", b"(s", b"u", b"(K\x01u", b"}(K\x01u", b"\x85", b"R", b"b", b"Q", b"\x93", b""]
)
def test_pickles_that_take_more_than_they_put_down(program, checkpoint):
    _refused(checkpoint(program), "takes more|without a value|a list instead|uses a")


@pytest.mark.parametrize(
    "program", [b"X\xff\xff\xff\x7fabc", b"\x8d" + b"\xff" * 8, b"\x8b\xff\xff\xff\x7f", b"\xff", b"I9e9\n", b"X\x01\x00\x00\x00\xff"]
)
def test_pickles_that_are_damaged(program, checkpoint):
    _refused(checkpoint(program), "damaged")


# zips


def test_duplicate_encrypted_and_compressed_members(checkpoint, tmp_path):
    path = checkpoint(_entries(x=_tensor()))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/0", bytes(48))
    _refused(path, "two members named 'archive/data/0'")
    path = checkpoint(_entries(x=_tensor()))
    content = path.read_bytes()
    entry = content.index(b"PK\x01\x02")
    path.write_bytes(content[: entry + 8] + b"\x01" + content[entry + 9 :])
    _refused(path, "encrypted")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # a thousandth of what it declares
        archive.writestr("archive/data.pkl", bytes(10 << 20))
    _refused(path, "compressed")


def test_sizes_that_the_file_cannot_hold(checkpoint):
    path = checkpoint(_entries(x=_tensor()))
    content = path.read_bytes()
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"data/0"))
    absurd = struct.pack("<II", 1 << 31, 1 << 31)
    path.write_bytes(content[: entry + 20] + absurd + content[entry + 28 :])
    _refused(path, "in a file of")


@pytest.mark.parametrize("byteorder", [b"big", b"", b"little" * 1000])
def test_another_byte_order(byteorder, checkpoint):
    _refused(checkpoint(_entries(x=_tensor()), byteorder=byteorder), "not little-endian")


def test_no_byte_order_is_little_endian(checkpoint):  # before PyTorch 2.1
    assert len(read_torch_checkpoint(checkpoint(_entries(x=_tensor()), byteorder=None))) == 1


def test_archives_of_other_things(checkpoint, tmp_path):
    program = _entries(x=_tensor())
    _refused(checkpoint(program, extra=[("other/data.pkl", b"")]), "2 data.pkl")
    _refused(checkpoint(program, extra=[("archive/constants.pkl", b"")]), "TorchScript")
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    _refused(tmp_path / "w.pth", "no data.pkl")


def test_a_pickle_of_absurd_length(checkpoint, monkeypatch):
    monkeypatch.setattr(torch_checkpoint, "MAX_PICKLE_BYTES", 10)
    _refused(checkpoint(_entries(x=_tensor())), r"data.pkl of \d+ bytes \(at most 10\)")


def test_truncated_files(checkpoint):
    path = checkpoint(_entries(x=_tensor()))
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        _refused(path, "damaged or cut off|no zip archive")


def test_changed_bytes_are_noticed(checkpoint):
    path = checkpoint(_entries(x=_tensor()))
    content = bytearray(path.read_bytes())
    content[content.index(VALUES.tobytes()) + 5] ^= 1
    path.write_bytes(content)
    _refused(path, "damaged")


def test_messages_stay_short_whatever_the_file_says(checkpoint):
    path = checkpoint(_entries(x=_tensor()))
    content = bytearray(path.read_bytes())
    content[26:28] = struct.pack("<H", 300)  # the length of the first member's name, which the message would quote
    path.write_bytes(content)
    assert len(str(_refused(path, "damaged"))) < 500
    assert len(str(_refused(checkpoint(_name("m" * 1000, "n")), "mmm"))) < 500


def test_missing_folders_and_foreign_files(tmp_path):
    _refused(tmp_path / "none.pth", "No such file")
    _refused(tmp_path, "a folder")
    for content, received in [(b"", "an empty file"), (b"hello", "no zip archive"), (torch_checkpoint._LEGACY_START + b".", "before 1.6")]:
        (tmp_path / "w.pth").write_bytes(content)
        error = _refused(tmp_path / "w.pth", received)
        assert "save it again" in str(error)


# contents that are no state dict


@pytest.mark.parametrize(
    ("program", "received"),
    [
        (_tensor(), "a tensor instead of a state dict"),
        (b"](K\x01e", "a list instead"),
        (b"}", "no tensors; entries: none"),
        (_entries(epoch=b"K\x03", model=_entries(y=b"N")), r"no tensors; entries: epoch \(an int\), model \(a dict\)"),
        (b"}(K\x01" + _tensor() + b"u", r"no named tensors; entries: an int \(a tensor\)"),
        (_module(), "no tensors in it"),
        (_entries(**{f"{'x' * 1000}{i}": b"K\x03" for i in range(9)}), "…"),
    ],
)
def test_contents_that_are_no_state_dict(program, received, checkpoint):
    assert len(str(_refused(checkpoint(program), received))) < 1000


def test_entries_that_are_no_tensors_are_passed_over(checkpoint):
    state = read_torch_state(checkpoint(_entries(x=_tensor(), epoch=b"K\x03", none=b"N")))
    assert (list(state.tensors), state.no_tensors) == (["x"], ("epoch", "none"))
