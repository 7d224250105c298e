"""Small models, converted once a session through the real command, and commands run in this process."""

import contextlib
import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge import convert
from edge.tflite import flatbuffer
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK
from tfvit.preprocessing import Preprocessing
from tfvit.variants import VARIANTS, PlainVariant, Variant, WindowedVariant

SEED = 1
CLASSES = 10
LABELS = tuple(f"label {index}" for index in range(CLASSES))
RECIPES = ("float32", "float16", "int8", "dynamic")
# Images the drift is measured on in these tests, instead of the command's 32: the Keras model is the slow side
DRIFT_SAMPLES = 8


def _row(
    name: str, version: int, image_size: int, depths: tuple[int, ...], num_heads: tuple[int, ...], window: int, classes: int
) -> WindowedVariant:
    return WindowedVariant(
        id=name, constructor=name, version=version, image_size=image_size, embed_dim=16, depths=depths, num_heads=num_heads,
        window_size=window, num_parameters=0, preprocessing=Preprocessing.for_image_size(image_size), classes=classes,
        pretrained_window_sizes=(0,) * len(depths),
    )  # fmt: skip


def _plain_row(name: str, patch_size: int, **arguments: Any) -> PlainVariant:
    return PlainVariant(
        id=name, constructor=name, image_size=4 * patch_size, embed_dim=32, depth=3, num_heads=2, patch_size=patch_size, num_parameters=0,
        preprocessing=Preprocessing.for_image_size(4 * patch_size), classes=CLASSES, **arguments,
    )  # fmt: skip


# Two blocks a stage, so that the second is shifted. At least two heads everywhere, as in every published variant: with a single one the
# converter moves the reshape into heads in front of the dense layer, whose leading dimension is then not 1.
TINY: dict[int | str, Variant] = {
    1: _row("tiny_v1", 1, 64, (2, 2, 2), (2, 4, 8), 4, CLASSES),
    2: _row("tiny_v2", 2, 128, (2, 2, 2), (2, 4, 8), 8, CLASSES),
    "vit": _plain_row("tiny_vit", 8),
    "dinov2": _plain_row("tiny_dinov2", 8, registers=4, layer_scale=1.0, pooling="token_avg", class_position=False),
}
# As deep as the published ones, on small images
FULL_DEPTH = {
    1: _row("full_depth_v1", 1, 64, (2, 2, 6, 2), (2, 2, 4, 8), 4, CLASSES),
    2: _row("full_depth_v2", 2, 64, (2, 2, 6, 2), (2, 2, 4, 8), 4, CLASSES),
}
# One stage, one shift: for what does not depend on the architecture
MICRO = _row("micro", 1, 32, (2,), (2,), 4, 5)


@contextlib.contextmanager
def rows_in_the_table():
    """The small variants, in the table only while a command runs: other tests look at the published rows."""
    with pytest.MonkeyPatch.context() as patch:
        for row in (*TINY.values(), *FULL_DEPTH.values(), MICRO):
            patch.setitem(VARIANTS, row.id, row)
        patch.setattr("edge.conversion.plan.DRIFT_SAMPLES", DRIFT_SAMPLES)
        yield


_EXPORTED: dict[tuple, bytes] = {}


@contextlib.contextmanager
def exports_remembered():
    """One export for all commands that convert the same weights: tracing and converting is nine tenths of their time."""
    from edge.export import to_tflite

    original = to_tflite.export_float

    def remembered(source, input_dtype="float32", output="probabilities"):
        digest = hashlib.sha256(b"".join(np.asarray(weight).tobytes() for weight in source.model.weights)).hexdigest()
        key = (digest, source.model.name, source.input_shape, source.takes_pixels, input_dtype, output)
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


_CONVERTED: dict[int | str, Converted] = {}


def convert_tiny(version: int | str, tmp_path_factory) -> Converted:
    if version not in _CONVERTED:
        folder = tmp_path_factory.mktemp(TINY[version].id)
        labels = folder / "labels.txt"
        labels.write_text("\n".join(LABELS) + "\n", encoding="utf-8")
        out = folder / "artifacts"
        arguments = ["--variant", TINY[version].id, "--quant", "all", "--weights", f"random:{SEED}", "--calibration-samples", "8"]
        # without the gate and what would be done to pass it: what the files reach is these tests' own question
        arguments += ["--labels", str(labels), "--out", str(out), "--no-gate", "--no-repair", "--json", "--quiet"]
        printed = _Printed()
        with rows_in_the_table(), contextlib.redirect_stdout(printed):
            code = convert.main(arguments)
        assert code in (EXIT_OK, EXIT_CHECK_FAILED), code
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


def run_command(main, capfd, *arguments) -> Ran:
    capfd.readouterr()
    with rows_in_the_table(), exports_remembered():
        code = main([str(argument) for argument in arguments])
    captured = capfd.readouterr()
    print(f"exit {code}: {captured.err[-600:]}")
    return Ran(code, captured.out, captured.err)
