"""`python -m edge.inspect FILE`: what is in a `.tflite`, which operations each delegate takes, and why not the others. Needs no GPU."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.front_door import called, make_callable, paths_of, progress_on_stderr
from tfvit.errors import EXIT_OK, EXIT_UNUSABLE
from tfvit.extras import require_extra
from tfvit.terminal import Parser, Terminal, run

_EPILOG = """examples:
  python -m edge.inspect model.tflite
  python -m edge.inspect model.tflite --gpu --input-data photo.jpg

The GPU verdict follows rules (edge/tflite/delegate_rules.py, compared with the real delegate in tests).
--gpu asks the delegate itself. It needs a Vulkan device; scripts/software_vulkan.sh sets up one that computes on the CPU.
--npu asks Arm's compiler for Ethos-U (the extra npu). Its milliseconds and memory are estimates by its own model.
exit codes: 0 inspected, whatever was found, 2 wrong usage, 3 unreadable file, --gpu without a GPU, --npu without the compiler
"""


def parser() -> Parser:
    parser = Parser(prog="python -m edge.inspect", description=__doc__, epilog=_EPILOG)
    parser.add_argument("file", type=Path, metavar="FILE", help="any .tflite file")
    parser.add_argument("--gpu", action="store_true", help="also compile and run the file on the GPU delegate, in a process of its own")
    parser.add_argument(
        "--float16",
        nargs="?",
        const="builtin",
        metavar="IMAGES",
        help="also look for the largest numbers, which float16 arithmetic must hold, on a folder or zip of images (%(const)s)",
    )
    parser.add_argument(
        "--signature", metavar="NAME", help="which signature --gpu runs, of a file that has several (default: the main graph's)"
    )
    parser.add_argument(
        "--input-shape",
        action="append",
        metavar="[NAME=]N,N,…",
        help="for --gpu, the shape of an input with dynamic dimensions (default: none is guessed)",
    )
    parser.add_argument(
        "--input-data", type=Path, metavar="FILE|DIR", help="for --gpu, as in edge.benchmark (default: inputs are generated)"
    )
    parser.add_argument("--npu", metavar="ACCELERATOR", help="also compile the file for an Arm NPU, for example ethos-u85-1024")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _command, argv)


def _command(arguments: argparse.Namespace, terminal: Terminal) -> int:
    found = called(inspect, arguments, terminal)
    terminal.text(found.document, found.page)
    return EXIT_UNUSABLE if found.lacked_gpu or found.lacked_compiler else EXIT_OK


@dataclasses.dataclass(frozen=True, repr=False)
class Inspection:
    """What is in a file and what delegates take of it. Its `repr` is the command's page.

    Attributes:
        document: the same as JSON.
        page: as text.
        lacked_gpu: whether the GPU delegate was asked for and there is none here.
        lacked_compiler: whether an NPU was asked for and its compiler is not installed.
    """

    document: dict[str, Any]
    page: str
    lacked_gpu: bool
    lacked_compiler: bool = False

    def __repr__(self) -> str:
        return self.page


def inspect(
    file: Any,
    *,
    gpu: bool = False,
    npu: str | None = None,
    signature: str | None = None,
    input_shape: str | Sequence[str] | None = None,
    input_data: str | Path | None = None,
    float16: str | None = None,
    quiet: bool = False,
) -> Inspection:
    """What is in a `.tflite`, what each delegate takes of it, and why not the rest.

    >>> edge.inspect("artifacts/nano32-int8.tflite")

    Args:
        file: the file, of ours or anyone's, or an `Artifact`.
        gpu: compile and run it on the GPU delegate as well, in a process of its own.
        npu: compile it for this Arm NPU as well, for example "ethos-u85-1024"; needs the extra `npu`.
        float16: also look for the largest numbers in it, on a folder or zip of images or "builtin": float16 holds up to 65504.
        signature, input_shape, input_data: what `gpu` runs, as in `edge.benchmark`.
        quiet: no progress on stderr.

    Raises:
        UserError: as the command prints it.
    """
    require_extra("edge", "reading a .tflite", "ai_edge_litert")  # its schema; tflite-runtime beside it is fine
    (path,) = paths_of(file)
    from edge.inspection import command

    with progress_on_stderr(quiet):
        shapes = [input_shape] if isinstance(input_shape, str) else list(input_shape or ())
        data = Path(input_data) if input_data else None
        document = command.inspect(path, gpu, npu, signature, command.input_shapes(shapes), data, None if float16 is None else str(float16))
    delegates = document["delegates"]
    lacked = [
        asked is not None and asked["status"] == command.NOT_TESTED
        for asked in (delegates["gpu"]["measured"], delegates["npu"]["compiled"])
    ]
    return Inspection(document, command.page(document), *lacked)


make_callable(__name__, inspect)

if __name__ == "__main__":
    sys.exit(main())
