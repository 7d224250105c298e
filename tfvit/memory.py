"""How much memory there is, and no more than that for what a file from outside asks for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


def available_bytes() -> int | None:
    """What can be had without swapping; None where the system does not say."""
    return _bytes("/proc/meminfo", "MemAvailable")


def process_bytes(field: str) -> int | None:
    """Of this process: `VmRSS` now, `VmHWM` at most so far, `VmData` of private memory, used or not; None where the system does not say."""
    return _bytes("/proc/self/status", field)


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """While it lasts, this process gets no more memory than is available when it begins: asking for more fails.

    Without it, a system that promises more than it has ends some process, not always the one that asked. Linux only; elsewhere nothing is
    limited.
    """
    available, taken = available_bytes(), process_bytes("VmData")
    if available is None or taken is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = min(limit for limit in (soft, hard, taken + available) if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _bytes(path: str, field: str) -> int | None:
    """A line of the kernel's tables, in bytes."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), None)
