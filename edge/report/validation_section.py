"""The section on validations: a line for each, and folded behind it where the difference comes from, image by image and layer by layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edge.report import validation_tables
from edge.report.blocks import Block, Section
from edge.report.inputs import FileFacts, Inputs
from edge.report.plots import LIMIT_NOTE, Bar, Plots, Point

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
    table = validation_tables.validations_table([(facts, document.content) for facts, document in rows])
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
    shown = [validation_tables.differences_table(content)]
    if accuracy:
        shown.append(validation_tables.accuracy_table(content))
    proof = validation_tables.proof_table(content)
    inside = []
    if content["flipped"]["number"]:
        inside.append(_flips(content))
    if accuracy:
        inside.append(_classes(accuracy, plots))
        sides = accuracy["reference"]["reliability"], accuracy["target"]["reliability"]
        inside.append(
            Block("How sure, how right", (), (plots.reliability("Reliability", *sides),), (validation_tables.reliability_table(content),))
        )
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
    return Block("Classes", words, pictures, (validation_tables.class_table(accuracy),))


def _layers(content: Mapping[str, Any], plots: Plots) -> Block:
    layers = content["layers"]
    finite = [row for row in layers["rows"] if row["own_snr_db"] is not None][:_MOST_LAYERS]
    words = ["A layer's own error is what it adds, given the inputs it really got; the other column is what has piled up by there."]
    if layers.get("worst"):
        words.append(f"Worst by itself: {layers['worst']}.")
    bars = [Bar(row["layer"], row["own_snr_db"], f"{row['own_snr_db']:.1f}") for row in finite]
    drawn = (plots.bars(f"Own SNR of the {len(bars)} worst layers", "dB", bars),) if bars else ()
    return Block("Drift by layer", tuple(words), drawn, (validation_tables.layers_table(content),))
