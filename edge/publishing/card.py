"""The model card of a folder of artifacts: `README.md` as Hugging Face's hub reads it. Every figure is from the manifests and documents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from edge.artifacts.artifact import Artifact, assumed, meaning
from edge.drift.meanings import CLASSES, LABELS

MARK = "model card by tfvit edge.publish"
_PIPELINES = {CLASSES: "image-classification", LABELS: "image-classification"}
# Licences as the hub spells them
_LICENSES = {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "cc0-1.0"}


def card(artifacts: Sequence[Artifact], title: str, validations: dict[str, dict[str, Any]]) -> str:
    """The text of `README.md`.

    Args:
        artifacts: of one model, in any recipes.
        title: the model's name.
        validations: artifact's name -> its document of edge.validate, where there is one.
    """
    first = artifacts[0].manifest
    lines = [*_front_matter(artifacts), "", f"# {_plain(title)}", "", _introduction(first), ""]
    lines += [
        "| file | MB | recipe | same top-1 as Keras | logits SNR, dB | top-1 | XNNPACK | GPU by rule |",
        "|---|--:|---|--:|--:|--:|---|---|",
    ]
    lines += [_row(one, validations.get(one.name)) for one in sorted(artifacts, key=lambda one: one.name)]
    lines += ["", _images(artifacts, validations), "", "## Use", "", *_use(artifacts[0])]
    unsure = sorted({part for one in artifacts for part in assumed(one.manifest)})
    if unsure:
        lines += ["", f"ASSUMED when the files were made, and right only where it is so: {', '.join(unsure)}."]
    lines += ["", "## Made with", "", ", ".join(f"{name} {version}" for name, version in first["tools"].items()) + "."]
    return "\n".join(lines) + "\n"


def _front_matter(artifacts: Sequence[Artifact]) -> list[str]:
    manifest = artifacts[0].manifest
    license_name = str(manifest["weights"].get("license") or "").lower()
    known = license_name in _LICENSES
    lines = ["---", f"# {MARK}", f"license: {license_name if known else 'other'}"]
    if not known:
        lines.append(f"license_name: {json.dumps(manifest['weights'].get('license') or 'unknown')}")
    origin = str(manifest["weights"].get("origin") or "")
    if origin.count("/") == 1 and not origin.startswith(("/", ".")):
        lines.append(f"base_model: {origin}")
    pipeline = _PIPELINES.get(meaning(manifest), "image-feature-extraction")
    recipes = sorted({str(one.manifest["recipe"]) for one in artifacts})
    return [
        *lines,
        "library_name: litert",
        f"pipeline_tag: {pipeline}",
        "tags:",
        *(f"- {tag}" for tag in ("tflite", "litert", *recipes)),
        "---",
    ]


def _introduction(manifest: dict[str, Any]) -> str:
    side = manifest["input"]["shape"]
    what = f"{manifest['variant'] or manifest['name']}, weights {manifest['weights']['source']}"
    return (
        f"LiteRT (TensorFlow Lite) files of {_plain(what)}. They take RGB pixels 0..255 as {manifest['input']['dtype']} {side} (NHWC): the "
        f"normalisation is inside. They give {manifest['output']['name']} {manifest['output']['shape']}. `NAME.json` beside each file says "
        "how an image is resized, what was checked, and from what the file was made."
    )


def _row(artifact: Artifact, validation: dict[str, Any] | None) -> str:
    manifest = artifact.manifest
    drift, xnnpack = manifest["drift"], manifest["delegates"]["xnnpack"]
    accuracy = (validation or {}).get("accuracy")
    top1 = f"{100 * accuracy['target']['top1']['value']:.2f} %" if accuracy else "not measured"
    same = "" if drift["top1_agreement"] is None else f"{100 * drift['top1_agreement']:.1f} %"
    cells = (
        f"{artifact.name}.tflite", f"{manifest['file']['size_bytes'] / 1e6:.2f}", manifest["recipe"],
        same, f"{drift['logits_snr_db']:g}", top1,
        f"{xnnpack['delegated_ops']} of {xnnpack['total_ops']} in {xnnpack['partitions']}", manifest["delegates"]["gpu"]["verdict"],
    )  # fmt: skip
    return "| " + " | ".join(_plain(str(cell)) for cell in cells) + " |"


def _images(artifacts: Sequence[Artifact], validations: dict[str, dict[str, Any]]) -> str:
    drift = artifacts[0].manifest["drift"]
    words = f"Agreement and SNR: against the float Keras model, on {drift['samples']} images ({drift['source']})."
    sources = sorted({f"{found['images']['number']} images of {found['images']['source']}" for found in validations.values()})
    return words + (f" Top-1: on {_plain('; '.join(sources))}." if sources else " Accuracy was not measured.")


def _use(artifact: Artifact) -> list[str]:
    side = artifact.manifest["input"]["shape"][1]
    return [
        "```python",
        "from ai_edge_litert.interpreter import Interpreter",
        "",
        f'interpreter = Interpreter("{artifact.name}.tflite")',
        "run = interpreter.get_signature_runner()",
        f"answer = run({artifact.manifest['input']['name']}=pixels)  # [1, {side}, {side}, 3], RGB 0..255",
        "```",
    ]


def _plain(text: str) -> str:
    """Without what Markdown or HTML would take for markup."""
    for character in "\\`*_[]|<>":
        text = text.replace(character, f"&#{ord(character)};")
    return " ".join(text.split())
