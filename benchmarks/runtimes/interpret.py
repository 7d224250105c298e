"""Runs a `.tflite` with whichever Python interpreter package is there: raw inputs from a file, raw outputs to another.

    python interpret.py MODEL INPUTS OUTPUTS

Runs in an environment of another runtime, where of this project nothing is installed. One line of JSON on stdout: `version` of the package,
`machine`, and `refused`, the runtime's reason where it does not run the file, else null.
"""

import importlib.metadata
import json
import platform
import sys

import numpy as np

try:
    PACKAGE = "tflite-runtime"
    from tflite_runtime.interpreter import Interpreter
except ImportError:
    PACKAGE = "ai-edge-litert"
    from ai_edge_litert.interpreter import Interpreter


def main() -> None:
    model, inputs, outputs = sys.argv[1:]
    refused = None
    try:
        run(model, inputs, outputs)
    except (RuntimeError, ValueError) as error:
        refused = " ".join(str(error).split())
    print(json.dumps({"version": version(), "machine": platform.machine(), "refused": refused}))


def run(model: str, inputs: str, outputs: str) -> None:
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    (source,), (target, *_) = interpreter.get_input_details(), interpreter.get_output_details()
    with open(outputs, "wb") as file:
        for pixels in np.fromfile(inputs, source["dtype"]).reshape(-1, *source["shape"]):
            interpreter.set_tensor(source["index"], pixels)
            interpreter.invoke()
            file.write(interpreter.get_tensor(target["index"]).tobytes())


def version() -> str:
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    main()
