"""GPU against CPU: what `edge.benchmark` measured on both delegates, only where the GPU is a real one.

    python benchmarks/gpu_latency.py [--variants nano32,tiny224,v2_tiny256]     # converts and measures here
    python benchmarks/gpu_latency.py --document benchmark.json                  # measured on a machine with a GPU and without TensorFlow

DOCUMENT is the output of `python -m edge.benchmark FILE... --delegate cpu --delegate gpu --delegate gpu_f32 --json`. Writes
results/gpu_latency.csv with the device named. A software GPU's milliseconds mean nothing: exit code 3, nothing is written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.rows import write_rows  # noqa: E402
from tfvit.errors import EXIT_OK, EXIT_UNUSABLE  # noqa: E402
from tfvit.variants import VARIANTS  # noqa: E402

CSV = ROOT / "results" / "gpu_latency.csv"
RECIPES = ("float32", "float16", "int8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", default="nano32,tiny224,v2_tiny256")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--document", type=Path)
    arguments = parser.parse_args()
    if arguments.document:
        documents = [json.loads(arguments.document.read_text(encoding="utf-8"))]
    else:
        documents = [_measured(variant, arguments.preset) for variant in arguments.variants.split(",")]
    for document in documents:
        on_gpu = [result for result in document["results"] if result["delegate"] != "cpu"]
        if not on_gpu or any(result["software_gpu"] is not False for result in on_gpu):
            print(f"no real GPU: {on_gpu[0]['ran_on'] or on_gpu[0]['reason'] if on_gpu else 'CPU only'}", file=sys.stderr)
            return EXIT_UNUSABLE
    write_rows(CSV, [_row(result, document) for document in documents for result in document["results"]])
    return EXIT_OK


def _measured(variant: str, preset: str) -> dict:
    """Converts a variant and measures its files on both delegates."""
    weights = "cifar10" if VARIANTS[variant].weights == "cifar10" else "random:0"
    python = [sys.executable, "-m"]
    with tempfile.TemporaryDirectory() as folder:
        convert = [*python, "edge.convert", "--variant", variant, "--quant", ",".join(RECIPES), "--weights", weights, "--quiet"]
        subprocess.run([*convert, "--out", folder], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        suffix = "" if weights == "cifar10" else ".random"
        files = [f"{folder}/{variant}-{recipe}{suffix}.tflite" for recipe in RECIPES]
        measure = [*python, "edge.benchmark", *files, "--delegate", "cpu", "--delegate", "gpu", "--delegate", "gpu_f32"]
        done = subprocess.run([*measure, "--preset", preset, "--json", "--quiet"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(done.stdout)


def _row(result: dict, document: dict) -> dict[str, str]:
    variant, recipe = Path(result["file"]).name.removesuffix(".tflite").removesuffix(".random").split("-", 1)
    cpu = next(other for other in document["results"] if other["delegate"] == "cpu" and other["file"] == result["file"])
    return {
        "variant": variant,
        "recipe": recipe,
        "weights": "random" if result["random_weights"] else "trained",
        "delegate": result["delegate"],
        "ran_on": result["ran_on"] or "",
        "status": result["status"],
        "median_ms": f"{result['median_ms']:.3f}" if result["median_ms"] else "",
        "p90_ms": f"{result['p90_ms']:.3f}" if result["p90_ms"] else "",
        "ratio_to_this_file_on_the_cpu": f"{result['median_ms'] / cpu['median_ms']:.3f}"
        if result["median_ms"] and cpu["median_ms"]
        else "",
        "relative_l2_difference": f"{result['relative_l2_difference']:.1e}" if result["relative_l2_difference"] is not None else "",
        "valid": str(result["valid"]),
        "invalid_reasons": "; ".join(result["invalid_reasons"]),
        "cpu": document["environment"]["cpu"],
    }


if __name__ == "__main__":
    sys.exit(main())
