"""keras.Model -> float flatbuffer: batch 1, fixed size, builtin operations only, image normalisation inside.

The file takes RGB pixels 0..255 [1, H, W, 3] and gives probabilities or logits [1, classes]. It is made once per model; every recipe
starts from it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from edge.flatbuffer import MAX_FLATBUFFER_BYTES, read_model, set_min_runtime_version, write_model
from tfvit.attention import constant_position_bias
from tfvit.blocks import PatchEmbedding
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
    _final_layer(model)
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
    if keras.backend.backend() != "tensorflow":
        raise EnvironmentUnusableError(
            "conversion needs Keras on TensorFlow",
            expected="KERAS_BACKEND=tensorflow",
            received=f"KERAS_BACKEND={keras.backend.backend()}",
            action="set KERAS_BACKEND=tensorflow for this command; models trained on another backend load there",
        )
    import tensorflow as tf

    def serve(pixels: Any) -> dict[str, Any]:
        logits = source.logits(tf.cast(pixels, tf.float32))
        return {output: tf.nn.softmax(logits) if output == "probabilities" else logits}

    module = tf.Module()
    module.variables_of_model = [variable.value for variable in source.model.variables]
    signature = tf.TensorSpec((1, *source.input_shape), input_dtype, name=INPUT_NAME)
    with constant_position_bias(source.model), tempfile.TemporaryDirectory() as folder:
        module.serve = tf.function(serve, input_signature=[signature])
        tf.saved_model.save(module, folder, signatures={SIGNATURE: module.serve.get_concrete_function()})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            data = converter.convert()
        except Exception as error:  # the converter raises its own and MLIR's kinds
            raise InputError(
                "TFLite has no builtin operation for a part of the model",
                expected="layers that trace to TFLite builtin operations",
                received=_first_line(error),
                action="replace the named operation in your own layers; tfvit's own all convert",
            ) from error
    if len(data) > MAX_FLATBUFFER_BYTES:
        raise EnvironmentUnusableError(
            "the float file would be too large",
            expected="less than 2 GiB",
            received=f"{len(data) / 1e9:.2f} GB",
            action="use a smaller variant or input size",
        )
    model = read_model(data)
    set_min_runtime_version(model)
    return write_model(model)


def normalises_itself(model: keras.Model) -> bool:
    """Whether anything but input layers stands between a model's input and the patch embedding (a Lambda, Rescaling, Normalization)."""
    model = getattr(model, "_functional", None) or model
    if "int" in keras.backend.standardize_dtype(model.inputs[0].dtype):
        return True
    for node in (node for level in model._nodes_by_depth.values() for node in level):
        operation = node.operation
        if isinstance(operation, PatchEmbedding) or (isinstance(operation, keras.Model) and _contains_backbone(operation)):
            fed_by = node.input_tensors[0]._keras_history.operation
            if not isinstance(fed_by, keras.layers.InputLayer):
                return True
            return isinstance(operation, keras.Model) and normalises_itself(operation)
    return False


def _contains_backbone(model: keras.Model) -> bool:
    return any(isinstance(layer, PatchEmbedding) for layer in model._flatten_layers(include_self=False))


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


def _final_layer(model: keras.Model) -> keras.layers.Layer:
    """The layer whose activation ends the model, inside nested models too.

    Raises:
        UsageError: the model ends in neither logits nor a softmax.
    """
    model = getattr(model, "_functional", None) or model
    layer = model.outputs[0]._keras_history.operation
    if isinstance(layer, keras.Model):
        return _final_layer(layer)
    activation = getattr(layer, "activation", None)
    if isinstance(layer, keras.layers.Softmax) or activation not in (None, keras.activations.linear, keras.activations.softmax):
        raise UsageError(
            "the model's last activation is not supported",
            expected="a last Dense or Activation layer giving logits or a softmax",
            received=f"{type(layer).__name__} {layer.name!r} with activation {getattr(activation, '__name__', activation)}",
            action="end the model in Dense(classes) or Dense(classes, activation='softmax')",
        )
    return layer


@contextlib.contextmanager
def _without_softmax(model: keras.Model) -> Iterator[None]:
    layer = _final_layer(model)
    softmax: Callable | None = getattr(layer, "activation", None)
    if softmax is keras.activations.softmax:
        layer.activation = keras.activations.linear
    try:
        yield
    finally:
        if softmax is keras.activations.softmax:
            layer.activation = softmax


def reference_logits(source: ExportableModel, images: Iterator[np.ndarray], batch_size: int = 8) -> Iterator[np.ndarray]:
    """The float Keras model's logits [classes] for each [H, W, 3] image, batch by batch."""
    import tensorflow as tf

    compiled = tf.function(source.logits, input_signature=[tf.TensorSpec((None, *source.input_shape), tf.float32)])
    batch: list[np.ndarray] = []
    for image in images:
        batch.append(image)
        if len(batch) == batch_size:
            yield from compiled(np.stack(batch).astype(np.float32)).numpy()
            batch = []
    if batch:
        yield from compiled(np.stack(batch).astype(np.float32)).numpy()


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
