"""The verdict in sentences, what a reader must not miss, and `report.json`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from edge.artifacts.artifact import assumed
from edge.report.checks import Check, failures
from edge.report.inputs import FileFacts, Inputs
from edge.report.recommend import Recommendation

SCHEMA_VERSION = 1


def report_document(inputs: Inputs, found: Sequence[Check], recommended: Sequence[Recommendation], version: str) -> dict[str, Any]:
    """The content of `report.json`: the verdict, what to ship, the checks, and the documents it was made from."""
    return {
        "kind": "report",
        "schema_version": SCHEMA_VERSION,
        "title": inputs.title,
        "passed": not failures(found),
        "verdict": list(verdict(found, recommended)),
        "recommendations": [
            {**dataclasses.asdict(one), "reasons": list(one.reasons), "others": [{"file": name, "why": why} for name, why in one.others]}
            for one in recommended
        ],
        "files": [_file_document(facts, found) for facts in inputs.files],
        "problems": [dataclasses.asdict(check) for check in failures(found)],
        "warnings": warnings(inputs),
        "apart": [{"document": document, "what": what, "why": why} for document, what, why in inputs.apart],
        "inputs": [{"path": label, "kind": kind, "sha256": digest} for label, kind, digest in inputs.sources],
        "tools": {"tfvit": version},
    }


def _file_document(facts: FileFacts, found: Sequence[Check]) -> dict[str, Any]:
    drift = facts.manifest["drift"]
    return {
        "file": f"{facts.label}.tflite",
        "sha256": facts.manifest["file"]["sha256"],
        "state": facts.state,
        "model": facts.model,
        "recipe": facts.recipe,
        "random_weights": facts.random,
        "assumed": assumed(facts.manifest),
        "size_bytes": facts.size_bytes,
        "drift": {name: drift[name] for name in ("samples", "top1_agreement", "logits_snr_db", "limits", "passed")},
        "xnnpack": {name: facts.manifest["delegates"]["xnnpack"][name] for name in ("delegated_ops", "total_ops", "partitions")},
        "gpu": facts.manifest["delegates"]["gpu"]["verdict"],
        "npu": facts.manifest["delegates"].get("npu", {}).get("verdict"),
        "host": [
            {
                "run": row.run,
                **{
                    name: row.result.get(name)
                    for name in ("delegate", "threads", "status", "software_gpu", "valid", "median_ms", "p90_ms", "ratio")
                },
            }
            for row in facts.host
        ],
        "devices": [
            {
                "report": row.document,
                "device": row.device,
                "is_phone": row.is_phone,
                **{name: row.result[name] for name in ("backend_requested", "backend_used", "valid", "median_ms", "p90_ms")},
            }
            for row in facts.phone
        ],
        "validations": [
            {"document": document.label, "images": document.content["images"]["number"], "passed": document.content["gate"]["passed"]}
            for document in facts.validations
        ],
        "checks": [{"name": check.name, "passed": check.passed, "detail": check.detail} for check in found if check.file == facts.label],
    }


def verdict(found: Sequence[Check], recommended: Sequence[Recommendation]) -> list[str]:
    """Sentences on what passed, what failed and what to ship."""
    failed = failures(found)
    files = {check.file for check in found}
    bad = sorted({check.file for check in failed})
    if failed:
        sentences = [f"{len(failed)} of {len(found)} checks failed, in {len(bad)} of {len(files)} files: {some(bad)}."]
    elif not files:
        sentences = ["No artifacts are here: the page shows what phones measured, and nothing was checked."]
    else:
        sentences = [f"All {len(found)} checks of {len(files)} file{'s' if len(files) != 1 else ''} passed."]
    for model in dict.fromkeys(one.model for one in recommended):
        own = [one for one in recommended if one.model == model]
        chosen = [f"{one.file} on {one.target}s ({one.basis})" for one in own if one.file]
        missing = [f"{one.target}s" for one in own if not one.file]
        unsure = list(dict.fromkeys(part for one in own for part in one.assumed))
        start = "nothing to ship before it has real weights; the best of these files are"
        if any(one.ships for one in own):
            start = "ship"
        elif unsure:
            start = f"to ship once what is assumed is confirmed ({', '.join(unsure)})"
        parts = [f"{start} {', '.join(chosen)}"] if chosen else []
        parts += [f"nothing to recommend yet for {', '.join(missing)}"] if missing else []
        sentences.append(f"{model}: {'; '.join(parts)}.")
    return sentences


def some(names: Sequence[str], most: int = 6) -> str:
    """The first of many names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def warnings(inputs: Inputs) -> list[str]:
    """Sentences that a reader must not miss, besides failed checks."""
    found = []
    random = [facts.label for facts in inputs.files if facts.random]
    if random:
        found.append(f"RANDOM weights: {some(random)}. Size, operations and latency hold for real weights too; answers mean nothing.")
    unsure = [f"{facts.label} ({', '.join(assumed(facts.manifest))})" for facts in inputs.files if assumed(facts.manifest)]
    if unsure:
        found.append(f"ASSUMED, and right only where it is so: {some(unsure)}. Nobody said it, and the model does not show it.")
    if any(row.result["software_gpu"] for facts in inputs.files for row in facts.host):
        found.append("A software GPU computes on the CPU: it shows which files the delegate takes, its milliseconds mean nothing.")
    doubtful = sorted({facts.label for facts in inputs.files for row in facts.host if row.measured and not row.result["valid"]})
    if doubtful:
        found.append(f"Measurements that are not valid, with the reasons below: {some(doubtful)}.")
    devices = sorted({row.device for facts in inputs.files for row in facts.phone if not row.is_phone})
    if devices:
        found.append(f"Not apps on phones: {', '.join(devices)}.")
    unvalidated = [facts.label for facts in inputs.files if not facts.validations and not facts.random]
    if unvalidated:
        found.append(f"Not validated on images, known by their drift gate alone: {some(unvalidated)}.")
    if inputs.apart:
        found.append(f"{len(inputs.apart)} result{'s' if len(inputs.apart) != 1 else ''} for other files, listed apart.")
    return found + list(inputs.notes)


def to_json(document: Mapping[str, Any]) -> str:
    """The text of `report.json`."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
