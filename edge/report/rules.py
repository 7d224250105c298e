"""Which file is for which target, by its manifest alone.

`edge.bundle` has these rules only. `edge.report` applies them too, and puts measurements before them (docs/decisions/0023).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CPU, GPU, NPU = "CPU", "GPU", "NPU"
TARGETS = (CPU, GPU, NPU)
# What a file must be to fit
FITS = {CPU: "whole in one XNNPACK partition", GPU: "whole on the GPU delegate", NPU: "integers only, every operation on the NPU"}
# Recipe to convert with where no file fits
RECIPE = {CPU: "int8", GPU: "float16", NPU: "int8_full"}
# Of the files that fit, which recipe comes first; others come last. CPU: fastest first, as measured (results/recipe_latency.csv) on
# one with 8-bit dot products; without them int8 gains less.
# GPU: they compute in float16.
ORDER: dict[str, tuple[str, ...]] = {
    CPU: ("int8", "dynamic", "int4", "smallest", "float16", "float32"),
    GPU: ("float16",),
    NPU: ("int8_wide", "int8_full"),
}
# Instructions of an inference over float32's, of tiny224: on a Cortex-A53, which has no dot product, and on a Cortex-A76, which has one.
# Counted, and not timed (results/arm_instructions.csv)
SHARE_ON_ARM = {"int8": (0.70, 0.32), "dynamic": (0.67, 0.41), "int4": (0.92, 0.42)}
# Position tables: the runtime computes them once, when it loads the file, and XNNPACK's partition stays one (docs/decisions/0022)
_COMPUTED_ONCE = {"GATHER", "CONCATENATION"}


def is_whole_on_xnnpack(manifest: Mapping[str, Any]) -> bool:
    """Whether XNNPACK takes every operation of an inference, in one partition."""
    xnnpack = manifest["delegates"]["xnnpack"]
    return xnnpack["partitions"] == 1 and xnnpack["left_over"].keys() <= _COMPUTED_ONCE


def why_not(target: str, manifest: Mapping[str, Any]) -> str | None:
    """Why a file does not fit a target; None where it fits."""
    if target == CPU:
        return None if is_whole_on_xnnpack(manifest) else _left_over(manifest["delegates"]["xnnpack"])
    if target == GPU:
        gpu = manifest["delegates"]["gpu"]
        return None if gpu["verdict"] == "whole" else f"{gpu['verdict']} by rule: {_first_refusal(gpu['refused'])}"
    npu = manifest["delegates"].get("npu")
    if npu is None:
        return "made before NPUs were looked at; convert it again"
    if npu["verdict"] == "whole":
        return None
    if manifest["recipe"] not in (*ORDER[NPU], "w8a16"):
        return "not integers only"
    left = sum(one["operations"] for one in npu["on_cpu"])
    return f"{left} operations left to the CPU by rule: {_first_refusal(npu['on_cpu'])}"


def fitting(target: str, manifests: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The files that fit a target, best first: by recipe, then the smallest, then the most exact.

    Args:
        manifests: by the file's name.
    """
    order = ORDER[target]

    def key(name: str) -> tuple[int, int, float, str]:
        manifest = manifests[name]
        rank = order.index(manifest["recipe"]) if manifest["recipe"] in order else len(order)
        return rank, manifest["file"]["size_bytes"], -(manifest["drift"]["logits_snr_db"] or 0.0), name

    return sorted((name for name, manifest in manifests.items() if why_not(target, manifest) is None), key=key)


def _left_over(xnnpack: Mapping[str, Any]) -> str:
    left, parts = xnnpack["total_ops"] - xnnpack["delegated_ops"], xnnpack["partitions"]
    return f"XNNPACK leaves {left} of {xnnpack['total_ops']} operations, {parts} partition{'s' if parts != 1 else ''}"


def _first_refusal(refused: list[Mapping[str, Any]]) -> str:
    more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
    return f"{refused[0]['op']}: {refused[0]['reason']}{more}" if refused else "no reason"
