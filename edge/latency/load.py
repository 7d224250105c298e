"""How busy the machine was with other work while something was measured (Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class LoadMeter:
    """How many cores were busy with anything but the processes that were measured.

    Args:
        processes: ids of those that were; this one belongs to them.
    """

    def __init__(self, processes: Iterable[int]) -> None:
        self._processes = [*processes, os.getpid()]
        self._start = self._now()

    def cores(self) -> dict[str, float] | None:
        """`other_cores` and `stolen_cores` since the start, on average."""
        end = self._now()
        if self._start is None or end is None or end["elapsed"] <= self._start["elapsed"]:
            return None
        passed = {name: end[name] - self._start[name] for name in end}
        seconds = passed["elapsed"] * _TICKS
        other = max(passed["busy"] - passed["ours"], 0.0)
        return {"other_cores": round(other / seconds, 3), "stolen_cores": round(passed["stolen"] / seconds, 3)}

    def _now(self) -> dict[str, float] | None:
        try:
            # user nice system idle iowait irq softirq steal, in ticks
            fields = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
            elapsed = float(Path("/proc/uptime").read_text().split()[0])
            ours = sum(_ticks_of(process) for process in self._processes)
        except (OSError, ValueError, IndexError):
            return None
        user, nice, system, _, _, irq, softirq, stolen = fields
        return {"busy": user + nice + system + irq + softirq, "stolen": stolen, "ours": ours, "elapsed": elapsed}


def _ticks_of(process: int) -> int:
    """User and system time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
