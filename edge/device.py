"""`python -m edge.device [FILE...]`: the benchmark and the parity check of the Android app on a phone, through adb.

FILE is pushed to the app for this run. Without FILE the bundle inside the app is measured. The report goes to --out as NAME.device.json,
where edge.report finds it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EnvironmentUnusableError, InputError, UserError
from tfvit.extras import require_extra
from tfvit.progress import Progress, reporting
from tfvit.terminal import Parser, Terminal, run

if TYPE_CHECKING:
    from edge.android.phone import Clock, Phone

PRESETS = ("quick", "default", "mlperf")
TIMEOUT_MINUTES = 10.0

_EPILOG = """exit codes: 0 measured and right, 1 wrong answers, or a file that must not ship, 2 wrong usage, 3 no usable phone, app, report
The phone: USB debugging on, the app of android_demo installed, awake and unlocked (docs/device.md).
"""


def parser() -> Parser:
    parser = Parser(prog="python -m edge.device", description=__doc__, epilog=_EPILOG)
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help=".tflite with its manifest beside it")
    parser.add_argument("--serial", metavar="S", help="which device, where there are several: as adb devices lists it")
    parser.add_argument("--out", type=Path, default=Path("artifacts"), metavar="DIR", help="where the report goes (%(default)s)")
    parser.add_argument("--preset", choices=PRESETS, default="default", help="how long to measure (%(default)s)")
    parser.add_argument(
        "--timeout", type=_minutes, default=TIMEOUT_MINUTES, metavar="MINUTES", help="longest time without progress (%(default)g)"
    )
    parser.add_argument("--adb", type=Path, metavar="PATH", help="the program (else the one on PATH, then the Android SDK's)")
    parser.add_argument("--allow-random", action="store_true", help="measure random weights")
    return parser


def main(argv: Sequence[str] | None = None, clock: Clock | None = None) -> int:
    return run(parser(), functools.partial(_device, clock=clock), argv)


def _device(arguments: argparse.Namespace, terminal: Terminal, clock: Clock | None) -> int:
    with contextlib.ExitStack() as cleanup:
        return _measured_on_phone(arguments, terminal, clock, cleanup)


def _measured_on_phone(arguments: argparse.Namespace, terminal: Terminal, clock: Clock | None, cleanup: contextlib.ExitStack) -> int:
    require_extra("edge", "checking a phone's report", "jsonschema")
    if arguments.files:
        require_extra("edge", "making a bundle", "ai_edge_litert")
    from edge.android.adb import Adb, choose, find_adb
    from edge.android.phone import Clock, Phone, bundle_hashes
    from edge.artifacts import artifact, atomic_files

    progress = terminal.progress
    with progress.stage("find the phone"):
        path = find_adb(arguments.adb, os.environ)
        device = choose(Adb(path).devices(), arguments.serial)
        phone = Phone(Adb(path, device.serial), clock or Clock())
        apk = phone.require_app()
        phone.require_screen()
        cleanup.enter_context(atomic_files.prepared_folder(arguments.out))
        target = arguments.out / f"{phone.name()}.device.json"
        atomic_files.require_replaceable(target, "device_report")
    hashes = None if arguments.files else phone.own_bundle(apk)
    made = None
    if arguments.files:
        from edge.android import package

        paths = list({path.resolve(): path for path in arguments.files}.values())
        with reporting(progress):
            made = package.build([artifact.load(path, verify=False) for path in paths], arguments.allow_random)
        if made.refusals or made.document is None:
            document = {"kind": "device", "serial": device.serial, "report": None, "refused": list(made.refusals)}
            terminal.text(document, "\n".join([*(f"REFUSED: {refusal}" for refusal in made.refusals), "nothing was measured"]))
            return EXIT_CHECK_FAILED
        hashes = bundle_hashes(made.document)
    elif hashes is None:
        progress.note("the bundle inside the app cannot be read from here: the report's hashes are not compared with it")
    status, report = _measured(phone, made, hashes, arguments, progress)
    atomic_files.save_document(target, report.content)
    return _report(report, status, target, device, terminal)


def _measured(phone: Phone, made: Any, hashes: set[str] | None, arguments: argparse.Namespace, progress: Progress) -> tuple[Any, Any]:
    """Runs the benchmark. Afterwards, also after an error, the app no longer measures and the pushed files are removed."""
    from edge.android.phone_benchmark import wait

    name = secrets.token_hex(8)
    with contextlib.ExitStack() as cleanup:
        if made:
            with progress.stage(f"push {sum(map(len, made.files.values())) / 1e6:.1f} MB"):
                phone.prepare_folder()
                cleanup.callback(_tidy, phone.remove_package, "the pushed files stay on the phone", progress)
                phone.push(made.files)
        cleanup.callback(_tidy, phone.stop, "the app may still be measuring", progress)
        with progress.stage("start the app"):
            phone.require_screen()
            phone.start(arguments.preset, name, bool(made))
        status = wait(phone, name, 60 * arguments.timeout, progress)
        if status.failures and status.finished == len(status.failures):
            raise EnvironmentUnusableError(
                "no model ran on the phone",
                expected="one that runs on the CPU or the GPU",
                received="; ".join(status.failures)[:400],
                action="see the file's minimum runtime (edge.inspect), and whether the phone has enough memory",
            )
        with progress.stage("pull and check the report"), tempfile.TemporaryDirectory(prefix="edge-device-") as folder:
            report = _checked(phone.report(Path(folder)), name, hashes)
        if not made:
            cleanup.pop_all()  # its results stay on the screen
    return status, report


def _checked(path: Path, name: str, hashes: set[str] | None) -> Any:
    """The report, checked: of this run, and about the files of its bundle.

    Raises:
        InputError: no JSON, not as its schema has it, of another run, or about other files.
    """
    from edge.report.documents import DEVICE_REPORT, read_document

    try:
        report = read_document(path, path.name, demanded=DEVICE_REPORT)
    except InputError as error:
        raise _unusable(error.received.removeprefix(f"{path}: ")) from error
    if report.content.get("run") != name:
        raise _unusable(f"the report of another run ({report.content.get('run')!r}, not {name!r})")
    foreign = [result for result in report.content["results"] if hashes is not None and result["sha256"] not in hashes]
    if foreign:
        raise _unusable(f"a result about another file: {foreign[0]['name']}, SHA-256 {foreign[0]['sha256']}")
    if not report.content["results"]:
        raise _unusable("no results in it")
    return report


def _unusable(received: str) -> InputError:
    return InputError(
        "the phone's report cannot be used",
        expected="the report of this run, about the files of its bundle (edge/report/device_report.schema.json)",
        received=received[:400],
        action="install the app of this version of the tools, and run this again; nothing was saved",
    )


def _tidy(action: Callable[[], None], words: str, progress: Progress) -> None:
    try:
        action()
    except UserError as error:
        progress.warn(f"{words}: {error.received}")


def _report(report: Any, status: Any, target: Path, device: Any, terminal: Terminal) -> int:
    from edge.report import device as device_report

    rows = device_report.rows(report)
    wrong = [row for row in rows if not (row.result["parity"] and row.result["parity"]["passed"])]
    passed = not wrong and not status.failures
    document = {
        "kind": "device",
        "serial": device.serial,
        "report": str(target),
        "device": report.content["device"],
        "runtime": report.content["runtime"],
        "results": report.content["results"],
        "failures": list(status.failures),
        "refused": [],
        "passed": passed,
    }
    columns = ("model", "backend", "median ms", "p90 ms", "init ms", "valid", "parity", "remarks")
    table = [_row(row) for row in rows]
    about = dict(device_report.description(report))
    closing = [f"{rows[0].device}, {about['SoC']}, Android {about['Android']}, {about['runtime']}"]
    if not rows[0].is_phone:
        closing.append("NOT A PHONE: these milliseconds say nothing about one.")
    closing += [f"FAILED: {row.result['name']}, {row.result['backend_used']}: {_parity(row.result['parity'])}" for row in wrong]
    closing += [f"FAILED: {failure}" for failure in status.failures]
    closing.append(f"saved as {target}")
    terminal.result(document, columns, table, closing)
    return EXIT_OK if passed else EXIT_CHECK_FAILED


def _row(row: Any) -> tuple[str, ...]:
    result = row.result
    threads = f", {result['threads']} threads" if result["threads"] else ""
    return (
        result["name"],
        f"{result['backend_used']}{threads}{'' if row.as_asked else ' (not as asked)'}",
        *(f"{result[name]:.2f}" for name in ("median_ms", "p90_ms")),
        f"{result['init_ms']:.0f}",
        "yes" if result["valid"] else "no",
        _parity(result["parity"]),
        "; ".join(row.remarks),
    )


def _parity(parity: Any) -> str:
    if parity is None:
        return "not checked"
    error = "NaN" if parity["max_abs_err"] is None else f"{parity['max_abs_err']:.2g}"
    return f"passed, {error}" if parity["passed"] else f"FAILED, {error} of {parity['tolerance']:g}"


def _minutes(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value <= 0:
        raise argparse.ArgumentTypeError(f"must be a finite number above 0. Received: {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
