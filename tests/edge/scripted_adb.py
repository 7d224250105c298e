"""An adb made of a script: it prints what the real one prints, and stands for a phone whose files lie in a folder.

The words are adb 29's (devices, unauthorized, offline, not found, several, none, connected to a device that does not answer) and those that
Android's shell, am, pm, toybox and dumpsys print. What the phone does wrong is in `phone.json` beside the script.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from tests.edge import report_documents

SERIAL = "R5CT30ABCDE"
READY = f"{SERIAL}            device usb:1-1 product:beyond1 model:Example_Nine device:beyond1 transport_id:3"
PLUGDEV = "no permissions (user in plugdev group; are your udev rules wrong?); see [http://developer.android.com/tools/device.html]"
FILES = "/sdcard/Android/data/tfvit.edge.app/files"

_SCRIPT = r'''
import json, os, shlex, shutil, sys, time
from pathlib import Path

HERE = Path(__file__).parent
WORDS = json.loads((HERE / "phone.json").read_text())
STATE = HERE / "state.json"
ROOT = HERE / "sdcard"


def say(text, stream=sys.stdout):
    if text:
        stream.write(text + "\n")


def leave(code, out="", err=""):
    say(out)
    say(err, sys.stderr)
    sys.exit(code)


def local(path):
    return ROOT / path.lstrip("/")


def state(**changes):
    known = json.loads(STATE.read_text()) if STATE.exists() else {}
    if changes:
        known.update(changes)
        STATE.write_text(json.dumps(known))
    return known


def packaged():
    pushed = local(WORDS["files"] + "/edge/edge_package.json")
    return json.loads(pushed.read_text()) if state().get("bundle") == "pushed" else WORDS["bundle"]


def write(name, text):
    path = local(WORDS["files"] + "/" + name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def advance():
    """One look at the status: the benchmark goes on by a step."""
    known = state()
    step = known.get("step", 0) + 1
    state(step=step)
    run, stuck = known.get("run"), WORDS.get("stuck_after")
    if run is None or not known.get("alive") or WORDS.get("silent"):
        return
    at = min(step, stuck) if stuck else step
    models = (packaged() or {}).get("models", [])
    tasks = [(model, backend) for backend in ("cpu", "gpu") for model in models]
    share = min(at / WORDS["steps"], 1.0)
    finished = int(share * len(tasks))
    status = {"kind": "device_status", "schema_version": 1, "run": WORDS.get("status_run") or run, "tasks": len(tasks),
              "finished": finished, "share": share, "current": None, "ending": None,
              "failures": WORDS.get("failures", []) if share == 1 else []}
    if share < 1:
        status["current"] = "%s, %s" % (tasks[finished][0]["name"], tasks[finished][1])
    else:
        status["ending"] = "done"
        results = [dict(WORDS["row"], name=model["name"], sha256=model["sha256"], backend_requested=backend, backend_used="cpu",
                        backend_reason=None if backend == "cpu" else "gpu: compiling the model: Failed to compile model")
                   for model, backend in tasks]
        for row in results:
            row.update(WORDS.get("row_changes", {}))
        report = dict(WORDS["report"], run=run, results=results)
        report.update(WORDS.get("report_changes", {}))
        text = json.dumps(report)
        if WORDS.get("report_text") is not None:
            text = WORDS["report_text"]
        if not WORDS.get("no_report"):
            write("device_report.json", text[: WORDS.get("report_cut", len(text))])
    if WORDS.get("ending_after") and step >= WORDS["ending_after"]:
        status["ending"] = WORDS["ending"]
        status["failures"] = WORDS.get("failures", [])
    text = json.dumps(status)
    if WORDS.get("status_text") is not None:
        text = WORDS["status_text"]
    write("benchmark_status.json", text[: WORDS.get("status_cut", len(text))])


def shell(text):
    words = shlex.split(text)
    name, rest = words[0], words[1:]
    if words == ["pm", "path", "tfvit.edge.app"]:
        leave(*(0, "package:/data/app/~~Zq==/tfvit.edge.app-1A==/base.apk") if WORDS["installed"] else (1,))
    if words == ["dumpsys", "power"]:
        leave(0, "POWER MANAGER (dumpsys power)\n\nPower Manager State:\n  mDirty=0x0\n  mWakefulness=%s" % WORDS["wakefulness"])
    if words == ["dumpsys", "window", "policy"]:
        leave(0, WORDS["keyguard"])
    if name == "getprop":
        leave(0, WORDS["properties"].get(rest[0], ""))
    if words[:2] == ["ls", "-d"]:
        path = local(rest[1])
        if rest[1] == WORDS["files"] and state().get("folder_after_start") and not WORDS.get("no_folder"):
            path.mkdir(parents=True, exist_ok=True)
        leave(*(0, rest[1]) if path.exists() else (1, "", "ls: %s: No such file or directory" % rest[1]))
    if name == "rm":
        for path in rest[1:]:
            shutil.rmtree(local(path), ignore_errors=True)
            local(path).unlink(missing_ok=True)
        leave(0)
    if name == "chmod":
        leave(*(1, "", "chmod: Operation not permitted") if WORDS.get("no_chmod") else (0,))
    if name == "unzip":
        if WORDS["bundle"] is None or WORDS.get("no_unzip"):
            leave(127, "", "/system/bin/sh: unzip: inaccessible or not found")
        leave(0, json.dumps(WORDS["bundle"]))
    if words[:2] == ["am", "force-stop"]:
        state(alive=False, run=None)
        leave(0)
    if words[:2] == ["am", "start"]:
        if WORDS.get("start"):
            leave(*WORDS["start"])
        extras = {rest[at + 1]: rest[at + 2] for at, word in enumerate(rest) if word == "--es"}
        state(alive=True, step=0, folder_after_start=True, run=extras.get("run"), bundle=extras.get("bundle"))
        also = " (has extras)" if extras else ""
        leave(0, "Stopping: tfvit.edge.app\nStarting: Intent { cmp=tfvit.edge.app/.BenchmarkActivity%s }" % also)
    if name == "cat":
        if WORDS.get("status_error"):
            leave(1, "", WORDS["status_error"])
        advance()
        if WORDS.get("crash_after") and state()["step"] >= WORDS["crash_after"]:
            state(alive=False)
        if not local(rest[0]).exists():
            leave(1, "", "cat: %s: No such file or directory" % rest[0])
        leave(0, local(rest[0]).read_text())
    if name == "pidof":
        if WORDS.get("no_pidof"):
            leave(127, "", "/system/bin/sh: pidof: inaccessible or not found")
        leave(*(0, "12345") if state().get("alive") else (1,))
    leave(127, "", "/system/bin/sh: %s: inaccessible or not found" % name)


def main():
    arguments = sys.argv[1:]
    with open(HERE / "log.txt", "a") as log:
        log.write(json.dumps(arguments) + "\n")
    if WORDS.get("hang") in arguments:
        while True:
            time.sleep(3600)
    if arguments[0] == "devices":
        if WORDS.get("server"):
            leave(1, "", WORDS["server"])
        if not (HERE / "started").exists():
            (HERE / "started").touch()
            say("* daemon not running; starting now at tcp:5037\n* daemon started successfully", sys.stderr)
        leave(0, "\n".join(["List of devices attached", *WORDS["devices"], ""]))
    serial = None
    if arguments[0] == "-s":
        serial, arguments = arguments[1], arguments[2:]
    known = state()
    lost = WORDS.get("lost_after")
    if lost and known.get("step", 0) >= lost:
        away = known.get("away", 0) + 1
        state(away=away)
        if away <= WORDS.get("away_for", 10**9):
            leave(WORDS.get("lost_code", 1), "", WORDS["lost"])
    if WORDS.get("transport"):
        leave(1, "", WORDS["transport"])
    if arguments[0] == "shell":
        shell(arguments[1])
    if arguments[0] == "push":
        source, target = Path(arguments[1]), local(arguments[2]) / Path(arguments[1]).name
        if WORDS.get("push"):
            leave(1, "", WORDS["push"].replace("SOURCE", str(source)).replace("TARGET", arguments[2]))
        shutil.copytree(source, target)
        leave(0, "%s/: %d files pushed, 0 skipped. 35.2 MB/s (12345678 bytes in 0.334s)" % (source, len(list(target.iterdir()))))
    if arguments[0] == "pull":
        if not local(arguments[1]).exists():
            leave(1, "", "adb: error: failed to stat remote object '%s': No such file or directory" % arguments[1])
        shutil.copy(local(arguments[1]), arguments[2])
        leave(0, "%s: 1 file pulled, 0 skipped. 0.9 MB/s (1234 bytes in 0.001s)" % arguments[1])
    leave(1, "", "adb: unknown command %s" % arguments[0])


main()
'''

_PROGRAM = compile(_SCRIPT, "scripted adb", "exec")

UNLOCKED = (
    "WINDOW MANAGER POLICY STATE (dumpsys window policy)\n    mSafeMode=false mSystemReady=true mSystemBooted=true\n"
    "    KeyguardServiceDelegate\n      showing=false\n      inputRestricted=false\n      occluded=false\n      secure=true\n"
)


class ScriptedPhone:
    """A phone behind a scripted adb.

    Args:
        folder: an empty one for the script, its log and the phone's files.
        bundle: the `edge_package.json` inside the app, or None.
    """

    def __init__(self, folder: Path, bundle: dict[str, Any] | None) -> None:
        self.folder = folder
        self.adb = folder / "adb"
        self.adb.write_text(f"#!{sys.executable} -IS\n{_SCRIPT}")
        self.adb.chmod(0o755)
        report = report_documents.device_report([])
        self._words: dict[str, Any] = {
            "files": FILES,
            "devices": [READY],
            "installed": True,
            "wakefulness": "Awake",
            "keyguard": UNLOCKED,
            "properties": {"ro.product.manufacturer": "Example", "ro.product.model": "Nine (5G)/../x"},
            "bundle": bundle,
            "steps": 7,
            "report": report,
            "row": report_documents.device_row(report_documents.manifest("int8")),
        }
        self.does()
        (folder / "sdcard" / FILES.lstrip("/")).mkdir(parents=True)

    def does(self, **words: Any) -> None:
        """Changes what the phone is or does."""
        self._words.update(copy.deepcopy(words))
        (self.folder / "phone.json").write_text(json.dumps(self._words))

    def run_here(self, command: list[str], *, stdout: IO[bytes], stderr: IO[bytes], **_: Any) -> subprocess.CompletedProcess[bytes]:
        """Instead of `subprocess.run`: the script in this process, a tenth of the time of one of its own."""
        assert command[0] == str(self.adb)
        out, err, before = io.StringIO(), io.StringIO(), sys.argv
        code = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            sys.argv = command
            try:
                exec(_PROGRAM, {"__name__": "__main__", "__file__": str(self.adb)})
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                sys.argv = before
        stdout.write(out.getvalue().encode())
        stderr.write(err.getvalue().encode())
        return subprocess.CompletedProcess(command, code)

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of every call so far."""
        log = self.folder / "log.txt"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def shell_calls(self) -> list[str]:
        return [call[-1] for call in self.calls if "shell" in call]

    @property
    def files(self) -> Path:
        """The app's folder on shared storage."""
        return self.folder / "sdcard" / FILES.lstrip("/")

    @property
    def is_alive(self) -> bool:
        return bool(json.loads((self.folder / "state.json").read_text()).get("alive"))
