"""`python -m edge.benchmark FILE...`: the latency an app will see, of several files side by side, and whether to believe it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.front_door import Result, Table, called, make_callable, paths_of, progress_on_stderr
from edge.runtime.process import DELEGATES, OK, UNAVAILABLE
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE
from tfvit.terminal import Parser, Terminal, run

_PRESETS = ("quick", "default", "mlperf")

_EPILOG = """examples:
  python -m edge.benchmark artifacts/nano32-float32.tflite artifacts/nano32-int8.tflite --threads 1,2
  python -m edge.benchmark model.tflite --delegate cpu --delegate gpu --save benchmark.json

delegates:
{delegates}

A file is measured in a process of its own, files take turns in rounds, and what is timed is one inference with its outputs read back.
exit codes: 0 measured, 1 a file is refused or computed wrongly by a delegate, 2 wrong usage, 3 unusable file, or no GPU where asked for
"""


def parser() -> Parser:
    """The command line of CONTRACT."""
    delegates = "\n".join(f"  {name:<10} {what}" for name, what in DELEGATES.items())
    parser = Parser(prog="python -m edge.benchmark", description=__doc__, epilog=_EPILOG.format(delegates=delegates))
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".tflite files; ratios are to the first")
    parser.add_argument("--delegate", action="append", help=f"{', '.join(DELEGATES)}; may be given several times (default: cpu)")
    parser.add_argument("--threads", default="1", help="of CPU delegates, a comma list (default: %(default)s)")
    parser.add_argument(
        "--preset", choices=_PRESETS, default="default", help="how long to measure (default: %(default)s); mlperf: 1024 runs and 60 s, p90"
    )
    parser.add_argument("--min-runs", type=int, help="timed inferences at least (default: 50)")
    parser.add_argument("--min-seconds", type=float, help="of timed inference at least (default: 5)")
    parser.add_argument(
        "--sustained",
        type=float,
        metavar="MINUTES",
        help="run each file alone without a pause for so long, and show the course (default: files take turns)",
    )
    parser.add_argument("--signature", metavar="NAME", help="which signature of a file that has several (default: the main graph's)")
    parser.add_argument(
        "--input-shape",
        action="append",
        metavar="[NAME=]N,N,…",
        help="the shape of an input with dynamic dimensions; may be given several times (default: none is guessed)",
    )
    parser.add_argument(
        "--input-data",
        type=Path,
        metavar="FILE|DIR",
        help="an image, .npy, .npz, or a folder of NAME.npy (default: inputs are generated)",
    )
    parser.add_argument(
        "--save", type=Path, metavar="FILE.json", help="write the JSON document there as well; edge.report reads it (default: nowhere)"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the distributions, or the course, as a PNG (default: nowhere)")
    parser.group("what to run", "files", "--delegate", "--threads", "--signature", "--input-shape", "--input-data")
    parser.group("how long", "--preset", "--min-runs", "--min-seconds", "--sustained")
    parser.group("what to keep", "--save", "--plot")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _command, argv)


def _command(arguments: argparse.Namespace, terminal: Terminal) -> int:
    found = called(benchmark, arguments, terminal)
    terminal.result(found.document, *found.table())
    demanded_gpu = any(name.startswith("gpu") for name in arguments.delegate or ())
    if demanded_gpu and any(row["delegate"].startswith("gpu") and row["status"] == UNAVAILABLE for row in found.rows):
        return EXIT_UNUSABLE
    return EXIT_OK if found.passed else EXIT_CHECK_FAILED


class Benchmark(Result):
    """What was measured: the JSON of CONTRACT. Its `repr` is the command's table."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for every file on every delegate."""
        return self.document["results"]

    @property
    def passed(self) -> bool:
        """Whether no delegate refused a file or computed it wrongly."""
        return {row["status"] for row in self.rows} <= {OK, UNAVAILABLE}

    def table(self) -> Table:
        from edge.latency import command

        return command.table(self.document)


def benchmark(
    files: Any,
    *,
    delegate: str | Sequence[str] | None = None,
    threads: int | str = 1,
    preset: str = "default",
    min_runs: int | None = None,
    min_seconds: float | None = None,
    sustained: float | None = None,
    save: str | Path | None = None,
    plot: str | Path | None = None,
    signature: str | None = None,
    input_shape: str | Sequence[str] | None = None,
    input_data: str | Path | None = None,
    quiet: bool = False,
) -> Benchmark:
    """The latency an app will see, of one file or of several that take turns.

    >>> edge.benchmark(["artifacts/nano32-float32.tflite", "artifacts/nano32-int8.tflite"], threads="1,2")

    Args:
        files: a `.tflite` or `Artifact`, or several of them; ratios are to the first.
        delegate: one or several of `edge.runtime.process.DELEGATES`; "cpu" by default.
        quiet: no progress on stderr.

    The other arguments are the command's flags (`python -m edge.benchmark --help`).

    Raises:
        UserError: as the command prints it.
    """
    chosen = [delegate] if isinstance(delegate, str) else list(delegate or ["cpu"])
    from edge.latency import command

    with progress_on_stderr(quiet):
        return Benchmark(
            command.benchmark(
                files=paths_of(files),
                delegates=chosen,
                threads=str(threads),
                preset=preset,
                min_runs=min_runs,
                min_seconds=min_seconds,
                sustained=sustained,
                save=Path(save) if save else None,
                plot=Path(plot) if plot else None,
                signature=signature,
                input_shape=[input_shape] if isinstance(input_shape, str) else list(input_shape or ()),
                input_data=Path(input_data) if input_data else None,
            )
        )


make_callable(__name__, benchmark)

if __name__ == "__main__":
    sys.exit(main())
