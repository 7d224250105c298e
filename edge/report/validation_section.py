"""The section on validations: a line for each, and folded behind it where the difference comes from, image by image and layer by layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edge.report.inputs import FileFacts, Inputs
from edge.report.plots import LIMIT_NOTE, Bar, Plots, Point
from edge.report.tables import BAD, GOOD, NOTHING, WARN, Block, Cell, Section, Table, columns, number, significant

# what a picture may be: nothing that is fetched, nothing that holds a script
_THUMBNAIL = re.compile(r"data:image/(?:png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2}")
_MOST_LAYERS, _MOST_CLASSES = 16, 20


def validation_section(inputs: Inputs, plots: Plots) -> Section:
    """All validations of all files; without any, a section without blocks."""
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
    drawn = (plots.points("Same top-1 as Keras", "% of images", same, f"Line: 95 % interval. {LIMIT_NOTE}"),) if same else ()
    table = validations_table([(facts, document.content) for facts, document in rows])
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
    shown = [differences_table(content)]
    if accuracy:
        shown.append(accuracy_table(content))
    proof = proof_table(content)
    inside = []
    if content["flipped"]["number"]:
        inside.append(_flips(content))
    if accuracy:
        inside.append(_classes(accuracy, plots))
        sides = accuracy["reference"]["reliability"], accuracy["target"]["reliability"]
        inside.append(Block("How sure, how right", (), (plots.reliability("Reliability", *sides),), (reliability_table(content),)))
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
    return Block("Classes", words, pictures, (class_table(accuracy),))


def _layers(content: Mapping[str, Any], plots: Plots) -> Block:
    layers = content["layers"]
    finite = [row for row in layers["rows"] if row["own_snr_db"] is not None][:_MOST_LAYERS]
    words = ["A layer's own error is what it adds, given the inputs it really got; the other column is what has piled up by there."]
    if layers.get("worst"):
        words.append(f"Worst by itself: {layers['worst']}.")
    bars = [Bar(row["layer"], row["own_snr_db"], f"{row['own_snr_db']:.1f}") for row in finite]
    drawn = (plots.bars(f"Own SNR of the {len(bars)} worst layers", "dB", bars),) if bars else ()
    return Block("Drift by layer", tuple(words), drawn, (layers_table(content),))


def validations_table(rows: Sequence[tuple[FileFacts, Mapping[str, Any]]]) -> Table:
    """One row a validation: what the whole way from the float Keras model to the file costs."""
    cells = []
    for facts, content in rows:
        total = next((one["metrics"] for one in content["differences"] if one["name"] == "total"), {})
        accuracy, passed = content["accuracy"], content["gate"]["passed"]
        change = accuracy["top1_change"] if accuracy else None
        cells.append(
            (
                Cell(facts.label + (" (RANDOM weights)" if facts.random else "")),
                Cell("passed" if passed else "failed", float(passed), GOOD if passed else BAD),
                _share(accuracy["target"]["top1"] if accuracy else None),
                _share(accuracy["reference"]["top1"] if accuracy else None),
                Cell(NOTHING) if change is None else _points(change),
                _share(total.get("top1_agreement")),
                number(total.get("logits_snr_db"), 1),
                number(content["flipped"]["number"], 0),
                number(content["images"]["number"], 0),
                Cell(content["images"]["source"]),
            )
        )
    titles = columns(
        "file",
        "gate",
        "#top-1 % (95 % interval)",
        "#Keras top-1 %",
        "#change, points",
        "#same top-1 as Keras %",
        "#logits SNR dB",
        "#flipped",
        "#images",
        "source",
    )
    return Table("Validations", titles, tuple(cells))


def differences_table(content: Mapping[str, Any]) -> Table:
    """The differences of a validation, each between two sets of answers to the same images."""
    rows = []
    for one in content["differences"]:
        metrics = one["metrics"]
        rows.append(
            (
                Cell(one["name"]),
                Cell(f"{one['reference']} → {one['target']}"),
                number(metrics["samples"], 0),
                _share(metrics["top1_agreement"]),
                _share(metrics["top1_in_top5"]),
                number(metrics["top5_overlap"], 2, 100),
                Cell("identical", 200.0) if one["identical"] else number(metrics["logits_snr_db"], 1),
                number(metrics["cosine"], 6),
                significant(metrics["kl"]),
                significant(metrics["max_abs_err"]),
            )
        )
    titles = columns(
        "difference",
        "between",
        "#images",
        "#same top-1 % (95 % interval)",
        "#top-1 in top-5 %",
        "#top-5 overlap %",
        "#logits SNR dB",
        "#cosine",
        "#KL",
        "#largest error of a probability",
    )
    return Table("Where the differences come from", titles, tuple(rows))


def accuracy_table(content: Mapping[str, Any]) -> Table:
    """Labelled images: both sides and the change."""
    accuracy = content["accuracy"]
    rows = [
        (
            Cell(words),
            _share(accuracy[side]["top1"]),
            _share(accuracy[side]["top5"]),
            number(accuracy[side]["mean_confidence"], 2, 100),
            number(accuracy[side]["ece"], 3),
        )
        for side, words in (("reference", "float Keras model"), ("target", content["file"]))
    ]
    rows.append((Cell("change, points"), _points(accuracy["top1_change"]), Cell(NOTHING), Cell(NOTHING), Cell(NOTHING)))
    titles = columns("answers of", "#top-1 % (95 % interval)", "#top-5 %", "#mean confidence %", "#calibration error (ECE)")
    return Table("Accuracy", titles, tuple(rows))


def proof_table(content: Mapping[str, Any]) -> Table | None:
    """Whether the images are enough to prove each limit."""
    rows = [
        (
            Cell(one["limit"]),
            number(one["claimed"], 4),
            number(one["measured"], 4),
            number(one["low"] if one.get("low") is not None else one.get("high"), 4),
            Cell("proved", 1.0, GOOD) if one["proved"] else Cell("not proved", 0.0, WARN),
            number(one.get("images_needed"), 0),
        )
        for one in content["gate"].get("proof", [])
    ]
    titles = columns("limit", "#claimed", "#measured", "#worse end of the 95 % interval", "by these images", "#images needed")
    return Table("What these images prove", titles, tuple(rows)) if rows else None


def class_table(accuracy: Mapping[str, Any]) -> Table:
    """Right answers by class, those that lost most first."""
    rows = []
    for one in sorted(accuracy["per_class"], key=lambda one: (one["target_right"] - one["reference_right"], one["label"])):
        change = one["target_right"] - one["reference_right"]
        rows.append(
            (
                Cell(one["label"]),
                number(one["images"], 0),
                number(one["reference_right"], 0),
                number(one["target_right"], 0),
                Cell(f"{change:+d}", float(change)),
                number(change / one["images"] if one["images"] else None, 2, 100),
            )
        )
    titles = columns("class", "#images", "#right: Keras", "#right: file", "#change", "#change, points")
    return Table("Right answers by class", titles, tuple(rows))


def layers_table(content: Mapping[str, Any]) -> Table:
    """The layers' own errors, and what has piled up by there."""
    rows = [
        (
            Cell(row["layer"]),
            Cell(row["mode"]),
            number(row["own_snr_db"], 1),
            number(row["snr_db"], 1),
            number(row.get("own_cosine"), 6),
            number(row.get("cosine"), 6),
        )
        for row in content["layers"]["rows"]
    ]
    titles = columns("layer", "mode", "#own SNR dB", "#SNR dB piled up", "#own cosine", "#cosine")
    return Table(f"Drift by layer, on {content['layers']['images']} images", titles, tuple(rows))


def reliability_table(content: Mapping[str, Any]) -> Table:
    """Confidence against accuracy, by bin, of both sides."""
    sides = content["accuracy"]["reference"]["reliability"], content["accuracy"]["target"]["reliability"]
    rows = [
        (
            Cell(f"{one['low']:.3f} to {one['high']:.3f}", one["low"]),
            number(one["count"], 0),
            number(one["accuracy"], 3),
            number(other["count"], 0),
            number(other["accuracy"], 3),
        )
        for one, other in zip(*sides, strict=False)
        if one["count"] or other["count"]
    ]
    titles = columns("#confidence", "#images: Keras", "#right: Keras", "#images: file", "#right: file")
    return Table("Confidence against accuracy", titles, tuple(rows))


def _share(proportion: Mapping[str, float] | None) -> Cell:
    """A proportion with its interval, in per cent."""
    if proportion is None:
        return Cell(NOTHING)
    value, low, high = (100 * proportion[key] for key in ("value", "low", "high"))
    return Cell(f"{value:.2f} ({low:.2f} to {high:.2f})", value)


def _points(change: Mapping[str, float]) -> Cell:
    """A change in percentage points with its interval."""
    value, low, high = (round(100 * change[key], 2) + 0.0 for key in ("value", "low", "high"))
    return Cell(f"{value:+.2f} ({low:+.2f} to {high:+.2f})", value)
