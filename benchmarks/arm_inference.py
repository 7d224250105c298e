"""Runs a `.tflite` once with one thread, then some times more: the guest's part of `arm_profile.py`.

    python arm_inference.py FILE RUNS

Runs in the aarch64 Python, where of this project nothing is installed. Prints where the runtime's library lies in memory.
"""

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter

LIBRARY = "libpywrap_litert_common.so"


def main() -> None:
    file, runs = sys.argv[1:]
    interpreter = Interpreter(model_path=file, num_threads=1)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    interpreter.set_tensor(source["index"], np.full(source["shape"], 100, source["dtype"]))
    for _ in range(int(runs)):
        interpreter.invoke()
    with open("/proc/self/maps") as maps:
        print(min(line.split("-")[0] for line in maps if line.rstrip().endswith(LIBRARY)))


if __name__ == "__main__":
    main()
