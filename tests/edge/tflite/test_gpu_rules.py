"""The GPU rules against the GPU delegate itself: on every probe, both must say the same."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from edge.quantization import quantize, ranges
from edge.quantization.position_tables import store_tables
from edge.quantization.recipes import RECIPES, STATIC
from edge.runtime import cpu as cpu_runtime
from edge.runtime.child import noise
from edge.runtime.process import OK, LatencyProcess
from edge.tflite import delegate_rules, flatbuffer
from tests.edge.gpu_probes import PROBES, QUANTIZED_PROBES, TELLING, TELLING_QUANTIZED
from tfvit.graph_constants import MASK, POSITION_BIAS
from tfvit.windows import attention_mask, plan_windows, relative_position_index

# |difference| / |output| to the CPU's: float32 adds in another order; quantized layers round activations, which the GPU does not
MOST_DIFFERENCE = {"float32": 1e-4, "static": 3e-2, "dynamic": 3e-2}
STATIC_DENSE = dataclasses.replace(RECIPES["int8"], dense=STATIC, dense_by_role=(), fitted_to_inputs=False, min_output_snr_db=None)


def measured_outcome(path: Path, most_difference: float) -> str:
    """What the delegate does with a file: "whole", or an outcome of `edge.tflite.delegate_rules`."""
    with LatencyProcess(path, "gpu_f32", 1) as gpu:
        print(gpu.loaded)
        if gpu.loaded.status != OK:
            assert gpu.loaded.status == "refused", "the driver is not to be had"
            return delegate_rules.REFUSED
        received = gpu.outputs()
    cpu = cpu_runtime.Interpreter(path.read_bytes(), kernels=cpu_runtime.BUILTIN)
    cpu.write(noise(cpu.inputs))
    expected = cpu_runtime.real_outputs(cpu, cpu.invoke())
    differences = [np.linalg.norm(received[name] - expected[name]) / (np.linalg.norm(expected[name]) + 1e-30) for name in expected]
    print(differences)
    return "whole" if max(differences) <= most_difference else delegate_rules.WRONG


def predicted_outcome(file: bytes) -> str:
    found = delegate_rules.gpu_refusals(flatbuffer.read_model(file))
    print(found)
    return found[0].outcome if found else "whole"


def probes(names, telling):
    """The telling ones among the slow tests; the rest when `make gpu` asks for it."""
    return [pytest.param(name, marks=pytest.mark.slow if name in telling else pytest.mark.gpu) for name in names]


@pytest.mark.parametrize("name", probes(PROBES, TELLING))
def test_rules_say_what_the_delegate_does(vulkan_driver, small_graph, tmp_path, name):
    function, shapes = PROBES[name]
    file = small_graph(lambda *inputs: function(tf, *inputs), *shapes)
    path = tmp_path / "probe.tflite"
    path.write_bytes(file)
    assert measured_outcome(path, MOST_DIFFERENCE["float32"]) == predicted_outcome(file)


def _store_table(model: schema.ModelT, constant: np.ndarray, kind: str, side: int) -> None:
    """Gives the one constant of this size an export's name, and stores it as a table."""
    for number, tensor in enumerate(model.subgraphs[0].tensors):
        data = flatbuffer.constant(model, number)
        if data is not None and len(data) == constant.nbytes:
            tensor.name = f"{kind}of a block".encode()
    store_tables(model, side)
    assert flatbuffer.operator_counts(model)["GATHER"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("index", ["in halves", "whole"])
def test_rules_say_what_the_delegate_does_with_a_table(vulkan_driver, small_graph, tmp_path, index):
    """Operations of constants (edge.quantization.position_tables), which no converter leaves in a graph; of more offsets than float16
    can count."""
    side, heads = 24, 2
    positions = relative_position_index((side, side), (side, side))
    bias = np.random.default_rng(0).standard_normal((1, 1, heads, (2 * side - 1) ** 2)).astype(np.float32)[..., positions]
    model = flatbuffer.read_model(small_graph(lambda x: x * 2.0 + bias, bias.shape))
    _store_table(model, bias, POSITION_BIAS, side)
    if index == "whole":
        joined, *rest = model.subgraphs[0].operators
        model.subgraphs[0].operators = rest
        halves = [flatbuffer.constant(model, int(half)) for half in joined.inputs]
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.concatenate(halves)
        model.subgraphs[0].tensors[int(joined.outputs[0])].buffer = len(model.buffers) - 1
    path = tmp_path / "table.tflite"
    path.write_bytes(flatbuffer.write_model(model))
    expected = "whole" if index == "in halves" else delegate_rules.REFUSED
    assert measured_outcome(path, MOST_DIFFERENCE["float32"]) == predicted_outcome(path.read_bytes()) == expected


@pytest.mark.slow
def test_rules_say_what_the_delegate_does_with_a_mask_put_together(vulkan_driver, small_graph, tmp_path):
    side, windows = 16, 16
    mask = np.asarray(attention_mask(plan_windows(4 * side, 4 * side, side, shifted=True))).reshape(1, windows, 1, -1)
    model = flatbuffer.read_model(small_graph(lambda x: x * 2.0 + mask, mask.shape))
    _store_table(model, mask, MASK, side)
    path = tmp_path / "mask.tflite"
    path.write_bytes(flatbuffer.write_model(model))
    assert measured_outcome(path, MOST_DIFFERENCE["float32"]) == predicted_outcome(path.read_bytes()) == "whole"


@pytest.mark.parametrize("name", probes(QUANTIZED_PROBES, TELLING_QUANTIZED))
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_rules_say_what_the_delegate_does_with_quantized_layers(vulkan_driver, small_graph, tmp_path, name, kind):
    function, shapes = QUANTIZED_PROBES[name]
    float_file = small_graph(lambda *inputs: function(tf, *inputs), *shapes)
    file = quantized(float_file, kind, shapes[0])
    graph = flatbuffer.read_model(file)
    assert "INT8" in {flatbuffer.tensor_type(graph, index) for index in range(len(graph.subgraphs[0].tensors))}
    path = tmp_path / "probe.tflite"
    path.write_bytes(file)
    assert measured_outcome(path, MOST_DIFFERENCE[kind]) == predicted_outcome(file)


def quantized(float_file: bytes, kind: str, shape: tuple[int, ...]) -> bytes:
    if kind == "dynamic":
        return quantize.quantize(float_file, RECIPES["dynamic"])
    generator = np.random.default_rng(0)
    samples = (generator.standard_normal(shape).astype(np.float32) for _ in range(4))
    known = ranges.Calibration()
    known.add(ranges.collect(float_file, quantize.static_tensors(float_file, STATIC_DENSE), samples, 1, {}))
    return quantize.quantize(float_file, STATIC_DENSE, known)


def test_telling_probes_are_probes():
    assert set(TELLING) <= set(PROBES)
    assert set(TELLING_QUANTIZED) <= set(QUANTIZED_PROBES)


def test_probes_of_every_outcome_are_there():
    """Without a GPU, too: a rule without a graph that trips it, or a suite where all pass, would prove nothing."""
    reasons = {delegate_rules.REFUSED: 0, delegate_rules.WRONG: 0, "whole": 0}
    for function, shapes in (PROBES[name] for name in ("transpose of rank 5", "matrix product, right side broadcast", "softmax")):
        concrete = tf.function(lambda *inputs, function=function: function(tf, *inputs)).get_concrete_function(
            *(tf.TensorSpec(shape, "float32") for shape in shapes)
        )
        reasons[predicted_outcome(bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()))] += 1
    assert reasons == {delegate_rules.REFUSED: 1, delegate_rules.WRONG: 1, "whole": 1}
