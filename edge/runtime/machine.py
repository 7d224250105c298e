"""What a measurement ran on, and how busy that was: Linux's own accounts, None where a system does not keep them."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from tfvit import memory


def cpu_name() -> str:
    """For example "AMD EPYC 9V45 96-Core Processor, AVX512-VNNI"; "unknown" where the system does not say."""
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
    """The machine as a report names it."""
    return {
        "cpu": cpu_name(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": usable_cores(),
        "frequency_governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_mb": _memory_mb(),
        "python": platform.python_version(),
    }


def memory_mb(field: str) -> float | None:
    """`tfvit.memory.process_bytes`, to be read."""
    found = memory.process_bytes(field)
    return None if found is None else round(found / 2**20, 1)


def peak_memory_mb() -> int | None:
    """Of this process so far; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kilobytes / (1024 * 1024 if sys.platform == "darwin" else 1024))


def _memory_mb() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (AttributeError, ValueError, OSError):
        return None


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
