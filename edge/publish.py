"""`python -m edge.publish DIR [--to OWNER/NAME]`: a model card beside the artifacts, and both to a hub.

Random weights, a failed drift check and a file that is not the one its manifest describes are refused.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.front_door import called, make_callable, progress_on_stderr
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK
from tfvit.extras import require_extra
from tfvit.terminal import Parser, Terminal, run

_EPILOG = """examples:
  python -m edge.publish artifacts
  python -m edge.publish artifacts --to me/nano32-litert --private

The token is huggingface_hub's own: `hf auth login`, or HF_TOKEN. HF_ENDPOINT names another hub.
exit codes: 0 written or published, 1 something must not be published (nothing is written), 2 wrong usage, 3 unusable input or hub
"""


def parser() -> Parser:
    parser = Parser(prog="python -m edge.publish", description=__doc__, epilog=_EPILOG)
    parser.add_argument("directory", type=Path, metavar="DIR", help="folder with artifacts of one model, as edge.convert writes them")
    parser.add_argument("--to", metavar="OWNER/NAME", help="the repository, made where there is none (default: only the card is written)")
    parser.add_argument("--private", action="store_true", help="make the repository private")
    parser.add_argument("--allow-random", action="store_true", help="publish random weights")
    parser.add_argument("--force", action="store_true", help="overwrite a README.md that edge.publish did not write")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _command, argv)


def _command(arguments: argparse.Namespace, terminal: Terminal) -> int:
    found = called(publish, arguments, terminal)
    terminal.text(found.document, repr(found))
    return EXIT_OK if found.passed else EXIT_CHECK_FAILED


@dataclasses.dataclass(frozen=True, repr=False)
class Publication:
    """What was written and where it went. Its `repr` is what the command prints.

    Attributes:
        document: the same as JSON.
        text: as text.
    """

    document: dict[str, Any]
    text: str

    @property
    def passed(self) -> bool:
        """Whether nothing was refused."""
        return not self.document["refused"]

    def __repr__(self) -> str:
        return self.text


def publish(
    directory: str | Path,
    *,
    to: str | None = None,
    private: bool = False,
    allow_random: bool = False,
    force: bool = False,
    quiet: bool = False,
) -> Publication:
    """A model card beside the artifacts, and both to a hub.

    >>> edge.publish("artifacts", to="me/nano32-litert")

    Args:
        directory: folder with artifacts of one model.
        to: the repository OWNER/NAME; None writes the card alone.
        private: make the repository private.
        allow_random: publish random weights.
        force: overwrite a README.md that is not of ours.
        quiet: no progress on stderr.

    Raises:
        UserError: as the command prints it.
    """
    require_extra("edge", "publishing", "ai_edge_litert", "jsonschema")
    from edge.publishing import command

    with progress_on_stderr(quiet):
        document = command.publish(Path(directory), to, private, allow_random, force)
    return Publication(document, command.lines(document))


make_callable(__name__, publish)

if __name__ == "__main__":
    sys.exit(main())
