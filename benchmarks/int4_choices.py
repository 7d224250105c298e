"""How to make 4-bit weights: the int4 recipe with one thing done otherwise, results/int4_choices.csv.

    python benchmarks/int4_choices.py [--variants nano32,v2_nano32,tiny224] [--data cifar10/]

All files of a variant start from one float file and one draw of calibration images. The shipped models are calibrated on training images
and judged on every fifth test image; tiny224 has random weights and generated images, which say something of errors, nothing of accuracy.
"theirs" are ai-edge-quantizer's algorithms, on the same layers. Latency is measured by benchmarks/recipe_latency.py. Rows of other
variants are kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from ai_edge_quantizer import qtyping, quantizer  # noqa: E402
from ai_edge_quantizer.recipe_manager import AlgorithmName  # noqa: E402

from benchmarks.int4_blocks import rounded_in_blocks, set_blocks  # noqa: E402
from benchmarks.rounding import _generated, _images, _silence  # noqa: E402
from benchmarks.rows import read_rows, write_rows  # noqa: E402
from edge.drift.metrics import measure  # noqa: E402
from edge.export import to_tflite  # noqa: E402
from edge.export.rewrites import reparametrize  # noqa: E402
from edge.quantization import gptq, quantize, ranges  # noqa: E402
from edge.quantization.dense_layers import DenseLayer, dense_layers, set_constant, weight_matrix  # noqa: E402
from edge.quantization.recipes import DYNAMIC, DYNAMIC4, FLOAT, RECIPES  # noqa: E402
from edge.runtime.cpu import Interpreter, xnnpack_partitions  # noqa: E402
from edge.runtime.machine import cpu_name  # noqa: E402
from edge.tflite import delegate_rules, flatbuffer, versions  # noqa: E402
from tfvit.model import build_variant  # noqa: E402
from tfvit.variants import VARIANTS, Variant  # noqa: E402
from tfvit.weights import randomize  # noqa: E402

CSV = ROOT / "results" / "int4_choices.csv"
INT4 = RECIPES["int4"]


@dataclasses.dataclass(frozen=True)
class Draw:
    """One draw of calibration images: the float file, the images, what calibration saw."""

    graph: bytes
    images: list[np.ndarray]
    calibration: ranges.Calibration

    def fresh(self, rows: int | None = None) -> ranges.Calibration:
        """What calibration saw, nothing rounded yet; the first `rows` vectors an image."""
        known = self.calibration.rows
        if rows is not None:
            known = _collected(self.graph, self.images, rows).rows
        return ranges.Calibration(self.calibration.ranges, known)

    def four_bit_layers(self) -> list[str]:
        modes = quantize.layer_modes(flatbuffer.read_model(self.graph), INT4)
        return [name for name, mode in modes.items() if mode == DYNAMIC4]


def ours(draw: Draw, graph: bytes | None = None, rows: int | None = None, **changes: object) -> bytes:
    """The recipe's file; `changes` are of the recipe or of `edge.quantization.gptq`."""
    of_recipe = {name: value for name, value in changes.items() if name in {field.name for field in dataclasses.fields(INT4)}}
    of_rounding = {name: value for name, value in changes.items() if name not in of_recipe}
    with mock.patch.multiple(gptq, **of_rounding) if of_rounding else mock.patch.object(gptq, "LEVELS", gptq.LEVELS):
        return quantize.quantize(graph or draw.graph, dataclasses.replace(INT4, **of_recipe), draw.fresh(rows))


def nearest(weights: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """15 steps, the grid ending at each channel's largest weight."""
    largest = np.abs(weights).max(axis=1)
    scale = (np.where(largest > 0, largest, 1.0) / gptq.HIGHEST4).astype(np.float32)
    return np.clip(np.round(weights / scale[:, None]), -gptq.HIGHEST4, gptq.HIGHEST4).astype(np.int8), scale


def with_roles(draw: Draw, *roles: tuple[str, str]) -> bytes:
    return ours(draw, dense_by_role=(*INT4.dense_by_role, *roles))


def in_blocks(draw: Draw, side: int) -> bytes:
    """Scales a block of inputs, for the layers that have 4 bits."""
    calibration, wanted = draw.fresh(), draw.four_bit_layers()
    float_model = flatbuffer.read_model(draw.graph)
    rounded = {}
    for layer in dense_layers(float_model):
        if layer.name in wanted:
            weights, rows = weight_matrix(float_model, layer), calibration.rows[flatbuffer.tensor_name(float_model, layer.input)]
            steps, scales = rounded_in_blocks(weights, rows, side)
            rounded[layer.name] = steps, scales
            values = steps * np.repeat(scales.astype(np.float32), side, axis=1)
            if layer.bias is not None:
                bias = gptq.corrected_bias(flatbuffer.float_constant(float_model, layer.bias), weights, values, rows)
                set_constant(float_model, layer, 2, bias)
    modes = quantize.layer_modes(float_model, INT4) | dict.fromkeys(wanted, FLOAT)
    model = flatbuffer.read_model(quantize.quantize(flatbuffer.write_model(float_model), INT4, calibration, modes))
    for layer in dense_layers(model):
        if layer.name in rounded:
            set_blocks(model, layer, *rounded[layer.name], side)
    flatbuffer.drop_unused_buffers(model)
    return flatbuffer.write_model(model)


def sequential(draw: Draw) -> bytes:
    """Layers that read the same input together, in order, on the inputs that the layers rounded before them give."""
    wanted, float_model = draw.four_bit_layers(), flatbuffer.read_model(draw.graph)
    together: dict[int, list[DenseLayer]] = {}
    for layer in dense_layers(float_model):
        together.setdefault(layer.input, []).append(layer)
    rounded, modes = {}, quantize.layer_modes(float_model, INT4)
    for index, layers in together.items():
        name = flatbuffer.tensor_name(float_model, index)
        if not {layer.name for layer in layers} & set(wanted):
            continue
        known = ranges.Calibration({}, draw.calibration.rows, dict(rounded))
        done = {other: DYNAMIC4 if (other, 4) in rounded else FLOAT for other in modes}
        so_far = quantize.quantize(draw.graph, INT4, known, done)
        reached_model = flatbuffer.read_model(so_far)
        reached = {flatbuffer.tensor_name(reached_model, i): i for i in range(len(reached_model.subgraphs[0].tensors))}
        seen = ranges.collect(so_far, {name: reached[name]}, (i[None] for i in draw.images), 1, {name: 1}, INT4.calibration_rows)
        exact = draw.calibration.rows[name].mean(axis=0)
        for layer in layers:
            weights = weight_matrix(float_model, layer)
            steps, scale = gptq.four_bits(weights, seen.rows[name])
            bias = None
            if layer.bias is not None:
                mean = weights @ exact - (steps * scale[:, None]) @ seen.rows[name].mean(axis=0)
                bias = (flatbuffer.float_constant(float_model, layer.bias) + mean).astype(np.float32)
            rounded[layer.name, 4] = ranges.Rounded(steps, scale, bias)
    return quantize.quantize(draw.graph, INT4, ranges.Calibration(draw.calibration.ranges, draw.calibration.rows, rounded))


def scaled_values(draw: Draw, power: float) -> bytes:
    """As in AWQ: what the projection reads gets more even sizes, channel by channel; folded into the values' weights, for nothing."""
    model = flatbuffer.read_model(draw.graph)
    rows = dict(draw.calibration.rows)
    values = [layer for layer in dense_layers(model) if layer.role == "attention/value"]
    projections = [layer for layer in dense_layers(model) if layer.role == "attention/projection"]
    for value, projection in zip(values, projections, strict=True):
        name = flatbuffer.tensor_name(model, projection.input)
        size = np.sqrt(np.mean(np.square(rows[name]), axis=0)) + 1e-9
        factor = (size**power / np.exp(np.mean(np.log(size**power)))).astype(np.float32)
        set_constant(model, value, 1, weight_matrix(model, value) / factor[:, None])
        if value.bias is not None:
            set_constant(model, value, 2, flatbuffer.float_constant(model, value.bias) / factor)
        set_constant(model, projection, 1, weight_matrix(model, projection) * factor)
        rows[name] = rows[name] / factor
    flatbuffer.drop_unused_buffers(model)
    return quantize.quantize(flatbuffer.write_model(model), INT4, ranges.Calibration(draw.calibration.ranges, rows))


def theirs(draw: Draw, algorithm: str, granularity: str = "CHANNELWISE") -> bytes:
    """The same layers in 4 bits by the quantizer, everything else as in the recipe."""
    wanted = draw.four_bit_layers()
    modes = quantize.layer_modes(flatbuffer.read_model(draw.graph), INT4) | dict.fromkeys(wanted, FLOAT)
    engine = quantizer.Quantizer(draw.graph)
    for layer in dense_layers(flatbuffer.read_model(draw.graph)):
        scope, operation = f"^{re.escape(layer.name)};$", qtyping.TFLOperationName[layer.operation]
        if layer.name in wanted:
            engine.add_dynamic_config(scope, operation, 4, qtyping.QuantGranularity[granularity], algorithm_key=algorithm)
        elif modes[layer.name] == DYNAMIC:
            engine.add_dynamic_config(scope, operation, 8)
    with _silence():
        made = bytes(engine.quantize(enable_progress_bar=False, enable_progress_report=False).quantized_model)
    model = flatbuffer.read_model(made)
    quantize.store_tables(model, INT4.tables_from_window)
    quantize.store_compactly(model, False, INT4.int8_biases_from)
    versions.set_operator_versions(model)
    return flatbuffer.write_model(model)


def static(draw: Draw) -> bytes:
    """4-bit weights under static int8 activations: int8's file with the weights of its static layers replaced, and their integer biases."""
    int8, calibration = RECIPES["int8"], draw.fresh()
    made = flatbuffer.read_model(quantize.quantize(draw.graph, int8, calibration))
    float_model, wanted = flatbuffer.read_model(draw.graph), set(draw.four_bit_layers())
    quantize._rounded_for_inputs(draw.graph, calibration, dict.fromkeys(wanted, 4))
    exact = [layer for layer in dense_layers(float_model)]
    for before, layer in zip(exact, dense_layers(made), strict=True):
        tensors = made.subgraphs[0].tensors
        if before.name not in wanted or flatbuffer.tensor_type(made, layer.weights) != "INT8":
            continue
        rounded = calibration.rounded[before.name, 4]
        quantize.set_four_bits(made, layer, rounded.weights, rounded.scale)
        if flatbuffer.tensor_type(made, layer.input) == "INT8" and layer.bias is not None:
            scale = rounded.scale * tensors[layer.input].quantization.scale[0]
            flatbuffer.make_constant(made, layer.bias, np.round(rounded.bias / scale).astype(np.int32))
            tensors[layer.bias].quantization.scale = scale.astype(np.float32)
        elif layer.bias is not None:
            set_constant(made, layer, 2, rounded.bias)
    flatbuffer.drop_unused_buffers(made)
    return flatbuffer.write_model(made)


CHOICES: Mapping[str, Callable[[Draw], bytes]] = {
    "int4": ours,
    "nearest, 15 steps, grid to the largest weight": lambda draw: ours(draw, four_bits=nearest),
    "grid to the largest weight": lambda draw: ours(draw, GRID_ENDS=(1.0,)),
    "half as many grids": lambda draw: ours(draw, GRID_ENDS=gptq.GRID_ENDS[::2]),
    "15 steps": lambda draw: ours(draw, LOWEST4=-gptq.HIGHEST4),
    "8 vectors an image": lambda draw: ours(draw, rows=8),
    "biases not corrected": lambda draw: ours(draw, corrected_bias=lambda bias, weights, rounded, samples: bias),
    "sequential": sequential,
    "values scaled by the projection's inputs, power 0.5": lambda draw: scaled_values(draw, 0.5),
    "head in 4 bits": lambda draw: ours(draw, dense_by_role=(("patch_embedding/projection", FLOAT),)),
    "merging in 8 bits": lambda draw: with_roles(draw, ("merging/reduction", DYNAMIC)),
    "values in 8 bits": lambda draw: with_roles(draw, ("attention/value", DYNAMIC)),
    "projections in 8 bits": lambda draw: with_roles(draw, ("attention/projection", DYNAMIC)),
    "blocks of 32": lambda draw: in_blocks(draw, 32),
    "blocks of 64": lambda draw: in_blocks(draw, 64),
    "static activations": static,
    "theirs, nearest": lambda draw: theirs(draw, AlgorithmName.MIN_MAX_UNIFORM_QUANT),
    "theirs, OCTAV": lambda draw: theirs(draw, AlgorithmName.OCTAV),
    "theirs, MSE": lambda draw: theirs(draw, AlgorithmName.MSE),
    "theirs, blocks of 32": lambda draw: theirs(draw, AlgorithmName.MIN_MAX_UNIFORM_QUANT, "BLOCKWISE_32"),
    "theirs, OCTAV, blocks of 32": lambda draw: theirs(draw, AlgorithmName.OCTAV, "BLOCKWISE_32"),
    "theirs, Hadamard rotation": lambda draw: theirs(draw, AlgorithmName.DECOMPOSED_HADAMARD_ROTATION),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", default="nano32,v2_nano32,tiny224")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "cifar10", help="train.zip and test.zip")
    parser.add_argument("--csv", type=Path, default=CSV)
    arguments = parser.parse_args()
    variants = arguments.variants.split(",")
    rows = [row for row in read_rows(arguments.csv) if row["variant"] not in variants]
    for name in variants:
        rows += variant_rows(VARIANTS[name], arguments.data)
        write_rows(arguments.csv, rows)
    return 0


def variant_rows(variant: Variant, data: Path) -> list[dict[str, str]]:
    trained = variant.weights == "cifar10"
    model = build_variant(variant, weights="cifar10" if trained else None, classifier_activation=None)
    if not trained:
        randomize(model, 0)
    source = to_tflite.exportable(model, variant.preprocessing, takes_pixels=False)
    graph = to_tflite.export_float(reparametrize(source, INT4.rewrites), output="logits")
    images, test, labels = _images(variant, data, 0) if trained else _generated(variant, 0)
    reference = np.stack(list(to_tflite.reference_logits(source, iter(test))))
    draw = Draw(graph, images, _collected(graph, images, INT4.calibration_rows))
    rows = []
    for name, make in CHOICES.items():
        row = {"variant": variant.id, "weights": "cifar10" if trained else "random:0", "choice": name}
        row |= dict.fromkeys(("bytes", "bytes_per_parameter", "snr_db", "top1_float", "top1", "agreement"), "")
        row |= dict.fromkeys(("xnnpack_partitions", "gpu_by_rule", "error"), "")
        try:
            file = make(draw)
            row |= _measured(file, variant, reference, test, labels)
        except Exception as error:  # whatever the quantizer or the runtime refuses is a row of the table
            row["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
        row |= {"calibration_images": str(len(images)), "test_images": str(len(test)), "cpu": cpu_name()}
        print("  ".join(row[column] for column in ("variant", "choice", "bytes", "snr_db", "agreement", "error")), flush=True)
        rows.append(row)
    return rows


def _measured(file: bytes, variant: Variant, reference: np.ndarray, test: list[np.ndarray], labels: np.ndarray | None) -> dict[str, str]:
    interpreter = Interpreter(file, threads=1)
    drift = measure(reference, np.stack([interpreter.run(image[None])[0] for image in test]), labels)
    model = flatbuffer.read_model(file)
    figures = {
        "bytes": str(len(file)),
        "bytes_per_parameter": f"{len(file) / variant.num_parameters:.3f}",
        "snr_db": f"{drift.logits_snr_db:.2f}",
        "agreement": f"{100 * drift.top1_agreement:.2f}",
        "xnnpack_partitions": str(xnnpack_partitions(file).partitions),
        "gpu_by_rule": delegate_rules.gpu_summary(model)["verdict"],
    }
    if drift.top1_target is not None:
        figures |= {"top1_float": f"{100 * drift.top1_reference:.2f}", "top1": f"{100 * drift.top1_target:.2f}"}
    return figures


def _collected(graph: bytes, images: list[np.ndarray], rows: int) -> ranges.Calibration:
    """What the recipes int8 and int4 need to know, and so many vectors an image."""
    tensors, patches = quantize.watched_tensors(graph, RECIPES["int8"])
    return ranges.collect(graph, tensors, (image[None] for image in images), 1, patches, rows)


if __name__ == "__main__":
    sys.exit(main())
