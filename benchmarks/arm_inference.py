"""Runs `.tflite` files with one thread, for a plugin of the emulator to count their instructions: the guest's part of `arm_profile.py`.

    python arm_inference.py FILE...

Runs in the aarch64 Python, where of this project nothing is installed. Of every file two processes end, each behind one inference that
warmed up: one at once, the other after one inference more. The emulator writes what each has counted. Prints where the runtime's library
lies in memory.
"""

import os
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter

LIBRARY = "libpywrap_litert_common.so"


def main() -> None:
    with open("/proc/self/maps") as maps:
        print(min(line.split("-")[0] for line in maps if line.rstrip().endswith(LIBRARY)), flush=True)
    for file in sys.argv[1:]:
        interpreter = Interpreter(model_path=file, num_threads=1)
        interpreter.allocate_tensors()
        (source,) = interpreter.get_input_details()
        interpreter.set_tensor(source["index"], np.full(source["shape"], 100, source["dtype"]))
        interpreter.invoke()
        for more in (0, 1):
            child = os.fork()
            if not child:
                for _ in range(more):
                    interpreter.invoke()
                os._exit(0)
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
