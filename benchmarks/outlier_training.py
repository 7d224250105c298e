"""Makes stress versions of the shipped 32 px models: a few residual channels pushed to many times the rest, accuracy kept by training.

    python benchmarks/outlier_training.py --variant nano32 --data cifar10/ --out build/outliers     # Keras on JAX, minutes on a GPU

Trained large Swins end some residual channels in values 10 to 1000 times the rest (arXiv:2111.09883, figure 2). The shipped models are too
small to grow such channels. Here two channels of each deep stage get them: a constant is added where the stage's first block writes the
residual stream, the norms that read it are rescaled to give what they gave on average, and training repairs the rest, with a term in the
loss that holds the channels at the asked ratio. Norms, biases and head alone are trained, so that a stress version is a small difference to
the shipped weights.

Writes OUT/NAME-RATIO.safetensors (the tensors that changed, float16, official names) and OUT/NAME.json with the test accuracies. Those that
benchmarks/outliers holds took six epochs a ratio on an NVIDIA H100.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported

import jax
import jax.numpy as jnp
import numpy as np
import optax
from safetensors.numpy import save_file

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import keras  # noqa: E402

from examples.train_cifar10 import EVALUATION_BATCH, LabelledImages, Recipe, augmented, hold_out, mixed, parser, read_images  # noqa: E402
from tfvit.blocks import Block, LayerNorm, PatchMerging  # noqa: E402
from tfvit.checkpoints.official import official_tensors  # noqa: E402
from tfvit.model import build_variant  # noqa: E402
from tfvit.plain_layers import PlainBlock  # noqa: E402
from tfvit.preprocessing import IMAGENET_MEAN, IMAGENET_STD, normalize  # noqa: E402
from tfvit.progress import Progress  # noqa: E402
from tfvit.variants import find_variant  # noqa: E402

Array = Any
RATIOS = (30, 100, 1000)
CHANNELS = 2
PROBE = 512


def stretches(model: keras.Model) -> list[tuple[keras.layers.Layer, list[keras.layers.Layer]]]:
    """The blocks that write outliers, and after each the layers that read the residual stream up to its end."""
    layers = [layer for layer in model.layers if isinstance(layer, Block | PlainBlock | PatchMerging | LayerNorm)]
    if any(isinstance(layer, PlainBlock) for layer in layers):
        writers = [len(layers) // 2]
    else:
        merged = [place for place, layer in enumerate(layers) if isinstance(layer, PatchMerging)]
        writers = [place + 1 for place in merged[-2:]]
    found = []
    for writer in writers:
        end = next(place for place in range(writer + 1, len(layers)) if isinstance(layers[place], PatchMerging | LayerNorm))
        found.append((layers[writer], layers[writer + 1 : end + 1]))
    return found


def push(writer: Any, readers: list[Any], added: np.ndarray, streams: list[np.ndarray]) -> None:
    """Adds `added` [C] to what `writer` gives, and makes the readers give on average what they gave; `streams`: what each reads, [N, C]."""
    shift = writer.norm2.beta if getattr(writer, "post_norm", False) else writer.mlp.fc2.bias
    shift.assign(np.asarray(shift) + added)
    for reader, stream in zip(readers, streams, strict=True):
        if isinstance(reader, LayerNorm):
            adapt_norm(reader, added, stream)
        elif isinstance(reader, PatchMerging):
            if reader.post_norm:
                kernel = np.array(reader.reduction.kernel)
                kernel[np.tile(added, 4) != 0] = 0
                reader.reduction.kernel.assign(kernel)
            else:
                adapt_norm(reader.norm, np.tile(added, 4), np.tile(stream, (1, 4)))
        elif getattr(reader, "post_norm", False):
            for dense in (reader.attention.query, reader.attention.value, reader.mlp.fc1):
                kernel = np.asarray(dense.kernel)
                dense.bias.assign(np.asarray(dense.bias) - (added @ kernel.reshape(len(added), -1)).reshape(dense.bias.shape))
            kernel = np.array(reader.attention.key.kernel)  # no bias to take the constant in
            kernel[added != 0] = 0
            reader.attention.key.kernel.assign(kernel)
        else:
            adapt_norm(reader.norm1, added, stream)
            adapt_norm(reader.norm2, added, stream)


def adapt_norm(norm: LayerNorm, added: np.ndarray, stream: np.ndarray) -> None:
    """Gain and shift that give, for inputs of mean statistics, the norm of `stream` when it reads `stream + added`."""

    def statistics(inputs: np.ndarray) -> tuple[float, float]:
        return float(inputs.mean()), float(inputs.std(axis=-1).mean())

    (mean, deviation), (new_mean, new_deviation) = statistics(stream), statistics(stream + added)
    gamma, beta = np.asarray(norm.gamma), np.asarray(norm.beta)
    norm.gamma.assign(gamma * new_deviation / deviation)
    norm.beta.assign(beta + gamma * (new_mean - mean - added) / deviation)


def ratio(stream: Array, channels: Array) -> Array:
    """Root mean square of `channels` over the median channel's; of [..., C]."""
    size = jnp.sqrt(jnp.mean(jnp.square(stream.reshape(-1, stream.shape[-1])), axis=0) + 1e-12)
    return size[channels] / jnp.median(size)


def stress(
    model: keras.Model, recipe: Recipe, training: LabelledImages, validation: LabelledImages, aim: int, channels: list[np.ndarray]
) -> None:
    """Pushes the channels of each stretch to `aim` times the rest and trains the model back, in place."""
    found = stretches(model)
    layers = [[writer, *readers[:-1]] for writer, readers in found]  # whose outputs are the streams that the readers read
    probe = keras.Model(model.input, [layer.output for part in layers for layer in part])
    mean, std = (jnp.asarray(values, jnp.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = (jnp.asarray(training.pixels[:PROBE], jnp.float32) - mean) / std
    for place, (writer, readers) in enumerate(found):
        outputs = probe.predict(pixels, batch_size=128, verbose=0)
        start = sum(len(part) for part in layers[:place])
        streams = [np.asarray(output).reshape(-1, output.shape[-1]) for output in outputs[start : start + len(layers[place])]]
        size = max(float(np.median(np.sqrt(np.mean(np.square(stream), axis=0)))) for stream in streams)
        added = np.zeros(streams[0].shape[-1], np.float32)
        signs = np.where(streams[0].mean(axis=0)[channels[place]] < 0, -1, 1)
        added[channels[place]] = signs * aim * size - streams[0].mean(axis=0)[channels[place]]
        push(writer, readers, added, streams)

    small = ("gamma", "beta", "bias")
    chosen = [v.path for v in model.trainable_variables if v.path.split("/")[-1] in small or "head" in v.path]
    every = [v.path for v in model.trainable_variables]
    fixed = {v.path: jnp.array(np.array(v.value)) for v in model.trainable_variables}
    watched = keras.Model(model.input, [model.output, *probe.outputs])
    where = [channels[place] for place, part in enumerate(layers) for _ in part]
    classes = len(training.classes)
    steps = len(training.labels) // recipe.batch_size
    schedule = optax.cosine_onecycle_schedule(recipe.epochs * steps, recipe.learning_rate, 0.1)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.99))
    state = [jnp.array(np.array(v.value)) for v in model.non_trainable_variables]

    def outputs_of(params: Any, inputs: Array, training: bool) -> Any:
        values = [params.get(name, fixed[name]) for name in every]
        return watched.stateless_call(values, state, (inputs - mean) / std, training=training)[0]

    def loss(params: Any, inputs: Array, targets: Array) -> Array:
        logits, *streams = outputs_of(params, inputs, True)
        short = [jnp.square(jax.nn.relu(jnp.log(aim * 1.02) - jnp.log(ratio(s, c)))).mean() for s, c in zip(streams, where, strict=True)]
        return optax.softmax_cross_entropy(logits, targets).mean() + 10 * sum(short)

    @jax.jit
    def epoch(carry: Any, key: Array, pixels: Array, labels: Array) -> Any:
        order = jax.random.permutation(key, len(labels))[: steps * recipe.batch_size].reshape(steps, -1)

        def step(carry: Any, which: Array) -> Any:
            params, average, optimizing, count = carry
            first, second = jax.random.split(jax.random.fold_in(key, count))
            targets = optax.smooth_labels(jax.nn.one_hot(labels[which], classes), recipe.label_smoothing)
            inputs, targets = mixed(second, augmented(first, pixels[which], recipe), targets, recipe)
            value, gradients = jax.value_and_grad(loss)(params, inputs, targets)
            updates, optimizing = optimizer.update(gradients, optimizing, params)
            params = optax.apply_updates(params, updates)
            momentum = jnp.minimum(recipe.ema, (1 + count) / (10 + count))
            average = jax.tree.map(lambda mean, new: momentum * mean + (1 - momentum) * new, average, params)
            return (params, average, optimizing, count + 1), value

        carry, values = jax.lax.scan(step, carry, order)
        return carry, values.mean()

    params = {name: fixed[name] for name in chosen}
    carry = (params, params, optimizer.init(params), jnp.zeros((), jnp.int32))
    pixels, labels = jnp.asarray(training.pixels), jnp.asarray(training.labels)
    print(f"{model.name} x{aim}: pushed, held out {accuracy(model, validation):.4f}", flush=True)
    for done in range(recipe.epochs):
        carry, value = epoch(carry, jax.random.fold_in(jax.random.key(recipe.seed + aim), done), pixels, labels)
        print(f"{model.name} x{aim}: epoch {done + 1}, loss {float(value):.4f}", flush=True)
    for variable in model.trainable_variables:
        if variable.path in carry[1]:
            variable.assign(carry[1][variable.path])


def accuracy(model: keras.Model, images: LabelledImages) -> float:
    inputs = normalize(images.pixels, find_variant(model.name).preprocessing)
    return float((model.predict(inputs, batch_size=EVALUATION_BATCH, verbose=0).argmax(-1) == images.labels).mean())


def main() -> int:
    arguments_parser = parser()
    arguments_parser.description = __doc__
    arguments_parser.set_defaults(epochs=6, warmup_epochs=1, learning_rate=5e-4, ema=0.99, affine=0.25, drop_path=0.0)
    arguments = arguments_parser.parse_args()
    recipe = Recipe(**{name: value for name, value in vars(arguments).items() if name in Recipe.__dataclass_fields__})
    variant = find_variant(arguments.variant)
    training, test = (read_images(arguments.data, part, variant.preprocessing, Progress()) for part in ("train", "test"))
    training, validation = hold_out(training, recipe.validation, recipe.seed)
    keras.utils.set_random_seed(recipe.seed)
    model = build_variant(variant, weights="cifar10", classifier_activation=None, drop_path_rate=recipe.drop_path)
    shipped = official_tensors(model)
    before = accuracy(model, test)
    rng = np.random.default_rng(recipe.seed)
    channels = [np.sort(rng.choice(writer.output.shape[-1], CHANNELS, replace=False)) for writer, _ in stretches(model)]
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for aim in RATIOS:
        stress(model, recipe, training, validation, aim, channels)
        tensors = official_tensors(model)
        changed = {name: tensor.astype(np.float16) for name, tensor in tensors.items() if not np.array_equal(tensor, shipped[name])}
        save_file(changed, arguments.out / f"{variant.id}-{aim}.safetensors", metadata={"format": "pt"})
        row = {"variant": variant.id, "ratio": aim, "test_top1": accuracy(model, test), "shipped_top1": before}
        row |= {"channels": [c.tolist() for c in channels], "epochs": recipe.epochs, "learning_rate": recipe.learning_rate}
        rows.append(row)
        print(json.dumps(row), flush=True)
        (arguments.out / f"{variant.id}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
