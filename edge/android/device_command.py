"""From what `edge.device` is given to its document: a phone, or browsers, measure a bundle; the reports are checked and kept."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge.android.adb import Adb, choose, find_adb
from edge.android.phone import Clock, Phone, bundle_hashes
from edge.android.phone_benchmark import wait
from edge.artifacts import artifact, atomic_files
from edge.report import device as device_report
from edge.report.documents import DEVICE_REPORT, read_document
from edge.web import session
from tfvit.errors import EnvironmentUnusableError, InputError, UserError
from tfvit.progress import Progress, reporting

_COLUMNS = ("model", "backend", "median ms", "p90 ms", "init ms", "valid", "parity", "remarks")
# Of a browser's report, in the document
_KEPT = ("device", "browser", "runtime", "results")


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the command prints.

    Attributes:
        document: as JSON.
        refused: what must not ship, in words; None where it was measured.
        table: column titles, rows, and the lines below them.
    """

    document: dict[str, Any]
    refused: str | None = None
    table: tuple[Sequence[str], Sequence[Sequence[str]], Sequence[str]] = ((), (), ())


def device(
    *,
    files: Sequence[Path],
    adb: Path | None,
    serial: str | None,
    out: Path,
    preset: str,
    timeout_seconds: float,
    allow_random: bool,
    clock: Clock | None,
    progress: Progress,
) -> Measured:
    """Measures on a phone; the arguments are those of `edge.device`."""
    with contextlib.ExitStack() as cleanup:
        with progress.stage("find the phone"):
            path = find_adb(adb, os.environ)
            chosen = choose(Adb(path).devices(), serial)
            phone = Phone(Adb(path, chosen.serial), clock or Clock())
            apk = phone.require_app()
            phone.require_screen()
            cleanup.enter_context(atomic_files.prepared_folder(out))
            target = out / f"{phone.name()}.device.json"
            atomic_files.require_replaceable(target, "device_report")
        hashes = None if files else phone.own_bundle(apk)
        made = None
        if files:
            from edge.android import package  # needs the runtime, which measuring the app's own bundle does not

            paths = list({path.resolve(): path for path in files}.values())
            with reporting(progress):
                made = package.build([artifact.load(path, verify=False) for path in paths], allow_random)
            if made.refusals or made.document is None:
                document = {"kind": "device", "serial": chosen.serial, "report": None, "refused": list(made.refusals)}
                return Measured(document, "\n".join([*(f"REFUSED: {refusal}" for refusal in made.refusals), "nothing was measured"]))
            hashes = bundle_hashes(made.document)
        elif hashes is None:
            progress.note("the bundle inside the app cannot be read from here: the report's hashes are not compared with it")
        status, report = _measured(phone, made, hashes, preset, timeout_seconds, progress)
        atomic_files.save_document(target, report.content)
        return _described(report, status, target, chosen.serial)


def browsers(
    folder: Path, *, out: Path, host: str | None, port: int, preset: str, number: int, timeout_seconds: float, progress: Progress
) -> Measured:
    """Measures in browsers; the arguments are those of `session.serve`."""
    received = session.serve(
        folder, out=out, host=host, port=port, preset=preset, number=number, timeout_seconds=timeout_seconds, progress=progress
    )
    rows = [row for report in received for row in device_report.rows(report)]
    wrong = [row for row in rows if not (row.result["parity"] and row.result["parity"]["passed"])]
    failures = [f"{report.path.name}: {failure}" for report in received for failure in report.content.get("failures", [])]
    missing = [f"{len(received)} of {number} reports came"] if len(received) < number else []
    document = {
        "kind": "device",
        "serial": None,
        "reports": [{"report": str(report.path), **{name: report.content[name] for name in _KEPT}} for report in received],
        "failures": failures + missing,
        "refused": [],
        "passed": not wrong and not missing,
    }
    columns = ("model", "device", *_COLUMNS[1:])
    table = [(cells[0], row.device, *cells[1:]) for row, cells in ((row, _row(row)) for row in rows)]
    closing = [f"FAILED: {row.result['name']}, {row.result['backend_used']}: {_parity(row.result['parity'])}" for row in wrong]
    closing += [f"not measured: {failure}" for failure in failures] + [f"FAILED: {one}" for one in missing]
    closing.append("Browsers run LiteRT.js: these milliseconds say nothing about an app.")
    closing += [f"saved as {report.path}" for report in received]
    return Measured(document, None, (columns, table, closing))


def _measured(phone: Phone, made: Any, hashes: set[str] | None, preset: str, timeout_seconds: float, progress: Progress) -> tuple[Any, Any]:
    """Runs the benchmark. Afterwards, also after an error, the app no longer measures and the pushed files are removed."""
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
            phone.start(preset, name, bool(made))
        status = wait(phone, name, timeout_seconds, progress)
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


def _described(report: Any, status: Any, target: Path, serial: str) -> Measured:
    rows = device_report.rows(report)
    wrong = [row for row in rows if not (row.result["parity"] and row.result["parity"]["passed"])]
    passed = not wrong and not status.failures
    document = {
        "kind": "device",
        "serial": serial,
        "report": str(target),
        "device": report.content["device"],
        "runtime": report.content["runtime"],
        "results": report.content["results"],
        "failures": list(status.failures),
        "refused": [],
        "passed": passed,
    }
    table = [_row(row) for row in rows]
    about = dict(device_report.description(report))
    closing = [f"{rows[0].device}, {about['SoC']}, Android {about['Android']}, {about['runtime']}"]
    if not rows[0].is_phone:
        closing.append("NOT A PHONE: these milliseconds say nothing about one.")
    closing += [f"FAILED: {row.result['name']}, {row.result['backend_used']}: {_parity(row.result['parity'])}" for row in wrong]
    closing += [f"FAILED: {failure}" for failure in status.failures]
    closing.append(f"saved as {target}")
    return Measured(document, None, (_COLUMNS, table, closing))


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
