"""One judgement of two delegates: right files are not called wrong, and wrong ones are."""

import math

import numpy as np
import pytest

from benchmarks import foreign_kinds
from edge.latency.agreement import difference, judged, within_steps
from edge.latency.subject import Subject, subject
from edge.runtime.process import LatencyProcess
from edge.tflite import flatbuffer

RIGHT = (
    "with a signature", "float network, no signature", "float16 constants", "dynamic range", "int8, float ends", "int8 from end to end",
    "uint8 from end to end", "int16 activations", "two inputs in another order", "two signatures", "variables",
    "memory in a variable tensor", "detections", "no operation",
)  # fmt: skip


def judgement(path, folder, delegate="cpu"):
    found = subject(path, folder)
    with LatencyProcess(path, delegate, 1, run=found.run) as process:
        assert process.loaded.status == "ok", process.loaded
        return judged(process, delegate, found)


@pytest.mark.parametrize("kind", RIGHT)
def test_right_files_are_not_called_wrong(tmp_path, kind):
    path = tmp_path / "file.tflite"
    path.write_bytes(foreign_kinds.make(kind))
    found = judgement(path, tmp_path)
    print(found)
    assert found.wrong is None
    assert found.compared_with == "builtin"


def test_outputs_that_are_no_numbers_are_wrong(tmp_path):
    model = flatbuffer.read_model(foreign_kinds.make("with a signature"))
    index = next(int(operator.inputs[1]) for name, operator in flatbuffer.operators(model) if name == "FULLY_CONNECTED")
    flatbuffer.make_constant(model, index, np.full(flatbuffer.float_constant(model, index).shape, np.nan, np.float32))
    path = tmp_path / "nan.tflite"
    path.write_bytes(flatbuffer.write_model(model))
    found = judgement(path, tmp_path)
    print(found)
    assert found.wrong is not None
    assert "differ from builtin's by nan of their size on a generated image of 0 to 255" in found.wrong


class _Answers:
    """A process that gives these outputs."""

    def __init__(self, outputs):
        self._outputs = outputs

    def outputs(self):
        return self._outputs


@pytest.mark.parametrize("kind", ["with a signature", "int8 from end to end", "detections"])
def test_other_answers_are_wrong(tmp_path, kind):
    """Of a quantized file too: its own rounding explains a little, and not this."""
    path = tmp_path / "file.tflite"
    path.write_bytes(foreign_kinds.make(kind))
    found = subject(path, tmp_path)
    with LatencyProcess(path, "cpu", 1, run=found.run) as process:
        outputs = {name: value.copy() for name, value in process.outputs().items()}
    for value in outputs.values():
        value[...] = value[..., ::-1] if kind != "detections" else value
    if kind == "detections":
        next(iter(outputs.values()))[...] += 0.5  # all boxes elsewhere
    judgement = judged(_Answers(outputs), "cpu", found)
    print(judgement)
    assert judgement.wrong is not None
    assert ("as sets" in judgement.wrong) == (kind == "detections")


def test_detections_are_compared_as_sets(tmp_path):
    file = Subject(tmp_path / "any", detections=True)
    boxes, classes = np.random.default_rng(0).uniform(0, 1, (1, 4, 4)).astype(np.float32), np.array([[0.0, 1.0, 1.0, 2.0]], np.float32)
    scores, number = np.array([[0.9, 0.8, 0.79, 0.5]], np.float32), np.array([4.0], np.float32)
    one = {"b": boxes, "c": classes, "s": scores, "n": number}
    order = [1, 0, 3, 2]
    other = {"b": boxes[:, order], "c": classes[:, order], "s": scores[:, order], "n": number}
    assert difference(one, other, file) == 0.0
    assert 0.1 < difference(one, {**other, "c": np.zeros_like(classes)}, file) <= 1.0
    assert math.isnan(difference(one, {**other, "s": scores * np.nan}, file))


def test_steps_of_an_output_are_rounding():
    one = {"y": np.array([0.0, 0.1, 0.2], np.float32)}
    assert within_steps({"y": one["y"] + 0.02}, one, {"y": 0.01})
    assert not within_steps({"y": one["y"] + 0.05}, one, {"y": 0.01})
    assert not within_steps({"y": one["y"]}, one, {})
    assert not within_steps({"y": one["y"] * np.nan}, one, {"y": 0.01})


def test_random_numbers_are_not_compared(tmp_path):
    import tensorflow as tf

    path = tmp_path / "random.tflite"
    path.write_bytes(foreign_kinds.graph(lambda x: x + tf.random.normal((1, 4)), (1, 4)))
    found = judgement(path, tmp_path)
    assert (found.wrong, found.compared_with) == (None, None)
    assert "random numbers" in found.words
