"""Runs every `.tflite` of a folder on the inputs beside it, in whichever interpreter package is there; the outputs go beside them.

    python run_operators.py FOLDER

Runs in an environment of another runtime, where of this project nothing is installed. One line of JSON on stdout: file -> why it was
refused, "" where it ran. Each file runs in a process of its own: some runtimes end with an operation that they cannot compute.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    import tensorflow

    Interpreter = tensorflow.lite.Interpreter


def run(file: Path) -> str:
    """The reason not to run it, or ""."""
    step = "load"
    try:
        interpreter = Interpreter(model_path=str(file), num_threads=1)
        interpreter.allocate_tensors()
        step = "invoke"
        with np.load(file.with_suffix(".inputs.npz")) as inputs:
            for detail, name in zip(interpreter.get_input_details(), inputs.files, strict=True):
                interpreter.set_tensor(detail["index"], inputs[name])
        interpreter.invoke()
        np.savez(
            file.with_suffix(".outputs.npz"), *[interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
        )
    except (RuntimeError, ValueError) as error:
        return f"{step}: {error}"
    return ""


def main() -> None:
    found = {}
    for file in sorted(Path(sys.argv[1]).glob("*.tflite")):
        receive, send = os.pipe()
        child = os.fork()
        if not child:
            os.close(receive)
            os.write(send, run(file)[:300].encode())
            os._exit(0)
        os.close(send)
        with os.fdopen(receive) as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        found[file.name] = f"invoke: ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else said
    print(json.dumps(found))


if __name__ == "__main__":
    main()
