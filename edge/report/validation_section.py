"""The section on validations: one line for each, and folded below, where the difference comes from, by image and by layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edge.report.elements import WARN, Block, Cell, Column, Section, Table, passed_cell, table
from edge.report.inputs import FileFacts, Inputs
from edge.report.plots import LIMIT_NOTE, Bar, Plots, Point
from edge.report.tables import marked_label
from edge.validation.table import other_output_words

# A picture must be data in the page: nothing is fetched, and nothing can hold a script
_THUMBNAIL = re.compile(r"data:image/(?:png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2}")
_MOST_LAYERS, _MOST_CLASSES = 16, 20


def validation_section(inputs: Inputs, plots: Plots) -> Section:
    """All validations of all files; a section without blocks where there are none."""
    rows = [(facts, document) for facts in inputs.files for document in facts.validations]
    if not rows:
        return Section("validation", "Validation on images", ())
    same = []
    for facts, document in rows:
        total = _total(document.content)
        if total and total["top1_agreement"] and not facts.random:
            value, low, high = (100 * total["top1_agreement"][key] for key in ("value", "low", "high"))
            limit = document.content["gate"]["limits"].get("min_agreement")
            bad = not document.content["gate"]["passed"]
            same.append(Point(facts.label, value, f"{value:.2f}", low, high, None if limit is None else 100 * limit, bad))
    drawn = (plots.points("Same top-1 as Keras", "% of images", same, f"Line: 95 % interval. {LIMIT_NOTE}"),) if same else ()
    every = validations_table([(facts, document.content) for facts, document in rows])
    words = "Float Keras model against file: preprocessing, export and quantization together. Each file has a part of its own below."
    blocks = [Block("", (words,), drawn, (every,))]
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
    if confidence is not None and confidence["mean_change"] is not None:
        words.append(f"Mean confidence changed by {100 * confidence['mean_change']:+.2f} points.")
    words += [other_output_words(output) + "." for output in content.get("other_outputs", ())]
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
    words = ["A layer's own error is what it adds to the inputs that it got; the other columns have what has piled up by there."]
    if layers.get("worst"):
        words.append(f"Worst by itself: {layers['worst']}.")
    bars = [Bar(row["layer"], row["own_snr_db"], f"{row['own_snr_db']:.1f}") for row in finite]
    drawn = (plots.bars(f"Own SNR of the {len(bars)} worst layers", "dB", bars),) if bars else ()
    return Block("Drift by layer", tuple(words), drawn, (layers_table(content),))


def validations_table(rows: Sequence[tuple[FileFacts, Mapping[str, Any]]]) -> Table:
    """One row a validation: what the whole way from the float Keras model to the file costs."""
    columns = [
        Column("file", "file"),
        Column("gate", lambda row: passed_cell(row["gate"]["passed"])),
        Column("top-1 % (95 % interval)", "accuracy.target.top1", ".2f", 100),
        Column("Keras top-1 %", "accuracy.reference.top1", ".2f", 100),
        Column("change, points", lambda row: row["accuracy"] and _points(row["accuracy"]["top1_change"]), "+.2f"),
        Column("same top-1 as Keras %", "total.top1_agreement", ".2f", 100),
        Column("logits SNR dB", "total.logits_snr_db", ".1f"),
        Column("flipped", "flipped.number", ".0f"),
        Column("images", "images.number", ".0f"),
        Column("source", "images.source"),
    ]
    return table("Validations", columns, [{**content, "file": marked_label(facts), "total": _total(content)} for facts, content in rows])


def differences_table(content: Mapping[str, Any]) -> Table:
    """The differences of a validation, each between two sets of answers to the same images."""
    columns = [
        Column("difference", "name"),
        Column("between", lambda one: f"{one['reference']} → {one['target']}"),
        Column("images", "metrics.samples", ".0f"),
        Column("same top-1 % (95 % interval)", "metrics.top1_agreement", ".2f", 100),
        Column("top-1 in top-5 %", "metrics.top1_in_top5", ".2f", 100),
        Column("top-5 overlap %", "metrics.top5_overlap", ".2f", 100),
        Column("logits SNR dB", lambda one: Cell("identical", 200.0) if one["identical"] else one["metrics"]["logits_snr_db"], ".1f"),
        Column("cosine", "metrics.cosine", ".6f"),
        Column("KL", "metrics.kl", ".3g"),
        Column("largest error of a probability", "metrics.max_abs_err", ".3g"),
    ]
    return table("Where the differences come from", columns, content["differences"])


def accuracy_table(content: Mapping[str, Any]) -> Table:
    """Labelled images: both sides and the change."""
    accuracy = content["accuracy"]
    change = {"top1": _points(accuracy["top1_change"]), "top5": None, "mean_confidence": None, "ece": None}
    columns = [
        Column("answers of", "name"),
        Column("top-1 % (95 % interval)", "top1", ".2f", 100),
        Column("top-5 %", "top5", ".2f", 100),
        Column("mean confidence %", "mean_confidence", ".2f", 100),
        Column("calibration error (ECE)", "ece", ".3f"),
    ]
    sides = (("float Keras model", accuracy["reference"]), (content["file"], accuracy["target"]), ("change, points", change))
    return table("Accuracy", columns, [{**side, "name": name} for name, side in sides])


def proof_table(content: Mapping[str, Any]) -> Table | None:
    """Whether the images are enough to prove each limit; None where there are no limits."""
    columns = [
        Column("limit", "limit"),
        Column("claimed", "claimed", ".4f"),
        Column("measured", "measured", ".4f"),
        Column("worse end of the 95 % interval", lambda one: one["low"] if one.get("low") is not None else one.get("high"), ".4f"),
        Column("by these images", lambda one: passed_cell(one["proved"], ("proved", "not proved"), WARN)),
        Column("images needed", lambda one: one.get("images_needed"), ".0f"),
    ]
    rows = content["gate"].get("proof", [])
    return table("What these images prove", columns, rows) if rows else None


def class_table(accuracy: Mapping[str, Any]) -> Table:
    """Right answers by class; the classes that lost most come first."""

    def change(one: Mapping[str, Any]) -> int:
        return one["target_right"] - one["reference_right"]

    columns = [
        Column("class", "label"),
        Column("images", "images", ".0f"),
        Column("right: Keras", "reference_right", ".0f"),
        Column("right: file", "target_right", ".0f"),
        Column("change", change, "+.0f"),
        Column("change, points", lambda one: change(one) / one["images"] if one["images"] else None, ".2f", 100),
    ]
    return table("Right answers by class", columns, sorted(accuracy["per_class"], key=lambda one: (change(one), one["label"])))


def layers_table(content: Mapping[str, Any]) -> Table:
    """Each layer's own error, and the error that has piled up by there."""
    columns = [
        Column("layer", "layer"),
        Column("mode", "mode"),
        Column("own SNR dB", "own_snr_db", ".1f"),
        Column("SNR dB piled up", "snr_db", ".1f"),
        Column("own cosine", lambda row: row.get("own_cosine"), ".6f"),
        Column("cosine", lambda row: row.get("cosine"), ".6f"),
    ]
    return table(f"Drift by layer, on {content['layers']['images']} images", columns, content["layers"]["rows"])


def reliability_table(content: Mapping[str, Any]) -> Table:
    """Confidence against accuracy of both sides, by bin; empty bins are left out."""
    columns = [
        Column("confidence", lambda row: Cell(f"{row['keras']['low']:.3f} to {row['keras']['high']:.3f}", row["keras"]["low"]), ".3f"),
        Column("images: Keras", "keras.count", ".0f"),
        Column("right: Keras", "keras.accuracy", ".3f"),
        Column("images: file", "file.count", ".0f"),
        Column("right: file", "file.accuracy", ".3f"),
    ]
    sides = zip(content["accuracy"]["reference"]["reliability"], content["accuracy"]["target"]["reliability"], strict=False)
    rows = [{"keras": keras, "file": file} for keras, file in sides if keras["count"] or file["count"]]
    return table("Confidence against accuracy", columns, rows)


def _total(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The metrics of the whole way, from the float Keras model to the file; None where they were not measured."""
    return next((one["metrics"] for one in content["differences"] if one["name"] == "total"), None)


def _points(change: Mapping[str, float]) -> Cell:
    """A change in percentage points with its interval; never a negative zero."""
    value, low, high = (round(100 * change[key], 2) + 0.0 for key in ("value", "low", "high"))
    return Cell(f"{value:+.2f} ({low:+.2f} to {high:+.2f})", value)
