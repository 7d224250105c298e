"""adb: finds the program, lists devices, runs one command at a time and explains its failures.

What adb prints is parsed by functions that take text; only `Adb` runs anything.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tfvit.errors import EnvironmentUnusableError

READY = "device"
COMMAND_SECONDS = 30.0
# The most that is kept of a command's output; a phone's answers are small
MOST_OUTPUT_BYTES = 4 << 20
# Exit code of adb shell where the device disconnects during a command
_BROKEN_OFF = 255

# How a connection fails
NONE, SEVERAL, UNAUTHORIZED, OFFLINE, GONE, NO_PERMISSIONS, LOST, SERVER = (
    "none", "several", "unauthorized", "offline", "gone", "no permissions", "lost", "server",
)  # fmt: skip
# For a moment, when a cable is moved
PASSING = (NONE, OFFLINE, GONE, LOST)

_ALLOW = (
    "unlock the phone and confirm 'Allow USB debugging?'; if it does not ask, revoke the authorisations in its developer options "
    "and plug it in again"
)
_UDEV = "add a udev rule for the phone (Debian: apt install android-sdk-platform-tools-common), join the group plugdev and plug it in again"
# state as `adb devices` has it -> (what is wrong, what to do)
_STATES = {
    "unauthorized": ("the phone does not allow this computer to debug it", _ALLOW),
    "authorizing": ("the phone has not yet allowed this computer to debug it", _ALLOW),
    "offline": (
        "the phone does not answer adb",
        "unlock it, plug it in again, and if that does not help switch USB debugging off and on, or run adb kill-server",
    ),
    "connecting": ("the phone is still connecting", "wait a moment and run this again"),
    "no permissions": ("this user may not use the phone's USB device", _UDEV),
    "recovery": ("the phone is in recovery", "start Android: adb reboot"),
    "rescue": ("the phone is in rescue mode", "start Android: adb reboot"),
    "sideload": ("the phone is waiting for a sideload", "start Android: adb reboot"),
    "bootloader": ("the phone is in its bootloader", "start Android: fastboot reboot"),
}
_MEANINGS = (
    (re.compile(r"no devices/emulators found"), NONE),
    (re.compile(r"more than one (device|emulator)"), SEVERAL),
    (re.compile(r"device unauthorized|device still authorizing"), UNAUTHORIZED),
    (re.compile(r"device (still )?(offline|connecting)"), OFFLINE),
    (re.compile(r"device '.*' not found|device not found|no device with transport id"), GONE),
    (re.compile(r"(no|insufficient) permissions"), NO_PERMISSIONS),
    (
        re.compile(r"cannot connect to daemon|failed to start daemon|failed to check server version|didn't ACK|daemon still not running"),
        SERVER,
    ),
    (re.compile(r"closed|protocol fault|[Cc]onnection reset|device '.*' has been disconnected"), LOST),
)
_FACT = re.compile(r"(?:^|\s)(usb|product|model|device|features|transport_id):\S+")


class AdbError(EnvironmentUnusableError):
    """adb, or the connection to the device, does not work; `kind` says how."""

    kind: str = ""


@dataclasses.dataclass(frozen=True)
class Device:
    """A line of `adb devices -l`.

    Attributes:
        serial: what `adb -s` takes.
        state: `READY`, "unauthorized", "no permissions" and so on.
        model: as adb shows it, "" where it does not.
    """

    serial: str
    state: str
    model: str = ""

    def __str__(self) -> str:
        return f"{self.serial} ({', '.join(part for part in (self.model, '' if self.state == READY else self.state) if part) or 'ready'})"


@dataclasses.dataclass(frozen=True)
class Output:
    """What a command printed."""

    code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """The last line it printed, for a message."""
        lines = [line.strip() for line in f"{self.stdout}\n{self.stderr}".splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"exit code {self.code} and no output"


def parse_devices(text: str) -> list[Device]:
    """The devices that `adb devices -l` lists; other lines are skipped."""
    devices, listed = [], False
    for line in text.splitlines():
        if line.startswith("List of devices attached"):
            listed = True
            continue
        serial, _, rest = line.strip().replace("\t", " ").partition(" ")
        if not listed or not rest or serial == "*":
            continue
        facts = dict(fact.group().strip().split(":", 1) for fact in _FACT.finditer(rest))
        state = _FACT.sub("", rest).strip()
        state = NO_PERMISSIONS if state.startswith(NO_PERMISSIONS) else state.partition(" ")[0]
        devices.append(Device(serial, state, facts.get("model", "").replace("_", " ")))
    return devices


def choose(devices: Sequence[Device], serial: str | None = None) -> Device:
    """The device to use: the one that is asked for, or the only one that is ready.

    Raises:
        AdbError: none, several, not the one asked for, or one that cannot be used as it is.
    """
    listed = ", ".join(map(str, devices)) or "none"
    if serial is not None:
        devices = [device for device in devices if device.serial == serial]
        if not devices:
            raise AdbError(
                "no such device", expected=f"a device {serial}", received=listed, action="choose one that adb devices lists", kind=GONE
            )
    elif not devices:
        raise AdbError(
            "no device",
            expected="a phone with USB debugging on (Settings > About phone > Build number seven times, then Developer options)",
            received="adb lists none",
            action="plug it in with a cable that carries data, and see that adb devices lists it",
            kind=NONE,
        )
    ready = [device for device in devices if device.state == READY]
    if len(ready) > 1:
        raise AdbError(
            "several devices", expected="one device, or --serial", received=listed, action=f"add --serial {ready[0].serial}", kind=SEVERAL
        )
    if not ready:
        wrong, action = _STATES.get(
            devices[0].state, (f"the phone is in the state {devices[0].state}", "start Android on it, and plug it in again")
        )
        raise AdbError(wrong, expected="a device that adb calls 'device'", received=listed, action=action, kind=devices[0].state)
    return ready[0]


def failure(output: Output) -> str | None:
    """How the connection failed, if that is why the command failed; else None."""
    if output.code == 0:
        return None
    for line in f"{output.stderr}\n{output.stdout}".splitlines():
        said = re.match(r"(?:adb(?:\.exe)?|error|\* failed|ADB server)\b.*", line)
        for pattern, kind in _MEANINGS:
            if said and pattern.search(said.group()):
                return kind
    return None


def find_adb(given: Path | None, environment: Mapping[str, str]) -> str:
    """The path of the program: as given, on PATH, or in the Android SDK.

    Raises:
        EnvironmentUnusableError: it is not there.
    """
    program = "adb.exe" if os.name == "nt" else "adb"
    folders = [environment[name] for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT") if environment.get(name)]
    places = [str(given)] if given else [program, *(str(Path(folder) / "platform-tools" / program) for folder in folders)]
    for place in places:
        found = shutil.which(place, path=environment.get("PATH", ""))
        if found:
            return found
    raise EnvironmentUnusableError(
        "adb not found",
        expected="adb at --adb" if given else "adb on PATH, or in platform-tools of ANDROID_HOME or ANDROID_SDK_ROOT",
        received=f"no program {' or '.join(places)}",
        action="install the Android platform tools (Debian: apt install adb), or say where adb is with --adb",
    )


class Adb:
    """One adb and one device.

    Args:
        path: of the program.
        serial: None for commands that need no device.
    """

    def __init__(self, path: str, serial: str | None = None) -> None:
        self.path, self.serial = path, serial

    def devices(self) -> list[Device]:
        """What is plugged in; starts adb's server where none runs.

        Raises:
            AdbError: adb cannot be run, or its server cannot.
        """
        output = self.run("devices", "-l")
        if output.code != 0:
            raise self._error(SERVER, output)
        return parse_devices(output.stdout)

    def run(self, *arguments: str, seconds: float | None = None) -> Output:
        """Runs one command to its end; what it prints is kept up to `MOST_OUTPUT_BYTES`.

        Args:
            seconds: time limit; `COMMAND_SECONDS` where None.

        Raises:
            AdbError: the connection does not work, or adb does not answer. A command that fails on the device raises nothing.
        """
        limit = COMMAND_SECONDS if seconds is None else seconds
        command = [self.path, *(("-s", self.serial) if self.serial else ()), *arguments]
        # files, not pipes: a server that this starts may keep them open
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            try:
                code = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, timeout=limit, check=False
                ).returncode
            except subprocess.TimeoutExpired as error:
                raise AdbError(
                    "adb does not answer",
                    expected=f"an answer of adb {arguments[0]} within {limit:g} s",
                    received="none",
                    action="plug the phone in again, run adb kill-server, and try again",
                    kind=LOST,
                ) from error
            except OSError as error:
                raise AdbError(
                    "adb cannot be run",
                    expected="a program",
                    received=f"{self.path}: {error.strerror or error}",
                    action="install the Android platform tools, or say where adb is with --adb",
                ) from error
            output = Output(code, _start_of(stdout), _start_of(stderr))
        kind = failure(output)
        if kind:
            raise self._error(kind, output)
        return output

    def shell(self, *words: str, seconds: float | None = None) -> Output:
        """Runs a command on the device. Words reach it unchanged.

        Raises:
            AdbError: as `run`, or the connection broke off during the command.
        """
        output = self.run("shell", shlex.join(words), seconds=seconds)
        if output.code == _BROKEN_OFF and not (output.stdout + output.stderr).strip():
            raise self._error(LOST, output)
        return output

    def _error(self, kind: str, output: Output) -> AdbError:
        said = next((line for line in f"{output.stderr}\n{output.stdout}".splitlines() if "error" in line), output.last_line).strip()
        wrong, action = {
            NONE: ("no device", "plug the phone in, and see that adb devices lists it"),
            SEVERAL: ("several devices", "add --serial"),
            GONE: ("the phone is no longer there", "plug it in again, and run this again"),
            LOST: ("the connection to the phone broke off", "plug it in again, and run this again"),
            SERVER: ("adb's server does not run", "run adb kill-server and adb start-server, and see what they say"),
        }.get(kind) or _STATES[kind]
        return AdbError(wrong, expected="a phone that adb can talk to", received=said, action=action, kind=kind)


def _start_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(MOST_OUTPUT_BYTES).decode("utf-8", "replace").replace("\r\n", "\n")
