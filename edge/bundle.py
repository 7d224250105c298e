"""`python -m edge.bundle FILE... (--app DIR | --zip FILE | --web DIR)`: models, labels and `edge_package.json` into an app or a web page.

An app's project is Android's, Flutter's, React Native's (Expo too) or Xcode's; the lines and the class to paste are in its language.

`edge_package.json` says what to feed each model and what it must answer on a golden image, so that an app can check itself on its device.
Random weights, a failed drift check and a file that is not the one its manifest describes are refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.front_door import Result, Table, called, make_callable, paths_of, progress_on_stderr
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, UsageError
from tfvit.extras import require_extra
from tfvit.terminal import Parser, Terminal, run

_EPILOG = """examples:
  python -m edge.bundle artifacts/nano32-int8.tflite --app MyApp
  python -m edge.bundle artifacts/nano32-int8.tflite --app my_flutter_app
  python -m edge.bundle artifacts/*.tflite --zip package.zip
  python -m edge.bundle artifacts/nano32-int8.tflite --web page

exit codes: 0 written, 1 something must not ship (nothing is written), 2 wrong usage, 3 unusable project, file or disk
"""


def parser() -> Parser:
    parser = Parser(prog="python -m edge.bundle", description=__doc__, epilog=_EPILOG)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help=".tflite with its manifest beside it")
    parser.add_argument("--app", type=Path, metavar="DIR", help="Android (or a module), Flutter, React Native, Expo or Xcode project")
    parser.add_argument("--zip", type=Path, metavar="FILE", help="the same files as a zip, its bytes equal for equal artifacts")
    parser.add_argument(
        "--web", type=Path, metavar="DIR", help="a folder that runs them in a browser, with LiteRT.js (npm fetches it once)"
    )
    parser.add_argument("--allow-random", action="store_true", help="bundle random weights: to try an app out, not to ship it")
    parser.add_argument("--force", action="store_true", help="go on where there are files of others; those in the way are overwritten")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _command, argv)


def _command(arguments: argparse.Namespace, terminal: Terminal) -> int:
    made = called(bundle, arguments, terminal)
    if made.refusals:
        terminal.text(made.document, repr(made))
        return EXIT_CHECK_FAILED
    terminal.result(made.document, *made.table())
    return EXIT_OK


class Bundle(Result):
    """What an app gets: `edge_package.json` and where it lies. Its `repr` is what the command prints."""

    @property
    def refusals(self) -> list[str]:
        """What must not ship, as sentences; then nothing was written."""
        return self.document["refused"]

    @property
    def path(self) -> Path:
        """Of the folder, or the zip."""
        return Path(self.document["path"])

    def table(self) -> Table:
        columns = ("model", "MB", "input", "golden answer", "tolerance CPU, GPU", "GPU by rule", "labels")
        from edge.android import command

        return columns, *command.shown(self.document)

    def __repr__(self) -> str:
        if self.refusals:
            return "\n".join([*(f"REFUSED: {refusal}" for refusal in self.refusals), "nothing was written"])
        return super().__repr__()


def bundle(
    files: Any,
    *,
    app: str | Path | None = None,
    zip: str | Path | None = None,
    web: str | Path | None = None,
    allow_random: bool = False,
    force: bool = False,
    quiet: bool = False,
) -> Bundle:
    """Models, labels and `edge_package.json` into an app, a zip, or a folder that runs them in a browser.

    >>> edge.bundle("artifacts/nano32-int8.tflite", zip="package.zip")

    Args:
        files: a `.tflite` with its manifest beside it or an `Artifact`, or several of them.
        app: an Android project or one of its modules, a Flutter, React Native, Expo or Xcode project.
        zip: the same files as a zip, instead.
        web: a folder with a page that runs them in a browser, instead.
        allow_random: bundle random weights: to try an app out, not to ship it.
        force: go on where files are not ours; those whose names are needed are overwritten.
        quiet: no progress on stderr.

    Raises:
        UserError: as the command prints it.
    """
    places = [name for name, given in (("--app", app), ("--zip", zip), ("--web", web)) if given is not None]
    if len(places) != 1:
        raise UsageError(
            "nowhere, or too many places, to write to",
            expected="--app, --zip or --web, one of them",
            received=" and ".join(places) or "none of them",
            action="for example --zip package.zip",
        )
    require_extra("edge", "making a bundle", "ai_edge_litert")
    from edge.android import command

    with progress_on_stderr(quiet):
        target = {name: Path(given) if given else None for name, given in (("app", app), ("zip_file", zip), ("web", web))}
        return Bundle(command.bundle(paths_of(files), **target, allow_random=allow_random, force=force))


make_callable(__name__, bundle)

if __name__ == "__main__":
    sys.exit(main())
