"""What Arm's compiler for Ethos-U makes of integer files: results/npu.csv. Its milliseconds and memory are its model's, not measured.

    python benchmarks/npu.py [--variants nano32,...] [--files DIR]

Needs the extra `npu`. The small trained models have their own weights, the others random ones: what the compiler takes, and how long it
thinks it takes, depends on shapes and types alone. w8a16 has integer ends (`--input int16`). Rows of other variants are kept.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.rows import read_rows, write_rows  # noqa: E402
from edge.inspection import vela  # noqa: E402
from edge.tflite import flatbuffer, npu_rules  # noqa: E402
from tfvit.variants import VARIANTS  # noqa: E402

CSV = ROOT / "results" / "npu.csv"
VARIANTS_SHOWN = ("nano32", "v2_nano32", "vit_nano32", "tiny224", "v2_tiny256", "base224", "vit_tiny16_224")
RECIPES = ("int8_full", "int8_wide", "w8a16")
ACCELERATORS = ("ethos-u55-256", "ethos-u65-512", "ethos-u85-1024")
_SAMPLES = ("--calibration-samples", "4", "--drift-samples", "1", "--no-gate")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", default=",".join(VARIANTS_SHOWN))
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--files", type=Path, help="folder of converted files: none is converted")
    arguments = parser.parse_args()
    variants, recipes = arguments.variants.split(","), arguments.recipes.split(",")
    rows = read_rows(CSV)
    for variant in variants:
        rows = [row for row in rows if row["variant"] != variant or row["recipe"] not in recipes]
        with tempfile.TemporaryDirectory() as scratch:
            folder = arguments.files or Path(scratch)
            trained = VARIANTS[variant].weights == "cifar10"
            if not arguments.files:
                for input_type, some in (("int16", {"w8a16"}), ("float32", {"int8_full", "int8_wide"})):
                    wanted = [recipe for recipe in recipes if recipe in some]
                    command = [
                        sys.executable,
                        "-m",
                        "edge.convert",
                        "--variant",
                        variant,
                        "--quant",
                        ",".join(wanted),
                        *_SAMPLES,
                        "--quiet",
                    ]
                    command += ["--weights", "cifar10" if trained else "random:0", "--input", input_type, "--out", scratch]
                    if wanted:  # exit code 1: ranges of four images miss the gate
                        subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
            for recipe in recipes:
                file = (folder / f"{variant}-{recipe}{'' if trained else '.random'}.tflite").read_bytes()
                rows += [row_of(variant, recipe, file, accelerator) for accelerator in ACCELERATORS]
                print(*(", ".join(row.values()) for row in rows[-len(ACCELERATORS) :]), sep="\n", flush=True)
    order = {variant: number for number, variant in enumerate(VARIANTS_SHOWN)}
    write_rows(CSV, sorted(rows, key=lambda row: (order.get(row["variant"], len(order)), row["recipe"], row["accelerator"])))
    return int(any(row["on_cpu"] != "0" for row in rows if row["recipe"] != "w8a16"))


def row_of(variant: str, recipe: str, file: bytes, accelerator: str) -> dict[str, str]:
    found = vela.compiled(file, accelerator)
    reasons = Counter(f"{one['op']}: {one['reason'].split(';')[0]}" for one in found.on_cpu)
    return {
        "variant": variant,
        "recipe": recipe,
        "accelerator": accelerator,
        "compiler": found.compiler,
        "operations": str(found.operations),
        "on_cpu": str(len(found.on_cpu)),
        "by_rule": npu_rules.npu_summary(flatbuffer.read_model(file))["verdict"],
        "parts": str(found.parts),
        "estimated_ms": f"{found.estimated_ms:.2f}",
        "sram_kib": f"{found.sram_kib:.0f}",
        "dram_kib": f"{found.dram_kib:.0f}",
        "memory": found.memory,
        "why_on_cpu": "; ".join(f"{count} x {reason}" for reason, count in sorted(reasons.items())),
    }


if __name__ == "__main__":
    sys.exit(main())
