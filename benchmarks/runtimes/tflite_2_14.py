"""tflite-runtime 2.14.0: the last release of the package of that name, and what is installed on many boards.

It was built against NumPy 1 and for Python 3.9 to 3.11; 1.26.4 is the last NumPy 1.
"""

from __future__ import annotations

import sys

from benchmarks.runtimes.runtime import BUILD, HERE, Runtime, fetch
from edge.quantization.recipes import RECIPES

VERSION = "2.14.0"
PYTHON = BUILD / "tflite" / "bin" / "python"


def prepare() -> None:
    if not PYTHON.exists():
        fetch(sys.executable, "-m", "venv", PYTHON.parents[1])
    fetch(PYTHON, "-m", "pip", "install", "--quiet", f"tflite-runtime=={VERSION}", "numpy==1.26.4")


def command() -> list[str]:
    return [str(PYTHON), str(HERE / "interpret.py")]


RUNTIMES = (
    Runtime(
        name="tflite-runtime",
        version=VERSION,
        machine="x86_64",
        recipes={variant: (*RECIPES, "int8 for 2.14") for variant in ("nano32", "tiny224")},
        prepare=prepare,
        command=command,
        reads_min_runtime=True,
    ),
)
