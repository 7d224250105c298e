"""How far a file's numbers stay below what float16 can hold (65504), by Keras layer: phone GPUs, and some CPUs, compute in it.

What is looked at: every activation, and the sums inside means and sums, which a mean divides only when they are complete. The squares of a
layer norm are where float16 ends first. Activations come from the file itself in float32, on images.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.quantization.ranges import collect
from edge.tflite import flatbuffer
from tfvit.errors import InputError

LARGEST = float(np.finfo(np.float16).max)
# On which a conversion looks for the largest numbers of its float16 file
HEADROOM_IMAGES = 8


@dataclasses.dataclass(frozen=True)
class Headroom:
    """The largest number of one Keras layer.

    Attributes:
        layer: the Keras path.
        op: the operation that has it.
        largest: absolute.
        summed: how many numbers it is the sum of, inside a mean; 1 for a value.
    """

    layer: str
    op: str
    largest: float
    summed: int = 1

    @property
    def what(self) -> str:
        """ "value", or "sum of N"."""
        return f"sum of {self.summed}" if self.summed > 1 else "value"

    @property
    def headroom_db(self) -> float:
        """20 log10(65504 / largest): below 0, float16 gives infinity."""
        return 20.0 * math.log10(LARGEST / max(self.largest, 1e-30))


def headroom(file: bytes, images: Iterable[np.ndarray], threads: int = 1) -> list[Headroom]:
    """The largest number of every Keras layer on images, the layer with the least headroom first.

    Args:
        file: a file that computes in floats.
        images: each [1, H, W, 3], of the file's input.
        threads: for running it.

    Raises:
        InputError: the file has no float activations, or no image was given.
    """
    largest: dict[str, Headroom] = {}
    for one in largest_numbers(file, images, threads).values():
        if one.layer not in largest or one.largest > largest[one.layer].largest:
            largest[one.layer] = one
    return sorted(largest.values(), key=lambda one: one.headroom_db)


def largest_numbers(file: bytes, images: Iterable[np.ndarray], threads: int = 1) -> dict[int, Headroom]:
    """Tensor index -> the largest number that is needed for it, of every activation; arguments and errors as of `headroom`."""
    model = flatbuffer.read_model(file)
    found = [
        (name, operator, int(operator.outputs[0]))
        for name, operator in flatbuffer.operators(model)
        if flatbuffer.tensor_type(model, int(operator.outputs[0])) == "FLOAT32" and _is_computed(model, operator)
    ]
    if not found:
        raise InputError(
            "no float activations", expected="a file that computes in floats", received="integers only", action="ask it of a float16 file"
        )
    ranges = collect(file, {flatbuffer.tensor_name(model, index): index for _, _, index in found}, images, threads).ranges
    largest = {}
    for name, operator, index in found:
        tensor = flatbuffer.tensor_name(model, index)
        value, layer = max(map(abs, ranges[tensor])), flatbuffer.keras_layer(tensor)
        largest[index] = Headroom(layer, name, value)
        if name == "MEAN":
            count = math.prod(flatbuffer.tensor_shape(model, int(operator.inputs[0]))) // math.prod(flatbuffer.tensor_shape(model, index))
            largest[index] = Headroom(layer, name, value * count, count)
    return largest


def described(one: Headroom) -> dict[str, Any]:
    """As in manifests and `edge.inspect`."""
    largest = float(f"{one.largest:.4g}")
    return {"layer": one.layer, "op": one.op, "what": one.what, "largest": largest, "headroom_db": round(one.headroom_db, 1)}


def _is_computed(model: schema.ModelT, operator: schema.OperatorT) -> bool:
    return any(index >= 0 and flatbuffer.constant(model, int(index)) is None for index in operator.inputs)
