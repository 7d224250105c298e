"""Trains a 32 px variant from scratch on CIFAR-10, or on any folder of images with one folder a class: Keras on JAX, minutes on a GPU.

    python examples/train_cifar10.py --variant nano32 --data cifar10/ --out build/nano32 --epochs 120

DATA holds `train.zip` and `test.zip`, or the folders `train` and `test`, each with one folder a class. The images lie on the device and
are augmented there; one compiled call is one epoch. A part of the training images is held out for the learning curve. The test images
are looked at once, at the end. OUT receives `history.csv` after every epoch. At the end it receives `NAME.safetensors` (the averaged
weights, float16, official names), `curve.png` and `report.json`.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.ndimage import map_coordinates
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))

import keras

from calibration.image_set import open_image_set
from tfvit.checkpoints.official import assign_tensors, official_tensors
from tfvit.errors import EXIT_OK, InputError, UsageError
from tfvit.evaluate import wilson_interval
from tfvit.model import build_variant
from tfvit.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, normalize
from tfvit.progress import Progress, stepping
from tfvit.terminal import Parser, Terminal, run
from tfvit.variants import Variant, find_variant

Array = Any
EVALUATION_BATCH = 500
MEANINGS = {
    "epochs": "passes over the training images",
    "batch_size": "images a step",
    "learning_rate": "at the end of the warm-up; a cosine takes it to 0",
    "warmup_epochs": "passes with a growing learning rate",
    "weight_decay": "of the kernels",
    "label_smoothing": "share of a label spread over all classes",
    "drop_path": "of the last block",
    "mixup": "alpha of the Beta distribution, for half of the batches",
    "cutmix": "alpha of the Beta distribution, for the other half",
    "affine": "share of the images that are turned, sheared and scaled",
    "colour": "share of the images with another brightness, contrast or saturation, each drawn apart",
    "erase": "share of the images that lose a rectangle",
    "ema": "momentum of the averaged weights, which are the ones that are kept",
    "validation": "training images held out for the learning curve",
    "seed": "of everything that is drawn",
}
# matrices that act on features: inside the blocks, two-dimensional
MUON_LAYERS = ("query", "key", "value", "projection", "fc1", "fc2", "reduction")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything but the data that decides the result.

    See `MEANINGS`.
    """

    variant: str
    epochs: int
    batch_size: int
    learning_rate: float
    warmup_epochs: int
    weight_decay: float
    label_smoothing: float
    drop_path: float
    mixup: float
    cutmix: float
    affine: float
    colour: float
    erase: float
    ema: float
    validation: int
    seed: int
    precision: str


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """[N, size, size, 3] uint8 RGB and their class numbers [N]."""

    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


def read_images(data: Path, part: str, preprocessing: Preprocessing, progress: Progress) -> LabelledImages:
    """All images of `part` ("train" or "test"), decoded.

    Raises:
        InputError: neither `part`.zip nor a folder `part`, no images, or images outside class folders.
    """
    source = next((path for path in (data / f"{part}.zip", data / part) if path.exists()), None)
    if source is None:
        raise InputError(
            f"no {part} images", expected=f"{part}.zip or a folder {part}", received=f"neither in {data}", action="check --data"
        )
    images = open_image_set(source)
    loose = [reference.path for reference in images.references if reference.label is None]
    if loose:
        raise InputError(
            f"{part} images without a class",
            expected="one folder a class",
            received=f"{len(loose)} images outside, first {loose[0]}",
            action="move them into folders named after their classes",
        )
    classes = tuple(sorted({reference.label for reference in images.references}))
    pixels, labels = [], []
    with progress.stage(f"read {source.name}", total=len(images.references)) as advance:
        for reference, image in stepping(images.read_with_references(images.references, preprocessing), advance):
            pixels.append(image)
            labels.append(classes.index(reference.label))
    return LabelledImages(np.stack(pixels), np.array(labels), classes)


def hold_out(images: LabelledImages, number: int, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """All but `number` images, and those: drawn by `seed`, whatever the rest of the recipe."""
    if not 0 < number < len(images.labels):
        raise UsageError(
            "cannot hold out that many images",
            expected=f"--validation between 1 and {len(images.labels) - 1}",
            received=str(number),
            action="pass fewer",
        )
    order = np.random.default_rng(seed).permutation(len(images.labels))
    first, rest = np.sort(order[:number]), np.sort(order[number:])
    return tuple(LabelledImages(images.pixels[which], images.labels[which], images.classes) for which in (rest, first))


def augmented(key: Array, pixels: Array, recipe: Recipe) -> Array:
    """[B, S, S, 3] in 0..255, shifted by up to 4 px and mirrored; some also bent, recoloured or partly erased."""
    number, side = pixels.shape[:2]
    keys = jax.random.split(key, 12)

    def uniform(which: int, low: float, high: float, shape: tuple[int, ...] = ()) -> Array:
        return jax.random.uniform(keys[which], (number, *shape), minval=low, maxval=high)

    bent = uniform(0, 0, 1) < recipe.affine
    angle = jnp.where(bent, uniform(1, -0.35, 0.35), 0.0)
    shear = jnp.where(bent, uniform(2, -0.2, 0.2), 0.0)
    scale = jnp.where(bent, uniform(3, 0.85, 1.15), 1.0)
    mirror = jnp.where(uniform(4, 0, 1) < 0.5, -1.0, 1.0)
    shift = jnp.round(uniform(5, -4.499, 4.499, (2,)))
    middle = (side - 1) / 2
    rows, columns = jnp.meshgrid(jnp.arange(side) - middle, jnp.arange(side) - middle, indexing="ij")

    def moved(image: Array, angle: Array, shear: Array, scale: Array, mirror: Array, shift: Array) -> Array:
        y = (jnp.cos(angle) * rows + jnp.sin(angle) * columns) / scale
        x = (-jnp.sin(angle) * rows + jnp.cos(angle) * columns) / scale + shear * rows
        y, x = y + shift[0] + middle, mirror * x + shift[1] + middle
        return jnp.stack([map_coordinates(image[..., channel], [y, x], order=1, mode="constant") for channel in range(3)], axis=-1)

    images = jax.vmap(moved)(pixels.astype(jnp.float32), angle, shear, scale, mirror, shift)

    def factor(which: int, spread: float) -> Array:
        strength = uniform(which, 1 - spread, 1 + spread, (2,))[:, 0]
        chosen = jax.random.uniform(jax.random.fold_in(keys[which], 1), (number,)) < recipe.colour
        return jnp.where(chosen, strength, 1.0)[:, None, None, None]

    images = images * factor(6, 0.4)
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    images = mean + (images - mean) * factor(7, 0.5)
    grey = images.mean(axis=3, keepdims=True)
    images = grey + (images - grey) * factor(8, 0.6)
    images = jnp.clip(images, 0, 255)
    size = uniform(9, 4, 14)
    centre = uniform(10, 0, side, (2,))
    near = [jnp.abs(jnp.arange(side)[None] - centre[:, axis : axis + 1]) < size[:, None] / 2 for axis in (0, 1)]
    hidden = near[0][:, :, None] & near[1][:, None, :] & (uniform(11, 0, 1) < recipe.erase)[:, None, None]
    return jnp.where(hidden[..., None], jnp.asarray(IMAGENET_MEAN), images)


def mixed(key: Array, inputs: Array, targets: Array, recipe: Recipe) -> tuple[Array, Array]:
    """Half of the batches with cutmix (arXiv:1905.04899), half with mixup (arXiv:1710.09412)."""
    side = inputs.shape[1]
    choice, first, second, place, partner = jax.random.split(key, 5)
    other = jax.random.permutation(partner, len(inputs))
    keep = jax.random.beta(first, recipe.mixup, recipe.mixup)
    area = jax.random.beta(second, recipe.cutmix, recipe.cutmix)
    edge = jnp.sqrt(1 - area) * side
    centre = jax.random.uniform(place, (2,), maxval=side)
    near = [jnp.abs(jnp.arange(side) + 0.5 - centre[axis]) < edge / 2 for axis in (0, 1)]
    patch = (near[0][:, None] & near[1][None, :]).astype(inputs.dtype)
    cut = jax.random.uniform(choice) < 0.5
    share = jnp.where(cut, 1 - patch.mean(), keep)
    weight = jnp.where(cut, 1 - patch, keep)[None, :, :, None]
    return weight * inputs + (1 - weight) * inputs[other], share * targets + (1 - share) * targets[other]


def make_optimizer(names: list[str], schedule: Callable[[Array], Array], recipe: Recipe) -> optax.GradientTransformation:
    """Muon (arXiv:2502.16982) for the matrices inside the blocks, AdamW for everything else; kernels decay, nothing else does."""

    def kind(name: str) -> str:
        parts = name.split("/")
        if parts[-1] != "kernel":
            return "plain"
        inside = parts[-2] in MUON_LAYERS and "patch_embedding" not in parts
        return "muon" if inside else "adamw"

    def wide(updates: Any, params: Any = None) -> Any:
        # updates of root mean square 0.2, as AdamW's are
        return jax.tree.map(lambda update: 0.2 * max(update.shape) ** 0.5 * update, updates)

    def matrices(updates: Any) -> Any:
        return jax.tree.map(lambda update: optax.contrib.MuonDimensionNumbers(), updates)

    decay = optax.add_decayed_weights(recipe.weight_decay)
    down = optax.scale_by_learning_rate(schedule)
    half = optax.scale_by_learning_rate(lambda step: 0.5 * schedule(step))
    adam = optax.scale_by_adam(b2=0.99)
    groups = {
        "muon": optax.chain(optax.contrib.scale_by_muon(weight_dimension_numbers=matrices), optax.stateless(wide), decay, down),
        "adamw": optax.chain(adam, decay, half),
        "plain": optax.chain(adam, half),
    }
    labels = {name: kind(name) for name in names}
    return optax.chain(optax.clip_by_global_norm(1.0), optax.multi_transform(groups, labels))


def initialize(model: Any, seed: int) -> None:
    """Draws the kernels of the dense layers by their fans (Glorot normal) instead of with the constructor's standard deviation of 0.02.

    That constant suits the wide published variants and long training; at 64 channels it starts every branch nearly dead.
    """
    rng = np.random.default_rng([seed, 3])
    for weight in model.trainable_variables:
        if weight.path.endswith("/kernel") and "cpb" not in weight.path and "head" not in weight.path:
            fan_in, fan_out = int(np.prod(weight.shape[:-1])), weight.shape[-1]
            weight.assign(rng.normal(0.0, np.sqrt(2.0 / (fan_in + fan_out)), weight.shape).astype(np.float32))


def draw_curve(history: Path, path: Path, title: str) -> None:
    """Loss on the augmented training images and accuracy on the held-out ones over the epochs, as PNG."""
    from matplotlib.figure import Figure

    with history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, column, label in zip(
        figure.subplots(1, 2),
        ("loss", "val_accuracy"),
        ("cross-entropy loss, training (augmented)", "top-1 accuracy, held out (averaged weights)"),
        strict=True,
    ):
        measured = [(int(row["epoch"]), float(row[column])) for row in rows if row[column]]
        axes.plot(*zip(*measured, strict=True))
        axes.set(xlabel="epoch")
        axes.set_title(label, fontsize="medium")
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def train(
    recipe: Recipe, variant: Variant, training: LabelledImages, validation: LabelledImages, out: Path, progress: Progress
) -> keras.Model:
    """The trained model (logits), with its averaged weights in place."""
    classes = len(training.classes)
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision)
    model = build_variant(variant, weights=None, classes=classes, classifier_activation=None, drop_path_rate=recipe.drop_path)
    initialize(model, recipe.seed)
    names = [variable.path for variable in model.trainable_variables]
    mean, std = (jnp.asarray(values, jnp.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
    steps = len(training.labels) // recipe.batch_size
    warmup, total = recipe.warmup_epochs * steps, recipe.epochs * steps

    def rate(step: Array) -> Array:
        done = jnp.clip((step - warmup) / max(total - warmup, 1), 0, 1)
        return recipe.learning_rate * jnp.minimum((step + 1) / max(warmup, 1), 0.5 * (1 + jnp.cos(jnp.pi * done)))

    optimizer = make_optimizer(names, rate, recipe)

    def logits(params: dict[str, Array], state: list[Array], inputs: Array, training: bool) -> tuple[Array, list[Array]]:
        outputs, state = model.stateless_call([params[name] for name in names], state, (inputs - mean) / std, training=training)
        return outputs.astype(jnp.float32), state

    def loss(params: Any, state: Any, inputs: Array, targets: Array) -> Any:
        outputs, state = logits(params, state, inputs, training=True)
        return optax.softmax_cross_entropy(outputs, targets).mean(), state

    @jax.jit
    def epoch(carry: Any, key: Array, pixels: Array, labels: Array) -> Any:
        order = jax.random.permutation(key, len(labels))[: steps * recipe.batch_size].reshape(steps, -1)

        def step(carry: Any, which: Array) -> Any:
            params, average, optimizing, state, count = carry
            first, second = jax.random.split(jax.random.fold_in(key, count))
            targets = optax.smooth_labels(jax.nn.one_hot(labels[which], classes), recipe.label_smoothing)
            inputs, targets = mixed(second, augmented(first, pixels[which], recipe), targets, recipe)
            (value, state), gradients = jax.value_and_grad(loss, has_aux=True)(params, state, inputs, targets)
            updates, optimizing = optimizer.update(gradients, optimizing, params)
            params = optax.apply_updates(params, updates)
            momentum = jnp.minimum(recipe.ema, (1 + count) / (10 + count))  # the first steps are soon forgotten
            average = jax.tree.map(lambda mean, new: momentum * mean + (1 - momentum) * new, average, params)
            return (params, average, optimizing, state, count + 1), value

        carry, values = jax.lax.scan(step, carry, order)
        return carry, values.mean()

    @jax.jit
    def right(params: Any, state: Any, pixels: Array, labels: Array) -> Array:
        outputs, _ = logits(params, state, pixels.astype(jnp.float32), training=False)
        return (outputs.argmax(-1) == labels).sum()

    def accuracy(params: Any, state: Any) -> float:
        parts = range(0, len(validation.labels), EVALUATION_BATCH)
        images, labels = validation.pixels, validation.labels
        return sum(int(right(params, state, images[i : i + EVALUATION_BATCH], labels[i : i + EVALUATION_BATCH])) for i in parts) / len(
            labels
        )

    params = {variable.path: jnp.asarray(variable.value) for variable in model.trainable_variables}
    state = [jnp.asarray(variable.value) for variable in model.non_trainable_variables]
    carry = (params, params, optimizer.init(params), state, jnp.zeros((), jnp.int32))
    pixels, labels = jnp.asarray(training.pixels), jnp.asarray(training.labels)
    with progress.stage(f"train on {jax.devices()[0].device_kind}", total=recipe.epochs) as advance:
        for done in stepping(range(1, recipe.epochs + 1), advance):
            carry, value = epoch(carry, jax.random.fold_in(jax.random.key(recipe.seed), done - 1), pixels, labels)
            row = {"epoch": done, "loss": f"{float(value):.5f}", "val_accuracy": f"{accuracy(carry[1], carry[3]):.4f}"}
            append_history(out / "history.csv", row)
            progress.note("  ".join(f"{name} {value}" for name, value in row.items()))
    draw_curve(out / "history.csv", out / "curve.png", f"{variant.id}, {recipe.epochs} epochs")
    for variable in model.trainable_variables:
        variable.assign(carry[1][variable.path])
    return model


def save(model: keras.Model, recipe: Recipe, variant: Variant, test: LabelledImages, out: Path) -> dict[str, Any]:
    """Rounds the weights to float16, measures them on the test images, and writes both down."""
    tensors = {name: tensor.astype(np.float16) for name, tensor in official_tensors(model).items()}
    keras.config.set_dtype_policy("float32")
    shipped = build_variant(variant, weights=None, classes=len(test.classes), classifier_activation=None)
    assign_tensors(shipped, tensors, variant.id, "the trained weights")
    logits = shipped.predict(normalize(test.pixels, variant.preprocessing), batch_size=EVALUATION_BATCH, verbose=0)
    right = int((logits.argmax(axis=-1) == test.labels).sum())
    report = {
        "test_top1": right / len(test.labels),
        "interval": list(wilson_interval(right, len(test.labels))),
        "test_images": len(test.labels),
        "classes": list(test.classes),
        "backend": f"jax {jax.__version__}, {jax.devices()[0].device_kind}",
        "keras": keras.__version__,
        "recipe": dataclasses.asdict(recipe),
    }
    save_file(tensors, out / f"{variant.id}.safetensors", metadata={"format": "pt", "classes": json.dumps(list(test.classes))})
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def parser() -> Parser:
    parser = Parser(prog="python examples/train_cifar10.py", description=__doc__)
    parser.add_argument("--variant", default="nano32", help="a 32 px variant (%(default)s)")
    parser.add_argument("--data", type=Path, required=True, help="folder with train.zip and test.zip, or train/ and test/")
    parser.add_argument("--out", type=Path, required=True, help="new folder for curve, weights and report")
    defaults = {"epochs": 120, "batch_size": 512, "learning_rate": 2e-3, "warmup_epochs": 5, "weight_decay": 0.08, "label_smoothing": 0.1}
    defaults |= {"drop_path": 0.05, "mixup": 0.4, "cutmix": 1.0, "affine": 0.5, "colour": 0.5, "erase": 0.25, "ema": 0.999}
    defaults |= {"validation": 2000, "seed": 0}
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"{MEANINGS[name]} (%(default)s)")
    parser.add_argument("--precision", default="mixed_bfloat16", choices=("float32", "mixed_bfloat16"), help="(%(default)s)")
    return parser


def _train(arguments: argparse.Namespace, terminal: Terminal) -> int:
    variant = find_variant(arguments.variant)
    names = {field.name for field in dataclasses.fields(Recipe)}
    recipe = Recipe(**{name: value for name, value in vars(arguments).items() if name in names} | {"variant": variant.id})
    _check(recipe)
    if arguments.out.exists():
        raise UsageError("--out exists already", expected="a new folder", received=str(arguments.out), action="pass another --out")
    progress = terminal.progress
    training, test = (read_images(arguments.data, part, variant.preprocessing, progress) for part in ("train", "test"))
    if training.classes != test.classes:
        raise InputError(
            "training and test images have different classes",
            expected=", ".join(training.classes),
            received=", ".join(test.classes),
            action="give both the same folders",
        )
    training, validation = hold_out(training, recipe.validation, recipe.seed)
    if recipe.batch_size > len(training.labels):
        raise UsageError(
            "the batch is larger than the training set",
            expected=f"--batch-size up to {len(training.labels)}",
            received=str(recipe.batch_size),
            action="pass fewer",
        )
    arguments.out.mkdir(parents=True)
    model = train(recipe, variant, training, validation, arguments.out, progress)
    report = save(model, recipe, variant, test, arguments.out)
    rows = [(variant.id, f"{100 * report['test_top1']:.2f} %", "{:.2f} to {:.2f} %".format(*(100 * x for x in report["interval"])))]
    terminal.result(report, ("variant", "test top-1", "95 % interval"), rows, [f"{report['test_images']} test images, in {arguments.out}"])
    return EXIT_OK


def _check(recipe: Recipe) -> None:
    shares = ("drop_path", "ema", "label_smoothing", "affine", "colour", "erase")
    ranges = {
        "epochs": recipe.epochs >= 1,
        "batch_size": recipe.batch_size >= 1,
        "warmup_epochs": 0 <= recipe.warmup_epochs < recipe.epochs,
        "mixup": recipe.mixup > 0,
        "cutmix": recipe.cutmix > 0,
        "seed": recipe.seed >= 0,
    } | {name: 0 <= getattr(recipe, name) <= 1 for name in shares}
    wrong = [name for name, fits in ranges.items() if not fits]
    if wrong:
        raise UsageError(
            "unusable recipe",
            expected="epochs and batch size from 1, warm-up shorter than the training, shares from 0 to 1, positive alphas",
            received=", ".join(f"--{name.replace('_', '-')} {getattr(recipe, name)}" for name in wrong),
            action="change these",
        )


def append_history(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _train, argv)


if __name__ == "__main__":
    sys.exit(main())
