"""The aarch64 wheel of the LiteRT we use, under qemu-user: a core without dot-product instructions (cortex-a53) and one with them (a76)."""

from __future__ import annotations

import sys
from importlib.metadata import version

from benchmarks.runtimes.runtime import BUILD, HERE, Runtime, fetch

CPUS = ("cortex-a53", "cortex-a76")
VERSION = version("ai-edge-litert")
FOLDER = BUILD / f"aarch64-{VERSION}"


def prepare() -> None:
    fetch(HERE / "setup_arm.sh", FOLDER, sys.executable, VERSION)


def command() -> list[str]:
    return [str(FOLDER / "python"), str(HERE / "interpret.py")]


RUNTIMES = tuple(
    Runtime(
        name="ai-edge-litert",
        version=VERSION,
        machine=f"aarch64 {cpu} (qemu)",
        recipes={"nano32": ("float32", "int8")},
        prepare=prepare,
        command=command,
        environment={"QEMU_CPU": cpu},
    )
    for cpu in CPUS
)
