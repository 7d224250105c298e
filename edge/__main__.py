"""`python -m edge`: the commands, a line each."""

from __future__ import annotations

import ast
import os
import shutil
import sys
import textwrap
from pathlib import Path

COMMANDS = ("ship", "convert", "validate", "benchmark", "inspect", "report", "bundle", "publish", "device", "verify", "cache")


def main() -> int:
    """Lists the commands by the first line of their descriptions. A command's name alone is answered with how it is started."""
    from tfvit import __version__
    from tfvit.errors import EXIT_CLOSED_PIPE, EXIT_USAGE, UsageError, unknown_name

    given = [word for word in sys.argv[1:] if word not in ("-h", "--help")]
    if "--version" in given:
        print(f"tfvit {__version__}")
        return 0
    if given:
        name = given[0].removeprefix("edge.")
        started = UsageError(
            "a command is a module", expected="python -m edge.COMMAND", received=name, action=f"python -m edge.{name} --help"
        )
        print(f"error: {started if name in COMMANDS else unknown_name('command', name, COMMANDS)}", file=sys.stderr)
        return EXIT_USAGE
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 200
    how = "python -m edge.COMMAND --help says more; each is a script too: edge-convert is python -m edge.convert"
    lines = [textwrap.fill(how, width, break_on_hyphens=False), ""]
    for command in COMMANDS:
        source = Path(__file__).with_name(f"{command}.py")
        if not source.is_file():
            source = Path(__file__).parent / command / "__main__.py"
        description = (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").splitlines()[0]
        line = f"  edge.{command:<10} {description.partition('`: ')[2]}"
        lines.append(textwrap.fill(line, width, subsequent_indent=" " * 18, break_on_hyphens=False))
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
        return EXIT_CLOSED_PIPE
    return 0


if __name__ == "__main__":
    sys.exit(main())
