"""Our files, and what TFLiteConverter's default post-training quantization makes of our Keras model.

    python benchmarks/peers/keras_files.py tiny224 FOLDER

All from the weights of `torch_model`, so that everyone computes the same function.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from made import make  # noqa: E402
from pixels import inputs  # noqa: E402

from tfvit import __version__  # noqa: E402

RECIPES = {"float32": "float32", "int8": "int8", "dynamic int8": "dynamic", "int4": "int4"}


def main() -> None:
    variant, folder = sys.argv[1], Path(sys.argv[2])
    weights = folder / "weights.safetensors"

    def convert(path: Path) -> None:
        recipe = path.stem.rpartition("-")[2]
        command = [sys.executable, "-m", "edge.convert", "--variant", variant, "--quant", recipe, "--weights", str(weights)]
        done = subprocess.run([*command, "--output", "logits", "--out", str(folder), "--no-repair", "--no-gate", "--quiet"], cwd=ROOT)
        if not path.exists():  # a file that misses its gate is written, and the exit code says that it does
            raise RuntimeError(f"exit code {done.returncode}: {' '.join(command)}")

    def write_default(path: Path) -> None:
        path.write_bytes(default_int8(variant, weights, inputs(folder, "calibration", (3,))))

    ours = {precision: ("litert", f"{variant}-{recipe}.tflite", convert) for precision, recipe in RECIPES.items()}
    runtime = f"LiteRT {metadata.version('ai-edge-litert')}"
    make(folder, "tfvit", f"{__version__}, {runtime}", ours)
    version = f"TensorFlow {metadata.version('tensorflow')}, {runtime}"
    make(folder, "TFLiteConverter", version, {"int8": ("litert", "tflite_converter_int8.tflite", write_default)})


def default_int8(variant: str, weights: Path, images: Iterator[np.ndarray]) -> bytes:
    """`converter.optimizations` and a representative dataset, nothing else; takes pixels 0..255."""
    import tensorflow as tf

    from edge.export.to_tflite import exportable
    from tfvit.model import build_variant
    from tfvit.variants import find_variant
    from tfvit.weights import load_weights

    found = find_variant(variant)
    model = build_variant(found, weights=None, classifier_activation=None)
    load_weights(model, weights, found)
    source = exportable(model)
    module = tf.Module()
    module.variables_of_model = [variable.value for variable in model.variables]
    module.serve = tf.function(source.logits, input_signature=[tf.TensorSpec((1, *source.input_shape), tf.float32)])
    with tempfile.TemporaryDirectory() as saved:
        tf.saved_model.save(module, saved, signatures=module.serve)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image] for image in images)
        return converter.convert()


if __name__ == "__main__":
    main()
