"""`tfvit.compare` on every reference file of the original, under both naming schemes, as CSV.

    python benchmarks/reference_fidelity.py REFERENCE_FOLDER

The folder holds NAME.npz with NAME.safetensors (timm's names) and, for some, NAME.original.pth (the original release's names); a second
input of the same weights is NAMExWIDTH.npz.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tfvit.compare import RELATIVE_TOLERANCE, differences, layer_outputs  # noqa: E402
from tfvit.weights import read_tensors  # noqa: E402

CSV = ROOT / "results" / "reference_fidelity.csv"
COLUMNS = ("checkpoint", "reference", "layer", "shape", "scale", "max_abs", "mean_abs", "max_of_scale")
PRETRAINED = {"v2_window12to16_256": (12, 12, 12, 6)}


def main() -> int:
    folder = Path(sys.argv[1])
    rows = []
    for reference in sorted(folder.glob("*.npz")):
        name = reference.stem.split("x")[0]
        with np.load(reference) as file:
            recorded = {key: file[key] for key in file.files}
        for checkpoint in (folder / f"{name}.safetensors", folder / f"{name}.original.pth"):
            if not checkpoint.is_file():
                continue
            outputs = layer_outputs(read_tensors(checkpoint), checkpoint.name, recorded, pretrained_window_sizes=PRETRAINED.get(name))
            for row in differences(recorded, outputs):
                figures = {key: f"{row[key]:.2e}" for key in ("scale", "max_abs", "mean_abs", "max_of_scale")}
                shape = "x".join(map(str, row["shape"]))
                rows.append({"checkpoint": checkpoint.name, "reference": reference.name, "layer": row["layer"], "shape": shape, **figures})
                print(rows[-1])
    with CSV.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return 0 if rows and all(float(row["max_of_scale"]) <= RELATIVE_TOLERANCE for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
