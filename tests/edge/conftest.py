"""Fixtures of the tests of edge: small models, and the commands as functions."""

import functools
import os
from pathlib import Path

import pytest

from edge import convert, validate
from tests.edge.small_models import (
    FULL_DEPTH,
    MICRO,
    RECIPES,
    SEED,
    Converted,
    Ran,
    build,
    convert_tiny,
    exports_remembered,
    rows_in_the_table,
    run_command,
)


@pytest.fixture(scope="session", params=[1, 2], ids=["V1", "V2"])
def tiny(request, tmp_path_factory) -> Converted:
    return convert_tiny(request.param, tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_v1(tmp_path_factory) -> Converted:
    return convert_tiny(1, tmp_path_factory)


@pytest.fixture(scope="session", params=[1, 2], ids=["V1", "V2"])
def full_depth(request, tmp_path_factory) -> Converted:
    """For delegates: the recipes that run on both."""
    variant, out = FULL_DEPTH[request.param], tmp_path_factory.mktemp(FULL_DEPTH[request.param].id)
    arguments = ["--variant", variant.id, "--quant", ",".join(RECIPES), "--weights", f"random:{SEED}", "--calibration-samples", "8"]
    with rows_in_the_table():
        assert convert.main([*arguments, "--out", str(out), "--no-gate", "--quiet"]) == 0
    return Converted(variant, out, {})


@pytest.fixture(scope="session")
def vulkan_driver():
    """A Vulkan driver for the GPU delegate: the machine's own choice, or the software one that the project's script sets up."""
    software = Path(__file__).parents[2] / "build" / "vulkan" / "lavapipe.json"
    driver = os.environ.get("VK_ICD_FILENAMES") or (str(software) if software.is_file() else None)
    if driver is None:
        pytest.skip("no Vulkan driver: scripts/software_vulkan.sh build/vulkan sets one up")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VK_ICD_FILENAMES", driver)
        yield driver


@pytest.fixture
def cli(capfd):
    """Runs `python -m edge.convert` in this process, with the small variants in the table."""
    return functools.partial(run_command, convert.main, capfd)


@pytest.fixture(scope="session")
def answers_cache(tmp_path_factory):
    """Of all tests that do not ask for one of their own."""
    return tmp_path_factory.mktemp("answers")


@pytest.fixture
def validated(capfd, answers_cache):
    """Runs `python -m edge.validate` in this process."""

    def run(*arguments) -> Ran:
        cache = () if "--no-cache" in arguments or "--cache" in arguments else ("--cache", answers_cache)
        return run_command(validate.main, capfd, *arguments, *cache)

    return run


@pytest.fixture(scope="session")
def micro_model():
    """The smallest model, with random weights, giving logits."""
    return build(MICRO, SEED)


@pytest.fixture(scope="session")
def micro_float(micro_model) -> bytes:
    """Its float file, giving logits."""
    from edge.export import to_tflite

    return to_tflite.export_float(to_tflite.exportable(micro_model, MICRO.preprocessing, takes_pixels=False), "float32", "logits")


@pytest.fixture(scope="session")
def micro_files(tmp_path_factory) -> dict[str, Path]:
    """Recipe -> the smallest model's file with its manifest, random weights, as the command wrote it."""
    out, recipes = tmp_path_factory.mktemp("micro"), ("float32", "int8", "int8_full")
    arguments = [
        "--variant",
        MICRO.id,
        "--quant",
        ",".join(recipes),
        "--weights",
        f"random:{SEED}",
        "--calibration-samples",
        "8",
        "--quiet",
    ]
    with rows_in_the_table(), exports_remembered():
        assert convert.main([*arguments, "--out", str(out), "--no-gate"]) == 0
    return {recipe: out / f"{MICRO.id}-{recipe}.random.tflite" for recipe in recipes}


@pytest.fixture(scope="session")
def small_graph():
    """Converts a TensorFlow function of float32 inputs of the given shapes to a flatbuffer."""

    def make(function, *shapes, dtype: str = "float32") -> bytes:
        import tensorflow as tf

        concrete = tf.function(function).get_concrete_function(*(tf.TensorSpec(shape, dtype) for shape in shapes))
        return bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert())

    return make
