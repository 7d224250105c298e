"""edge.device: a whole run on a scripted adb, every failure with its own message, and what a phone may say instead of the truth.

Covers edge/android/phone.py and phone_benchmark.py.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edge import device
from edge.android import adb, package
from edge.android.phone import APP, Clock
from edge.report.__main__ import main as report_main
from edge.report.documents import DEVICE_REPORT, read_document
from tests.edge import report_documents
from tests.edge.scripted_adb import FILES, PLUGDEV, READY, SERIAL, ScriptedPhone
from tests.edge.scripted_adbd import ScriptedAdbd
from tfvit import hashing
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_UNUSABLE, EXIT_USAGE

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[2]
NAME = "example-nine-5g-x-ce541259"
MODELS = tuple(report_documents.manifest(recipe) for recipe in ("float16", "int8"))
BUNDLE = {"models": [{"name": document["name"], "sha256": document["file"]["sha256"]} for document in MODELS]}


class _Time:
    """Seconds that pass only while they are waited for; `at` calls something at a wait."""

    def __init__(self) -> None:
        self.seconds, self.waits, self.at = 0.0, 0, {}

    def sleep(self, seconds):
        self.seconds += seconds
        self.waits += 1
        self.at.get(self.waits, lambda: None)()

    @property
    def clock(self):
        return Clock(lambda: self.seconds, self.sleep)


@pytest.fixture
def time():
    return _Time()


@pytest.fixture
def phone(tmp_path):
    """A phone with the app on it, and two models in the app."""
    (tmp_path / "phone").mkdir()
    return ScriptedPhone(tmp_path / "phone", BUNDLE)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "artifacts"


@pytest.fixture
def ran(capfd, phone, out, time, monkeypatch):
    """Runs `python -m edge.device` in this process: (exit code, stdout, stderr); adb too, unless it is to be a process."""

    def run(*arguments, processes=False):
        if not processes:
            monkeypatch.setattr(adb.subprocess, "run", phone.run_here)
        capfd.readouterr()
        given = [str(argument) for argument in ("--adb", phone.adb, "--out", out, *arguments)]
        code = device.main(given, clock=time.clock)
        captured = capfd.readouterr()
        print(f"exit {code}", captured.out, captured.err)
        return code, captured.out, captured.err

    return run


@pytest.fixture
def made(monkeypatch, tmp_path):
    """A file to push, whose package is made up: what makes packages has tests of its own."""
    files = {"edge_package.json": json.dumps(BUNDLE).encode(), "golden.png": b"png"}
    files |= {f"{document['name']}.tflite": b"TFL3" for document in MODELS}
    monkeypatch.setattr(package, "build", lambda *_: package.Package(BUNDLE, files))
    report_documents.save_artifact(tmp_path / "made", MODELS[0])
    return tmp_path / "made" / f"{MODELS[0]['name']}.tflite"


def _report(out):
    return read_document(next(out.glob("*.device.json")), "x", demanded=DEVICE_REPORT).content


def _saved(out):
    return sorted(path.name for path in out.iterdir()) if out.exists() else []


# -- what works


def test_the_bundle_inside_the_app(ran, phone, out):
    code, printed, said = ran()
    assert code == EXIT_OK
    assert _saved(out) == [f"{NAME}.device.json"]
    report = _report(out)
    assert [(row["name"], row["backend_requested"]) for row in report["results"]] == [
        (document["name"], backend) for backend in ("cpu", "gpu") for document in MODELS
    ]
    start = next(call for call in phone.shell_calls if call.startswith("am start"))
    assert start == f"am start -S -n {APP}/.BenchmarkActivity --es preset default --es run {report['run']}"
    for words in (
        "Example Nine",
        "nano32-int8",
        "passed, 1e-05",
        "Failed to compile model",
        "cpu, 4 threads (not as asked)",
        f"{NAME}.device.json",
    ):
        assert words in printed, words
    assert "NOT A PHONE" not in printed
    assert "1 of 4: nano32-float16, cpu" in said
    assert "4 of 4: nano32-int8, gpu" in said
    assert "benchmark, % (100)" in said
    assert phone.is_alive, "the results stay on the phone's screen"
    assert not any("push" in call for call in phone.calls)
    assert all(call[:2] == ["-s", SERIAL] for call in phone.calls[1:])


def test_files_are_pushed_measured_and_removed(ran, phone, out, made):
    code, printed, _ = ran(made, "--json", "--preset", "quick", "--quiet", processes=True)
    assert code == EXIT_OK
    document = json.loads(printed)
    assert document["passed"]
    assert document["serial"] == SERIAL
    assert document["report"] == str(out / f"{NAME}.device.json")
    assert len(document["results"]) == 4
    assert document["results"] == _report(out)["results"]
    calls = phone.shell_calls
    assert any(call.endswith("--es bundle pushed") and "preset quick" in call for call in calls)
    assert f"chmod -R a+rX {FILES}/edge" in calls
    assert calls[-2:] == [f"am force-stop {APP}", f"rm -rf {FILES}/edge"]
    assert not (phone.files / "edge").exists()
    assert not phone.is_alive


def test_real_files(ran, phone, out, micro_files, tmp_path):
    """What is pushed is what edge.android.package makes, and the report is about it."""
    copies = tmp_path / "copies"
    copies.mkdir()
    for recipe in ("float32", "int8"):
        for path in micro_files[recipe].parent.glob(f"{micro_files[recipe].name.removesuffix('.tflite')}.*"):
            shutil.copy(path, copies)
    for path in copies.glob("*.json"):
        manifest = json.loads(path.read_text())
        manifest["drift"]["passed"] = True  # tiny random models are made without the gate
        path.write_text(json.dumps(manifest))
    files = sorted(copies.glob("*.tflite"))
    code, printed, _ = ran(*files)
    assert code == EXIT_CHECK_FAILED
    assert "REFUSED: micro-float32.random: random weights" in printed
    assert _saved(out) == []
    assert not any("push" in call for call in phone.calls)
    phone.does(bundle=None)
    code, printed, _ = ran(*files, "--allow-random", "--json")
    assert code == EXIT_OK
    hashes = {hashing.sha256(path.read_bytes()) for path in files}
    assert {row["sha256"] for row in json.loads(printed)["results"]} == hashes


def test_the_report_command_reads_it(ran, out, capfd):
    for document in MODELS:
        report_documents.save_artifact(out, document)
    assert ran()[0] == EXIT_OK
    assert report_main([str(out), "--quiet"]) == EXIT_OK
    found = json.loads((out / "report.json").read_text())
    assert {len(file["devices"]) for file in found["files"]} == {2}


def test_a_second_run_replaces_the_first(ran, out):
    assert ran()[0] == ran()[0] == EXIT_OK
    assert _saved(out) == [f"{NAME}.device.json"]


def test_the_app_makes_its_folder_itself(ran, phone, made):
    """A folder that adb made would be the shell's."""
    phone.files.rmdir()
    assert ran(made)[0] == EXIT_OK
    calls = phone.shell_calls
    first = calls.index(f"am start -S -n {APP}/.BenchmarkActivity")
    assert f"am force-stop {APP}" in calls[first:]
    push = next(index for index, call in enumerate(phone.calls) if "push" in call)
    assert phone.calls.index(["-s", SERIAL, "shell", calls[first]]) < push


@pytest.mark.parametrize("kind", ["emulator", "host_jvm"])
def test_what_is_no_phone_is_labelled(ran, phone, kind):
    phone.does(report=report_documents.device_report([], kind))
    code, printed, _ = ran()
    assert code == EXIT_OK
    assert "NOT A PHONE" in printed


def test_noise_is_shown_and_fails_nothing(ran, phone):
    phone.does(row_changes={"valid": False, "invalid_reasons": ["the device was hot: thermal status severe"]})
    code, printed, _ = ran()
    assert code == EXIT_OK
    assert "the device was hot" in printed


def test_one_of_several_devices(ran, phone):
    phone.does(devices=["emulator-5554          device product:sdk_gphone model:sdk_gphone device:emu transport_id:1", READY])
    assert ran("--serial", SERIAL)[0] == EXIT_OK


def test_a_second_screen_may_be_off(ran, phone):
    phone.does(wakefulness="Awake\n  PowerGroup 1:\n    mWakefulness=Asleep")
    assert ran()[0] == EXIT_OK


def test_a_cable_that_is_moved_ends_nothing(ran, phone):
    phone.does(lost_after=3, lost="error: device offline", away_for=5)
    assert ran()[0] == EXIT_OK


def test_phones_without_pidof_and_unzip(ran, phone):
    phone.does(no_pidof=True, no_unzip=True)
    code, _, said = ran()
    assert code == EXIT_OK
    assert "the report's hashes are not compared" in said


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("adb") is None, reason="adb is not installed")
def test_the_real_adb(capfd, phone, out, time, made, monkeypatch):
    """Debian's adb, with a server of its own, and a phone that speaks its protocol on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free.getsockname()[1]))
    with ScriptedAdbd(phone) as adbd:
        serial = f"127.0.0.1:{adbd.port}"
        try:
            subprocess.run(["adb", "connect", serial], check=True, capture_output=True, timeout=30)
            for arguments in ([], [str(made)]):
                code = device.main(["--serial", serial, "--out", str(out), *arguments], clock=time.clock)
                print(capfd.readouterr())
                assert code == EXIT_OK
        finally:
            subprocess.run(["adb", "kill-server"], check=False, capture_output=True, timeout=30)
    assert len(_report(out)["results"]) == 4
    assert not (phone.files / "edge").exists()
    assert f"chmod -R a+rX {FILES}/edge" in phone.shell_calls


# -- what fails a check


@pytest.mark.parametrize(
    ("parity", "words"),
    [
        ({"passed": False, "top5_same": False, "max_abs_err": 0.4, "tolerance": 0.001}, "FAILED, 0.4 of 0.001"),
        ({"passed": False, "top5_same": False, "max_abs_err": None, "tolerance": 0.05}, "FAILED, NaN of 0.05"),
        (None, "not checked"),
    ],
)
def test_wrong_answers(ran, phone, out, parity, words):
    phone.does(row_changes={"parity": parity})
    code, printed, _ = ran()
    assert code == EXIT_CHECK_FAILED
    assert f"FAILED: nano32-int8, cpu: {words}" in printed
    assert len(_saved(out)) == 1, "edge.report is to see it"


def test_a_model_that_runs_nowhere(ran, phone):
    phone.does(failures=["nano32-int8: gpu: no; cpu: no"])
    code, printed, _ = ran()
    assert code == EXIT_CHECK_FAILED
    assert "FAILED: nano32-int8: gpu: no; cpu: no" in printed


# -- no usable phone

_SEVERAL = [READY, READY.replace(SERIAL, "OTHER").replace("Nine", "Ten")]
_NO_PUSH = "adb: error: failed to copy 'SOURCE/golden.png' to 'TARGETedge/golden.png': remote "


@pytest.mark.parametrize(
    ("words", "summary", "more"),
    [
        ({"devices": []}, "no device", "adb lists none"),
        ({"devices": _SEVERAL}, "several devices", f"add --serial {SERIAL}"),
        ({"devices": [f"{SERIAL}\tunauthorized usb:1-1 transport_id:3"]}, "does not allow this computer", "Allow USB debugging?"),
        ({"devices": [f"{SERIAL}\tauthorizing usb:1-1 transport_id:3"]}, "has not yet allowed", "Allow USB debugging?"),
        ({"devices": [f"{SERIAL}\toffline usb:1-1 transport_id:3"]}, "does not answer adb", "plug it in again"),
        ({"devices": [f"{SERIAL}\t{PLUGDEV} usb:1-1 transport_id:3"]}, "may not use the phone's USB device", "udev rule"),
        ({"devices": [f"{SERIAL}\trecovery usb:1-1"]}, "in recovery", "adb reboot"),
        ({"devices": [f"{SERIAL}\tsideload usb:1-1"]}, "waiting for a sideload", "adb reboot"),
        ({"devices": [f"{SERIAL}\thost usb:1-1"]}, "in the state host", "start Android"),
        (
            {"server": "ADB server didn't ACK\n* failed to start daemon\nerror: cannot connect to daemon"},
            "adb's server does not run",
            "kill-server",
        ),
        ({"transport": "error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set"}, "does not allow", "Allow USB"),
        ({"transport": "error: device offline"}, "does not answer adb", "error: device offline"),
        ({"transport": f"error: device '{SERIAL}' not found"}, "no longer there", "not found"),
        ({"transport": f"adb: device '{SERIAL}' not found"}, "no longer there", "not found"),
        ({"transport": "error: no devices/emulators found"}, "no device", "plug the phone in"),
        ({"transport": "error: more than one device/emulator"}, "several devices", "add --serial"),
        ({"transport": "error: closed"}, "broke off", "error: closed"),
        ({"installed": False}, "the app is not installed", "installDebug"),
        ({"wakefulness": "Asleep"}, "screen is off", "mWakefulness=Asleep"),
        ({"wakefulness": "Dozing"}, "screen is off", "mWakefulness=Dozing"),
        ({"keyguard": "    KeyguardServiceDelegate\n      showing=true\n      occluded=false"}, "the phone is locked", "unlock it"),
        ({"keyguard": "    mIsShowing=true\n    mSimSecure=false"}, "the phone is locked", "unlock it"),
        ({"keyguard": "  mShowingLockscreen=true mShowingDream=false mDreamingLockscreen=true"}, "the phone is locked", "unlock it"),
        (
            {"start": [1, "", f"Error type 3\nError: Activity class {{{APP}/{APP}.BenchmarkActivity}} does not exist."]},
            "the app has no benchmark",
            "does not exist",
        ),
        (
            {"start": [0, "Starting: Intent { }\njava.lang.SecurityException: Permission Denial: starting Intent"]},
            "the app could not be started",
            "Permission Denial",
        ),
        ({"silent": True}, "does not say how far it is", "older than this command"),
        ({"stuck_after": 3}, "the benchmark got stuck", "none, after 1 of 4, 43%, at nano32-int8, cpu"),
        ({"stuck_after": 3, "no_pidof": True}, "the benchmark got stuck", "--timeout"),
        ({"crash_after": 4}, "the app ended during the benchmark", "after 2 of 4, 57%, at nano32-float16, gpu"),
        ({"lost_after": 3, "lost": f"error: device '{SERIAL}' not found"}, "the phone was lost during the benchmark", "after 1 of 4"),
        ({"lost_after": 3, "lost": "", "lost_code": 255}, "the phone was lost during the benchmark", "after 1 of 4"),
        ({"lost_after": 3, "lost": "error: device unauthorized."}, "does not allow this computer", "Allow USB"),
        ({"ending": "left", "ending_after": 4}, "left for another app", "left after 2 of 4, 57%"),
        ({"ending": "stopped", "ending_after": 4}, "stopped on the phone", "stopped after 2 of 4, 57%"),
        (
            {"ending": "failed", "ending_after": 1, "failures": ["no model is bundled"]},
            "could not start the benchmark",
            "no model is bundled",
        ),
        ({"failures": ["a: no", "b: no", "c: no", "d: no"]}, "no model ran on the phone", "a: no; b: no"),
        ({"no_report": True}, "the report could not be pulled", "failed to stat remote object"),
        ({"status_error": "cat: benchmark_status.json: Permission denied"}, "the app's status cannot be read", "Permission denied"),
    ],
)
def test_failures_have_messages_of_their_own(ran, phone, out, words, summary, more):
    phone.does(**words)
    code, printed, said = ran("--quiet", "--timeout", "2")
    assert code == EXIT_UNUSABLE
    error = said[said.index("error: ") :]
    assert summary in error.splitlines()[0]
    assert more in error
    assert len(error.strip().splitlines()) == 4
    assert printed == ""
    assert _saved(out) == []
    if (phone.folder / "state.json").exists() and "lost" not in words:
        assert not phone.is_alive, "the app is not left measuring"


def test_a_screen_that_is_switched_off_meanwhile(ran, phone, time):
    phone.does(ending="left", ending_after=4)
    time.at[2] = lambda: phone.does(wakefulness="Dozing")
    code, _, said = ran()
    assert code == EXIT_UNUSABLE
    assert "the screen was switched off during the benchmark" in said


@pytest.mark.parametrize(
    ("push", "summary"),
    [
        (f"{_NO_PUSH}couldn't create file: Permission denied\nSOURCE: 0 files pushed.", "does not let adb write"),
        (f"{_NO_PUSH}secure_mkdirs failed: Operation not permitted", "does not let adb write"),
        (f"{_NO_PUSH}write failed: No space left on device", "the phone is full"),
        (f"{_NO_PUSH}something new", "the package could not be pushed"),
    ],
)
def test_a_package_that_cannot_be_pushed(ran, phone, out, made, push, summary):
    phone.does(push=push)
    code, _, said = ran(made, "--quiet")
    assert code == EXIT_UNUSABLE
    assert summary in said.splitlines()[0]
    assert "remote" in said
    assert _saved(out) == []
    assert phone.shell_calls[-1] == f"rm -rf {FILES}/edge"


def test_an_app_that_makes_no_folder(ran, phone, made):
    phone.files.rmdir()
    phone.does(no_folder=True)
    code, _, said = ran(made, "--quiet")
    assert code == EXIT_UNUSABLE
    assert "the app has no folder on shared storage" in said


def test_what_cannot_be_tidied_up_is_said(ran, phone, made):
    phone.does(lost_after=3, lost="error: device offline")
    code, _, said = ran(made)
    assert code == EXIT_UNUSABLE
    assert "warning: the pushed files stay on the phone" in said
    assert "warning: the app may still be measuring" in said


def test_no_adb(capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    assert device.main([]) == EXIT_UNUSABLE
    assert "adb not found" in capfd.readouterr().err
    assert device.main(["--adb", str(tmp_path / "none")]) == EXIT_UNUSABLE
    assert "adb at --adb" in capfd.readouterr().err


def test_an_adb_that_hangs(ran, phone, monkeypatch):
    monkeypatch.setattr(adb, "COMMAND_SECONDS", 1.0)
    phone.does(hang="devices")
    code, _, said = ran("--quiet", processes=True)
    assert code == EXIT_UNUSABLE
    assert "adb does not answer" in said
    assert "adb devices within 1 s" in said


def test_a_file_that_is_no_program(ran, phone):
    phone.adb.write_text("\x7fELF nonsense")
    code, _, said = ran("--quiet", processes=True)
    assert code == EXIT_UNUSABLE
    assert "adb cannot be run" in said


def test_an_asked_for_device_that_is_not_there(ran):
    code, _, said = ran("--serial", "X; rm -rf /")
    assert code == EXIT_UNUSABLE
    assert "no such device" in said
    assert SERIAL in said


def test_interrupted(ran, phone, time, made, out):
    def interrupt():
        raise KeyboardInterrupt

    time.at[3] = interrupt
    code, _, said = ran(made)
    assert code == EXIT_INTERRUPTED
    assert "interrupted" in said
    assert phone.shell_calls[-2:] == [f"am force-stop {APP}", f"rm -rf {FILES}/edge"]
    assert not phone.is_alive
    assert _saved(out) == []


def test_files_of_others_are_not_overwritten(ran, phone, out):
    out.mkdir()
    (out / f"{NAME}.device.json").write_text("mine")
    code, _, said = ran()
    assert code == EXIT_UNUSABLE
    assert "another file is in the way" in said
    assert not any("am start" in call for call in phone.shell_calls), "said before anything is measured"
    assert (out / f"{NAME}.device.json").read_text() == "mine"


@pytest.mark.parametrize(
    "arguments", [("--timeout", "0"), ("--timeout", "nan"), ("--timeout", "x"), ("--preset", "long"), ("--preset", "quick; reboot")]
)
def test_wrong_usage(ran, phone, arguments):
    assert ran(*arguments)[0] == EXIT_USAGE
    assert phone.calls == []


def test_a_file_that_is_no_artifact(ran, phone, tmp_path):
    code, _, said = ran(tmp_path / "none.tflite")
    assert code == EXIT_UNUSABLE
    assert "artifact not found" in said


# -- what a phone may send instead

_GARBAGE = ["", "\0\1\2", "null", "[]", "{", '{"kind": "device_status"}', "[" * 100_000, '{"kind":"device_report"}', "x" * (5 << 20)]


@pytest.mark.parametrize("text", _GARBAGE, ids=range(len(_GARBAGE)))
def test_a_status_that_is_none(ran, phone, text):
    phone.does(status_text=text)
    code, _, said = ran("--quiet")
    assert code == EXIT_UNUSABLE
    assert "the app's status cannot be read" in said
    assert len(said.splitlines()) == 4


def test_a_status_cut_off(ran, phone):
    phone.does(status_cut=40)
    assert "the app's status cannot be read" in ran("--quiet")[2]


def test_a_status_of_another_run(ran, phone):
    phone.does(status_run="another")
    assert "does not say how far it is" in ran("--quiet")[2]


def test_a_status_that_is_unreadable_once_ends_nothing(ran, phone, time):
    time.at[2] = lambda: phone.does(status_text="{")
    time.at[4] = lambda: phone.does(status_text=None)
    assert ran()[0] == EXIT_OK


@pytest.mark.parametrize("text", [*_GARBAGE[:-1], '{"a": NaN}', '"\\ud800"', "1" * 5000], ids=str)
def test_a_report_that_is_none(ran, phone, out, text):
    phone.does(report_text=text)
    code, _, said = ran("--quiet")
    assert code == EXIT_UNUSABLE
    assert "the phone's report cannot be used" in said
    assert len(said.splitlines()) == 4
    assert _saved(out) == []
    assert "/edge-device-" not in said, "no temporary folder in a message"


@pytest.mark.parametrize(
    ("words", "received"),
    [
        ({"report_cut": 200}, "line 1 column"),
        ({"report_changes": {"run": "another"}}, "the report of another run ('another'"),
        ({"report_changes": {"run": None}}, "the report of another run (None"),
        ({"report_changes": {"results": []}}, "no results in it"),
        ({"row_changes": {"sha256": "0" * 64}}, "a result about another file: nano32-float16, SHA-256 0000"),
        ({"row_changes": {"median_ms": -1}}, "median_ms"),
        ({"row_changes": {"backend_used": "tpu"}}, "backend_used"),
        ({"report_text": " " * (9 << 20)}, f"{9 << 20} bytes"),
    ],
)
def test_reports_that_are_refused(ran, phone, out, words, received):
    phone.does(**words)
    code, _, said = ran("--quiet")
    assert code == EXIT_UNUSABLE
    assert "the phone's report cannot be used" in said
    assert received in said
    assert _saved(out) == []


# -- the command


def test_the_module_runs_without_tensorflow(phone, out):
    """As a user calls it: adb found on PATH, time as it passes, and no framework loaded."""
    phone.does(steps=2)
    code = "import sys\nfrom edge.device import main\ncode = main(sys.argv[1:])\nassert 'tensorflow' not in sys.modules\nsys.exit(code)"
    environment = {**os.environ, "PATH": f"{phone.folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-c", code, "--out", str(out)], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    print(done.stdout, done.stderr)
    assert done.returncode == EXIT_OK
    assert _saved(out) == [f"{NAME}.device.json"]
