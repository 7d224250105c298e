"""Runs a `.tflite` on the CPU, with LiteRT or, if only that is installed, with tflite-runtime.

Only this module and `edge.runtime.gpu` run files. Their models have the same methods.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from tfvit.errors import EnvironmentUnusableError
from tfvit.extras import install_command

CPU = "LiteRT CPU (XNNPACK)"
# Kernels of a CPU interpreter -> the resolver's name in LiteRT and tflite-runtime
XNNPACK, BUILTIN, REFERENCE = "xnnpack", "builtin", "reference"
_RESOLVERS = {XNNPACK: "AUTO", BUILTIN: "BUILTIN_WITHOUT_DEFAULT_DELEGATES", REFERENCE: "BUILTIN_REF"}


def runtime_package() -> str:
    """The installed runtime: "ai-edge-litert", or else "tflite-runtime".

    Raises:
        EnvironmentUnusableError: neither is installed.
    """
    for package, module in (("ai-edge-litert", "ai_edge_litert"), ("tflite-runtime", "tflite_runtime")):
        if importlib.util.find_spec(module):
            return package
    raise EnvironmentUnusableError(
        "no TFLite runtime",
        expected="the package ai-edge-litert, or tflite-runtime",
        received="neither is installed",
        action=install_command("edge"),
    )


def runtime_version() -> str:
    """For example "LiteRT 2.3.0"."""
    package = runtime_package()
    return f"{'LiteRT' if package == 'ai-edge-litert' else package} {metadata.version(package)}"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output of a file.

    Attributes:
        index: in the file.
        shape, dtype: as in the file.
        scale, zero_point: of a quantized tensor: real value = scale * (integer - zero_point). The scale of other tensors is 0.
    """

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype
    scale: float = 0.0
    zero_point: int = 0

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> Tensor:
        """From the details that a runtime gives of a tensor."""
        scale, zero_point = details.get("quantization") or (0.0, 0)
        shape = tuple(int(side) for side in details["shape"])
        return cls(int(details["index"]), shape, np.dtype(details["dtype"]), float(scale), int(zero_point))

    def stored(self, values: np.ndarray) -> np.ndarray:
        """Real numbers as the file takes them, quantized if it is.

        Raises:
            ValueError: the shape is not the tensor's.
        """
        if tuple(values.shape) != self.shape:
            raise ValueError(f"input must have the shape {self.shape}. Received: {tuple(values.shape)}")
        if not self.scale:
            return values.astype(self.dtype, copy=False)
        limits = np.iinfo(self.dtype)
        return np.clip(np.round(values / self.scale) + self.zero_point, limits.min, limits.max).astype(self.dtype)

    def real(self, values: np.ndarray) -> np.ndarray:
        """The inverse of `stored`."""
        return (values.astype(np.float32) - self.zero_point) * np.float32(self.scale) if self.scale else values


class Interpreter:
    """A file loaded for the CPU.

    Args:
        file: the bytes of a `.tflite`.
        threads: at least 1.
        kernels: `XNNPACK` (the default delegate of every app), `BUILTIN` (optimised kernels without XNNPACK) or `REFERENCE`.
        delegate_each_op: makes one delegate node for each operation, which shows the operations that the delegate takes.
        signature: the name of one; by default the main graph is run.
        shapes: input -> shape, of inputs that are to have another shape than in the file.

    Attributes:
        inputs, outputs: name -> `Tensor`. The names are the signature's, or the tensors' in a file without signature.
        is_main_graph: whether the signature is of the graph that `operations` lists.
        ran_on: for example "LiteRT 2.3.0 CPU (XNNPACK)".

    Raises:
        EnvironmentUnusableError: the runtime cannot load the file. The reason is the last line that it printed.
    """

    def __init__(
        self,
        file: bytes,
        threads: int = 1,
        kernels: str = XNNPACK,
        delegate_each_op: bool = False,
        signature: str | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        package = runtime_package()
        if package == "ai-edge-litert":
            from ai_edge_litert import interpreter
        else:
            from tflite_runtime import interpreter
        options: dict[str, Any] = {"num_threads": threads}
        if kernels != XNNPACK:
            options["experimental_op_resolver_type"] = interpreter.OpResolverType[_RESOLVERS[kernels]]
        if delegate_each_op:
            options["experimental_disable_delegate_node_fusion"] = True
        with captured_stderr() as log, _in_our_words("load", log):
            self._interpreter = interpreter.Interpreter(model_content=file, **options)
            self._signature, self._graph = self._chosen(signature)
            self.is_main_graph = self._graph == 0
            if shapes:
                inputs, _ = self._tensors()
                for name, shape in shapes.items():
                    self._native.ResizeInputTensor(inputs[name].index, np.array(shape, np.int32), False, self._graph)
            self._interpreter.allocate_tensors()
            if not self.is_main_graph:
                self._native.AllocateTensors(self._graph)
            self.inputs, self.outputs = self._tensors()
            self._outputs = [Tensor.of(output) for output in self._interpreter.get_output_details()]
        self._operations = self._interpreter._get_ops_details()
        delegated = any(operation["op_name"] == "DELEGATE" for operation in self._operations)
        used = "XNNPACK" if delegated else "builtin kernels, XNNPACK took nothing" if kernels == XNNPACK else f"{kernels} kernels"
        self.ran_on = f"{runtime_version()} CPU ({used})"

    @property
    def _native(self) -> Any:
        """The runtime's own object: only it takes the number of a graph."""
        return self._interpreter._interpreter

    def _chosen(self, signature: str | None) -> tuple[str | None, int]:
        """The signature and its graph; without a name that of the main graph, or (None, 0) where it has none."""
        for name in [signature] if signature is not None else self._interpreter.get_signature_list():
            graph = int(getattr(self._interpreter.get_signature_runner(name), "_subgraph_index", 0))
            if signature is not None or graph == 0:
                return name, graph
        return None, 0

    def _tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        if self._signature is not None:
            runner = self._interpreter.get_signature_runner(self._signature)  # kept, it would count as somebody who reads the tensors
            inputs, outputs = runner.get_input_details(), runner.get_output_details()
            if self.is_main_graph:  # the runtime sorts by name
                order = [tensor["index"] for tensor in self._interpreter.get_output_details()]
                outputs = dict(sorted(outputs.items(), key=lambda output: order.index(output[1]["index"])))
        else:
            inputs = {tensor["name"]: tensor for tensor in self._interpreter.get_input_details()}
            outputs = {tensor["name"]: tensor for tensor in self._interpreter.get_output_details()}
        return {name: Tensor.of(tensor) for name, tensor in inputs.items()}, {name: Tensor.of(tensor) for name, tensor in outputs.items()}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first input."""
        return next(iter(self.inputs.values())).shape

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """The first output for one input of `input_shape`. Quantized inputs and outputs are converted from and to real numbers."""

        return next(self.run_each(pixels))

    def run_each(self, pixels: np.ndarray) -> Iterator[np.ndarray]:
        """Runs one input and gives the outputs one at a time, since many large outputs would not fit into memory together."""
        for output in self.watch(pixels):
            yield output.copy()

    def watch(self, pixels: np.ndarray) -> Iterator[np.ndarray]:
        """The same without copies: an array may be the runtime's own memory, and must be let go of before the next run."""
        self.write({next(iter(self.inputs)): pixels})
        with _in_our_words("run"):
            self._interpreter.invoke()
        for output in self._outputs:
            yield output.real(self._interpreter.tensor(output.index)())

    def write(self, values: Mapping[str, np.ndarray]) -> None:
        """Sets the inputs, by name.

        Raises:
            ValueError: the file has no such input, or one of another shape.
        """
        for name, array in values.items():
            if name not in self.inputs:
                raise ValueError(f"inputs must be among {sorted(self.inputs)}. Received: {name!r}")
            index, stored = self.inputs[name].index, self.inputs[name].stored(array)
            if self.is_main_graph:
                self._interpreter.set_tensor(index, stored)
            else:
                self._native.SetTensor(index, stored, self._graph)

    def invoke(self) -> list[np.ndarray]:
        """One inference on the written inputs. Gives copies of the outputs as the file stores them, which an app waits for too."""
        with _in_our_words("run"):
            if self.is_main_graph:
                self._interpreter.invoke()
            else:
                self._native.Invoke(self._graph)
        return [self._interpreter.get_tensor(tensor.index, self._graph) for tensor in self.outputs.values()]

    def operations(self) -> list[dict]:
        """The runtime's own list of operations, delegate nodes included."""
        return self._operations


def real_outputs(model: Any, raw: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Name -> real numbers, from what `invoke` of an `Interpreter` or a `GpuModel` gave."""
    return {name: tensor.real(values) for (name, tensor), values in zip(model.outputs.items(), raw, strict=True)}


def interleaved_milliseconds(files: Sequence[bytes], threads: int, rounds: int, warmup_rounds: int) -> np.ndarray:
    """[files, rounds]: milliseconds of one inference each. The files take turns in every round."""
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


@dataclasses.dataclass(frozen=True)
class Partitions:
    """How much of a file XNNPACK runs.

    Attributes:
        delegated_ops, total_ops: numbers of operations.
        partitions: how many pieces of the graph XNNPACK runs.
        left_over: operation -> how many are left to builtin kernels.
    """

    delegated_ops: int
    total_ops: int
    partitions: int
    left_over: dict[str, int]


def xnnpack_partitions(file: bytes) -> Partitions:
    """Asks the runtime, by loading the file twice: as apps do, and with a delegate node for each operation to see which are taken."""
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


@contextlib.contextmanager
def _in_our_words(what: str, log: _Log | None = None) -> Iterator[None]:
    """Raises one error of ours for any error of the runtime."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        said = (str(error).strip() or (log.text() if log else "")).splitlines() or [type(error).__name__]
        raise EnvironmentUnusableError(
            f"the runtime cannot {what} the file",
            expected=f"a file whose operations {runtime_version()} knows",
            received=said[-1],
            action="check the file with edge.inspect, or use a newer ai-edge-litert",
        ) from error


class _Log:
    """What was written to a file from an offset on."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._start = descriptor, os.fstat(descriptor).st_size

    def text(self) -> str:
        end = os.fstat(self._descriptor).st_size
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, end - self._start, self._start).decode(errors="replace")
        os.lseek(self._descriptor, self._start, os.SEEK_SET)  # Windows; reading to the end brings the position back
        return os.read(self._descriptor, end - self._start).decode(errors="replace")


@contextlib.contextmanager
def captured_stderr() -> Iterator[_Log]:
    """Catches what native code writes to file descriptor 2: only there do runtimes give their reasons.

    Where it is a file that can be read, as in our own processes, it stays what it is: of a process that dies the last words are there.
    """
    if _is_readable_file(2):
        yield _Log(2)
        return
    with tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield _Log(file.fileno())
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _is_readable_file(descriptor: int) -> bool:
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        os.pread(descriptor, 1, 0)
        return True
    except (OSError, AttributeError):  # closed, only for writing, or a system without pread
        return False
