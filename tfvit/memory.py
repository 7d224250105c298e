"""How much memory there is, and a limit that keeps a file from outside from asking for more.

psutil reads the system. Only the peak on Linux is read by hand: psutil has none there, and getrusage also counts the process that started
this one (measured: 811 MB for a process of 13 MB).
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil


def available_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not say."""
    try:
        return psutil.virtual_memory().available
    except OSError:  # no /proc
        return None


def peak_bytes() -> int | None:
    """The most memory that this process has held at once; None where the system does not say."""
    try:
        if sys.platform == "linux":
            found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
            return 1024 * int(found[1]) if found else None
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    except (OSError, ImportError):
        return None


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Inside the `with`, this process can allocate only the memory that is available at the beginning. Asking for more fails.

    Without the limit, Linux promises more memory than it has and later kills some process, not always the one that asked. Other systems
    are not limited.
    """
    available, taken = available_bytes(), _private_bytes()
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


def _private_bytes() -> int | None:
    """Private memory of this process, used or not: what RLIMIT_DATA counts, and the stack."""
    try:
        return getattr(psutil.Process().memory_info(), "data", None)
    except (OSError, psutil.Error):
        return None
