"""keras.Model -> float flatbuffer: batch 1, fixed size, builtin operations only, image normalisation inside.

The file takes RGB pixels 0..255 [1, H, W, 3] and gives probabilities or logits [1, classes]. It is made once per model; every recipe
starts from it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.artifacts.atomic_files import scratch_folder
from edge.export.backend import require_tensorflow_backend
from edge.tflite.flatbuffer import make_constant, read_model, write_model
from edge.tflite.versions import set_min_runtime_version
from tfvit.attention import substituted_constants
from tfvit.blocks import PatchProjection
from tfvit.errors import EnvironmentUnusableError, InputError, UsageError
from tfvit.preprocessing import Preprocessing, normalize

INPUT_NAME = "pixels"
SIGNATURE = "serving_default"


@dataclasses.dataclass(frozen=True)
class ExportableModel:
    """A Keras model with what has to stand before and behind it.

    Attributes:
        model: functional, one image input of fixed size, one [B, classes] output.
        preprocessing: resize, crop and normalisation of its images.
        takes_pixels: whether the model normalises by itself.
    """

    model: keras.Model
    preprocessing: Preprocessing
    takes_pixels: bool

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return tuple(self.model.inputs[0].shape[1:])

    @property
    def classes(self) -> int:
        return int(self.model.outputs[0].shape[-1])

    def logits(self, pixels: Any) -> Any:
        """[B, H, W, 3] RGB pixels 0..255 -> [B, classes] logits, in the float model, a final softmax left off."""
        inputs = pixels if self.takes_pixels else normalize(pixels, self.preprocessing)
        with _without_softmax(self.model):
            return keras.ops.cast(self.model(keras.ops.cast(inputs, self.model.inputs[0].dtype), training=False), "float32")


def exportable(model: keras.Model, preprocessing: Preprocessing | None = None, takes_pixels: bool | None = None) -> ExportableModel:
    """Checks that a Keras model can be exported and finds out what its input is.

    Args:
        preprocessing: the published protocol at the model's own size by default.
        takes_pixels: whether the model takes pixels 0..255 and normalises them itself; found from the model's graph by default.

    Raises:
        InputError: not one image in and one classification out, no fixed size, or no tfvit backbone.
    """
    problem = _why_not_exportable(model)
    if problem:
        raise InputError(
            f"the model {model.name!r} cannot be converted",
            expected="one [None, H, W, 3] image input of fixed size, a tfvit backbone, one [None, classes] output",
            received=problem,
            action="build it with a fixed input_shape, and end it in a classifier",
        )
    model = _in_float32(model)
    _final_operation(model)
    size = model.inputs[0].shape[1]
    return ExportableModel(
        model=model,
        preprocessing=preprocessing or Preprocessing.for_image_size(size, 1.0 if size >= 384 else 0.875),
        takes_pixels=normalises_itself(model) if takes_pixels is None else takes_pixels,
    )


def export_float(source: ExportableModel, input_dtype: str = "float32", output: str = "probabilities") -> bytes:
    """The float flatbuffer of a model.

    Args:
        source: the model.
        input_dtype: "float32" or "uint8", of pixels 0..255 either way.
        output: "probabilities" or "logits".

    Returns:
        A `.tflite` with one signature, `serving_default`, input `pixels`, output `output`.

    Raises:
        EnvironmentUnusableError: Keras does not run on TensorFlow, or the model is too large for one file.
    """
    require_tensorflow_backend()
    import tensorflow as tf

    def serve(pixels: Any) -> Any:
        logits = source.logits(tf.cast(pixels, tf.float32))
        return tf.nn.softmax(logits) if output == "probabilities" else logits

    pixels = tf.TensorSpec((1, *source.input_shape), input_dtype, name=INPUT_NAME)
    with scratch_folder():
        constants = _attention_constants(source.model, serve, pixels)
    arguments = {name: f"constant_{index}" for index, name in enumerate(constants)}

    def serve_with_constants(pixels: Any, **given: Any) -> dict[str, Any]:
        with substituted_constants(source.model, lambda name, compute: given[arguments[name]]):
            return {output: serve(pixels)}

    module = tf.Module()
    module.variables_of_model = [variable.value for variable in source.model.variables]
    module.serve = tf.function(serve_with_constants)
    specs = {arguments[name]: tf.TensorSpec(value.shape, tf.float32, name=arguments[name]) for name, value in constants.items()}
    with scratch_folder() as folder:
        function = module.serve.get_concrete_function(pixels, **specs)
        try:
            tf.saved_model.save(module, str(folder), signatures={SIGNATURE: function})
        except (OSError, tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError) as error:
            raise EnvironmentUnusableError(
                "the folder for temporary files cannot hold the model",
                expected=f"{4 * source.model.count_params() / 1e6:.1f} MB of free space in {folder.parent}",
                received=getattr(error, "strerror", None) or str(error).strip().rpartition("; ")[2],
                action="free space there, or name another folder in TMPDIR",
            ) from error
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[SIGNATURE])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            data = converter.convert()
        except Exception as error:  # the converter raises its own and MLIR's kinds
            raise InputError(
                "TFLite has no builtin operation for a part of the model",
                expected="layers that trace to TFLite builtin operations",
                received=_unconvertible_operation(error),
                action="replace the named operation in your own layers; tfvit's own all convert",
            ) from error
    model = read_model(data)
    _fill_in_constants(model, {arguments[name]: (name, value) for name, value in constants.items()})
    set_min_runtime_version(model)
    return write_model(model)


def _attention_constants(model: keras.Model, serve: Callable, pixels: Any) -> dict[str, np.ndarray]:
    """Name -> value of every position bias and mask a trace asks for.

    They go around the converter: it would copy each of them several times over (gigabytes for the large variants), and fold or not fold
    them as it sees fit.
    """
    import tensorflow as tf

    constants: dict[str, np.ndarray] = {}

    def record(name: str, compute: Callable[[], Any]) -> np.ndarray:
        if name not in constants:
            with tf.init_scope():
                constants[name] = np.asarray(keras.ops.convert_to_numpy(compute()), np.float32)
        return tf.zeros(constants[name].shape)

    with substituted_constants(model, record):
        tf.function(serve, input_signature=[pixels]).get_concrete_function()
    return constants


def _fill_in_constants(model: schema.ModelT, values: dict[str, tuple[str, np.ndarray]]) -> None:
    """Turns graph inputs into constants, in place. `values`: name of the input -> name and value of the constant."""
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    filled = set()
    for entry in signature.inputs:
        argument = entry.name.decode()
        if argument in values:
            name, value = values[argument]
            tensor = graph.tensors[entry.tensorIndex]
            if tuple(tensor.shape) != value.shape:
                raise ValueError(f"the converter changed the shape of {name!r}: {tuple(tensor.shape)} for {value.shape}")
            make_constant(model, entry.tensorIndex, value)
            tensor.name = name.encode()
            filled.add(entry.tensorIndex)
    signature.inputs = [entry for entry in signature.inputs if entry.tensorIndex not in filled]
    graph.inputs = np.asarray([index for index in graph.inputs if index not in filled], np.int32)


def _in_float32(model: keras.Model) -> keras.Model:
    """The same model with every layer computing in float32: one trained under mixed precision traces to float16 arithmetic otherwise."""
    if all(layer.compute_dtype == "float32" for layer in model._flatten_layers(include_self=False) if layer.weights):
        return model
    return copy_model(model, _with_float32_policies)


def copy_model(model: keras.Model, change: Callable[[Any], Any] = lambda config: config) -> keras.Model:
    """A model of its own with the same weights, after `change` of its configuration."""
    copy = keras.saving.deserialize_keras_object(change(keras.saving.serialize_keras_object(model)), safe_mode=False)
    copy.set_weights(model.get_weights())
    return copy


def _with_float32_policies(config: Any) -> Any:
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {**config["config"], "name": "float32"}}
        return {key: _with_float32_policies(value) for key, value in config.items()}
    return type(config)(_with_float32_policies(value) for value in config) if isinstance(config, list | tuple) else config


def normalises_itself(model: keras.Model) -> bool:
    """Whether something that can normalise (a Lambda, Rescaling, Normalization, an operator) stands between input and patch embedding.

    Layers that only train, crop or resize (dropout, augmentation) do not count.
    """
    model = getattr(model, "_functional", None) or model
    if "int" in keras.backend.standardize_dtype(model.inputs[0].dtype):
        return True
    for node in (node for level in model._nodes_by_depth.values() for node in level):
        operation = node.operation
        if isinstance(operation, PatchProjection) or (isinstance(operation, keras.Model) and _contains_backbone(operation)):
            history = node.input_tensors[0]._keras_history
            while _passes_values_through(history.operation):
                history = history.operation._inbound_nodes[history.node_index].input_tensors[0]._keras_history
            fed_by = history.operation
            if not isinstance(fed_by, keras.layers.InputLayer):
                return True
            return isinstance(operation, keras.Model) and normalises_itself(operation)
    return False


def _passes_values_through(layer: Any) -> bool:
    """Layers that leave the scale of pixels as it is when not training, alone or in a model of nothing else (augmentation)."""
    if isinstance(layer, keras.Model):
        return all(isinstance(one, keras.layers.InputLayer) or _passes_values_through(one) for one in layer.layers)
    kinds = (
        keras.layers.Dropout, keras.layers.GaussianNoise, keras.layers.Resizing, keras.layers.CenterCrop, keras.layers.ZeroPadding2D,
        keras.layers.MixUp, keras.layers.CutMix, keras.layers.Pipeline,
    )  # fmt: skip
    return _is_identity(layer) or isinstance(layer, kinds) or type(layer).__name__.startswith(("Random", "Aug", "RandAugment"))


def _contains_backbone(model: keras.Model) -> bool:
    return any(isinstance(layer, PatchProjection) for layer in model._flatten_layers(include_self=False))


def _why_not_exportable(model: keras.Model) -> str | None:
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        return "a subclassed model without a static graph"
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        return f"{len(model.inputs)} inputs and {len(model.outputs)} outputs"
    image, scores = model.inputs[0].shape, model.outputs[0].shape
    if len(image) != 4 or image[-1] != 3 or None in image[1:]:
        return f"an input of shape {tuple(image)}"
    if image[1] != image[2]:
        return f"an input that is not square: {tuple(image)}"
    if len(scores) != 2 or scores[-1] is None:
        return f"an output of shape {tuple(scores)}"
    if not _contains_backbone(model):
        return "no tfvit layers in it"
    return None


def _final_operation(model: keras.Model) -> Any:
    """The layer or operation that ends the model, inside nested models too; layers that pass values on are looked through.

    Raises:
        UsageError: the model ends in neither logits nor a softmax.
    """
    model = getattr(model, "_functional", None) or model
    last = final = model.outputs[0]._keras_history.operation
    history = model.outputs[0]._keras_history
    while _is_identity(final):
        history = final._inbound_nodes[history.node_index].input_tensors[0]._keras_history
        final = history.operation
    if isinstance(final, keras.Model):
        return _final_operation(final)
    if _is_softmax(final) or _gives_logits(final):
        return final
    if _gives_logits(last):  # somebody said so: Activation("linear") behind an average of models, for example
        return last
    activation = getattr(final, "activation", None)
    raise UsageError(  # a layer behind the classifier would hide its softmax
        "the model's last activation is not supported",
        expected="a last Dense or Activation layer giving logits, or a softmax over the classes (activation, layer or operation)",
        received=f"{type(final).__name__} {final.name!r}"
        + (f" with activation {getattr(activation, '__name__', activation)}" if activation is not None else ""),
        action="end the model in Dense(classes) or Dense(classes, activation='softmax')",
    )


def _gives_logits(operation: Any) -> bool:
    return hasattr(operation, "activation") and operation.activation in (None, keras.activations.linear)


def _is_identity(operation: Any) -> bool:
    """Dropout, a cast to float32 and the like, which may stand behind a classifier."""
    if isinstance(operation, keras.layers.Identity | keras.layers.Dropout):
        return True
    return type(operation) is keras.layers.Activation and operation.activation is keras.activations.linear


def _is_softmax(operation: Any) -> bool:
    """As an activation, a layer or `keras.ops.softmax`, over the last axis of [B, classes]."""
    if getattr(operation, "activation", None) is keras.activations.softmax:
        return True
    return type(operation).__name__ == "Softmax" and getattr(operation, "axis", None) in (-1, 1)


@contextlib.contextmanager
def _without_softmax(model: keras.Model) -> Iterator[None]:
    """While it lasts, the model gives the logits that its last softmax reads."""
    final = _final_operation(model)
    if not _is_softmax(final):
        yield
        return
    by_activation = hasattr(final, "activation")
    name, kept = ("activation", final.activation) if by_activation else ("call", final.call)
    setattr(final, name, keras.activations.linear if by_activation else lambda inputs, *others, **more: inputs)
    try:
        yield
    finally:
        setattr(final, name, kept)


def batched_logits(source: ExportableModel, batch_size: int) -> Callable[[np.ndarray], np.ndarray]:
    """The float Keras model as a function [N, H, W, 3] pixels -> [N, classes] logits, traced once, `batch_size` images at a time."""
    import tensorflow as tf

    traced = tf.function(source.logits, input_signature=[tf.TensorSpec((None, *source.input_shape), tf.float32)])
    with scratch_folder():
        # now: a trace changes the model for a moment, and later calls may come from other threads
        compiled = traced.get_concrete_function()

    def logits(pixels: np.ndarray) -> np.ndarray:
        starts = range(0, len(pixels), batch_size)
        return np.concatenate([compiled(tf.constant(pixels[start : start + batch_size], tf.float32)).numpy() for start in starts])

    return logits


def reference_logits(source: ExportableModel, images: Iterator[np.ndarray], batch_size: int = 8) -> Iterator[np.ndarray]:
    """The float Keras model's logits [classes] for each [H, W, 3] image, batch by batch."""
    logits, images = batched_logits(source, batch_size), iter(images)
    while batch := list(itertools.islice(images, batch_size)):
        yield from logits(np.stack(batch))


def _unconvertible_operation(error: Exception) -> str:
    """The operations a converter error names, or its first line."""
    names = sorted(set(re.findall(r"'(tf\.[A-Za-z0-9_]+)' op", str(error))))
    if names:
        return f"no builtin for {', '.join(names)}"
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
