"""The package an app gets: models, labels and `edge_package.json`.

`edge_package.json` says what to feed each model, what it must answer and which model is for which target (docs/android.md). Equal
artifacts give equal bytes, in any order: there is no clock time in a package, and nothing depends on the version of a compression library.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
from PIL import Image

from calibration import builtin
from edge.artifacts import self_description
from edge.artifacts.artifact import Artifact, outputs, preprocessing_of, require_valid
from edge.drift.meanings import ACTIVATIONS, CLASS_MAP, CLASSES, MEANINGS, SCORED
from edge.drift.metrics import sigmoid, softmax
from edge.quantization.recipes import INT16
from edge.report import rules
from edge.runtime import sandbox
from edge.runtime.cpu import Interpreter, Tensor, runtime_package
from tfvit import __version__
from tfvit.errors import InputError
from tfvit.hashing import sha256
from tfvit.preprocessing import resize_and_crop, sides, size_words, to_rgb
from tfvit.progress import step

KIND, SCHEMA_VERSION = "edge_package", 1
PACKAGE_FILE, GOLDEN_FILE = "edge_package.json", "golden.png"
GOLDEN_WIDTH_PX, GOLDEN_HEIGHT_PX = 300, 200
# The scene of the built-in set: the shipped models have a clear answer to it, and are not certain
_GOLDEN_INDEX, _GOLDEN_SEED = 0, 300200
_TOP = 5
# Largest difference of the golden top-1 score; of values and features, per unit of the largest. Float kernels differ in the order of
# additions, 8-bit kernels in rounding; GPUs compute in float16.
_FLOAT_TOLERANCE, _EIGHT_BIT_TOLERANCE, _GPU_TOLERANCE = 0.001, 0.05, 0.05
_FLOAT_RECIPES = ("float32", "float16")
# Of values and features: how many of them the package holds, and on how many scenes beside the golden image it is seen how large they get
_NUMBERS, _SCENES = 64, 8
# Android's packager leaves out assets that begin with a dot; everything else here has a meaning to some shell, zip or file system
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclasses.dataclass(frozen=True)
class Package:
    """The files to write, or why they must not be written.

    Attributes:
        document: `edge_package.json`; None where something is refused.
        files: path -> bytes, the document's own among them; empty where something is refused.
        refusals: sentences.
    """

    document: dict[str, Any] | None
    files: dict[str, bytes]
    refusals: tuple[str, ...] = ()


def build(artifacts: Sequence[Artifact], allow_random: bool = False) -> Package:
    """The package of some artifacts. Runs each file once, on the CPU.

    Args:
        artifacts: at least one; loaded without verifying, since a tampered one is refused here.
        allow_random: whether random weights may ship.

    Raises:
        InputError: a manifest that cannot be used, a name that cannot be an asset's, or a file that crashes the runtime.
        EnvironmentUnusableError: the runtime cannot load a file, or there is no runtime.
    """
    artifacts = sorted(artifacts, key=lambda one: one.name)
    for artifact in artifacts:
        _require_name(artifact.name)
        require_valid(artifact.manifest)
    refusals = _refusals(artifacts, allow_random)
    if refusals:
        return Package(None, {}, tuple(refusals))
    with step("golden image"):
        png = golden_png()
        golden = to_rgb(Image.open(io.BytesIO(png)))
    files, models = {GOLDEN_FILE: png}, []
    for artifact in artifacts:
        with step("golden answer", subject=artifact.name):
            model, found = _model(artifact, golden)
        refusals += found
        models.append(model)
        files[model["file"]] = artifact.file
        if artifact.labels is not None:
            files[model["labels"]["file"]] = _label_bytes(artifact.labels)
    if refusals:
        return Package(None, {}, tuple(refusals))
    document = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "models": models,
        "golden_image": {"file": GOLDEN_FILE, "sha256": sha256(png), "width": GOLDEN_WIDTH_PX, "height": GOLDEN_HEIGHT_PX},
        "recommended": recommended({artifact.name: artifact.manifest for artifact in artifacts}),
        "tools": {"tfvit": __version__, **{tool: metadata.version(tool) for tool in (runtime_package(), "numpy", "pillow")}},
    }
    return _package(document, files)


def with_app_files(package: Package, more: Mapping[str, bytes]) -> Package:
    """The same with further files that only this app's framework needs, named in the document as `app_files`."""
    if package.document is None or not more:
        return package
    listed = [{"file": name, "sha256": sha256(data)} for name, data in sorted(more.items())]
    return _package(package.document | {"app_files": listed}, {**package.files, **more})


def _package(document: dict[str, Any], files: Mapping[str, bytes]) -> Package:
    written = (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    return Package(document, dict(sorted({**files, PACKAGE_FILE: written}.items())))


def recommended(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str] | None]:
    """Which model for which target, by the rules of `edge/report/rules.py`: nothing here was measured.

    Args:
        manifests: by the artifact's name.

    Returns:
        "cpu", "gpu" and "npu", each with `name` and `why`, or None where nothing fits.
    """
    return {target.lower(): _choice(target, manifests) for target in rules.TARGETS}


def _choice(target: str, manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, str] | None:
    names = rules.fitting(target, manifests)
    if not names:
        return None
    chosen = manifests[names[0]]
    rivals = [name for name in names if manifests[name]["recipe"] == chosen["recipe"]]
    words = [chosen["recipe"], rules.FITS[target], "by rule, not measured on a phone"]
    if len(rivals) > 1:
        words.append(f"the smallest of the {len(rivals)} such files here")
    if chosen["weights"]["random"]:
        words.append("RANDOM weights: its answers mean nothing")
    return {"name": names[0], "why": "; ".join(words)}


def golden_png() -> bytes:
    """The golden image: the middle of a generated scene, as a PNG whose bytes are the same everywhere."""
    scene = builtin.generate(_GOLDEN_INDEX, GOLDEN_WIDTH_PX, _GOLDEN_SEED)
    top = (GOLDEN_WIDTH_PX - GOLDEN_HEIGHT_PX) // 2
    return _png(scene[top : top + GOLDEN_HEIGHT_PX])


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Files as a zip: sorted, stored, without times."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as members:
        for name, data in sorted(files.items()):
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o100644 << 16
            members.writestr(member, data)
    return archive.getvalue()


def _require_name(name: str) -> None:
    if not _SAFE_NAME.fullmatch(name):
        raise InputError(
            "a name that cannot be an asset's",
            expected="a letter or a digit, then letters, digits, . _ and -",
            received=repr(name),
            action="rename the .tflite, .json and .labels.txt together",
        )


def _refusals(artifacts: Sequence[Artifact], allow_random: bool) -> list[str]:
    """Reasons against a package that are known before any file is run."""
    found, seen = [], set()
    for artifact in artifacts:
        name, manifest = artifact.name, artifact.manifest
        if name.casefold() in seen:
            found.append(f"{name}: two artifacts of one name")
        seen.add(name.casefold())
        if sha256(artifact.file) != manifest["file"]["sha256"]:
            found.append(f"{name}: SHA-256 {sha256(artifact.file)} is not the one in its manifest, {manifest['file']['sha256']}")
        if manifest["input"]["dtype"] == INT16:
            found.append(f"{name}: its input is int16, for NPUs' own tools: no app reads it; convert w8a16 again without --input int16")
        if manifest["weights"]["random"] and not allow_random:
            found.append(f"{name}: random weights, its answers mean nothing (--allow-random bundles it all the same)")
        if not manifest["drift"]["passed"]:
            found.append(f"{name}: its drift check failed when it was converted")
        if artifact.labels is not None and len(artifact.labels) != manifest["classes"]:
            found.append(f"{name}: {len(artifact.labels)} labels for {manifest['classes']} classes")
        elif self_description.read(artifact.file).labels != artifact.labels:
            given = "is not there" if artifact.labels is None else "has other names than the file itself"
            found.append(f"{name}: {name}.labels.txt {given}; convert again with --labels")
    return found


def _model(artifact: Artifact, golden: Image.Image) -> tuple[dict[str, Any], list[str]]:
    """An entry of `models`, and the reasons against it that its file gives."""
    name, manifest = artifact.name, artifact.manifest
    sandbox.require_runs(artifact.file)
    interpreter = Interpreter(artifact.file)
    refusals = [
        f"{name}: its manifest has the {side} {' and '.join(map(_described, blocks))}, the file {_described_tensors(tensors)}"
        for side, blocks, tensors in (
            ("input", [manifest["input"]], interpreter.inputs),
            ("output", outputs(manifest), interpreter.outputs),
        )
        if not _are_described(blocks, tensors)
    ]
    crop = preprocessing_of(manifest).crop_px
    if manifest["input"]["shape"] != [1, *sides(crop), 3]:
        refusals.append(f"{name}: its manifest has images {size_words(crop)} pixels for the input shape {manifest['input']['shape']}")
    for output in outputs(manifest):
        shape, means = output["shape"], output.get("meaning", CLASSES)
        width = manifest["classes"] if output is manifest["output"] else shape[-1]
        if means == CLASS_MAP:
            refusals.append(f"{name}: its output is {MEANINGS[means]}: an app gets the .tflite itself, there is no list of scores to show")
        elif shape[-1] != width or (means in SCORED and len(shape) != 2):
            refusals.append(f"{name}: its manifest has {width} {means} for the output shape {shape}")
        if output["activation"] not in (None, ACTIVATIONS.get(means)):
            refusals.append(f"{name}: its manifest has {means} that end in a {output['activation']}")
    answer, *other_answers = [None] if refusals else _golden_answers(artifact, interpreter, golden)
    if not refusals and None in (answer, *other_answers):
        refusals.append(f"{name}: gives NaN or infinity on the golden image")
    others = [_output(block) | {"golden": one} for block, one in zip(manifest.get("other_outputs", ()), other_answers, strict=False)]
    model = {
        "name": name,
        "file": f"{name}.tflite",
        "sha256": manifest["file"]["sha256"],
        "size_bytes": len(artifact.file),
        "variant": manifest["variant"],
        "recipe": manifest["recipe"],
        "random_weights": manifest["weights"]["random"],
        "classes": manifest["classes"],
        "input": {key: manifest["input"][key] for key in ("name", "shape", "dtype", "range", "quantization", "layout", "channels")},
        "preprocessing": preprocessing_of(manifest).geometry(),
        "output": _output(manifest["output"]),
        **({"other_outputs": others} if others else {}),
        "labels": None if artifact.labels is None else {"file": f"{name}.labels.txt", "sha256": sha256(_label_bytes(artifact.labels))},
        "min_runtime_version": manifest["file"]["min_runtime_version"],
        "gpu": {key: manifest["delegates"]["gpu"][key] for key in ("verdict", "basis")},
        **({"npu": {key: npu[key] for key in ("verdict", "basis")}} if (npu := manifest["delegates"].get("npu")) else {}),
        "golden": answer,
    }
    return model, refusals


def _output(block: Mapping[str, Any]) -> dict[str, Any]:
    means = block.get("meaning", CLASSES)
    found = {key: block[key] for key in ("name", "shape", "dtype", "quantization", "activation")}
    return found | ({"meaning": means} if means != CLASSES else {})


def _golden_answers(artifact: Artifact, interpreter: Interpreter, golden: Image.Image) -> list[dict[str, Any] | None]:
    """The block `golden` of each output; None where it answers NaN or infinity."""
    preprocessing = preprocessing_of(artifact.manifest)
    pixels = resize_and_crop(golden, preprocessing)
    blocks, given = outputs(artifact.manifest), list(interpreter.run_each(pixels[None]))
    others: list[list[np.ndarray]] = []
    if any(block.get("meaning", CLASSES) not in SCORED for block in blocks):
        scenes = (Image.fromarray(builtin.generate(index, GOLDEN_WIDTH_PX, _GOLDEN_SEED)) for index in range(_SCENES))
        others = [list(interpreter.run_each(resize_and_crop(scene, preprocessing)[None])) for scene in scenes]
    cpu = _FLOAT_TOLERANCE if artifact.manifest["recipe"] in _FLOAT_RECIPES else _EIGHT_BIT_TOLERANCE
    found: list[dict[str, Any] | None] = []
    for index, block in enumerate(blocks):
        output, scale = np.asarray(given[index], np.float64), 1.0
        if not np.all(np.isfinite(output)):
            found.append(None)
            continue
        if block.get("meaning", CLASSES) in SCORED:
            answer = {"top5": _top5(block, artifact.labels if index == 0 else None, output)}
        else:
            numbers = output.reshape(-1)
            indices = range(0, numbers.size, -(-numbers.size // _NUMBERS))
            answer = {"numbers": [{"index": one, "value": float(f"{numbers[one]:.9g}")} for one in indices]}
            scale = max(float(np.abs(one).max()) for one in (output, *(other[index] for other in others))) or 1.0
        tolerance = {"cpu": cpu * scale, "gpu": _GPU_TOLERANCE * scale}
        found.append(
            {
                "pixels_sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
                **answer,
                "tolerance": {name: float(f"{value:.6g}") for name, value in tolerance.items()},
            }
        )
    return found


def _top5(block: Mapping[str, Any], labels: Sequence[str] | None, output: np.ndarray) -> list[dict[str, Any]]:
    """The best classes or labels of one output [1, classes], with their probabilities."""
    scores = output
    if block["activation"] is None:
        scores = softmax(scores) if block.get("meaning", CLASSES) == CLASSES else sigmoid(scores)
    best = np.argsort(-scores[0], kind="stable")[:_TOP]
    return [{"index": int(index), "label": labels[index] if labels else None, "score": round(float(scores[0, index]), 6)} for index in best]


def _are_described(blocks: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors have the shapes, types and scales of the manifest, one for one."""
    return len(blocks) == len(tensors) and all(map(_is_described, blocks, tensors.values()))


def _is_described(block: Mapping[str, Any], tensor: Tensor) -> bool:
    quantization = block["quantization"] or {"scale": 0.0, "zero_point": 0}
    return (
        list(tensor.shape) == block["shape"]
        and tensor.dtype.name == block["dtype"]
        and tensor.zero_point == quantization.get("zero_point")
        and math.isclose(tensor.scale, quantization.get("scale", math.nan), rel_tol=1e-6)
    )


def _described(block: Mapping[str, Any]) -> str:
    return f"{block['dtype']} {block['shape']}, quantization {json.dumps(block['quantization'])}"


def _described_tensors(tensors: Mapping[str, Tensor]) -> str:
    return " and ".join(f"{one.dtype.name} {list(one.shape)}, scale {one.scale:g}, zero point {one.zero_point}" for one in tensors.values())


def _label_bytes(labels: Sequence[str]) -> bytes:
    return ("\n".join(labels) + "\n").encode()


def _png(pixels: np.ndarray) -> bytes:
    """[H, W, 3] uint8 as a PNG that is not compressed: compressed bytes would differ between versions of zlib."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1).tobytes()
    most = 0xFFFF
    stored = b"".join(
        struct.pack("<BHH", start + most >= len(rows), len(block), len(block) ^ most) + block
        for start, block in ((start, rows[start : start + most]) for start in range(0, len(rows), most))
    )
    image = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(rows))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", image), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
