"""Accuracy of the shipped models in every recipe, on the CIFAR-10 test images: results/accuracy.csv.

    python benchmarks/accuracy.py --data cifar10/        # train.zip (calibration) and test.zip

Each file is made by `edge.convert` from the shipped weights, without its drift gate, and runs on every test image; so does the float Keras
model. Latency ratios come from one interleaved run of all recipes that are asked for, one thread; `--rounds 0` leaves them empty. Rows of
others are kept.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.rows import read_rows, write_rows  # noqa: E402
from calibration.image_set import open_image_set  # noqa: E402
from edge.drift.metrics import measure  # noqa: E402
from edge.latency.protocol import ratio_of_medians  # noqa: E402
from edge.quantization.recipes import RECIPES  # noqa: E402
from edge.runtime.cpu import CPU, Interpreter, interleaved_milliseconds  # noqa: E402
from edge.runtime.machine import cpu_name  # noqa: E402
from tfvit.evaluate import wilson_interval  # noqa: E402
from tfvit.labels import cifar10_labels  # noqa: E402
from tfvit.preprocessing import normalize  # noqa: E402
from tfvit.variants import VARIANTS  # noqa: E402

CSV = ROOT / "results" / "accuracy.csv"
SHIPPED = tuple(name for name, variant in VARIANTS.items() if variant.weights == "cifar10")
BATCH = 250


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.zip and test.zip, one folder a class inside")
    parser.add_argument("--variants", default=",".join(SHIPPED))
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--calibration", help="folder, zip or builtin (train.zip)")
    parser.add_argument("--rounds", type=int, default=400, help="of the latency run (%(default)s)")
    parser.add_argument("--csv", type=Path, default=CSV)
    arguments = parser.parse_args()
    calibration = arguments.calibration or str(arguments.data / "train.zip")
    known = {(row["variant"], row["recipe"]): row for row in read_rows(arguments.csv)}
    for variant in arguments.variants.split(","):
        made = variant_rows(variant, arguments.recipes.split(","), calibration, arguments.data / "test.zip", arguments.rounds)
        known |= {(row["variant"], row["recipe"]): row for row in made}
        for row in made:
            print("  ".join(row[name] for name in ("variant", "recipe", "top1", "top1_keras", "agreement", "snr_db", "ratio")), flush=True)
        write_rows(arguments.csv, [known[cell] for cell in itertools.product(VARIANTS, RECIPES) if cell in known])
    return 0


def variant_rows(variant: str, recipes: list[str], calibration: str, test: Path, rounds: int) -> list[dict]:
    """One row a recipe."""
    pixels, labels = test_images(variant, test)
    reference = keras_logits(variant, pixels)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edge.convert", "--variant", variant, "--quant", ",".join(recipes), "--calibration", calibration]
        command += ["--out", folder, "--no-gate", "--output", "logits", "--json", "--quiet"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        manifests = {artifact["manifest"]["recipe"]: artifact["manifest"] for artifact in json.loads(done.stdout)["artifacts"]}
        files = [(Path(folder) / f"{variant}-{recipe}.tflite").read_bytes() for recipe in recipes]
    milliseconds = interleaved_milliseconds(files, threads=1, rounds=rounds, warmup_rounds=50) if rounds else None
    rows = []
    for position, (recipe, file) in enumerate(zip(recipes, files, strict=True)):
        interpreter = Interpreter(file, threads=1)
        logits = np.concatenate([interpreter.run(image[None]) for image in pixels])
        drift = measure(reference, logits, labels)
        low, high = wilson_interval(round(drift.top1_target * len(labels)), len(labels))
        calibrated = manifests[recipe]["calibration"]
        rows.append(
            {
                "variant": variant,
                "recipe": recipe,
                "size_mb": f"{len(file) / 1e6:.2f}",
                "test_images": len(labels),
                "top1": f"{100 * drift.top1_target:.2f}",
                "top1_low": f"{100 * low:.2f}",
                "top1_high": f"{100 * high:.2f}",
                "top1_keras": f"{100 * drift.top1_reference:.2f}",
                "agreement": f"{100 * drift.top1_agreement:.2f}",
                "snr_db": f"{drift.logits_snr_db:.1f}",
                **dict.fromkeys(("median_ms", "ratio", "ratio_low", "ratio_high", "rounds"), ""),
                "calibration": f"{calibrated['samples']} of {calibrated['source']}" if calibrated else "",
                "runtime": CPU,
                "cpu": cpu_name(),
            }
        )
        if milliseconds is not None:
            times, ratio = milliseconds[position], ratio_of_medians(milliseconds[position], milliseconds[0])
            rows[-1] |= {"median_ms": f"{np.median(times):.3f}", "rounds": str(rounds)}
            rows[-1] |= {name: f"{value:.3f}" for name, value in zip(("ratio", "ratio_low", "ratio_high"), ratio, strict=True)}
    return rows


def test_images(variant: str, test: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [N, H, W, 3] and class indices [N]."""
    images = open_image_set(test)
    pairs = list(images.read_with_references(images.references, VARIANTS[variant].preprocessing))
    labels = [cifar10_labels().index(reference.label) for reference, _ in pairs]
    return np.stack([image for _, image in pairs]), np.array(labels)


def keras_logits(variant: str, pixels: np.ndarray) -> np.ndarray:
    from tfvit.model import build_variant

    model = build_variant(VARIANTS[variant], weights="cifar10", classifier_activation=None)
    batches = (pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH))
    return np.concatenate([model.predict_on_batch(normalize(batch, VARIANTS[variant].preprocessing)) for batch in batches])


if __name__ == "__main__":
    sys.exit(main())
