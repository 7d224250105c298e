"""`python -m edge.validate FILE --images DIR`: a file against the float Keras model it was made from, on images of yours.

The reference is rebuilt from the manifest beside FILE. Three differences are printed apart: preprocessing (what the app does to an image
against what the model was made for), export (Keras against its float32 file) and quantization (the float32 file against FILE).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge import flags
from edge.drift.limits import Limits
from edge.runtime.machine import usable_cores
from edge.validation.table import PATHS_SHOWN, show
from tfvit.errors import InputError, UsageError
from tfvit.extras import require_extra
from tfvit.labels import checked_labels, class_indices, read_labels
from tfvit.terminal import Parser, Terminal, run

# --app-preprocessing -> in words
APP_PREPROCESSING = {
    "manifest": "as the manifest says",
    "bilinear": "bilinear instead of bicubic",
    "squash": "both sides straight to the input's size, aspect not kept",
    "squash-bilinear": "both, as plain bitmap scaling does",
}
BUILTIN_SAMPLES = 256
# The float32 file's answers are Keras's to six digits or more; that takes no more images to see
FLOAT32_SAMPLES = 1024

_EPILOG = """exit codes: 0 within the limits, 1 a limit missed or not the file its manifest describes, 2 wrong usage, 3 unusable input
Answers are kept (--cache), so that a run that was stopped goes on where it was, and the next recipe of a model costs only its own run.
"""


def parser() -> Parser:
    """The command line of CONTRACT, and more."""
    parser = Parser(prog="python -m edge.validate", description=__doc__, epilog=_EPILOG)
    parser.add_argument("file", type=Path, metavar="FILE", help="a .tflite with its manifest beside it")
    parser.add_argument(
        "--images", default="builtin", help="folder or zip; LABEL/NAME in it gives accuracies; or builtin, generated ones (%(default)s)"
    )
    parser.add_argument("--samples", type=int, help=f"how many of the images (all; of builtin {BUILTIN_SAMPLES})")
    parser.add_argument("--seed", type=int, default=0, help="which, where not all (%(default)s)")
    parser.add_argument("--labels", type=Path, help="text file with the class names in the model's order (those of the artifact)")
    parser.add_argument("--weights", type=Path, help="the checkpoint FILE was made from, where the manifest names a file of yours")
    parser.add_argument("--model", type=Path, help="the saved .keras model FILE was made from, where the manifest names one")
    parser.add_argument("--trust-model", action="store_true", help="run Python code in --model (lambdas): only where you trust the file")
    parser.add_argument("--model-input", choices=("auto", "normalized", "pixels"), default="auto", help="as given to edge.convert (auto)")
    parser.add_argument(
        "--app-preprocessing",
        choices=APP_PREPROCESSING,
        default="manifest",
        help="; ".join(f"{name}: {words}" for name, words in APP_PREPROCESSING.items()) + " (%(default)s)",
    )
    parser.add_argument(
        "--float32-samples",
        type=_number_or_all,
        default=FLOAT32_SAMPLES,
        metavar="N|all",
        help="on how many of the images, spread over all, the float32 file runs too, to tell export from quantization; the gate and the "
        "total difference are of all images (%(default)s)",
    )
    parser.add_argument("--layers", action="store_true", help="where the error comes from: every dense layer beside its float one")
    parser.add_argument("--layer-samples", type=int, default=8, help="on how many of the images (%(default)s)")
    parser.add_argument("--max-top1-drop", type=flags.finite, help="limit in percentage points (the manifest's)")
    parser.add_argument("--min-agreement", type=flags.finite, help="limit, fraction of images with the same top-1 (the manifest's)")
    parser.add_argument("--min-snr", type=flags.finite, help="limit in dB (the manifest's)")
    parser.add_argument("--jobs", "--threads", dest="jobs", type=int, metavar="N", help="images side by side (as many as cores)")
    flags.add_cache_flags(parser)
    parser.add_argument(
        "--thumbnails",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="small pictures of the images with another answer, in JSON",
    )
    parser.add_argument("--save", type=Path, metavar="FILE.json", help="write the JSON document there as well; edge.report reads it")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _validate, argv)


def _validate(arguments: argparse.Namespace, terminal: Terminal) -> int:
    _check_numbers(arguments)
    require_extra("edge", "validating", "ai_edge_litert", "scipy", "platformdirs")
    store = flags.chosen_store(arguments)
    from edge.artifacts import artifact, atomic_files

    if arguments.save:
        atomic_files.require_replaceable(arguments.save, "validation")
    found = artifact.load(arguments.file, verify=False)

    from calibration.image_set import open_image_set
    from edge.export import recorded_source
    from edge.validation import validate_file

    takes_pixels = {"auto": None, "normalized": False, "pixels": True}[arguments.model_input]
    recorded_source.require_usable(found.manifest)
    source = recorded_source.source_of(found.manifest, arguments.weights, arguments.model, takes_pixels, arguments.trust_model)
    limits = _limits(found.manifest, arguments)
    image_set = open_image_set(arguments.images)
    references = _chosen(image_set, found.manifest["calibration"], arguments)
    images = _labelled(validate_file, image_set, references, found, arguments.labels, terminal)
    _note_calibration_images(found.manifest["calibration"], image_set, references, terminal)
    settings = validate_file.Settings(
        app_preprocessing=arguments.app_preprocessing,
        float32_samples=arguments.float32_samples,
        threads=arguments.jobs or usable_cores(),
        store=store,
        layer_samples=arguments.layer_samples if arguments.layers else 0,
        limits=limits,
        thumbnails=arguments.thumbnails,
    )
    document = validate_file.validate(found, source, images, settings, terminal.progress)
    if arguments.save:
        atomic_files.save_document(arguments.save, document)
    return show(document, terminal)


def _limits(manifest: Mapping[str, Any], arguments: argparse.Namespace) -> Limits:
    given = {"min_snr_db": arguments.min_snr, "min_agreement": arguments.min_agreement, "max_top1_drop": arguments.max_top1_drop}
    return Limits(**{name: manifest["drift"]["limits"][name] if value is None else value for name, value in given.items()})


def _chosen(image_set: Any, calibration: Mapping[str, Any] | None, arguments: argparse.Namespace) -> list[Any]:
    """All images, or --samples of them, in the set's own order; of generated ones those behind the calibration's."""
    if image_set.source == "builtin":
        same = calibration and (calibration["source"], calibration["seed"]) == ("builtin", arguments.seed)
        split = image_set.split(calibration["samples"] if same else 1, arguments.samples or BUILTIN_SAMPLES, arguments.seed)
        return list(split.held_out)
    if arguments.samples is None or arguments.samples >= len(image_set.references):
        return list(image_set.references)
    taken = set(image_set.shuffled(arguments.seed)[: arguments.samples])
    return [reference for reference in image_set.references if reference in taken]


def _labelled(validation: Any, image_set: Any, references: Sequence[Any], artifact: Any, labels: Path | None, terminal: Terminal) -> Any:
    """The images with what their folders mean to the model.

    Raises:
        InputError: --labels that do not name the folders, or are not as many as the model has classes.
    """

    number = artifact.manifest["classes"]
    names = checked_labels(read_labels(labels) if labels else artifact.labels, number)
    folders = {reference.label for reference in references if reference.label is not None}
    indices: dict[str, int] = {}
    if folders and all(reference.label is not None for reference in references):
        indices = class_indices(sorted(folders), names, number) or ({} if labels else class_indices(sorted(folders), None, number))
        if not indices and labels:
            raise InputError(
                "the folders are not the labels'",
                expected=f"folders named after the lines of {labels}",
                received=", ".join(sorted(folders)[:PATHS_SHOWN]),
                action="rename the folders, or pass other labels",
            )
        if not indices:
            terminal.progress.note(f"the folders' names are not the model's classes ({', '.join(sorted(folders)[:3])} …): no accuracy")
        elif names is None or not folders <= set(names):
            terminal.progress.note(
                "the folders are taken for the classes by their number, or in sorted order: give --labels if they are not"
            )
    return validation.Images(image_set, references, names, indices)


def _note_calibration_images(calibration: Mapping[str, Any] | None, image_set: Any, references: Sequence[Any], terminal: Terminal) -> None:
    """Warns where the file was calibrated with images of the same set."""
    if not calibration or calibration["source"] != image_set.source:
        return
    used = image_set.split(calibration["samples"], 0, calibration["seed"]).calibration
    again = len({reference.path for reference in used} & {reference.path for reference in references})
    if again:
        terminal.progress.warn(f"{again} of these images are among the {calibration['samples']} that FILE was calibrated with")


def _check_numbers(arguments: argparse.Namespace) -> None:
    for flag, value in (("--samples", arguments.samples), ("--layer-samples", arguments.layer_samples), ("--jobs", arguments.jobs)):
        if value is not None and value < 1:
            raise UsageError("nothing to do", expected=f"{flag} of at least 1", received=str(value), action=f"leave {flag} out")
    if arguments.seed < 0:
        raise UsageError("unusable seed", expected="--seed of at least 0", received=str(arguments.seed), action="leave it out")


def _number_or_all(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number of at least 1, or all. Received: {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
