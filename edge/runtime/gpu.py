"""Runs a `.tflite` on the GPU alone: LiteRT's CompiledModel over WebGPU (Vulkan, Metal or Direct3D).

LiteRT may call a model fully accelerated although some operations run on the CPU, if it may use both; so it gets the GPU alone. The reasons
for refusing a model are only in what LiteRT prints. A machine without a GPU says nothing about the file: "unavailable" is not "refused".
The driver's threads stay until the process ends, so measurements need a process of their own (`edge.runtime.process`).
"""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge.runtime.child import last_error
from edge.runtime.cpu import Tensor, captured_stderr, runtime_version
from tfvit.errors import EnvironmentUnusableError
from tfvit.extras import install_command

F32, F16 = "f32", "f16"

_ADAPTER = re.compile(r"Selected adapter: ([^\n]+)")
_SHADER_ERROR = re.compile(r"Validation error: ([^\n]+)")
_REFUSED_LIST = re.compile(r"not supported by GPU delegate:\n(.*?)(?:^(?:\d+|No) operations? will run on|\Z)", re.DOTALL | re.MULTILINE)
_REFUSED_LINE = re.compile(r"^([A-Z0-9_]+): (.+)$", re.MULTILINE)
# How LiteRT says that it cannot read a file, on whatever accelerator; and that the delegate wants sizes beforehand
_UNREADABLE, _DYNAMIC = "Failed to load model", "a graph that has dynamic-sized tensors"
# How a driver that computes on the CPU gives itself away
_SOFTWARE = re.compile(r"adapterType=CPU|llvmpipe|lavapipe|SwiftShader|arch=software", re.IGNORECASE)


class GpuUnavailableError(EnvironmentUnusableError):
    """This machine has no GPU that LiteRT can use. The file may be fine."""


class GpuRefusedError(EnvironmentUnusableError):
    """The GPU delegate does not take the file, or cannot compile what it took.

    Attributes:
        refused: (operation, reason) pairs that the delegate printed; may be empty.
    """

    def __init__(self, refused: list[tuple[str, str]], received: str) -> None:
        super().__init__(
            "the GPU delegate refuses the file",
            expected="a file whose every operation it takes",
            received=received,
            action="python -m edge.inspect names the operations, their layers and the way out",
        )
        self.refused = refused


class GpuModel:
    """A file compiled for the GPU alone.

    Args:
        file: the bytes of a `.tflite`.
        precision: `F16` (the default of apps) or `F32`.
        signature: the name of one; the first by default.
        shapes: input -> shape, of inputs that are to have another shape than in the file.

    Attributes:
        inputs, outputs: as in `edge.runtime.cpu.Interpreter`.
        adapter: the device, in the driver's words.
        is_software: whether the device is a CPU. Its outputs count, its milliseconds do not.
        ran_on: runtime, version, precision and device, in words.

    Raises:
        GpuUnavailableError: there is no device.
        GpuRefusedError: the delegate does not take the whole file.
    """

    def __init__(
        self,
        file: bytes,
        precision: str = F16,
        signature: str | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        try:
            from ai_edge_litert.compiled_model import CompiledModel
            from ai_edge_litert.hardware_accelerator import HardwareAccelerator
            from ai_edge_litert.options import GpuOptions, Options
        except ImportError as error:
            raise GpuUnavailableError(
                "no GPU runtime",
                expected="the package ai-edge-litert with its GPU accelerator",
                received=str(error),
                action=f"{install_command('edge')}; LiteRT has no GPU on every platform",
            ) from error
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
        options = Options(hardware_accelerators=HardwareAccelerator.GPU, gpu_options=GpuOptions(enforce_f32=precision == F32))
        failure = None
        with captured_stderr() as log:
            try:
                self._model = CompiledModel.from_buffer(file, options=options)
                self._signature = signature or next(iter(self._model.get_signature_list()))
                self._number = self._model.get_signature_index(self._signature)
                for name, shape in (shapes or {}).items():
                    self._model.resize_input_tensor_by_name(self._signature, name, list(shape))
                self._buffers = self._model.create_input_buffers(self._number), self._model.create_output_buffers(self._number)
            except (RuntimeError, StopIteration) as error:
                failure = error
            messages = log.text()
        # the file is read before a device is looked for
        if failure is not None and _UNREADABLE in str(failure):
            raise GpuRefusedError([], last_error(messages)) from failure
        self.adapter = _first(_ADAPTER, messages)
        if self.adapter is None:
            raise GpuUnavailableError(
                "no GPU that LiteRT can use",
                expected="a Vulkan, Metal or Direct3D device",
                received=_first(re.compile(r"(No adapters found|VK_ERROR_\w+)"), messages) or str(failure).splitlines()[-1],
                action="run on a machine with one, or set up a software device with scripts/software_vulkan.sh",
            ) from failure
        refused, shader = refusals(messages), _first(_SHADER_ERROR, messages)
        if failure is not None or refused or shader or not self._model.is_fully_accelerated():
            dynamic = "the size of a tensor is only known when the file is run" if _DYNAMIC in messages else None
            received = "; ".join(f"{operation}: {reason}" for operation, reason in refused[:3]) or shader or dynamic
            received = received or _last_error(messages, failure)
            raise GpuRefusedError(refused, received) from failure
        self.is_software = bool(_SOFTWARE.search(self.adapter))
        names = self._model.get_signature_list()[self._signature]
        inputs, outputs = self._model.get_input_tensor_details(self._signature), self._model.get_output_tensor_details(self._signature)
        view = _graph_of(file, self._signature)
        self.inputs = {name: _tensor(view, inputs[name]) for name in names["inputs"]}
        self.outputs = {name: _tensor(view, outputs[name]) for name in names["outputs"]}
        device = f"{self.adapter.split(', arch=')[0]}{', a software GPU' if self.is_software else ''}"
        self.ran_on = f"{runtime_version()} GPU alone, {precision}: {device}"

    def write(self, values: Mapping[str, np.ndarray]) -> None:
        """Sets the inputs, by name.

        Raises:
            ValueError: the file has no such input, or one of another shape.
        """
        for name, buffer in zip(self.inputs, self._buffers[0], strict=True):
            if name in values:
                buffer.write(np.ascontiguousarray(self.inputs[name].stored(values[name])))
        unknown = set(values) - set(self.inputs)
        if unknown:
            raise ValueError(f"inputs must be among {sorted(self.inputs)}. Received: {sorted(unknown)}")

    def invoke(self) -> list[np.ndarray]:
        """One inference with its outputs read back; without reading, the GPU may not have begun.

        Raises:
            GpuRefusedError: the driver could not run the compiled model.
        """
        try:
            self._model.run_by_index(self._number, *self._buffers)
            return [
                buffer.read(int(np.prod(tensor.shape)), tensor.dtype).reshape(tensor.shape)
                for tensor, buffer in zip(self.outputs.values(), self._buffers[1], strict=True)
            ]
        except RuntimeError as error:
            raise GpuRefusedError([], str(error).splitlines()[-1]) from error


def refusals(messages: str) -> list[tuple[str, str]]:
    """Different (operation, reason) pairs that the delegate printed as unsupported."""
    found = [pair for block in _REFUSED_LIST.findall(messages) for pair in _REFUSED_LINE.findall(block)]
    return list(dict.fromkeys((operation, reason.strip()) for operation, reason in found))


def _graph_of(file: bytes, signature: str) -> Any:
    """The file with the graph of a signature as its only one."""
    from edge.tflite import flatbuffer  # needs ai-edge-litert, which this module says is missing in words of its own

    model = flatbuffer.read_model(file)
    return flatbuffer.graph(model, flatbuffer.signatures(model).get(signature, 0))


def _tensor(view: Any, details: Mapping[str, Any]) -> Tensor:
    """A tensor from the compiled model's details, with the scale of integers, which they lack, from the file."""
    from edge.tflite import flatbuffer

    tensor = Tensor.of(details)
    parameters = flatbuffer.quantization(view, tensor.index) if tensor.dtype.kind in "iu" else None
    if parameters is None:
        return tensor
    return dataclasses.replace(tensor, scale=float(parameters["scale"]), zero_point=int(parameters["zero_point"]))


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    return found.group(1).strip() if found else None


def _last_error(messages: str, failure: Exception | None) -> str:
    errors = [line for line in messages.splitlines() if line.startswith(("ERROR", "E0"))]
    words = (errors or str(failure).splitlines() or [""])[-1]
    return re.sub(r"^E\d+ \S+ +\d+ |^ERROR: ", "", words)
