"""`python -m edge.device [FILE...]`: the benchmark and the parity check of the Android app on a phone, through adb.

FILE is pushed to the app for this run. Without FILE the bundle inside the app is measured. The report goes to --out as NAME.device.json,
where edge.report finds it. --web serves a folder of edge.bundle --web instead, and waits for the reports of the browsers that open it.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, UsageError
from tfvit.extras import require_extra
from tfvit.terminal import Parser, Terminal, run

if TYPE_CHECKING:
    from edge.android.phone import Clock

PRESETS = ("quick", "default", "mlperf")
TIMEOUT_MINUTES = 10.0

_EPILOG = """examples:
  python -m edge.device artifacts/nano32-int8.tflite
  python -m edge.device --web page --reports 2

exit codes: 0 measured and right, 1 wrong answers, or a file that must not ship, 2 wrong usage, 3 no usable phone, app, report
The phone: USB debugging on, the app of android_demo installed, awake and unlocked (docs/device.md).
"""


def parser() -> Parser:
    parser = Parser(prog="python -m edge.device", description=__doc__, epilog=_EPILOG)
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help=".tflite with its manifest beside it")
    parser.add_argument("--serial", metavar="S", help="which device, as adb devices lists it (default: the only one)")
    parser.add_argument("--out", type=Path, default=Path("artifacts"), metavar="DIR", help="where the report goes (default: %(default)s)")
    parser.add_argument("--preset", choices=PRESETS, default="default", help="how long to measure (default: %(default)s)")
    parser.add_argument(
        "--timeout", type=_minutes, default=TIMEOUT_MINUTES, metavar="MINUTES", help="longest time without progress (default: %(default)g)"
    )
    parser.add_argument("--adb", type=Path, metavar="PATH", help="the program (default: the one on PATH, then the Android SDK's)")
    parser.add_argument("--allow-random", action="store_true", help="measure random weights")
    parser.add_argument("--web", type=Path, metavar="DIR", help="serve this folder of edge.bundle --web to browsers on the local network")
    parser.add_argument("--reports", type=_number, metavar="N", help="with --web: how many reports to wait for (default: 1)")
    parser.add_argument("--host", metavar="ADDRESS", help="with --web: where to listen (default: this machine's address on the network)")
    parser.add_argument("--port", type=_port, metavar="N", help="with --web: a port (default: a free one)")
    return parser


def main(argv: Sequence[str] | None = None, clock: Clock | None = None) -> int:
    return run(parser(), functools.partial(_device, clock=clock), argv)


def _device(arguments: argparse.Namespace, terminal: Terminal, clock: Clock | None) -> int:
    if arguments.web:
        require_extra("web", "serving a page")
    _require_one_way(arguments)
    require_extra("edge", "checking a phone's report", "jsonschema")
    if arguments.files:
        require_extra("edge", "making a bundle", "ai_edge_litert")
    from edge.android import device_command

    if arguments.web:
        found = device_command.browsers(
            arguments.web,
            out=arguments.out,
            host=arguments.host,
            port=arguments.port or 0,
            preset=arguments.preset,
            number=arguments.reports or 1,
            timeout_seconds=60 * arguments.timeout,
            progress=terminal.progress,
        )
        terminal.result(found.document, *found.table)
        return EXIT_OK if found.document["passed"] else EXIT_CHECK_FAILED
    found = device_command.device(
        files=arguments.files,
        adb=arguments.adb,
        serial=arguments.serial,
        out=arguments.out,
        preset=arguments.preset,
        timeout_seconds=60 * arguments.timeout,
        allow_random=arguments.allow_random,
        clock=clock,
        progress=terminal.progress,
    )
    if found.refused:
        terminal.text(found.document, found.refused)
    else:
        terminal.result(found.document, *found.table)
    return EXIT_OK if found.document.get("passed") else EXIT_CHECK_FAILED


def _require_one_way(arguments: argparse.Namespace) -> None:
    """Checks that the flags are of a phone with adb, or of browsers."""
    given = {
        f"--{name.replace('_', '-')}": getattr(arguments, name) for name in ("serial", "adb", "allow_random", "reports", "host", "port")
    }
    of_browsers = ("--reports", "--host", "--port")
    unfit = [name for name, value in given.items() if value and (name in of_browsers) != bool(arguments.web)]
    unfit += ["FILE"] if arguments.web and arguments.files else []
    unfit += ["--quiet"] if arguments.web and arguments.quiet else []
    if unfit:
        raise UsageError(
            "flags of two ways to measure",
            expected="with --web none of FILE, --serial, --adb, --allow-random, and no --quiet, which hides the address; "
            "without it none of --reports, --host, --port",
            received=f"{', '.join(unfit)} {'with' if arguments.web else 'without'} --web",
            action="leave them out; FILEs go into the folder with edge.bundle FILE... --web DIR",
        )


def _number(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more. Received: {text}")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 < value < 1 << 16:
        raise argparse.ArgumentTypeError(f"must be 1 to 65535. Received: {text}")
    return value


def _minutes(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value <= 0:
        raise argparse.ArgumentTypeError(f"must be a finite number above 0. Received: {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
