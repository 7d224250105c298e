"""One measuring protocol for every runtime, and what can be said of the times it gives. Nothing here knows how a model is run.

Files take turns in rounds, one burst each a round, so that whatever the machine does besides hits all of them alike; ratios are taken round
by round. Warming up ends when it has been seen to end, not after a number of runs.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

# A burst is long enough that a timer's resolution and a process switch weigh nothing
BURST_SECONDS = 0.1
BURST_RUNS = 3
# Warm-up has ended when a burst is no faster than the fastest before it by more than this, and given up after so many seconds
SETTLED = 0.1
WARMUP_BURSTS, MOST_WARMUP_SECONDS = 3, 10.0
# (p90 - p5) / median of a quiet machine is below 0.1; beyond this, medians of two runs no longer agree to a few percent
MOST_SPREAD = 0.4
# Median of the last third of the rounds against the first third: thermal throttling shows here
MOST_DRIFT = 0.1
# Cores that other processes, or other machines on the same host, may keep busy
MOST_LOAD_CORES, MOST_STOLEN_CORES = 0.25, 0.05
_INTERVAL_DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class Preset:
    """How long to measure: until both are reached.

    Attributes:
        min_runs: timed inferences. min_seconds: of timed inference.
        headline: the percentile a table shows first.
    """

    min_runs: int
    min_seconds: float
    headline: int = 50


PRESETS = {
    "quick": Preset(10, 1.0),
    "default": Preset(50, 5.0),
    # MLPerf Mobile's single stream: 1024 samples and 60 seconds, 90th percentile
    "mlperf": Preset(1024, 60.0, headline=90),
}


class Timed(Protocol):
    """A loaded model that can time itself."""

    def burst(self, min_runs: int, min_seconds: float, discarded: int) -> Sequence[float]:
        """Milliseconds of one inference each, after `discarded` untimed ones; at least so many, and for at least so long. None where it
        cannot go on: it is then left out, and the others go on."""


@dataclasses.dataclass
class Times:
    """What was measured of one contestant.

    Attributes:
        rounds: milliseconds of every inference, by round.
        warmup_runs: how many went before, settled or not.
        settled: whether warming up was seen to end.
    """

    rounds: list[np.ndarray] = dataclasses.field(default_factory=list)
    warmup_runs: int = 0
    settled: bool = True

    @property
    def all(self) -> np.ndarray:
        return np.concatenate(self.rounds) if self.rounds else np.empty(0)

    @property
    def seconds(self) -> float:
        return float(self.all.sum()) / 1e3


def warm_up(timed: Timed, clock: Callable[[], float] = time.perf_counter) -> Times:
    """Bursts until the last ones are no faster than those before."""
    times, bursts, start = Times(), [], clock()
    while True:
        burst = np.asarray(timed.burst(BURST_RUNS, BURST_SECONDS / 2, 0))
        if not len(burst):
            return times
        times.warmup_runs += len(burst)
        bursts.append(float(np.median(burst)))
        if has_settled(bursts):
            return times
        if clock() - start > MOST_WARMUP_SECONDS:
            times.settled = False
            return times


def has_settled(bursts: Sequence[float]) -> bool:
    """Whether the last two bursts' medians agree and are about as fast as any before."""
    if len(bursts) < WARMUP_BURSTS:
        return False
    slower, faster = max(bursts[-2:]), min(bursts)
    return slower <= faster * (1.0 + SETTLED)


def interleaved(contestants: Sequence[Timed], preset: Preset, on_round: Callable[[float], None] = lambda share: None) -> list[Times]:
    """Measures all of them, taking turns, until each has its runs and seconds.

    Args:
        contestants: loaded.
        preset: when it is enough.
        on_round: called after each round with the share that is done, 0 to 1.
    """
    measured = [warm_up(contestant) for contestant in contestants]
    going_on = [bool(times.warmup_runs) for times in measured]
    # what one contestant leaves in the caches is not what the next one finds when it runs alone
    discarded = 1 if len(contestants) > 1 else 0
    while True:
        for number, (contestant, times) in enumerate(zip(contestants, measured, strict=True)):
            burst = contestant.burst(BURST_RUNS, BURST_SECONDS, discarded) if going_on[number] else ()
            going_on[number] = len(burst) > 0
            if going_on[number]:
                times.rounds.append(np.asarray(burst))
        left = [times for times, goes_on in zip(measured, going_on, strict=True) if goes_on]
        share = min((min(len(times.all) / preset.min_runs, times.seconds / max(preset.min_seconds, 1e-9)) for times in left), default=1.0)
        on_round(min(share, 1.0))
        if share >= 1.0:
            return measured


def sustained(timed: Timed, seconds: float, on_burst: Callable[[float], None] = lambda share: None, clock=time.perf_counter) -> Times:
    """One contestant alone, without a pause, for `seconds`: what a phone that grows hot does to it."""
    times, start = warm_up(timed), clock()
    while clock() - start < seconds:
        burst = timed.burst(BURST_RUNS, BURST_SECONDS, 0)
        if not len(burst):
            break
        times.rounds.append(np.asarray(burst))
        on_burst(min((clock() - start) / seconds, 1.0))
    return times


def statistics(times: Times) -> dict[str, float | int]:
    """Milliseconds as the contract names them; `num_runs` timed inferences in `seconds` of them."""
    values = times.all
    p5, p50, p90, p95 = np.percentile(values, (5, 50, 90, 95))
    return {
        "median_ms": float(p50),
        "p5_ms": float(p5),
        "p90_ms": float(p90),
        "p95_ms": float(p95),
        "mean_ms": float(values.mean()),
        "stddev_ms": float(values.std()),
        "min_ms": float(values.min()),
        "max_ms": float(values.max()),
        "num_runs": len(values),
        "seconds": times.seconds,
    }


def invalid_reasons(times: Times, preset: Preset, load: Mapping[str, float] | None = None) -> list[str]:
    """Why a measurement should not be relied on; empty where it may be.

    Args:
        times: measured.
        preset: what was asked for.
        load: `other_cores` and `stolen_cores` that were busy meanwhile, where the system says so.
    """
    reasons = []
    values = times.all
    if len(values) < preset.min_runs or times.seconds < preset.min_seconds:
        reasons.append(f"too few runs: {len(values)} in {times.seconds:.1f} s, asked for {preset.min_runs} in {preset.min_seconds:g} s")
    if not len(values):
        return reasons
    if not times.settled:
        reasons.append(f"still warming up after {MOST_WARMUP_SECONDS:g} s")
    p5, p50, p90 = np.percentile(values, (5, 50, 90))
    if (p90 - p5) / p50 > MOST_SPREAD:
        reasons.append(f"too noisy: p5 to p90 spread over {(p90 - p5) / p50:.0%} of the median, at most {MOST_SPREAD:.0%}")
    drift = drift_over_rounds(times)
    if abs(drift) > MOST_DRIFT:
        what = "slowed down (throttled?)" if drift > 0 else "sped up"
        reasons.append(f"{what} by {abs(drift):.0%} while measured, at most {MOST_DRIFT:.0%}")
    for key, most, who in (
        ("other_cores", MOST_LOAD_CORES, "other processes"),
        ("stolen_cores", MOST_STOLEN_CORES, "other machines on this host"),
    ):
        if load and load[key] > most:
            reasons.append(f"the machine was busy: {who} used {load[key]:.2f} cores meanwhile, at most {most:g}")
    return reasons


def drift_over_rounds(times: Times) -> float:
    """Median of the last third of the rounds over that of the first third, minus 1; 0 with fewer than six rounds."""
    if len(times.rounds) < 6:
        return 0.0
    third = len(times.rounds) // 3
    first, last = np.concatenate(times.rounds[:third]), np.concatenate(times.rounds[-third:])
    return float(np.median(last) / np.median(first) - 1.0)


def ratio(times: Times, first: Times) -> tuple[float, float, float]:
    """Latency relative to the first contestant's in the same rounds: (ratio, low, high), a 95 % bootstrap interval over rounds."""
    rounds = min(len(times.rounds), len(first.rounds))  # one of them may have ended early
    return ratio_of_medians(*(np.array([np.median(burst) for burst in which.rounds[:rounds]]) for which in (times, first)))


def ratio_of_medians(medians: np.ndarray, references: np.ndarray) -> tuple[float, float, float]:
    """(ratio, low, high) of two runs that took turns, one number a round each."""
    drawn = np.random.default_rng(0).integers(0, len(medians), (_INTERVAL_DRAWS, len(medians)))
    ratios = np.median(medians[drawn], axis=1) / np.median(references[drawn], axis=1)
    low, high = np.percentile(ratios, (2.5, 97.5))
    return float(np.median(medians) / np.median(references)), float(low), float(high)


def curve(times: Times, points: int = 60) -> list[dict[str, float]]:
    """The course of a measurement: for up to `points` stretches of rounds, seconds of inference so far and the stretch's median and p90."""
    found, seconds = [], 0.0
    for part in np.array_split(np.arange(len(times.rounds)), min(points, len(times.rounds))):
        values = np.concatenate([times.rounds[index] for index in part])
        seconds += float(values.sum()) / 1e3
        found.append({"seconds": seconds, "median_ms": float(np.median(values)), "p90_ms": float(np.percentile(values, 90))})
    return found


def nothing_measured() -> dict[str, Any]:
    """What `document` gives, for a file that did not run."""
    empty = dict.fromkeys(("median_ms", "p5_ms", "p90_ms", "p95_ms", "mean_ms", "stddev_ms", "min_ms", "max_ms"))
    return {**empty, "num_runs": 0, "seconds": 0.0, "warmup_runs": 0, "valid": False, "invalid_reasons": []}


def document(times: Times, preset: Preset, load: Mapping[str, float] | None) -> dict[str, Any]:
    """The part of a result that is about time."""
    reasons = invalid_reasons(times, preset, load)
    measured = {name: round(value, 4) if isinstance(value, float) else value for name, value in statistics(times).items()}
    return {**measured, "warmup_runs": times.warmup_runs, "valid": not reasons, "invalid_reasons": reasons}
