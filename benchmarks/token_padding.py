"""Whether an odd number of tokens costs a CPU time: a plain model with more tokens than it has, results/token_padding.csv.

    python benchmarks/token_padding.py [--variants vit_tiny16_224,vit_small16_224]

Registers stand for padding: they cost what tokens without meaning would, but for the mask those would need, so that the ratios are the
least that padding could give. Random weights, generated images, one interleaved run of a variant's files, one thread; ratios to the file of
the same recipe with the model's own tokens.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.rounding import _generated  # noqa: E402
from benchmarks.rows import write_rows  # noqa: E402
from edge.export import to_tflite  # noqa: E402
from edge.export.rewrites import reparametrize  # noqa: E402
from edge.latency.protocol import ratio_of_medians  # noqa: E402
from edge.quantization import quantize, ranges  # noqa: E402
from edge.quantization.recipes import RECIPES, Recipe  # noqa: E402
from edge.runtime.cpu import CPU, interleaved_milliseconds  # noqa: E402
from edge.runtime.machine import cpu_name  # noqa: E402
from tfvit.model import build_variant  # noqa: E402
from tfvit.variants import VARIANTS, PlainVariant  # noqa: E402
from tfvit.weights import randomize  # noqa: E402

CSV = ROOT / "results" / "token_padding.csv"
# 197 tokens to 200 (a multiple of 8), 204 (of 4) and 208 (of 16)
ADDED = (0, 3, 7, 11)
MADE = ("float32", "int8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", default="vit_tiny16_224,vit_small16_224")
    parser.add_argument("--rounds", type=int, default=60, help="of the latency run (%(default)s)")
    parser.add_argument("--csv", type=Path, default=CSV)
    arguments = parser.parse_args()
    rows = [row for name in arguments.variants.split(",") for row in _rows(name, arguments.rounds)]
    write_rows(arguments.csv, rows)
    return 0


def _rows(name: str, rounds: int) -> list[dict[str, str]]:
    variant = VARIANTS[name]
    assert isinstance(variant, PlainVariant)
    files = {(recipe, added): _file(variant, added, RECIPES[recipe]) for added in ADDED for recipe in MADE}
    times = dict(zip(files, interleaved_milliseconds(list(files.values()), 1, rounds, 5), strict=True))
    rows = []
    for (recipe, added), measured in sorted(times.items()):
        ratio, low, high = ratio_of_medians(measured, times[recipe, 0])
        row = {"variant": name, "recipe": recipe, "tokens": str((variant.image_size // variant.patch_size) ** 2 + 1 + added)}
        row |= {"added": str(added), "median_ms": f"{np.median(measured):.1f}"}
        row |= {"ratio": f"{ratio:.3f}", "ratio_low": f"{low:.3f}", "ratio_high": f"{high:.3f}", "rounds": str(rounds), "threads": "1"}
        print("  ".join(row.values()), flush=True)
        rows.append(row | {"weights": "random:0", "runtime": CPU, "cpu": cpu_name()})
    return rows


def _file(variant: PlainVariant, added: int, recipe: Recipe) -> bytes:
    model = build_variant(dataclasses.replace(variant, registers=added), weights=None, classifier_activation=None)
    randomize(model, 0)
    source = to_tflite.exportable(model, variant.preprocessing, takes_pixels=False)
    graph, known = to_tflite.export_float(reparametrize(source, recipe.rewrites), output="logits"), ranges.Calibration()
    if recipe.needs_calibration:
        images, _, _ = _generated(variant, 0)
        tensors, patches = quantize.watched_tensors(graph, recipe)
        known = ranges.collect(graph, tensors, (image[None] for image in images), 1, patches)
    return quantize.quantize(graph, recipe, known)


if __name__ == "__main__":
    sys.exit(main())
