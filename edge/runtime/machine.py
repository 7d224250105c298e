"""The machine that a measurement ran on.

psutil knows neither the processor's name nor the frequency governor. Both are read by hand, on Linux only.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import psutil

from tfvit import memory


def cpu_name() -> str:
    """For example "AMD EPYC 9V45 96-Core Processor, AVX512-VNNI"; "unknown" if the system does not say.

    Where a virtual machine hides the number ("AMD EPYC") family and model stand for it: processors of that name differ by a factor of two.
    """
    try:
        return _named(Path("/proc/cpuinfo").read_text())
    except OSError:
        return platform.processor() or "unknown"


def _named(cpuinfo: str) -> str:
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        field, _, value = line.partition(":")
        fields.setdefault(field.strip(), value.strip())
    model = next((fields[field] for field in ("model name", "Hardware", "Model") if fields.get(field)), platform.machine() or "unknown")
    if "cpu family" in fields and not any(character.isdigit() for character in model):
        model += f" (family {fields['cpu family']}, model {fields.get('model')})"
    flags = fields.get("flags", "").split()
    return ", ".join([model, *(words for flag, words in (("avx512_vnni", "AVX512-VNNI"), ("amx_int8", "AMX")) if flag in flags)])


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment() -> dict[str, Any]:
    """The machine as reports name it; None for what the system does not say."""
    return {
        "cpu": cpu_name(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": usable_cores(),
        "frequency_governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_mb": psutil.virtual_memory().total // 2**20,
        "python": platform.python_version(),
    }


def peak_memory_mb() -> int | None:
    """The most memory that this process has held at once."""
    peak = memory.peak_bytes()
    return None if peak is None else round(peak / 2**20)


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
