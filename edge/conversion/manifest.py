"""The manifest of an artifact: what the file is, what it was made from, what was measured. No clock time: equal inputs, equal bytes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from edge.artifacts import artifact, self_description
from edge.artifacts.provenance import code_sha256, tool_versions
from edge.conversion import assumptions, plan
from edge.conversion.candidate import Repair, Verdict
from edge.conversion.images import Images
from edge.conversion.plan import Settings
from edge.drift.agreement import Agreement
from edge.drift.meanings import in_file
from edge.export.float_model import FloatModel
from edge.export.to_tflite import INPUT_NAME
from edge.quantization.dense_layers import weight_bits
from edge.quantization.float16_headroom import HEADROOM_IMAGES, described, headroom
from edge.quantization.recipes import Recipe
from edge.runtime import cpu
from edge.tflite import delegate_rules, flatbuffer, npu_rules, versions
from tfvit import hashing
from tfvit.preprocessing import OUTPUT


def manifest(
    model: FloatModel, recipe: Recipe, images: Images, settings: Settings, quantized: bytes, verdict: Verdict, repair: Repair | None
) -> tuple[dict[str, Any], bytes]:
    """The document `NAME.json`, every field of which is described in docs/manifest.md, and the file it describes: `quantized` with what a
    file says of itself.
    """
    source, facts, weights = model.source, model.facts, model.origin
    assumed = assumptions.assumed(model, images)
    of_images = [one for one in assumed if one != OUTPUT]
    graph_model = flatbuffer.read_model(quantized)
    graph = graph_model.subgraphs[0]
    given = in_file(facts.outputs, recipe.output(settings.output))
    outputs = [
        {
            "name": name,
            "shape": [1, *output.shape],
            "dtype": flatbuffer.tensor_type(graph_model, index).lower(),
            "quantization": flatbuffer.quantization(graph_model, index),
            "activation": final,
            "meaning": output.meaning,
            **({"assumed": [OUTPUT]} if OUTPUT in assumed and not output.told else {}),
        }
        for (name, final), output, index in zip(given, facts.outputs, map(int, graph.outputs), strict=True)
    ]
    others = [block | {"drift": _drift(one, images.source)} for block, one in zip(outputs[1:], verdict.others, strict=True)]
    document: dict[str, Any] = {
        "schema_version": artifact.SCHEMA_VERSION,
        "name": source.artifact_name(recipe),
        "variant": source.variant.id if source.variant else None,
        "recipe": recipe.name,
        "weights": dataclasses.asdict(weights) | {"random": weights.is_random},
        "classes": facts.classes,
        "input": {
            "name": INPUT_NAME,
            "shape": [1, *facts.input_shape],
            "dtype": recipe.input_dtype(settings.input_dtype),
            "range": [0, 255],
            "quantization": flatbuffer.quantization(graph_model, graph.inputs[0]),
            "layout": "NHWC",
            "channels": "RGB",
        },
        "preprocessing": facts.preprocessing.geometry() | ({"assumed": of_images} if of_images else {}),
        "output": outputs[0],
        **({"other_outputs": others} if others else {}),
        "calibration": plan.calibration_block(settings, images) if recipe.needs_calibration else None,
        "file": {},
        "delegates": {},
        "drift": _drift(verdict, images.source),
        "repair": repair.block if repair else None,
        "settings": plan.settings_block(source, recipe, settings, images),
        "tools": tool_versions(),
        "inputs_sha256": plan.inputs_sha256(source, recipe, settings, images),
        "code_sha256": code_sha256(),
    }
    file = self_description.describe(quantized, document, images.labels)
    of_file: dict[str, Any] = {
        "sha256": hashing.sha256(file),
        "size_bytes": len(file),
        "graph_sha256": hashing.sha256(quantized),
        "graph_size_bytes": len(quantized),
        "ops": flatbuffer.operator_counts(graph_model),
        "max_rank": flatbuffer.max_rank(graph_model),
        "min_runtime_version": versions.min_runtime_version(graph_model),
        "min_litert_version": versions.min_litert_version(graph_model),
    }
    if recipe.can_be_explained:
        of_file["layers"] = weight_bits(graph_model)
    document["file"] = of_file
    document["delegates"] = {
        "xnnpack": dataclasses.asdict(cpu.xnnpack_partitions(file)),
        "gpu": delegate_rules.gpu_summary(graph_model),
        "npu": npu_rules.npu_summary(graph_model),
    }
    if recipe.float16_constants:
        least, *_ = headroom(quantized, (image[None] for image in images.held_out[:HEADROOM_IMAGES]), settings.threads)
        document["float16"] = {"images": min(len(images.held_out), HEADROOM_IMAGES), "least": described(least)}
    return document, file


def _drift(verdict: Verdict, source: str) -> dict[str, Any]:
    drift = verdict.drift
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
        "limits": dataclasses.asdict(verdict.limits),
        "collapse": list(verdict.collapse),
        "agreement": _agreement(verdict.agreement) if verdict.agreement else None,
        "passed": not verdict.failures,
        "runtime": cpu.CPU,
    }


def _agreement(found: Agreement) -> dict[str, Any]:
    return {name: _rounded(value, 6) if isinstance(value, float) else value for name, value in dataclasses.asdict(found).items()}


def _rounded(value: float | None, digits: int) -> float | None:
    """None for what JSON cannot say: no value, NaN or infinity (which have failed the gate)."""
    return None if value is None or not math.isfinite(value) else round(value, digits)


def _significant(value: float, digits: int = 3) -> float | None:
    return None if not math.isfinite(value) else float(f"{value:.{digits}g}")
