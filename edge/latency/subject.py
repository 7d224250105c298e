"""What is run of a file, and on which inputs: one signature, shapes without gaps, and inputs in the file's own range.

A file's own range is what its metadata says, else what its quantization says, else what its first operations show. Noise is no input for a
trained network: on noise, quantized networks round in every direction, and float16 overflows.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from calibration import builtin
from edge.runtime.process import Run
from tfvit.errors import InputError, UsageError, reading, unknown_name

DETECTIONS = "TFLite_Detection_PostProcess"
# Operations that give other numbers every time
_RANDOM = {"RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "MULTINOMIAL", "STABLEHLO_RNG_BIT_GENERATOR"}
# The side of the scene that images are cut from; larger inputs repeat it
_SCENE_PX = 256
# A float input that is multiplied by less, or from which more is subtracted, takes values up to 255: 1/255 and 1/58 against 1/0.225, 127.5
# and 103.5 against 0.485
_SMALL_FACTOR, _LARGE_MEAN = 0.05, 2.0
_KEPT = {"RESHAPE", "CAST", "PAD", "DEQUANTIZE", "TRANSPOSE", "RESIZE_BILINEAR"}


@dataclasses.dataclass(frozen=True)
class Subject:
    """A file as it is run.

    Attributes:
        path: of the file.
        run: its signature, shapes and inputs, for every process that runs it.
        inputs: in words, for example "a generated image of 0..255".
        signatures: the names of all of its signatures.
        quantized: whether anything in it is an integer with a scale; None where the file could not be read here.
        detections: whether its outputs are a list of detections, whose order means nothing.
        draws: whether it draws random numbers.
        steps: output -> what one step of its integers is worth.
    """

    path: Path
    run: Run = dataclasses.field(default_factory=Run)
    inputs: str = "generated numbers"
    signatures: tuple[str, ...] = ()
    quantized: bool | None = None
    detections: bool = False
    draws: bool = False
    steps: Mapping[str, float] = dataclasses.field(default_factory=dict)


def subject(
    path: Path,
    folder: Path,
    signature: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    data: Path | None = None,
) -> Subject:
    """Looks at a file, and writes its inputs where the processes that run it will read them.

    Args:
        path: a `.tflite`. One that is damaged is left to the runtime, which refuses it.
        folder: where inputs are written.
        signature: the name of one; the main graph's by default.
        shapes: input -> shape, "" for the only one, of inputs with dynamic dimensions.
        data: inputs of the user: an image, an `.npy`, an `.npz`, or a folder of them.

    Raises:
        UsageError: no such signature or input, or a dynamic dimension without a size.
        InputError: data that do not fit.
    """
    if importlib.util.find_spec("ai_edge_litert") is None:  # tflite-runtime alone: nothing here can read the file
        return Subject(path)
    from edge.tflite import flatbuffer

    with reading(path, "a .tflite file"):
        content = path.read_bytes()
    try:
        model = flatbuffer.read_model(content)
    except InputError:
        return Subject(path)
    names = flatbuffer.signatures(model)
    if signature is not None and signature not in names:
        raise unknown_name(f"signature of {path.name}", signature, names or ["(none in this file)"])
    chosen = signature if signature is not None else next((name for name, graph in names.items() if graph == 0), None)
    number = names.get(chosen, 0) if chosen is not None else 0
    view = flatbuffer.graph(model, number)
    view.signatureDefs = [one for one in view.signatureDefs if chosen is None or flatbuffer.text_of(one.signatureKey) == chosen]
    inputs = flatbuffer.signature_inputs(view)
    sizes = _shapes(path, view, inputs, shapes or {})
    ranges = {name: value_range(view, content, index) for name, index in inputs.items()}
    if data is None:
        values, words = _generated(view, inputs, sizes, ranges)
    else:
        values, words = _given(data, view, inputs, sizes, ranges), f"the inputs in {data}"
    file = folder / f"inputs-{zlib.crc32(os.fsencode(path.resolve())):08x}.npz"
    np.savez(file, **{f"_{name}": value for name, value in values.items()})
    outputs = flatbuffer.signature_outputs(view)
    operations = {name for graph in range(len(model.subgraphs)) for name, _ in flatbuffer.operators(flatbuffer.graph(model, graph))}
    return Subject(
        path,
        Run(chosen, {name: size for name, size in sizes.items() if size != flatbuffer.tensor_shape(view, inputs[name])}, file),
        words,
        tuple(names),
        any(_scaled(view, index) for index in range(len(view.subgraphs[0].tensors))),
        DETECTIONS in operations,
        bool(operations & _RANDOM),
        {name: step for name, index in outputs.items() if (step := _step(view, index))},
    )


def _shapes(path: Path, model: Any, inputs: Mapping[str, int], asked: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Input -> shape, with the sizes that were asked for in the place of dynamic ones."""
    from edge.tflite import flatbuffer

    if "" in asked and len(inputs) != 1:
        raise UsageError(
            "which input?",
            expected=f"--input-shape NAME={_text(asked[''])}",
            received=_text(asked[""]),
            action=f"one of {', '.join(inputs)}",
        )
    asked = {(name or next(iter(inputs))): shape for name, shape in asked.items()}
    for name in asked:
        if name not in inputs:
            raise unknown_name(f"input of {path.name}", name, inputs)
    found = {}
    for name, index in inputs.items():
        dynamic, stored = flatbuffer.dynamic_shape(model, index), flatbuffer.tensor_shape(model, index)
        # a batch of any size is one; every other side has to be said
        known = tuple(stored[0] if position == 0 and side < 0 else side for position, side in enumerate(dynamic))
        shape = asked.get(name, known)
        if not _fits(shape, dynamic):
            example = tuple(side if side > 0 else 1 if at == 0 else 224 for at, side in enumerate(dynamic))
            raise UsageError(
                f"{path.name} has dynamic dimensions" if name not in asked else f"a shape that {path.name} does not take",
                expected=f"--input-shape {name}=… for {name} {shown(dynamic)}, each side at least 1",
                received=_text(asked[name]) if name in asked else "no --input-shape",
                action=f"for example --input-shape {name}={_text(example)}",
            )
        found[name] = shape
    return found


def _fits(shape: tuple[int, ...], dynamic: tuple[int, ...]) -> bool:
    sides = zip(dynamic, shape, strict=False)
    return len(shape) == len(dynamic) and all(got >= 1 and want in (-1, got) for want, got in sides)


def shown(shape: tuple[int, ...]) -> str:
    """A shape with "any" for every dynamic side."""
    return f"[{', '.join('any' if side < 0 else str(side) for side in shape)}]"


def _text(shape: tuple[int, ...]) -> str:
    return ",".join(map(str, shape))


def value_range(model: Any, content: bytes, index: int) -> tuple[float, float]:
    """The least and the largest value that an input is likely to take."""
    from edge.tflite import flatbuffer

    if (by_integers := _range_of_integers(model, index)) is not None:
        return by_integers
    position = list(flatbuffer.signature_inputs(model).values()).index(index)
    normalization = _normalization(content, position)
    if normalization:
        mean, std = normalization
        return -mean / std, (255.0 - mean) / std
    return _by_first_operations(model, index)


def _range_of_integers(model: Any, index: int) -> tuple[float, float] | None:
    """What the integers of a quantized tensor stand for, from the least to the most."""
    from edge.tflite import flatbuffer

    quantization, kind = flatbuffer.quantization(model, index), flatbuffer.tensor_type(model, index)
    if not quantization or kind not in ("INT8", "UINT8", "INT16"):
        return None
    limits, scale, zero_point = np.iinfo(kind.lower()), float(quantization["scale"]), int(quantization["zero_point"])
    return scale * (int(limits.min) - zero_point), scale * (int(limits.max) - zero_point)


def _normalization(content: bytes, position: int) -> tuple[float, float] | None:
    """(mean, std) of an input in TensorFlow Lite's metadata."""
    from edge.artifacts import self_description

    parts = (self_description.read(content).metadata or {}).get("subgraph_metadata") or [{}]
    tensors = parts[0].get("input_tensor_metadata") or []
    units = tensors[position].get("process_units") or [] if position < len(tensors) else []
    for unit in units:
        options = (unit.get("options") or {}).get("NormalizationOptions")
        if options and options.get("mean") and options.get("std") and all(options["std"]):
            return float(options["mean"][0]), float(options["std"][0])
    return None


def _by_first_operations(model: Any, index: int) -> tuple[float, float]:
    """0..255 where the graph begins by scaling such values down, the range of a first quantization, else 0..1."""
    from edge.tflite import flatbuffer

    for name, operator in flatbuffer.operators(model):
        if index not in map(int, operator.inputs):
            continue
        if name == "QUANTIZE" and (by_integers := _range_of_integers(model, int(operator.outputs[0]))) is not None:
            return by_integers
        if name in ("MUL", "DIV", "SUB", "ADD") and len(operator.inputs) == 2:
            other = next((int(one) for one in operator.inputs if int(one) != index), index)
            values = _float_values(model, other)
            if values is not None and values.size:
                size = float(np.abs(values).mean())
                scaled = {"MUL": size < _SMALL_FACTOR, "DIV": size > 1.0 / _SMALL_FACTOR}.get(name, size > _LARGE_MEAN)
                return (0.0, 255.0) if scaled else (0.0, 1.0)
        if name in _KEPT:
            return _by_first_operations(model, int(operator.outputs[0]))
        break
    return 0.0, 1.0


def _float_values(model: Any, index: int) -> np.ndarray | None:
    from edge.tflite import flatbuffer

    data = flatbuffer.constant(model, index)
    kind = {"FLOAT32": np.float32, "FLOAT16": np.float16}.get(flatbuffer.tensor_type(model, index))
    return None if data is None or kind is None else np.frombuffer(data.tobytes(), kind).astype(np.float64)


def _scaled(model: Any, index: int) -> bool:
    quantization = model.subgraphs[0].tensors[index].quantization
    return quantization is not None and quantization.scale is not None and len(quantization.scale) > 0


def _step(model: Any, index: int) -> float:
    """The scale of an output, or of the integers that it was made from."""
    from edge.tflite import flatbuffer

    for name, operator in flatbuffer.operators(model):
        if index in map(int, operator.outputs) and name in ("DEQUANTIZE", "QUANTIZE"):
            index = int(operator.inputs[0]) if name == "DEQUANTIZE" else index
    quantization = flatbuffer.quantization(model, index)
    return float(quantization["scale"]) if quantization else 0.0


def _generated(model: Any, inputs: Mapping[str, int], sizes: Mapping[str, tuple[int, ...]], ranges: Any) -> tuple[dict[str, Any], str]:
    from edge.tflite import flatbuffer

    values, words = {}, []
    for name, index in inputs.items():
        shape, kind, (low, high) = sizes[name], flatbuffer.tensor_type(model, index), ranges[name]
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        if is_image(shape) and kind != "BOOL" and (flatbuffer.quantization(model, index) or not kind.startswith("INT")):
            values[name] = in_range(image(shape), low, high)
            words.append(f"a generated image of {low:.4g} to {high:.4g}")
        elif kind == "BOOL":
            values[name] = generator.integers(0, 2, shape).astype(bool)
            words.append("generated truth values")
        elif kind in ("INT32", "INT64", "UINT32", "UINT64", "INT8", "UINT8", "INT16") and not flatbuffer.quantization(model, index):
            values[name] = generator.integers(0, 8, shape)
            words.append("generated integers of 0 to 7")
        else:
            spread = (high - low) / 8.0 if flatbuffer.quantization(model, index) else 1.0
            middle = (high + low) / 2.0 if flatbuffer.quantization(model, index) else 0.0
            values[name] = (generator.standard_normal(shape) * spread + middle).astype(np.float32)
            words.append("generated numbers")
    return values, " and ".join(dict.fromkeys(words)) or "no inputs"


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether an input of this shape is likely to be one image (or several): rank 4, or 3, with 1, 3 or 4 channels last or first."""
    return len(shape) in (3, 4) and _channels(shape) is not None


def _channels(shape: tuple[int, ...]) -> int | None:
    sides = shape[-3:]
    for axis in (2, 0):
        others = [side for at, side in enumerate(sides) if at != axis]
        if sides[axis] in (1, 3, 4) and min(others) >= 8:
            return axis
    return None


def image(shape: tuple[int, ...]) -> np.ndarray:
    """A generated scene, 0 to 1, in the shape of an image input."""
    axis = _channels(shape)
    sides = [side for at, side in enumerate(shape[-3:]) if at != axis]
    scene = builtin.generate(0, min(_SCENE_PX, max(sides)), 1).astype(np.float32) / 255.0
    repeats = [-(-side // length) for side, length in zip(sides, scene.shape, strict=False)]
    cut = np.tile(scene, (*repeats, 1))[: sides[0], : sides[1]]
    return _with_channels(cut, shape, axis)


def _with_channels(pixels: np.ndarray, shape: tuple[int, ...], axis: int | None) -> np.ndarray:
    number = shape[-3:][axis if axis is not None else 2]
    if number == 1:
        pixels = pixels.mean(-1, keepdims=True)
    elif number == 4:
        pixels = np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1)
    if axis == 0:
        pixels = pixels.transpose(2, 0, 1)
    return np.broadcast_to(pixels, shape).copy()


def in_range(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values of 0 to 1 spread over a range."""
    return (low + pixels * (high - low)).astype(np.float32)


def _given(data: Path, model: Any, inputs: Mapping[str, int], sizes: Mapping[str, tuple[int, ...]], ranges: Any) -> dict[str, Any]:
    """Name -> values of every input, from the user's files."""
    if data.is_dir():
        files = {
            name: next((data / f"{name}{ending}" for ending in _ENDINGS if (data / f"{name}{ending}").is_file()), None) for name in inputs
        }
        if len(inputs) == 1 and next(iter(files.values())) is None:
            files = dict.fromkeys(inputs, next((file for file in sorted(data.iterdir()) if file.suffix.lower() in _ENDINGS), None))
        missing = [name for name, file in files.items() if file is None]
    else:
        files = dict.fromkeys(inputs, data)
        missing = list(inputs) if len(inputs) > 1 and data.suffix.lower() != ".npz" else []
    if missing:
        raise InputError(
            "inputs are missing",
            expected=f"in {data} for every input a file NAME{'|'.join(_ENDINGS)}, or one .npz with an array for each",
            received=f"nothing for {', '.join(missing)}",
            action="name the files like the inputs that edge.inspect shows",
        )
    found = {}
    for name, file in files.items():
        values = _read(Path(str(file)), name, sizes[name], *ranges[name])
        if tuple(values.shape) != sizes[name]:
            raise InputError(
                "an input of another shape",
                expected=f"{name} {list(sizes[name])}",
                received=f"{file}: {list(values.shape)}",
                action="reshape it",
            )
        found[name] = values
    return found


_ENDINGS = (".npy", ".npz", ".png", ".jpg", ".jpeg")


def _read(file: Path, name: str, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    with reading(file, f"an array or image for {name}", "input", errors=(OSError, ValueError, KeyError)):
        if file.suffix.lower() in (".npy", ".npz"):
            loaded = np.load(file, allow_pickle=False)
            return (
                loaded
                if isinstance(loaded, np.ndarray)
                else loaded[name if name in loaded.files or len(loaded.files) > 1 else loaded.files[0]]
            )
        if not is_image(shape):
            raise ValueError(f"an image, for an input of the shape {list(shape)}")
        from PIL import Image

        from tfvit.preprocessing import to_rgb

        axis = _channels(shape)
        height, width = (side for at, side in enumerate(shape[-3:]) if at != axis)
        with Image.open(file) as opened:
            pixels = np.asarray(to_rgb(opened).resize((width, height), Image.Resampling.BILINEAR), np.float32) / 255.0
        return in_range(_with_channels(pixels, shape, axis), low, high)
