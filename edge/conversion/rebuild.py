"""Making an artifact again from what its manifest, or the file itself, says it was made from."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calibration.image_set import BUILTIN, open_image_set
from edge.artifacts import artifact, self_description
from edge.artifacts.artifact import Artifact
from edge.artifacts.provenance import tool_versions
from edge.conversion.plan import Settings, plan
from edge.conversion.usage import INPUTS
from edge.drift.meanings import are_outputs
from edge.export import recorded_source
from edge.export.backend import require_tensorflow_backend
from edge.export.float_model import FloatModel
from edge.quantization.recipes import DYNAMIC_SINCE, INT16, RECIPES, find_recipe
from tfvit.errors import EnvironmentUnusableError, InputError, UsageError
from tfvit.hashing import sha256
from tfvit.hub import SCHEME
from tfvit.labels import published_labels
from tfvit.preprocessing import ModelInput, Preprocessing
from tfvit.progress import step
from tfvit.variants import VARIANTS

_LIMITS = ("min_snr_db", "min_agreement", "max_top1_drop", "min_photo_agreement")


def inputs_of_manifest(manifest: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What an artifact was made from, by its manifest: also what only its measured figures depend on.

    Raises:
        InputError: it does not say.
    """
    artifact.require_valid(manifest, where)
    _require(manifest, where)
    if manifest["settings"]["images"] is None:
        raise artifact.unusable_manifest(manifest, "$.settings.images: null", where)
    known = self_description.provenance(manifest)
    return known | {"settings": dict(manifest["settings"]) | {"limits": manifest["drift"]["limits"]}}


def inputs_of_file(said: self_description.SelfDescription, name: str) -> dict[str, Any]:
    """What a file was made from, by itself.

    Raises:
        InputError: it does not say.
    """
    if said.provenance is None:
        raise InputError(
            "a file that does not say what it was made from",
            expected=f"the metadata {self_description.PROVENANCE_BUFFER}, in a file of edge.convert",
            received=f"{name} {said.problems[0] if said.problems else 'without it'}",
            action="name its manifest, or convert the model again",
        )
    _require(said.provenance, name)
    return said.provenance


def _require(record: Mapping[str, Any], where: str) -> None:
    artifact.require_record(record, where)
    variant, recipe, settings, source = record["variant"], record["recipe"], record["settings"], record["weights"]["source"]
    said = (settings.get("checkpoint") or {}).get("variant")
    known = recipe in RECIPES and all(one is None or one in VARIANTS for one in (variant, said))
    fits = settings["input"] != INT16 or (known and RECIPES[recipe].takes_int16)
    usable = settings["input"] in INPUTS and fits and are_outputs(settings["output"])
    if not (known and usable and Path(source).name == source):
        raise InputError(
            "a record that this version cannot follow",
            expected="a variant, recipe, input and output that it knows",
            received=f"{where} with {variant}, {recipe}, {settings['input']}, {settings['output']}",
            action="verify with the version that made it (tools.tfvit)",
        )


def differing_tools(inputs: Mapping[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    """Package -> (recorded, installed) version, where they are not the same."""
    recorded, installed = inputs["tools"], tool_versions()
    names = dict.fromkeys((*recorded, *installed))
    return {name: (recorded.get(name), installed.get(name)) for name in names if recorded.get(name) != installed.get(name)}


def require_tools(inputs: Mapping[str, Any]) -> None:
    """Checks that the packages are those the file was made with.

    Raises:
        EnvironmentUnusableError: others, by name.
    """
    different = differing_tools(inputs)
    if different:
        raise EnvironmentUnusableError(
            "other tool versions than the file was made with: it would come out otherwise without anyone having changed it",
            expected=", ".join(f"{name} {recorded}" for name, (recorded, _) in different.items()),
            received=", ".join(f"{name} {installed}" for name, (_, installed) in different.items()),
            action="install those, or compare all the same with --other-tools",
        )


def matching_labels(inputs: Mapping[str, Any], candidates: list[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    """The labels with the recorded hash among `candidates` and the published ones; None where the file has none.

    Raises:
        InputError: they are not at hand.
    """
    recorded = inputs["settings"]["labels_sha256"]
    if recorded is None:
        return None
    for labels in (*candidates, published_labels(inputs["weights"]["source"])):
        if labels is not None and sha256(self_description.label_bytes(labels)) == recorded:
            return labels
    raise InputError(
        "the class names are not at hand",
        expected=f"labels with SHA-256 {recorded}",
        received="others, or none, in the file and beside it",
        action="name them with --labels FILE",
    )


@dataclasses.dataclass(frozen=True)
class Given:
    """The user's own files, where the record names such.

    Attributes:
        weights, model, calibration, checkpoint: their paths; checked by their recorded hashes before anything is built.
        trusted: whether code in the model may run.
        imports: modules that register layers of the user's own.
    """

    weights: Path | None
    model: Path | None
    calibration: Path | None
    trusted: bool
    imports: Sequence[str] = ()
    checkpoint: str | None = None


def rebuilt(inputs: Mapping[str, Any], labels: tuple[str, ...] | None, files: Given) -> Artifact:
    """The artifact made again, from nothing that an earlier run kept: that would prove nothing.

    Args:
        inputs: of `inputs_of_manifest` or `inputs_of_file`.
        labels: of `matching_labels`.
        files: of the user's.

    Raises:
        UsageError: a file was given that the record does not name.
        InputError: one it names was not given, or is another.
        WeightsError: published weights that cannot be had.
    """
    settings, recipe = inputs["settings"], find_recipe(inputs["recipe"])
    with tempfile.TemporaryDirectory(prefix="edge-verify-") as scratch:
        folder = Path(scratch)
        given: dict[str, Any] = {"--weights": files.weights, "--model": files.model, "--checkpoint": files.checkpoint}
        flag = recorded_source.needed_flag(inputs)
        if flag:
            path = given[flag]
            if path is None:
                raise _missing(flag, inputs["weights"])
            if not str(path).startswith(SCHEME):
                given[flag] = _linked(Path(path), inputs["weights"]["source"], folder)
        source = recorded_source.source_of(
            inputs, given["--weights"], given["--model"], ModelInput(), files.trusted, files.imports, given["--checkpoint"]
        )
        limits: Mapping[str, Any] = settings.get("limits") or {}
        asked = Settings(
            **_images(settings["images"], files.calibration, artifact.preprocessing_of(inputs), folder),
            labels=labels,
            input_dtype=settings["input"],
            output=settings["output"],
            gate=False,  # whether it may ship is not the question
            folder=folder / "artifacts",  # where nothing is, so that nothing is current
            repair=settings["repair"],
            position_tables=settings["position_tables"],
            portable=settings.get("portable", False),
            max_size_bytes=settings.get("max_size_bytes"),
            min_runtime=(DYNAMIC_SINCE[0], DYNAMIC_SINCE[1] - 1) if settings["without_dynamic"] else None,
            **{name: limits[name] for name in _LIMITS if name in limits},
        )
        require_tensorflow_backend()
        with step("load the runtime", subject=source.name):
            from edge.conversion.convert_model import convert
        model = FloatModel(source)
        todo = plan(model, [recipe], asked)
        ((outstanding, _),) = todo.outstanding
        return convert(model, outstanding, todo.images, todo.settings).artifact


def _missing(flag: str, recorded: Mapping[str, Any]) -> InputError:
    return InputError(
        "the file was made from one of yours, which is not at hand",
        expected=f"{flag} PATH: {recorded['source']}, SHA-256 {recorded['sha256']}",
        received=f"no {flag}",
        action="name it; it may have another name by now",
    )


def _images(recorded: Mapping[str, Any] | None, calibration: Path | None, preprocessing: Preprocessing, folder: Path) -> dict[str, Any]:
    """The settings that choose the images; of files, checked by their hash."""
    numbers = ("calibration_samples", "drift_samples", "agreement_samples", "seed")
    chosen = {name: recorded[name] if recorded else 1 for name in numbers}
    if recorded is None or recorded["source"] == BUILTIN:
        if calibration is not None:
            raise UsageError(
                "--calibration does not fit",
                expected="no --calibration: " + ("the file depends on no images" if recorded is None else "it was the built-in set"),
                received=f"--calibration {calibration}",
                action="leave --calibration out",
            )
        return chosen
    if calibration is None:
        raise _missing("--calibration", recorded)
    location = _linked(calibration, Path(recorded["source"]).name, folder)
    image_set = open_image_set(str(location))
    split = image_set.split(*(chosen[name] for name in ("calibration_samples", "drift_samples", "seed", "agreement_samples")))
    found = image_set.digest((*split.calibration, *split.held_out), preprocessing)
    if found != recorded["sha256"]:
        raise InputError(
            "other images than the recorded ones",
            expected=f"SHA-256 {recorded['sha256']} of those chosen from {recorded['source']}",
            received=f"SHA-256 {found} of {len(split.calibration)} + {len(split.held_out)} images of {calibration}",
            action="name the folder or zip as it was",
        )
    return chosen | {"calibration": str(location)}


def _linked(path: Path, name: str, folder: Path) -> Path:
    """The same file or folder under the name it had: names are recorded in what is made from it.

    Raises:
        EnvironmentUnusableError: another name, and a system that makes no links.
    """
    if path.name == name or not path.exists():
        return path
    link = folder / name
    try:
        link.symlink_to(path.resolve(), target_is_directory=path.is_dir())
    except OSError as error:
        raise EnvironmentUnusableError(
            "no link could be made", expected=f"a file or folder called {name}", received=f"{path}: {error.strerror}", action="rename it"
        ) from error
    return link
