"""What delegates take of every variant: XNNPACK by the runtime, the GPU delegate by rule and, where a driver is to be had, by itself.

    VK_ICD_FILENAMES=build/vulkan/lavapipe.json python benchmarks/delegate_coverage.py

Files are made with random weights and few calibration images: what a delegate takes depends on neither. Rows are written a variant at a
time; those already in results/delegate_coverage.csv are kept. On a software GPU a compile proves acceptance and the answer, not speed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.rows import read_rows, write_rows  # noqa: E402
from edge.inspection import command  # noqa: E402
from tfvit.variants import VARIANTS  # noqa: E402

CSV = ROOT / "results" / "delegate_coverage.csv"
RECIPES = ("float32", "float16", "dynamic", "int8")
# What a software GPU compiles and runs in reasonable time
ON_THE_GPU = ("tiny224", "small224", "base224", "v2_tiny256", "v2_small256", "v2_base256")
ON_THE_GPU += ("vit_tiny16_224", "vit_small16_224", "vit_base16_224")
_SAMPLES = ("--calibration-samples", "4", "--drift-samples", "1", "--no-gate")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", default=",".join(name for name, variant in VARIANTS.items() if variant.weights != "cifar10"))
    parser.add_argument("--gpu-variants", default=",".join(ON_THE_GPU), help="compiled and run on the GPU delegate itself (%(default)s)")
    parser.add_argument("--files", type=Path, help="folder of `make matrix`: its files are taken, and none is converted")
    parser.add_argument("--csv", type=Path, default=CSV)
    arguments = parser.parse_args()
    rows = read_rows(arguments.csv)
    failed = False
    for variant in arguments.variants.split(","):
        if any(row["variant"] == variant for row in rows):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = arguments.files or Path(scratch)
            if not arguments.files:
                command = [sys.executable, "-m", "edge.convert", "--variant", variant, "--weights", "random:0", *_SAMPLES, "--quiet"]
                command += ["--quant", ",".join(RECIPES), "--out", scratch]
                subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            for recipe in RECIPES:
                on_the_gpu = variant in arguments.gpu_variants.split(",") and recipe != "dynamic"
                row = _row(variant, recipe, folder / f"{variant}-{recipe}.random.tflite", on_the_gpu)
                failed |= row["gpu_measured"] in ("refused", "wrong") or row["gpu_by_rule"] != "whole" or row["xnnpack_partitions"] != "1"
                print(", ".join(str(value) for value in row.values()), flush=True)
                rows.append(row)
        write_rows(arguments.csv, rows)
    return int(failed)


def _row(variant: str, recipe: str, file: Path, on_the_gpu: bool) -> dict[str, str]:
    found = command.description(file.read_bytes())
    xnnpack, gpu = found["delegates"]["xnnpack"], found["delegates"]["gpu"]
    measured = command.measured_on_gpu(file) if on_the_gpu else {"status": "not tested", "difference_from_cpu": None, "ran_on": None}
    return {
        "variant": variant,
        "recipe": recipe,
        "operations": str(xnnpack["total_ops"]),
        "xnnpack_operations": str(xnnpack["delegated_ops"]),
        "xnnpack_partitions": str(xnnpack["partitions"]),
        "xnnpack_partitions_by_rule": str(xnnpack["by_rule"]["partitions"]),
        "min_runtime": str(found["min_runtime_version"]),
        "gpu_by_rule": gpu["verdict"],
        "gpu_measured": measured["status"],
        "gpu_difference_from_cpu": "" if measured["difference_from_cpu"] is None else f"{measured['difference_from_cpu']:.1e}",
        "gpu": measured["ran_on"] or "",
    }


if __name__ == "__main__":
    sys.exit(main())
