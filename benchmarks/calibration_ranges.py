"""How the built-in calibration set's activation ranges compare with a set of photographs', layer by layer, and what that costs.

    python benchmarks/calibration_ranges.py --variant tiny224 --photos FOLDER

Half of the photographs calibrate, the other half judge. For every tensor the int8 recipe quantizes: the range each set gives and the
share of the photographs' range that the built-in set covers. Then the logits SNR of int8 files calibrated with either, on the judging
photographs. Writes results/calibration_ranges_VARIANT.csv. Random weights, or --weights FILE.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from calibration.image_set import open_image_set  # noqa: E402
from edge.drift import metrics  # noqa: E402
from edge.export import to_tflite  # noqa: E402
from edge.quantization import quantize, ranges  # noqa: E402
from edge.quantization.recipes import find_recipe  # noqa: E402
from edge.runtime import cpu  # noqa: E402
from edge.tflite import flatbuffer  # noqa: E402
from tfvit.model import build_variant  # noqa: E402
from tfvit.variants import find_variant  # noqa: E402
from tfvit.weights import load_weights, randomize  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="tiny224")
    parser.add_argument("--photos", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--samples", type=int, default=128, help="images of the built-in set")
    arguments = parser.parse_args()
    variant, recipe = find_variant(arguments.variant), find_recipe("int8")
    model = build_variant(variant, weights=None, classifier_activation=None)
    origin = load_weights(model, arguments.weights, variant) if arguments.weights else randomize(model, 0)
    source = to_tflite.exportable(model, variant.preprocessing, takes_pixels=False)
    file = to_tflite.export_float(source)
    tensors = quantize.static_tensors(file, recipe)

    photos, builtin = open_image_set(arguments.photos), open_image_set("builtin")
    split = photos.split(10_000, 10_000, seed=0)
    judging = list(photos.read(split.held_out, variant.preprocessing))
    sets = {
        "photos": list(photos.read(split.calibration, variant.preprocessing)),
        "builtin": list(builtin.read(builtin.split(arguments.samples, 0, 0).calibration, variant.preprocessing)),
        "judging photos": judging,
    }
    measured = {name: ranges.collect(file, tensors, (image[None] for image in images), 2).ranges for name, images in sets.items()}

    out = ROOT / "results" / f"calibration_ranges_{variant.id}.csv"
    out.parent.mkdir(exist_ok=True)
    coverage = {"photos": [], "builtin": []}
    with out.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(
            [
                "layer",
                "photos_min",
                "photos_max",
                "builtin_min",
                "builtin_max",
                "width_ratio",
                "judging_covered_by_photos",
                "judging_covered_by_builtin",
            ]
        )
        for name in tensors:
            bounds = {key: measured[key][name] for key in measured}
            widths = {key: high - low for key, (low, high) in bounds.items()}
            for key in coverage:
                coverage[key].append(_covered(bounds[key], bounds["judging photos"]))
            writer.writerow(
                [flatbuffer.keras_layer(name)]
                + [f"{value:.4g}" for key in ("photos", "builtin") for value in bounds[key]]
                + [f"{widths['builtin'] / widths['photos']:.3f}", f"{coverage['photos'][-1]:.3f}", f"{coverage['builtin'][-1]:.3f}"]
            )
    widths = {key: np.asarray([measured[key][name][1] - measured[key][name][0] for name in tensors]) for key in coverage}
    ratios = widths["builtin"] / widths["photos"]
    counts = f"{len(tensors)} tensors, {len(sets['photos'])} photos, {len(sets['builtin'])} built-in images"
    print(f"{variant.id}, weights {origin.source}: {counts}")
    print("width of the built-in range / the photos': p5 {:.3f}, median {:.3f}, p95 {:.3f}".format(*np.percentile(ratios, (5, 50, 95))))
    for key, values in coverage.items():
        print(f"judging photos' range covered by {key}: p5 {np.percentile(values, 5):.3f}, median {np.median(values):.3f}")
    reference = np.stack(list(to_tflite.reference_logits(source, iter(judging))))
    for key in ("photos", "builtin"):
        interpreter = cpu.Interpreter(quantize.quantize(file, recipe, measured[key]), threads=2)
        target = metrics.logits_of_probabilities(np.concatenate([interpreter.run(image[None]) for image in judging]))
        snr_db = metrics.measure(reference, target).logits_snr_db
        print(f"int8 calibrated with {key}: logits SNR {snr_db:.2f} dB on {len(judging)} judging photos")
    return 0


def _covered(range_: tuple[float, float], judged: tuple[float, float]) -> float:
    """The share of the judged range that lies within `range_`."""
    overlap = min(range_[1], judged[1]) - max(range_[0], judged[0])
    return max(0.0, overlap) / (judged[1] - judged[0])


if __name__ == "__main__":
    sys.exit(main())
