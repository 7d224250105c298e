"""`python -m calibration.inspect DIR`: checks whether an image set is fit to calibrate a variant with.

Every check ends in ok, warn or fail. Only a failure makes the exit code 1.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from calibration.checks import FAIL, OK, WARN, Check, check_channel_order, check_content, check_statistics
from calibration.image_set import MAX_UNREADABLE_FRACTION, FileImageSet, open_image_set
from calibration.stability import LayerRange, check_stability, layer_extremes, layer_ranges
from calibration.survey import Overlap, Survey, channel_mean, channel_std, overlap, survey
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, InputError, UsageError, printable
from tfvit.preprocessing import Preprocessing, sides
from tfvit.progress import Progress, stepping
from tfvit.terminal import Parser, Terminal, run
from tfvit.variants import find_variant
from tfvit.weights_choice import WeightsChoice, build, resolve_weights

EXIT_CODES = """examples:
  python -m calibration.inspect photos
  python -m calibration.inspect photos --variant small224 --validation test

exit codes: 0 passed (warnings included), 1 a check failed, 2 wrong usage, 3 unusable input"""

ADVISED_IMAGES = 128  # the default number of calibration samples; with fewer, single images decide the ranges
MAX_DUPLICATE_FRACTION = 0.1  # beyond it, the set is much smaller than it looks
MAX_SMALL_FRACTION = 0.1  # of images that must be enlarged and then lack fine detail
_NAMED = 5  # paths named in a table; --json has all of them
_UNREADABLE_NAMED = 50


def run_checks(found: Survey, preprocessing: Preprocessing, shared: Overlap | None, ranges: Sequence[LayerRange] | None) -> list[Check]:
    """All checks of a survey with at least one readable image. `shared` is None without validation set, `ranges` if no model ran."""
    checks = [_check_readable(found), _check_count(found), _check_duplicates(found), _check_sizes(found, preprocessing)]
    checks += [check_content(found.images), _check_color(found), *check_statistics(found.images, preprocessing)]
    checks += [check_channel_order(found.images)]
    checks += [] if ranges is None else [check_stability(ranges)]
    return checks + ([] if shared is None else [_check_overlap(shared)])


def _check_readable(found: Survey) -> Check:
    total, broken = len(found.images) + len(found.unreadable), len(found.unreadable)
    status = OK if not broken else FAIL if broken > MAX_UNREADABLE_FRACTION * total else WARN
    return Check("readable", status, f"{broken} of {total} cannot be read" if broken else f"all {total}")


def _check_count(found: Survey) -> Check:
    different = len({image.digest for image in found.images})
    if different < 2:
        return Check("count", FAIL, f"{different} image: at least 2 different ones are needed")
    short = different < ADVISED_IMAGES
    return Check("count", WARN if short else OK, f"{different} different images" + (f", {ADVISED_IMAGES} are advised" if short else ""))


def _check_duplicates(found: Survey) -> Check:
    extra = sum(len(paths) - 1 for paths in found.duplicates())
    status = OK if not extra else FAIL if extra > MAX_DUPLICATE_FRACTION * len(found.images) else WARN
    return Check("duplicates", status, f"{extra} identical to another" if extra else "none")


def _check_sizes(found: Survey, preprocessing: Preprocessing) -> Check:
    least = min(sides(preprocessing.resize_px))
    small = sum(min(image.width_px, image.height_px) < least for image in found.images)
    status = WARN if small > MAX_SMALL_FRACTION * len(found.images) else OK
    return Check("sizes", status, f"{small} of {len(found.images)} are smaller than {least} px and enlarged")


def _check_color(found: Survey) -> Check:
    gray = sum(image.gray for image in found.images)
    if gray == len(found.images):
        return Check("colour", WARN, "every image is grayscale: right only if the app sees nothing else")
    return Check("colour", OK, f"{gray} of {len(found.images)} are grayscale")


def _check_overlap(shared: Overlap) -> Check:
    if not shared.identical and not shared.near:
        return Check("overlap", OK, "no image is in the validation set too")
    detail = f"{len(shared.identical)} identical and {len(shared.near)} nearly identical to an image of the validation set"
    return Check("overlap", FAIL, detail)


def inspect(directory: str, variant_id: str, validation: str | None, weights: str | None, progress: Progress) -> dict[str, Any]:
    """The document that `--json` prints.

    Args:
        weights: for the model that gives the ranges, like `--weights` of edge.convert; None runs no model.

    Raises:
        UserError: the variant is unknown, a set has no readable image, or there are no such weights.
    """
    preprocessing = find_variant(variant_id).preprocessing
    image_set, against = _open(directory), None if validation is None else _open(validation)
    choice = None if weights is None else resolve_weights(weights, find_variant(variant_id))
    found = _read(image_set, preprocessing, "reading", progress)
    shared = None if against is None else overlap(found, _read(against, preprocessing, "reading validation", progress))
    runs = len(found.images) >= 2 and _check_readable(found).status != FAIL  # of a set that edge.convert refuses nothing is run
    ranges = _ranges(image_set, variant_id, choice, progress) if choice is not None and runs else None
    checks = run_checks(found, preprocessing, shared, None if ranges is None else ranges[1])
    labels = collections.Counter(reference.label for reference in image_set.references if reference.label is not None)
    return {
        "schema_version": 1,
        "source": image_set.source,
        "variant": find_variant(variant_id).id,
        "passed": all(check.status != FAIL for check in checks),
        "checks": [dataclasses.asdict(check) for check in checks],
        "images": {"found": len(image_set.references), "readable": len(found.images), "labels": dict(sorted(labels.items()))},
        "other_files": image_set.other_files,
        "unreadable": [dataclasses.asdict(image) for image in found.unreadable],
        "duplicates": found.duplicates(),
        "sizes": {
            side: dict(zip(("min_px", "median_px", "max_px"), map(int, np.percentile(values, (0, 50, 100))), strict=True))
            for side, values in (
                ("width", [image.width_px for image in found.images]),
                ("height", [image.height_px for image in found.images]),
            )
        },
        "channels": {
            "mean": [round(float(value), 3) for value in channel_mean(found.images)],
            "std": [round(float(value), 3) for value in channel_std(found.images)],
            "expected_mean": list(preprocessing.mean),
            "expected_std": list(preprocessing.std),
        },
        "one_colour": [image.path for image in found.images if image.plain],
        "grayscale": sum(image.gray for image in found.images),
        "overlap": None if shared is None else dataclasses.asdict(shared),
        "ranges": None if ranges is None or choice is None else _ranges_document(choice, *ranges),
    }


def _ranges(image_set: FileImageSet, variant_id: str, choice: WeightsChoice, progress: Progress) -> tuple[int, list[LayerRange]]:
    """How many images ran, and the layers' ranges. The images are those that edge.convert would choose."""
    variant = find_variant(variant_id)
    images = image_set.split(ADVISED_IMAGES, 0, 0).calibration
    if choice.warning:
        progress.warn(choice.warning)
    with progress.stage("load TensorFlow", subject=variant.id):
        model, _ = build(variant, choice)
    with progress.stage("ranges", total=len(images)) as advance:
        pixels = stepping(image_set.read(images, variant.preprocessing), advance)
        layers, extremes = layer_extremes(model, pixels, variant.preprocessing)
    return len(extremes), layer_ranges(layers, extremes)


def _ranges_document(choice: WeightsChoice, images: int, ranges: Sequence[LayerRange]) -> dict[str, Any]:
    source = choice.published or (f"random:{choice.random_seed}" if choice.is_random else choice.file[0].name)
    weights = {"source": source, "sha256": choice.sha256, "random": choice.is_random}
    return {"images": images, "weights": weights, "layers": [dataclasses.asdict(one) for one in ranges]}


def _open(directory: str) -> FileImageSet:
    image_set = open_image_set(directory)
    if not isinstance(image_set, FileImageSet):
        raise UsageError(
            "the built-in set needs no inspection",
            expected="a folder or zip of images",
            received=directory,
            action="name your own images; a folder called builtin is ./builtin",
        )
    return image_set


def _read(image_set: FileImageSet, preprocessing: Preprocessing, what: str, progress: Progress) -> Survey:
    with progress.stage(what, total=len(image_set.references)) as advance:
        found = survey(image_set, stepping(image_set.references, advance), preprocessing)
    if not found.images:
        first = found.unreadable[0]
        raise InputError(
            f"no readable image in {image_set.source}",
            expected="images that can be decoded",
            received=f"{len(found.unreadable)} that cannot, first {printable(first.path)} ({printable(first.reason)})",
            action="check how these files were made",
        )
    return found


def table(document: dict[str, Any]) -> str:
    """The document as text."""
    images, sizes, channels = document["images"], document["sizes"], document["channels"]
    lines = [f"{printable(document['source'])} for {document['variant']}: {images['found']} images, {images['readable']} readable"]
    if document["other_files"]:
        others = ", ".join(f"{count} {printable(extension) or 'without extension'}" for extension, count in document["other_files"].items())
        lines.append(f"  ignored      {others}")
    if images["labels"]:
        lines.append(f"  labels       {len(images['labels'])}")
    for side in ("width", "height"):
        size = sizes[side]
        lines.append(f"  {side:12} {size['min_px']} to {size['max_px']} px, median {size['median_px']}")
    for name in ("mean", "std"):
        values, expected = (" ".join(f"{value:6.1f}" for value in channels[key]) for key in (name, f"expected_{name}"))
        lines.append(f"  RGB {name:8} {values}   (variant {expected})")
    if document["ranges"]:
        weights = document["ranges"]["weights"]
        label = "RANDOM weights" if weights["random"] else f"weights {printable(weights['source'])}"
        lines.append(f"  ranges       of {len(document['ranges']['layers'])} layers on {document['ranges']['images']} images, {label}")
    lines += [f"{check['status']:>4}  {check['name']:15} {check['detail']}" for check in document["checks"]]
    unreadable = [f"{printable(image['path'])}: {printable(image['reason'])}" for image in document["unreadable"]]
    lines += _named("unreadable", unreadable, _UNREADABLE_NAMED)
    lines += _named("duplicates", [" = ".join(map(printable, paths[:_NAMED])) for paths in document["duplicates"]])
    lines += _named("one colour", [printable(path) for path in document["one_colour"]])
    for kind, sign in (("identical", "="), ("near", "~")):
        pairs = (document["overlap"] or {kind: []})[kind]
        lines += _named(f"{kind} in validation", [f"{printable(here)} {sign} {printable(there)}" for here, there in pairs])
    return "\n".join(lines)


def _named(title: str, items: list[str], most: int = _NAMED) -> list[str]:
    more = [f"  ... and {len(items) - most} more"] if len(items) > most else []
    return [f"{title}:", *(f"  {item}" for item in items[:most]), *more] if items else []


def parser() -> Parser:
    parser = Parser(prog="python -m calibration.inspect", description=__doc__, epilog=EXIT_CODES)
    parser.add_argument("directory", metavar="DIR", help="folder or zip of images")
    parser.add_argument("--variant", default="small224", help="the model that the images are to calibrate (default: %(default)s)")
    parser.add_argument(
        "--validation", metavar="DIR2", help="folder or zip of validation images that must not be among them (default: none)"
    )
    parser.add_argument(
        "--ranges",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=f"run the model on up to {ADVISED_IMAGES} images, to see whether half of them give the same activation ranges (on)",
    )
    parser.add_argument("--weights", default="auto", help="weights of that model, as for edge.convert (default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _inspect, argv)


def _inspect(arguments: argparse.Namespace, terminal: Terminal) -> int:
    document = inspect(
        arguments.directory, arguments.variant, arguments.validation, arguments.weights if arguments.ranges else None, terminal.progress
    )
    terminal.text(document, table(document))
    return EXIT_OK if document["passed"] else EXIT_CHECK_FAILED


if __name__ == "__main__":
    sys.exit(main())
