"""What each step of the int8 recipe gives, in drift and latency: every step left out by itself, results/int8_steps.csv.

    python benchmarks/int8_steps.py [--variants nano32,tiny224] [--data cifar10/]

The shipped models are calibrated on 128 training images and judged on every fifth test image; the others have random weights and generated
images, which say something of errors and nothing of accuracy. Latency: one interleaved run of a variant's files, one thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.rows import write_rows  # noqa: E402
from calibration.image_set import open_image_set  # noqa: E402
from edge.drift.metrics import measure  # noqa: E402
from edge.export import to_tflite  # noqa: E402
from edge.export.rewrites import reparametrize  # noqa: E402
from edge.latency.protocol import ratio_of_medians  # noqa: E402
from edge.quantization import clipping, gptq, quantize, ranges  # noqa: E402
from edge.quantization.recipes import DYNAMIC, FLOAT, RECIPES, REWRITES, STATIC, Recipe  # noqa: E402
from edge.runtime.cpu import CPU, Interpreter, interleaved_milliseconds  # noqa: E402
from edge.runtime.machine import cpu_name  # noqa: E402
from edge.tflite import flatbuffer  # noqa: E402
from tfvit.model import build_variant  # noqa: E402
from tfvit.variants import VARIANTS  # noqa: E402
from tfvit.weights import randomize  # noqa: E402

CSV = ROOT / "results" / "int8_steps.csv"
INT8 = RECIPES["int8"]
CALIBRATION_IMAGES, RANDOM_CALIBRATION_IMAGES, RANDOM_TEST_IMAGES = 128, 32, 32
# Functions of the quantizer that a row goes without
NEAREST = (gptq, "error_optimal", lambda weights, samples: gptq.nearest(weights))
NOT_CLIPPED = (clipping, "best_range", lambda low, high, rows, weights: (low, high))
NOT_MOVED = (quantize, "move_as_bytes", lambda model: None)


def steps() -> Iterator[tuple[str, Recipe, tuple | None]]:
    """Name, recipe, and what is put in place of a function."""
    replace = dataclasses.replace
    yield "float32", RECIPES["float32"], None
    yield "float32 without rewrites", replace(RECIPES["float32"], rewrites=()), None
    yield "int8", INT8, None
    yield "int8 without rewrites", replace(INT8, rewrites=()), None
    for name in REWRITES:
        yield f"int8 without {name}", replace(INT8, rewrites=tuple(other for other in REWRITES if other != name)), None
    yield "int8, nearest rounding", INT8, NEAREST
    yield "int8, ranges not clipped", INT8, NOT_CLIPPED
    yield "int8, floats moved", INT8, NOT_MOVED
    yield "int8, float16 biases", replace(INT8, int8_biases_from=sys.maxsize), None
    yield "int8, outputs of any range static", replace(INT8, min_output_snr_db=None), None
    everything = tuple((role, STATIC) for role in (*dict(INT8.dense_by_role), "merging/reduction", "head"))
    yield "int8, everything static", replace(INT8, dense_by_role=everything, min_output_snr_db=None), None
    writers = tuple((role, DYNAMIC if role in ("attention/projection", "mlp/fc2") else mode) for role, mode in INT8.dense_by_role)
    yield "int8, stream writers dynamic", replace(INT8, dense_by_role=writers), None
    yield "int8, everything dynamic", replace(INT8, dense_by_role=(("patch_embedding/projection", FLOAT),)), None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", default="nano32,v2_nano32,tiny224,v2_tiny256")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "cifar10", help="train.zip and test.zip")
    parser.add_argument("--rounds", type=int, help="of the latency run (400 for the 32 px models, 40 for others)")
    parser.add_argument("--csv", type=Path, default=CSV)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.variants.split(","):
        rounds = arguments.rounds or (400 if VARIANTS[name].weights == "cifar10" else 40)
        made = variant_rows(name, arguments.data, rounds)
        for row in made:
            print("  ".join(row[column] for column in ("variant", "step", "agreement", "snr_db", "size_mb", "ratio")), flush=True)
        rows += made
    write_rows(arguments.csv, rows)
    return 0


def variant_rows(name: str, data: Path, rounds: int) -> list[dict]:
    variant = VARIANTS[name]
    trained = variant.weights == "cifar10"
    model = build_variant(variant, weights="cifar10" if trained else None, classifier_activation=None)
    if not trained:
        randomize(model, 0)
    source = to_tflite.exportable(model, variant.preprocessing, takes_pixels=False)
    calibration, test = _images(variant, data) if trained else _generated(variant)
    reference = np.stack(list(to_tflite.reference_logits(source, iter(test))))
    graphs: dict[tuple, tuple[bytes, ranges.Calibration]] = {}
    labels, drifts, files = [], [], []
    for label, recipe, instead in steps():
        if recipe.rewrites not in graphs:
            graphs[recipe.rewrites] = to_tflite.export_float(reparametrize(source, recipe.rewrites), output="logits"), ranges.Calibration()
        graph, known = graphs[recipe.rewrites]
        if recipe.needs_calibration and not known.ranges:
            # of every layer in every mode, so that all rows of the table see the same samples
            tensors, patches = quantize.watched_tensors(graph, dataclasses.replace(INT8, dense=STATIC, dense_by_role=()))
            known.add(ranges.collect(graph, tensors, (image[None] for image in calibration), 2, patches))
        if instead is None:
            file = quantize.quantize(graph, recipe, known)
        else:
            file = _quantized_with(instead, graph, recipe, ranges.Calibration(known.ranges, known.rows))
        interpreter = Interpreter(file, threads=2)
        drifts.append(measure(reference, np.stack([interpreter.run(image[None])[0] for image in test])))
        labels.append(label)
        files.append(file)
    milliseconds = interleaved_milliseconds(files, threads=1, rounds=rounds, warmup_rounds=5)
    return [
        {
            "variant": name,
            "weights": "cifar10" if trained else "random:0",
            "step": label,
            "test_images": str(len(test)),
            "agreement": f"{100 * drift.top1_agreement:.2f}" if trained else "",
            "snr_db": f"{drift.logits_snr_db:.1f}",
            "size_mb": f"{len(file) / 1e6:.2f}",
            "operations": str(sum(flatbuffer.operator_counts(flatbuffer.read_model(file)).values())),
            "median_ms": f"{np.median(times):.3f}",
            "ratio": f"{np.median(times) / np.median(milliseconds[0]):.3f}",
            "ratio_low": f"{ratio_of_medians(times, milliseconds[0])[1]:.3f}",
            "ratio_high": f"{ratio_of_medians(times, milliseconds[0])[2]:.3f}",
            "rounds": str(rounds),
            "runtime": CPU,
            "cpu": cpu_name(),
        }
        for label, drift, file, times in zip(labels, drifts, files, milliseconds, strict=True)
    ]


def _quantized_with(instead: tuple, graph: bytes, recipe: Recipe, calibration: ranges.Calibration) -> bytes:
    module, name, function = instead
    original = getattr(module, name)
    setattr(module, name, function)
    try:
        return quantize.quantize(graph, recipe, calibration)
    finally:
        setattr(module, name, original)


def _images(variant, data: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    train, test = open_image_set(str(data / "train.zip")), open_image_set(data / "test.zip")
    split = train.split(CALIBRATION_IMAGES, 1, 0)
    judged = list(test.read(test.references[::5], variant.preprocessing))
    return [image.astype(np.float32) for image in train.read(split.calibration, variant.preprocessing)], [
        image.astype(np.float32) for image in judged
    ]


def _generated(variant) -> tuple[list[np.ndarray], list[np.ndarray]]:
    images = open_image_set("builtin")
    split = images.split(RANDOM_CALIBRATION_IMAGES, RANDOM_TEST_IMAGES, 0)
    return tuple(
        [image.astype(np.float32) for image in images.read(part, variant.preprocessing)] for part in (split.calibration, split.held_out)
    )


if __name__ == "__main__":
    sys.exit(main())
