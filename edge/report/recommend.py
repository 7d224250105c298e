"""Which file to ship on which target, and why: pure, from measured facts; what is by rule only says so."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from typing import Any

from edge.report.checks import failures, file_checks
from edge.report.inputs import FileFacts, HostRow, Inputs

CPU, GPU, NPU = "CPU", "GPU", "NPU"
TARGETS = (CPU, GPU, NPU)
MEASURED, BY_RULE, NOTHING = "measured", "by rule, not measured", "nothing to recommend"
_NPU_RECIPE = "int8_full"


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """The file of one model for one target.

    Attributes:
        model: variant and weights.
        target: of `TARGETS`.
        basis: `MEASURED`, `BY_RULE` or `NOTHING`.
        file: label of the file, None with `NOTHING`.
        ships: false with random weights: the file is right for the target and no use to anybody.
        reasons: sentences; with `NOTHING`, what is missing.
        others: (label, why not it) of the model's other files.
        command: what to run, in the folder of the files, where something is missing; else None.
    """

    model: str
    target: str
    basis: str
    file: str | None
    ships: bool
    reasons: tuple[str, ...]
    others: tuple[tuple[str, str], ...]
    command: str | None = None


def recommendations(inputs: Inputs) -> list[Recommendation]:
    """One for every model and target."""
    models: dict[str, list[FileFacts]] = {}
    for facts in inputs.files:
        models.setdefault(facts.model, []).append(facts)
    found = []
    for _, files in sorted(models.items()):
        failed = {facts.label: failures(file_checks(facts, inputs)) for facts in files}
        whys = {label: f"failed: {', '.join(dict.fromkeys(check.name for check in found))}" for label, found in failed.items() if found}
        found += [_cpu(files, whys), _gpu(files, whys), _npu(files, whys)]
    return found


def _cpu(files: Sequence[FileFacts], failed: dict[str, str]) -> Recommendation:
    group = cpu_group(files, failed)
    others, candidates = dict(failed), []
    for facts in files:
        row = _row_of(facts, group)
        if facts.label in failed:
            continue
        if not facts.whole_on_xnnpack:
            others[facts.label] = _cut(facts)
        elif row is None:
            others[facts.label] = _why_no_row(facts, group)
        else:
            candidates.append((row.result["median_ms"], facts.size_bytes, facts.label, facts, row))
    candidates.sort(key=lambda candidate: candidate[:3])
    if not candidates:
        return _no_cpu(files, others)
    _, _, _, facts, row = candidates[0]
    for _, _, _, other, slower in candidates[1:]:
        others[other.label] = f"slower: {slower.result['median_ms']:.2f} ms"
    rivals = [other.label for _, _, _, other, slower in candidates[1:] if _overlap(row.result, slower.result)]
    counted = f"the fastest of {len(candidates)}" if len(candidates) > 1 else "the only one with a valid measurement"
    reasons = [f"{_milliseconds(row)}: {counted}; {_where(row)}"]
    if rivals:
        reasons.append(f"not told apart from {', '.join(rivals)} in this run: their intervals overlap")
    xnnpack = facts.manifest["delegates"]["xnnpack"]
    reasons.append(f"whole in one XNNPACK partition ({xnnpack['delegated_ops']} of {xnnpack['total_ops']} operations)")
    reasons += _accuracy(facts)
    reasons += _faster_elsewhere(files, facts, group, failed)
    return _recommendation(files, CPU, MEASURED, facts, reasons, others)


def cpu_group(files: Sequence[FileFacts], failed: dict[str, str]) -> tuple[str, str, int] | None:
    """The run to choose by: the one that has most of the files that may be chosen; of equals fewest threads, then the first."""
    counts: dict[tuple[str, str, int], int] = {}
    for facts in files:
        for group in {row.group for row in facts.host if row.usable and row.result["delegate"] == "cpu"}:
            counts[group] = counts.get(group, 0) + (facts.whole_on_xnnpack and facts.label not in failed)
    return min(counts, key=lambda group: (-counts[group], group[2], group[0])) if counts else None


def _row_of(facts: FileFacts, group: tuple[str, str, int] | None) -> HostRow | None:
    return next((row for row in facts.host if row.group == group and row.usable), None)


def _why_no_row(facts: FileFacts, group: tuple[str, str, int] | None) -> str:
    rows = [row for row in facts.host if row.result["delegate"] == "cpu" and group in (None, row.group)]
    if not rows:
        return "not measured on the CPU" if group is None else "not measured in the run the choice is made by"
    result = rows[0].result
    return f"no valid measurement: {'; '.join(result['invalid_reasons']) or result['reason'] or result['status']}"


def _no_cpu(files: Sequence[FileFacts], others: dict[str, str]) -> Recommendation:
    unmeasured = [facts for facts in files if facts.whole_on_xnnpack and others[facts.label].startswith(("not measured", "no valid"))]
    if not unmeasured:
        missing = "no file passed its checks and is whole in one XNNPACK partition"
        return _recommendation(files, CPU, NOTHING, None, [missing], others, _convert(files[0], "int8"))
    ordered = sorted(unmeasured, key=lambda facts: (facts.recipe != "float32", facts.label))  # ratios are to the first
    names = " ".join(shlex.quote(f"{facts.label}.tflite") for facts in ordered)
    reasons = ["no valid measurement on a CPU"]
    ran = [
        (row.result["median_ms"], facts.label)
        for facts in unmeasured
        for row in facts.host
        if row.measured and row.result["delegate"] == "cpu"
    ]
    if ran:
        reasons.append(f"the fastest of those that are not valid is {min(ran)[1]} ({min(ran)[0]:.2f} ms); measure again on a quiet machine")
    return _recommendation(files, CPU, NOTHING, None, reasons, others, f"python -m edge.benchmark {names} --save benchmark.json")


def _overlap(fastest: Any, other: Any) -> bool:
    bounds = [fastest.get("ratio_low"), fastest.get("ratio_high"), other.get("ratio_low"), other.get("ratio_high")]
    return None not in bounds and bounds[2] <= bounds[1] and bounds[0] <= bounds[3]


def _faster_elsewhere(
    files: Sequence[FileFacts], chosen: FileFacts, group: tuple[str, str, int] | None, failed: dict[str, str]
) -> list[str]:
    """Where another run, or another number of threads, has another winner."""
    best: dict[tuple[str, str, int], tuple[float, str]] = {}
    for facts in files:
        if facts.label in failed or not facts.whole_on_xnnpack:
            continue
        for row in facts.host:
            if row.usable and row.result["delegate"] == "cpu" and row.group != group:
                best[row.group] = min(best.get(row.group, (float("inf"), "")), (row.result["median_ms"], facts.label))
    return [
        f"but with {key[2]} thread{'s' if key[2] != 1 else ''} in {key[0]} {label} is the fastest ({median:.2f} ms)"
        for key, (median, label) in sorted(best.items())
        if label != chosen.label
    ]


def _gpu(files: Sequence[FileFacts], failed: dict[str, str]) -> Recommendation:
    others, whole = dict(failed), []
    for facts in files:
        verdict = facts.manifest["delegates"]["gpu"]["verdict"]
        if facts.label in failed:
            continue
        if verdict == "whole":
            whole.append(facts)
        else:
            others[facts.label] = f"{verdict} by rule: {_first_refusal(facts)}"
    measured = _measured_on_gpu(whole)
    if measured:
        median, where, facts = measured[0]
        for slower, _, other in measured[1:]:
            others[other.label] = f"slower: {slower:.2f} ms"
        for other in whole:
            if other.label != facts.label:
                others.setdefault(other.label, "not measured in the run the choice is made by")
        counted = f"the fastest of {len(measured)}" if len(measured) > 1 else "the only one with a valid measurement"
        reasons = [f"median {median:.2f} ms: {counted}; {where}", *_accuracy(facts)]
        return _recommendation(files, GPU, MEASURED, facts, reasons, others)
    if not whole:
        missing = "no file passed its checks and runs whole on the GPU delegate"
        return _recommendation(files, GPU, NOTHING, None, [missing], others, _convert(files[0], "float16"))
    float16 = [facts for facts in whole if facts.recipe == "float16"]
    facts = min(float16 or whole, key=lambda one: (one.size_bytes, -(one.manifest["drift"]["logits_snr_db"] or 0.0), one.label))
    why = "float16 weights, the precision GPUs compute in" if float16 else "the smallest that runs whole on the GPU delegate"
    for other in whole:
        if other.label != facts.label:
            others[other.label] = "runs whole too; which is faster has not been measured"
    reasons = [
        f"{why}; {_megabytes(facts)}",
        f"whole on the GPU delegate: {facts.manifest['delegates']['gpu']['basis']}",
        *_accuracy(facts),
    ]
    command = f"python -m edge.benchmark {shlex.quote(f'{facts.label}.tflite')} --delegate gpu"
    return _recommendation(files, GPU, BY_RULE, facts, reasons, others, command)


def _measured_on_gpu(whole: Sequence[FileFacts]) -> list[tuple[float, str, FileFacts]]:
    """Medians on one real GPU, fastest first: this machine's, or where it has none one phone's. Never of two devices together."""
    places: dict[tuple[int, str, str, str], list[tuple[float, str, FileFacts]]] = {}
    for facts in whole:
        for row in facts.host:
            if row.usable and row.result["delegate"].startswith("gpu"):
                where = row.result.get("ran_on") or row.result["delegate"]
                places.setdefault((0, *row.group[:2], where), []).append((row.result["median_ms"], f"{where}, {row.run}", facts))
        for row in facts.phone:
            if row.is_phone and row.result["backend_used"] == "gpu" and row.result["valid"] and row.answers_agree:
                places.setdefault((1, row.document, row.device, "gpu"), []).append(
                    (row.result["median_ms"], f"{row.device}, {row.document}", facts)
                )
    if not places:
        return []
    place = min(places, key=lambda key: (key[0], -len({facts.label for _, _, facts in places[key]}), key))
    fastest: dict[str, tuple[float, str, FileFacts]] = {}
    for one in sorted(places[place], key=lambda found: (found[0], found[2].label)):
        fastest.setdefault(one[2].label, one)
    return list(fastest.values())


def _npu(files: Sequence[FileFacts], failed: dict[str, str]) -> Recommendation:
    others = {facts.label: "not integers only" for facts in files if facts.recipe != _NPU_RECIPE} | failed
    for facts in files:
        if facts.recipe == "w8a16" and facts.label not in failed:
            others[facts.label] = "for NPUs that have 16-bit activations"
    integers = [facts for facts in files if facts.recipe == _NPU_RECIPE and facts.label not in failed]
    if not integers:
        had = [facts for facts in files if facts.recipe == _NPU_RECIPE]
        missing = f"{had[0].label} {failed[had[0].label]}" if had else f"no {_NPU_RECIPE} file, the one of integers only"
        return _recommendation(files, NPU, NOTHING, None, [missing], others, _convert(files[0], _NPU_RECIPE))
    facts = min(integers, key=lambda one: (one.size_bytes, one.label))
    rows = [
        row for row in facts.phone if row.is_phone and row.result["backend_used"] == "npu" and row.result["valid"] and row.answers_agree
    ]
    reasons = [f"integers only, int8 pixels in and int8 logits out; {_megabytes(facts)}"]
    if rows:
        reasons.insert(0, f"median {rows[0].result['median_ms']:.2f} ms; {rows[0].device}, {rows[0].document}")
    return _recommendation(files, NPU, MEASURED if rows else BY_RULE, facts, [*reasons, *_accuracy(facts)], others)


def _recommendation(
    files: Sequence[FileFacts],
    target: str,
    basis: str,
    facts: FileFacts | None,
    reasons: Sequence[str],
    others: dict[str, str],
    command: str | None = None,
) -> Recommendation:
    random = files[0].random
    if random and facts:
        reasons = ["RANDOM weights: speed and size hold for real ones too, answers mean nothing", *reasons]
    label = facts.label if facts else None
    return Recommendation(
        model=files[0].model,
        target=target,
        basis=basis,
        file=label,
        ships=facts is not None and not random,
        reasons=tuple(reasons),
        others=tuple(sorted((name, why) for name, why in others.items() if name != label)),
        command=command,
    )


def _accuracy(facts: FileFacts) -> list[str]:
    """What is known of its answers: from validations with labels, validations without, or the manifest's drift."""
    sentences = []
    for document in facts.validations:
        content = document.content
        images = f"{content['images']['number']} images of {content['images']['source']}"
        accuracy = content["accuracy"]
        if accuracy:
            reference, target, change = accuracy["reference"]["top1"], accuracy["target"]["top1"], accuracy["top1_change"]
            points = [f"{round(100 * change[key], 2) + 0.0:+.2f}" for key in ("value", "low", "high")]
            sentences.append(
                f"top-1 {100 * target['value']:.2f} % against {100 * reference['value']:.2f} % of Keras: "
                f"{points[0]} points ({points[1]} to {points[2]}) on {images}"
            )
        else:
            total = next((one["metrics"] for one in content["differences"] if one["name"] == "total"), None)
            if total:
                same = total["top1_agreement"]
                sentences.append(
                    f"same top-1 as Keras on {100 * same['value']:.2f} % ({100 * same['low']:.2f} to {100 * same['high']:.2f}) of {images}"
                )
    drift = facts.manifest["drift"]
    if not sentences:
        sentences.append(
            f"drift gate passed: logits SNR {drift['logits_snr_db']:g} dB on {drift['samples']} images ({drift['source']}); not validated"
        )
    return sentences


def _milliseconds(row: HostRow) -> str:
    result = row.result
    words = f"median {result['median_ms']:.2f} ms"
    low, high = result.get("ratio_low"), result.get("ratio_high")
    if result.get("ratio") is not None and low != high:
        words += f", {result['ratio']:.3f} ({low:.3f} to {high:.3f}) of the time of {row.first.removesuffix('.tflite')}"
    return words


def _where(row: HostRow) -> str:
    threads = row.result["threads"]
    return f"{threads} thread{'s' if threads != 1 else ''}, {row.environment['cpu']}, {row.run}"


def _cut(facts: FileFacts) -> str:
    xnnpack = facts.manifest["delegates"]["xnnpack"]
    left = xnnpack["total_ops"] - xnnpack["delegated_ops"]
    parts = xnnpack["partitions"]
    return f"XNNPACK leaves {left} of {xnnpack['total_ops']} operations, {parts} partition{'s' if parts != 1 else ''}"


def _first_refusal(facts: FileFacts) -> str:
    refused = facts.manifest["delegates"]["gpu"]["refused"]
    return (
        f"{refused[0]['op']}: {refused[0]['reason']}" + (f" and {len(refused) - 1} more" if len(refused) > 1 else "")
        if refused
        else "no reason"
    )


def _megabytes(facts: FileFacts) -> str:
    return f"{facts.size_bytes / 1e6:.2f} MB"


def _convert(facts: FileFacts, recipe: str) -> str:
    """The command that makes the file that is missing."""
    variant, weights = facts.manifest["variant"], facts.manifest["weights"]
    model = f"--variant {shlex.quote(variant)}" if variant else "--model MODEL.keras"
    given = f" --weights {shlex.quote(weights['source'])}" if weights["random"] else ""
    return f"python -m edge.convert {model} --quant {recipe}{given} --out ."
