"""The checks of a report, file by file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from edge.artifacts.artifact import meaning
from edge.drift.meanings import CLASSES, LABELS
from edge.report.inputs import INTACT, MISSING, FileFacts, Inputs

INTEGRITY, DRIFT, VALIDATION, OUTPUTS, PARITY, CALIBRATION = "integrity", "drift gate", "validation", "outputs", "parity", "calibration"


@dataclasses.dataclass(frozen=True)
class Check:
    """One check of one file.

    Attributes:
        file: the file's label.
        detail: what was found, as a sentence.
    """

    file: str
    name: str
    passed: bool
    detail: str


def checks(inputs: Inputs) -> list[Check]:
    return [check for facts in inputs.files for check in file_checks(facts, inputs)]


def failures(found: Iterable[Check]) -> list[Check]:
    return [check for check in found if not check.passed]


def file_checks(facts: FileFacts, inputs: Inputs) -> list[Check]:
    """Integrity and drift; the others where the folder has documents about the file."""
    found = [_integrity(facts), _drift(facts)]
    for document in facts.validations:
        content = document.content
        images = f"{content['images']['number']} images of {content['images']['source']}"
        gate = content["gate"]
        sentences = gate["failures"] or ["the gate failed"]
        passed = "within the limits, not proved" if gate.get("proved") is False else "passed"
        found.append(Check(facts.label, VALIDATION, gate["passed"], f"on {images}: {passed if gate['passed'] else '; '.join(sentences)}"))
    for row in facts.host:
        if row.result["status"] == "wrong":
            found.append(Check(facts.label, OUTPUTS, False, f"wrong answers on {row.result['delegate']}: {row.result['reason']}"))
    for row in facts.phone:
        parity = row.result["parity"]
        if parity is not None:
            error = "not a number" if parity["max_abs_err"] is None else f"{parity['max_abs_err']:.2g}"
            detail = f"on {row.device}, {row.result['backend_used']}: largest difference {error}, at most {parity['tolerance']}"
            found.append(Check(facts.label, PARITY, parity["passed"], detail))
    calibration = facts.manifest.get("calibration")
    for document in inputs.calibrations:
        if calibration and document.content["source"] == calibration["source"]:
            failed = [f"{check['name']}: {check['detail']}" for check in document.content["checks"] if check["status"] == "fail"]
            found.append(Check(facts.label, CALIBRATION, document.content["passed"], "; ".join(failed) or "images fit to calibrate with"))
    return found


def _integrity(facts: FileFacts) -> Check:
    if facts.state == INTACT:
        return Check(facts.label, INTEGRITY, True, "the file is the one its manifest describes")
    if facts.state == MISSING:
        return Check(facts.label, INTEGRITY, False, f"{facts.file_name} is not beside its manifest")
    recorded, found = facts.manifest["file"]["sha256"], facts.found_sha256 or ""
    return Check(facts.label, INTEGRITY, False, f"not the file its manifest describes: SHA-256 {found[:16]}..., not {recorded[:16]}...")


def _drift(facts: FileFacts) -> Check:
    drift = facts.manifest["drift"]
    limits = drift["limits"]
    words = f"logits SNR {_or_none(drift['logits_snr_db'], 'dB')}, at least {limits['min_snr_db']:g} dB"
    if not facts.random and meaning(facts.manifest) in (CLASSES, LABELS):
        words += f"; same top-1 on {_or_none(drift['top1_agreement'], '', 100)} %, at least {100 * limits['min_agreement']:g} %"
    for output in facts.manifest.get("other_outputs", ()):
        words += f"; {output['name']} {_or_none(output['drift']['logits_snr_db'], 'dB')}"
    words += f", on {drift['samples']} images ({drift['source']})"
    if drift["collapse"]:
        words = f"{'; '.join(drift['collapse'])}; {words}"
    return Check(facts.label, DRIFT, drift["passed"], words)


def _or_none(value: float | None, unit: str, factor: float = 1.0) -> str:
    return "not a finite number" if value is None else f"{factor * value:.4g} {unit}".strip()
