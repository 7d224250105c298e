"""Every GPU rule with a small graph that trips it, and one that passes."""

import numpy as np
import pytest
import tensorflow as tf

from edge import delegates, flatbuffer


def refusals(file: bytes) -> list[delegates.Refusal]:
    found = delegates.gpu_refusals(flatbuffer.read_model(file))
    print(found)
    return found


def test_a_clean_graph_is_taken(small_graph):
    weights = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    file = small_graph(lambda x, y: tf.nn.softmax(tf.matmul(tf.einsum("bhwc,cd->bhwd", x, weights), y)) + 1.0, (1, 2, 4, 8), (1, 2, 8, 4))
    assert refusals(file) == []


@pytest.mark.parametrize(
    ("name", "function", "shapes", "operation", "words"),
    [
        ("rank", lambda tf, x: tf.transpose(x, (0, 3, 1, 2, 4)), [(1, 2, 3, 4, 5)], "TRANSPOSE", "rank 5 [1, 2, 3, 4, 5]"),
        ("broadcast", lambda tf, x, y: tf.matmul(x, y), [(1, 6, 4, 4), (1, 1, 4, 4)], "BATCH_MATMUL", "broadcast batch [1, 6] x [1, 1]"),
        ("adjoint", lambda tf, x, y: tf.matmul(x, y, adjoint_b=True), [(1, 6, 4, 8), (1, 6, 4, 8)], "BATCH_MATMUL", "transposed operand"),
        ("gather", lambda tf, x: tf.gather(x, [2, 0], axis=1), [(1, 3, 3, 2)], "GATHER", "not supported"),
        ("shrink", lambda tf, x: x[:, 0] * 2.0, [(1, 3, 3, 2)], "STRIDED_SLICE", "drops a dimension"),
    ],
)
def test_each_rule_has_a_graph_that_trips_it(small_graph, name, function, shapes, operation, words):
    found = [refusal for refusal in refusals(small_graph(lambda *inputs: function(tf, *inputs), *shapes)) if words in refusal.reason]
    assert found, name
    assert found[0].op == operation
    assert found[0].tensor


def test_int64_is_refused(small_graph):
    found = refusals(small_graph(lambda x: tf.cast(x, tf.int64) + 1, (1, 4, 4, 2), dtype="int32"))
    assert {refusal.reason for refusal in found} == {"INT64 tensor; use float32 or int32"}
    assert {refusal.op for refusal in found} == {"CAST", "ADD"}


def test_a_quantized_dense_layer_on_many_rank_2_rows_is_refused(small_graph):
    quantized = {rows: _quantized_dense(small_graph, (rows, 8)) for rows in (6, 1)}
    found = refusals(quantized[6])
    assert [(refusal.op, "rank-2 tensor [6, 8]" in refusal.reason) for refusal in found] == [("FULLY_CONNECTED", True)]
    assert refusals(quantized[1]) == []  # the classifier's


def test_the_layer_is_named(tiny_v1):
    """The same graph with one operation made foreign: the refusal names the Keras layer it belongs to."""
    graph = flatbuffer.read_model(tiny_v1.file("float32"))
    graph.operatorCodes.append(_code("GATHER"))
    operator = next(
        operator
        for name, operator in flatbuffer.operators(graph)
        if name == "FULLY_CONNECTED" and "stage2_block2" in flatbuffer.tensor_name(graph, int(operator.outputs[0])).split(";")[0]
    )
    operator.opcodeIndex = len(graph.operatorCodes) - 1
    (refusal,) = delegates.gpu_refusals(graph)
    print(refusal)
    assert refusal.op == "GATHER"
    assert refusal.layer.startswith("stage2_block2")


def _quantized_dense(small_graph, shape: tuple[int, int]) -> bytes:
    import tensorflow as tf

    from edge import quantize
    from edge.ranges import Calibration
    from edge.recipes import STATIC, Limits, Recipe

    weights = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    concrete = tf.Module()
    concrete.serve = tf.function(lambda x: {"y": tf.matmul(x, weights)}, input_signature=[tf.TensorSpec(shape, name="x")])
    file = _with_signature(tf, concrete)
    static = Recipe("static", "", Limits(0.0, 0.0, 100.0), dense=STATIC)
    return quantize.quantize(file, static, Calibration(dict.fromkeys(quantize.static_tensors(file, static), (-3.0, 3.0))))


def _with_signature(tf, module) -> bytes:
    """The quantizer works on files with a signature."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.serve.get_concrete_function()})
        return bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def _code(name: str):
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = 1
    return code
