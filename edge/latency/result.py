"""Files on one delegate measured in turns: one result row for each."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.artifacts import artifact, atomic_files
from edge.latency import protocol
from edge.latency.load import LoadMeter
from edge.latency.protocol import Preset
from edge.runtime.process import OK, LatencyProcess, difference_from
from tfvit.errors import InputError
from tfvit.hashing import file_sha256
from tfvit.progress import advance, counted, step

WRONG = "wrong"


# Outputs against another delegate's, |difference| / |output| in the L2 norm. In float32 only the order of additions differs; float16 and
# integers round differently in every kernel, which a noise image shows more than a photo. Broken files are off by 0.5 and more.
MOST_DIFFERENCE, MOST_ROUNDED_DIFFERENCE = 1e-3, 0.15


@dataclasses.dataclass(frozen=True)
class Turn:
    """Files that take turns: the same delegate and threads."""

    delegate: str
    threads: int | None

    def __str__(self) -> str:
        return f"{self.delegate}, {self.threads} thread{'s' if self.threads != 1 else ''}" if self.threads else self.delegate


def measured(turn: Turn, files: Sequence[Path], preset: Preset, sustained_minutes: float | None) -> Iterator[tuple[dict[str, Any], Any]]:
    """One result of CONTRACT for every file, and its times (None where it did not run).

    Args:
        turn: on what.
        files: they take turns; ratios are to the first.
        preset: how long.
        sustained_minutes: each file alone without a pause for so long, instead of in turns.
    """
    with contextlib.ExitStack() as stack:
        with step("load", total=len(files), subject=str(turn)):
            loaded = [_load(file, turn, stack) for file in counted(files)]
        runners = {file: process for file, process, _ in loaded if process.loaded.status == OK}
        times, loads = _alone(runners, turn, sustained_minutes) if sustained_minutes else _in_turns(runners, turn, preset)
        first = times.get(files[0])
        for file, process, difference in loaded:
            own = times.get(file)
            result = _result(file, turn, process, difference, own, preset, loads.get(file))
            ratio: tuple[float | None, ...] = (None, None, None)
            if own is not None and first is not None and not process.loaded.software_gpu and not sustained_minutes:
                ratio = protocol.ratio(own, first)
            result |= dict(zip(("ratio", "ratio_low", "ratio_high"), ratio, strict=True))
            if sustained_minutes and own is not None:
                result |= {"curve": protocol.curve(own), "slowdown": protocol.drift_over_rounds(own)}
            yield result, own


def _load(file: Path, turn: Turn, stack: contextlib.ExitStack) -> tuple[Path, LatencyProcess, float | None]:
    """A file in its process, and how far its outputs are from another delegate's."""
    process = stack.enter_context(LatencyProcess(file, turn.delegate, turn.threads or 1))
    return file, process, difference_from(_counterpart(turn.delegate), process, file) if process.loaded.status == OK else None


def _in_turns(runners: Mapping[Path, LatencyProcess], turn: Turn, preset: Preset) -> tuple[dict[Path, Any], dict[Path, Any]]:
    """Times and load of every file."""
    if not runners:
        return {}, {}
    meter = LoadMeter([process.pid for process in runners.values()])
    with _shares(f"measure {len(runners)} files in turns" if len(runners) > 1 else "measure", str(turn)) as on_share:
        times = protocol.interleaved(list(runners.values()), preset, on_share)
    return dict(zip(runners, times, strict=True)), dict.fromkeys(runners, meter.cores())


def _alone(runners: Mapping[Path, LatencyProcess], turn: Turn, minutes: float) -> tuple[dict[Path, Any], dict[Path, Any]]:
    """Times and load of every file, without a pause."""
    times, loads = {}, {}
    for file, process in runners.items():
        meter = LoadMeter([process.pid])
        with _shares("run without a pause", f"{file.stem}, {turn}") as on_share:
            times[file] = protocol.sustained(process, 60.0 * minutes, on_share)
        loads[file] = meter.cores()
    return times, loads


def _counterpart(delegate: str) -> str:
    """Whose outputs a delegate's are compared with."""
    return "builtin" if delegate == "cpu" else "cpu"


def _result(file: Path, turn: Turn, process: Any, difference: Any, times: Any, preset: Any, load: Any) -> dict[str, Any]:
    loaded, ended = process.loaded, {}
    status, reason = loaded.status, loaded.reason
    if times is not None:
        ended = process.finish()
        float32 = not ended["quantized"] and turn.delegate != "gpu"
        most = MOST_DIFFERENCE if float32 else MOST_ROUNDED_DIFFERENCE
        if difference is not None and not difference <= most:  # NaN is not
            status, reason = (
                WRONG,
                f"outputs differ from {_counterpart(turn.delegate)}'s by {difference:.2g} of their size, at most {most:g}",
            )
    return {
        "file": atomic_files.utf8_name(file),
        "sha256": file_sha256(file),
        "size_bytes": file.stat().st_size,
        "random_weights": _has_random_weights(file),
        "delegate": turn.delegate,
        "ran_on": loaded.ran_on,
        "threads": turn.threads,
        "status": status,
        "reason": reason,
        "refused": [{"op": operation, "reason": why} for operation, why in loaded.refused],
        "software_gpu": loaded.software_gpu,
        "init_ms": loaded.init_ms,
        "first_inference_ms": loaded.first_inference_ms,
        "compared_with": None if difference is None else _counterpart(turn.delegate),
        "relative_l2_difference": difference if difference is not None and math.isfinite(difference) else None,
        "load": load,
        **(protocol.document(times, preset, load) if times is not None else protocol.nothing_measured()),
        **{name: ended.get(name) for name in ("peak_mem_mb", "delegated_ops", "total_ops", "partitions")},
    }


@contextlib.contextmanager
def _shares(name: str, subject: str) -> Iterator[Callable[[float], None]]:
    """A step whose progress comes as a share, 0 to 1."""
    with step(name, total=100, subject=subject):
        done = 0

        def on_share(share: float) -> None:
            nonlocal done
            for _ in range(int(100 * share) - done):
                advance()
            done = max(done, int(100 * share))

        yield on_share


def _has_random_weights(file: Path) -> bool | None:
    """From the manifest; None where there is none that fits."""
    try:
        return bool(artifact.load(file).manifest["weights"]["random"])
    except (InputError, KeyError):
        return True if file.name.endswith(".random.tflite") else None
