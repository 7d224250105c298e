"""What a report says of the machine, and how busy it was: on accounts made up here, and on this machine's own."""

import collections
import os
import time

import psutil
import pytest

from edge.latency.load import LoadMeter
from edge.runtime import machine
from tfvit import memory


def meter(monkeypatch, *accounts):
    """A meter that reads these accounts, one after the other."""
    read = iter(accounts)
    monkeypatch.setattr(LoadMeter, "_now", lambda self: next(read))
    return LoadMeter([])


def account(seconds: float, busy: float, ours: float, stolen: float = 0.0):
    """Seconds of the clock, and core-seconds spent."""
    return {"elapsed": seconds, "busy": busy, "ours": ours, "stolen": stolen}


def test_what_others_use_is_what_is_busy_and_not_ours(monkeypatch):
    load = meter(monkeypatch, account(100, 50, 10), account(110, 65, 20, stolen=1)).cores()
    assert load == {"other_cores": pytest.approx(0.5), "stolen_cores": pytest.approx(0.1)}


def test_ours_alone_is_no_load(monkeypatch):
    assert meter(monkeypatch, account(0, 0, 0), account(10, 20, 20)).cores() == {"other_cores": 0.0, "stolen_cores": 0.0}


def test_a_system_without_accounts_says_nothing(monkeypatch):
    assert meter(monkeypatch, None, None).cores() is None
    assert meter(monkeypatch, account(5, 1, 1), account(5, 1, 1)).cores() is None  # no time has passed


def test_a_process_that_is_gone_says_nothing():
    meter = LoadMeter([])
    meter._processes.append(2**22 + 1)  # above the largest id there can be
    assert meter.cores() is None


def test_macos_knows_neither_interrupts_nor_stolen_time(monkeypatch):
    times = collections.namedtuple("scputimes", "user nice system idle")
    monkeypatch.setattr(psutil, "cpu_times", lambda: times(4.0, 2.0, 1.0, 50.0))
    found = LoadMeter([])._now()
    assert (found["busy"], found["stolen"]) == (7.0, 0.0)


def test_this_machine():
    meter = LoadMeter([])
    before, until = meter._now(), time.process_time() + 0.2
    while time.process_time() < until:
        pass
    after = meter._now()
    assert 0.1 < after["ours"] - before["ours"] < 1.0
    assert after["busy"] - before["busy"] > 0.1
    assert after["stolen"] >= before["stolen"] >= 0.0
    assert meter.cores()["other_cores"] >= 0.0
    environment = machine.environment()
    assert 1 <= environment["cores"] <= os.cpu_count()
    assert environment["cpu"] != "unknown"
    assert environment["memory_mb"] > 100
    held = psutil.Process().memory_info().rss
    assert memory.peak_bytes() >= held > 2**20
    assert machine.peak_memory_mb() >= held // 2**20
