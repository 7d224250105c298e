"""What `edge.ship` prints: a row for each step, and at most ten lines: what was made, what it is worth, what to paste, what to do next."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.android.kotlin import LITERT_VERSION
from edge.report.recommend import MEASURED
from edge.shipping.steps import FAILED, LEFT_OUT, REPORT_FILE, Request, Shipped, recommended_files

MOST_LINES = 10


def document(request: Request, shipped: Shipped) -> dict[str, Any]:
    """The JSON of `edge.ship`."""
    return {
        "kind": "shipment",
        "out": str(request.out),
        "app": str(request.app) if request.app else None,
        "steps": [dataclasses.asdict(step) | {"seconds": round(step.seconds, 1)} for step in shipped.steps],
        "files": [str(artifact.path) for artifact in shipped.artifacts],
        "recommendations": (shipped.report or {}).get("recommendations", []),
        "bundle": (shipped.bundle or {}).get("path"),
        "exit_code": max(step.code for step in shipped.steps),
        "closing": closing(request, shipped),
    }


def table(found: dict[str, Any]) -> tuple[Sequence[str], Sequence[Sequence[str]], list[str]]:
    """Column titles, rows, and the lines below them."""
    rows = [
        (one["name"], one["status"], f"{one['seconds']:.0f}" if one["status"] != LEFT_OUT else "", one["words"]) for one in found["steps"]
    ]
    return ("step", "result", "seconds", "what"), rows, found["closing"]


def closing(request: Request, shipped: Shipped) -> list[str]:
    """At most ten lines."""
    failed = [step for step in shipped.steps if step.status == FAILED and step.error]
    if not shipped.artifacts:
        return [f"{step.name}: {line.strip()}" for step in failed for line in str(step.error).splitlines()][: MOST_LINES - 1] + [
            "nothing was made"
        ]
    files = recommended_files(shipped)
    lines = [*_made(shipped), *_worth(request, shipped), f"page   {(request.out / REPORT_FILE).resolve()}"]
    lines += _paste(request, shipped, files)
    lines += [f"failed {step.name}: {step.words}" for step in failed]
    return (lines + _next(request, shipped, files, [step.name for step in failed]))[:MOST_LINES]


def _made(shipped: Shipped) -> list[str]:
    sizes = [f"{artifact.name} {artifact.manifest['file']['size_bytes'] / 1e6:.2f} MB" for artifact in shipped.artifacts]
    return [f"made   {', '.join(sizes[:3])}" + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else "")]


def _worth(request: Request, shipped: Shipped) -> list[str]:
    """A line for each target of the report, in its words as far as they fit."""
    lines = []
    for one in (shipped.report or {"recommendations": []})["recommendations"]:
        if one["file"] in {artifact.name for artifact in shipped.artifacts}:
            reason = one["reasons"][0].partition("; ")[0] if one["basis"] == MEASURED and one["reasons"] else one["basis"]
            lines.append(f"{one['target']:<4}   {one['file']}: {reason}")
    drift = {artifact.name: artifact.manifest["drift"] for artifact in shipped.artifacts}
    for name, found in drift.items():
        if f"{name}.tflite" in recommended_files(shipped)[:1]:
            same, images = found["top1_agreement"], f"{found['samples']} images ({found['logits_snr_db']:g} dB)"
            agree = "as Keras on" if same is None else f"the same top-1 as Keras on {100 * same:.1f} % of"
            lines.append(f"answers {agree} {images}")
    return lines


def _paste(request: Request, shipped: Shipped, files: list[str]) -> list[str]:
    if not files:
        return []
    if request.app is None:
        return [f'paste  Interpreter("{(request.out / files[0]).as_posix()}")  # ai_edge_litert.interpreter']
    module = f"com.google.ai.edge.litert:litert:{LITERT_VERSION}"
    bundle = shipped.bundle or {}
    if bundle.get("framework") not in (None, "android"):
        return [
            f"paste  python -m edge.bundle {_quoted(request.out / files[0])} --app {_quoted(request.app)} prints the lines and the class"
        ]
    groovy = (bundle.get("build_file") or "").endswith(".gradle")
    return [
        f"paste  implementation '{module}'" if groovy else f'paste  implementation("{module}")',
        f'paste  CompiledModel.create(assets, "edge/{files[0]}",',
        "           CompiledModel.Options(Accelerator.CPU))  // docs/android.md has the class",
    ]


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _next(request: Request, shipped: Shipped, files: list[str], failed: list[str]) -> list[str]:
    if failed:
        return ["next   mend what failed and run the same command again: the rest is kept"]
    if not files:
        return ["next   see the page: no file of these may ship as it is"]
    if request.app is None:
        return [f"next   python -m edge.ship … --app APP, or edge.bundle {_quoted(request.out / files[0])} --zip app.zip"]
    if request.images is None:
        return [
            "next   python -m edge.ship … --images DIR: how good it is on your images",
            "next   python -m edge.device --help: on a phone",
        ]
    return ["next   python -m edge.device --help: measure and check it on a phone"]
