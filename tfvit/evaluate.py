"""`python -m tfvit.evaluate --variant tiny224 --data imagenet_v2|DIR`: top-1 and top-5 by the published protocol.

The images are resized (bicubic, short side to input size / crop fraction), rounded and clipped to 8 bits, cropped to the centre, and
normalised as ImageNet's. DIR holds one folder a class. The folders are named after class numbers (0 … 999) or after lines of a --labels
file. Without --labels, folders of other names are taken in sorted order, if there are as many as classes.

--file evaluates a .tflite instead of the Keras model, on the same pixels.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tfvit.errors import EXIT_OK, EnvironmentUnusableError, InputError, UsageError, first_line, no_such_folder, reading
from tfvit.labels import class_indices, read_labels
from tfvit.preprocessing import Preprocessing, normalize, resize_and_crop, to_rgb
from tfvit.terminal import Parser, Terminal, run
from tfvit.variants import Variant, find_variant

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
CONFIDENCE_Z = 1.959964  # 95 %


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Right answers among `samples` images, as fractions, with 95 % Wilson intervals."""

    samples: int
    top1: float
    top5: float
    top1_interval: tuple[float, float]
    top5_interval: tuple[float, float]


def parser() -> Parser:
    parser = Parser(prog="python -m tfvit.evaluate", description=__doc__)
    parser.add_argument("--variant", required=True, help="for example tiny224")
    parser.add_argument("--data", required=True, help="imagenet_v2 (through tensorflow-datasets) or a folder with one folder a class")
    parser.add_argument("--weights", help="imagenet, imagenet21k, cifar10, or a file (default: the variant's own published weights)")
    parser.add_argument("--file", type=Path, help="a .tflite that takes RGB pixels 0..255, instead of the Keras model (default: the model)")
    parser.add_argument(
        "--labels", type=Path, help="text file with the class names in the model's order, one per line (default: the folders' names)"
    )
    parser.add_argument("--limit", type=int, help="at most this many images (default: all)")
    parser.add_argument("--batch-size", type=int, default=16, help="of the Keras model (default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _evaluate, argv)


def _evaluate(arguments: argparse.Namespace, terminal: Terminal) -> int:
    variant = find_variant(arguments.variant)
    weights = arguments.weights or variant.weights
    classes = read_labels(arguments.labels) if arguments.labels else None
    if arguments.limit is not None and arguments.limit < 1:
        raise UsageError(
            "unusable limit", expected="--limit of at least 1", received=str(arguments.limit), action="leave it out for all images"
        )
    if arguments.data == "imagenet_v2":
        examples, total = imagenet_v2()
    else:
        listed = labelled_images(Path(arguments.data), classes, len(classes) if classes else variant.classes)
        examples, total = ((_opened(path), label) for path, label in listed), len(listed)
    if arguments.limit:
        examples, total = itertools.islice(examples, arguments.limit), min(total or arguments.limit, arguments.limit)
    with terminal.progress.stage("load the model"):
        if arguments.file:
            predict = _file_predictor(arguments.file)
        else:
            predict = _keras_predictor(variant, weights, len(classes) if classes else None)
    with terminal.progress.stage("evaluate", total=total) as advance:
        accuracy = evaluate(predict, examples, variant.preprocessing, arguments.batch_size, advance)
    document = {"variant": variant.id, "data": arguments.data, "model": arguments.file.name if arguments.file else weights}
    rows = [
        (name, f"{100 * value:.2f} %", f"{100 * low:.2f} to {100 * high:.2f} %")
        for name, value, (low, high) in (("top-1", accuracy.top1, accuracy.top1_interval), ("top-5", accuracy.top5, accuracy.top5_interval))
    ]
    terminal.result(document | dataclasses.asdict(accuracy), ("accuracy", "value", "95 % interval"), rows, [f"{accuracy.samples} images"])
    return EXIT_OK


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[tuple[Image.Image, int]],
    preprocessing: Preprocessing,
    batch_size: int = 16,
    advance: Callable[[], None] = lambda: None,
) -> Accuracy:
    """Top-1 and top-5 of a model on labelled images.

    Args:
        predict: [B, height, width, 3] uint8 RGB pixels -> [B, classes] scores.
        examples: images with their class numbers.
        preprocessing: geometry of the model's input.
        batch_size: images in one call of `predict`.
        advance: called after each image.

    Raises:
        InputError: there is no image, an image is unreadable, or the scores are not finite.
    """
    right1 = right5 = samples = 0
    for batch in _batched(examples, batch_size):
        scores = np.asarray(predict(np.stack([_pixels(image, preprocessing) for image, _ in batch])))
        if not np.isfinite(scores).all():
            raise InputError(
                "the model's scores are not finite", expected="numbers", received="NaN or infinity", action="check the weights"
            )
        for (_, label), row in zip(batch, scores, strict=True):
            best = np.argsort(-row, kind="stable")[:5]
            right1 += int(best[0] == label)
            right5 += int(label in best)
            samples += 1
            advance()
    if not samples:
        raise InputError("no images to evaluate on", expected="at least one", received="none", action="check --data")
    return Accuracy(samples, right1 / samples, right5 / samples, wilson_interval(right1, samples), wilson_interval(right5, samples))


def wilson_interval(right: float, samples: int) -> tuple[float, float]:
    """95 % score interval of a proportion (E. B. Wilson 1927)."""
    share, z = right / samples, CONFIDENCE_Z
    centre = (share + z * z / (2 * samples)) / (1 + z * z / samples)
    half = z / (1 + z * z / samples) * math.sqrt(share * (1 - share) / samples + z * z / (4 * samples**2))
    return (0.0 if right == 0 else centre - half), (1.0 if right == samples else centre + half)


def labelled_images(folder: Path, classes: Sequence[str] | None, number: int) -> list[tuple[Path, int]]:
    """(path, class number) of every image in a folder that holds one folder a class.

    Args:
        classes: the class names in the model's order; None if the folders are named after numbers, or sorted like the classes.
        number: how many classes the model has.

    Raises:
        InputError: there are no folders or no images, or the folders do not tell their classes.
    """
    if not folder.is_dir():
        raise no_such_folder(folder, "imagenet_v2, or a folder with one folder a class", "check --data")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    indices = class_indices(names, classes, number)
    known = set(classes or map(str, range(number)))
    unknown = [name for name in names if name not in known]
    if not indices:
        raise InputError(
            "the folders' classes are not known",
            expected=f"folders named 0 … {number - 1}, or after the lines of --labels, or exactly {number} of them",
            received=f"{len(names)} folders in {folder}" + (f", {len(unknown)} unknown, first {unknown[0]!r}" if unknown else ""),
            action="name the classes with --labels",
        )
    found = [(path, indices[name]) for name in names for path in sorted((folder / name).rglob("*")) if path.suffix.lower() in IMAGE_ENDINGS]
    if not found:
        raise InputError(
            "no images in the folders", expected="JPEG, PNG, WebP or BMP files", received=f"none in {folder}", action="check --data"
        )
    return found


def imagenet_v2() -> tuple[Iterator[tuple[Image.Image, int]], int | None]:
    """The ImageNet-v2 test set through tensorflow-datasets, and its size, if known.

    Raises:
        EnvironmentUnusableError: the package is not installed, or the data set is neither cached nor to be downloaded.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise EnvironmentUnusableError(
            "ImageNet-v2 needs tensorflow-datasets",
            expected="the package tensorflow-datasets",
            received="it is not installed",
            action="pip install tensorflow-datasets, or pass a folder",
        ) from error
    try:
        dataset = tfds.load("imagenet_v2", split="test")
    except Exception as error:  # the package raises many kinds for a failed download
        raise EnvironmentUnusableError(
            "ImageNet-v2 cannot be had",
            expected="the data set in tensorflow-datasets' cache, or a network to fetch it",
            received=first_line(error),
            action="pass a folder with the images",
        ) from error
    examples = ((Image.fromarray(example["image"]), int(example["label"])) for example in tfds.as_numpy(dataset))
    size = int(dataset.cardinality())
    return examples, size if size >= 0 else None


def _keras_predictor(variant: Variant, weights: str, classes: int | None) -> Callable[[np.ndarray], np.ndarray]:
    from tfvit.model import build_variant

    model = build_variant(variant, weights=weights, classes=classes, classifier_activation=None)
    return lambda pixels: model.predict_on_batch(normalize(pixels, variant.preprocessing))


def _file_predictor(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    from edge.runtime import sandbox  # the one place where the library reaches up: only for a file that edge made
    from edge.runtime.cpu import Interpreter

    with reading(path, "a .tflite file", action="check --file"):
        file = path.read_bytes()
    sandbox.require_runs(file)
    interpreter = Interpreter(file, threads=2)
    return lambda pixels: np.concatenate([interpreter.run(image[None]) for image in pixels])


def _opened(path: Path) -> Image.Image:
    with _reading_image(path):
        return Image.open(path)


def _pixels(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    with _reading_image(getattr(image, "filename", "an image")):
        return resize_and_crop(to_rgb(image), preprocessing)


def _reading_image(name: Path | str) -> contextlib.AbstractContextManager[None]:
    return reading(name, "images that decode", "image", "repair or remove it", errors=(OSError, ValueError, SyntaxError))


def _batched(examples: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(examples)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


if __name__ == "__main__":
    sys.exit(main())
