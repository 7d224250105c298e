"""What a report says of the machine, and how busy it was: on accounts made up here, and on this machine's own."""

import os

import pytest

from edge.latency.load import _TICKS, LoadMeter
from edge.runtime import machine


def meter(monkeypatch, *accounts):
    """A meter that reads these accounts, one after the other."""
    read = iter(accounts)
    monkeypatch.setattr(LoadMeter, "_now", lambda self: next(read))
    return LoadMeter([])


def account(seconds: float, busy: float, ours: float, stolen: float = 0.0):
    """Seconds since boot, and core-seconds spent."""
    return {"elapsed": seconds, "busy": busy * _TICKS, "ours": ours * _TICKS, "stolen": stolen * _TICKS}


def test_what_others_use_is_what_is_busy_and_not_ours(monkeypatch):
    load = meter(monkeypatch, account(100, 50, 10), account(110, 65, 20, stolen=1)).cores()
    assert load == {"other_cores": pytest.approx(0.5), "stolen_cores": pytest.approx(0.1)}


def test_ours_alone_is_no_load(monkeypatch):
    assert meter(monkeypatch, account(0, 0, 0), account(10, 20, 20)).cores() == {"other_cores": 0.0, "stolen_cores": 0.0}


def test_a_system_without_accounts_says_nothing(monkeypatch):
    assert meter(monkeypatch, None, None).cores() is None
    assert meter(monkeypatch, account(5, 1, 1), account(5, 1, 1)).cores() is None  # no time has passed


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="only Linux keeps these accounts")
def test_this_machine():
    found = LoadMeter([os.getpid()])._now()
    assert found["busy"] >= found["ours"] > 0
    environment = machine.environment()
    assert environment["cores"] >= 1
    assert environment["cpu"] != "unknown"
    assert environment["memory_mb"] > 100
    assert machine.memory_mb("VmHWM") >= machine.memory_mb("VmRSS") > 1
