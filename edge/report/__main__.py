"""`python -m edge.report DIR`: one page on a folder of artifacts, or what changed between two of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edge.front_door import called
from edge.report import TOLERANCES, Comparison, report
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK
from tfvit.terminal import Parser, Terminal, run

_EPILOG = """examples:
  python -m edge.report artifacts
  python -m edge.report --compare release-1 release-2 -o changes.md

DIR and the folders below it may hold manifests (edge.convert), the JSON of edge.benchmark, edge.validate and
calibration.inspect, and reports of the Android app (also with --device). Each document is recognised by its content.
exit codes: 0 all checks passed, 1 a check failed (--compare: something got worse), 2 wrong usage, 3 unusable input
"""


def parser() -> Parser:
    parser = Parser(prog="python -m edge.report", description=__doc__, epilog=_EPILOG)
    parser.add_argument("directory", nargs="?", type=Path, metavar="DIR", help="folder with artifacts and their measurements")
    parser.add_argument(
        "--device",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="a phone's report; may be given several times (default: those in the folder)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the page (default: DIR/report.html), NAME.json beside it; with --compare a Markdown file",
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that edge.report did not write")
    comparison = parser.add_argument_group("what changed between two folders")
    comparison.add_argument(
        "--compare", nargs=2, type=Path, metavar=("A", "B"), help="size, operations, delegates, drift, latency of B against A"
    )
    for name, default, _, words in TOLERANCES:
        flag, said = f"--{name.replace('_', '-')}", f"{words} (default: %(default)g)"
        comparison.add_argument(flag, type=float, default=default, metavar="N", help=said)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _command, argv)


def _command(arguments: argparse.Namespace, terminal: Terminal) -> int:
    found = called(report, arguments, terminal)
    if isinstance(found, Comparison):
        terminal.text(found.document, repr(found))
    else:
        terminal.result(found.document, *found.table())
    return EXIT_OK if found.passed else EXIT_CHECK_FAILED


if __name__ == "__main__":
    sys.exit(main())
