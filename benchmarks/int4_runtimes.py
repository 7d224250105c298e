"""Which runtimes run a 4-bit file, by trying: results/int4_runtimes.csv.

    python benchmarks/int4_runtimes.py nano32-int4.tflite --python litert-1.4/bin/python --python tf-2.14/bin/python

A float FULLY_CONNECTED has no operator version of its own for 4-bit weights, so that versions cannot say who runs it. Every interpreter
given (ai-edge-litert, TensorFlow or tflite-runtime with NumPy) runs three files on the same inputs: the file; the same with version 1 of
FULLY_CONNECTED, as ai-edge-quantizer leaves it; and the same with its scales stored for each block of 32 inputs. The difference is from the
answers of the installed runtime, over the largest of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.int4_blocks import set_blocks  # noqa: E402
from benchmarks.rows import write_rows  # noqa: E402
from edge.quantization.dense_layers import dense_layers  # noqa: E402
from edge.runtime.cpu import Interpreter, runtime_version  # noqa: E402
from edge.tflite import flatbuffer  # noqa: E402

CSV = ROOT / "results" / "int4_runtimes.csv"
INPUTS = 8
# Runs in the other interpreter, which has none of our packages
_CHILD = """
import json, sys
import numpy as np
try:
    from ai_edge_litert import interpreter as lite
    from importlib.metadata import version
    name = "ai-edge-litert " + version("ai-edge-litert")
except ImportError:
    try:
        import tflite_runtime.interpreter as lite
        from importlib.metadata import version
        name = "tflite-runtime " + version("tflite-runtime")
    except ImportError:
        import tensorflow
        lite, name = tensorflow.lite, "tensorflow " + tensorflow.__version__
file, inputs, outputs = sys.argv[1:]
try:
    interpreter = lite.Interpreter(model_path=file, num_threads=1)
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    answers = []
    for image in np.load(inputs):
        interpreter.set_tensor(given, image[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(made))
    np.save(outputs, np.concatenate(answers))
    error = ""
except Exception as problem:
    error = str(problem).splitlines()[0]
print(json.dumps({"runtime": name, "error": error}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a file of the recipe int4 with float32 input")
    parser.add_argument("--python", action="append", default=[], metavar="PATH", help="an interpreter with a runtime")
    parser.add_argument("--csv", type=Path, default=CSV)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, file in _files(arguments.file.read_bytes()).items():
            path = Path(folder) / f"{name}.tflite"
            path.write_bytes(file)
            shape = flatbuffer.tensor_shape(flatbuffer.read_model(file), int(flatbuffer.read_model(file).subgraphs[0].inputs[0]))
            inputs = np.random.default_rng(0).uniform(0, 255, (INPUTS, *shape[1:])).astype(np.float32)
            np.save(Path(folder) / "inputs.npy", inputs)
            interpreter = Interpreter(file, threads=1)
            expected = np.concatenate([interpreter.run(image[None]) for image in inputs])
            for python in arguments.python:
                rows.append(_tried(name, path, python, Path(folder), expected))
                print("  ".join(rows[-1].values()), flush=True)
    write_rows(arguments.csv, rows)
    return 0


def _tried(name: str, file: Path, python: str, folder: Path, expected: np.ndarray) -> dict[str, str]:
    outputs = folder / "outputs.npy"
    outputs.unlink(missing_ok=True)
    command = [python, "-c", _CHILD, str(file), str(folder / "inputs.npy"), str(outputs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    said = json.loads(lines[-1]) if lines else {"runtime": python, "error": f"ended with {done.returncode}"}
    difference = "" if said["error"] else f"{np.abs(np.load(outputs) - expected).max() / np.abs(expected).max():.1e}"
    row = {"file": name, "runtime": said["runtime"], "difference": difference, "error": said["error"]}
    return row | {"compared_with": runtime_version()}


def _files(file: bytes) -> dict[str, bytes]:
    """Name -> file."""
    plain, blocks = flatbuffer.read_model(file), flatbuffer.read_model(file)
    for code in plain.operatorCodes:
        if max(code.builtinCode, code.deprecatedBuiltinCode) == schema.BuiltinOperator.FULLY_CONNECTED:
            code.version = 1
    for layer in dense_layers(blocks):
        if flatbuffer.tensor_type(blocks, layer.weights) == "INT4" and flatbuffer.tensor_shape(blocks, layer.weights)[1] % 32 == 0:
            outputs, inputs = flatbuffer.tensor_shape(blocks, layer.weights)
            packed = np.asarray(flatbuffer.constant(blocks, layer.weights), np.uint8)
            steps = np.stack([packed & 0xF, packed >> 4], axis=1).reshape(outputs, inputs).astype(np.int8)
            steps = np.where(steps > 7, steps - 16, steps).astype(np.int8)
            scale = np.asarray(blocks.subgraphs[0].tensors[layer.weights].quantization.scale)
            set_blocks(blocks, layer, steps, np.repeat(scale[:, None], inputs // 32, axis=1), 32)
    return {"int4": file, "int4, versions 1": flatbuffer.write_model(plain), "int4, blocks of 32": flatbuffer.write_model(blocks)}


if __name__ == "__main__":
    sys.exit(main())
