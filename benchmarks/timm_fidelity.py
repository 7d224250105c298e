"""All variants at full size against timm's PyTorch code, random weights: largest difference per layer, as CSV.

make fidelity                                                      # builds the timm environment and runs everything
python benchmarks/timm_fidelity.py --timm-python build/timm/bin/python [--variants tiny224,...]
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

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tfvit.compare import RELATIVE_TOLERANCE, differences, layer_outputs  # noqa: E402
from tfvit.repositories import REPOSITORIES  # noqa: E402
from tfvit.variants import VARIANTS, WindowedVariant  # noqa: E402
from tfvit.weights import read_safetensors  # noqa: E402

CSV = ROOT / "results" / "timm_fidelity.csv"
COLUMNS = ("variant", "original", "logits_max_abs", "logits_max_of_scale", "worst_layer", "worst_max_abs", "worst_max_of_scale")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timm-python", required=True)
    parser.add_argument("--variants", default=",".join(REPOSITORIES["imagenet"]))
    arguments = parser.parse_args()
    rows = []
    for identifier in arguments.variants.split(","):
        variant = VARIANTS[identifier]
        windows = {}
        if isinstance(variant, WindowedVariant):
            pretrained = variant.pretrained_window_sizes if variant.version == 2 else None
            windows = {"window_size": variant.window_size, "pretrained_window_sizes": pretrained}
        timm_name = _timm_name(identifier)
        with tempfile.TemporaryDirectory() as folder:
            command = [arguments.timm_python, str(ROOT / "benchmarks" / "timm_reference.py"), timm_name, folder]
            versions = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip().splitlines()[-1]
            with np.load(Path(folder) / "reference.npz") as file:
                recorded = {name: file[name] for name in file.files}
            outputs = layer_outputs(
                read_safetensors(Path(folder) / "weights.safetensors"),
                timm_name,
                recorded,
                **windows,
            )
        compared = {row["layer"]: row for row in differences(recorded, outputs)}
        worst = max(compared.values(), key=lambda row: row["max_of_scale"])
        rows.append(
            {
                "variant": identifier,
                "original": f"{versions}: {timm_name}",
                "logits_max_abs": f"{compared['logits']['max_abs']:.1e}",
                "logits_max_of_scale": f"{compared['logits']['max_of_scale']:.1e}",
                "worst_layer": worst["layer"],
                "worst_max_abs": f"{worst['max_abs']:.1e}",
                "worst_max_of_scale": f"{worst['max_of_scale']:.1e}",
            }
        )
        print(rows[-1], flush=True)
        CSV.parent.mkdir(exist_ok=True)
        with CSV.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return 0 if all(float(row["worst_max_of_scale"]) <= RELATIVE_TOLERANCE for row in rows) else 1


def _timm_name(identifier: str) -> str:
    """DINOv2's default weights are facebook's; timm has the architecture."""
    family, size, *registers = identifier.removesuffix("_224").split("_")
    if family == "dinov2":
        return f"vit_{size.removesuffix('14')}_patch14_{'reg4_' if registers else ''}dinov2"
    return REPOSITORIES["imagenet"][identifier].split("/")[1].split(".")[0]


if __name__ == "__main__":
    sys.exit(main())
