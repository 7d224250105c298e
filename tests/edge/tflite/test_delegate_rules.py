"""Every GPU rule with a small graph that trips it, and one that passes."""

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from edge.quantization import quantize
from edge.quantization.recipes import RECIPES
from edge.tflite import delegate_rules, flatbuffer


def refusals(file: bytes) -> list[delegate_rules.Refusal]:
    found = delegate_rules.gpu_refusals(flatbuffer.read_model(file))
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
        ("gather", lambda tf, x: tf.gather(x, [[2, 0], [1, 1]], axis=1), [(1, 3, 3)], "GATHER", "indices of rank 2"),
        ("unknown", lambda tf, x: tf.cumsum(x, 1), [(1, 3, 3, 2)], "CUMSUM", "operation not supported"),
        ("wrong", lambda tf, x: tf.one_hot(tf.cast(x, "int32"), 3), [(1, 3, 3)], "ONE_HOT", "computed wrongly"),
        ("many", lambda tf, x: tf.add_n([x, x * 2.0, x * 3.0]), [(1, 3, 3, 2)], "ADD_N", "sum of 3 tensors"),
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
    assert {refusal.reason for refusal in found} == {"INT64 tensor; use float32, int8 or int32"}
    assert {refusal.op for refusal in found} == {"CAST", "ADD"}


def test_integers_without_a_scale_are_left_to_the_runtime(small_graph):
    model = flatbuffer.read_model(small_graph(lambda x, y: x + y, (1, 4), (1, 4)))
    for tensor in model.subgraphs[0].tensors:
        tensor.type = schema.TensorType.INT8
    assert [found.reason for found in delegate_rules.xnnpack_left_over(model)] == ["integers without a scale"]


def test_a_quantized_dense_layer_that_flattens_a_grid_is_refused(small_graph):
    weights = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)

    def rows(x):
        return tf.nn.gelu(tf.matmul(tf.reshape(x, (6, 8)), weights))

    files = {shape: quantize.quantize(small_graph(rows, shape), RECIPES["dynamic"]) for shape in ((1, 2, 3, 8), (6, 8))}
    found = refusals(files[1, 2, 3, 8])
    assert [(refusal.op, "flattens [1, 2, 3, 8] to [6, 8]" in refusal.reason) for refusal in found] == [("FULLY_CONNECTED", True)]
    assert refusals(files[6, 8]) == []


def test_a_transposed_operand_is_a_caution(small_graph):
    file = small_graph(lambda x, y: tf.matmul(x, y, adjoint_b=True), (1, 6, 4, 8), (1, 6, 4, 8))
    assert refusals(file) == []
    (caution,) = delegate_rules.gpu_findings(flatbuffer.read_model(file))
    assert (caution.op, caution.outcome) == ("BATCH_MATMUL", delegate_rules.CAUTION)


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
    (refusal,) = delegate_rules.gpu_refusals(graph)
    print(refusal)
    assert refusal.op == "GATHER"
    assert refusal.layer.startswith("stage2_block2")


def _code(name: str):
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = 1
    return code


def test_a_file_of_several_graphs_is_not_called_whole(tmp_path):
    """The second graph holds what the delegate refuses, and the rules read the first."""
    import tensorflow as tf

    module = tf.Module()
    module.first = tf.function(lambda x: {"y": x + 1.0}, input_signature=[tf.TensorSpec((1, 4), tf.float32)])
    module.second = tf.function(lambda x: {"y": tf.math.l2_normalize(x)}, input_signature=[tf.TensorSpec((1, 4), tf.float32)])
    signatures = {"first": module.first.get_concrete_function(), "second": module.second.get_concrete_function()}
    tf.saved_model.save(module, str(tmp_path), signatures)
    file = bytes(tf.lite.TFLiteConverter.from_saved_model(str(tmp_path), signature_keys=list(signatures)).convert())
    model = flatbuffer.read_model(file)
    assert len(model.subgraphs) == 2
    (refusal,) = delegate_rules.gpu_refusals(model)
    assert refusal.op == "L2_NORMALIZATION"
    assert delegate_rules.gpu_verdict([refusal]) == "refused"


def test_what_was_never_tried_is_unknown_and_counted(small_graph):
    model = flatbuffer.read_model(small_graph(lambda x: x * 2.0, (1, 4)))
    for code in model.operatorCodes:
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = b"MyOperation"
    (found,) = delegate_rules.gpu_refusals(model)
    assert (found.op, found.outcome) == ("MyOperation", delegate_rules.UNKNOWN)
    assert delegate_rules.gpu_verdict([found]) == "unknown"
    assert delegate_rules.gpu_verdict([found, *refusals(small_graph(lambda x: tf.cumsum(x, 1), (1, 3, 3, 2)))]) == "refused"
    (left,) = delegate_rules.xnnpack_left_over(model)
    assert left.outcome == delegate_rules.UNKNOWN
