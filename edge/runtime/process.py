"""Times one file on one delegate in a process of its own.

What another model has left behind is not measured, and the crash of a GPU driver is a result. Parent and child speak JSON, one line each
way. The child loads the file, runs it once and reports. Then it answers questions:

    {"burst": [runs, seconds, discarded]}   milliseconds
    {"outputs": true}                       the outputs of one inference
    {"finish": true}                        its peak memory, and the delegate's share of the graph
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.runtime.child import Child, answering, module, noise

if TYPE_CHECKING:  # other runtimes' environments speak these lines too, and have neither Pillow nor tfvit's other needs
    from tfvit.errors import EnvironmentUnusableError

# Delegate -> what it is, as the commands list it
DELEGATES = {
    "cpu": "CPU with XNNPACK, what apps run by default",
    "builtin": "CPU with the runtime's own optimised kernels, without XNNPACK",
    "reference": "CPU with reference kernels: slow, the same to the bit on every machine",
    "gpu": "GPU alone, float16 arithmetic, what apps run by default",
    "gpu_f32": "GPU alone, float32 arithmetic",
}
OK, UNAVAILABLE, REFUSED = "ok", "unavailable", "refused"


@dataclasses.dataclass(frozen=True)
class Loaded:
    """How loading went.

    Attributes:
        status: `OK`, `UNAVAILABLE` (this machine lacks the device or runtime; the file may be fine) or `REFUSED`.
        reason: None if `OK`.
        refused: (operation, reason) pairs of the delegate.
        ran_on: runtime, version, delegate and device that run the file.
        software_gpu: whether the GPU is a CPU; None without a GPU.
        init_ms, first_inference_ms: milliseconds of loading, delegate included, and of the first inference.
    """

    status: str
    reason: str | None = None
    refused: tuple[tuple[str, str], ...] = ()
    ran_on: str | None = None
    software_gpu: bool | None = None
    init_ms: float | None = None
    first_inference_ms: float | None = None


class LatencyProcess:
    """The parent's side of the process; close it, or use it in a `with`.

    Args:
        file: path of the `.tflite`.
        delegate: one of `DELEGATES`.
        threads: for delegates on the CPU.
        command: another program that speaks the same lines and takes the same three arguments, for runtimes of other environments.
    """

    def __init__(self, file: Path, delegate: str, threads: int, command: Sequence[str] | None = None) -> None:
        self._file = file
        self._child = Child([*(command or module("edge.runtime.process")), str(file), delegate, str(threads)])
        self.loaded = self._read_loaded()

    @property
    def pid(self) -> int:
        return self._child.process.pid

    def burst(self, min_runs: int, min_seconds: float, discarded: int) -> Sequence[float]:
        """Milliseconds of each inference, outputs read back; see `burst` below.

        Raises:
            EnvironmentUnusableError: the process died or failed.
        """
        return self._ask({"burst": [min_runs, min_seconds, discarded]})["milliseconds"]

    def outputs(self) -> dict[str, Any]:
        """Name -> float32 array, of one inference on an input that is the same in every process.

        Raises:
            EnvironmentUnusableError: the process died or failed.
        """
        import numpy as np

        answer = self._ask({"outputs": True})["outputs"]
        return {name: np.frombuffer(base64.b64decode(data), np.float32).reshape(shape) for name, (shape, data) in answer.items()}

    def finish(self) -> dict[str, Any]:
        """`peak_mem_mb`, `delegated_ops`, `total_ops`, `partitions` (each None if not known), and `quantized`: holds integers with a scale.

        Raises:
            EnvironmentUnusableError: the process died or failed.
        """
        return self._ask({"finish": True})

    def close(self) -> None:
        self._child.close()

    def __enter__(self) -> LatencyProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read_loaded(self) -> Loaded:
        from tfvit.errors import EnvironmentUnusableError

        try:
            answer = self._read()
        except EnvironmentUnusableError as error:
            return Loaded(REFUSED, error.received)
        refused = tuple((operation, reason) for operation, reason in answer.pop("refused", ()))
        return Loaded(**answer, refused=refused)

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        with contextlib.suppress(OSError):  # it died: reading says how
            self._child.stdin.write(json.dumps(question).encode() + b"\n")
            self._child.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._child.stdout.readline()
        if line:
            answer = json.loads(line)
            if "failed" in answer:
                raise self._died(answer["failed"])
            return answer
        raise self._died(f"its process ended with {self._child.ended()[1]}")

    def _died(self, received: str) -> EnvironmentUnusableError:
        from tfvit.errors import EnvironmentUnusableError

        return EnvironmentUnusableError(
            f"{self._file.name} cannot be run to the end",
            expected="a file that the runtime runs, again and again",
            received=received,
            action="see edge.inspect; a file that is whole and does this shows a bug of the runtime or driver",
        )


def main(arguments: Sequence[str]) -> None:
    """The child's side."""
    from tfvit.errors import first_line

    path, delegate, threads = arguments
    say = answering()
    model = _load_and_say(Path(path), delegate, int(threads), say)
    if model is not None:
        for line in sys.stdin:
            try:
                say(_answer(json.loads(line), model, Path(path), delegate))
            except Exception as error:
                say({"failed": first_line(error)})
    os._exit(0)  # GPU drivers crash when Python takes them down


def _load_and_say(path: Path, delegate: str, threads: int, say: Any) -> Any:
    from tfvit.errors import EnvironmentUnusableError

    try:
        data = path.read_bytes()
        load = _loader(delegate, threads)
        start = time.perf_counter()
        model = load(data)
        init = time.perf_counter()
        model.write(noise(model.inputs))
        written = time.perf_counter()
        model.invoke()
        first = time.perf_counter()
    except (OSError, EnvironmentUnusableError, RuntimeError, ValueError, MemoryError) as error:
        say(_failure(error))
        return None
    say(
        {
            "status": OK,
            "ran_on": model.ran_on,
            "software_gpu": getattr(model, "is_software", None),
            "init_ms": round(1e3 * (init - start), 3),
            "first_inference_ms": round(1e3 * (first - written), 3),
        }
    )
    return model


def _failure(error: Exception) -> dict[str, Any]:
    unavailable = type(error).__name__ == "GpuUnavailableError"
    reason = getattr(error, "received", None) or (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return {"status": UNAVAILABLE if unavailable else REFUSED, "reason": reason, "refused": list(getattr(error, "refused", []))}


def _loader(delegate: str, threads: int) -> Callable[[bytes], Any]:
    if delegate.startswith("gpu"):
        from edge.runtime.gpu import F16, F32, GpuModel

        return functools.partial(GpuModel, precision=F16 if delegate == "gpu" else F32)
    from edge.runtime.cpu import XNNPACK, Interpreter

    return functools.partial(Interpreter, threads=threads, kernels=XNNPACK if delegate == "cpu" else delegate)


def _answer(question: dict[str, Any], model: Any, path: Path, delegate: str) -> dict[str, Any]:
    if "burst" in question:
        return {"milliseconds": burst(model, *question["burst"])}
    if "outputs" in question:
        from edge.runtime.cpu import real_outputs

        outputs = real_outputs(model, model.invoke())
        return {"outputs": {name: coded(values) for name, values in outputs.items()}}
    from tfvit import memory

    peak = memory.peak_bytes()  # before anything else is loaded
    return {"peak_mem_mb": None if peak is None else round(peak / 2**20, 1), **_share(path, delegate)}


def coded(values: Any) -> list[Any]:
    """Shape and float32 bytes of an array, for JSON."""
    return [values.shape, base64.b64encode(values.astype("<f4").tobytes()).decode()]


def burst(model: Any, min_runs: int, min_seconds: float, discarded: int) -> list[float]:
    """Milliseconds of each `model.invoke()`, after `discarded` runs that do not count. Ends when both minima are met."""
    for _ in range(discarded):
        model.invoke()
    milliseconds: list[float] = []
    while len(milliseconds) < min_runs or sum(milliseconds) < 1e3 * min_seconds:
        start = time.perf_counter()
        model.invoke()
        milliseconds.append(1e3 * (time.perf_counter() - start))
    return milliseconds


def _share(path: Path, delegate: str) -> dict[str, Any]:
    """How much of the graph the delegate runs."""
    from edge.runtime.cpu import BUILTIN, Interpreter, runtime_package, xnnpack_partitions

    data = path.read_bytes()
    plain = Interpreter(data, kernels=BUILTIN)
    total, whole = len(plain.operations()), delegate.startswith("gpu")  # a GPU alone takes all or nothing
    share = {"delegated_ops": total if whole else 0, "total_ops": total, "partitions": 1 if whole else 0, "quantized": plain.is_quantized()}
    if delegate == "cpu" and runtime_package() == "ai-edge-litert":
        taken = xnnpack_partitions(data)
        share |= {"delegated_ops": taken.delegated_ops, "total_ops": taken.total_ops, "partitions": taken.partitions}
    elif delegate == "cpu":  # older runtimes cannot be asked
        share |= {"delegated_ops": None, "partitions": None}
    return share


def difference_from(delegate: str, process: Any, file: Path) -> float | None:
    """|difference| / |output| between the outputs of a process and of another delegate; None if that delegate cannot run the file."""
    import numpy as np

    with LatencyProcess(file, delegate, 1) as reference:
        if reference.loaded.status != OK:
            return None
        expected, received = reference.outputs(), process.outputs()
    return max(float(np.linalg.norm(received[name] - expected[name]) / (np.linalg.norm(expected[name]) + 1e-30)) for name in expected)


if __name__ == "__main__":
    main(sys.argv[1:])
