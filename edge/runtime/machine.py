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
    """For example "AMD EPYC 9V45 96-Core Processor, AVX512-VNNI"; "unknown" if the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    fields = ("model name", "Hardware", "Model")
    found = (line.split(":", 1)[1].strip() for field in fields for line in lines if line.startswith(field))
    model = next(found, platform.machine() or "unknown")
    flags = next((line for line in lines if line.startswith("flags")), "")
    return f"{model}{', AVX512-VNNI' if 'avx512_vnni' in flags else ''}"


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
