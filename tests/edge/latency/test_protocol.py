"""The measuring protocol on clocks and times made up here: nothing in this file waits."""

import numpy as np
import pytest

from edge.latency import protocol
from edge.latency.protocol import Preset, Times


class Scripted:
    """A contestant that takes the milliseconds it is told to, inference after inference, and remembers who ran when."""

    def __init__(self, milliseconds, journal=None, name=""):
        self._milliseconds, self._journal, self._name = iter(milliseconds), journal if journal is not None else [], name
        self.discarded = 0

    def burst(self, min_runs, min_seconds, discarded):
        self._journal.append(self._name)
        self.discarded += discarded
        taken = []
        while len(taken) < min_runs or sum(taken) < 1e3 * min_seconds:
            taken.append(next(self._milliseconds))
        return taken


def forever(value):
    while True:
        yield value


def then(first, rest):
    yield from first
    yield from rest


def times(*rounds, settled=True) -> Times:
    return Times([np.asarray(values, float) for values in rounds], settled=settled)


def steady(count=30, value=10.0, spread=0.02, seed=0) -> Times:
    generator = np.random.default_rng(seed)
    return times(*(value * (1 + spread * generator.standard_normal(10)) for _ in range(count)))


def test_every_contestant_takes_its_turn_in_every_round():
    journal = []
    contestants = [Scripted(forever(5.0), journal, "a"), Scripted(forever(20.0), journal, "b")]
    shares = []
    measured = protocol.interleaved(contestants, Preset(30, 0.5), shares.append)
    rounds = journal[-2 * len(measured[0].rounds) :]
    assert rounds == ["a", "b"] * len(measured[0].rounds)
    assert len(measured[0].rounds) == len(measured[1].rounds)
    for one in measured:
        assert len(one.all) >= 30
        assert one.seconds >= 0.5
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert all(contestant.discarded for contestant in contestants)  # caches are not what the other left


def test_alone_nothing_is_discarded_between_rounds():
    contestant = Scripted(forever(5.0))
    protocol.interleaved([contestant], Preset(10, 0.1))
    assert contestant.discarded == 0


def test_warming_up_ends_when_it_has_been_seen_to_end():
    slow_start = [100.0, 80.0, 60.0, 45.0, 35.0, 30.0]
    warm = protocol.warm_up(Scripted(then(slow_start, forever(30.0))))
    cold = protocol.warm_up(Scripted(forever(30.0)))
    assert warm.settled
    assert cold.settled
    assert warm.warmup_runs > cold.warmup_runs > 0
    assert not warm.rounds  # none of it is counted


def test_warming_up_is_given_up_and_said():
    clock = iter(np.arange(0.0, 1e4, 1.0))
    growing = (10.0 * 1.3**index for index in range(200))
    warm = protocol.warm_up(Scripted(growing), clock=lambda: next(clock))
    assert not warm.settled
    assert "still warming up" in protocol.invalid_reasons(Times(steady().rounds, settled=False), Preset(10, 0.1))[0]


def test_statistics_are_those_of_every_inference():
    measured = protocol.statistics(times([1.0, 2.0, 3.0], [4.0, 5.0]))
    assert measured["median_ms"] == 3.0
    assert (measured["min_ms"], measured["max_ms"], measured["num_runs"]) == (1.0, 5.0, 5)
    assert measured["seconds"] == pytest.approx(0.015)
    assert measured["p5_ms"] < measured["median_ms"] < measured["p90_ms"] < measured["p95_ms"]


def test_a_quiet_measurement_is_valid():
    quiet = {"other_cores": 0.0, "stolen_cores": 0.0}
    assert protocol.invalid_reasons(steady(), Preset(50, 1.0), quiet) == []
    assert protocol.document(steady(), Preset(50, 1.0), quiet)["valid"] is True


@pytest.mark.parametrize(
    ("measured", "load", "words"),
    [
        (steady(count=2), None, "too few runs: 20"),
        (steady(spread=0.5), None, "too noisy"),
        (times(*([10.0 * (1 + 0.01 * index)] * 10 for index in range(40))), None, "slowed down (throttled?) by"),
        (times(*([20.0 - 0.2 * index] * 10 for index in range(40))), None, "sped up by"),
        (steady(), {"other_cores": 1.0, "stolen_cores": 0.0}, "other processes used 1.00 cores"),
        (steady(), {"other_cores": 0.0, "stolen_cores": 0.3}, "other machines on this host used 0.30 cores"),
        (Times(), None, "too few runs: 0"),
    ],
)
def test_each_reason_not_to_believe_it(measured, load, words):
    reasons = protocol.invalid_reasons(measured, Preset(50, 1.0), load)
    print(reasons)
    assert any(words in reason for reason in reasons)


def test_a_ratio_comes_from_rounds_and_survives_what_hits_both():
    """A machine that is three times slower in half of the rounds changes the times, not the ratio."""
    generator = np.random.default_rng(1)
    speed = np.where(np.arange(40) % 2, 1.0, 3.0)
    first = times(*(slow * 10.0 * (1 + 0.01 * generator.standard_normal(5)) for slow in speed))
    second = times(*(slow * 4.0 * (1 + 0.01 * generator.standard_normal(5)) for slow in speed))
    value, low, high = protocol.ratio(second, first)
    print(value, low, high)
    assert low <= 0.4 <= high
    assert value == pytest.approx(0.4, rel=0.02)
    assert high - low < 0.02
    assert protocol.ratio(first, first) == (1.0, 1.0, 1.0)


def test_a_sustained_run_shows_its_course():
    clock = iter(np.arange(0.0, 1e6, 0.5))
    measured = protocol.sustained(Scripted(10.0 + 0.01 * index for index in range(10**6)), 60.0, clock=lambda: next(clock))
    course = protocol.curve(measured, points=10)
    assert len(course) == 10
    assert [point["median_ms"] for point in course] == sorted(point["median_ms"] for point in course)
    assert course[-1]["seconds"] == pytest.approx(measured.seconds)
    assert protocol.drift_over_rounds(measured) > 0.05
