"""How much the choice of calibration images matters: int8 files of the shipped models from several draws, results/calibration_draws.csv.

    python benchmarks/calibration_draws.py --data cifar10/        # train.zip (calibration) and test.zip

Each file is made by `edge.convert` with another `--seed`, without its drift gate, and runs on every test image.
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

from benchmarks.accuracy import SHIPPED, keras_logits, test_images  # noqa: E402
from benchmarks.rows import write_rows  # noqa: E402
from edge.drift.metrics import measure  # noqa: E402
from edge.runtime.cpu import Interpreter  # noqa: E402

CSV = ROOT / "results" / "calibration_draws.csv"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.zip and test.zip, one folder a class inside")
    parser.add_argument("--variants", default=",".join(SHIPPED))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--csv", type=Path, default=CSV)
    arguments = parser.parse_args()
    rows = []
    for variant in arguments.variants.split(","):
        pixels, labels = test_images(variant, arguments.data / "test.zip")
        reference = keras_logits(variant, pixels)
        for seed in range(arguments.draws):
            interpreter = Interpreter(_int8(variant, arguments.data / "train.zip", seed), threads=1)
            drift = measure(reference, np.concatenate([interpreter.run(image[None]) for image in pixels]), labels)
            row = {
                "variant": variant,
                "seed": str(seed),
                "test_images": str(len(labels)),
                "top1_keras": f"{100 * drift.top1_reference:.2f}",
                "top1": f"{100 * drift.top1_target:.2f}",
                "drop": f"{100 * (drift.top1_reference - drift.top1_target):.2f}",
                "agreement": f"{100 * drift.top1_agreement:.2f}",
                "snr_db": f"{drift.logits_snr_db:.1f}",
            }
            print("  ".join(row.values()), flush=True)
            rows.append(row)
    write_rows(arguments.csv, rows)
    return 0


def _int8(variant: str, calibration: Path, seed: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edge.convert", "--variant", variant, "--quant", "int8", "--calibration", str(calibration)]
        command += ["--seed", str(seed), "--out", folder, "--no-gate", "--output", "logits", "--quiet"]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        return (Path(folder) / f"{variant}-int8.tflite").read_bytes()


if __name__ == "__main__":
    sys.exit(main())
