"""`python -m edge.cache`: lists what the commands keep in the user's cache folder, and clears it.

An entry is found by the hash of everything that it depends on, so no entry is ever out of date. A stopped run continues by finding its own
entries. Each entry holds its hash; a damaged entry is made again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from edge.artifacts.store import FOLDER_VARIABLE, LIMIT_BYTES, LIMIT_VARIABLE, Entry, default_folder, open_store
from tfvit.errors import EXIT_OK, EnvironmentUnusableError
from tfvit.terminal import Parser, Terminal, run


def parser() -> Parser:
    parser = Parser(
        prog="python -m edge.cache",
        description=__doc__,
        epilog=f"{FOLDER_VARIABLE}=DIR names another folder. {LIMIT_VARIABLE}=N sets another limit than {LIMIT_BYTES / 2**30:g} GiB.\n"
        "Above the limit, the least recently used entries are removed first.\n",
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="the folder (default: the user's cache folder)")
    parser.add_argument("--clear", action="store_true", help="remove the entries")
    parser.add_argument("--kind", help="list or clear only entries of this kind, for example answers (default: all)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _list_or_clear, argv)


def _list_or_clear(arguments: argparse.Namespace, terminal: Terminal) -> int:
    folder = arguments.cache or default_folder()
    entries = [entry for entry in open_store(folder).entries() if arguments.kind in (None, entry.kind)]
    if arguments.clear:
        for entry in entries:
            try:
                entry.path.unlink(missing_ok=True)
            except OSError as error:
                raise EnvironmentUnusableError(
                    "the cache cannot be cleared",
                    expected="files that may be removed",
                    received=f"{entry.path}: {error}",
                    action="remove them by hand",
                ) from error
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.kind, entry.subject), []).append(entry)
    rows, total = [], sum(entry.size_bytes for entry in entries)
    for (kind, subject), group in groups.items():
        size = sum(entry.size_bytes for entry in group)
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(group[0].used))
        rows.append((kind, subject, str(len(group)), f"{size / 1e6:.1f}", used))
    document = {
        "folder": str(folder),
        "cleared": arguments.clear,
        "size_bytes": total,
        "entries": [
            {"kind": e.kind, "subject": e.subject, "size_bytes": e.size_bytes, "used": e.used, "file": e.path.name} for e in entries
        ],
    }
    closing = f"{'removed' if arguments.clear else 'kept'}: {len(entries)} entries, {total / 1e6:.1f} MB in {folder}"
    terminal.result(document, ("kind", "of", "entries", "MB", "last used"), rows, [closing])
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
