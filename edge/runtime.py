"""The only module that runs a `.tflite`: LiteRT on the CPU."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator, Sequence

import numpy as np

from tfvit.errors import EnvironmentUnusableError

CPU = "LiteRT CPU (XNNPACK)"


class Interpreter:
    """A file loaded for the CPU with its default delegate (XNNPACK).

    Args:
        file: the flatbuffer.
        threads: at least 1.
        delegate_each_op: one delegate node for each operation, to see which operations the delegate takes.
    """

    def __init__(self, file: bytes, threads: int = 1, delegate_each_op: bool = False) -> None:
        from ai_edge_litert import interpreter

        with captured_stderr() as log:
            try:
                self._interpreter = interpreter.Interpreter(
                    model_content=file, num_threads=threads, experimental_disable_delegate_node_fusion=delegate_each_op
                )
                self._interpreter.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                raise EnvironmentUnusableError(
                    "the runtime cannot load the file",
                    expected="a file whose operations LiteRT knows",
                    received=(str(error).strip() or log.text()).splitlines()[-1],
                    action="check the file with edge.inspect, or use a newer ai-edge-litert",
                ) from error
        self._input = self._interpreter.get_input_details()[0]
        self._outputs = self._interpreter.get_output_details()

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(int(side) for side in self._input["shape"])

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """The first output for one input of the file's own shape.

        Numbers are cast to the file's input type; where that is quantized, they are quantized and the output is dequantized.
        """
        return next(self.run_each(pixels))

    def run_each(self, pixels: np.ndarray) -> Iterator[np.ndarray]:
        """Runs one input, then copies the outputs out one at a time: with many of them, all at once would not fit."""
        if tuple(pixels.shape) != self.input_shape:
            raise ValueError(f"input must have the shape {self.input_shape}. Received: {tuple(pixels.shape)}")
        self._interpreter.set_tensor(self._input["index"], _quantized(pixels, self._input))
        self._interpreter.invoke()
        for output in self._outputs:
            yield _dequantized(self._interpreter.get_tensor(output["index"]), output)

    def operations(self) -> list[dict]:
        """The runtime's own list of operations, delegate nodes included."""
        return self._interpreter._get_ops_details()


def interleaved_milliseconds(files: Sequence[bytes], threads: int, rounds: int, warmup_rounds: int) -> np.ndarray:
    """[files, rounds]: the time of one inference each, the files taking turns in every round."""
    interpreters = [Interpreter(file, threads=threads) for file in files]
    pixels = np.random.default_rng(0).integers(0, 256, interpreters[0].input_shape).astype(np.float32)
    milliseconds = np.empty((len(files), rounds))
    for round_ in range(-warmup_rounds, rounds):
        for position, interpreter in enumerate(interpreters):
            start = time.perf_counter()
            interpreter.run(pixels)
            if round_ >= 0:
                milliseconds[position, round_] = 1e3 * (time.perf_counter() - start)
    return milliseconds


def _quantized(values: np.ndarray, tensor: dict) -> np.ndarray:
    scale, zero_point = tensor["quantization"]
    if not scale:
        return values.astype(tensor["dtype"], copy=False)
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(tensor["dtype"])


def _dequantized(values: np.ndarray, tensor: dict) -> np.ndarray:
    scale, zero_point = tensor["quantization"]
    return (values.astype(np.float32) - zero_point) * np.float32(scale) if scale else values


@dataclasses.dataclass(frozen=True)
class Partitions:
    """What XNNPACK takes of a file.

    Attributes:
        delegated_ops, total_ops: operations.
        partitions: pieces the graph falls into.
        left_over: operations left to builtin kernels, by name.
    """

    delegated_ops: int
    total_ops: int
    partitions: int
    left_over: dict[str, int]


def xnnpack_partitions(file: bytes) -> Partitions:
    """Asks the runtime itself: once as it will run, once with a delegate node for each operation, whose outputs name the operation."""
    partitions = sum(operation["op_name"] == "DELEGATE" for operation in Interpreter(file).operations())
    operations = Interpreter(file, delegate_each_op=True).operations()
    taken = {int(tensor) for operation in operations if operation["op_name"] == "DELEGATE" for tensor in operation["outputs"]}
    original = [operation for operation in operations if operation["op_name"] != "DELEGATE"]
    left_over: dict[str, int] = {}
    for operation in original:
        if not any(int(tensor) in taken for tensor in operation["outputs"]):
            left_over[operation["op_name"]] = left_over.get(operation["op_name"], 0) + 1
    total = len(original)
    return Partitions(total - sum(left_over.values()), total, partitions, dict(sorted(left_over.items())))


class _Log:
    def __init__(self, file) -> None:
        self._file = file

    def text(self) -> str:
        self._file.flush()
        self._file.seek(0)
        return self._file.read().decode(errors="replace")


@contextlib.contextmanager
def captured_stderr() -> Iterator[_Log]:
    """Catches what native code writes to file descriptor 2: runtimes give their reasons there and nowhere else."""
    with tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield _Log(file)
        finally:
            os.dup2(saved, 2)
            os.close(saved)
