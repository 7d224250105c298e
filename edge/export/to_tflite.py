"""keras.Model -> float flatbuffer: batch 1, fixed size, builtin operations only, image normalisation inside.

The file takes RGB pixels 0..255 [1, H, W, 3] and gives what the model gives, in its order: probabilities or logits [1, classes], or other
numbers as they are (edge/drift/meanings.py). It is made once per model; every recipe starts from it.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.artifacts.atomic_files import scratch_folder
from edge.drift.meanings import AUTO, Output, in_file
from edge.export.backend import require_tensorflow_backend
from edge.export.outputs import is_identity, names_of, outputs_of, without_activation
from edge.tflite.flatbuffer import make_constant, read_model, write_model
from edge.tflite.versions import set_min_runtime_version
from tfvit.attention import substituted_constants
from tfvit.blocks import PatchProjection
from tfvit.errors import EnvironmentUnusableError, InputError, UsageError
from tfvit.preprocessing import Preprocessing, Size, normalize, sides, size_of

INPUT_NAME = "pixels"
SIGNATURE = "serving_default"


@dataclasses.dataclass(frozen=True)
class ExportableModel:
    """A Keras model with what has to stand before and behind it.

    Attributes:
        model: functional, one image input of fixed size, outputs of fixed size.
        preprocessing: resize, crop and normalisation of its images.
        takes_pixels: whether the model normalises by itself.
        outputs: what its outputs are, in its order.
    """

    model: keras.Model
    preprocessing: Preprocessing
    takes_pixels: bool
    outputs: tuple[Output, ...]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return tuple(self.model.inputs[0].shape[1:])

    def each(self, pixels: Any) -> list[Any]:
        """[B, H, W, 3] RGB pixels 0..255 -> [B, ...] of each output, in the float model, a final softmax or sigmoid left off."""
        inputs = pixels if self.takes_pixels else normalize(pixels, self.preprocessing)
        with without_activation(self.model):
            given = self.model(keras.ops.cast(inputs, self.model.inputs[0].dtype), training=False)
        return [keras.ops.cast(one, "float32") for one in keras.tree.flatten(given)]

    def logits(self, pixels: Any) -> Any:
        """The same as one row an image, [B, D]: outputs one after the other."""
        flat = [keras.ops.reshape(one, (-1, output.size)) for one, output in zip(self.each(pixels), self.outputs, strict=True)]
        return flat[0] if len(flat) == 1 else keras.ops.concatenate(flat, axis=1)


def exportable(
    model: keras.Model,
    preprocessing: Preprocessing | None = None,
    takes_pixels: bool | None = None,
    output: str = AUTO,
    losses: Sequence[str | None] | None = None,
    bgr: bool = False,
) -> ExportableModel:
    """Checks that a Keras model can be exported and finds out what its input and its output are.

    Args:
        preprocessing: the published protocol at the model's own size by default.
        takes_pixels: whether the model takes pixels 0..255 and normalises them itself; found from the model's graph by default.
        output: what was said of its output, a key of `edge.drift.meanings.OUTPUTS`, or one an output with commas between them; "auto"
            finds out what the model's end and its loss say, and takes it for scores of classes where neither does.
        losses: of `edge.export.outputs.losses_of`.
        bgr: whether the model takes blue first; what comes out takes red first.

    Raises:
        InputError: not one image in, no fixed size, no tfvit backbone, or an output that is computed from another's probabilities.
        UsageError: the model cannot mean what was said of its outputs, or has another number of them.
    """
    problem = _why_not_exportable(model)
    if problem:
        raise InputError(
            f"the model {model.name!r} cannot be converted",
            expected="one [None, H, W, 3] image input of fixed size, a tfvit backbone, outputs of fixed size",
            received=problem,
            action="build it with a fixed input_shape, or give --image-size N or HEIGHTxWIDTH",
        )
    model = _in_float32(model)
    outputs = outputs_of(model, output, losses or [None] * len(model.outputs))
    height, width = model.inputs[0].shape[1:3]
    if takes_pixels is None:
        takes_pixels = normalises_itself(model)
    return ExportableModel(
        model=_red_first(model) if bgr else model,
        preprocessing=preprocessing or Preprocessing.for_image_size(size_of(height, width), 1.0 if min(height, width) >= 384 else 0.875),
        takes_pixels=takes_pixels,
        outputs=outputs,
    )


def export_float(source: ExportableModel, input_dtype: str = "float32", output: str = "probabilities") -> bytes:
    """The float flatbuffer of a model.

    Args:
        source: the model.
        input_dtype: "float32" or "uint8", of pixels 0..255 either way.
        output: a key of `edge.drift.meanings.OUTPUTS`, or one an output with commas between them.

    Returns:
        A `.tflite` with one signature, `serving_default`, input `pixels`, outputs `edge.drift.meanings.in_file`, in the model's order.

    Raises:
        EnvironmentUnusableError: Keras does not run on TensorFlow, or the model is too large for one file.
    """
    require_tensorflow_backend()
    import tensorflow as tf

    activations = {"softmax": tf.nn.softmax, "sigmoid": tf.nn.sigmoid, None: lambda values: values}
    given = in_file(source.outputs, output)

    def serve(pixels: Any) -> dict[str, Any]:
        values = source.each(tf.cast(pixels, tf.float32))
        return {name: activations[final](one) for one, (name, final) in zip(values, given, strict=True)}

    pixels = tf.TensorSpec((1, *source.input_shape), input_dtype, name=INPUT_NAME)
    constants = _attention_constants(source.model, lambda: serve(tf.zeros((1, *source.input_shape), input_dtype)))
    arguments = {name: f"constant_{index}" for index, name in enumerate(constants)}

    def serve_with_constants(pixels: Any, **values: Any) -> dict[str, Any]:
        with substituted_constants(source.model, lambda name, compute: values[arguments[name]]):
            return serve(pixels)

    module = tf.Module()  # owns the variables, and not the function, which would be traced and saved a second time
    module.variables_of_model = [variable.value for variable in source.model.variables]
    specs = {arguments[name]: tf.TensorSpec(value.shape, tf.float32, name=arguments[name]) for name, value in constants.items()}
    with scratch_folder() as folder:
        function = tf.function(serve_with_constants).get_concrete_function(pixels, **specs)
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
        converter.exclude_conversion_metadata = True  # ours says more, and to add theirs the whole file is read and written again
        converter._experimental_use_buffer_offset = True  # the same for its search for equal constants: write_model has one
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
    _put_outputs_in_order(model, [name for name, _ in given])
    set_min_runtime_version(model)
    return write_model(model)


def _attention_constants(model: keras.Model, serve: Callable[[], Any]) -> dict[str, np.ndarray]:
    """Name -> value of every position bias and mask that the model asks for when it runs.

    They go around the converter: it would copy each of them several times over (gigabytes for the large variants), and fold or not fold
    them as it sees fit.
    """
    constants: dict[str, np.ndarray] = {}

    def record(name: str, compute: Callable[[], Any]) -> Any:
        if name not in constants:
            constants[name] = np.asarray(keras.ops.convert_to_numpy(compute()), np.float32)
        return keras.ops.zeros(constants[name].shape)

    with substituted_constants(model, record):
        serve()
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


def _put_outputs_in_order(model: schema.ModelT, names: Sequence[str]) -> None:
    """Outputs of the graph and its signature in this order, in place: the converter sorts them by name."""
    signature = model.signatureDefs[0]
    signature.outputs = sorted(signature.outputs, key=lambda entry: names.index(entry.name.decode()))
    model.subgraphs[0].outputs = np.asarray([entry.tensorIndex for entry in signature.outputs], np.int32)


def sized(model: keras.Model, size: Size | None) -> keras.Model:
    """A model whose input has no fixed size, on images of this one; the model itself for None.

    Raises:
        UsageError: its size is another one, and fixed.
    """
    shape = tuple(model.inputs[0].shape[1:3]) if size is not None and getattr(model, "inputs", None) else ()
    if size is None or len(shape) != 2 or shape == sides(size):
        return model
    if any(own not in (None, wanted) for own, wanted in zip(shape, sides(size), strict=True)):
        fixed = "x".join("any" if side is None else str(side) for side in shape)
        raise UsageError(
            "a model of a fixed size",
            expected=f"no --image-size, or the model's own: it takes images of {fixed} px (height x width)",
            received=f"--image-size {'x'.join(map(str, sides(size)))}",
            action="leave --image-size out, or build the model with input_shape=(None, None, 3)",
        )
    inputs = keras.layers.Input(shape=(*sides(size), 3), dtype=model.inputs[0].dtype, name=INPUT_NAME)
    return _with_outputs_of(model, inputs, inputs)


def _with_outputs_of(model: keras.Model, inputs: Any, fed: Any) -> keras.Model:
    """A model around another, which is fed `fed`: several outputs keep their names."""
    given = model(fed)
    if len(model.outputs) > 1:
        given = [keras.layers.Identity(name=name)(one) for name, one in zip(names_of(model), keras.tree.flatten(given), strict=True)]
    return keras.Model(inputs, given, name=model.name)


def _red_first(model: keras.Model) -> keras.Model:
    """A model that takes blue first, behind an exchange of red and blue by slices, which every delegate takes."""
    inputs = keras.layers.Input(shape=model.inputs[0].shape[1:], dtype=model.inputs[0].dtype, name=INPUT_NAME)
    exchanged = keras.ops.concatenate([inputs[..., channel : channel + 1] for channel in (2, 1, 0)], axis=-1)
    return _with_outputs_of(model, inputs, exchanged)


def _in_float32(model: keras.Model) -> keras.Model:
    """The same model with every layer computing in float32: one trained under mixed precision traces to float16 arithmetic otherwise."""
    if all(layer.compute_dtype == "float32" for layer in model._flatten_layers(include_self=False) if layer.weights):
        return model
    return copy_model(model, _with_float32_policies)


def copy_model(model: keras.Model, change: Callable[[Any], Any] = lambda config: config) -> keras.Model:
    """A model of its own with the same weights, after `change` of its configuration. Its initializers give zeros, which costs no draws."""
    config = _without_draws(change(keras.saving.serialize_keras_object(model)))
    copy = keras.saving.deserialize_keras_object(config, safe_mode=False)
    copy.set_weights(model.get_weights())
    return copy


def _with_float32_policies(config: Any) -> Any:
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {**config["config"], "name": "float32"}}
        return {key: _with_float32_policies(value) for key, value in config.items()}
    return type(config)(_with_float32_policies(value) for value in config) if isinstance(config, list | tuple) else config


def _without_draws(config: Any) -> Any:
    if isinstance(config, dict):
        if config.get("module") == "keras.initializers":
            return {**config, "class_name": "Zeros", "config": {}}
        return {key: _without_draws(value) for key, value in config.items()}
    return type(config)(_without_draws(value) for value in config) if isinstance(config, list | tuple) else config


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
    return is_identity(layer) or isinstance(layer, kinds) or type(layer).__name__.startswith(("Random", "Aug", "RandAugment"))


def _contains_backbone(model: keras.Model) -> bool:
    return any(isinstance(layer, PatchProjection) for layer in model._flatten_layers(include_self=False))


def _why_not_exportable(model: keras.Model) -> str | None:
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        return "a subclassed model without a static graph"
    if len(model.inputs) != 1:
        return f"{len(model.inputs)} inputs"
    image = model.inputs[0].shape
    if len(image) != 4 or image[-1] != 3 or None in image[1:]:
        return f"an input of shape {tuple(image)}"
    for scores in (tuple(output.shape) for output in model.outputs):
        if len(scores) < 2 or None in scores[1:]:
            return f"an output of shape {scores}"
    if not _contains_backbone(model):
        return "no tfvit layers in it"
    return None


def batched_logits(source: ExportableModel, batch_size: int) -> Callable[[np.ndarray], np.ndarray]:
    """The float Keras model as a function [N, H, W, 3] pixels -> [N, D] logits, traced once, `batch_size` images at a time.

    D: entries of one image's outputs, a map's too, as one row.
    """
    import tensorflow as tf

    traced = tf.function(source.logits, input_signature=[tf.TensorSpec((None, *source.input_shape), tf.float32)])
    with scratch_folder():
        # now: a trace changes the model for a moment, and later calls may come from other threads
        compiled = traced.get_concrete_function()

    def logits(pixels: np.ndarray) -> np.ndarray:
        starts = range(0, len(pixels), batch_size)
        parts = [compiled(tf.constant(pixels[start : start + batch_size], tf.float32)).numpy() for start in starts]
        return np.concatenate(parts)

    return logits


def reference_logits(source: ExportableModel, images: Iterator[np.ndarray], batch_size: int = 8) -> Iterator[np.ndarray]:
    """The float Keras model's logits [D] for each [H, W, 3] image, batch by batch."""
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
