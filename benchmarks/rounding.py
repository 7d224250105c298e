"""Whose rounding: the int8 recipe's file with the weights rounded by us and by ai-edge-quantizer's own algorithms, results/rounding.csv.

    python benchmarks/rounding.py [--variants nano32,tiny224] [--data cifar10/]

All files of a draw start from one float file and have the same static and dynamic layers; the row's name says what differs from the recipe.
The shipped models are calibrated on draws of 128 training images and judged on every fifth test image. tiny224 has random weights and one
draw of generated images, which say something of errors and nothing of accuracy. Figures are means over the draws. `seconds` is the time to
round the weights and write the file, `calibration_seconds` the time to see the images: the least of the draws, of this run on this machine,
which `load` (the load average) says to have been busy or not.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import io
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from ai_edge_quantizer import qtyping, quantizer  # noqa: E402
from ai_edge_quantizer.recipe_manager import AlgorithmName  # noqa: E402

from benchmarks.rows import write_rows  # noqa: E402
from calibration.image_set import open_image_set  # noqa: E402
from edge.drift.metrics import Drift, measure  # noqa: E402
from edge.export import to_tflite  # noqa: E402
from edge.export.rewrites import reparametrize  # noqa: E402
from edge.quantization import clipping, gptq, quantize, ranges  # noqa: E402
from edge.quantization.dense_layers import dense_layers, set_constant, weight_matrix  # noqa: E402
from edge.quantization.recipes import DYNAMIC, FLOAT, RECIPES, STATIC  # noqa: E402
from edge.runtime.cpu import Interpreter, xnnpack_partitions  # noqa: E402
from edge.runtime.machine import cpu_name  # noqa: E402
from edge.tflite import flatbuffer  # noqa: E402
from tfvit.labels import cifar10_labels  # noqa: E402
from tfvit.model import build_variant  # noqa: E402
from tfvit.variants import VARIANTS, Variant  # noqa: E402
from tfvit.weights import randomize  # noqa: E402

CSV = ROOT / "results" / "rounding.csv"
INT8 = RECIPES["int8"]
CALIBRATION_IMAGES, RANDOM_CALIBRATION_IMAGES, RANDOM_TEST_IMAGES = 128, 32, 32
THREADS = 2
OURS, NEAREST = "ours", AlgorithmName.MIN_MAX_UNIFORM_QUANT
# Those of the quantizer that want to know more of a layer's input than its range
LEARNING = (AlgorithmName.GPTQ, AlgorithmName.OSCAR)
# Empty where nothing could be made
COLUMNS = ("bytes", "snr_db", "snr_db_low", "snr_db_high", "over_ours_db", "over_ours_db_low", "over_ours_db_high", "top1_float", "top1")
COLUMNS += ("agreement", "static_layers", "dynamic_layers", "operations", "xnnpack_partitions", "calibration_seconds", "seconds", "load")
# Ranges of the activations: ours, the least and largest values seen, the quantizer's moving average
NARROWED, OBSERVED, AVERAGED = "narrowed", "observed", "averaged"


@dataclasses.dataclass(frozen=True)
class Rounding:
    """How the weights of the dense layers come onto the 8-bit grid.

    Attributes:
        name: in the table.
        algorithm: `OURS` (`edge.quantization.gptq.error_optimal`), or a key of the quantizer.
        corrected: whether biases take up the mean error of the rounded weights (`edge.quantization.gptq.corrected_bias`).
        ranges: of the activations.
        our_samples: the quantizer's GPTQ learns from the samples that ours learns from, not from every token of its own calibration.
        dynamic: the static layers are dynamic too.
    """

    name: str
    algorithm: str
    corrected: bool = False
    ranges: str = NARROWED
    our_samples: bool = False
    dynamic: bool = False

    @property
    def needs_their_statistics(self) -> bool:
        return self.ranges == AVERAGED or (self.algorithm in LEARNING and not self.our_samples)


ROUNDINGS = (
    Rounding("ours", OURS, corrected=True),
    Rounding("ours, biases not corrected", OURS),
    Rounding("nearest (min-max)", NEAREST),
    Rounding("nearest (min-max), biases corrected", NEAREST, corrected=True),
    Rounding("theirs GPTQ", AlgorithmName.GPTQ),
    Rounding("theirs GPTQ, biases corrected", AlgorithmName.GPTQ, corrected=True),
    Rounding("theirs GPTQ, our samples", AlgorithmName.GPTQ, our_samples=True),
    Rounding("theirs OCTAV", AlgorithmName.OCTAV),
    Rounding("theirs OCTAV, biases corrected", AlgorithmName.OCTAV, corrected=True),
    Rounding("theirs MSE", AlgorithmName.MSE),
    Rounding("theirs MSE, biases corrected", AlgorithmName.MSE, corrected=True),
    Rounding("ours, observed ranges", OURS, corrected=True, ranges=OBSERVED),
    Rounding("ours, their ranges", OURS, corrected=True, ranges=AVERAGED),
    Rounding("nearest (min-max), their ranges", NEAREST, ranges=AVERAGED),
    Rounding("theirs GPTQ, their ranges", AlgorithmName.GPTQ, ranges=AVERAGED),
    # These two are asked for static layers and make dynamic ones: the third is what to hold them against
    Rounding("theirs OSCAR", AlgorithmName.OSCAR),
    Rounding("theirs Hadamard rotation", AlgorithmName.DECOMPOSED_HADAMARD_ROTATION),
    Rounding("ours, everything dynamic", OURS, corrected=True, dynamic=True),
)


@dataclasses.dataclass
class Draw:
    """One draw of calibration images, with what both sides learn from them.

    Attributes:
        graph: the float file.
        known: what our calibration saw, and `seconds`, how long that took.
        modes: of the dense layers, the same for every row.
        narrowed: the ranges that the recipe uses.
        statistics: what the quantizer's calibration saw, by tensor name, and `their_seconds`.
        files: made without corrected biases, by algorithm and `our_samples`: the same weights as in those with corrected ones.
    """

    graph: bytes
    known: ranges.Calibration
    seconds: float
    modes: Mapping[str, str]
    narrowed: Mapping[str, tuple[float, float]]
    statistics: Mapping[str, Mapping[str, Any]]
    their_seconds: float
    files: dict[tuple[str, bool], bytes] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, graph: bytes, images: Sequence[np.ndarray]) -> Draw:
        started = time.perf_counter()
        tensors, patches = quantize.watched_tensors(graph, INT8)
        known = ranges.collect(graph, tensors, (image[None] for image in images), THREADS, patches)
        seconds = time.perf_counter() - started
        modes = quantize.layer_modes(flatbuffer.read_model(graph), INT8, known)
        narrowed = quantize._clipped_inputs(graph, known, modes)
        started = time.perf_counter()
        statistics = _their_statistics(graph, modes, images)
        return cls(graph, known, seconds, modes, narrowed, statistics, time.perf_counter() - started)

    def calibration(self, kind: str) -> ranges.Calibration:
        """Ours, with one kind of ranges; what was rounded for it earlier is left out."""
        chosen = dict(self.narrowed if kind == NARROWED else self.known.ranges)
        if kind == AVERAGED:
            chosen |= {name: (float(seen["min"].min()), float(seen["max"].max())) for name, seen in self.statistics.items()}
        return ranges.Calibration(chosen, self.known.rows)

    def moments(self, our_samples: bool) -> dict[str, dict[str, np.ndarray]]:
        """What the quantizer's GPTQ and OSCAR read of a dense layer's input, by its name. Copies: GPTQ writes into its Hessian."""
        if our_samples:
            hessians = {name: np.asarray(2.0 / len(rows) * rows.T @ rows) for name, rows in self.known.rows.items()}
        else:
            hessians = {name: np.array(seen["hessian"]) for name, seen in self.statistics.items()}
        return {name: {"hessian": hessian, "mu2": np.diag(hessian).copy()} for name, hessian in hessians.items()}


def _their_statistics(graph: bytes, modes: Mapping[str, str], images: Sequence[np.ndarray]) -> Mapping[str, Mapping[str, Any]]:
    """The quantizer's own calibration for its GPTQ: moving averages of the ranges, Hessians of every token."""
    engine = quantizer.Quantizer(graph)
    model = flatbuffer.read_model(graph)
    for layer in dense_layers(model):
        scope, operation = f"^{re.escape(layer.name)};$", qtyping.TFLOperationName[layer.operation]
        if modes[layer.name] == STATIC:
            engine.add_static_config(scope, operation, 8, 8, algorithm_key=AlgorithmName.GPTQ)
        elif modes[layer.name] != FLOAT:
            engine.add_dynamic_config(scope, operation, 8, algorithm_key=AlgorithmName.GPTQ)
    (name,) = flatbuffer.signature_inputs(model)
    with _silence():
        return engine.calibrate({to_tflite.SIGNATURE: [{name: image[None]} for image in images]}, num_threads=THREADS)


def int8_file(draw: Draw, rounding: Rounding) -> bytes:
    """The int8 recipe's file with another rounding."""
    modes = {name: DYNAMIC if mode == STATIC and rounding.dynamic else mode for name, mode in draw.modes.items()}
    with contextlib.ExitStack() as stack:

        def put(module: Any, name: str, instead: Any) -> None:
            stack.enter_context(mock.patch.object(module, name, instead))

        if rounding.algorithm == OURS:
            if not rounding.corrected:
                put(gptq, "corrected_bias", lambda bias, weights, rounded, samples: bias)
        else:
            float_file = _with_corrected_biases(draw, rounding) if rounding.corrected else draw.graph
            put(quantize, "_rounded_for_inputs", lambda file, calibration, names: float_file)
            moments = draw.moments(rounding.our_samples) if rounding.algorithm in LEARNING else {}
            put(quantizer, "Quantizer", _quantizer_with(rounding.algorithm, moments))
        put(clipping, "best_range", lambda low, high, rows, weights: (low, high))  # narrowed already where they are to be
        file = quantize.quantize(draw.graph, INT8, draw.calibration(rounding.ranges), modes)
    if not rounding.corrected:
        draw.files[rounding.algorithm, rounding.our_samples] = file
    return file


def _quantizer_with(algorithm: str, moments: Mapping[str, Mapping[str, np.ndarray]]) -> type[quantizer.Quantizer]:
    """The quantizer with one of its algorithms in place of min-max, and with what that wants to know beside the ranges."""

    class Quantizer(quantizer.Quantizer):
        def add_static_config(self, *arguments: Any, **options: Any) -> None:
            super().add_static_config(*arguments, **options, algorithm_key=algorithm)

        def add_dynamic_config(self, *arguments: Any, **options: Any) -> None:
            super().add_dynamic_config(*arguments, **options, algorithm_key=algorithm)

        def quantize(self, calibration_result: Any = None, *arguments: Any, **options: Any) -> quantizer.QuantizationResult:
            known = copy.copy(calibration_result or {})
            for name, moment in moments.items():
                known[name] = {**known.get(name, {}), **moment}
            return super().quantize(known, *arguments, **options)

    return Quantizer


def _with_corrected_biases(draw: Draw, rounding: Rounding) -> bytes:
    """The float file with biases that take up the mean error of the weights as the quantizer rounds them."""
    rounded = flatbuffer.read_model(draw.files[rounding.algorithm, rounding.our_samples])
    model = flatbuffer.read_model(draw.graph)
    for layer, after in zip(dense_layers(model), dense_layers(rounded), strict=True):
        if draw.modes[layer.name] != FLOAT and layer.bias is not None:
            weights, tensor = weight_matrix(model, layer), rounded.subgraphs[0].tensors[after.weights]
            integers = flatbuffer.constant(rounded, after.weights).view(np.int8).reshape(weights.shape)
            approximate = integers * np.asarray(tensor.quantization.scale)[:, None]
            bias, rows = flatbuffer.float_constant(model, layer.bias), draw.known.rows[flatbuffer.tensor_name(model, layer.input)]
            set_constant(model, layer, 2, gptq.corrected_bias(bias, weights, approximate, rows))
    flatbuffer.drop_unused_buffers(model)
    return flatbuffer.write_model(model)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The quantizer reports on stdout and draws bars on stderr."""
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one rounding made of one draw: columns that describe the file, its drift, how long making it took, how busy the machine was."""

    file: Mapping[str, str]
    drift: Drift
    seconds: float
    load: float

    @classmethod
    def of(cls, draw: Draw, rounding: Rounding, reference: np.ndarray, test: Sequence[np.ndarray], labels: np.ndarray | None) -> Outcome:
        started = time.perf_counter()
        file = int8_file(draw, rounding)
        seconds, load = time.perf_counter() - started, os.getloadavg()[0]
        interpreter = Interpreter(file, threads=THREADS)
        drift = measure(reference, np.stack([interpreter.run(image[None])[0] for image in test]), labels)
        return cls(_described(file), drift, seconds, load)


def _described(file: bytes) -> dict[str, str]:
    model = flatbuffer.read_model(file)
    layers = [layer for layer in dense_layers(model) if flatbuffer.tensor_type(model, layer.weights) == "INT8"]
    static = sum(flatbuffer.tensor_type(model, layer.input) == "INT8" for layer in layers)
    return {
        "bytes": str(len(file)),
        "static_layers": str(static),
        "dynamic_layers": str(len(layers) - static),
        "operations": str(sum(flatbuffer.operator_counts(model).values())),
        "xnnpack_partitions": str(xnnpack_partitions(file).partitions),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", default="nano32,v2_nano32,tiny224")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "cifar10", help="train.zip and test.zip")
    parser.add_argument("--draws", type=int, default=3, help="of calibration images, for the shipped models (%(default)s)")
    parser.add_argument("--csv", type=Path, default=CSV)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.variants.split(","):
        rows += variant_rows(VARIANTS[name], arguments.data, arguments.draws)
    write_rows(arguments.csv, rows)
    return 0


def variant_rows(variant: Variant, data: Path, draws: int) -> list[dict[str, str]]:
    trained = variant.weights == "cifar10"
    model = build_variant(variant, weights="cifar10" if trained else None, classifier_activation=None)
    if not trained:
        randomize(model, 0)
        draws = 1
    source = to_tflite.exportable(model, variant.preprocessing, takes_pixels=False)
    graph = to_tflite.export_float(reparametrize(source, INT8.rewrites), output="logits")
    outcomes: dict[Rounding, list[Outcome]] = {rounding: [] for rounding in ROUNDINGS}
    errors: dict[Rounding, str] = {}
    calibrating = []
    for seed in range(draws):
        calibration, test, labels = _images(variant, data, seed) if trained else _generated(variant, seed)
        reference = np.stack(list(to_tflite.reference_logits(source, iter(test))))
        draw = Draw.of(graph, calibration)
        calibrating.append((draw.seconds, draw.their_seconds))
        for rounding in ROUNDINGS:
            try:
                outcomes[rounding].append(Outcome.of(draw, rounding, reference, test, labels))
                said = f"{outcomes[rounding][-1].drift.logits_snr_db:.2f} dB, {outcomes[rounding][-1].seconds:.1f} s"
            except Exception as error:  # whatever the quantizer or the runtime refuses is a row of the table
                said = errors[rounding] = f"{type(error).__name__}: {error}"
            print(f"{variant.id}, draw {seed}, {rounding.name}: {said}", file=sys.stderr, flush=True)
    ours = [outcome.drift.logits_snr_db for outcome in outcomes[ROUNDINGS[0]]]
    shared = {
        "variant": variant.id,
        "weights": "cifar10" if trained else "random:0",
        "draws": str(draws),
        "calibration_images": str(len(calibration)),
        "test_images": str(len(test)),
    }
    rows = []
    for rounding in ROUNDINGS:
        made = outcomes[rounding]
        row = shared | {"rounding": rounding.name} | dict.fromkeys(COLUMNS, "")
        if len(made) == draws:
            row |= made[0].file | _figures([outcome.drift for outcome in made], ours)
            row["seconds"] = f"{min(outcome.seconds for outcome in made):.1f}"
            row["calibration_seconds"] = f"{min(seconds[rounding.needs_their_statistics] for seconds in calibrating):.1f}"
            row["load"] = f"{np.mean([outcome.load for outcome in made]):.1f}"
        rows.append(row | {"error": errors.get(rounding, ""), "quantizer": version("ai-edge-quantizer"), "cpu": cpu_name()})
    return rows


def _figures(drifts: Sequence[Drift], ours: Sequence[float]) -> dict[str, str]:
    """Means over the draws; of the SNR the least and the largest too, and so of its difference from ours, draw by draw."""
    snr = np.array([drift.logits_snr_db for drift in drifts])
    figures = {}
    for name, values in (("snr_db", snr), ("over_ours_db", snr - np.array(ours))):
        figures |= {name: f"{values.mean():.2f}", f"{name}_low": f"{values.min():.2f}", f"{name}_high": f"{values.max():.2f}"}
    if drifts[0].top1_target is not None:
        figures["top1_float"] = _percent([drift.top1_reference for drift in drifts])
        figures["top1"] = _percent([drift.top1_target for drift in drifts])
        figures["agreement"] = _percent([drift.top1_agreement for drift in drifts])
    return figures


def _percent(shares: Sequence[float | None]) -> str:
    return f"{100 * float(np.mean([share for share in shares if share is not None])):.2f}"


def _images(variant: Variant, data: Path, seed: int) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray | None]:
    train, test = open_image_set(str(data / "train.zip")), open_image_set(data / "test.zip")
    judged = test.references[::5]
    labels = [cifar10_labels().index(reference.label) for reference in judged]
    split = train.split(CALIBRATION_IMAGES, 1, seed)
    return _pixels(train, split.calibration, variant), _pixels(test, judged, variant), np.array(labels)


def _generated(variant: Variant, seed: int) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray | None]:
    images = open_image_set("builtin")
    split = images.split(RANDOM_CALIBRATION_IMAGES, RANDOM_TEST_IMAGES, seed)
    return _pixels(images, split.calibration, variant), _pixels(images, split.held_out, variant), None


def _pixels(images: Any, references: Sequence[Any], variant: Variant) -> list[np.ndarray]:
    return [image.astype(np.float32) for image in images.read(references, variant.preprocessing)]


if __name__ == "__main__":
    sys.exit(main())
