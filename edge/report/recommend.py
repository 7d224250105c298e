"""Which file to ship on which target, and why: measurements first, then the rules of `edge/report/rules.py`."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from edge.artifacts.artifact import assumed
from edge.report import rules
from edge.report.checks import failures, file_checks
from edge.report.inputs import FileFacts, HostRow, Inputs
from edge.report.rules import CPU, GPU, NPU, TARGETS

MEASURED, BY_RULE, NOTHING = "measured", "by rule, not measured", "nothing to recommend"


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """The file of one model for one target.

    Attributes:
        model: variant and weights.
        target: of `TARGETS`.
        basis: `MEASURED`, `BY_RULE` or `NOTHING`.
        file: label of the file, None with `NOTHING`.
        ships: False with random weights, whose answers mean nothing, and where something was assumed that nobody confirmed.
        assumed: what that is.
        reasons: sentences; with `NOTHING`, what is missing.
        others: (label, why not) of the model's other files.
        command: to run in the folder of the files, where something is missing; else None.
    """

    model: str
    target: str
    basis: str
    file: str | None
    ships: bool
    reasons: tuple[str, ...]
    others: tuple[tuple[str, str], ...]
    command: str | None = None
    assumed: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Run:
    """A valid measurement of a file on a target.

    Attributes:
        words: the median, for a sentence.
        where: machine or device, and document.
    """

    facts: FileFacts
    result: Mapping[str, Any]
    words: str
    where: str


def recommendations(inputs: Inputs) -> list[Recommendation]:
    """One for every model and target."""
    models: dict[str, list[FileFacts]] = {}
    for facts in inputs.files:
        models.setdefault(facts.model, []).append(facts)
    found = []
    for _, files in sorted(models.items()):
        failed = {facts.label: failures(file_checks(facts, inputs)) for facts in files}
        whys = {label: f"failed: {', '.join(dict.fromkeys(check.name for check in found))}" for label, found in failed.items() if found}
        found += [_recommendation(target, files, whys) for target in TARGETS]
    return found


def _recommendation(target: str, files: Sequence[FileFacts], failed: Mapping[str, str]) -> Recommendation:
    passed = {facts.label: facts for facts in files if facts.label not in failed}
    fitting = [passed[label] for label in rules.fitting(target, {label: facts.manifest for label, facts in passed.items()})]
    group = _cpu_group(fitting) if target == CPU else None
    runs = (_cpu_runs(fitting, group) if target == CPU else []) or _device_runs(fitting, target.lower())
    others = dict(failed) | {label: why for label, facts in passed.items() if (why := rules.why_not(target, facts.manifest))}
    others |= {facts.label: _why_after(facts, target, runs, group) for facts in fitting}
    chosen = runs[0].facts if runs else fitting[0] if fitting else None
    if chosen is None:
        reasons = [f"no file that passed its checks is {rules.FITS[target]}"]
        return _made(target, files, NOTHING, None, reasons, others, _convert(files[0], rules.RECIPE[target]))
    reasons = ["RANDOM weights: speed and size hold for real ones too, answers mean nothing"] if chosen.random else []
    if unsure := assumed(chosen.manifest):
        reasons.append(f"ASSUMED: {', '.join(unsure)}; right only where that is so (edge.convert takes it as flags)")
    reasons += _why_measured(runs) if runs else _why_by_rule(target, chosen, fitting)
    reasons += _why_it_fits(target, chosen, bool(runs)) + _accuracy(chosen)
    if runs:
        return _made(target, files, MEASURED, chosen, reasons + _faster_elsewhere(target, fitting, chosen, group), others)
    return _made(target, files, BY_RULE, chosen, reasons, others, _benchmark(target, chosen, fitting))


def _made(
    target: str,
    files: Sequence[FileFacts],
    basis: str,
    chosen: FileFacts | None,
    reasons: Sequence[str],
    others: Mapping[str, str],
    command: str | None = None,
) -> Recommendation:
    unsure = tuple(assumed(chosen.manifest)) if chosen else ()
    label, ships = (chosen.label, not chosen.random and not unsure) if chosen else (None, False)
    why_not = tuple(sorted((name, why) for name, why in others.items() if name != label))
    return Recommendation(files[0].model, target, basis, label, ships, tuple(reasons), why_not, command, unsure)


def _cpu_group(fitting: Sequence[FileFacts]) -> tuple[str, str, int] | None:
    """The run to choose by: the one with most of the files. Ties go to fewer threads, then to the first."""
    groups = [group for facts in fitting for group in {row.group for row in facts.host if row.usable and row.result["delegate"] == "cpu"}]
    return min(groups, key=lambda group: (-groups.count(group), group[2], group[0])) if groups else None


def _cpu_runs(fitting: Sequence[FileFacts], group: tuple[str, str, int] | None) -> list[_Run]:
    """The valid measurements of one run, fastest first."""
    runs = []
    for facts in fitting:
        row = next((row for row in facts.host if row.usable and row.group == group), None)
        if row:
            where = f"{_threads(row.group[2])}, {row.environment['cpu']}, {row.run}"
            runs.append(_Run(facts, row.result, _milliseconds(row), where))
    return sorted(runs, key=_speed)


def _device_runs(fitting: Sequence[FileFacts], backend: str) -> list[_Run]:
    """Valid measurements on one real GPU or NPU, fastest first: this machine's, else one phone's. Of a CPU, one phone's: those of this
    machine are `_cpu_runs`. Two devices are never mixed."""
    places: dict[tuple[int, str, str, str], list[_Run]] = {}
    for facts in fitting:
        for row in facts.host if backend != CPU.lower() else ():
            if row.usable and row.result["delegate"].startswith(backend):
                name = row.result.get("ran_on") or row.result["delegate"]
                run = _Run(facts, row.result, f"median {row.result['median_ms']:.2f} ms", f"{name}, {row.run}")
                places.setdefault((0, *row.group[:2], name), []).append(run)
        for row in facts.phone:
            if row.is_phone and row.result["backend_used"] == backend and row.result["valid"] and row.answers_agree:
                where = (
                    f"{_threads(row.result['threads'])}, {row.device}" if backend == CPU.lower() and row.result["threads"] else row.device
                )
                run = _Run(facts, row.result, f"median {row.result['median_ms']:.2f} ms", f"{where}, {row.document}")
                places.setdefault((1, row.document, row.device, backend), []).append(run)
    if not places:
        return []
    place = min(places, key=lambda key: (key[0], -len({run.facts.label for run in places[key]}), key))
    fastest: dict[str, _Run] = {}
    for run in sorted(places[place], key=_speed):
        fastest.setdefault(run.facts.label, run)
    return list(fastest.values())


def _speed(run: _Run) -> tuple[float, int, str]:
    return run.result["median_ms"], run.facts.size_bytes, run.facts.label


def _why_after(facts: FileFacts, target: str, runs: Sequence[_Run], group: tuple[str, str, int] | None) -> str:
    """Why another file that fits comes before this one."""
    median = next((run.result["median_ms"] for run in runs if run.facts is facts), None)
    if median is not None:
        return f"slower: {median:.2f} ms"
    rows = [row for row in facts.host if target == CPU and row.result["delegate"] == "cpu" and group in (None, row.group)]
    if rows:
        result = rows[0].result
        return f"no valid measurement: {'; '.join(result['invalid_reasons']) or result['reason'] or result['status']}"
    return "not measured in the run the choice is made by" if runs else "fits too; which is faster has not been measured"


def _why_measured(runs: Sequence[_Run]) -> list[str]:
    best, counted = runs[0], f"the fastest of {len(runs)}" if len(runs) > 1 else "the only one with a valid measurement"
    reasons = [f"{best.words}: {counted}; {best.where}"]
    rivals = [run.facts.label for run in runs[1:] if _overlap(best.result, run.result)]
    return reasons + ([f"not told apart from {', '.join(rivals)} in this run: their intervals overlap"] if rivals else [])


def _why_by_rule(target: str, chosen: FileFacts, fitting: Sequence[FileFacts]) -> list[str]:
    if target == NPU:
        return []
    if target == GPU:
        float16 = chosen.recipe == rules.RECIPE[GPU]
        why = "float16 weights, the precision GPUs compute in" if float16 else "the smallest that runs whole on the GPU delegate"
        return [f"{why}; {_megabytes(chosen)}"]
    first, *then = rules.ORDER[CPU]
    reasons = [
        f"no valid measurement on a CPU; by rule {first} comes first, then {', '.join(then)}, as on CPUs with 8-bit dot products "
        f"(AVX512-VNNI): on others {first} may gain little"
    ]
    rows = [(facts, row) for facts in fitting for row in facts.host if row.measured and row.result["delegate"] == "cpu"]
    ran = [(row.result["median_ms"], facts.label) for facts, row in rows]
    if ran:
        reasons.append(f"the fastest of those that are not valid is {min(ran)[1]} ({min(ran)[0]:.2f} ms); measure again on a quiet machine")
    if chosen.recipe in rules.SHARE_ON_ARM:
        without, with_one = rules.SHARE_ON_ARM[chosen.recipe]
        reasons.append(
            f"an ARM core without a dot product gains less: of float32's instructions {chosen.recipe} executes {without:.2f} on a "
            f"Cortex-A53, and {with_one:.2f} on a Cortex-A76, which has one (tiny224, counted and not timed: results/arm_instructions.csv)"
        )
    return reasons


def _why_it_fits(target: str, chosen: FileFacts, measured: bool) -> list[str]:
    delegates = chosen.manifest["delegates"]
    if target == NPU:
        return [f"{rules.FITS[NPU]}: {delegates['npu']['basis']}; {_megabytes(chosen)}"]
    if target == GPU:
        return [] if measured else [f"{rules.FITS[GPU]}: {delegates['gpu']['basis']}"]
    xnnpack = delegates["xnnpack"]
    others = ", the others are computed once, when the file is loaded" if xnnpack["left_over"] else ""
    return [f"{rules.FITS[CPU]} ({xnnpack['delegated_ops']} of {xnnpack['total_ops']} operations{others})"]


def _overlap(fastest: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    bounds: list[Any] = [fastest.get("ratio_low"), fastest.get("ratio_high"), other.get("ratio_low"), other.get("ratio_high")]
    return None not in bounds and bounds[2] <= bounds[1] and bounds[0] <= bounds[3]


def _faster_elsewhere(target: str, fitting: Sequence[FileFacts], chosen: FileFacts, group: tuple[str, str, int] | None) -> list[str]:
    """Where another run on a CPU, or another number of threads, has another winner."""
    best: dict[tuple[str, str, int], tuple[float, str]] = {}
    for facts in fitting if target == CPU else ():
        for row in facts.host:
            if row.usable and row.result["delegate"] == "cpu" and row.group != group:
                best[row.group] = min(best.get(row.group, (float("inf"), "")), (row.result["median_ms"], facts.label))
    return [
        f"but with {_threads(key[2])} in {key[0]} {label} is the fastest ({median:.2f} ms)"
        for key, (median, label) in sorted(best.items())
        if label != chosen.label
    ]


def _benchmark(target: str, chosen: FileFacts, fitting: Sequence[FileFacts]) -> str | None:
    """The command that measures. On the CPU float32 comes first: the ratios are to it."""
    if target == NPU:
        return None
    measured = sorted(fitting, key=lambda facts: (facts.recipe != "float32", facts.label)) if target == CPU else [chosen]
    names = " ".join(shlex.quote(f"{facts.label}.tflite") for facts in measured)
    return f"python -m edge.benchmark {names} {'--save benchmark.json' if target == CPU else '--delegate gpu'}"


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count != 1 else ''}"


def _megabytes(facts: FileFacts) -> str:
    return f"{facts.size_bytes / 1e6:.2f} MB"


def _accuracy(facts: FileFacts) -> list[str]:
    """How good the answers are: by validations with labels, validations without, or the manifest's drift."""
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
            same = total and total["top1_agreement"]
            if same:
                sentences.append(
                    f"same top-1 as Keras on {100 * same['value']:.2f} % ({100 * same['low']:.2f} to {100 * same['high']:.2f}) of {images}"
                )
            elif total:
                sentences.append(f"{_snr(total['logits_snr_db'])} against Keras on {images}")
    if sentences:
        return sentences
    drift = facts.manifest["drift"]
    return [f"drift gate passed: {_snr(drift['logits_snr_db'])} on {drift['samples']} images ({drift['source']}); not validated"]


def _snr(decibels: float | None) -> str:
    return f"logits SNR {'not finite' if decibels is None else f'{decibels:g} dB'}"


def _milliseconds(row: HostRow) -> str:
    result = row.result
    words = f"median {result['median_ms']:.2f} ms"
    ratio, low, high = (result.get(name) for name in ("ratio", "ratio_low", "ratio_high"))
    if ratio is not None and low is not None and high is not None and low != high:
        words += f", {ratio:.3f} ({low:.3f} to {high:.3f}) of the time of {row.first.removesuffix('.tflite')}"
    return words


def _convert(facts: FileFacts, recipe: str) -> str:
    """The command that makes the file that is missing."""
    variant, weights = facts.manifest["variant"], facts.manifest["weights"]
    model = f"--variant {shlex.quote(variant)}" if variant else "--model MODEL.keras"
    given = f" --weights {shlex.quote(weights['source'])}" if weights["random"] else ""
    return f"python -m edge.convert {model} --quant {recipe}{given} --out ."
