"""Trains nano32 or v2_nano32 from scratch on CIFAR-10, or on any folder of 32 px images with one folder a class.

    python examples/train_cifar10.py --variant nano32 --data cifar10/ --out build/nano32

DATA holds `train.zip` and `test.zip`, or the folders `train` and `test`, each with one folder a class. A part of the training images is
held out for the learning curve. The test images are looked at once, at the end. OUT receives `history.csv` and `curve.png` after every
epoch. At the end it receives `NAME.safetensors` (float16, official names) and `report.json`. The same command continues a killed run after
its last whole epoch.

KERAS_BACKEND chooses Keras's backend, as always. "torch" with `--precision mixed_bfloat16` was the fastest on a CPU with bfloat16
instructions; "jax" and "torch" run on a GPU.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from calibration.image_set import open_image_set
from tfvit.errors import EXIT_OK, InputError, UsageError
from tfvit.evaluate import wilson_interval
from tfvit.preprocessing import Preprocessing, normalize
from tfvit.progress import Progress, stepping
from tfvit.terminal import Parser, Terminal, run
from tfvit.variants import Variant, find_variant

EVALUATION_BATCH = 500
CROP_MARGIN_PX = 4
RECIPE = "recipe.json"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything but the data that decides the result.

    Attributes:
        optimizer: "muon" (arXiv:2502.16982; matrices inside the blocks, AdamW for everything else) or "adamw".
        learning_rate: at the end of the warm-up; a cosine takes it to 0.
        ema: momentum of the averaged weights, which are the ones that are kept.
        mixup: alpha of the Beta distribution (arXiv:1710.09412), 0 for none.
        randaugment: operations an image (arXiv:1909.13719), 0 for none.
        validation: training images held out for the learning curve.
    """

    variant: str
    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    warmup_epochs: float
    weight_decay: float
    label_smoothing: float
    drop_path: float
    mixup: float
    randaugment: int
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


def parser() -> Parser:
    parser = Parser(prog="python examples/train_cifar10.py", description=__doc__)
    parser.add_argument("--variant", default="nano32", help="nano32 or v2_nano32 (%(default)s)")
    parser.add_argument("--data", type=Path, required=True, help="folder with train.zip and test.zip, or train/ and test/")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, curve and weights")
    parser.add_argument("--epochs", type=int, default=300, help="(%(default)s)")
    parser.add_argument("--batch-size", type=int, default=128, help="(%(default)s)")
    parser.add_argument("--optimizer", default="muon", choices=("muon", "adamw"), help="(%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="at the end of the warm-up (%(default)s)")
    parser.add_argument("--warmup-epochs", type=float, default=5.0, help="(%(default)s)")
    parser.add_argument("--weight-decay", type=float, default=0.05, help="of the kernels (%(default)s)")
    parser.add_argument("--label-smoothing", type=float, default=0.1, help="(%(default)s)")
    parser.add_argument("--drop-path", type=float, help="of the last block (the variant's)")
    parser.add_argument("--mixup", type=float, default=0.2, help="alpha, 0 for none (%(default)s)")
    parser.add_argument("--randaugment", type=int, default=2, help="operations an image, 0 for none (%(default)s)")
    parser.add_argument("--ema", type=float, default=0.999, help="momentum of the averaged weights (%(default)s)")
    parser.add_argument("--validation", type=int, default=2000, help="training images held out for the curve (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--precision", default="float32", choices=("float32", "mixed_bfloat16", "mixed_float16"), help="(%(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _train, argv)


def _train(arguments: argparse.Namespace, terminal: Terminal) -> int:
    variant = find_variant(arguments.variant)
    names = {field.name for field in dataclasses.fields(Recipe)}
    values = {name: value for name, value in vars(arguments).items() if name in names}
    drop_path = variant.drop_path_rate if arguments.drop_path is None else arguments.drop_path
    recipe = Recipe(**values | {"variant": variant.id, "drop_path": drop_path})
    _check(recipe)
    _refuse_other_run(arguments.out, recipe)
    progress = terminal.progress
    training = read_images(arguments.data, "train", variant.preprocessing, progress)
    test = read_images(arguments.data, "test", variant.preprocessing, progress)
    if training.classes != test.classes:
        raise InputError(
            "training and test images have different classes",
            expected=", ".join(training.classes),
            received=", ".join(test.classes),
            action="give both the same folders",
        )
    training, validation = hold_out(training, recipe.validation, recipe.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / RECIPE).write_text(json.dumps(dataclasses.asdict(recipe), indent=2) + "\n", encoding="utf-8")
    model = fit(recipe, variant, training, validation, arguments.out, progress)
    report = save(model, recipe, variant, test, arguments.out, progress)
    rows = [(variant.id, f"{100 * report['test_top1']:.2f} %", "{:.2f} to {:.2f} %".format(*(100 * x for x in report["interval"])))]
    terminal.result(report, ("variant", "test top-1", "95 % interval"), rows, [f"{report['test_images']} test images, in {arguments.out}"])
    return EXIT_OK


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


def augmented(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image shifted by up to `CROP_MARGIN_PX` (black comes in) and mirrored half of the time. [B, S, S, 3] uint8 -> the same."""
    side, margin = pixels.shape[1], CROP_MARGIN_PX
    padded = np.pad(pixels, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    top, left = rng.integers(0, 2 * margin + 1, (2, len(pixels), 1, 1))
    columns = np.where(rng.random((len(pixels), 1, 1)) < 0.5, np.arange(side)[::-1], np.arange(side))
    return padded[np.arange(len(pixels))[:, None, None], top + np.arange(side)[:, None], left + columns]


def fit(recipe: Recipe, variant: Variant, training: LabelledImages, validation: LabelledImages, out: Path, progress: Progress) -> Any:
    """The trained Keras model (logits), with its averaged weights in place."""
    import keras

    from tfvit.model import build_variant

    class Batches(keras.utils.PyDataset):
        """Augmented batches. Each is drawn from the seed, the epoch and the step alone: Keras may ask for any of them more than once."""

        epoch = 0

        def start(self, epoch: int) -> None:
            self.order = np.random.default_rng([recipe.seed, epoch]).permutation(len(training.labels))
            self.epoch = epoch

        def __len__(self) -> int:
            return len(training.labels) // recipe.batch_size

        def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
            which = self.order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            rng = np.random.default_rng([recipe.seed, self.epoch, 2, step])
            pixels, targets = (
                augmented(training.pixels[which], rng),
                np.eye(len(training.classes), dtype=np.float32)[training.labels[which]],
            )
            if recipe.randaugment:
                layer = keras.layers.RandAugment(value_range=(0, 255), num_ops=recipe.randaugment, seed=int(rng.integers(2**31)))
                pixels = np.clip(keras.ops.convert_to_numpy(layer(pixels.astype(np.float32), training=True)), 0, 255)
            inputs = normalize(pixels, variant.preprocessing).astype(np.float32)
            if recipe.mixup:
                share, other = np.float32(rng.beta(recipe.mixup, recipe.mixup)), rng.permutation(len(which))
                inputs = share * inputs + (1 - share) * inputs[other]
                targets = share * targets + (1 - share) * targets[other]
            return inputs, targets

    class Checkpoint(keras.callbacks.Callback):
        """Saves everything after every epoch, in one move; the optimizer's step count tells how far a run had got."""

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            partial = checkpoint.with_name("partial.weights.h5")
            _append_history(out / "history.csv", epoch + 1, logs)
            draw_curve(out / "history.csv", out / "curve.png", f"{variant.id}, {recipe.epochs} epochs")
            self.model.save_weights(partial, overwrite=True)
            os.replace(partial, checkpoint)

    class Seeds(keras.callbacks.Callback):
        """Every epoch's batches and drop path come from the seed and the epoch: weights files do not hold the layers' generators."""

        def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            batches.start(epoch)
            rng = np.random.default_rng([recipe.seed, epoch, 4])
            for layer in self.model._flatten_layers():
                if hasattr(layer, "seed_generator"):
                    layer.seed_generator.state.assign(rng.integers(2**31, size=2))

    class Bar(keras.callbacks.Callback):
        """One stage of the terminal's progress an epoch."""

        def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            self.stage = progress.stage(f"epoch {epoch + 1} of {recipe.epochs}", total=steps)
            self.advance = self.stage.__enter__()

        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
            self.advance()

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            self.stage.__exit__(None, None, None)
            progress.note("  ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items()))

    checkpoint = out / "checkpoint.weights.h5"
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision)
    model = build_variant(variant, weights=None, classes=len(training.classes), classifier_activation=None, drop_path_rate=recipe.drop_path)
    initialize(model, recipe.seed)
    steps = len(training.labels) // recipe.batch_size
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps=max(1, round((recipe.epochs - recipe.warmup_epochs) * steps)),
        warmup_target=recipe.learning_rate,
        warmup_steps=round(recipe.warmup_epochs * steps),
    )
    shared = {"weight_decay": recipe.weight_decay, "global_clipnorm": 1.0, "use_ema": True, "ema_momentum": recipe.ema}
    if recipe.optimizer == "muon":
        # one-dimensional weights take AdamW by themselves; these two kinds of matrices do not act on features
        others = ["head", "cpb_", "relative_position_bias_table", "logit_scale"]
        optimizer = keras.optimizers.Muon(
            schedule, exclude_layers=others, adam_weight_decay=recipe.weight_decay, adam_lr_ratio=0.5, adam_beta_2=0.99, **shared
        )
    else:
        optimizer = keras.optimizers.AdamW(schedule, beta_2=0.99, **shared)
    optimizer.exclude_from_weight_decay(var_list=[weight for weight in model.trainable_variables if not weight.path.endswith("/kernel")])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    model.compile(optimizer, loss, metrics=["accuracy"])
    optimizer.build(model.trainable_variables)
    if checkpoint.exists():
        model.load_weights(checkpoint)
    done = int(optimizer.iterations) // steps
    if done:
        progress.note(f"taken up after epoch {done}")
    _keep_history(out / "history.csv", done)
    if done < recipe.epochs:
        batches = Batches()
        batches.start(done)
        one_hot = np.eye(len(training.classes), dtype=np.float32)[validation.labels]
        model.fit(
            batches,
            initial_epoch=done,
            epochs=recipe.epochs,
            validation_data=(normalize(validation.pixels, variant.preprocessing), one_hot),
            validation_batch_size=EVALUATION_BATCH,
            callbacks=[Seeds(), Bar(), keras.callbacks.SwapEMAWeights(), Checkpoint()],
            verbose=0,
        )
    else:
        optimizer.finalize_variable_values(model.trainable_variables)
    return model


def initialize(model: Any, seed: int) -> None:
    """Draws the kernels of the dense layers by their fans (Glorot normal) instead of with the constructor's standard deviation of 0.02.

    That constant suits the wide published variants and long training; at 64 channels it starts every branch nearly dead.
    """
    rng = np.random.default_rng([seed, 3])
    for weight in model.trainable_variables:
        if weight.path.endswith("/kernel") and "cpb" not in weight.path and "head" not in weight.path:
            fan_in, fan_out = int(np.prod(weight.shape[:-1])), weight.shape[-1]
            weight.assign(rng.normal(0.0, np.sqrt(2.0 / (fan_in + fan_out)), weight.shape).astype(np.float32))


def save(model: Any, recipe: Recipe, variant: Variant, test: LabelledImages, out: Path, progress: Progress) -> dict[str, Any]:
    """Rounds the weights to float16, measures them on the test images, and writes both down."""
    import keras
    from safetensors.numpy import save_file

    from tfvit.checkpoints import assign_tensors, official_tensors
    from tfvit.model import build_variant

    tensors = {name: tensor.astype(np.float16) for name, tensor in official_tensors(model).items()}
    keras.config.set_dtype_policy("float32")
    shipped = build_variant(variant, weights=None, classes=len(test.classes), classifier_activation=None)
    assign_tensors(shipped, tensors, variant.id, "the trained weights")
    right, batches = 0, range(0, len(test.labels), EVALUATION_BATCH)
    with progress.stage("test", total=len(batches)) as advance:
        for start in stepping(batches, advance):
            part = slice(start, start + EVALUATION_BATCH)
            logits = shipped.predict_on_batch(normalize(test.pixels[part], variant.preprocessing))
            right += int((logits.argmax(axis=-1) == test.labels[part]).sum())
    report = {
        "test_top1": right / len(test.labels),
        "interval": list(wilson_interval(right, len(test.labels))),
        "test_images": len(test.labels),
        "classes": list(test.classes),
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "recipe": dataclasses.asdict(recipe),
    }
    save_file(tensors, out / f"{variant.id}.safetensors", metadata={"format": "pt", "classes": json.dumps(list(test.classes))})
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def draw_curve(history: Path, path: Path, title: str) -> None:
    """Loss and accuracy of training and held-out images over the epochs, as PNG."""
    from matplotlib.figure import Figure

    with history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, metric, label in zip(figure.subplots(1, 2), ("loss", "accuracy"), ("cross-entropy loss", "top-1 accuracy"), strict=True):
        axes.plot(epochs, [float(row[metric]) for row in rows], label="training (augmented)")
        axes.plot(epochs, [float(row[f"val_{metric}"]) for row in rows], label="held out (averaged weights)")
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def _check(recipe: Recipe) -> None:
    ranges = {
        "epochs": recipe.epochs >= 1,
        "batch_size": recipe.batch_size >= 1,
        "warmup_epochs": 0 <= recipe.warmup_epochs < recipe.epochs,
        "drop_path": 0 <= recipe.drop_path < 1,
        "ema": 0 <= recipe.ema < 1,
        "mixup": recipe.mixup >= 0,
        "randaugment": recipe.randaugment >= 0,
        "label_smoothing": 0 <= recipe.label_smoothing < 1,
        "seed": recipe.seed >= 0,
    }
    wrong = [name for name, fits in ranges.items() if not fits]
    if wrong:
        raise UsageError(
            "unusable recipe",
            expected="epochs and batch size from 1, warm-up shorter than the training, fractions in [0, 1), nothing negative",
            received=", ".join(f"--{name.replace('_', '-')} {getattr(recipe, name)}" for name in wrong),
            action="change these",
        )


def _refuse_other_run(out: Path, recipe: Recipe) -> None:
    """An `out` that is there must hold a run of the same recipe."""
    wanted = dataclasses.asdict(recipe)
    if (out / RECIPE).exists():
        found = json.loads((out / RECIPE).read_text(encoding="utf-8"))
        differing = [name for name in wanted if found.get(name) != wanted[name]]
        if differing:
            raise UsageError(
                "the folder holds a run of another recipe",
                expected=", ".join(f"{name} {found.get(name)}" for name in differing),
                received=", ".join(f"{name} {wanted[name]}" for name in differing),
                action="pass the same flags to go on with it, or another --out",
            )
    elif out.exists() and any(out.iterdir()):
        raise UsageError(
            "the folder is not empty",
            expected="a new folder, or one of a run to go on with",
            received=str(out),
            action="pass another --out",
        )


def _append_history(path: Path, epoch: int, logs: dict[str, float]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", *logs])
        if new:
            writer.writeheader()
        writer.writerow({"epoch": epoch} | {name: f"{value:.5f}" for name, value in logs.items()})


def _keep_history(path: Path, epochs: int) -> None:
    """Drops the rows of epochs that are not in the checkpoint."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[: epochs + 1]) if epochs else "", encoding="utf-8")
        if not epochs:
            path.unlink()


if __name__ == "__main__":
    sys.exit(main())
