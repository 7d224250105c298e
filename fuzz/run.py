"""`python -m fuzz.run [TARGET] [--seconds N]`: looks for bytes that a reader does not end well on, guided by coverage (Atheris, libFuzzer).

Without a target all of them, one after another: `make fuzz`. A crasher is written to build/fuzz/crashes/TARGET-HASH and ends the run; once
the bug is mended the file goes to tests/fuzz/TARGET. What was learned is kept in build/fuzz/corpus/TARGET.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from fuzz import target as targets

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", MPLBACKEND="agg", TF_NUM_INTRAOP_THREADS="1", HF_HUB_OFFLINE="1")

BUILD = Path(__file__).parents[1] / "build" / "fuzz"
# Whose branches count: our own, and the Python of those who parse for us
INSTRUMENTED = (
    *("tfvit", "edge", "calibration", "zipfile", "pickletools", "PIL", "safetensors", "flatbuffers", "json"),
    *("ai_edge_litert.schema_py_generated", "keras.src.saving", "keras.src.models.functional", "numpy.lib._format_impl"),
)
LONGEST_BYTES = 1 << 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", choices=targets.names())
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    if arguments.target is None:
        sys.exit(_all(arguments.seconds))
    _one(arguments.target, arguments.seconds)


def _all(seconds: int) -> int:
    """Every target in a process of its own; the exit code is 1 where one found something."""
    found = []
    for name in targets.names():
        print(f"== {name}", flush=True)
        code = subprocess.run([sys.executable, "-m", "fuzz.run", name, "--seconds", str(seconds)], check=False).returncode
        found += [name] if code else []
    print(f"{len(found)} of {len(targets.names())} targets found something: {', '.join(found) or 'none'}")
    return 1 if found else 0


def _one(name: str, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        target = targets.load(name)
    for folder in (BUILD / "corpus" / name, BUILD / "crashes"):
        folder.mkdir(parents=True, exist_ok=True)

    def one(data: bytes) -> None:
        targets.outcome(target, data)

    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST_BYTES}",
        f"-artifact_prefix={BUILD / 'crashes' / name}-",
        *("-timeout=60", "-rss_limit_mb=6000", "-print_final_stats=1", "-reload=0"),
        str(BUILD / "corpus" / name),
        str(targets.corpus(name)),
    ]
    mutator = {}
    if hasattr(target, "mutate"):

        def custom(data: bytes, max_size: int, seed: int) -> bytes:
            """Mostly as a document, now and then as bytes."""
            changed = target.mutate(data, max_size, seed) if seed % 8 else None
            return atheris.Mutate(data, max_size) if changed is None else changed

        mutator["custom_mutator"] = custom
    atheris.Setup([sys.argv[0], *options], one, **mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
