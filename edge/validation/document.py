"""What a validation found, as the document of docs/validation.md."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from calibration.image_set import ImageReference
from edge.artifacts.artifact import Artifact
from edge.artifacts.provenance import tool_versions
from edge.drift import statistics
from edge.drift.collapse import signs_of_collapse
from edge.drift.limits import Limits
from edge.drift.meanings import CLASSES, Output, each
from edge.drift.metrics import ImageDrifts, summary
from edge.runtime import machine
from edge.validation.images import Images
from edge.validation.seen import Seen
from edge.validation.settings import Settings
from tfvit.errors import printable
from tfvit.hashing import sha256
from tfvit.preprocessing import Preprocessing

KIND, SCHEMA_VERSION = "validation", 1
_FLIPPED_SHOWN = 24
_THUMBNAIL_PX = 96
# Pictures up to this side are stored as they are
_PNG_PX = 64


def validation_document(
    artifact: Artifact, made_for: Preprocessing, app: Preprocessing, images: Images, seen: Seen, settings: Settings, ran_on: str
) -> dict[str, Any]:
    """All of it but the layers.

    Args:
        artifact: the file and its manifest.
        made_for, app: what the model was made for, and what the app does to an image.
        images, seen: what it was asked of, and what was answered.
        settings: how it was asked.
        ran_on: what ran the file.
    """
    manifest = artifact.manifest
    differences = _differences(seen, app == made_for, settings.app_preprocessing)
    total = differences[-1].images
    labels = images.labels(seen.references)
    limits, is_random = settings.limits, manifest["weights"]["random"]
    collapse, *of_others = _collapse(seen, images)
    others = [_other(images, seen, output, signs, limits, is_random) for output, signs in zip(images.outputs[1:], of_others, strict=True)]
    failures = [*collapse, *_not_finite(seen.references, total), *summary(total).failures(limits, random_weights=is_random)]
    failures += [f"{one['name']}: {failure}" for one in others for failure in one["failures"]]
    order = None if labels is None else statistics.wrong_label_order(total.top1_reference, labels, manifest["classes"])
    if order is not None:
        failures.insert(0, str(order))
    if sha256(artifact.file) != manifest["file"]["sha256"]:
        failures.insert(0, "the file is not the one its manifest describes (SHA-256 differs)")
    proof = [] if is_random else statistics.proofs(total, limits, labels is not None)
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "name": artifact.name,
        "file": f"{artifact.name}.tflite",
        "sha256": sha256(artifact.file),
        "variant": manifest["variant"],
        "recipe": manifest["recipe"],
        "weights": {key: manifest["weights"][key] for key in ("source", "sha256", "random")},
        "images": {
            "source": images.image_set.source,
            "sha256": images.image_set.digest(seen.references, app),
            "number": len(seen.references),
            "labelled": labels is not None,
            "skipped": [{"path": printable(reference.path), "reason": reason} for reference, reason in seen.unreadable],
        },
        "preprocessing": {"reference": made_for.geometry(), "target": app.geometry()},
        "differences": [difference.document() for difference in differences],
        "accuracy": None
        if labels is None
        else statistics.accuracy(total, labels, [images.class_name(i) for i in range(manifest["classes"])]),
        "meaning": total.meaning,
        **({"other_outputs": others} if others else {}),
        "confidence": statistics.confidence(total) if total.meaning == CLASSES else None,
        "flipped": _flipped(total, seen.references, images, app, settings.thumbnails),
        "non_finite": [printable(seen.references[index].path) for index in np.flatnonzero(~total.finite_target)],
        "collapse": collapse,
        "gate": {
            "limits": dataclasses.asdict(limits),
            "failures": failures,
            "passed": not failures,
            "proof": proof,
            "proved": all(one["proved"] for one in proof) if proof else None,
        },
        "layers": None,
        "runtime": f"{ran_on}, 1 thread an image",
        "machine": machine.environment(),
        "tools": tool_versions(),
    }


def _differences(seen: Seen, identical: bool, app: str) -> list[statistics.Difference]:
    keras, on_app = "float Keras model", f"float Keras model, preprocessing {app}" if not identical else "float Keras model"
    words = {
        "preprocessing": (keras, "the same: the app does what the model was made for" if identical else on_app),
        "export": (on_app, "its float32 file"),
        "quantization": ("float32 file", "this file"),
        "total": (keras, "this file"),
    }
    return [
        statistics.Difference(name, *words[name], ImageDrifts.joined(parts), identical and name == "preprocessing")
        for name, parts in seen.differences.items()
        if parts
    ]


def _collapse(seen: Seen, images: Images) -> list[list[str]]:
    """For each output; of the answers that are numbers: the others are named image by image."""
    reference, target = (np.concatenate(side) for side in zip(*seen.first, strict=True))
    finite = np.isfinite(target).all(axis=1)
    if not finite.any():
        return [[] for _ in images.outputs]
    pairs = zip(images.outputs, each(reference[finite], images.outputs), each(target[finite], images.outputs), strict=True)
    return [signs_of_collapse(one, other, output.meaning) for output, one, other in pairs]


def _other(images: Images, seen: Seen, output: Output, collapse: list[str], limits: Limits, is_random: bool) -> dict[str, Any]:
    """An output behind the first, the file against the float Keras model."""
    drifts = ImageDrifts.joined(seen.others[output.name])
    difference = statistics.Difference("total", "float Keras model", "this file", drifts, False)
    failures = [*collapse, *_not_finite(seen.references, drifts), *summary(drifts).failures(limits, random_weights=is_random)]
    return {"name": output.name, "meaning": output.meaning, "difference": difference.document(), "failures": failures}


def _not_finite(references: Sequence[ImageReference], images: ImageDrifts) -> list[str]:
    broken = [printable(references[index].path) for index in np.flatnonzero(~images.finite_target).tolist()]
    more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
    return [f"NaN or infinity on {len(broken)} of {len(references)} images: {', '.join(broken[:3])}{more}"] if broken else []


def _flipped(
    total: ImageDrifts, references: Sequence[ImageReference], images: Images, preprocessing: Preprocessing, thumbnails: bool
) -> dict[str, Any]:
    """The images with another answer, those first of which the reference was surest."""
    flipped = np.flatnonzero(~total.same_top1 & total.finite).tolist()
    order = sorted(flipped, key=lambda index: (-total.confidence_reference[index], references[index].path))
    listed = []
    for index in order[:_FLIPPED_SHOWN]:
        reference = references[index]
        listed.append(
            {
                "path": printable(reference.path),
                "label": printable(reference.label) if images.indices and reference.label is not None else None,
                "reference": _answer(images, total.top1_reference[index], total.confidence_reference[index]),
                "target": _answer(images, total.top1_target[index], total.confidence_target[index]),
                "thumbnail": _thumbnail(images.image_set.pixels(reference, preprocessing)) if thumbnails else None,
            }
        )
    return {"number": len(flipped), "shown": listed}


def _answer(images: Images, index: int, probability: float) -> dict[str, Any]:
    return {"answer": images.class_name(int(index)), "probability": float(probability)}


def _thumbnail(pixels: np.ndarray) -> str:
    """A small picture as a data URI."""
    picture, kind, file = Image.fromarray(pixels), "png", io.BytesIO()
    picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    if max(picture.size) > _PNG_PX:
        kind = "jpeg"
    picture.save(file, kind)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
