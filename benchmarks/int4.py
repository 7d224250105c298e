"""What four bits cost: results/int4.csv.

    python benchmarks/int4.py --data cifar10/        # train.zip (calibration) and test.zip

Each file is made by `edge.convert`. The shipped models are calibrated on draws of training images and judged on the test images: figures
are means over the draws, the file is the first draw's. Of the first draw alone are the 8-bit recipes (results/calibration_draws.csv has
int8's five) and `smallest`, which measures every layer. The others have random weights and the built-in images, which say something of
errors and nothing of accuracy. Their latency is in results/recipe_latency.csv. Rows of other variants are kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.accuracy import SHIPPED, keras_logits, test_images  # noqa: E402
from benchmarks.rows import read_rows, write_rows  # noqa: E402
from edge.drift.metrics import Drift, measure  # noqa: E402
from edge.runtime.cpu import CPU, Interpreter  # noqa: E402
from edge.runtime.machine import cpu_name  # noqa: E402
from tfvit.variants import VARIANTS  # noqa: E402

CSV = ROOT / "results" / "int4.csv"
RECIPES = ("dynamic", "int8", "int4")
OTHERS = ("tiny224", "v2_tiny256", "base224", "vit_nano32", "vit_tiny16_224")


@dataclasses.dataclass(frozen=True)
class Made:
    """A file with its manifest."""

    file: bytes
    manifest: dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.zip and test.zip, one folder a class inside")
    parser.add_argument("--variants", default=",".join(dict.fromkeys((*SHIPPED, *OTHERS))))
    parser.add_argument("--draws", type=int, default=5, help="of calibration images, for the shipped models (%(default)s)")
    parser.add_argument("--calibration-images", default="128", help="of the shipped models, one or more numbers (%(default)s)")
    parser.add_argument("--test-images", type=int, default=5000, help="at most, evenly spread (%(default)s)")
    parser.add_argument("--csv", type=Path, default=CSV)
    arguments = parser.parse_args()
    variants = arguments.variants.split(",")
    rows = [row for row in read_rows(arguments.csv) if row["variant"] not in variants]
    for variant in variants:
        made = _of_shipped(variant, arguments) if variant in SHIPPED else _of_random(variant, arguments)
        for row in made:
            print("  ".join(row[name] for name in ("variant", "recipe", "bytes_per_parameter", "snr_db", "drop", "agreement")), flush=True)
        rows += made
        write_rows(arguments.csv, rows)
    return 0


def _of_shipped(variant: str, arguments: argparse.Namespace) -> list[dict[str, str]]:
    pixels, labels = test_images(variant, arguments.data / "test.zip")
    every = max(1, len(labels) // arguments.test_images)
    pixels, labels = pixels[::every], labels[::every]
    reference = keras_logits(variant, pixels)
    rows = []
    for images in arguments.calibration_images.split(","):
        given = ("--calibration", str(arguments.data / "train.zip"), "--calibration-samples", images)
        recipes = [(*RECIPES, "smallest"), *[("int4",)] * (arguments.draws - 1)]
        draws = [_run(variant, made, (*given, "--no-gate", "--seed", str(seed))) for seed, made in enumerate(recipes)]
        files = {recipe: [draw[recipe].file for draw in draws if recipe in draw] for recipe in draws[0]}
        drifts = {recipe: [_drift(file, pixels, reference, labels) for file in made] for recipe, made in files.items()}
        for recipe, row in _described(variant, draws[0]).items():
            measured = drifts[recipe]
            drops = [100 * (one.top1_reference - one.top1_target) for one in measured]
            agreements = [100 * one.top1_agreement for one in measured]
            figures = {"calibration_images": images, "draws": str(len(measured)), "test_images": str(len(labels))}
            figures |= {"top1_float": f"{100 * measured[0].top1_reference:.2f}"}
            figures |= {"drop": f"{np.mean(drops):.2f}", "drop_sd": _deviation(drops)}
            figures |= {"agreement": f"{np.mean(agreements):.2f}", "agreement_sd": _deviation(agreements)}
            rows.append(row | figures | {"snr_db": f"{np.mean([one.logits_snr_db for one in measured]):.1f}"})
    return rows


def _of_random(variant: str, arguments: argparse.Namespace) -> list[dict[str, str]]:
    files = _run(variant, RECIPES, ("--weights", "random:0", "--no-gate"))
    rows = []
    for recipe, row in _described(variant, files).items():
        drift = files[recipe].manifest["drift"]
        figures = {"calibration_images": "128", "draws": "1", "test_images": str(drift["samples"])}
        rows.append(row | figures | {"snr_db": f"{drift['logits_snr_db']:.1f}"})
    return rows


def _run(variant: str, recipes: Sequence[str], given: Sequence[str]) -> dict[str, Made]:
    """Recipe -> its file, as the command makes it."""
    command = [sys.executable, "-m", "edge.convert", "--variant", variant, "--quant", ",".join(recipes), *given]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--out", folder, "--output", "logits", "--json", "--quiet"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        found = {artifact["manifest"]["recipe"]: artifact["manifest"] for artifact in json.loads(done.stdout)["artifacts"]}
        return {recipe: Made((Path(folder) / f"{found[recipe]['name']}.tflite").read_bytes(), found[recipe]) for recipe in recipes}


def _drift(file: bytes, pixels: np.ndarray, reference: np.ndarray, labels: np.ndarray) -> Drift:
    interpreter = Interpreter(file, threads=1)
    return measure(reference, np.concatenate([interpreter.run(image[None]) for image in pixels]), labels)


def _described(variant: str, files: dict[str, Made]) -> dict[str, dict[str, str]]:
    """What is known of the files without images; accuracy and drift are left empty."""
    rows = {}
    for recipe, made in files.items():
        manifest = made.manifest
        bits = [layer["weight_bits"] for layer in manifest["file"]["layers"]]
        rows[recipe] = {
            "variant": variant,
            "weights": manifest["weights"]["source"],
            "recipe": recipe,
            "bytes": str(manifest["file"]["size_bytes"]),
            "bytes_per_parameter": f"{manifest['file']['size_bytes'] / VARIANTS[variant].num_parameters:.3f}",
            "layers_4_8_32": "/".join(str(bits.count(width)) for width in (4, 8, 32)),
            "calibration_images": "",
            "draws": "",
            "test_images": "",
            "top1_float": "",
            "drop": "",
            "drop_sd": "",
            "agreement": "",
            "agreement_sd": "",
            "snr_db": "",
            "xnnpack_partitions": str(manifest["delegates"]["xnnpack"]["partitions"]),
            "gpu_by_rule": manifest["delegates"]["gpu"]["verdict"],
            "min_runtime": manifest["file"]["min_runtime_version"],
            "runtime": CPU,
            "cpu": cpu_name(),
        }
    return rows


def _deviation(values: Sequence[float]) -> str:
    return f"{np.std(values, ddof=1):.2f}" if len(values) > 1 else ""


if __name__ == "__main__":
    sys.exit(main())
