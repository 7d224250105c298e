"""Times one file on one runtime, by the lines of `edge.runtime.process`, in that runtime's own environment.

    python benchmarks/peers/time_peer.py FILE RUNTIME THREADS

RUNTIME is litert, onnxruntime, openvino or openvino_f32. The input is the first image of held_out.npy beside the file, written once; what
is timed is one inference with its outputs copied out. {"outputs": true} is answered with the logits of every image there.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pixels import inputs

from edge.runtime.child import answering
from edge.runtime.process import burst, coded


class LiteRT:
    """The runtime of our own files, for every `.tflite`."""

    def __init__(self, file: Path, threads: int) -> None:
        from edge.runtime.cpu import Interpreter, real_outputs

        self._real = real_outputs
        self._interpreter = Interpreter(file.read_bytes(), threads=threads)
        self.input_shape, self.ran_on = self._interpreter.input_shape, self._interpreter.ran_on

    def write(self, values: np.ndarray) -> None:
        self._interpreter.write({next(iter(self._interpreter.inputs)): values})

    def invoke(self) -> np.ndarray:
        return self._interpreter.invoke()[0]

    def real(self, output: np.ndarray) -> np.ndarray:
        """Numbers, where the file's output is quantized."""
        return next(iter(self._real(self._interpreter, [output]).values()))


class OnnxRuntime:
    """CPU, every graph optimization. Threads spin for the next operation, which two of them gain by, and stop when the run ends."""

    def __init__(self, file: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        (given,) = self._session.get_inputs()
        self.input_shape, self._name = given.shape, given.name
        self.ran_on = f"ONNX Runtime {onnxruntime.__version__} CPU"

    def write(self, values: np.ndarray) -> None:
        self._values = {self._name: values}

    def invoke(self) -> np.ndarray:
        return self._session.run(None, self._values)[0]

    def real(self, output: np.ndarray) -> np.ndarray:
        return output


class OpenVino:
    """CPU, latency hint; `precision` None leaves the runtime its own choice for what is not int8.

    Not pinned to cores, as nobody else here is: pinned threads cannot leave a core that something else keeps busy.
    """

    def __init__(self, file: Path, threads: int, precision: str | None = None) -> None:
        import openvino

        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        if precision:
            settings["INFERENCE_PRECISION_HINT"] = precision
        compiled = openvino.Core().compile_model(str(file), "CPU", settings)
        self._request = compiled.create_infer_request()
        self.input_shape = tuple(compiled.input(0).shape)
        used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.ran_on = f"OpenVINO {openvino.__version__.split('-')[0]} CPU ({used})"

    def write(self, values: np.ndarray) -> None:
        self._request.get_input_tensor(0).data[:] = values

    def invoke(self) -> np.ndarray:
        self._request.infer()
        return self._request.get_output_tensor(0).data.copy()

    def real(self, output: np.ndarray) -> np.ndarray:
        return output


RUNTIMES: dict[str, Callable[[Path, int], Any]] = {
    "litert": LiteRT,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "openvino_f32": lambda file, threads: OpenVino(file, threads, "f32"),
}


def main() -> None:
    say = answering()
    file, runtime, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

    try:
        start = time.perf_counter()
        model = RUNTIMES[runtime](file, threads)
        loaded = time.perf_counter()
        images = list(inputs(file.parent, "held_out", model.input_shape))
        model.write(images[0])
        written = time.perf_counter()
        model.invoke()
        first = time.perf_counter()
    except Exception as error:
        say({"status": "refused", "reason": (str(error).strip().splitlines() or [type(error).__name__])[0]})
        return
    milliseconds = {"init_ms": 1e3 * (loaded - start), "first_inference_ms": 1e3 * (first - written)}
    say({"status": "ok", "ran_on": model.ran_on, **milliseconds})
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if "burst" in question:
                say({"milliseconds": burst(model, *question["burst"])})
            elif "outputs" in question:
                say({"outputs": {"logits": coded(logits(model, images))}})
            else:
                say({})
        except Exception as error:
            say({"failed": str(error).splitlines()[0]})


def logits(model: Any, images: list[np.ndarray]) -> np.ndarray:
    """[images, classes]; the first image is what the input holds afterwards."""
    rows = []
    for image in images:
        model.write(image)
        rows.append(np.asarray(model.real(model.invoke()), np.float32).reshape(-1))
    model.write(images[0])
    return np.stack(rows)


if __name__ == "__main__":
    main()
