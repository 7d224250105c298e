"""Our files on the GPU delegate itself, GPU alone: compiled whole, and the CPU's answers, or refused, with its reasons.

On a software driver where there is no GPU.
"""

from pathlib import Path

import numpy as np
import pytest

from edge import convert
from edge.inspection import command
from edge.runtime.gpu import refusals
from edge.runtime.process import OK, LatencyProcess
from tfvit.errors import EXIT_OK

# |difference| / |output|. float32 and float16 files compute in float32 there and here: only the order of additions differs. float16
# arithmetic has 11 bits. The GPU computes 8-bit layers on rounded weights and float activations, the CPU on rounded activations.
FLOAT32, FLOAT16, EIGHT_BITS = 1e-4, 3e-2, 3e-2
LIMITS = {"float32": FLOAT32, "float16": FLOAT32, "dynamic": EIGHT_BITS, "int8": EIGHT_BITS}


def difference(path, delegate: str) -> float:
    """Of the GPU's outputs from XNNPACK's."""
    with LatencyProcess(path, delegate, 1) as gpu, LatencyProcess(path, "cpu", 1) as cpu:
        print(gpu.loaded)
        assert gpu.loaded.status == OK, gpu.loaded.reason
        assert "GPU alone" in gpu.loaded.ran_on
        received, expected = gpu.outputs(), cpu.outputs()
    (name,) = expected
    return float(np.linalg.norm(received[name] - expected[name]) / np.linalg.norm(expected[name]))


def rounding(path, exact) -> float:
    """Of a file's outputs from those of the float32 file, both on the CPU: what rounding to 8 bits does to this input."""
    with LatencyProcess(path, "cpu", 1) as rounded, LatencyProcess(exact, "cpu", 1) as float32:
        received, expected = rounded.outputs(), float32.outputs()
    (name,) = expected
    return float(np.linalg.norm(received[name] - expected[name]) / np.linalg.norm(expected[name]))


@pytest.fixture(scope="session", params=["nano32", "v2_nano32"])
def shipped(request, tmp_path_factory):
    """A shipped model in the four recipes for both delegates."""
    folder = tmp_path_factory.mktemp(request.param)
    arguments = ["--variant", request.param, "--quant", ",".join(LIMITS), "--output", "logits", "--quiet"]
    assert convert.main([*arguments, "--out", str(folder)]) == 0
    return request.param, folder


@pytest.mark.slow
@pytest.mark.parametrize("recipe", LIMITS)
def test_shipped_models(vulkan_driver, shipped, recipe):
    name, folder = shipped
    path = folder / f"{name}-{recipe}.tflite"
    found, limit = difference(path, "gpu_f32"), LIMITS[recipe]
    if limit == EIGHT_BITS:  # which draw of images the file was calibrated with makes more of it than a fixed limit allows for
        limit = rounding(path, folder / f"{name}-float32.tflite")
    print(name, recipe, found, limit)
    assert found <= limit


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["float32", "int8"])
def test_shipped_models_on_a_second_driver(shipped, recipe, monkeypatch):
    """SwiftShader computes in other orders than lavapipe, and knows no float16 arithmetic."""
    driver = Path(__file__).parents[3] / "build" / "vulkan" / "swiftshader.json"
    if not driver.is_file():
        pytest.skip("no SwiftShader: scripts/software_vulkan.sh build/vulkan sets it up")
    monkeypatch.setenv("VK_ICD_FILENAMES", str(driver))
    name, folder = shipped
    measured = command.measured_on_gpu(folder / f"{name}-{recipe}.tflite")
    print(measured)
    assert measured["status"] == "whole"
    assert "SwiftShader" in measured["ran_on"]
    assert measured["software_gpu"]
    limit = FLOAT32 if recipe == "float32" else rounding(folder / f"{name}-{recipe}.tflite", folder / f"{name}-float32.tflite")
    print(measured["difference_from_cpu"], limit)
    assert measured["difference_from_cpu"] <= limit


@pytest.mark.parametrize(
    "recipe", [pytest.param(name, marks=pytest.mark.slow if name in ("float32", "int8") else pytest.mark.gpu) for name in LIMITS]
)
def test_models_as_deep_as_published(vulkan_driver, full_depth, recipe):
    found = difference(full_depth.folder / f"{full_depth.name(recipe)}.tflite", "gpu_f32")
    print(full_depth.variant.id, recipe, found)
    assert found <= LIMITS[recipe]


@pytest.mark.gpu  # a minute and more on a software GPU
def test_float16_arithmetic(vulkan_driver, full_depth):
    """What apps get by default."""
    found = difference(full_depth.folder / f"{full_depth.name('float16')}.tflite", "gpu")
    print(full_depth.variant.id, found)
    assert found <= FLOAT16


@pytest.fixture(scope="module")
def nano32_in_integers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano32")
    arguments = ["--variant", "nano32", "--quant", "int8_full,w8a16", "--calibration-samples", "8", "--output", "logits", "--quiet"]
    assert convert.main([*arguments, "--out", str(folder)]) == EXIT_OK
    return folder


@pytest.mark.gpu
def test_8_bit_integers_run_whole(vulkan_driver, nano32_in_integers):
    check_whole(nano32_in_integers / "nano32-int8_full.tflite")


@pytest.mark.gpu  # two minutes and a half on a software GPU
def test_8_bit_integers_of_a_published_variant_run_whole(vulkan_driver, tmp_path):
    arguments = ["--variant", "tiny224", "--quant", "int8_full", "--weights", "random:1", "--no-gate", "--calibration-samples", "4"]
    assert convert.main([*arguments, "--drift-samples", "1", "--output", "logits", "--quiet", "--out", str(tmp_path)]) == EXIT_OK
    check_whole(tmp_path / "tiny224-int8_full.random.tflite")


def check_whole(path):
    """By rule, on the delegate, and close to the CPU's answers, which round every activation."""
    measured = command.measured_on_gpu(path)
    print(measured)
    assert measured["status"] == "whole"
    assert measured["refused"] == []
    assert measured["difference_from_cpu"] <= EIGHT_BITS
    assert command.description(path.read_bytes())["delegates"]["gpu"]["verdict"] == "whole"


@pytest.mark.gpu
def test_16_bit_activations_are_refused(vulkan_driver, nano32_in_integers):
    path = nano32_in_integers / "nano32-w8a16.tflite"
    measured, by_rule = command.measured_on_gpu(path), command.description(path.read_bytes())["delegates"]["gpu"]
    print(measured)
    assert measured["status"] == by_rule["verdict"] == "refused"
    assert any("INT16" in refused["reason"] for refused in measured["refused"])
    assert {refused["op"] for refused in measured["refused"]} <= {refused["op"] for refused in by_rule["refused"]}


# Printed by the delegate of LiteRT 2.3.0 on a graph that computes in int64
PRINTED_OF_INT64 = """\
E0000 00:00:1795395360.406413   28753 model_builder.cc:2666] {
  type: INT64
  data: {...}
  dims: []
} isn't scalar-convertible.
ERROR: Following operations are not supported by GPU delegate:
ADD: Can't parse inputs with const tensors.
CAST: Tensor type(INT64) is not supported. Cast
CAST: Tensor type(INT64) is not supported. add
1 operations will run on the GPU, and the remaining 3 operations will run on the CPU.
I0000 00:00:1795395360.406504   28753 delegate_kernel.cc:984] Initializing WebGPU-based API from graph.
"""

# On nano32 in w8a16, shortened: it names every INT16 tensor
PRINTED_OF_W8A16 = """\
E0000 00:00:1795395292.017248   28145 model_builder.cc:2666] {
  type: INT16
  data: {...}
  dims: []
} isn't scalar-convertible.
ERROR: Following operations are not supported by GPU delegate:
ADD: Can't parse inputs with const tensors.
BATCH_MATMUL: Tensor type(INT16) is not supported. nano32_1/stage1_block1_1/attention_1/Reshape_3
DEQUANTIZE: Unsupported dequantization type.
QUANTIZE: Tensor type(INT16) is not supported. serving_default_pixels:0_quantized
RSQRT: Max version supported: 2. Requested version 3.
10 operations will run on the GPU, and the remaining 418 operations will run on the CPU.
I0000 00:00:1795395292.017970   28145 delegate_kernel.cc:984] Initializing WebGPU-based API from graph.
"""

# On a file with two graphs: a list for each, the first without a number of operations
PRINTED_OF_TWO_GRAPHS = """\
ERROR: Following operations are not supported by GPU delegate:
GATHER: Only support 1D indices
L2_NORMALIZATION: Operation is not supported.
No operations will run on the GPU, and all 2 operations will run on the CPU.
ERROR: Following operations are not supported by GPU delegate:
L2_NORMALIZATION: Operation is not supported.
1 operations will run on the GPU, and the remaining 1 operations will run on the CPU.
I0000 00:00:1795395681.112719   30840 delegate_kernel.cc:984] Initializing WebGPU-based API from graph.
"""


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        pytest.param(
            PRINTED_OF_INT64,
            [
                ("ADD", "Can't parse inputs with const tensors."),
                ("CAST", "Tensor type(INT64) is not supported. Cast"),
                ("CAST", "Tensor type(INT64) is not supported. add"),
            ],
            id="int64",
        ),
        pytest.param(
            PRINTED_OF_W8A16,
            [
                ("ADD", "Can't parse inputs with const tensors."),
                ("BATCH_MATMUL", "Tensor type(INT16) is not supported. nano32_1/stage1_block1_1/attention_1/Reshape_3"),
                ("DEQUANTIZE", "Unsupported dequantization type."),
                ("QUANTIZE", "Tensor type(INT16) is not supported. serving_default_pixels:0_quantized"),
                ("RSQRT", "Max version supported: 2. Requested version 3."),
            ],
            id="w8a16",
        ),
        pytest.param(
            PRINTED_OF_TWO_GRAPHS,
            [("GATHER", "Only support 1D indices"), ("L2_NORMALIZATION", "Operation is not supported.")],
            id="two graphs",
        ),
        pytest.param(PRINTED_OF_INT64.partition("ERROR:")[0], [], id="nothing refused"),
    ],
)
def test_refusals_are_read_from_what_the_delegate_prints(printed, expected):
    assert refusals(printed) == expected
