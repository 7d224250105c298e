"""What 256 unlabelled images say of a file, beside what 5,000 labelled ones say: results/gate_record.csv.

    python benchmarks/gate_record.py --data cifar10/        # train.zip (calibration) and test.zip; about 20 minutes

The files: every recipe of the shipped models, and ten damaged float files of each; rows of files that are not made again are kept. Each
answers all test images. From twenty draws of 256
of them, without labels, come the counted and the estimated share of changed answers (`edge.drift.agreement`); from all of them with labels
the real share and the loss of top-1. The recipes' limits in `edge.quantization.recipes` were chosen by this table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.accuracy import SHIPPED, test_images  # noqa: E402
from benchmarks.rows import read_rows, write_rows  # noqa: E402
from edge import convert  # noqa: E402
from edge.drift.agreement import Agreement, agreement  # noqa: E402
from edge.drift.metrics import snr_db  # noqa: E402
from edge.quantization.recipes import RECIPES  # noqa: E402
from edge.runtime.cpu import Interpreter  # noqa: E402
from edge.tflite import flatbuffer  # noqa: E402

CSV = ROOT / "results" / "gate_record.csv"
DRAWS, IMAGES = 20, 256


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.zip and test.zip")
    parser.add_argument("--variants", default=",".join(SHIPPED))
    parser.add_argument("--recipes", default=",".join(name for name in RECIPES if name not in ("float32", "smallest", "w8a16")))
    parser.add_argument("--no-damaged", dest="damaged", action="store_false", help="the recipes alone")
    parser.add_argument("--every", type=int, default=1, help="take each N-th test image (%(default)s)")
    parser.add_argument("--csv", type=Path, default=CSV)
    arguments = parser.parse_args()
    rows = read_rows(arguments.csv)
    for variant in arguments.variants.split(","):
        pixels, labels = (values[:: arguments.every] for values in test_images(variant, arguments.data / "test.zip"))
        with tempfile.TemporaryDirectory() as folder:
            names = ["float32", *arguments.recipes.split(",")]
            convert(
                variant, names, calibration=arguments.data / "train.zip", out=folder, gate=False, output="logits", agreement_samples=0,
                repair=False, quiet=True,
            )  # fmt: skip
            made = {name: (Path(folder) / f"{variant}-{name}.tflite").read_bytes() for name in names}
        reference = answers(made["float32"], pixels)
        files = [(name, made[name]) for name in names[1:]] + (list(damaged(made["float32"])) if arguments.damaged else [])
        for name, file in files:
            found = row(variant, name, reference, answers(file, pixels), labels)
            rows = sorted([one for one in rows if (one["variant"], one["file"]) != (variant, name)] + [found], key=_order)
            print("  ".join(str(value) for value in found.values()), flush=True)
            write_rows(arguments.csv, rows)
    return 0


def _order(row: dict[str, str]) -> tuple[int, int]:
    """Variants as they ship, of each the recipes as they are listed, and behind them what was damaged."""
    recipes = list(RECIPES)
    return list(SHIPPED).index(row["variant"]), recipes.index(row["file"]) if row["file"] in recipes else len(recipes)


def answers(file: bytes, pixels: np.ndarray) -> np.ndarray:
    """Logits [N, classes]."""
    interpreter = Interpreter(file, threads=2)
    return np.concatenate([interpreter.run(image[None]) for image in pixels])


def row(variant: str, name: str, reference: np.ndarray, target: np.ndarray, labels: np.ndarray) -> dict[str, str]:
    rng = np.random.default_rng(0)
    drawn = [rng.choice(len(labels), min(IMAGES, len(labels)), replace=False) for _ in range(DRAWS)]
    found = [agreement(reference[which], target[which], "") for which in drawn]
    same = reference.argmax(1) == target.argmax(1)
    changed, lost = 100 * (1 - same.mean()), 100 * ((reference.argmax(1) == labels).mean() - (target.argmax(1) == labels).mean())

    def percent(of: Callable[[Agreement], float]) -> np.ndarray:
        return np.array([100 * of(one) for one in found])

    counted, estimated = percent(lambda one: 1 - one.top1_agreement), percent(lambda one: one.expected_changes)
    inside = np.mean((percent(lambda one: one.expected_low) <= changed) & (changed <= percent(lambda one: one.expected_high)))
    return {
        "variant": variant,
        "file": name,
        "test_images": str(len(labels)),
        "changed_percent": f"{changed:.2f}",
        "top1_lost_points": f"{lost:.2f}",
        "snr_db": f"{snr_db(_centred(reference), _centred(target)):.1f}",
        "counted_mean": f"{counted.mean():.2f}",
        "counted_rms_error": f"{np.sqrt(np.mean((counted - changed) ** 2)):.2f}",
        "counted_highest": f"{counted.max():.2f}",
        "estimated_mean": f"{estimated.mean():.2f}",
        "estimated_rms_error": f"{np.sqrt(np.mean((estimated - changed) ** 2)):.2f}",
        "estimated_highest": f"{estimated.max():.2f}",
        "in_the_interval": f"{100 * inside:.0f}",
        "draws": str(DRAWS),
        "images_a_draw": str(len(drawn[0])),
    }


def _centred(logits: np.ndarray) -> np.ndarray:
    return logits - logits.mean(axis=1, keepdims=True)


def damaged(file: bytes) -> Iterator[tuple[str, bytes]]:
    """Ten float files with one thing wrong each, of the kinds that conversions and quantizers get wrong."""
    rng = np.random.default_rng(0)

    def coarse(bits: int) -> Callable[[np.ndarray], np.ndarray]:
        def rounded(weights: np.ndarray) -> np.ndarray:
            step = np.abs(weights).max() / (2 ** (bits - 1) - 1)
            return np.round(weights / step) * step

        return rounded

    def noisy(share: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda weights: weights + rng.normal(0, share * weights.std(), weights.shape)

    def first_rows(factor: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda weights: np.concatenate([weights[: len(weights) // 4] * factor, weights[len(weights) // 4 :]])

    everything = slice(None)
    for name, which, change in (
        ("all weights in 6 bits, one scale a tensor", everything, coarse(6)),
        ("all weights in 5 bits, one scale a tensor", everything, coarse(5)),
        ("all weights in 4 bits, one scale a tensor", everything, coarse(4)),
        ("noise of 5 % in all weights", everything, noisy(0.05)),
        ("noise of 15 % in all weights", everything, noisy(0.15)),
        ("noise of 100 % in one layer", slice(4, 5), noisy(1.0)),
        ("a layer of zeros in the middle", slice(12, 13), lambda weights: weights * 0),
        ("a quarter of a layer's outputs with the wrong sign", slice(8, 9), first_rows(-1.0)),
        ("a quarter of each layer's outputs 10 % too large", everything, first_rows(1.1)),
        ("the head's first classes without weights", slice(-1, None), first_rows(0.0)),
    ):
        yield name, _changed(file, which, change)


def _changed(file: bytes, which: slice, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """The file with the weights of some dense layers, in the order of the graph, changed."""
    model = flatbuffer.read_model(file)
    dense = [operator for name, operator in flatbuffer.operators(model) if name == "FULLY_CONNECTED"]
    for operator in dense[which]:
        index = int(operator.inputs[1])
        weights = flatbuffer.float_constant(model, index)
        flatbuffer.make_constant(model, index, change(weights.astype(np.float64)).astype(np.float32).reshape(weights.shape))
    return flatbuffer.write_model(model)


if __name__ == "__main__":
    sys.exit(main())
