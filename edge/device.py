"""`python -m edge.device [FILE...]`: the benchmark and the parity check of the Android app on a phone, through adb.

FILE is pushed to the app for this run. Without FILE the bundle inside the app is measured. The report goes to --out as NAME.device.json,
where edge.report finds it.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK
from tfvit.extras import require_extra
from tfvit.terminal import Parser, Terminal, run

if TYPE_CHECKING:
    from edge.android.phone import Clock

PRESETS = ("quick", "default", "mlperf")
TIMEOUT_MINUTES = 10.0

_EPILOG = """exit codes: 0 measured and right, 1 wrong answers, or a file that must not ship, 2 wrong usage, 3 no usable phone, app, report
The phone: USB debugging on, the app of android_demo installed, awake and unlocked (docs/device.md).
"""


def parser() -> Parser:
    parser = Parser(prog="python -m edge.device", description=__doc__, epilog=_EPILOG)
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help=".tflite with its manifest beside it")
    parser.add_argument("--serial", metavar="S", help="which device, where there are several: as adb devices lists it")
    parser.add_argument("--out", type=Path, default=Path("artifacts"), metavar="DIR", help="where the report goes (default: %(default)s)")
    parser.add_argument("--preset", choices=PRESETS, default="default", help="how long to measure (default: %(default)s)")
    parser.add_argument(
        "--timeout", type=_minutes, default=TIMEOUT_MINUTES, metavar="MINUTES", help="longest time without progress (default: %(default)g)"
    )
    parser.add_argument("--adb", type=Path, metavar="PATH", help="the program (else the one on PATH, then the Android SDK's)")
    parser.add_argument("--allow-random", action="store_true", help="measure random weights")
    return parser


def main(argv: Sequence[str] | None = None, clock: Clock | None = None) -> int:
    return run(parser(), functools.partial(_device, clock=clock), argv)


def _device(arguments: argparse.Namespace, terminal: Terminal, clock: Clock | None) -> int:
    require_extra("edge", "checking a phone's report", "jsonschema")
    if arguments.files:
        require_extra("edge", "making a bundle", "ai_edge_litert")
    from edge.android import device_command

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


def _minutes(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value <= 0:
        raise argparse.ArgumentTypeError(f"must be a finite number above 0. Received: {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
