"""Biases and masks as tables: the same answers to the last bit, a fraction of the bytes, and nothing more to do at an inference."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from edge import convert, verify
from edge.quantization import position_tables
from edge.quantization.recipes import RECIPES
from edge.runtime.cpu import Interpreter, xnnpack_partitions
from edge.tflite import delegate_rules, flatbuffer, versions
from tests.edge.small_models import run_command
from tfvit.errors import EXIT_OK
from tfvit.graph_constants import MASK, POSITION_BIAS
from tfvit.windows import attention_mask, plan_windows, relative_position_index

HEADS, SIDE = 3, 16
TOKENS = SIDE * SIDE


@pytest.fixture(scope="module")
def biases() -> list[np.ndarray]:
    """Of two blocks, [1, 1, nH, N * N]."""
    index = relative_position_index((SIDE, SIDE), (SIDE, SIDE))
    tables = np.random.default_rng(0).standard_normal((2, 1, 1, HEADS, (2 * SIDE - 1) ** 2)).astype(np.float32)
    return [table[..., index] for table in tables]


@pytest.fixture
def file(small_graph, biases) -> bytes:
    """(scores + bias) * 1.5 + bias of another block, with the names an export gives."""
    first, second = biases
    model = flatbuffer.read_model(small_graph(lambda x: (x + first) * 1.5 + second, (1, 1, HEADS, TOKENS * TOKENS)))
    number = 0
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        data = flatbuffer.constant(model, index)
        if data is not None and len(data) == first.nbytes:
            tensor.name, number = f"{POSITION_BIAS}block{number}".encode(), number + 1
    assert number == 2
    return flatbuffer.write_model(model)


WINDOWS = 16


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    """Of a grid of 4 x 4 shifted windows, [1, nW, 1, N * N]."""
    plan = plan_windows(4 * SIDE, 4 * SIDE, SIDE, shifted=True)
    return np.asarray(attention_mask(plan)).reshape(1, WINDOWS, 1, TOKENS * TOKENS)


@pytest.fixture
def masked_file(small_graph, mask) -> bytes:
    """(scores + mask) * 1.5, with the name an export gives."""
    model = flatbuffer.read_model(small_graph(lambda x: (x + mask) * 1.5, (1, WINDOWS, 1, TOKENS * TOKENS)))
    (constant,) = (t for i, t in enumerate(model.subgraphs[0].tensors) if len(_bytes(model, i)) == mask.nbytes)
    constant.name = f"{MASK}plan".encode()
    return flatbuffer.write_model(model)


def _bytes(model, index: int) -> bytes:
    data = flatbuffer.constant(model, index)
    return b"" if data is None else data.tobytes()


def _with_tables(file: bytes, from_window: int | None = SIDE) -> bytes:
    model = flatbuffer.read_model(file)
    position_tables.store_tables(model, from_window)
    versions.set_min_runtime_version(model)
    return flatbuffer.write_model(model)


def test_the_same_to_the_last_bit_in_a_fraction_of_the_bytes(file):
    made = _with_tables(file)
    scores = np.random.default_rng(1).standard_normal((1, 1, HEADS, TOKENS * TOKENS)).astype(np.float32)
    np.testing.assert_array_equal(Interpreter(made).run(scores), Interpreter(file).run(scores))
    for threads in (1, 2):
        repeated = Interpreter(made, threads=threads)
        for factor in (1.0, -2.0):  # the second answer does not come from what the first one left behind
            np.testing.assert_array_equal(repeated.run(factor * scores), Interpreter(file).run(factor * scores))
    tables = 2 * HEADS * (2 * SIDE - 1) ** 2 * 4
    index = TOKENS * TOKENS * 4  # one, for all blocks
    print(len(file), len(made))
    assert tables + index <= len(made) < tables + index + 10_000


def test_one_partition_and_what_is_left_over(file):
    found = xnnpack_partitions(_with_tables(file))
    assert (found.partitions, found.left_over) == (1, {"CONCATENATION": 1, "GATHER": 2})
    model = flatbuffer.read_model(_with_tables(file))
    left_over = delegate_rules.xnnpack_left_over(model)
    assert {(refusal.op, "computes it once" in refusal.reason) for refusal in left_over} == {("CONCATENATION", True), ("GATHER", True)}
    assert delegate_rules.partitions(model, left_over) == 1


@pytest.mark.parametrize("resolver", ["AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"])
@pytest.mark.parametrize(("kind", "expected"), [("file", 7.0 * 1.5 + 7.0), ("masked_file", 7.0 * 1.5)])
def test_an_inference_does_not_compute_them_again(request, kind, expected, resolver):
    """What is written over a bias or a mask after loading is still there when the next inference reads it."""
    from ai_edge_litert import interpreter as litert

    model = flatbuffer.read_model(_with_tables(request.getfixturevalue(kind)))
    gathered = [int(operator.outputs[0]) for name, operator in flatbuffer.operators(model) if name == "GATHER"]
    loaded = litert.Interpreter(
        model_content=flatbuffer.write_model(model), experimental_op_resolver_type=litert.OpResolverType[resolver], num_threads=1
    )
    loaded.allocate_tensors()
    for index in gathered:
        loaded.tensor(index)()[...] = 7.0
    scores = loaded.get_input_details()[0]
    loaded.set_tensor(scores["index"], np.zeros(scores["shape"], np.float32))
    loaded.invoke()
    np.testing.assert_array_equal(loaded.get_tensor(loaded.get_output_details()[0]["index"]), expected)


def test_a_mask_to_the_last_bit_in_next_to_no_bytes(masked_file, mask):
    made = _with_tables(masked_file)
    scores = np.random.default_rng(1).standard_normal(mask.shape).astype(np.float32)
    np.testing.assert_array_equal(Interpreter(made).run(scores), Interpreter(masked_file).run(scores))
    assert len(masked_file) >= mask.nbytes
    assert len(made) < 10_000
    found = xnnpack_partitions(made)
    # rows of tokens above and below the shift, and all of them
    assert (found.partitions, found.left_over) == (1, {"CONCATENATION": 3, "GATHER": 1})


def test_masks_of_one_window_share_their_index(small_graph, mask):
    """As the stages of a model do, whose grids differ."""
    fewer = np.ascontiguousarray(mask[:, [0, 3, 12, 15]])
    shapes = ((1, WINDOWS, 1, TOKENS * TOKENS), (1, 4, 1, TOKENS * TOKENS))
    model = flatbuffer.read_model(small_graph(lambda x, y: tf.concat([x + mask, y + fewer], 1) * 1.5, *shapes))
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        if len(_bytes(model, index)) in (mask.nbytes, fewer.nbytes):
            tensor.name = f"{MASK}{index}".encode()
    before = flatbuffer.operator_counts(model)
    position_tables.store_tables(model, SIDE)
    after = flatbuffer.operator_counts(model)
    assert (after["GATHER"], after["CONCATENATION"] - before["CONCATENATION"]) == (2, 3)


def test_smaller_windows_stay(file):
    assert flatbuffer.operator_counts(flatbuffer.read_model(_with_tables(file, SIDE + 1))) == flatbuffer.operator_counts(
        flatbuffer.read_model(file)
    )
    assert "GATHER" not in flatbuffer.operator_counts(flatbuffer.read_model(_with_tables(file, None)))


def test_a_bias_with_two_values_for_one_offset(file):
    model = flatbuffer.read_model(file)
    bias = next(index for index in range(len(model.subgraphs[0].tensors)) if flatbuffer.tensor_name(model, index).startswith(POSITION_BIAS))
    values = np.frombuffer(flatbuffer.constant(model, bias).tobytes(), np.float32).copy()
    values[0] += 1.0  # a token to itself: all such pairs share one offset
    flatbuffer.make_constant(model, bias, values)
    with pytest.raises(ValueError, match="one value an offset"):
        position_tables.store_tables(model, SIDE)


@pytest.mark.parametrize("with_tables", [True, False])
def test_the_flag_is_obeyed_and_recorded(capfd, tmp_path, monkeypatch, with_tables):
    """On the smallest model, whose windows no recipe would store as tables."""
    monkeypatch.setitem(RECIPES, "dynamic", dataclasses.replace(RECIPES["dynamic"], tables_from_window=1))
    flag = "--position-tables" if with_tables else "--no-position-tables"
    arguments = ("--variant", "micro", "--quant", "dynamic", "--weights", "random:1", "--no-gate", flag, "--out", tmp_path)
    assert run_command(convert.main, capfd, *arguments).code == EXIT_OK
    (path,) = tmp_path.glob("*.tflite")
    assert ("GATHER" in flatbuffer.operator_counts(flatbuffer.read_model(path.read_bytes()))) is with_tables
    assert json.loads(path.with_suffix(".json").read_text())["settings"]["position_tables"] is with_tables
    assert run_command(verify.main, capfd, path).code == EXIT_OK
