"""Files on one delegate measured in turns: one result row for each."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edge.artifacts import artifact, atomic_files
from edge.latency import protocol
from edge.latency.agreement import Judgement, judged
from edge.latency.load import LoadMeter
from edge.latency.protocol import Preset
from edge.latency.subject import Subject
from edge.runtime import machine
from edge.runtime.process import OK, LatencyProcess
from tfvit.errors import EnvironmentUnusableError, InputError
from tfvit.hashing import file_sha256
from tfvit.progress import advance, counted, step

WRONG, FAILED = "wrong", "refused"
# Processes that are held at once: with each other file waits in memory for its turn
MOST_AT_ONCE = 8


@dataclasses.dataclass(frozen=True)
class Turn:
    """Files that take turns: the same delegate and threads."""

    delegate: str
    threads: int | None

    def __str__(self) -> str:
        return f"{self.delegate}, {self.threads} thread{'s' if self.threads != 1 else ''}" if self.threads else self.delegate


class _Contestant:
    """A loaded file with its judgement. A failure while it is timed is kept, and what was timed before it too."""

    def __init__(self, file: Subject, process: LatencyProcess, judgement: Judgement) -> None:
        self.file, self.process, self.judgement = file, process, judgement
        self.failure: str | None = None

    def burst(self, min_runs: int, min_seconds: float, discarded: int) -> Sequence[float]:
        if self.failure is None:
            try:
                return self.process.burst(min_runs, min_seconds, discarded)
            except EnvironmentUnusableError as error:
                self.failure = str(error.received)
        return ()


def measured(turn: Turn, files: Sequence[Subject], preset: Preset, sustained_minutes: float | None) -> Iterator[tuple[dict[str, Any], Any]]:
    """One result of CONTRACT for every file, and its times (None where it did not run).

    Args:
        turn: on what.
        files: they take turns; ratios are to the first. Of many files, the first takes turns with a few at a time.
        preset: how long.
        sustained_minutes: each file alone without a pause for so long, instead of in turns.
    """
    yield from _measured(turn, files[:MOST_AT_ONCE], preset, sustained_minutes)
    for start in range(MOST_AT_ONCE, len(files), MOST_AT_ONCE - 1):
        _again, *rest = _measured(turn, [files[0], *files[start : start + MOST_AT_ONCE - 1]], preset, sustained_minutes)
        yield from rest


def _measured(
    turn: Turn, files: Sequence[Subject], preset: Preset, sustained_minutes: float | None
) -> Iterator[tuple[dict[str, Any], Any]]:
    with contextlib.ExitStack() as stack:
        with step("load", total=len(files), subject=str(turn)):
            loaded = [_load(file, turn, stack) for file in counted(files)]
        runners = [one for one in loaded if one.process.loaded.status == OK]
        times, load = _alone(runners, turn, sustained_minutes) if sustained_minutes else _in_turns(runners, turn, preset)
        first = times.get(files[0].path)
        for one in loaded:
            own = times.get(one.file.path)
            result = _result(one, turn, own, preset, load.get(one.file.path))
            ratio: tuple[float | None, ...] = (None, None, None)
            if own is not None and first is not None and not one.process.loaded.software_gpu and not sustained_minutes:
                ratio = protocol.ratio(own, first)
            result |= dict(zip(("ratio", "ratio_low", "ratio_high"), ratio, strict=True))
            if sustained_minutes and own is not None:
                result |= {"curve": protocol.curve(own), "slowdown": protocol.drift_over_rounds(own)}
            yield result, own


def _load(file: Subject, turn: Turn, stack: contextlib.ExitStack) -> _Contestant:
    """A file in its process, and how far its outputs are from another delegate's."""
    process = stack.enter_context(LatencyProcess(file.path, turn.delegate, turn.threads or 1, run=file.run))
    return _Contestant(file, process, judged(process, turn.delegate, file) if process.loaded.status == OK else Judgement())


def _in_turns(runners: Sequence[_Contestant], turn: Turn, preset: Preset) -> tuple[dict[Path, Any], dict[Path, Any]]:
    """Times and load of every file that ran to the end."""
    if not runners:
        return {}, {}
    meter = LoadMeter([one.process.pid for one in runners])
    with _shares(f"measure {len(runners)} files in turns" if len(runners) > 1 else "measure", str(turn)) as on_share:
        times = protocol.interleaved(runners, preset, on_share)
    paths = [one.file.path for one in runners]
    kept = {path: one for path, one in zip(paths, times, strict=True) if len(one.all)}
    return kept, dict.fromkeys(paths, meter.cores())


def _alone(runners: Sequence[_Contestant], turn: Turn, minutes: float) -> tuple[dict[Path, Any], dict[Path, Any]]:
    """Times and load of every file, without a pause."""
    times, loads = {}, {}
    for one in runners:
        meter = LoadMeter([one.process.pid])
        with _shares("run without a pause", f"{one.file.path.stem}, {turn}") as on_share:
            found = protocol.sustained(one, 60.0 * minutes, on_share)
        if len(found.all):
            times[one.file.path] = found
        loads[one.file.path] = meter.cores()
    return times, loads


def _result(one: _Contestant, turn: Turn, times: Any, preset: Any, load: Any) -> dict[str, Any]:
    file, loaded, judgement = one.file.path, one.process.loaded, one.judgement
    status, reason, remarks = loaded.status, loaded.reason, _remarks(one, turn)
    if judgement.wrong:
        status, reason = WRONG, judgement.wrong
    if one.failure is not None:
        status, reason = FAILED, f"its process failed while it was measured: {one.failure}"
    ended: dict[str, Any] = {}
    if times is not None and one.failure is None:
        try:
            ended = one.process.finish()
        except EnvironmentUnusableError as error:
            remarks.append(f"its memory and operations are not known: {error.received}")
    timed = protocol.document(times, preset, load) if times is not None else protocol.nothing_measured()
    if one.failure is not None:
        timed["valid"] = False
    return {
        "file": atomic_files.utf8_name(file),
        "sha256": loaded.sha256 or file_sha256(file),
        "size_bytes": loaded.size_bytes or file.stat().st_size,
        "random_weights": _has_random_weights(file),
        "signature": one.file.run.signature,
        "delegate": turn.delegate,
        "ran_on": loaded.ran_on,
        "threads": turn.threads,
        "status": status,
        "reason": reason,
        "refused": [{"op": operation, "reason": why} for operation, why in loaded.refused],
        "software_gpu": loaded.software_gpu,
        "init_ms": loaded.init_ms,
        "first_inference_ms": loaded.first_inference_ms,
        "inputs": one.file.inputs,
        "compared_with": judgement.compared_with,
        "relative_l2_difference": judgement.difference if _is_finite(judgement.difference) else None,
        "remarks": remarks,
        "load": load,
        **timed,
        **{name: ended.get(name) for name in ("peak_mem_mb", "delegated_ops", "total_ops", "partitions")},
    }


def _remarks(one: _Contestant, turn: Turn) -> list[str]:
    """What a reader should know of a row that is right."""
    found, cores = [], machine.usable_cores()
    if turn.threads and turn.threads > cores:
        found.append(f"{turn.threads} threads on {cores} core{'s' if cores != 1 else ''}: they wait for each other")
    if len(one.file.signatures) > 1:
        others = [name for name in one.file.signatures if name != one.file.run.signature]
        found.append(f"signature {one.file.run.signature}; the file has {', '.join(others)} too (--signature)")
    if one.process.loaded.status == OK and one.judgement.compared_with is None and one.judgement.words:
        found.append(one.judgement.words)
    return found


def _is_finite(number: float | None) -> bool:
    return number is not None and math.isfinite(number)


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
