"""How busy the machine was with other work while something was measured."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

import psutil


class LoadMeter:
    """How many cores were busy with anything but the processes that were measured.

    Args:
        processes: ids of those that were; this one belongs to them.
    """

    def __init__(self, processes: Iterable[int]) -> None:
        self._processes = [*processes, os.getpid()]
        self._start = self._now()

    def cores(self) -> dict[str, float] | None:
        """`other_cores` and `stolen_cores` since the start, on average; None where the system or a process does not say."""
        end = self._now()
        if self._start is None or end is None or end["elapsed"] <= self._start["elapsed"]:
            return None
        passed = {name: end[name] - self._start[name] for name in end}
        other = max(passed["busy"] - passed["ours"], 0.0)
        return {"other_cores": round(other / passed["elapsed"], 3), "stolen_cores": round(passed["stolen"] / passed["elapsed"], 3)}

    def _now(self) -> dict[str, float] | None:
        """Seconds: of all cores together, and of the clock."""
        try:
            times = psutil.cpu_times()
            ours = [psutil.Process(process).cpu_times() for process in self._processes]
        except (OSError, psutil.Error):
            return None
        return {
            "busy": sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq")),
            "stolen": getattr(times, "steal", 0.0),  # only Linux guests are told
            "ours": sum(one.user + one.system for one in ours),
            "elapsed": time.monotonic(),
        }
