"""Small models, converted once a session through the real command, and the command itself as a function."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from edge import convert, validate
from edge.tflite import flatbuffer
from tfvit.preprocessing import Preprocessing
from tfvit.variants import VARIANTS, Variant

SEED = 1
CLASSES = 10
LABELS = tuple(f"label {index}" for index in range(CLASSES))
RECIPES = ("float32", "float16", "int8", "dynamic")
# Images the drift is measured on in these tests, instead of the command's 32: the Keras model is the slow side
DRIFT_SAMPLES = 8


def _row(
    name: str, version: int, image_size: int, depths: tuple[int, ...], num_heads: tuple[int, ...], window: int, classes: int
) -> Variant:
    return Variant(
        id=name, constructor=name, version=version, image_size=image_size, embed_dim=16, depths=depths, num_heads=num_heads,
        window_size=window, num_parameters=0, preprocessing=Preprocessing.for_image_size(image_size), classes=classes,
        pretrained_window_sizes=(0,) * len(depths),
    )  # fmt: skip


# Two blocks a stage, so that the second is shifted. At least two heads everywhere, as in every published variant: with a single one the
# converter moves the reshape into heads in front of the dense layer, whose leading dimension is then not 1.
TINY = {
    1: _row("tiny_v1", 1, 64, (2, 2, 2), (2, 4, 8), 4, CLASSES),
    2: _row("tiny_v2", 2, 128, (2, 2, 2), (2, 4, 8), 8, CLASSES),
}
# As deep as the published ones, on small images
FULL_DEPTH = {
    1: _row("full_depth_v1", 1, 64, (2, 2, 6, 2), (2, 2, 4, 8), 4, CLASSES),
    2: _row("full_depth_v2", 2, 64, (2, 2, 6, 2), (2, 2, 4, 8), 4, CLASSES),
}
# One stage, one shift: for what does not depend on the architecture
MICRO = _row("micro", 1, 32, (2,), (2,), 4, 5)


@contextlib.contextmanager
def _rows_in_the_table():
    """The small variants, in the table only while a command runs: other tests look at the published rows."""
    with pytest.MonkeyPatch.context() as patch:
        for row in (*TINY.values(), *FULL_DEPTH.values(), MICRO):
            patch.setitem(VARIANTS, row.id, row)
        patch.setattr("edge.conversion.plan.DRIFT_SAMPLES", DRIFT_SAMPLES)
        yield


_EXPORTED: dict[tuple, bytes] = {}


@contextlib.contextmanager
def _exports_remembered():
    """One export for all commands that convert the same weights: tracing and converting is nine tenths of their time."""
    from edge.export import to_tflite

    original = to_tflite.export_float

    def remembered(source, input_dtype="float32", output="probabilities"):
        digest = hashlib.sha256(b"".join(np.asarray(weight).tobytes() for weight in source.model.weights)).hexdigest()
        key = (digest, source.model.name, source.takes_pixels, input_dtype, output)
        if key not in _EXPORTED:
            _EXPORTED[key] = original(source, input_dtype, output)
        return _EXPORTED[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_tflite, "export_float", remembered)
        yield


@dataclasses.dataclass(frozen=True, eq=False)
class Converted:
    """One tiny model in every recipe, as the command wrote it."""

    variant: Variant
    folder: Path
    document: dict

    def name(self, recipe: str) -> str:
        return f"{self.variant.id}-{recipe}.random"

    @functools.cache  # noqa: B019 (lives as long as the session)
    def file(self, recipe: str) -> bytes:
        return (self.folder / f"{self.name(recipe)}.tflite").read_bytes()

    @functools.cache  # noqa: B019
    def graph(self, recipe: str):
        return flatbuffer.read_model(self.file(recipe))

    def manifest(self, recipe: str) -> dict:
        return json.loads((self.folder / f"{self.name(recipe)}.json").read_text(encoding="utf-8"))

    @functools.cached_property
    def keras_model(self):
        return build(self.variant, SEED)

    @functools.cached_property
    def images(self) -> np.ndarray:
        return pixels(self.variant.image_size, 4)

    @functools.cached_property
    def keras_logits(self) -> np.ndarray:
        from tfvit.preprocessing import normalize

        return np.asarray(self.keras_model(normalize(self.images, self.variant.preprocessing)))


def build(variant: Variant, seed: int, **arguments):
    """A variant with random weights that gives logits."""
    from tfvit.model import build_variant
    from tfvit.weights import randomize

    model = build_variant(variant, weights=None, **{"classifier_activation": None, **arguments})
    randomize(model, seed)
    return model


def pixels(size: int, count: int) -> np.ndarray:
    """Images of the built-in set that the command neither calibrates with nor judges by: [count, size, size, 3] uint8."""
    from calibration import builtin

    return np.stack([builtin.generate(index, size, 1234) for index in range(count)])


@pytest.fixture(scope="session", params=[1, 2], ids=["V1", "V2"])
def tiny(request, tmp_path_factory) -> Converted:
    return _convert_tiny(request.param, tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_v1(tmp_path_factory) -> Converted:
    return _convert_tiny(1, tmp_path_factory)


@pytest.fixture(scope="session", params=[1, 2], ids=["V1", "V2"])
def full_depth(request, tmp_path_factory) -> Converted:
    """For delegates: the recipes that run on both."""
    variant, out = FULL_DEPTH[request.param], tmp_path_factory.mktemp(FULL_DEPTH[request.param].id)
    arguments = ["--variant", variant.id, "--quant", ",".join(RECIPES), "--weights", f"random:{SEED}", "--calibration-samples", "8"]
    with _rows_in_the_table():
        assert convert.main([*arguments, "--out", str(out), "--no-gate", "--quiet"]) in (0, 1)
    return Converted(variant, out, {})


_CONVERTED: dict[int, Converted] = {}


def _convert_tiny(version: int, tmp_path_factory) -> Converted:
    if version not in _CONVERTED:
        folder = tmp_path_factory.mktemp(TINY[version].id)
        labels = folder / "labels.txt"
        labels.write_text("\n".join(LABELS) + "\n", encoding="utf-8")
        out = folder / "artifacts"
        arguments = ["--variant", TINY[version].id, "--quant", "all", "--weights", f"random:{SEED}", "--calibration-samples", "8"]
        # without the gate: what the files reach is these tests' own question
        arguments += ["--labels", str(labels), "--out", str(out), "--no-gate", "--json", "--quiet"]
        printed = _Printed()
        with _rows_in_the_table(), contextlib.redirect_stdout(printed):
            code = convert.main(arguments)
        assert code in (0, 1), code
        _CONVERTED[version] = Converted(TINY[version], out, json.loads(printed.text))
    return _CONVERTED[version]


class _Printed:
    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


@dataclasses.dataclass(frozen=True)
class Ran:
    """What a command did: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> list[str]:
        """The lines of the error message, from "error:" on."""
        lines = self.err.splitlines()
        starts = [index for index, line in enumerate(lines) if line.startswith("error: ")]
        return lines[starts[0] :] if starts else []


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
    return functools.partial(_run, convert.main, capfd)


@pytest.fixture(scope="session")
def answers_cache(tmp_path_factory):
    """Of all tests that do not ask for one of their own."""
    return tmp_path_factory.mktemp("answers")


@pytest.fixture
def validated(capfd, answers_cache):
    """Runs `python -m edge.validate` in this process."""

    def run(*arguments) -> Ran:
        cache = () if "--no-cache" in arguments or "--cache" in arguments else ("--cache", answers_cache)
        return _run(validate.main, capfd, *arguments, *cache)

    return run


def _run(main, capfd, *arguments) -> Ran:
    capfd.readouterr()
    with _rows_in_the_table(), _exports_remembered():
        code = main([str(argument) for argument in arguments])
    captured = capfd.readouterr()
    print(f"exit {code}: {captured.err[-600:]}")
    return Ran(code, captured.out, captured.err)


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
    with _rows_in_the_table(), _exports_remembered():
        assert convert.main([*arguments, "--out", str(out), "--no-gate"]) in (0, 1)
    return {recipe: out / f"{MICRO.id}-{recipe}.random.tflite" for recipe in recipes}


@pytest.fixture(scope="session")
def small_graph():
    """Converts a TensorFlow function of float32 inputs of the given shapes to a flatbuffer."""

    def make(function, *shapes, dtype: str = "float32") -> bytes:
        import tensorflow as tf

        concrete = tf.function(function).get_concrete_function(*(tf.TensorSpec(shape, dtype) for shape in shapes))
        return bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert())

    return make
