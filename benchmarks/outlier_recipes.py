"""Every recipe on the stress versions of benchmarks/outliers, on the CIFAR-10 test images: results/outliers.csv.

    python benchmarks/outlier_recipes.py --data cifar10/        # train.zip (calibration) and test.zip; about 25 minutes

Two residual channels of each deep stage lie at 30, 100 and 1000 times the rest (see benchmarks/outlier_training.py); ratio 1 is the shipped
model. Files are made as `edge.convert` makes them, with gate and repair; one that the gate refuses is a row that says why. Of several draws
of calibration images the points lost are the mean, the rest is the first draw's. Rows of other variants and recipes are kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.accuracy import SHIPPED, test_images  # noqa: E402
from benchmarks.rows import read_rows, write_rows  # noqa: E402
from edge.drift.metrics import measure  # noqa: E402
from edge.runtime.cpu import Interpreter  # noqa: E402

CSV = ROOT / "results" / "outliers.csv"
RATIOS = (1, 30, 100, 1000)
RECIPES = ("float16", "int8", "dynamic", "int4", "int8_full")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.zip and test.zip")
    parser.add_argument("--variants", default=",".join(SHIPPED))
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--every", type=int, default=1, help="take each N-th test image (%(default)s)")
    parser.add_argument("--draws", type=int, default=1, help="of calibration images (%(default)s)")
    parser.add_argument("--csv", type=Path, default=CSV)
    arguments = parser.parse_args()
    variants, recipes = arguments.variants.split(","), arguments.recipes.split(",")
    rows = [row for row in read_rows(arguments.csv) if row["variant"] not in variants or row["recipe"] not in recipes]
    for variant in variants:
        pixels, labels = (values[:: arguments.every] for values in test_images(variant, arguments.data / "test.zip"))
        lost: dict[str, float] = {}
        for ratio in RATIOS:
            draws = [_rows(variant, ratio, recipes, arguments.data / "train.zip", pixels, labels, seed) for seed in range(arguments.draws)]
            for row, *others in zip(*draws, strict=True):
                points = [float(one["lost_points"] or "nan") for one in (row, *others)]
                mean = float(np.mean(points))
                lost.setdefault(row["recipe"], mean)
                beyond = mean - lost[row["recipe"]]
                of_draws = {"lost_points": "" if np.isnan(mean) else f"{mean:.2f}", "draws": str(arguments.draws)}
                of_draws |= {"lost_points_spread": f"{np.std(points, ddof=1):.2f}" if others and not np.isnan(mean) else ""}
                rows.append(row | of_draws | {"beyond_the_unstressed": "" if np.isnan(beyond) else f"{beyond:+.2f}"})
                print("  ".join(rows[-1].values()), flush=True)
            write_rows(arguments.csv, sorted(rows, key=_order))
    return 0


def _order(row: dict[str, str]) -> tuple[int, ...]:
    return SHIPPED.index(row["variant"]), int(row["outliers"]), RECIPES.index(row["recipe"])


def _rows(
    variant: str, ratio: int, recipes: list[str], calibration: Path, pixels: np.ndarray, labels: np.ndarray, seed: int
) -> list[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edge.convert", "--variant", variant, "--weights", outlier_weights(variant, ratio, Path(folder))]
        command += [
            "--quant",
            ",".join(["float32", *recipes]),
            "--calibration",
            str(calibration),
            "--seed",
            str(seed),
            "--output",
            "logits",
        ]
        command += ["--out", f"{folder}/out", "--json", "--quiet"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        made = {one["manifest"]["recipe"]: one for one in json.loads(done.stdout)["artifacts"]}

        def answers(recipe: str) -> np.ndarray:
            interpreter = Interpreter((Path(folder) / "out" / f"{variant}-{recipe}.tflite").read_bytes(), threads=2)
            return np.concatenate([interpreter.run(image[None]) for image in pixels])

        reference, rows = answers("float32"), []
        for recipe in recipes:
            written = made[recipe]["status"] != "refused"
            drift = measure(reference, answers(recipe), labels) if written else None
            repair = made[recipe]["manifest"]["repair"]
            rows.append(
                {
                    "variant": variant,
                    "outliers": str(ratio),
                    "recipe": recipe,
                    "status": made[recipe]["status"],
                    "demoted_layers": str(len(repair["demoted"])) if repair else "0",
                    "top1_float32": f"{100 * float((reference.argmax(1) == labels).mean()):.2f}",
                    "top1": f"{100 * drift.top1_target:.2f}" if drift else "",
                    "lost_points": f"{100 * (drift.top1_reference - drift.top1_target):.2f}" if drift else "",
                    "agreement": f"{100 * drift.top1_agreement:.2f}" if drift else "",
                    "snr_db": f"{drift.logits_snr_db:.1f}" if drift else "",
                    "size_mb": f"{made[recipe]['manifest']['file']['size_bytes'] / 1e6:.2f}",
                    "test_images": str(len(labels)),
                }
            )
    return rows


def outlier_weights(variant: str, ratio: int, folder: Path) -> str:
    """For `--weights`: the shipped ones, with what a stress version changes."""
    if ratio == 1:
        return "cifar10"
    tensors = load_file(ROOT / "tfvit" / "cifar10" / f"{variant}.safetensors")
    tensors |= load_file(ROOT / "benchmarks" / "outliers" / f"{variant}-{ratio}.safetensors")
    save_file(tensors, folder / f"{variant}-{ratio}.safetensors")
    return str(folder / f"{variant}-{ratio}.safetensors")


if __name__ == "__main__":
    sys.exit(main())
