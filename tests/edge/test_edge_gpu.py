"""Our files on the GPU delegate itself, GPU alone: compiled whole, and the CPU's answers. On a software driver where there is no GPU."""

import numpy as np
import pytest

from edge.latency_process import OK, LatencyProcess

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


@pytest.fixture(scope="session", params=["nano32", "v2_nano32"])
def shipped(request, tmp_path_factory):
    """A shipped model in the four recipes for both delegates."""
    from edge import convert

    folder = tmp_path_factory.mktemp(request.param)
    arguments = ["--variant", request.param, "--quant", ",".join(LIMITS), "--calibration-samples", "8", "--output", "logits", "--quiet"]
    assert convert.main([*arguments, "--out", str(folder)]) == 0
    return request.param, folder


@pytest.mark.slow
@pytest.mark.parametrize("recipe", LIMITS)
def test_shipped_models(vulkan_driver, shipped, recipe):
    name, folder = shipped
    found = difference(folder / f"{name}-{recipe}.tflite", "gpu_f32")
    print(name, recipe, found)
    assert found <= LIMITS[recipe]


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
