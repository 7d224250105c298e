"""The manifest of an artifact: what the file is, what it was made from, what was measured. No clock time: equal inputs, equal bytes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from edge.artifacts import artifact, self_description
from edge.drift.limits import Limits
from edge.drift.metrics import Drift
from edge.export.float_model import Facts
from edge.export.to_tflite import INPUT_NAME, ExportableModel
from edge.quantization.recipes import Recipe
from edge.runtime import cpu
from edge.tflite import delegate_rules, flatbuffer, versions
from tfvit import hashing
from tfvit.weights import WeightsOrigin


def manifest(
    *,
    name: str,
    variant: str | None,
    recipe: Recipe,
    weights: WeightsOrigin,
    exportable: ExportableModel | Facts,
    input_dtype: str,
    output: str,
    calibration: dict[str, Any] | None,
    labels: Sequence[str] | None,
    settings: dict[str, Any],
    quantized: bytes,
    drift: Drift,
    drift_source: str,
    limits: Limits,
    collapse: list[str],
    repair: dict[str, Any] | None,
    passed: bool,
    tools: Mapping[str, str],
    inputs_sha256: str,
    code_sha256: str,
) -> tuple[dict[str, Any], bytes]:
    """The document `NAME.json`, every field of which is described in docs/manifest.md, and the file it describes: `quantized` with what a
    file says of itself.
    """
    model = flatbuffer.read_model(quantized)
    graph = model.subgraphs[0]
    document = {
        "schema_version": artifact.SCHEMA_VERSION,
        "name": name,
        "variant": variant,
        "recipe": recipe.name,
        "weights": dataclasses.asdict(weights) | {"random": weights.is_random},
        "classes": exportable.classes,
        "input": {
            "name": INPUT_NAME,
            "shape": [1, *exportable.input_shape],
            "dtype": input_dtype,
            "range": [0, 255],
            "quantization": flatbuffer.quantization(model, graph.inputs[0]),
            "layout": "NHWC",
            "channels": "RGB",
        },
        "preprocessing": exportable.preprocessing.geometry(),
        "output": {
            "name": output,
            "shape": [1, exportable.classes],
            "dtype": flatbuffer.tensor_type(model, graph.outputs[0]).lower(),
            "quantization": flatbuffer.quantization(model, graph.outputs[0]),
            "activation": "softmax" if output == "probabilities" else None,
        },
        "calibration": calibration,
        "file": {},
        "delegates": {},
        "drift": _drift(drift, drift_source, limits, collapse, passed),
        "repair": repair,
        "settings": settings,
        "tools": dict(tools),
        "inputs_sha256": inputs_sha256,
        "code_sha256": code_sha256,
    }
    file = self_description.describe(quantized, document, labels)
    document["file"] = {
        "sha256": hashing.sha256(file),
        "size_bytes": len(file),
        "graph_sha256": hashing.sha256(quantized),
        "graph_size_bytes": len(quantized),
        "ops": flatbuffer.operator_counts(model),
        "max_rank": flatbuffer.max_rank(model),
        "min_runtime_version": versions.min_runtime_version(model),
    }
    document["delegates"] = {"xnnpack": dataclasses.asdict(cpu.xnnpack_partitions(file)), "gpu": delegate_rules.gpu_summary(model)}
    return document, file


def _drift(drift: Drift, source: str, limits: Limits, collapse: list[str], passed: bool) -> dict[str, Any]:
    return {
        "source": source,
        "samples": drift.samples,
        "top1_agreement": _rounded(drift.top1_agreement, 6),
        "top5_agreement": _rounded(drift.top5_agreement, 6),
        "logits_snr_db": _rounded(drift.logits_snr_db, 2),
        "cosine": _rounded(drift.cosine, 8),
        "max_abs_err": _significant(drift.max_abs_err),
        "max_abs_err_logits": _significant(drift.max_abs_err_logits),
        "kl": _significant(drift.kl),
        "top1_reference": _rounded(drift.top1_reference, 6),
        "top1_target": _rounded(drift.top1_target, 6),
        "limits": dataclasses.asdict(limits),
        "collapse": collapse,
        "passed": passed,
        "runtime": cpu.CPU,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    """None for what JSON cannot say: no value, NaN or infinity (which have failed the gate)."""
    return None if value is None or not math.isfinite(value) else round(value, digits)


def _significant(value: float, digits: int = 3) -> float | None:
    return None if not math.isfinite(value) else float(f"{value:.{digits}g}")
