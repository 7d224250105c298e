"""CPU latency of a variant's recipes in one interleaved run: ratios to the first, with a bootstrap interval.

    python benchmarks/recipe_latency.py --variant tiny224 --recipes float32,int8 [--threads 1] [--rounds 60]

Files are converted with random weights (latency does not depend on their values) into a temporary folder, loaded side by side and run in
turns, one inference each a round, so that whatever the machine does besides hits all of them alike. Milliseconds are this machine's;
ratios are what carries over, to CPUs of the same kind. `--csv FILE` adds the rows; those of other CPUs are kept.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.rows import read_rows, write_rows  # noqa: E402
from edge.latency.protocol import ratio_of_medians  # noqa: E402
from edge.runtime.cpu import CPU, interleaved_milliseconds  # noqa: E402
from edge.runtime.machine import cpu_name  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="tiny224")
    parser.add_argument("--recipes", default="float32,float16,int8,dynamic,int4")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--warmup-rounds", type=int, default=8)
    parser.add_argument(
        "--files", type=Path, help="folder of files with random weights that are there already, as `make matrix` makes them"
    )
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    recipes = arguments.recipes.split(",")
    with tempfile.TemporaryDirectory() as folder:
        if arguments.files is None:
            command = [sys.executable, "-m", "edge.convert", "--variant", arguments.variant, "--quant", arguments.recipes, "--out", folder]
            subprocess.run([*command, "--weights", "random:0", "--quiet"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        files = [((arguments.files or Path(folder)) / f"{arguments.variant}-{recipe}.random.tflite").read_bytes() for recipe in recipes]
    milliseconds = interleaved_milliseconds(files, arguments.threads, arguments.rounds, arguments.warmup_rounds)
    rows = [_row(arguments, recipe, times, milliseconds[0]) for recipe, times in zip(recipes, milliseconds, strict=True)]
    print(f"{arguments.variant}, {arguments.threads} thread(s), {arguments.rounds} interleaved rounds, {CPU}, random weights")
    for row in rows:
        print(
            f"{row['recipe']:<10} {row['median_ms']:>8} ms   ratio {row['ratio']} (95 % interval {row['ratio_low']} to {row['ratio_high']})"
        )
    if arguments.csv:
        known = read_rows(arguments.csv)
        measured = {(row["variant"], row["threads"], row["cpu"]) for row in rows}
        write_rows(arguments.csv, [row for row in known if (row["variant"], row["threads"], row["cpu"]) not in measured] + rows)
    return 0


def _row(arguments: argparse.Namespace, recipe: str, times: np.ndarray, first: np.ndarray) -> dict:
    _, low, high = ratio_of_medians(times, first)
    return {
        "variant": arguments.variant,
        "recipe": recipe,
        "runtime": CPU,
        "threads": str(arguments.threads),
        "rounds": str(arguments.rounds),
        "median_ms": f"{np.median(times):.1f}",
        "p5_ms": f"{np.percentile(times, 5):.1f}",
        "p95_ms": f"{np.percentile(times, 95):.1f}",
        "ratio": f"{np.median(times) / np.median(first):.3f}",
        "ratio_low": f"{low:.3f}",
        "ratio_high": f"{high:.3f}",
        "cpu": cpu_name(),
    }


if __name__ == "__main__":
    sys.exit(main())
