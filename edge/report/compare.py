"""What changed between two folders of artifacts: figures that got worse, others, and those that cannot be compared. Also as Markdown."""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from edge.artifacts.atomic_files import TEXT_MARK
from edge.report.checks import failures, file_checks
from edge.report.inputs import FileFacts, HostRow, Inputs

SCHEMA_VERSION = 1
SAME, CHANGED, BETTER, WORSE, NOT_COMPARED = "same", "changed", "better", "worse", "not compared"
# A machine is the same where these are
_MACHINE = ("cpu", "cores", "machine")


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """The largest changes that do not count as worse."""

    size_percent: float = 2.0
    ops_percent: float = 5.0
    partitions: float = 0.0
    snr_db: float = 1.0
    agreement_points: float = 1.0
    top1_points: float = 0.5
    latency_percent: float = 10.0


@dataclasses.dataclass(frozen=True)
class Change:
    """One figure of one file.

    Attributes:
        file: label of the artifact.
        what: the figure's name and unit.
        before, after: as shown; None where it is not there.
        change: as shown.
        status: `SAME`, `CHANGED` (within tolerance), `BETTER`, `WORSE` or `NOT_COMPARED`.
        why: what made it worse, or not comparable.
    """

    file: str
    what: str
    before: str | None
    after: str | None
    change: str
    status: str
    why: str = ""


def comparison(before: Inputs, after: Inputs, tolerances: Tolerances) -> dict[str, Any]:
    """The document of `--compare`: every figure of every file. A change beyond the tolerances is worse."""
    old, new = ({facts.label: facts for facts in inputs.files} for inputs in (before, after))
    changes = []
    for label in sorted(old.keys() | new.keys()):
        if label not in new:
            changes.append(Change(label, "file", "there", None, "gone", WORSE, "the file is gone"))
        elif label not in old:
            changes.append(_added(new[label], after))
        else:
            changes += _changes(old[label], new[label], before, after, tolerances)
    worse = [change for change in changes if change.status == WORSE]
    return {
        "kind": "comparison",
        "schema_version": SCHEMA_VERSION,
        "before": before.title,
        "after": after.title,
        "passed": not worse,
        "tolerances": dataclasses.asdict(tolerances),
        "changes": [dataclasses.asdict(change) for change in changes],
        "inputs": {
            side: [{"path": label, "kind": kind, "sha256": digest} for label, kind, digest in inputs.sources]
            for side, inputs in (("before", before), ("after", after))
        },
    }


def _added(facts: FileFacts, after: Inputs) -> Change:
    failed = failures(file_checks(facts, after))
    return Change(
        facts.label, "file", None, "there", "new", WORSE if failed else CHANGED, "; ".join(f"{one.name}: {one.detail}" for one in failed)
    )


def _changes(old: FileFacts, new: FileFacts, before: Inputs, after: Inputs, tolerances: Tolerances) -> list[Change]:
    label = old.label
    changes = [_bytes(old, new), _checked(old, new, before, after)]
    weights = [facts.manifest["weights"] for facts in (old, new)]
    if weights[0]["sha256"] != weights[1]["sha256"]:
        words = [f"{one['source']} {one['sha256'][:8]}" for one in weights]
        changes.append(Change(label, "weights", words[0], words[1], "others", CHANGED, "drift and accuracy are of other weights"))
    first, second = old.manifest, new.manifest
    changes.append(_percent(label, "size, bytes", old.size_bytes, new.size_bytes, tolerances.size_percent, "{:d}"))
    ops = [sum(manifest["file"]["ops"].values()) for manifest in (first, second)]
    changes.append(_percent(label, "operations", ops[0], ops[1], tolerances.ops_percent, "{:d}"))
    xnnpack = [manifest["delegates"]["xnnpack"] for manifest in (first, second)]
    changes.append(
        _points(label, "XNNPACK partitions", xnnpack[0]["partitions"], xnnpack[1]["partitions"], tolerances.partitions, -1, "{:g}")
    )
    left = [one["total_ops"] - one["delegated_ops"] for one in xnnpack]
    changes.append(_points(label, "operations XNNPACK leaves", left[0], left[1], 0.0, -1, "{:g}"))
    changes.append(_gpu(label, first["delegates"]["gpu"]["verdict"], second["delegates"]["gpu"]["verdict"]))
    changes.append(_runtime(label, first["file"]["min_runtime_version"], second["file"]["min_runtime_version"]))
    changes += _drift(label, first, second, tolerances)
    changes += _validation(old, new, tolerances)
    return changes + _latency(old, new, tolerances)


def _bytes(old: FileFacts, new: FileFacts) -> Change:
    hashes = [facts.manifest["file"]["sha256"] for facts in (old, new)]
    same = hashes[0] == hashes[1]
    return Change(old.label, "content", hashes[0][:12], hashes[1][:12], "same bytes" if same else "other bytes", SAME if same else CHANGED)


def _checked(old: FileFacts, new: FileFacts, before: Inputs, after: Inputs) -> Change:
    failed = [failures(file_checks(facts, inputs)) for facts, inputs in ((old, before), (new, after))]
    words = [", ".join(dict.fromkeys(check.name for check in found)) + " failed" if found else "passed" for found in failed]
    names = [{check.name for check in found} for found in failed]
    status = SAME if names[0] == names[1] else WORSE if names[1] - names[0] else BETTER
    why = "; ".join(f"{check.name}: {check.detail}" for check in failed[1]) if status == WORSE else ""
    return Change(old.label, "checks", words[0], words[1], "" if status == SAME else status, status, why)


def _percent(label: str, what: str, before: float, after: float, tolerance: float, form: str) -> Change:
    """A figure of which less is better; worse where it grew by more than `tolerance` per cent."""
    growth = 100.0 * (after - before) / before if before else (0.0 if after == before else float("inf"))
    status = SAME if after == before else BETTER if growth < 0 else WORSE if growth > tolerance else CHANGED
    why = f"more than {tolerance:g} %" if status == WORSE else ""
    change = "" if after == before else f"{growth:+.1f} %"
    return Change(label, what, form.format(before), form.format(after), change, status, why)


def _points(label: str, what: str, before: float | None, after: float | None, tolerance: float, better: int, form: str) -> Change:
    """A figure judged by its difference; `better` is 1 where more is better, -1 where less is."""
    shown = _shown(before, form), _shown(after, form)
    if before is None or after is None:
        if before is None and after is None:
            return Change(label, what, *shown, "", SAME)
        worse = after is None
        return Change(label, what, *shown, "", WORSE if worse else BETTER, "no longer a finite number" if worse else "")
    gain = better * (after - before)
    status = SAME if gain == 0 else BETTER if gain > 0 else WORSE if -gain > tolerance + 1e-9 else CHANGED
    why = f"more than {tolerance:g} lost" if status == WORSE and better > 0 else f"more than {tolerance:g} more" if status == WORSE else ""
    return Change(label, what, *shown, "" if gain == 0 else f"{after - before:+.4g}", status, why)


def _shown(value: float | None, form: str) -> str | None:
    return None if value is None else form.format(value)


def _median(row: HostRow | None) -> str | None:
    return None if row is None else f"{row.result['median_ms']:.3f}"


def _gpu(label: str, before: str, after: str) -> Change:
    status = SAME if before == after else WORSE if before == "whole" else BETTER if after == "whole" else CHANGED
    return Change(
        label,
        "GPU by rule",
        before,
        after,
        "" if status == SAME else status,
        status,
        "no longer whole on the GPU" if status == WORSE else "",
    )


def _runtime(label: str, before: str | None, after: str | None) -> Change:
    if before == after:
        return Change(label, "needs TFLite", before, after, "", SAME)
    if before is None or after is None:
        return Change(label, "needs TFLite", before, after, "", NOT_COMPARED, "not known of one of them")
    newer = _version(after) > _version(before)
    return Change(
        label,
        "needs TFLite",
        before,
        after,
        "newer" if newer else "older",
        WORSE if newer else BETTER,
        "needs a newer runtime" if newer else "",
    )


def _version(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)]


def _drift(label: str, first: Mapping[str, Any], second: Mapping[str, Any], tolerances: Tolerances) -> list[Change]:
    one, other = first["drift"], second["drift"]
    snr, same = "logits SNR, dB", "same top-1, %"
    images = [(drift["source"], drift["samples"]) for drift in (one, other)]
    if images[0] != images[1]:
        why = f"on other images: {images[0][1]} of {images[0][0]}, then {images[1][1]} of {images[1][0]}"
        shown = _shown(one["logits_snr_db"], "{:.2f}"), _shown(other["logits_snr_db"], "{:.2f}")
        return [Change(label, snr, *shown, "", NOT_COMPARED, why)]
    changes = [_points(label, snr, one["logits_snr_db"], other["logits_snr_db"], tolerances.snr_db, 1, "{:.2f}")]
    if first["weights"]["random"] or second["weights"]["random"]:
        return changes  # their top-1 means nothing
    agreement = [None if drift["top1_agreement"] is None else 100 * drift["top1_agreement"] for drift in (one, other)]
    return [*changes, _points(label, same, agreement[0], agreement[1], tolerances.agreement_points, 1, "{:.2f}")]


def _validation(old: FileFacts, new: FileFacts, tolerances: Tolerances) -> list[Change]:
    """Top-1 on the images that both were validated on."""
    found = []
    by_images = [{d.content["images"]["sha256"]: d.content for d in facts.validations if d.content["accuracy"]} for facts in (old, new)]
    for digest in sorted(by_images[0].keys() | by_images[1].keys()):
        contents = [side.get(digest) for side in by_images]
        source = next(content for content in contents if content)["images"]["source"]
        top1 = [100 * content["accuracy"]["target"]["top1"]["value"] if content else None for content in contents]
        if None in top1:
            shown = _shown(top1[0], "{:.2f}"), _shown(top1[1], "{:.2f}")
            found.append(
                Change(old.label, f"top-1 on {source}, %", *shown, "", NOT_COMPARED, "only one of them was validated on these images")
            )
        else:
            found.append(_points(old.label, f"top-1 on {source}, %", top1[0], top1[1], tolerances.top1_points, 1, "{:.2f}"))
    return found


def _latency(old: FileFacts, new: FileFacts, tolerances: Tolerances) -> list[Change]:
    """Latency of the same delegate and threads, where both are valid and from the same machine: as the ratio to another file measured in
    turns where both runs have it, since a whole machine may be slower on another day. Equal bytes are not worse, whatever they took."""
    same_bytes = old.manifest["file"]["sha256"] == new.manifest["file"]["sha256"]
    rows = [
        {(row.result["delegate"], row.result["threads"] or 0): row for row in reversed(facts.host) if row.measured} for facts in (old, new)
    ]
    found = []
    for key in sorted(rows[0].keys() | rows[1].keys()):
        delegate, threads = key
        what = f"{delegate}{f', {threads} threads' if threads > 1 else ''}, median ms"
        one, other = rows[0].get(key), rows[1].get(key)
        why = _why_not(one, other)
        if why or one is None or other is None:
            shown = _median(one), _median(other)
            found.append(Change(old.label, what, *shown, "", NOT_COMPARED, why))
            continue
        ratios = _ratios(one, other)
        if ratios:
            what = f"{what.removesuffix(', median ms')}, ratio to {one.first.removesuffix('.tflite')}"
        before, after = ratios or (one.result["median_ms"], other.result["median_ms"])
        change = _percent(old.label, what, before, after, tolerances.latency_percent, "{:.3f}")
        if same_bytes and change.status == WORSE:
            change = dataclasses.replace(change, status=NOT_COMPARED, why="the same bytes: the machine was slower, not the file")
        found.append(change)
    return found


def _ratios(one: HostRow, other: HostRow) -> tuple[float, float] | None:
    """Of both rows to the same other file; None where a row is that file's own, or has no ratio."""
    before, after = (row.result.get("ratio") for row in (one, other))
    own = [row.first == PurePosixPath(row.result["file"].replace("\\", "/")).name for row in (one, other)]
    if before is None or after is None or one.first != other.first or any(own):
        return None
    return before, after


def _why_not(one: HostRow | None, other: HostRow | None) -> str:
    if one is None or other is None:
        return "only one of them was measured"
    if one.result["software_gpu"] or other.result["software_gpu"]:
        return "a software GPU's milliseconds mean nothing"
    if not one.usable or not other.usable:
        return "not a valid measurement"
    different = [name for name in _MACHINE if one.environment.get(name) != other.environment.get(name)]
    return f"another machine: {', '.join(different)} differ" if different else ""


def markdown(document: Mapping[str, Any]) -> str:
    """For a pull request or a CI summary: the verdict, what is worse, then all that is not the same."""
    changes = document["changes"]
    worse = [change for change in changes if change["status"] == WORSE]
    moved = [change for change in changes if change["status"] not in (SAME, WORSE)]
    files = list(dict.fromkeys(change["file"] for change in changes))
    verdict = "nothing got worse" if not worse else f"{len(worse)} figure{'s' if len(worse) != 1 else ''} got worse"
    lines = [f"<!-- {TEXT_MARK} -->", f"## {_text(document['before'])} → {_text(document['after'])}: {verdict}", ""]
    lines.append(
        f"{len(files)} file{'s' if len(files) != 1 else ''}, {sum(change['status'] == SAME for change in changes)} figures the same."
    )
    for title, rows in (("Worse", worse), ("Changed", moved)):
        if rows:
            lines += ["", f"### {title}", "", "| file | what | before | after | change | |", "|---|---|--:|--:|--:|---|"]
            for row in rows:
                words = f"{row['status']}: {row['why']}" if row["why"] else row["status"]
                cells = (row["file"], row["what"], row["before"] or "–", row["after"] or "–", row["change"], words)
                lines.append("| " + " | ".join(_text(cell) for cell in cells) + " |")
    limits = document["tolerances"]
    lines += [
        "",
        f"Not worse: {limits['size_percent']:g} % more bytes, {limits['ops_percent']:g} % more operations, {limits['partitions']:g} more "
        f"partitions, {limits['snr_db']:g} dB, {limits['agreement_points']:g} points of equal top-1, {limits['top1_points']:g} points of "
        f"top-1, {limits['latency_percent']:g} % slower.",
    ]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    """Escaped: a name makes no markup, no table cell and no link."""
    return re.sub(r"([\\`*_{}\[\]|#~!])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
