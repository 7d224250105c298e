"""Asks Arm's compiler for Ethos-U (Vela, the extra `npu`) what of a file the NPU computes, and what it estimates that takes.

Milliseconds and memory are the compiler's model of the NPU and its memory, not measurements.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from edge.artifacts.atomic_files import scratch_folder
from edge.tflite import flatbuffer
from tfvit.errors import EnvironmentUnusableError, unknown_name
from tfvit.extras import require_extra

ACCELERATORS = (
    "ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256", "ethos-u65-256", "ethos-u65-512",
    "ethos-u85-128", "ethos-u85-256", "ethos-u85-512", "ethos-u85-1024", "ethos-u85-2048",
)  # fmt: skip
_MODULE, _PACKAGE = "ethosu.vela", "ethos-u-vela"
_LEFT = re.compile(r"operator: (?P<op>\w+), ofm: '(?P<tensor>[^\n]*)'\nReason: (?P<reason>(?:[^\n]+\n)+)")
_ON_NPU = "ethos-u"  # the custom operation of what was compiled


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler said of a file.

    Attributes:
        compiler: name and version.
        accelerator: of `ACCELERATORS`.
        operations: of the file.
        on_cpu: those that stay on the CPU: (operation, tensor, Keras layer, reason).
        parts: how many pieces of the graph the NPU gets.
        estimated_ms: one inference, by the compiler's model of the NPU; without what stays on the CPU.
        sram_kib, dram_kib: by the same model.
        memory: the system and memory configuration that the estimate is for.
    """

    compiler: str
    accelerator: str
    operations: int
    on_cpu: tuple[dict[str, str], ...]
    parts: int
    estimated_ms: float
    sram_kib: float
    dram_kib: float
    memory: str


def is_installed() -> bool:
    return importlib.util.find_spec(_MODULE.partition(".")[0]) is not None


def known(accelerator: str) -> str:
    """The accelerator.

    Raises:
        UsageError: there is none of that name; near misses are named.
    """
    if accelerator not in ACCELERATORS:
        raise unknown_name("NPU", accelerator, ACCELERATORS)
    return accelerator


def compiled(file: bytes, accelerator: str) -> Compiled:
    """Compiles a `.tflite` for an Ethos-U.

    Raises:
        UsageError: no such accelerator.
        EnvironmentUnusableError: the compiler is not installed, or fails on the file.
    """
    known(accelerator)
    require_extra("npu", "compiling for an NPU", "ethosu")
    with scratch_folder() as folder:
        source = folder / "file.tflite"
        source.write_bytes(file)
        command = [sys.executable, "-m", _MODULE, str(source), "--accelerator-config", accelerator, "--output-dir", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        summaries = sorted(folder.glob("file_summary_*.csv"))
        if done.returncode or not summaries:
            raise EnvironmentUnusableError(
                "the compiler for Ethos-U fails on the file",
                expected="a compiled file",
                received=((done.stderr or done.stdout).strip().splitlines() or ["nothing"])[-1],
                action=f"python -m {_MODULE} FILE --accelerator-config {accelerator} shows all it says",
            )
        return _read(file, accelerator, done.stdout + done.stderr, summaries[0], (folder / "file_vela.tflite").read_bytes())


def _read(file: bytes, accelerator: str, said: str, summary: Path, result: bytes) -> Compiled:
    (row,) = csv.DictReader(summary.open())
    left = [
        {
            "op": found["op"],
            "tensor": found["tensor"],
            "layer": flatbuffer.keras_layer(found["tensor"]),
            "reason": re.sub(r"  IFM: [\d, ]+", "", "; ".join(found["reason"].strip().splitlines())),
        }
        for found in _LEFT.finditer(said)
    ]
    names = [name for name, _ in flatbuffer.operators(flatbuffer.read_model(result))]
    if sum(name != _ON_NPU for name in names) != len(left):
        raise ValueError(f"a reason for every operation on the CPU. Received: {len(left)} reasons, operations {names}")
    return Compiled(
        compiler=f"{_PACKAGE} {importlib.metadata.version(_PACKAGE)}",
        accelerator=accelerator,
        operations=len(flatbuffer.read_model(file).subgraphs[0].operators),
        on_cpu=tuple(left),
        parts=names.count(_ON_NPU),
        estimated_ms=round(1e3 * float(row["inference_time"]), 4),
        sram_kib=float(row["sram_memory_used"]),
        dram_kib=float(row["dram_memory_used"]),
        memory=f"{row['system_config']}, {row['memory_mode']}",
    )
