"""Converts variants with recipes, one process a variant, and writes size, seconds, peak memory, operations and partitions as CSV.

    python benchmarks/convert_matrix.py --out /tmp/matrix [--variants tiny224,...] [--recipes float32,float16,int8]

Weights are random (seed 0): none of these columns depends on their values. Rows of finished variants are kept in the CSV and skipped when
run again. Seconds: `model_seconds` is what all recipes of a variant share (load TensorFlow, build, export, reference, calibrate),
`recipe_seconds` the recipe's own; `peak_memory_mb` is the process's, with all its recipes.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from edge.runtime import interleaved_milliseconds  # noqa: E402
from tfvit.variants import VARIANTS  # noqa: E402

CSV = ROOT / "results" / "convert_matrix.csv"
COLUMNS = (
    "variant", "recipe", "weights", "parameters", "size_mb", "bytes_per_parameter", "model_seconds", "recipe_seconds", "peak_memory_mb",
    "ops", "delegated_ops", "xnnpack_partitions", "max_rank", "gpu_verdict_by_rules", "min_runtime", "logits_snr_db", "drift_images",
    "calibration_images", "latency_ratio", "latency_rounds",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the artifacts of one variant at a time; emptied after each")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--recipes", default="float32,float16,int8")
    parser.add_argument("--calibration-samples", default="32")
    parser.add_argument("--drift-samples", default="8")
    parser.add_argument("--rounds", type=int, default=5, help="of the interleaved latency run, after one to warm up (%(default)s)")
    arguments = parser.parse_args()
    rows = list(csv.DictReader(CSV.open())) if CSV.exists() else []
    failed = 0
    for variant in arguments.variants.split(","):
        recipes = [name for name in arguments.recipes.split(",") if not any(r["variant"] == variant and r["recipe"] == name for r in rows)]
        if not recipes:
            continue
        command = [sys.executable, "-m", "edge.convert", "--variant", variant, "--quant", ",".join(recipes), "--weights", "random:0"]
        command += [
            "--calibration-samples",
            arguments.calibration_samples,
            "--drift-samples",
            arguments.drift_samples,
            "--out",
            str(arguments.out),
            "--json",
            "--no-gate",
            "--force",
        ]
        start = time.perf_counter()
        process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        print(f"{variant}: exit {process.returncode}, {time.perf_counter() - start:.0f} s", flush=True)
        if process.returncode not in (0, 1):
            failed += 1
            continue
        made = _rows(variant, json.loads(process.stdout))
        _add_latency(made, [arguments.out / f"{variant}-{row['recipe']}.random.tflite" for row in made], arguments.rounds)
        rows += made
        _write(rows)
        shutil.rmtree(arguments.out)
    return 1 if failed else 0


def _rows(variant: str, document: dict) -> list[dict]:
    own = [sum(artifact["seconds"].values()) for artifact in document["artifacts"]]
    shared = sum(document["seconds"].values()) - sum(own)
    rows = []
    for artifact, seconds in zip(document["artifacts"], own, strict=True):
        manifest = artifact["manifest"]
        xnnpack, parameters = manifest["delegates"]["xnnpack"], VARIANTS[variant].num_parameters
        rows.append(
            {
                "variant": variant,
                "recipe": manifest["recipe"],
                "weights": manifest["weights"]["source"],
                "parameters": parameters,
                "size_mb": f"{manifest['file']['size_bytes'] / 1e6:.1f}",
                "bytes_per_parameter": f"{manifest['file']['size_bytes'] / parameters:.2f}",
                "model_seconds": f"{shared:.0f}",
                "recipe_seconds": f"{seconds:.0f}",
                "peak_memory_mb": document["peak_memory_mb"],
                "ops": xnnpack["total_ops"],
                "delegated_ops": xnnpack["delegated_ops"],
                "xnnpack_partitions": xnnpack["partitions"],
                "max_rank": manifest["file"]["max_rank"],
                "gpu_verdict_by_rules": manifest["delegates"]["gpu"]["verdict"],
                "min_runtime": manifest["file"]["min_runtime_version"],
                "logits_snr_db": manifest["drift"]["logits_snr_db"],
                "drift_images": manifest["drift"]["samples"],
                "calibration_images": manifest["calibration"]["samples"] if manifest["calibration"] else 0,
            }
        )
    return rows


def _add_latency(rows: list[dict], files: list[Path], rounds: int) -> None:
    """Ratio of the median latency to the first file's, one thread, the files taking turns."""
    medians = np.median(interleaved_milliseconds([file.read_bytes() for file in files], 1, rounds, 1), axis=1)
    for row, median in zip(rows, medians, strict=True):
        row["latency_ratio"], row["latency_rounds"] = f"{median / medians[0]:.3f}", rounds


def _write(rows: list[dict]) -> None:
    order = {
        (variant, recipe): index
        for index, (variant, recipe) in enumerate((v, r) for v in VARIANTS for r in ("float32", "float16", "dynamic", "int8"))
    }
    CSV.parent.mkdir(exist_ok=True)
    with CSV.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: order[row["variant"], row["recipe"]]))


if __name__ == "__main__":
    sys.exit(main())
