"""`python -m edge.benchmark FILE...`: the latency an app will see, of several files side by side, and whether to believe it."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.latency.result import Turn, measured
from edge.latency.table import show
from edge.runtime.process import DELEGATES
from tfvit.errors import InputError, UsageError, unknown_name
from tfvit.extras import require_matplotlib
from tfvit.terminal import Parser, Terminal, run

_KIND = "benchmark"
_PRESETS = ("quick", "default", "mlperf")

_EPILOG = """delegates:
{delegates}

A file is measured in a process of its own, files take turns in rounds, and what is timed is one inference with its outputs read back.
exit codes: 0 measured, 1 a file is refused or computed wrongly by a delegate, 2 wrong usage, 3 unusable file, or no GPU where asked for
"""


def parser() -> Parser:
    """The command line of CONTRACT."""
    delegates = "\n".join(f"  {name:<10} {what}" for name, what in DELEGATES.items())
    parser = Parser(prog="python -m edge.benchmark", description=__doc__, epilog=_EPILOG.format(delegates=delegates))
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".tflite files; ratios are to the first")
    parser.add_argument("--delegate", action="append", help=f"{', '.join(DELEGATES)}; may be given several times (cpu)")
    parser.add_argument("--threads", default="1", help="of CPU delegates, a comma list (%(default)s)")
    parser.add_argument(
        "--preset", choices=_PRESETS, default="default", help="how long to measure (%(default)s); mlperf: 1024 runs and 60 s, p90"
    )
    parser.add_argument("--min-runs", type=int, help="timed inferences at least (50)")
    parser.add_argument("--min-seconds", type=float, help="of timed inference at least (5)")
    parser.add_argument(
        "--sustained", type=float, metavar="MINUTES", help="run each file alone without a pause for so long, and show the course"
    )
    parser.add_argument("--save", type=Path, metavar="FILE.json", help="write the JSON document there as well; edge.report reads it")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the distributions, or the course, as a PNG")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _benchmark, argv)


def _benchmark(arguments: argparse.Namespace, terminal: Terminal) -> int:
    groups = _groups(arguments.delegate or ["cpu"], arguments.threads)
    for file in arguments.files:
        _require_tflite(file)
    if len(set(arguments.files)) < len(arguments.files):
        raise UsageError("a file twice", expected="different files", received=", ".join(map(str, arguments.files)), action="name each once")
    if arguments.plot:
        _require_picture(arguments.plot)
    from edge.artifacts import atomic_files
    from edge.latency import protocol
    from edge.runtime import machine

    if arguments.save:
        atomic_files.require_replaceable(arguments.save, _KIND)

    preset = _preset(protocol, arguments)
    results, courses = [], []
    for group in groups:
        for result, times in measured(group, arguments, preset, terminal):
            results.append(result)
            courses.append(times)
    document = {
        "kind": _KIND,
        "environment": {**machine.environment(), **_runtime()},
        "preset": dataclasses.asdict(preset),
        "results": results,
    }
    if arguments.save:
        atomic_files.save_document(arguments.save, document)
    if arguments.plot:
        from edge.latency import plot

        drawn = plot.course(results) if arguments.sustained else plot.distributions(results, courses)
        atomic_files.save_picture(arguments.plot.parent, arguments.plot.stem, drawn)
    return show(document, preset, terminal, demanded_gpu=any(name.startswith("gpu") for name in arguments.delegate or ()))


def _groups(delegates: Sequence[str], threads: str) -> list[Turn]:
    counts = []
    for text in threads.split(","):
        if not text.strip().isdigit() or int(text) < 1:
            raise UsageError(
                "bad thread count",
                expected="--threads of at least 1, or a comma list",
                received=threads,
                action="for example --threads 1,2",
            )
        counts.append(int(text))
    for delegate in delegates:
        if delegate not in DELEGATES:
            raise unknown_name("delegate", delegate, DELEGATES)
    groups = [Turn(name, count) for name in delegates for count in ([None] if name.startswith("gpu") else counts)]
    return list(dict.fromkeys(groups))


def _preset(latency: Any, arguments: argparse.Namespace) -> Any:
    preset = latency.PRESETS[arguments.preset]
    runs = preset.min_runs if arguments.min_runs is None else arguments.min_runs
    seconds = preset.min_seconds if arguments.min_seconds is None else arguments.min_seconds
    minutes = 1.0 if arguments.sustained is None else arguments.sustained
    if runs < 1 or not 0 <= seconds < float("inf") or not 0 < minutes < float("inf"):
        raise UsageError(
            "nothing to measure",
            expected="--min-runs of at least 1, --min-seconds of at least 0, --sustained above 0",
            received=f"--min-runs {runs} --min-seconds {seconds:g} --sustained {minutes:g}",
            action="leave them out for 50 runs and 5 seconds",
        )
    return dataclasses.replace(preset, min_runs=runs, min_seconds=seconds)


def _require_tflite(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            start = opened.read(8)
    except OSError as error:
        raise InputError(
            "unreadable file", expected="a .tflite file", received=f"{file}: {error.strerror}", action="check the path"
        ) from error
    if start[4:] != b"TFL3":
        raise InputError(
            "not a TFLite file", expected="a flatbuffer with the identifier TFL3", received=str(file), action="pass a .tflite file"
        )


def _require_picture(path: Path) -> None:
    if path.suffix.lower() != ".png":
        raise UsageError("pictures are PNG", expected="--plot NAME.png", received=str(path), action="give it the ending .png")
    if not path.parent.is_dir():
        raise InputError("no such folder", expected="an existing folder", received=str(path.parent), action="create it, or choose another")
    require_matplotlib("--plot")


def _runtime() -> dict[str, str]:
    from edge.runtime.cpu import runtime_version

    return {"runtime": runtime_version()}


if __name__ == "__main__":
    sys.exit(main())
