"""Float16 files computed in float16, held against float32: results/float16_run.csv.

    VK_ICD_FILENAMES=build/vulkan/lavapipe.json python benchmarks/float16_run.py --data cifar10/        # test.zip; some minutes

The shipped small models and their stress versions (benchmarks/outliers), on the GPU delegate as apps run it, float16 arithmetic, and in
float32 beside it. lavapipe, a software GPU, has real float16 in its shaders: its answers count, its milliseconds do not. The least headroom
is what the file's manifest says of it (docs/decisions/0040). Rows of other variants are kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.accuracy import SHIPPED, test_images  # noqa: E402
from benchmarks.outlier_recipes import RATIOS, outlier_weights  # noqa: E402
from benchmarks.rows import read_rows, write_rows  # noqa: E402
from edge.drift.metrics import measure  # noqa: E402
from edge.runtime.cpu import Interpreter, real_outputs  # noqa: E402
from edge.runtime.gpu import F16, F32, GpuModel, GpuUnavailableError  # noqa: E402
from tfvit.errors import EXIT_OK, EXIT_UNUSABLE  # noqa: E402

CSV = ROOT / "results" / "float16_run.csv"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with test.zip")
    parser.add_argument("--variants", default=",".join(SHIPPED))
    parser.add_argument("--images", type=int, default=250, help="of the test images, evenly (%(default)s)")
    arguments = parser.parse_args()
    variants = arguments.variants.split(",")
    rows = [row for row in read_rows(CSV) if row["variant"] not in variants]
    for variant in variants:
        pixels, labels = test_images(variant, arguments.data / "test.zip")
        every = len(pixels) // arguments.images
        for ratio in RATIOS:
            try:
                rows += _rows(variant, ratio, pixels[::every], labels[::every])
            except GpuUnavailableError as error:
                print(f"not run: {error}", file=sys.stderr)
                return EXIT_UNUSABLE
            write_rows(CSV, rows)
    return EXIT_OK


def _rows(variant: str, ratio: int, pixels: np.ndarray, labels: np.ndarray) -> list[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edge.convert", "--variant", variant, "--weights", outlier_weights(variant, ratio, Path(folder))]
        command += ["--quant", "float32,float16", "--output", "logits", "--no-gate", "--drift-samples", "32", "--out", f"{folder}/out"]
        done = subprocess.run([*command, "--json", "--quiet"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)  # 1: drift above the gate
        least = {one["manifest"]["recipe"]: one["manifest"].get("float16") for one in json.loads(done.stdout)["artifacts"]}["float16"]["least"]
        float32, float16 = ((Path(folder) / "out" / f"{variant}-{recipe}.tflite").read_bytes() for recipe in ("float32", "float16"))
    exact = Interpreter(float32, threads=2)
    reference = np.concatenate([exact.run(image[None]) for image in pixels])
    rows = []
    for precision in (F16, F32):
        gpu = GpuModel(float16, precision=precision)
        drift = measure(reference, np.concatenate([_answer(gpu, image) for image in pixels]), labels)
        rows.append(
            {
                "variant": variant,
                "outliers": str(ratio),
                "arithmetic": precision,
                "least_headroom_db": str(least["headroom_db"]),
                "least_headroom_layer": least["layer"],
                "snr_db": f"{drift.logits_snr_db:.1f}",
                "agreement": f"{100 * drift.top1_agreement:.2f}",
                "top1_float32": f"{100 * drift.top1_reference:.2f}",
                "top1": f"{100 * drift.top1_target:.2f}",
                "test_images": str(len(labels)),
                "device": gpu.ran_on,
            }
        )
        print("  ".join(rows[-1].values()), flush=True)
    return rows


def _answer(gpu: GpuModel, image: np.ndarray) -> np.ndarray:
    gpu.write({next(iter(gpu.inputs)): image[None].astype(np.float32)})
    return next(iter(real_outputs(gpu, gpu.invoke()).values()))


if __name__ == "__main__":
    sys.exit(main())
