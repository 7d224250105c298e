"""Converts variants with recipes by one command and writes size, seconds, peak memory, operations and partitions as CSV.

    python benchmarks/convert_matrix.py --out build/matrix [--variants tiny224,...] [--recipes float32,...] [--jobs 2]

Weights are random (seed 0): none of these columns depends on their values. Stopped in whatever way and started again, it goes on where it
was: files that are there are kept with what was measured when they were made (OUT/matrix.json). `model_seconds` is what all recipes of a
variant share (load TensorFlow, build, export, reference, calibrate), `recipe_seconds` the recipe's own; `peak_memory_mb` is the process's
until then, recipe after recipe. w8a16 is timed only on request: its kernels on a CPU are the runtime's slow reference ones.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.rows import read_rows  # noqa: E402
from edge.conversion.costs import MEASURED  # noqa: E402
from edge.quantization.recipes import RECIPES  # noqa: E402
from edge.runtime.cpu import interleaved_milliseconds  # noqa: E402
from tfvit.variants import VARIANTS  # noqa: E402

CSV = ROOT / "results" / "convert_matrix.csv"
COLUMNS = (
    "variant", "recipe", "weights", "parameters", "size_mb", "bytes_per_parameter", "model_seconds", "recipe_seconds", "peak_memory_mb",
    "ops", "delegated_ops", "xnnpack_partitions", "max_rank", "gpu_verdict_by_rules", "min_runtime", "logits_snr_db", "drift_images",
    "calibration_images", "latency_ratio", "latency_rounds", "sha256",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the artifacts; all twelve in all recipes take 17 GB")
    parser.add_argument("--variants", default=",".join(name for name in VARIANTS if name in MEASURED), help="(%(default)s)")
    parser.add_argument("--recipes", default=",".join(RECIPES), help="(%(default)s)")
    parser.add_argument("--calibration-samples", default="32")
    parser.add_argument("--drift-samples", default="8")
    parser.add_argument("--jobs", default="1", help="variants side by side (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of the interleaved latency run, after one to warm up; 0: none (%(default)s)")
    parser.add_argument("--timed", default=",".join(name for name in RECIPES if name != "w8a16"), help="recipes to time (%(default)s)")
    parser.add_argument("--csv", type=Path, default=CSV, help="(%(default)s)")
    arguments = parser.parse_args()
    table = arguments.out / "matrix.json"
    arguments.out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "edge.convert", "--variant", arguments.variants, "--quant", arguments.recipes, "--weights", "random:0"]
    command += ["--calibration-samples", arguments.calibration_samples, "--drift-samples", arguments.drift_samples, "--no-gate"]
    command += ["--out", str(arguments.out.resolve()), "--save", str(table.resolve()), "--jobs", arguments.jobs]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code not in (0, 1):
        return code
    cells = {(cell["model"], cell["recipe"]): cell for cell in json.loads(table.read_text())["cells"] if cell["status"] != "failed"}
    rows = read_rows(arguments.csv)
    known = {(row["variant"], row["recipe"]): row for row in rows}
    for variant in arguments.variants.split(","):
        made = [cells[variant, recipe] for recipe in arguments.recipes.split(",") if (variant, recipe) in cells]
        found = [_row(cell, made, arguments.out) for cell in made]
        timed = [row for row in found if row["recipe"] in arguments.timed.split(",")]
        before = [known.get((variant, row["recipe"]), {}) for row in timed]
        if arguments.rounds and [row["sha256"] for row in timed] != [row.get("sha256") for row in before]:
            _add_latency(timed, [arguments.out / f"{variant}-{row['recipe']}.random.tflite" for row in timed], arguments.rounds)
        else:
            for row, old in zip(timed, before, strict=True):
                row |= {name: old.get(name, "") for name in ("latency_ratio", "latency_rounds")}
        known |= {(variant, row["recipe"]): row for row in found}
        _write(list(known.values()), arguments.csv)
    return code


def _row(cell: dict, of_variant: Sequence[dict], folder: Path) -> dict:
    variant = cell["model"]
    manifest = json.loads((folder / f"{cell['name']}.json").read_text())
    xnnpack, parameters = manifest["delegates"]["xnnpack"], VARIANTS[variant].num_parameters
    return {
        "variant": variant,
        "recipe": manifest["recipe"],
        "weights": manifest["weights"]["source"],
        "parameters": parameters,
        "size_mb": f"{manifest['file']['size_bytes'] / 1e6:.1f}",
        "bytes_per_parameter": f"{manifest['file']['size_bytes'] / parameters:.2f}",
        "model_seconds": f"{_shared_seconds(of_variant):.0f}",
        "recipe_seconds": f"{sum(cell['seconds'].values()):.0f}",
        "peak_memory_mb": cell["peak_memory_mb"],
        "ops": xnnpack["total_ops"],
        "delegated_ops": xnnpack["delegated_ops"],
        "xnnpack_partitions": xnnpack["partitions"],
        "max_rank": manifest["file"]["max_rank"],
        "gpu_verdict_by_rules": manifest["delegates"]["gpu"]["verdict"],
        "min_runtime": manifest["file"]["min_runtime_version"],
        "logits_snr_db": manifest["drift"]["logits_snr_db"],
        "drift_images": manifest["drift"]["samples"],
        "calibration_images": manifest["calibration"]["samples"] if manifest["calibration"] else 0,
        "sha256": manifest["file"]["sha256"],
    }


def _shared_seconds(of_variant: Sequence[dict]) -> float:
    """Of all processes that worked on a variant: where what was shared so far is less than before, another one went on."""
    totals = [sum(cell["shared_seconds"].values()) for cell in of_variant]
    return sum(total for total, after in zip(totals, [*totals[1:], 0.0], strict=True) if after < total)


def _add_latency(rows: list[dict], files: list[Path], rounds: int) -> None:
    """Ratio of the median latency to the first file's, one thread, the files taking turns."""
    medians = np.median(interleaved_milliseconds([file.read_bytes() for file in files], 1, rounds, 1), axis=1)
    for row, median in zip(rows, medians, strict=True):
        row["latency_ratio"], row["latency_rounds"] = f"{median / medians[0]:.3f}", rounds


def _write(rows: list[dict], path: Path) -> None:
    order = {(variant, recipe): index for index, (variant, recipe) in enumerate((v, r) for v in VARIANTS for r in RECIPES)}
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: order[row["variant"], row["recipe"]]))


if __name__ == "__main__":
    sys.exit(main())
