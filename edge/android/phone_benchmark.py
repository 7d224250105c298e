"""Waits for a benchmark on a phone, and says how it ended.

The app writes its progress to a status file (edge/android/phone_status.py). A process that is gone, a cable that was moved and a file that
no longer changes end in errors of their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from edge.android.adb import PASSING, AdbError
from edge.android.phone import APP, INSTALL, POLL_SECONDS, STATUS, Phone
from edge.android.phone_status import DONE, FAILED, LEFT, STOPPED, Status
from tfvit.errors import EnvironmentUnusableError
from tfvit.progress import Progress

# From the intent to the first status; even a busy phone starts an app in a few seconds
START_SECONDS = 60.0
# How long a phone may be away, while its cable is moved or its USB port resets
AWAY_SECONDS = 20.0
# A process that was just started may not be listed yet
_SETTLING_SECONDS = 5.0
_MOST_UNREADABLE = 5


def wait(phone: Phone, run: str, patience_seconds: float, progress: Progress) -> Status:
    """Waits until the benchmark has ended by itself.

    Args:
        run: the name the benchmark was started with.
        patience_seconds: the longest time without progress.

    Raises:
        AdbError: the phone is gone.
        EnvironmentUnusableError: the app never spoke, ended or got stuck, or someone stopped or left it.
    """
    with progress.stage("benchmark, %", total=100) as advance:
        return _wait(phone, run, patience_seconds, advance, progress)


def _wait(phone: Phone, run: str, patience_seconds: float, advance: Callable[[], None], progress: Progress) -> Status:
    started = changed = seen = phone.clock.now()
    last: Status | None = None
    percent = unreadable = 0
    while True:
        now = phone.clock.now()
        try:
            status = phone.status(run)
            alive = (status is not None and status.ending is not None) or phone.is_alive() or now - started < _SETTLING_SECONDS
            # it may have ended between the two looks
            status = status if alive else phone.status(run)
            seen, unreadable = now, 0
        except ValueError as error:
            status, alive, unreadable = last, True, unreadable + 1
            if unreadable >= _MOST_UNREADABLE:
                raise _unreadable_status(str(error)) from error
        except AdbError as error:
            status, alive = last, True
            if error.kind not in PASSING or now - seen > AWAY_SECONDS:
                raise _lost(error, last) from error
        if status is not None and status != last:
            changed = now
            if last is None or status.current != last.current:
                _note(status, progress)
            while percent < int(100 * status.share):
                percent += 1
                advance()
            last = status
        if last is not None and last.ending is not None:
            return _ended(phone, last)
        if not alive:
            raise _died(last)
        if last is None and now - started > START_SECONDS:
            raise _silent()
        if now - changed > patience_seconds:
            raise _stuck(last, patience_seconds)
        phone.clock.sleep(POLL_SECONDS)


def _note(status: Status, progress: Progress) -> None:
    if status.current is not None:
        where = f"{status.finished + 1} of {status.tasks}: " if status.tasks else ""
        progress.note(f"{where}{status.current}")


def _ended(phone: Phone, status: Status) -> Status:
    if status.ending == DONE:
        return status
    if status.ending == LEFT:
        asleep = None
        with contextlib.suppress(AdbError):
            asleep = phone.asleep()
        raise EnvironmentUnusableError(
            "the screen was switched off during the benchmark" if asleep else "the benchmark was left for another app",
            expected="the benchmark on the screen until its end",
            received=f"left {_so_far(status)}",
            action="run this again and leave the phone alone; nothing was saved",
        )
    if status.ending == STOPPED:
        raise EnvironmentUnusableError(
            "the benchmark was stopped on the phone",
            expected="its end",
            received=f"stopped {_so_far(status)}",
            action="run this again; nothing was saved",
        )
    assert status.ending == FAILED
    raise EnvironmentUnusableError(
        "the app could not start the benchmark",
        expected="a bundle that the app can read",
        received="; ".join(status.failures) or "no reason given",
        action="bundle models into the app (edge.bundle FILE... --app android_demo, install it), or name files to be pushed",
    )


def _so_far(status: Status | None) -> str:
    return "before its first word" if status is None else f"after {status.finished} of {status.tasks}, {status.share:.0%}"


def _lost(error: AdbError, last: Status | None) -> AdbError:
    if error.kind not in PASSING:
        return error
    return AdbError(
        "the phone was lost during the benchmark",
        expected="a phone that stays plugged in",
        received=f"{error.received}, {_so_far(last)}",
        action="see to the cable and the port, unlock the phone, and run this again; nothing was saved",
        kind=error.kind,
    )


def _unreadable_status(why: str) -> EnvironmentUnusableError:
    return EnvironmentUnusableError(
        "the app's status cannot be read",
        expected=f"the JSON of android_demo in {STATUS}",
        received=why,
        action=f"install the app of this version of the tools: {INSTALL}",
    )


def _died(last: Status | None) -> EnvironmentUnusableError:
    return EnvironmentUnusableError(
        "the app ended during the benchmark",
        expected=f"a process {APP}",
        received=f"none, {_so_far(last)}{f', at {last.current}' if last and last.current else ''}",
        action="see adb logcat -b crash; without a crash there, Android ended it for want of memory: try fewer or smaller models",
    )


def _silent() -> EnvironmentUnusableError:
    return EnvironmentUnusableError(
        "the app does not say how far it is",
        expected=f"its status within {START_SECONDS:g} s",
        received="none",
        action=f"the app is older than this command: {INSTALL}",
    )


def _stuck(last: Status | None, seconds: float) -> EnvironmentUnusableError:
    return EnvironmentUnusableError(
        "the benchmark got stuck",
        expected=f"some progress in {seconds / 60:g} min (--timeout)",
        received=f"none, {_so_far(last)}{f', at {last.current}' if last and last.current else ''}",
        action="look at the phone; for slow models raise --timeout",
    )
