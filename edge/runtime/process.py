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
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
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
class Run:
    """What is run of a file, the same in every process.

    Attributes:
        signature: its name; None for the main graph's.
        shapes: input -> shape, of inputs that have other sides in the file.
        inputs: an `.npz` with the values of every input, each by its name after "_"; None for numbers that `noise` draws.
    """

    signature: str | None = None
    shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    inputs: Path | None = None

    def to_json(self) -> str:
        return json.dumps({"signature": self.signature, "shapes": dict(self.shapes), "inputs": str(self.inputs) if self.inputs else None})

    @classmethod
    def of_json(cls, text: str) -> Run:
        read = json.loads(text)
        shapes = {name: tuple(shape) for name, shape in read["shapes"].items()}
        return cls(read["signature"], shapes, Path(read["inputs"]) if read["inputs"] else None)

    def values(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """Name -> values of every input."""
        if self.inputs is None:
            return noise(tensors)
        import numpy as np

        with np.load(self.inputs) as stored:
            return {name: stored[f"_{name}"] for name in tensors if f"_{name}" in stored.files}


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
        sha256, size_bytes: of the bytes that were loaded; None where none were read.
    """

    status: str
    reason: str | None = None
    refused: tuple[tuple[str, str], ...] = ()
    ran_on: str | None = None
    software_gpu: bool | None = None
    init_ms: float | None = None
    first_inference_ms: float | None = None
    sha256: str | None = None
    size_bytes: int | None = None


class LatencyProcess:
    """The parent's side of the process; close it, or use it in a `with`.

    Args:
        file: path of the `.tflite`.
        delegate: one of `DELEGATES`.
        threads: for delegates on the CPU.
        command: another program that speaks the same lines and takes the same three arguments, for runtimes of other environments.
        run: which signature, on which inputs.
    """

    def __init__(self, file: Path, delegate: str, threads: int, command: Sequence[str] | None = None, run: Run | None = None) -> None:
        self._file = file
        further = [run.to_json()] if run else []
        self._child = Child([*(command or module("edge.runtime.process")), str(file), delegate, str(threads), *further])
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
        """`peak_mem_mb`, `delegated_ops`, `total_ops` and `partitions`, each None if not known.

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

    path, delegate, threads, *further = arguments
    say, run = answering(), Run.of_json(further[0]) if further else Run()
    model = _load_and_say(Path(path), delegate, int(threads), run, say)
    if model is not None:
        for line in sys.stdin:
            try:
                say(_answer(json.loads(line), model, Path(path), delegate))
            except Exception as error:
                say({"failed": first_line(error)})
    os._exit(0)  # GPU drivers crash when Python takes them down


def _load_and_say(path: Path, delegate: str, threads: int, run: Run, say: Any) -> Any:
    from tfvit.errors import EnvironmentUnusableError

    read: dict[str, Any] = {}
    try:
        data = path.read_bytes()
        read = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        load = _loader(delegate, threads, run)
        start = time.perf_counter()
        model = load(data)
        init = time.perf_counter()
        model.write(run.values(model.inputs))
        written = time.perf_counter()
        model.invoke()
        first = time.perf_counter()
    except (OSError, EnvironmentUnusableError, RuntimeError, ValueError, MemoryError) as error:
        say({**_failure(error), **read})
        return None
    say(
        {
            **read,
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


def _loader(delegate: str, threads: int, run: Run) -> Callable[[bytes], Any]:
    what = {"signature": run.signature, "shapes": run.shapes}
    if delegate.startswith("gpu"):
        from edge.runtime.gpu import F16, F32, GpuModel

        return functools.partial(GpuModel, precision=F16 if delegate == "gpu" else F32, **what)
    from edge.runtime.cpu import XNNPACK, Interpreter

    return functools.partial(Interpreter, threads=threads, kernels=XNNPACK if delegate == "cpu" else delegate, **what)


def _answer(question: dict[str, Any], model: Any, path: Path, delegate: str) -> dict[str, Any]:
    if "burst" in question:
        return {"milliseconds": burst(model, *question["burst"])}
    if "outputs" in question:
        from edge.runtime.cpu import real_outputs

        outputs = real_outputs(model, model.invoke())
        return {"outputs": {name: coded(values) for name, values in outputs.items()}}
    from tfvit import memory

    peak = memory.peak_bytes()  # before anything else is loaded
    return {"peak_mem_mb": None if peak is None else round(peak / 2**20, 1), **_share(path, delegate, model)}


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


def _share(path: Path, delegate: str, model: Any) -> dict[str, Any]:
    """How much of the main graph the delegate runs; a graph that cannot be asked costs nothing else."""
    from edge.runtime.cpu import BUILTIN, Interpreter, runtime_package, xnnpack_partitions
    from tfvit.errors import EnvironmentUnusableError

    unknown = {"delegated_ops": None, "total_ops": None, "partitions": None}
    if not getattr(model, "is_main_graph", True):
        return unknown
    with contextlib.suppress(EnvironmentUnusableError):
        data = path.read_bytes()
        if delegate == "cpu" and runtime_package() == "ai-edge-litert":
            taken = xnnpack_partitions(data)
            return {"delegated_ops": taken.delegated_ops, "total_ops": taken.total_ops, "partitions": taken.partitions}
        total, whole = len(Interpreter(data, kernels=BUILTIN).operations()), delegate.startswith("gpu")  # a GPU alone takes all or nothing
        if delegate == "cpu":  # older runtimes cannot be asked
            return {**unknown, "total_ops": total}
        return {"delegated_ops": total if whole else 0, "total_ops": total, "partitions": 1 if whole else 0}
    return unknown


if __name__ == "__main__":
    main(sys.argv[1:])
