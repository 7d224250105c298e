"""How far the numbers of float16 files stay below what float16 holds, by Keras layer: results/float16_headroom.csv.

    python benchmarks/float16_headroom.py [--images test.zip] [--files DIR]

The small models with their trained weights. A phone's GPU computes these files in float16.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.rows import write_rows  # noqa: E402
from edge.inspection.float16_arithmetic import on_images  # noqa: E402

CSV = ROOT / "results" / "float16_headroom.csv"
VARIANTS = ("nano32", "v2_nano32", "vit_nano32")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="builtin", help="folder or zip (%(default)s)")
    parser.add_argument("--files", type=Path, help="folder of converted files: none is converted")
    arguments = parser.parse_args()
    rows = []
    for variant in VARIANTS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = arguments.files or Path(scratch)
            if not arguments.files:
                command = [sys.executable, "-m", "edge.convert", "--variant", variant, "--quant", "float16", "--drift-samples", "8"]
                subprocess.run([*command, "--quiet", "--out", scratch], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            found = on_images((folder / f"{variant}-float16.tflite").read_bytes(), arguments.images)
        about = {"variant": variant, "recipe": "float16", "images": f"{found['images']} of {found['source']}"}
        rows += [about | {name: str(value) for name, value in one.items()} for one in found["layers"]]
        print(variant, rows[-len(found["layers"])], flush=True)
    write_rows(CSV, rows)
    return int(any(float(row["headroom_db"]) < 0 for row in rows))


if __name__ == "__main__":
    sys.exit(main())
