"""What the rules for Ethos-U say of our recipes. tests/edge/runtime/test_vela.py holds them against the compiler."""

import pytest
import tensorflow as tf

from edge.tflite import flatbuffer
from edge.tflite.npu_rules import npu_summary


def _summary(file: bytes):
    return npu_summary(flatbuffer.read_model(file))


def test_recipes(micro_files):
    verdicts = {recipe: _summary(path.read_bytes())["verdict"] for recipe, path in micro_files.items()}
    assert verdicts == {"float32": "nothing", "int8": "partly", "int8_full": "whole"}


def test_floats_are_left_with_their_reason(small_graph):
    summary = _summary(small_graph(lambda x: tf.nn.gelu(x) + 1.0, (1, 4, 4, 8)))
    assert summary["verdict"] == "nothing"
    assert {one["reason"] for one in summary["on_cpu"]} == {"FLOAT32 activations; the NPU computes on integers"}
    assert sum(one["operations"] for one in summary["on_cpu"]) == len(summary["on_cpu"]) == 2


@pytest.mark.parametrize(("kind", "reason"), [("INT16", "16-bit GELU"), ("INT8", None)])
def test_operations_of_16_bits(micro_files, kind, reason):
    """The type alone decides: the same GELU in 8 bits is taken."""
    from ai_edge_litert import schema_py_generated as schema

    model = flatbuffer.read_model(micro_files["int8_full"].read_bytes())
    (gelu, *_) = (operator for name, operator in flatbuffer.operators(model) if name == "GELU")
    model.subgraphs[0].tensors[int(gelu.inputs[0])].type = getattr(schema.TensorType, kind)
    reasons = [one["reason"] for one in npu_summary(model)["on_cpu"]]
    assert reasons == ([reason] if reason else [])
