"""Files on one delegate measured in turns: one result row for each."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.runtime.process import OK, difference_from
from tfvit.errors import InputError
from tfvit.hashing import file_sha256
from tfvit.terminal import Terminal

WRONG = "wrong"


# Outputs against another delegate's, |difference| / |output| in the L2 norm. In float32 only the order of additions differs; float16 and
# integers round differently in every kernel, which a noise image shows more than a photo. Broken files are off by 0.5 and more.
MOST_DIFFERENCE, MOST_ROUNDED_DIFFERENCE = 1e-3, 0.15


@dataclasses.dataclass(frozen=True)
class Turn:
    """Files that take turns: the same delegate and threads."""

    delegate: str
    threads: int | None


def measured(group: Turn, arguments: argparse.Namespace, preset: Any, terminal: Terminal) -> Iterator[tuple[dict[str, Any], Any]]:
    """One result of CONTRACT for every file, and its times (None where it did not run)."""
    from edge.latency import protocol
    from edge.latency.load import LoadMeter
    from edge.runtime.process import LatencyProcess

    words = f"{group.delegate}, {group.threads} thread{'s' if group.threads != 1 else ''}" if group.threads else group.delegate
    with contextlib.ExitStack() as stack:
        processes, differences = [], []
        with terminal.progress.stage("load", total=len(arguments.files), subject=words) as advance:
            for file in arguments.files:
                process = stack.enter_context(LatencyProcess(file, group.delegate, group.threads or 1))
                processes.append(process)
                differences.append(difference_from(_counterpart(group.delegate), process, file) if process.loaded.status == OK else None)
                advance()
        runners = [process for process in processes if process.loaded.status == OK]
        times: dict[int, Any] = {}
        loads: dict[int, Any] = {}
        label = f"measure {len(runners)} files in turns" if len(runners) > 1 else "measure"
        if runners and arguments.sustained:
            for process in runners:
                meter = LoadMeter([process.pid])
                with _shares(terminal, "run without a pause", f"{arguments.files[processes.index(process)].stem}, {words}") as on_share:
                    times[process.pid] = protocol.sustained(process, 60.0 * arguments.sustained, on_share)
                loads[process.pid] = meter.cores()
        elif runners:
            meter = LoadMeter([process.pid for process in runners])
            with _shares(terminal, label, words) as on_share:
                measured = protocol.interleaved(runners, preset, on_share)
            times = {process.pid: one for process, one in zip(runners, measured, strict=True)}
            loads = dict.fromkeys(times, meter.cores())
        first = times.get(processes[0].pid)
        for file, process, difference in zip(arguments.files, processes, differences, strict=True):
            own = times.get(process.pid)
            result = _result(file, group, process, difference, own, preset, loads.get(process.pid))
            ratio: tuple[float | None, ...] = (None, None, None)
            if own is not None and first is not None and not process.loaded.software_gpu and not arguments.sustained:
                ratio = protocol.ratio(own, first)
            result |= dict(zip(("ratio", "ratio_low", "ratio_high"), ratio, strict=True))
            if arguments.sustained and own is not None:
                result |= {"curve": protocol.curve(own), "slowdown": protocol.drift_over_rounds(own)}
            yield result, own


def _counterpart(delegate: str) -> str:
    """Whose outputs a delegate's are compared with."""
    return "builtin" if delegate == "cpu" else "cpu"


def _result(file: Path, group: Turn, process: Any, difference: Any, times: Any, preset: Any, load: Any) -> dict[str, Any]:
    from edge.artifacts import atomic_files
    from edge.latency import protocol

    loaded, ended = process.loaded, {}
    status, reason = loaded.status, loaded.reason
    if times is not None:
        ended = process.finish()
        float32 = not ended["quantized"] and group.delegate != "gpu"
        most = MOST_DIFFERENCE if float32 else MOST_ROUNDED_DIFFERENCE
        if difference is not None and not difference <= most:  # NaN is not
            status, reason = (
                WRONG,
                f"outputs differ from {_counterpart(group.delegate)}'s by {difference:.2g} of their size, at most {most:g}",
            )
    return {
        "file": atomic_files.utf8_name(file),
        "sha256": file_sha256(file),
        "size_bytes": file.stat().st_size,
        "random_weights": _has_random_weights(file),
        "delegate": group.delegate,
        "ran_on": loaded.ran_on,
        "threads": group.threads,
        "status": status,
        "reason": reason,
        "refused": [{"op": operation, "reason": why} for operation, why in loaded.refused],
        "software_gpu": loaded.software_gpu,
        "init_ms": loaded.init_ms,
        "first_inference_ms": loaded.first_inference_ms,
        "compared_with": None if difference is None else _counterpart(group.delegate),
        "relative_l2_difference": difference if difference is not None and math.isfinite(difference) else None,
        "load": load,
        **(protocol.document(times, preset, load) if times is not None else protocol.nothing_measured()),
        **{name: ended.get(name) for name in ("peak_mem_mb", "delegated_ops", "total_ops", "partitions")},
    }


@contextlib.contextmanager
def _shares(terminal: Terminal, name: str, subject: str) -> Iterator[Any]:
    """A stage whose progress comes as a share, 0 to 1."""
    with terminal.progress.stage(name, total=100, subject=subject) as advance:
        done = 0

        def on_share(share: float) -> None:
            nonlocal done
            for _ in range(int(100 * share) - done):
                advance()
            done = max(done, int(100 * share))

        yield on_share


def _has_random_weights(file: Path) -> bool | None:
    """From the manifest; None where there is none that fits."""
    from edge.artifacts import artifact

    try:
        return bool(artifact.load(file).manifest["weights"]["random"])
    except (InputError, KeyError):
        return True if file.name.endswith(".random.tflite") else None
