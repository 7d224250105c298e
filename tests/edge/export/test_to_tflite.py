"""What every delegate and the quantizer need of the graph, held against both generations as the command wrote them."""

import numpy as np
import pytest
import tensorflow as tf

from edge.runtime import cpu
from edge.tflite import delegate_rules, flatbuffer
from tfvit import windows
from tfvit.graph_constants import MASK_VALUE

MAX_RANK = 4
# Operations that GPU delegates refuse or that split XNNPACK's partition
UNWANTED = ("GATHER", "GATHER_ND", "BROADCAST_TO", "BROADCAST_ARGS", "SELECT", "SELECT_V2", "L2_NORMALIZATION", "CUSTOM")
# What a position bias or a GELU would leave behind if it were still computed in the file
COMPUTED_BIAS = ("EXP", "LOGISTIC", "GATHER", "RELU", "ERF", "TANH", "POW")
# The only operations that may see another leading dimension than 1 (the batch, to a GPU)
REARRANGING = ("TRANSPOSE", "RESHAPE")
# The converter computes the same float32 numbers in another order
BIAS_TOLERANCE = 1e-5


def violations(graph) -> list[str]:
    """Every break of the graph rules, in words."""
    found = []
    for name, operator in flatbuffer.operators(graph):
        code = graph.operatorCodes[operator.opcodeIndex]
        if code.customCode or name in UNWANTED:
            found.append(f"operation {name}")
        for index in map(int, (*operator.inputs, *operator.outputs)):
            if index < 0:
                continue
            shape = flatbuffer.tensor_shape(graph, index)
            if len(shape) > MAX_RANK:
                found.append(f"rank {len(shape)} at {name}")
            computed = flatbuffer.constant(graph, index) is None
            if computed and flatbuffer.tensor_type(graph, index) == "INT64":
                found.append(f"int64 at {name}")
            if computed and name not in REARRANGING and shape[:1] != (1,):
                found.append(f"leading dimension {shape[:1]} at {name}")
    return found


def test_graph_follows_the_rules(tiny):
    graph = tiny.graph("float32")
    found = violations(graph)
    print(tiny.variant.id, flatbuffer.operator_counts(graph), found[:5])
    assert found == []
    assert flatbuffer.max_rank(graph) <= MAX_RANK


def test_rank_2_stands_only_at_the_head(tiny):
    graph = tiny.graph("float32")
    shapes = {
        flatbuffer.tensor_shape(graph, int(index))
        for _, operator in flatbuffer.operators(graph)
        for index in (*operator.inputs, *operator.outputs)
        if index >= 0 and flatbuffer.constant(graph, index) is None and len(flatbuffer.tensor_shape(graph, index)) < MAX_RANK
    }
    print(tiny.variant.id, shapes)
    assert shapes == {(1, tiny.variant.embed_dim << (len(tiny.variant.depths) - 1)), (1, tiny.variant.classes)}


@pytest.mark.parametrize(
    ("name", "function", "shapes", "expected"),
    [
        ("rank", lambda tf, x: tf.transpose(x, (0, 3, 1, 2, 4)), [(1, 2, 2, 2, 2)], "rank 5"),
        ("batch", lambda tf, x: x * 2.0, [(4, 3, 3, 2)], "leading dimension"),
        ("gather", lambda tf, x: tf.gather(x, [2, 0], axis=1), [(1, 3, 3, 2)], "operation GATHER"),
        ("dense", lambda tf, x: tf.matmul(x, np.ones((3, 5), np.float32)), [(7, 3)], "leading dimension"),
    ],
)
def test_rules_see_a_bad_graph(small_graph, name, function, shapes, expected):
    found = violations(flatbuffer.read_model(small_graph(lambda x: function(tf, x), *shapes)))
    print(name, found)
    assert any(expected in violation for violation in found)


@pytest.mark.parametrize("recipe", ["float32", "float16", "int8", "dynamic"])
def test_one_xnnpack_partition_and_whole_on_the_gpu(tiny, recipe):
    partitions = cpu.xnnpack_partitions(tiny.file(recipe))
    refusals = delegate_rules.gpu_refusals(tiny.graph(recipe))
    print(tiny.variant.id, recipe, partitions, refusals[:3])
    assert partitions.partitions == 1
    assert partitions.left_over == {}
    assert partitions.delegated_ops == partitions.total_ops == sum(flatbuffer.operator_counts(tiny.graph(recipe)).values())
    assert refusals == []


def test_partitions_count_what_is_left_over(small_graph):
    """A graph XNNPACK cannot take whole is reported in two pieces, with the operation that splits it."""
    file = small_graph(lambda x: tf.reverse(x * 2.0 + 1.0, [1]) * 3.0 - x, (1, 4, 4, 2))
    partitions = cpu.xnnpack_partitions(file)
    print(partitions)
    assert partitions.left_over == {"REVERSE_V2": 1}
    assert partitions.partitions == 2
    assert partitions.delegated_ops == partitions.total_ops - 1


def test_gelu_is_one_operation_a_block(tiny):
    counts = flatbuffer.operator_counts(tiny.graph("float32"))
    assert counts["GELU"] == sum(tiny.variant.depths)
    assert counts["SOFTMAX"] == sum(tiny.variant.depths) + 1


def test_shifts_and_masks_really_occur(tiny):
    """The tiny configurations are worth nothing if no window is shifted."""
    side, shifted, whole = tiny.variant.image_size // 4, 0, 0
    for stage in range(len(tiny.variant.depths)):
        plan = windows.plan_windows(side >> stage, side >> stage, tiny.variant.window_size, shifted=True)
        shifted += any(plan.shift)
        whole += not any(plan.shift)
    masks = sum((values == MASK_VALUE).any() for values in _float_constants(tiny.graph("float32")))
    counts = flatbuffer.operator_counts(tiny.graph("float32"))
    print(tiny.variant.id, shifted, "stages shifted,", masks, "constants with the mask value,", counts["CONCATENATION"], "concatenations")
    assert shifted >= 2
    assert whole >= 1
    assert masks >= shifted
    assert counts["CONCATENATION"] == 4 * shifted  # there and back, along both axes


def test_position_biases_are_constants(tiny):
    graph = tiny.graph("float32")
    assert not set(COMPUTED_BIAS) & set(flatbuffer.operator_counts(graph))
    constants = _float_constants(graph)
    for stage, block in ((1, 1), (2, 2), (3, 1)):
        attention = tiny.keras_model.get_layer(f"stage{stage}_block{block}").attention
        side = (tiny.variant.image_size // 4) >> (stage - 1)
        plan = windows.plan_windows(side, side, tiny.variant.window_size, shifted=False)
        bias = np.asarray(attention.position_bias(plan.window)).reshape(-1)
        near = [float(np.abs(values - bias).max()) for values in constants if values.size == bias.size]
        print(tiny.variant.id, stage, block, f"nearest of {len(near)}: {min(near, default=np.nan):.1e}")
        assert min(near) <= BIAS_TOLERANCE


def test_layers_can_be_named(tiny):
    """Reports name the Keras layer of an operation: every dense layer's must be found."""
    graph = tiny.graph("float32")
    layers = {
        flatbuffer.keras_layer(flatbuffer.tensor_name(graph, int(operator.outputs[0])))
        for name, operator in flatbuffer.operators(graph)
        if name == "FULLY_CONNECTED"
    }
    print(sorted(layers)[:6])
    assert any(layer.startswith("stage1_block1") for layer in layers)
    assert any(layer.startswith("stage3_block2") for layer in layers)


def _float_constants(graph) -> list[np.ndarray]:
    found = []
    for index in range(len(graph.subgraphs[0].tensors)):
        data = flatbuffer.constant(graph, index)
        if data is not None and flatbuffer.tensor_type(graph, index) == "FLOAT32":
            found.append(np.frombuffer(data.tobytes(), np.float32))
    return found
