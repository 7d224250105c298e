"""What a Keras model's output means, from the operation that ends it and the loss it was compiled with."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras

from edge.drift.meanings import (
    AUTO,
    CLASS_MAP,
    CLASSES,
    FEATURES,
    LABELS,
    LOGITS,
    MEANINGS,
    OUTPUTS,
    PROBABILITIES,
    VALUES,
    Output,
    output_name,
    words_for,
)
from tfvit.errors import InputError, UsageError

_SAID_BY_LOSS = {
    LABELS: ("binary_crossentropy", "binary_focal_crossentropy", "bce"),
    CLASSES: (
        "categorical_crossentropy", "sparse_categorical_crossentropy", "categorical_focal_crossentropy", "kl_divergence", "kld",
        "categorical_generalized_cross_entropy",
    ),
    VALUES: ("mean_squared_error", "mse", "mean_absolute_error", "mae", "huber", "log_cosh", "mean_squared_logarithmic_error", "msle",
             "mean_absolute_percentage_error", "mape", "poisson"),
    FEATURES: ("cosine_similarity",),
}  # fmt: skip

_OF_FEATURES = (
    keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D, keras.layers.AveragePooling2D, keras.layers.MaxPooling2D,
    keras.layers.LayerNormalization, keras.layers.UnitNormalization, keras.layers.BatchNormalization, keras.layers.Flatten,
)  # fmt: skip
# What else may end a model of which only its loss, or the user, knows what it gives: logits, values or an embedding
_OF_NUMBERS = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Conv2D)


class End(NamedTuple):
    """How a model ends.

    Attributes:
        operation: the last one that computes something.
        activation: "softmax" or "sigmoid", where it is one; None for anything else.
        meaning: of the output, as far as the operation tells; None where it does not.
    """

    operation: Any
    activation: str | None
    meaning: str | None

    @property
    def usual(self) -> bool:
        """Whether models end so: of any other end a guess would be one too many."""
        if isinstance(self.operation, keras.layers.Activation):  # a linear one, put there to say that logits come out
            return True
        return self.meaning is not None or isinstance(self.operation, _OF_NUMBERS)


def end_of(model: keras.Model, index: int = 0) -> End:
    """How a model's output of this index ends, inside nested models too; layers that pass values on are looked through."""
    model = getattr(model, "_functional", None) or model
    output = model.outputs[index]
    last = final = output._keras_history.operation
    history = output._keras_history
    while is_identity(final):
        history = final._inbound_nodes[history.node_index].input_tensors[0]._keras_history
        final = history.operation
    if isinstance(final, keras.Model):
        return end_of(final, history.tensor_index)
    if _is(final, "softmax") and getattr(final, "axis", -1) in (-1, len(output.shape) - 1):
        return End(final, "softmax", CLASSES)
    if _is(final, "sigmoid"):
        return End(final, "sigmoid", LABELS)
    if final is not last and not isinstance(final, _OF_NUMBERS):
        return End(last, None, None)  # somebody said so: Activation("linear") behind an average of models, for example
    if getattr(final, "activation", keras.activations.linear) not in (None, keras.activations.linear):
        return End(final, None, VALUES)  # a range of its own: tanh, relu
    return End(final, None, FEATURES if isinstance(final, _OF_FEATURES) or type(final).__module__.startswith("tfvit.") else None)


def names_of(model: keras.Model) -> list[str]:
    """What Keras calls a model's outputs."""
    return list((getattr(model, "_functional", None) or model).output_names)


def is_identity(operation: Any) -> bool:
    """Dropout, a cast to float32 and the like, which may stand behind a classifier."""
    if isinstance(operation, keras.layers.Identity | keras.layers.Dropout):
        return True
    return type(operation) is keras.layers.Activation and operation.activation is keras.activations.linear


def _is(operation: Any, name: str) -> bool:
    """As an activation, a layer or an operation of `keras.ops`."""
    return getattr(operation, "activation", None) is getattr(keras.activations, name) or type(operation).__name__ == name.capitalize()


@contextlib.contextmanager
def without_activation(model: keras.Model) -> Iterator[None]:
    """While it lasts, the model gives what the softmax or sigmoid that ends an output reads, for each of its outputs."""
    ends = {
        id(end.operation): end.operation for end in map(end_of, [model] * len(model.outputs), range(len(model.outputs))) if end.activation
    }
    changed = []
    for operation in ends.values():
        by_activation = hasattr(operation, "activation")
        name = "activation" if by_activation else "call"
        changed.append((operation, name, getattr(operation, name)))
        setattr(operation, name, keras.activations.linear if by_activation else lambda inputs, *others, **more: inputs)
    try:
        yield
    finally:
        for operation, name, kept in changed:
            setattr(operation, name, kept)


def reads_probabilities(model: keras.Model) -> str | None:
    """The name of the softmax or sigmoid of one output that something else is computed from; None where there is none.

    Such a model cannot be asked for what that softmax reads: the other output would change.
    """
    for index in range(len(model.outputs)):
        end = end_of(model, index)
        if end.activation and _is_read(model, index):
            return end.operation.name
    return None


def _is_read(model: keras.Model, index: int) -> bool:
    """Whether what makes an output feeds anything but outputs, here or in the nested model that makes it."""
    model = getattr(model, "_functional", None) or model
    nodes = [node for level in model._nodes_by_depth.values() for node in level]
    history = model.outputs[index]._keras_history
    while is_identity(history.operation):
        history = history.operation._inbound_nodes[history.node_index].input_tensors[0]._keras_history
    waiting = [tensor for node in nodes if node.operation is history.operation for tensor in node.output_tensors]
    if isinstance(history.operation, keras.Model):
        waiting = [tensor for tensor in waiting if tensor._keras_history.tensor_index == history.tensor_index]
    while waiting:
        tensor = waiting.pop()
        for node in (node for node in nodes if any(one is tensor for one in node.input_tensors)):
            if not is_identity(node.operation):
                return True
            waiting += node.output_tensors
    return isinstance(history.operation, keras.Model) and _is_read(history.operation, history.tensor_index)


def meaning_of(model: keras.Model, loss: str | None, index: int = 0) -> str | None:
    """What a model's output of this index means; None where neither its end nor its loss says.

    Args:
        loss: of this output, of `loss_of`.
    """
    told = end_of(model, index).meaning
    by_loss = next((meaning for meaning, names in _SAID_BY_LOSS.items() if loss in names), None)
    if told is None and by_loss is None and model.outputs[index].shape[-1] == 1:
        return VALUES  # one number, and nothing that makes a probability of it
    return told or by_loss


def outputs_of(model: keras.Model, asked: str, losses: Sequence[str | None]) -> tuple[Output, ...]:
    """What a model's outputs are, in its order.

    Args:
        asked: keys of `edge.drift.meanings.OUTPUTS`, one for all outputs or one for each, with commas between them.
        losses: of `losses_of`.

    Raises:
        InputError: an output is computed from another's probabilities.
        UsageError: a model that cannot mean what was said, or has another number of outputs.
    """
    number, words = len(model.outputs), words_for(len(model.outputs), asked)
    if len(words) != number or (number > 1 and "," not in asked and OUTPUTS[asked]):
        raise UsageError(
            "not a word for each output",
            expected=f"--output with {number} of {', '.join(OUTPUTS)}, in the order {', '.join(names_of(model))}",
            received=f"--output {asked}",
            action=f"say --output {','.join([AUTO] * number)} with what you know in its place, or leave it out",
        )
    read = reads_probabilities(model) if number > 1 else None
    if read:
        raise InputError(
            f"the model {model.name!r} cannot be converted",
            expected="outputs that are computed side by side",
            received=f"something else is computed from the probabilities that {read!r} gives",
            action="leave one of both outputs out: keras.Model(model.input, model.outputs[0]) keeps the first",
        )
    found = [_output(model, *one) for one in zip(range(number), words, losses, strict=True)]
    taken = {output_name(found[0].meaning, word) for word in (LOGITS, PROBABILITIES)}
    for index, output in enumerate(found):
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", output.name)
        found[index] = dataclasses.replace(output, name=name if name not in taken else f"{name}_{index + 1}")
        taken.add(found[index].name)
    return tuple(found)


def _output(model: keras.Model, index: int, output: str, loss: str | None) -> Output:
    end, said, found = end_of(model, index), OUTPUTS[output], meaning_of(model, loss, index)
    shape = tuple(model.outputs[index].shape[1:])
    if said is None and found is None and not end.usual:  # it may hide a softmax before it
        raise UsageError(
            "what the model's output means is not known",
            expected="a model that ends in a Dense layer, an activation, a pooling or a norm; or --output "
            + "|".join(name for name, one in OUTPUTS.items() if one),
            received=f"{type(end.operation).__name__} {end.operation.name!r} at its end",
            action="end the model in Dense(classes) or Dense(classes, activation='softmax'), or say what its numbers are with --output",
        )
    is_map = len(shape) > 1
    meaning = said or found or (FEATURES if is_map and output == AUTO else CLASSES)
    if is_map and meaning == CLASSES:
        meaning = CLASS_MAP
    if (end.activation and said not in (None, end.meaning)) or (output == PROBABILITIES and meaning in (VALUES, FEATURES)):
        raise UsageError(
            "the output cannot mean that",
            expected=f"{MEANINGS[found or meaning]}: so the model's end{' and its loss' if loss else ''} say",
            received=f"--output {output}",
            action="leave --output out",
        )
    return Output(names_of(model)[index], meaning, shape, told=output != AUTO or found is not None)


def losses_of(model: keras.Model, path: Path | None = None) -> list[str | None]:
    """The name of the loss that each output was compiled with, in Keras's spelling ("binary_crossentropy"); None without one.

    Args:
        model: in memory.
        path: the `.keras` that it was read from, if it was; then what stands there counts.
    """
    if path is not None:
        try:
            with zipfile.ZipFile(path) as archive:
                compiled = json.loads(archive.read("config.json")).get("compile_config") or {}
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):
            compiled = {}
    else:
        compiled = (model.get_compile_config() if model.compiled else None) or {}
    loss, names = compiled.get("loss"), names_of(model)
    if len(names) > 1 and isinstance(loss, list | tuple) and len(loss) == len(names):
        return [_loss_name(one) for one in loss]
    if len(names) > 1 and isinstance(loss, dict) and "class_name" not in loss:
        return [_loss_name(loss.get(name)) for name in names]
    return [_loss_name(loss)] * len(names)  # one loss is every output's


def _loss_name(loss: Any) -> str | None:
    """Of one output's loss as Keras writes it down: its own name, its class's or its function's."""
    if isinstance(loss, str):
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", loss).lower()
    if isinstance(loss, dict) and "class_name" in loss:
        return _loss_name(loss["config"] if loss["class_name"] == "function" else loss["class_name"])
    if isinstance(loss, dict | list | tuple) and len(loss) == 1:
        return _loss_name(next(iter(loss.values() if isinstance(loss, dict) else loss)))
    return None
