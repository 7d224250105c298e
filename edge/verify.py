"""`python -m edge.verify FILE|MANIFEST`: makes a file again from its recorded inputs, and compares the bytes.

A FILE.tflite holds the record of its inputs. With a MANIFEST, the fields of the manifest are compared too. Name your own weights and
images; they are checked by their recorded hashes first. Verifying takes as long as converting did.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edge import flags
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, UsageError
from tfvit.extras import require_extra
from tfvit.progress import reporting
from tfvit.terminal import Parser, Terminal, run

_EPILOG = """examples:
  python -m edge.verify artifacts/nano32-int8.json
  python -m edge.verify mine-int8.tflite --model mine.keras --calibration photos

exit codes: 0 equal to the last byte, 1 different (the output names graph, weights, quantization, metadata, labels, tools or
manifest), 2 wrong usage, 3 cannot be made again (no record; weights, images or labels missing or not the recorded ones; other versions
of tools)
"""


def parser() -> Parser:
    parser = Parser(prog="python -m edge.verify", description=__doc__, epilog=_EPILOG)
    parser.add_argument("file", type=Path, metavar="FILE|MANIFEST", help="a .tflite of edge.convert, or its .json")
    parser.add_argument("--weights", type=Path, help="the checkpoint it was made from, if that was a file of yours")
    parser.add_argument("--model", type=Path, help="the saved .keras model it was made from, if any")
    parser.add_argument("--checkpoint", metavar="PATH", help="the checkpoint it was made from with --checkpoint, or hf://OWNER/NAME")
    parser.add_argument("--trust-model", action="store_true", help="run Python code in --model (lambdas); only for files that you trust")
    flags.add_import_flag(parser)
    parser.add_argument(
        "--calibration", type=Path, help="the folder or zip of calibration images, if they were yours (default: those recorded)"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        help="text file with the class names, if those in the file are not the recorded ones (default: those in the file)",
    )
    parser.add_argument("--other-tools", action="store_true", help="compare even if packages have other versions than the recorded ones")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _verify, argv)


def _verify(arguments: argparse.Namespace, terminal: Terminal) -> int:
    if arguments.file.suffix not in (".tflite", ".json"):
        raise UsageError(
            "neither a file nor a manifest",
            expected="a .tflite, or the .json beside it",
            received=str(arguments.file),
            action="name one of the two",
        )
    require_extra("edge", "verifying")
    from edge.conversion import verification

    files = verification.Given(
        arguments.weights, arguments.model, arguments.calibration, arguments.trust_model, arguments.imports, arguments.checkpoint
    )
    with reporting(terminal.progress, arguments.file.name):
        document = verification.verify(arguments.file, files, arguments.labels, arguments.other_tools)
    terminal.text(document, verification.page(document))
    return EXIT_OK if document["equal"] else EXIT_CHECK_FAILED


if __name__ == "__main__":
    sys.exit(main())
