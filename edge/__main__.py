"""`python -m edge`: the commands, a line each."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

COMMANDS = ("ship", "convert", "validate", "benchmark", "inspect", "report", "bundle", "publish", "device", "verify", "cache")


def main() -> int:
    """Lists the commands by the first line of their descriptions."""
    if "--version" in sys.argv[1:]:
        from tfvit import __version__

        print(f"tfvit {__version__}")
        return 0
    print("python -m edge.COMMAND --help says more; each is a script too: edge-convert is python -m edge.convert\n")
    for command in COMMANDS:
        source = Path(__file__).with_name(f"{command}.py")
        if not source.is_file():
            source = Path(__file__).parent / command / "__main__.py"
        description = (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").splitlines()[0]
        print(f"  edge.{command:<10} {description.partition('`: ')[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
