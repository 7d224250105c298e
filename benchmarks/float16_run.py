"""Float16 files computed in float16, held against float32: results/float16_run.csv.

    VK_ICD_FILENAMES=build/vulkan/lavapipe.json python benchmarks/float16_run.py --data cifar10/        # test.zip; some minutes

The shipped small models and their stress versions (benchmarks/outliers), on the GPU delegate as apps run it, float16 arithmetic, and in
float32 beside it; and, where a conversion scales streams (docs/decisions/0040), the file without that. lavapipe, a software GPU, has real
float16 in its shaders: its answers count, its milliseconds do not. The least headroom is what manifests name. Rows of other variants are
kept. Nothing here may load TensorFlow: with lavapipe in the same process it crashes.
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

from benchmarks.accuracy import SHIPPED, test_images  # noqa: E402
from benchmarks.outlier_recipes import RATIOS, outlier_weights  # noqa: E402
from benchmarks.rows import read_rows, write_rows  # noqa: E402
from calibration import builtin  # noqa: E402
from edge.drift.metrics import measure  # noqa: E402
from edge.quantization import quantize  # noqa: E402
from edge.quantization.float16_headroom import HEADROOM_IMAGES, headroom  # noqa: E402
from edge.quantization.float16_streams import with_room  # noqa: E402
from edge.quantization.recipes import RECIPES  # noqa: E402
from edge.runtime.cpu import Interpreter, real_outputs  # noqa: E402
from edge.runtime.gpu import F16, F32, GpuModel, GpuUnavailableError  # noqa: E402
from tfvit.errors import EXIT_OK, EXIT_UNUSABLE  # noqa: E402
from tfvit.variants import VARIANTS  # noqa: E402

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
        command += ["--quant", "float32", "--output", "logits", "--quiet", "--out", folder]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        float32 = (Path(folder) / f"{variant}-float32.tflite").read_bytes()
    plain, roomy = (quantize.quantize(file, RECIPES["float16"]) for file in (float32, with_room(float32, _pictures(variant))))
    cases = [("scaled", roomy, F16), ("as trained", plain, F16), ("as trained", plain, F32)]
    exact = Interpreter(float32, threads=2)
    reference = np.concatenate([exact.run(image[None]) for image in pixels])
    rows = []
    for streams, file, precision in cases if roomy != plain else cases[1:]:
        gpu = GpuModel(file, precision=precision)
        drift = measure(reference, np.concatenate([_answer(gpu, image) for image in pixels]), labels)
        least = headroom(file, _pictures(variant), 2)[0]
        rows.append(
            {
                "variant": variant,
                "outliers": str(ratio),
                "streams": streams,
                "arithmetic": precision,
                "least_headroom_db": f"{least.headroom_db:.1f}",
                "least_headroom_layer": least.layer,
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


def _pictures(variant: str) -> list[np.ndarray]:
    """What the largest numbers are looked for on: [1, H, W, 3] each."""
    return [builtin.generate(index, VARIANTS[variant].image_size)[None].astype(np.float32) for index in range(HEADROOM_IMAGES)]


def _answer(gpu: GpuModel, image: np.ndarray) -> np.ndarray:
    gpu.write({next(iter(gpu.inputs)): image[None].astype(np.float32)})
    return next(iter(real_outputs(gpu, gpu.invoke()).values()))


if __name__ == "__main__":
    sys.exit(main())
