"""The app on a phone, through adb: checks that it can run, pushes a bundle, starts a benchmark, reads its status and report.

The protocol is that of android_demo (docs/device.md): an intent starts a benchmark under a name, the app writes its progress to a status
file, and the report has the same name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge.android.adb import Adb, Output
from edge.android.phone_status import Status, parse_status
from tfvit.errors import EnvironmentUnusableError, InputError

APP = "tfvit.edge.app"
ACTIVITY = f"{APP}/.BenchmarkActivity"
FILES = f"/sdcard/Android/data/{APP}/files"
PACKAGE, STATUS, REPORT = f"{FILES}/edge", f"{FILES}/benchmark_status.json", f"{FILES}/device_report.json"
# in the APK
ASSET = "assets/edge/edge_package.json"

POLL_SECONDS = 1.0
_FOLDER_SECONDS = 20.0
_MOST_REPORT_BYTES = 8 << 20
# Even a slow cable moves more
_PUSH_BYTES_PER_SECOND, _PUSH_SECONDS = 1 << 20, 60.0

# The first match is the phone's; matches of single screens follow
_WAKEFULNESS = re.compile(r"mWakefulness=(\w+)")
_ASLEEP = ("Asleep", "Dozing", "Dreaming")
_LOCKED = re.compile(
    r"\b(mIsShowing|showing|mShowingLockscreen|mDreamingLockscreen|isStatusBarKeyguard|isKeyguardShowing|mKeyguardShowing)=true"
)
INSTALL = "install it (android_demo/README.md): ./gradlew :app:installDebug in android_demo"


@dataclasses.dataclass(frozen=True)
class Clock:
    """The time in seconds, and how to wait."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Phone:
    """A device with the app on it; `adb` has the device's serial."""

    def __init__(self, adb: Adb, clock: Clock) -> None:
        self._adb, self.clock = adb, clock

    def name(self) -> str:
        """The name of its report's file: manufacturer, model and a hash of the serial, in characters that are safe in file names."""
        words = [self._adb.shell("getprop", f"ro.product.{name}").stdout.strip() for name in ("manufacturer", "model")]
        serial = hashlib.sha256((self._adb.serial or "").encode()).hexdigest()[:8]
        safe = re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")[:60].strip("-")
        return f"{safe or 'device'}-{serial}"

    def require_app(self) -> str:
        """The path of the app's APK.

        Raises:
            EnvironmentUnusableError: it is not installed.
        """
        output = self._adb.shell("pm", "path", APP)
        paths = [line.removeprefix("package:").strip() for line in output.stdout.splitlines() if line.startswith("package:")]
        if not paths:
            raise EnvironmentUnusableError(
                "the app is not installed", expected=f"{APP} on the phone", received="pm path finds none", action=INSTALL
            )
        return paths[0]

    def require_screen(self) -> None:
        """Checks that the screen is on and unlocked: Android stops an activity behind a lock screen at once.

        Raises:
            EnvironmentUnusableError: the screen is off, or locked.
        """
        asleep = self.asleep()
        if asleep:
            raise EnvironmentUnusableError(
                "the phone's screen is off",
                expected="a phone that is awake and unlocked",
                received=f"mWakefulness={asleep}",
                action="switch it on, unlock it, and run this again; the app keeps it on while it measures",
            )
        locked = _LOCKED.search(self._adb.shell("dumpsys", "window", "policy").stdout)
        if locked:
            raise EnvironmentUnusableError(
                "the phone is locked",
                expected="a phone that is awake and unlocked",
                received=f"its lock screen is shown ({locked.group()})",
                action="unlock it, and run this again",
            )

    def own_bundle(self, apk: str) -> set[str] | None:
        """SHA-256 of the models in the app's own bundle; None where the phone cannot read an APK."""
        output = self._adb.shell("unzip", "-p", apk, ASSET)
        try:
            return bundle_hashes(json.loads(output.stdout)) if output.code == 0 else None
        except (ValueError, KeyError, TypeError, RecursionError):
            return None

    def prepare_folder(self) -> None:
        """Makes the app create its folder on shared storage: a folder that adb creates would not belong to the app.

        Raises:
            EnvironmentUnusableError: it does not.
        """
        if self._has(FILES):
            return
        self._start_activity()
        started = self.clock.now()
        while not self._has(FILES):
            if self.clock.now() - started > _FOLDER_SECONDS:
                raise EnvironmentUnusableError(
                    "the app has no folder on shared storage",
                    expected=f"{FILES}, which the app makes when it starts",
                    received=f"none within {_FOLDER_SECONDS:g} s",
                    action="open the app's benchmark on the phone once, and run this again",
                )
            self.clock.sleep(POLL_SECONDS)
        self.stop()

    def push(self, files: Mapping[str, bytes]) -> None:
        """Puts a package where the app looks for it.

        Raises:
            EnvironmentUnusableError: adb may not write there, or the phone is full.
        """
        self.remove_package()
        with tempfile.TemporaryDirectory(prefix="edge-device-") as folder:
            local = Path(folder) / "edge"
            local.mkdir()
            for name, data in files.items():
                (local / name).write_bytes(data)
            seconds = _PUSH_SECONDS + sum(map(len, files.values())) / _PUSH_BYTES_PER_SECOND
            output = self._adb.run("push", str(local), f"{FILES}/", seconds=seconds)
        said = f"{output.stdout}\n{output.stderr}"
        if output.code == 0 and "error:" not in said:
            # on some versions of Android only the shell may read what adb writes
            self._adb.shell("chmod", "-R", "a+rX", PACKAGE)
            return
        if "No space left" in said:
            raise _unpushed("the phone is full", output, "free space on the phone")
        if re.search(r"Permission denied|Operation not permitted|Read-only file system", said):
            raise _unpushed(
                "the phone does not let adb write into the app's folder",
                output,
                "bundle the files into the app instead (edge.bundle FILE... --app android_demo, install it), and run this without FILE",
            )
        raise _unpushed("the package could not be pushed", output, "run this again; if it fails again, try another cable")

    def remove_package(self) -> None:
        """Removes what `push` wrote."""
        self._adb.shell("rm", "-rf", PACKAGE)

    def start(self, preset: str, run: str, pushed: bool) -> None:
        """Starts the benchmark in a new process of the app.

        Raises:
            EnvironmentUnusableError: the app has no such activity, or Android refuses.
        """
        self._adb.shell("rm", "-f", STATUS, REPORT)
        self._start_activity("--es", "preset", preset, "--es", "run", run, *(("--es", "bundle", "pushed") if pushed else ()))

    def report(self, folder: Path) -> Path:
        """Pulls the report.

        Args:
            folder: where to.

        Raises:
            EnvironmentUnusableError: there is none, or it is far too large to be one.
        """
        path = folder / "device_report.json"
        output = self._adb.run("pull", REPORT, str(path))
        if output.code != 0 or not path.is_file():
            raise EnvironmentUnusableError(
                "the report could not be pulled", expected=REPORT, received=output.last_line, action="run this again"
            )
        size = path.stat().st_size
        if size > _MOST_REPORT_BYTES:
            raise InputError(
                "the phone's report cannot be used",
                expected=f"at most {_MOST_REPORT_BYTES} bytes",
                received=f"{size} bytes",
                action="install the app of this version of the tools",
            )
        return path

    def stop(self) -> None:
        """Ends the app."""
        self._adb.shell("am", "force-stop", APP)

    def asleep(self) -> str | None:
        """Android's word for the sleeping phone; None where it is awake, or does not say."""
        found = _WAKEFULNESS.search(self._adb.shell("dumpsys", "power").stdout)
        return found.group(1) if found and found.group(1) in _ASLEEP else None

    def _has(self, path: str) -> bool:
        return self._adb.shell("ls", "-d", path).code == 0

    def _start_activity(self, *extras: str) -> None:
        output = self._adb.shell("am", "start", "-S", "-n", ACTIVITY, *extras)
        said = f"{output.stdout}\n{output.stderr}"
        if "does not exist" in said or "Error type 3" in said:
            raise EnvironmentUnusableError(
                "the app has no benchmark",
                expected=f"an activity {ACTIVITY}",
                received=output.last_line,
                action=f"this is another app, or an old one: {INSTALL}",
            )
        if output.code != 0 or re.search(r"^(Error|Exception|java\.lang\.)|SecurityException", said, re.MULTILINE):
            wrong = next((line.strip() for line in said.splitlines() if re.search("Error|Exception", line)), output.last_line)
            raise EnvironmentUnusableError(
                "the app could not be started", expected=f"am start of {ACTIVITY}", received=wrong[:300], action="open it on the phone once"
            )

    def status(self, run: str) -> Status | None:
        """The status of this run; None where there is none yet.

        Raises:
            ValueError: what is there is no status.
        """
        output = self._adb.shell("cat", STATUS)
        if output.code != 0:
            if "Permission denied" in output.stderr:
                raise ValueError(output.last_line)
            return None
        status = parse_status(output.stdout)
        return status if status.run == run else None

    def is_alive(self) -> bool:
        """Whether the app has a process."""
        output = self._adb.shell("pidof", APP)
        # some phones have no pidof (127): then only the time without progress counts
        return bool(output.stdout.strip()) or output.code == 127


def bundle_hashes(document: Mapping[str, Any]) -> set[str]:
    """SHA-256 of the models of an `edge_package.json`."""
    return {model["sha256"] for model in document["models"]}


def _unpushed(wrong: str, output: Output, action: str) -> EnvironmentUnusableError:
    said = [line.strip() for line in f"{output.stderr}\n{output.stdout}".splitlines() if "error" in line]
    return EnvironmentUnusableError(
        wrong, expected=f"the package in {PACKAGE}", received=(said[0] if said else output.last_line)[:300], action=action
    )
