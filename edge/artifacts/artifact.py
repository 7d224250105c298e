"""An artifact is a file's bytes and its manifest, saved atomically and checked when loaded.

On disk: `NAME.tflite`, `NAME.json` and, with labels, `NAME.labels.txt`. The manifest holds the file's hash. The file is put into its place
last, so a file always has its manifest, even if a save is interrupted. A manifest without a file is completed by the next run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from edge.artifacts import strict_json
from edge.artifacts.atomic_files import locked, stage, sync_folder, writing
from edge.artifacts.json_schema import violation
from edge.drift.meanings import CLASSES
from tfvit.errors import InputError, in_the_way, reading
from tfvit.hashing import sha256
from tfvit.preprocessing import Preprocessing

SCHEMA_VERSION = 1
_GEOMETRY = ("resize_px", "crop_px", "interpolation", "keep_aspect", "pad")
_AGAIN = "convert the model again with --force"


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A converted file with its manifest.

    Attributes:
        name: without ending, for example "small224-int8" or "small224-int8.random".
        file: the `.tflite`.
        manifest: see `docs/manifest.md`.
        labels: one per class, or None.
        path: of the file, where it was read from one.
    """

    name: str
    file: bytes
    manifest: dict[str, Any]
    labels: tuple[str, ...] | None = None
    path: Path | None = dataclasses.field(default=None, compare=False)

    @property
    def passed(self) -> bool:
        """Whether the file was within its drift limits when it was made."""
        return self.manifest["drift"]["passed"]

    def __repr__(self) -> str:
        drift = self.manifest.get("drift", {})
        said = [f"{self.manifest['file'].get('size_bytes', len(self.file)) / 1e6:.2f} MB"]
        if drift.get("logits_snr_db") is not None:
            said.append(f"logits SNR {drift['logits_snr_db']:.1f} dB")
        if drift.get("top1_agreement") is not None:
            said.append(f"same top-1 {drift['top1_agreement']:.1%} of {drift['samples']}")
        said.append("within its limits" if drift.get("passed") else "NOT within its limits")
        return f"<Artifact {self.name}: {', '.join(said)}, {self.path or 'not written'}>"


def meaning(manifest: Mapping[str, Any]) -> str:
    """Of the file's output, one of `edge.drift.meanings.MEANINGS`; older manifests were of classes only."""
    return manifest["output"].get("meaning", CLASSES)


def assumed(manifest: Mapping[str, Any]) -> list[str]:
    """What was assumed of the model's images and its outputs when the file was made."""
    of_outputs = [one for output in outputs(manifest) for one in output.get("assumed", ())]
    return [*manifest["preprocessing"].get("assumed", ()), *dict.fromkeys(of_outputs)]


def outputs(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The blocks of all of the file's outputs, in its order."""
    return [manifest["output"], *manifest.get("other_outputs", ())]


def canonical_json(value: Any) -> str:
    """The same text for equal values. NaN and infinity raise ValueError."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@functools.cache
def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of manifests."""
    return json.loads(resources.files("edge.artifacts").joinpath("manifest.schema.json").read_text(encoding="utf-8"))


def require_valid(manifest: Mapping[str, Any], where: str | None = None) -> None:
    """Holds a manifest against its schema.

    Args:
        where: what it was read from, if not from NAME.json.

    Raises:
        InputError: names the first field that is missing or of another kind.
    """
    _require(manifest, manifest_schema(), where)


def require_record(record: Mapping[str, Any], where: str) -> None:
    """Holds a manifest, or the record inside a file, against what making the file again needs.

    Raises:
        InputError: names the first field that is missing or of another kind.
    """
    _require(record, manifest_schema() | {"required": [], "$ref": "#/$defs/record"}, where)


def _require(manifest: Mapping[str, Any], schema: Mapping[str, Any], where: str | None) -> None:
    found = violation(manifest, schema)
    if found:
        raise unusable_manifest(manifest, f"{found[0]}: {found[1]}", where)


def unusable_manifest(manifest: Mapping[str, Any], what: str, where: str | None = None) -> InputError:
    """The error for a manifest that says too little, or something else."""
    return InputError(
        "a manifest that cannot be used",
        expected="the JSON that edge.convert wrote (edge/artifacts/manifest.schema.json)",
        received=f"{where or manifest['name'] + '.json'}: {what}",
        action="convert the model again with --force",
    )


def preprocessing_of(manifest: Mapping[str, Any]) -> Preprocessing:
    """What the manifest tells an app to do with an image."""
    return Preprocessing(**{name: value for name, value in manifest["preprocessing"].items() if name in _GEOMETRY})


def load_current(folder: Path, name: str, inputs_sha256: str) -> Artifact | None:
    """The folder's artifact of this name, if it is intact and was made from the same inputs."""
    try:
        artifact = load(folder / f"{name}.tflite")
    except (InputError, OSError):
        return None
    return artifact if artifact.manifest.get("inputs_sha256") == inputs_sha256 else None


def load(path: Path, verify: bool = True) -> Artifact:
    """Reads an artifact and checks its hash.

    Args:
        path: of the `.tflite`.
        verify: False also reads a file whose hash is not the manifest's.

    Raises:
        InputError: a part is missing or unreadable, or the file is not the one that the manifest describes.
    """
    name = path.name.removesuffix(".tflite")
    if name == path.name:
        raise InputError(
            "not an artifact", expected="a .tflite file with its manifest beside it", received=str(path), action="name the file"
        )
    manifest_path = path.with_name(f"{name}.json")
    if not path.is_file() or not manifest_path.is_file():
        missing = path if not path.is_file() else manifest_path
        raise InputError(
            "artifact not found",
            expected=f"{path.name} and {manifest_path.name} side by side",
            received=f"no {missing}",
            action="convert it",
        )
    manifest = read_manifest(manifest_path)
    recorded = manifest["file"]["sha256"]
    with reading(path, "a file that may be read", action="check its permissions"):
        file = path.read_bytes()
    if verify and sha256(file) != recorded:
        raise InputError(
            "the file is not the one its manifest describes",
            expected=f"SHA-256 {recorded}",
            received=f"SHA-256 {sha256(file)} of {path}",
            action=_AGAIN,
        )
    labels_path = path.with_name(f"{name}.labels.txt")
    with reading(labels_path, "UTF-8 text", "labels", _AGAIN):
        labels = tuple(labels_path.read_text(encoding="utf-8").splitlines()) if labels_path.is_file() else None
    return Artifact(name, file, manifest, labels, path)


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest without its file.

    Raises:
        InputError: the manifest is unreadable, or has no name or hash.
    """
    with reading(path, "the JSON that edge.convert wrote", "manifest", _AGAIN, errors=(OSError, ValueError, KeyError, TypeError)):
        manifest = strict_json.loads(path.read_bytes())
        if not isinstance(manifest["file"]["sha256"], str) or not isinstance(manifest["name"], str):
            raise ValueError("no name or no hash in it")
    return manifest


def save(artifact: Artifact, folder: Path, force: bool = False) -> Path:
    """Writes an artifact completely or not at all. Returns the path of the `.tflite`.

    Two processes that save into one folder take turns. Files of the same names that belong to no artifact are not overwritten.

    Raises:
        InputError: such a file is in the way, and `force` is off.
        EnvironmentUnusableError: the folder cannot be written to, or the disk is full.
    """
    target = folder / f"{artifact.name}.tflite"
    manifest_path = folder / f"{artifact.name}.json"
    labels_path = folder / f"{artifact.name}.labels.txt"
    with writing("artifact", len(artifact.file), folder), locked(folder), contextlib.ExitStack() as cleanup:
        if not force:
            refuse_foreign_files(folder, artifact.name)
        manifest_text = json.dumps(artifact.manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        staged_file = stage(folder, artifact.file, cleanup)
        staged = [(stage(folder, manifest_text.encode(), cleanup), manifest_path)]
        if artifact.labels is not None:
            staged.append((stage(folder, ("\n".join(artifact.labels) + "\n").encode(), cleanup), labels_path))
        target.unlink(missing_ok=True)
        for temporary, final in staged:
            os.replace(temporary, final)
        if artifact.labels is None:
            labels_path.unlink(missing_ok=True)
        sync_folder(folder)
        os.replace(staged_file, target)
        sync_folder(folder)
    return target


def refuse_foreign_files(folder: Path, name: str) -> None:
    """Checks that saving would overwrite nothing but an older artifact.

    Raises:
        InputError: a file of the same name belongs to no artifact.
    """
    target = folder / f"{name}.tflite"
    foreign = _foreign_file(target, folder / f"{name}.json", folder / f"{name}.labels.txt")
    if foreign:
        raise in_the_way(
            foreign,
            f"{target.name} with its intact manifest",
            "a file that edge.convert did not write",
            "move it away, choose another --out, or overwrite it with --force",
        )


def _foreign_file(target: Path, manifest_path: Path, labels_path: Path) -> Path | None:
    """The file that belongs to no artifact. A file that its manifest describes is ours, and so is a manifest whose file was deleted."""
    try:
        if target.exists():
            load(target)
        elif manifest_path.exists():
            read_manifest(manifest_path)
        elif labels_path.exists():
            return labels_path
    except InputError:
        return target if target.exists() else manifest_path
    return None
