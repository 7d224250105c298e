"""Checkpoints of transformers and timm at full size, read as `--checkpoint` reads them: their logits and their pixels against ours, as CSV.

make checkpoints                                                   # builds the environment of the libraries and runs everything
python benchmarks/checkpoint_fidelity.py --python build/checkpoints/bin/python [--models swin-tiny-224,...]
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from calibration import builtin  # noqa: E402
from tfvit.checkpoints import read_checkpoint  # noqa: E402
from tfvit.checkpoints.building import build  # noqa: E402
from tfvit.compare import RELATIVE_TOLERANCE  # noqa: E402
from tfvit.preprocessing import normalize, resize_and_crop  # noqa: E402

CSV = ROOT / "results" / "checkpoint_fidelity.csv"
COLUMNS = ("model", "library", "image_px", "window", "parameters", "logits_max_of_scale", "pixels_max", "pixels_different")
MODELS = (
    "swin-tiny-224", "swin-small-224", "swin-base-384", "swinv2-tiny-256", "swinv2-small-256", "swinv2-base-256", "swinv2-tiny-192-window8",
    "swin_tiny_patch4_window7_224", "swin_small_patch4_window7_224", "swin_base_patch4_window12_384", "swinv2_tiny_window8_256",
    "swinv2_small_window16_256", "swinv2_base_window12to16_192to256",
)  # fmt: skip


def row(name: str, python: str) -> dict[str, str | int]:
    """One model, saved there and read here."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        picture = Image.fromarray(builtin.generate(0, 640, 1)[:480])
        picture.save(out / "picture.png")
        command = [python, str(ROOT / "benchmarks" / "checkpoint_reference.py"), name, folder]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip().splitlines()[-1]
        recorded = np.load(out / "reference.npz")
        checkpoint = read_checkpoint(out / "saved")
        assert checkpoint.labels == tuple(f"thing {index}" for index in range(5))
        preprocessing = checkpoint.preprocessing
        assert preprocessing is not None
        model = build(checkpoint, name, classifier_activation=None)
    logits = np.asarray(model(recorded["pixels"]))
    # their pixels, back to 0..255
    theirs = recorded["pixels"][0] * np.asarray(preprocessing.std) + np.asarray(preprocessing.mean)
    ours = resize_and_crop(picture, preprocessing).astype(np.float64)
    assert normalize(ours, preprocessing).shape == recorded["pixels"].shape[1:]
    steps = np.abs(theirs - ours).round(2)
    return {
        "model": name,
        "library": said,
        "image_px": checkpoint.image_size,
        "window": checkpoint.architecture["window_size"],
        "parameters": model.count_params(),
        "logits_max_of_scale": f"{np.abs(logits - recorded['logits']).max() / np.abs(recorded['logits']).max():.1e}",
        "pixels_max": f"{steps.max():.2f}",
        "pixels_different": f"{(steps > 0.01).mean():.2%}",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    arguments = parser.parse_args()
    rows = []
    for name in arguments.models.split(","):
        rows.append(row(name, arguments.python))
        print(rows[-1], flush=True)
        with CSV.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return 0 if all(float(one["logits_max_of_scale"]) <= RELATIVE_TOLERANCE for one in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
