"""What `edge.validate` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge.drift.meanings import ACTIVATIONS, CLASS_MAP, CLASSES, LABELS

_BETWEEN = {
    "preprocessing": "Keras, Keras as the app feeds it",
    "export": "Keras, float32 file",
    "quantization": "float32 file, this file",
    "total": "Keras, this file",
}
_LAYERS_SHOWN = 12
_PATHS_SHOWN = 5


def table(document: dict[str, Any]) -> tuple[Sequence[str], Sequence[Sequence[str]], list[str]]:
    """Column titles, rows, and the lines below them."""
    same = {CLASSES: "same top-1", LABELS: "same labels", CLASS_MAP: "same class"}.get(document["meaning"], "")
    columns = ("difference", "images", same, "95 %", "SNR dB", "cosine", "KL", "max abs", "mean abs", "between")
    rows: list[Sequence[str]] = []
    for difference in document["differences"]:
        metrics, name = difference["metrics"], difference["name"]
        if difference["identical"]:
            rows.append((name, str(metrics["samples"]), "100%", "", "", "", "", "0", "0", "the same pixels"))
            continue
        agreement = metrics["top1_agreement"]
        rows.append(
            (
                name,
                str(metrics["samples"]),
                f"{agreement['value']:.2%}" if agreement else "",
                f"{100 * agreement['low']:.2f} to {100 * agreement['high']:.2f}" if agreement else "",
                _shown(metrics["logits_snr_db"], ".1f"),
                _shown(metrics["cosine"], ".5f"),
                "" if document["meaning"] not in ACTIVATIONS else _shown(metrics["kl"], ".1e"),
                *(_shown(metrics[error], ".1e") for error in ("max_abs_err", "mean_abs_err")),
                _BETWEEN[name],
            )
        )
    closing = [
        *_image_lines(document),
        *map(other_output_words, document.get("other_outputs", ())),
        *_accuracy_lines(document),
        *_flipped_lines(document),
        *_layer_lines(document),
    ]
    closing += [*_proof_lines(document["gate"], document["meaning"])]
    if document["weights"]["random"]:
        closing.append("RANDOM weights: drift means something, the answers do not.")
    closing += [f"FAILED: {failure}" for failure in document["gate"]["failures"]]
    gate, name = document["gate"], document["name"]
    if gate["passed"] and gate["proved"] is False:
        closing.append(f"within its limits, NOT PROVED: {name} on {document['images']['number']} images; more images would tell")
    elif gate["passed"]:
        closing.append(f"passed: {name} is within its limits{', proved on these images' if gate['proved'] else ''}")
    return columns, rows, closing


def _image_lines(document: dict[str, Any]) -> list[str]:
    images = document["images"]
    skipped = [f"{skipped['path']} ({skipped['reason']})" for skipped in images["skipped"]]
    lines = [f"{images['number']} images of {images['source']}, on {document['runtime']}"]
    fewer = [one for one in document["differences"] if one["metrics"]["samples"] < images["number"]]
    if fewer:
        names, number = " and ".join(one["name"] for one in fewer), fewer[0]["metrics"]["samples"]
        lines.append(f"{names}: on {number} of them, spread over all (--float32-samples all: on all)")
    if skipped:
        lines.append(f"left out, unreadable: {', '.join(skipped[:_PATHS_SHOWN])}{_and_more(len(skipped) - _PATHS_SHOWN)}")
    return lines


def other_output_words(output: Mapping[str, Any]) -> str:
    """An output behind the first, the file against the float Keras model."""
    metrics, meaning = output["difference"]["metrics"], output["meaning"]
    same = metrics["top1_agreement"]
    words = f"output {output['name']} ({meaning.replace('_', ' ')}): {_shown(metrics['logits_snr_db'], '.1f')} dB"
    if same and meaning in ACTIVATIONS:
        what = {LABELS: "all labels the same", CLASS_MAP: "same class of places"}.get(meaning, "same top-1")
        return f"{words}, {what} {same['value']:.2%} ({100 * same['low']:.2f} to {100 * same['high']:.2f})"
    return f"{words}, cosine {_shown(metrics['cosine'], '.5f')}"


def _accuracy_lines(document: dict[str, Any]) -> list[str]:
    found = document["accuracy"]
    if found is None:
        return []
    lines = []
    for name in ("top1", "top5"):
        sides = " -> ".join(_percent(found[side][name]) for side in ("reference", "target"))
        lines.append(f"{name[:3]}-{name[3]}: {sides}")
    change = found["top1_change"]
    lines.append(
        f"change of top-1: {100 * change['value']:+.2f} points ({100 * change['low']:+.2f} to {100 * change['high']:+.2f}); "
        f"right only before {found['only_reference_right']}, only after {found['only_target_right']}, McNemar p = {found['mcnemar_p']:.3g}"
    )
    sides = (found[side] for side in ("reference", "target"))
    lines.append("expected calibration error: " + " -> ".join(f"{side['ece']:.4f}" for side in sides))
    worst = [row for row in found["per_class"] if row["target_right"] < row["reference_right"]][:_PATHS_SHOWN]
    if worst:
        changes = (f"{row['label']} {row['target_right'] - row['reference_right']:+d} of {row['images']}" for row in worst)
        lines.append(f"classes that lost most: {', '.join(changes)}")
    return lines


def _flipped_lines(document: dict[str, Any]) -> list[str]:
    flipped = document["flipped"]
    if not flipped["number"]:
        return []
    lines = [f"another answer on {flipped['number']} images; those the float model was surest of:"]
    for image in flipped["shown"][:_PATHS_SHOWN]:
        before, after = image["reference"], image["target"]
        lines.append(f"  {image['path']}: {before['answer']} {before['probability']:.0%} -> {after['answer']} {after['probability']:.0%}")
    return lines


def _layer_lines(document: dict[str, Any]) -> list[str]:
    layers = document["layers"]
    if layers is None:
        return []
    shown = layers["rows"][:_LAYERS_SHOWN]
    width = max(len(row["layer"]) for row in shown)
    lines = [f"layers, on {layers['images']} images, the largest error of its own first:"]
    lines += [
        f"  {row['layer']:<{width}}  {row['mode']:<17}  own {_shown(row['own_snr_db'], '5.1f')} dB, "
        f"piled up by there {_shown(row['snr_db'], '5.1f')} dB"
        for row in shown
    ]
    return (
        [*lines, f"  {_and_more(len(layers['rows']) - len(shown)).strip()} (--json has them all)"]
        if len(layers["rows"]) > len(shown)
        else lines
    )


def _proof_lines(gate: dict[str, Any], meaning: str) -> list[str]:
    lines = []
    for proof in gate["proof"]:
        needed = proof["images_needed"]
        if proof["limit"] == "min_agreement":
            same = "all labels the same" if meaning == LABELS else "same top-1"
            words = f"{same} of at least {proof['claimed']:.2%}: measured {proof['measured']:.2%}, at least {proof['low']:.2%}"
        else:
            words = f"top-1 drop of at most {proof['claimed']:g} points: measured {proof['measured']:+.2f}, at most {proof['high']:+.2f}"
        if proof["proved"]:
            verdict = "proved (95 %)"
        else:
            verdict = "not proved: " + (f"about {needed:,} such images would" if needed else "no number of such images would")
        lines.append(f"{words}: {verdict}")
    return lines


def _percent(proportion: Mapping[str, float]) -> str:
    return f"{proportion['value']:.2%} ({proportion['low']:.2%} to {proportion['high']:.2%})"


def _and_more(number: int) -> str:
    return f" and {number} more" if number > 0 else ""


def _shown(value: float | None, form: str) -> str:
    return "NaN" if value is None else format(value, form)
