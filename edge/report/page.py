"""The page: sections of sentences, plots and tables, put together as data and rendered once."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from edge.report import device, tables
from edge.report.checks import Check, failures
from edge.report.inputs import FileFacts, HostRow, Inputs
from edge.report.plots import Bar, Plot, Plots, Point, Spread
from edge.report.recommend import MEASURED, NOTHING, Recommendation
from edge.report.tables import Table

SCHEMA_VERSION = 1
# what a picture may be: nothing that is fetched, nothing that holds a script
_THUMBNAIL = re.compile(r"data:image/(?:png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2}")
_MOST_LAYERS, _MOST_CLASSES = 16, 20
_LIMIT = "Upright: the least allowed."


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of a section; folded where only some readers want it."""

    title: str = ""
    words: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    remarks: tuple[str, ...] = ()
    flips: tuple[Mapping[str, Any], ...] = ()
    inside: tuple[Block, ...] = ()
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Section:
    """An entry of the table of contents."""

    id: str
    title: str
    blocks: tuple[Block, ...]


def report_document(inputs: Inputs, found: Sequence[Check], recommended: Sequence[Recommendation], version: str) -> dict[str, Any]:
    """What `report.json` says: the verdict, what to ship, the checks, what it was made from."""
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
        "size_bytes": facts.size_bytes,
        "drift": {name: drift[name] for name in ("samples", "top1_agreement", "logits_snr_db", "limits", "passed")},
        "xnnpack": {name: facts.manifest["delegates"]["xnnpack"][name] for name in ("delegated_ops", "total_ops", "partitions")},
        "gpu": facts.manifest["delegates"]["gpu"]["verdict"],
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
    """In sentences: what passed, what failed, what to ship."""
    failed = failures(found)
    files = {check.file for check in found}
    bad = sorted({check.file for check in failed})
    if failed:
        sentences = [f"{len(failed)} of {len(found)} checks failed, in {len(bad)} of {len(files)} files: {', '.join(bad)}."]
    else:
        sentences = [f"All {len(found)} checks of {len(files)} file{'s' if len(files) != 1 else ''} passed."]
    for model in dict.fromkeys(one.model for one in recommended):
        own = [one for one in recommended if one.model == model]
        chosen = [f"{one.file} on {one.target}s ({one.basis})" for one in own if one.file]
        missing = [f"{one.target}s" for one in own if not one.file]
        start = "ship" if any(one.ships for one in own) else "nothing to ship before it has real weights; the best of these files are"
        parts = [f"{start} {', '.join(chosen)}"] if chosen else []
        parts += [f"nothing to recommend yet for {', '.join(missing)}"] if missing else []
        sentences.append(f"{model}: {'; '.join(parts)}.")
    return sentences


def warnings(inputs: Inputs) -> list[str]:
    """What a reader must not miss, beside failed checks."""
    found = []
    random = [facts.label for facts in inputs.files if facts.random]
    if random:
        found.append(f"RANDOM weights: {', '.join(random)}. Size, operations and latency hold for real weights too; answers mean nothing.")
    if any(row.result["software_gpu"] for facts in inputs.files for row in facts.host):
        found.append("A software GPU computes on the CPU: that it takes a file means something, its milliseconds do not.")
    doubtful = sorted({facts.label for facts in inputs.files for row in facts.host if row.measured and not row.result["valid"]})
    if doubtful:
        found.append(f"Measurements that are not valid, with the reasons below: {', '.join(doubtful)}.")
    devices = sorted({row.device for facts in inputs.files for row in facts.phone if not row.is_phone})
    if devices:
        found.append(f"Not phones: {', '.join(devices)}.")
    unvalidated = [facts.label for facts in inputs.files if not facts.validations and not facts.random]
    if unvalidated:
        found.append(f"Not validated on images, known by their drift gate alone: {', '.join(unvalidated)}.")
    if inputs.apart:
        found.append(f"{len(inputs.apart)} result{'s' if len(inputs.apart) != 1 else ''} for other files, listed apart.")
    return found + list(inputs.notes)


def render(inputs: Inputs, found: Sequence[Check], recommended: Sequence[Recommendation], version: str) -> str:
    """The HTML page. Equal inputs give equal pages."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    script, style = _text("page.js"), _text("page.css")
    sentences = verdict(found, recommended)
    return environment.from_string(_text("page.html.jinja")).render(
        title=f"Report on {inputs.title}",
        version=version,
        passed=not failures(found),
        sentences=sentences,
        failed=failures(found),
        warnings=warnings(inputs),
        models={model: [one for one in recommended if one.model == model] for model in dict.fromkeys(one.model for one in recommended)},
        anchors={facts.label: tables.anchor(inputs, facts.label) for facts in inputs.files},
        MEASURED=MEASURED,
        NOTHING=NOTHING,
        sections=sections(inputs, found, recommended),
        script=Markup(script),
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=Markup(style),
        svg=Markup,
    )


def sections(inputs: Inputs, found: Sequence[Check], recommended: Sequence[Recommendation]) -> list[Section]:
    """Everything behind the verdict."""
    plots = Plots()
    made = [
        Section(
            "files",
            "Files",
            (Block(tables=(tables.files_table(inputs, found),)), Block("Every check", tables=(tables.checks_table(found),), folded=True)),
        ),
        _overview(inputs, recommended, plots),
        _latency(inputs, plots),
        _drift(inputs, plots),
        _validations(inputs, plots),
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
        words = ["In colour and with a ★: recommended, for the targets behind it. The figures are in the table of files above."]
        if files[0].random:
            words.append("RANDOM weights: accuracy means nothing here; the logits' SNR says how exact the arithmetic is.")
        blocks.append(Block(model, tuple(words), tuple(drawn)))
    return Section("overview", "Size, latency, accuracy", tuple(blocks))


def _accuracy_plot(files: Sequence[FileFacts], bar: Any, plots: Plots) -> Plot:
    """Top-1 where every file was validated with labels, else the drift the manifests know."""
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
    """The CPU run that has most of the files; of equals the one with fewest threads, then with most valid rows."""
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
            words.append(
                f"One inference, outputs read back; at least {preset['min_runs']} runs and {preset['min_seconds']:g} s, files in turns."
            )
            drawings = (plots.spreads("Distribution", drawn),) if drawn else ()
            remarks = tuple(f"{facts.label}: {'; '.join(row.remarks)}" for facts, row in rows if row.remarks)
            blocks.append(Block(title, tuple(words), drawings, (tables.host_table(rows, f"Latency, {title}"),), remarks))
    return Section("latency", "Latency on this side", tuple(blocks))


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
    drawn = [plots.bars("Logits SNR", "dB", snr, _LIMIT)]
    if same:
        drawn.append(plots.points("Same top-1 as Keras", "% of images", same, _LIMIT))
    words = ("Each file against the float Keras model, on images it was not calibrated on, when it was converted.",)
    repaired = tables.repairs_table(inputs)
    blocks = [Block("", words, tuple(drawn), (tables.drift_table(inputs),))]
    if repaired:
        blocks.append(Block("Layers demoted by repair", tables=(repaired,), folded=True))
    return Section("drift", "Drift", tuple(blocks))


def _validations(inputs: Inputs, plots: Plots) -> Section:
    rows = [(facts, document) for facts in inputs.files for document in facts.validations]
    if not rows:
        return Section("validation", "Validation on images", ())
    same = []
    for facts, document in rows:
        total = next((one["metrics"]["top1_agreement"] for one in document.content["differences"] if one["name"] == "total"), None)
        if total and not facts.random:
            value, low, high = (100 * total[key] for key in ("value", "low", "high"))
            limit = document.content["gate"]["limits"].get("min_agreement")
            bad = not document.content["gate"]["passed"]
            same.append(Point(facts.label, value, f"{value:.2f}", low, high, None if limit is None else 100 * limit, bad))
    drawn = (plots.points("Same top-1 as Keras", "% of images", same, f"Line: 95 % interval. {_LIMIT}"),) if same else ()
    table = tables.validations_table([(facts, document.content) for facts, document in rows])
    blocks = [Block("", ("Float Keras model against file, the whole way. Each file's share of it is below.",), drawn, (table,))]
    return Section("validation", "Validation on images", (*blocks, *(_validation(facts, d.label, d.content, plots) for facts, d in rows)))


def _validation(facts: FileFacts, source: str, content: Mapping[str, Any], plots: Plots) -> Block:
    images, gate, confidence = content["images"], content["gate"], content["confidence"]
    words = [
        f"{images['number']} images of {images['source']}{' with labels' if images['labelled'] else ''}, from {source}. "
        f"The gate {'passed' if gate['passed'] else 'FAILED: ' + '; '.join(gate['failures'])}."
    ]
    if facts.random:
        words.append("RANDOM weights: the answers mean nothing.")
    accuracy = content["accuracy"]
    if accuracy:
        p = accuracy["mcnemar_p"]
        words.append(
            f"Only Keras was right on {accuracy['only_reference_right']}, only the file on {accuracy['only_target_right']} images"
            + (f" (McNemar p = {p:.2g})." if p is not None else ".")
        )
    if confidence["mean_change"] is not None:
        words.append(f"Mean confidence changed by {100 * confidence['mean_change']:+.2f} points.")
    words += [f"Sign of a broken file: {sentence}." for sentence in content["collapse"]]
    if content["non_finite"]:
        words.append(f"NaN or infinite answers to {len(content['non_finite'])} images, first {content['non_finite'][0]}.")
    if images["skipped"]:
        words.append(
            f"{len(images['skipped'])} images were skipped, first {images['skipped'][0]['path']}: {images['skipped'][0]['reason']}."
        )
    shown = [tables.differences_table(content)]
    if accuracy:
        shown.append(tables.accuracy_table(content))
    proof = tables.proof_table(content)
    inside = []
    if content["flipped"]["number"]:
        inside.append(_flips(content))
    if accuracy:
        inside.append(_classes(accuracy, plots))
        sides = accuracy["reference"]["reliability"], accuracy["target"]["reliability"]
        inside.append(Block("How sure, how right", (), (plots.reliability("Reliability", *sides),), (tables.reliability_table(content),)))
    if content["layers"]:
        inside.append(_layers(content, plots))
    found = tuple(shown + ([proof] if proof else []))
    return Block(f"{facts.label} on {images['source']}", tuple(words), (), found, inside=tuple(inside), folded=True)


def _flips(content: Mapping[str, Any]) -> Block:
    shown = []
    for one in content["flipped"]["shown"]:
        picture = one.get("thumbnail")
        shown.append({**one, "thumbnail": picture if isinstance(picture, str) and _THUMBNAIL.fullmatch(picture) else None})
    flipped, number = content["flipped"]["number"], content["images"]["number"]
    words = f"Another top-1 than Keras on {flipped} of {number} images" + (f"; {len(shown)} are shown." if len(shown) < flipped else ".")
    return Block(f"Images whose answer flipped ({flipped})", (words,), flips=tuple(shown))


def _classes(accuracy: Mapping[str, Any], plots: Plots) -> Block:
    rows = [one for one in accuracy["per_class"] if one["images"]]
    rows.sort(key=lambda one: ((one["target_right"] - one["reference_right"]) / one["images"], one["label"]))
    drawn = [
        (one["label"], 100 * one["reference_right"] / one["images"], 100 * one["target_right"] / one["images"])
        for one in rows[:_MOST_CLASSES]
    ]
    words = (f"The {_MOST_CLASSES} classes that lost most are drawn.",) if len(rows) > _MOST_CLASSES else ()
    pictures = (plots.pairs("Right answers by class", "% of the class's images", drawn),) if drawn else ()
    return Block("Classes", words, pictures, (tables.class_table(accuracy),))


def _layers(content: Mapping[str, Any], plots: Plots) -> Block:
    layers = content["layers"]
    finite = [row for row in layers["rows"] if row["own_snr_db"] is not None][:_MOST_LAYERS]
    words = ["A layer's own error is what it adds, given the inputs it really got; the other column is what has piled up by there."]
    if layers.get("worst"):
        words.append(f"Worst by itself: {layers['worst']}.")
    bars = [Bar(row["layer"], row["own_snr_db"], f"{row['own_snr_db']:.1f}") for row in finite]
    drawn = (plots.bars(f"Own SNR of the {len(bars)} worst layers", "dB", bars),) if bars else ()
    return Block("Drift by layer", tuple(words), drawn, (tables.layers_table(content),))


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
        if not rows[0][1].is_phone:
            words.append(f"{name}: these milliseconds are not a phone's.")
        words.append("Measured by the app, beside the rows of this side and never mixed with them.")
        remarks = tuple(f"{label}, {row.result['backend_used']}: {'; '.join(row.remarks)}" for label, row in rows if row.remarks)
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
        sources = {(facts.manifest.get("calibration") or {}).get("source") for facts in inputs.files} - {None}
        own = sorted(source for source in sources if source != "builtin")
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
        blocks.append(Block(title, tables=(tables.pairs_table("Machine", pairs),), folded=True))
    return Section("environment", "Environment and versions", tuple(blocks))


def _sources(inputs: Inputs) -> Section:
    blocks = [
        Block(
            "",
            tables=(tables.words_table("Made from", ("document", "what it is", "SHA-256"), inputs.sources),),
        ),
        Block(
            "The files' hashes",
            tables=(
                tables.words_table(
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
        table = tables.words_table("For other files", ("document", "result", "why it is not shown above"), inputs.apart)
        blocks.insert(0, Block("For other files, listed apart", tables=(table,)))
    return Section("inputs", "What this was made from", tuple(blocks))


def _short_names(files: Sequence[FileFacts]) -> dict[str, str]:
    """Recipes where they tell the files apart, else labels."""
    recipes = [facts.recipe for facts in files]
    distinct = len(set(recipes)) == len(recipes)
    return {facts.label: facts.recipe if distinct else facts.label for facts in files}


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count != 1 else ''}"


def _text(name: str) -> str:
    return resources.files("edge.report").joinpath(name).read_text(encoding="utf-8")


def to_json(document: Mapping[str, Any]) -> str:
    """As `report.json` is written."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
