"""The page behind the verdict: one function a section, in the order of the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from edge.report import device, tables
from edge.report.checks import Check
from edge.report.elements import Block, Section, pairs_table, words_table
from edge.report.inputs import FileFacts, HostRow, Inputs
from edge.report.plots import LIMIT_NOTE, Bar, Plot, Plots, Point, Spread
from edge.report.recommend import Recommendation
from edge.report.validation_section import validation_section


def sections(inputs: Inputs, found: Sequence[Check], recommended: Sequence[Recommendation]) -> list[Section]:
    plots = Plots()
    if not inputs.files:
        return [section for section in (_devices(inputs, plots), _sources(inputs)) if section.blocks]
    made = [
        Section(
            "files",
            "Files",
            (Block(tables=(tables.files_table(inputs, found),)), Block("Every check", tables=(tables.checks_table(found),), folded=True)),
        ),
        _overview(inputs, recommended, plots),
        _latency(inputs, plots),
        _drift(inputs, plots),
        validation_section(inputs, plots),
        _delegates(inputs, plots),
        _devices(inputs, plots),
        _calibration(inputs),
        _environment(inputs),
        _sources(inputs),
    ]
    return [section for section in made if section.blocks]


def _overview(inputs: Inputs, recommended: Sequence[Recommendation], plots: Plots) -> Section:
    blocks = []
    for model in dict.fromkeys(one.model for one in recommended):
        files = [facts for facts in inputs.files if facts.model == model]
        chosen: dict[str, list[str]] = {}
        for one in recommended:
            if one.model == model and one.file:
                chosen.setdefault(one.file, []).append(one.target)
        names = _short_names(files)
        labels = {
            facts.label: names[facts.label] + (f" ★ {'/'.join(chosen[facts.label])}" if facts.label in chosen else "") for facts in files
        }
        failed = {facts.label: not facts.manifest["drift"]["passed"] or facts.state != "intact" for facts in files}
        strong = {facts.label: facts.label in chosen or not chosen for facts in files}

        def bar(facts: FileFacts, value: float | None, text: str, labels=labels, failed=failed, strong=strong) -> Bar:
            return Bar(labels[facts.label], value, text, bad=failed[facts.label], strong=strong[facts.label])

        drawn = [plots.bars("Size", "MB", [bar(facts, facts.size_bytes / 1e6, f"{facts.size_bytes / 1e6:.2f}") for facts in files])]
        group = _common_group(files)
        if group:
            bars = []
            for facts in files:
                row = next((row for row in facts.host if row.group == group and row.measured), None)
                text = "not measured" if row is None else f"{row.result['median_ms']:.2f}" + ("" if row.usable else " not valid")
                bars.append(bar(facts, row.result["median_ms"] if row else None, text))
            drawn.append(plots.bars(f"Latency, CPU, {_threads(group[2])}", "ms, median", bars, f"From {group[0]}."))
        drawn.append(_accuracy_plot(files, bar, plots))
        words = ["In colour, with a ★: recommended for the targets behind the ★. The figures are in the table of files above."]
        if files[0].random:
            words.append("RANDOM weights: accuracy means nothing here; the logits' SNR says how exact the arithmetic is.")
        blocks.append(Block(model, tuple(words), tuple(drawn)))
    return Section("overview", "Size, latency, accuracy", tuple(blocks))


def _accuracy_plot(files: Sequence[FileFacts], bar: Any, plots: Plots) -> Plot:
    """Top-1 where every file was validated on the same labelled images, else the logits SNR of the manifests."""
    documents = {facts.label: next((d.content for d in facts.validations if d.content["accuracy"]), None) for facts in files}
    known = [content for content in documents.values() if content]
    if len(known) == len(files) and len({content["images"]["sha256"] for content in known}) == 1:
        points = []
        for facts, content in zip(files, known, strict=True):
            top1 = {key: 100 * value for key, value in content["accuracy"]["target"]["top1"].items()}
            drawn = bar(facts, top1["value"], f"{top1['value']:.2f}")
            points.append(Point(drawn.label, drawn.value, drawn.text, top1["low"], top1["high"], bad=drawn.bad, strong=drawn.strong))
        keras = 100 * known[0]["accuracy"]["reference"]["top1"]["value"]
        return plots.points("Top-1 accuracy", "%", points, "Line: 95 % interval; broken line: float Keras model.", keras)
    bars = []
    for facts in files:
        snr = facts.manifest["drift"]["logits_snr_db"]
        bars.append(bar(facts, snr, "not finite" if snr is None else f"{snr:.1f}"))
    return plots.bars("Logits SNR against Keras", "dB", bars)


def _common_group(files: Sequence[FileFacts]) -> tuple[str, str, int] | None:
    """The CPU run with most of the files. Ties go to fewer threads, then to more valid rows."""
    counts: dict[tuple[str, str, int], tuple[int, int]] = {}
    for facts in files:
        for row in facts.host:
            if row.measured and row.result["delegate"] == "cpu":
                rows, usable = counts.get(row.group, (0, 0))
                counts[row.group] = rows + 1, usable + row.usable
    return min(counts, key=lambda group: (-counts[group][0], group[2], -counts[group][1], group[0])) if counts else None


def _latency(inputs: Inputs, plots: Plots) -> Section:
    blocks = []
    for document in inputs.benchmarks:
        groups: dict[tuple[str, str, int], list[tuple[FileFacts, HostRow]]] = {}
        for facts in inputs.files:
            for row in facts.host:
                if row.run == document.label:
                    groups.setdefault(row.group, []).append((facts, row))
        for (_, delegate, threads), rows in sorted(groups.items()):
            software = any(row.result["software_gpu"] for _, row in rows)
            drawn = [
                Spread(
                    facts.label,
                    *(row.result[key] for key in ("p5_ms", "median_ms", "p90_ms", "p95_ms", "min_ms")),
                    valid=row.result["valid"],
                )
                for facts, row in rows
                if row.measured and not row.result["software_gpu"]
            ]
            title = f"{document.label}: {delegate}{f', {_threads(threads)}' if threads else ''}{' (software GPU)' if software else ''}"
            environment = document.content["environment"]
            words = [f"{environment['cpu']}, {environment['cores']} cores, {environment['system']}, {environment['runtime']}"]
            if software:
                words.append("Software GPU: these milliseconds say nothing about a GPU, are not drawn and are compared with nothing.")
            preset = document.content["preset"]
            least = f"{preset['min_runs']} runs and {preset['min_seconds']:g} s a file"
            words.append(f"A run is one inference with its outputs read back. At least {least}; files take turns.")
            drawings = (plots.spreads("Distribution", drawn),) if drawn else ()
            remarks = tuple(f"{facts.label}: {'; '.join(row.remarks)}" for facts, row in rows if row.remarks)
            blocks.append(Block(title, tuple(words), drawings, (tables.host_table(rows, f"Latency, {title}"),), remarks))
    return Section("latency", "Latency (edge.benchmark)", tuple(blocks))


def _drift(inputs: Inputs, plots: Plots) -> Section:
    names = _short_names(inputs.files)
    snr, same = [], []
    for facts in inputs.files:
        drift = facts.manifest["drift"]
        bad, limits = not drift["passed"], drift["limits"]
        value = drift["logits_snr_db"]
        snr.append(Bar(names[facts.label], value, "not finite" if value is None else f"{value:.1f}", bad, limits["min_snr_db"]))
        if not facts.random:
            value = drift["top1_agreement"]
            text = "not finite" if value is None else f"{100 * value:.2f}"
            same.append(
                Point(names[facts.label], None if value is None else 100 * value, text, limit=100 * limits["min_agreement"], bad=bad)
            )
    drawn = [plots.bars("Logits SNR", "dB", snr, LIMIT_NOTE)]
    if same:
        drawn.append(plots.points("Same top-1 as Keras", "% of images", same, LIMIT_NOTE))
    words = ("Each file against the float Keras model, measured when it was converted, on images it was not calibrated on.",)
    repaired = tables.repairs_table(inputs)
    others = tables.other_outputs_table(inputs)
    blocks = [Block("", words, tuple(drawn), (tables.drift_table(inputs), *([others] if others else ())))]
    if repaired:
        blocks.append(Block("Layers demoted by repair", tables=(repaired,), folded=True))
    return Section("drift", "Drift", tuple(blocks))


def _delegates(inputs: Inputs, plots: Plots) -> Section:
    names = _short_names(inputs.files)
    bases = sorted({facts.manifest["delegates"]["gpu"]["basis"] for facts in inputs.files})
    rows = []
    for facts in inputs.files:
        xnnpack = facts.manifest["delegates"]["xnnpack"]
        rows.append((names[facts.label], xnnpack["delegated_ops"], xnnpack["total_ops"]))
    blocks = [
        Block(
            "",
            (f"XNNPACK (CPU): measured by loading the file. GPU delegate: {'; '.join(bases)}.",),
            (plots.coverage("What XNNPACK takes", rows),),
            (tables.delegates_table(inputs),),
        )
    ]
    refusals = tables.refusals_table(inputs)
    if refusals:
        blocks.append(Block("Why not the GPU", tables=(refusals,), folded=True))
    blocks.append(Block("Operations", tables=(tables.operations_table(inputs),), folded=True))
    return Section("delegates", "Delegate coverage", tuple(blocks))


def _devices(inputs: Inputs, plots: Plots) -> Section:
    blocks = []
    for document in inputs.devices:
        rows = [(facts.label, row) for facts in inputs.files for row in facts.phone if row.document == document.label]
        if not inputs.files:  # phones alone
            rows = [(row.result["name"], row) for row in device.rows(document)]
        if not rows:
            continue
        name = rows[0][1].device
        drawn = [
            Spread(
                f"{label}, {row.result['backend_used']}{'' if row.as_asked else ', not as asked'}",
                *(row.result[key] for key in ("p5_ms", "median_ms", "p90_ms", "p95_ms", "min_ms")),
                valid=row.result["valid"],
            )
            for label, row in rows
        ]
        words = [f"{document.label}: {', '.join(f'{what} {value}' for what, value in device.description(document))}."]
        in_browser = document.content["device"]["kind"] == device.BROWSER
        if not rows[0][1].is_phone:
            words.append(f"{name}: these milliseconds are not {'an app' if in_browser else 'a phone'}'s.")
        by = "by LiteRT.js in a browser" if in_browser else "by the app on the device"
        words.append(f"Measured {by}. These rows are never mixed with those of edge.benchmark.")
        remarks = tuple(f"{label}, {row.result['backend_used']}: {'; '.join(row.remarks)}" for label, row in rows if row.remarks)
        remarks += tuple(f"not measured: {failure}" for failure in document.content.get("failures", ()))
        table = tables.phone_table(rows, f"Latency, {name}")
        blocks.append(Block(name, tuple(words), (plots.spreads("Distribution", drawn),), (table,), remarks))
    return Section("devices", "Phones and other devices", tuple(blocks))


def _calibration(inputs: Inputs) -> Section:
    blocks = [Block("", (), (), (tables.calibration_table(inputs),))]
    for document in inputs.calibrations:
        content = document.content
        users = [facts.label for facts in inputs.files if (facts.manifest.get("calibration") or {}).get("source") == content["source"]]
        used = f"used by {', '.join(users)}" if users else "used by none of these files"
        state = "fit to calibrate with" if content["passed"] else "NOT fit to calibrate with"
        words = (
            f"{content['images']['readable']} readable of {content['images']['found']} images, {state} for {content['variant']}; {used}.",
        )
        blocks.append(
            Block(f"Checks of {content['source']}", words, (), (tables.image_checks_table(content, f"Checks of {content['source']}"),))
        )
    if not inputs.calibrations:
        sources = {(facts.manifest.get("calibration") or {}).get("source") for facts in inputs.files}
        own = sorted(source for source in sources if source is not None and source != "builtin")
        missing = (
            f"; python -m calibration.inspect {own[0]} --json checks it"
            if own
            else ": the built-in set is generated, and checked by the tool's own tests"
        )
        blocks[0] = dataclasses.replace(blocks[0], words=(f"No checks of the images are in the folder{missing}.",) if sources else ())
    return Section("calibration", "Calibration", tuple(blocks))


def _environment(inputs: Inputs) -> Section:
    machines: dict[tuple[tuple[str, Any], ...], list[str]] = {}
    for document in inputs.benchmarks:
        machines.setdefault(tuple(sorted(document.content["environment"].items())), []).append(document.label)
    for facts in inputs.files:
        for document in facts.validations:
            pairs = {**document.content["machine"], "runtime": document.content["runtime"]}
            machines.setdefault(tuple(sorted(pairs.items())), []).append(document.label)
    blocks = [Block(tables=(tables.versions_table(inputs),))]
    for pairs, labels in machines.items():
        title = f"Machine of {', '.join(dict.fromkeys(labels))}"
        blocks.append(Block(title, tables=(pairs_table("Machine", pairs),), folded=True))
    return Section("environment", "Environment and versions", tuple(blocks))


def _sources(inputs: Inputs) -> Section:
    blocks = [
        Block(
            "",
            tables=(words_table("Made from", ("document", "what it is", "SHA-256"), inputs.sources),),
        ),
        Block(
            "The files' hashes",
            tables=(
                words_table(
                    "The files' hashes",
                    ("file", "state", "SHA-256 in the manifest", "SHA-256 of the file"),
                    [
                        (f"{facts.label}.tflite", facts.state, facts.manifest["file"]["sha256"], facts.found_sha256 or "–")
                        for facts in inputs.files
                    ],
                ),
            ),
            folded=True,
        ),
    ]
    if inputs.apart:
        table = words_table("For other files", ("document", "result", "why it is not shown above"), inputs.apart)
        blocks.insert(0, Block("For other files, listed apart", tables=(table,)))
    return Section("inputs", "What this was made from", tuple(blocks))


def _short_names(files: Sequence[FileFacts]) -> dict[str, str]:
    """Label -> recipe where recipes tell the files apart, else label -> label."""
    recipes = [facts.recipe for facts in files]
    distinct = len(set(recipes)) == len(recipes)
    return {facts.label: facts.recipe if distinct else facts.label for facts in files}


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count != 1 else ''}"
