"""The files against the Keras model they were made from, and the many ways to say the same model."""

import keras
import numpy as np
import pytest

from edge.drift import metrics
from edge.export import to_tflite
from edge.runtime.cpu import Interpreter
from edge.tflite import flatbuffer
from tfvit.errors import InputError, UsageError
from tfvit.imagenet import preprocess_input
from tfvit.model import ViTTransformer
from tfvit.preprocessing import Preprocessing, normalize
from tfvit.weights import randomize

pytestmark = pytest.mark.whole

# float32 on both sides in another order of operations; measured 121 dB and more, 6e-7
FLOAT32_SNR_DB, FLOAT32_PROBABILITY = 90.0, 1e-4
# Weights of 11 significant bits; measured 61 dB and more
FLOAT16_SNR_DB = 55.0
# Random weights and eight calibration images are worse than trained ones and 128: int8 measured 22 to 29 dB, dynamic 29 to 33; some 4 dB
# of margin, since another release of the runtime rounds otherwise. Channels in the wrong order end at -1 dB.
INT8_SNR_DB, DYNAMIC_SNR_DB = 18.0, 25.0
# The same float32 graph but for its first or last operation
SAME_GRAPH = 1e-5

LIMITS = {"float32": FLOAT32_SNR_DB, "float16": FLOAT16_SNR_DB, "int8": INT8_SNR_DB, "dynamic": DYNAMIC_SNR_DB}
SIZE = 32
PREPROCESSING = Preprocessing.for_image_size(SIZE)


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)


def answers(file: bytes, images: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(file)
    return np.stack([interpreter.run(image[None])[0] for image in images])


@pytest.fixture(scope="module")
def reference(micro_model, photos) -> np.ndarray:
    return np.asarray(micro_model(normalize(photos, PREPROCESSING)))


@pytest.mark.parametrize("recipe", LIMITS)
def test_files_equal_the_keras_model(tiny, recipe):
    probabilities = answers(tiny.file(recipe), tiny.images)
    measured = metrics.measure(tiny.keras_logits, metrics.logits_of_probabilities(probabilities))
    print(f"{tiny.variant.id} {recipe}: {measured.logits_snr_db:.1f} dB, max abs err {measured.max_abs_err:.1e}")
    assert probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert measured.logits_snr_db >= LIMITS[recipe]
    if recipe == "float32":
        assert measured.max_abs_err <= FLOAT32_PROBABILITY


def test_the_comparison_above_can_fail(tiny_v1):
    """Images in another order of channels: the same limits refuse them."""
    wrong = answers(tiny_v1.file("float32"), tiny_v1.images[..., ::-1])
    measured = metrics.measure(tiny_v1.keras_logits, metrics.logits_of_probabilities(wrong))
    print(f"channels swapped: {measured.logits_snr_db:.1f} dB")
    assert measured.logits_snr_db < min(LIMITS.values())


def test_the_manifest_reports_what_is_measured(tiny):
    """Other images, the same model: the manifest's figure is of the same size."""
    for recipe in ("float16", "int8"):
        measured = metrics.measure(tiny.keras_logits, metrics.logits_of_probabilities(answers(tiny.file(recipe), tiny.images)))
        reported = tiny.manifest(recipe)["drift"]["logits_snr_db"]
        print(f"{tiny.variant.id} {recipe}: {reported} dB reported, {measured.logits_snr_db:.1f} dB here")
        assert abs(reported - measured.logits_snr_db) < 10.0


def test_logits_are_the_logarithm_of_the_probabilities(micro_model, micro_float, photos, reference):
    source = to_tflite.exportable(micro_model, PREPROCESSING, takes_pixels=False)
    probabilities = answers(to_tflite.export_float(source, "float32", "probabilities"), photos)
    logits = answers(micro_float, photos)
    difference = logits - np.log(probabilities)
    print("largest difference from a constant per image:", np.ptp(difference, axis=1).max())
    assert np.ptp(difference, axis=1).max() <= 10 * SAME_GRAPH  # the logarithm widens the rounding of small probabilities
    assert np.abs(logits - reference).max() <= FLOAT32_PROBABILITY
    assert _output_name(micro_float) == "logits"


def test_uint8_input_equals_float32_input(micro_model, micro_float, photos):
    file = to_tflite.export_float(to_tflite.exportable(micro_model, PREPROCESSING, takes_pixels=False), "uint8", "logits")
    graph = flatbuffer.read_model(file)
    assert flatbuffer.tensor_type(graph, int(graph.subgraphs[0].inputs[0])) == "UINT8"
    assert np.abs(answers(file, photos) - answers(micro_float, photos)).max() <= SAME_GRAPH


# The same weights, wrapped as people wrap them


def _backbone(micro_model):
    return keras.Model(micro_model.input, micro_model.get_layer("avg_pool").output, name="backbone")


def _head(micro_model, **arguments) -> keras.layers.Dense:
    head = keras.layers.Dense(5, name="my_head", **arguments)
    head.build((None, 16))
    head.set_weights(micro_model.get_layer("head").get_weights())
    return head


def _softmax_activation(micro_model):
    return keras.Model(micro_model.input, keras.layers.Activation("softmax", name="predictions")(micro_model.output))


def _softmax_layer(micro_model):
    return keras.Model(micro_model.input, keras.layers.Softmax()(micro_model.output))


def _softmax_operation(micro_model):
    return keras.Model(micro_model.input, keras.ops.softmax(micro_model.output))


def _dropout_behind(micro_model):
    cast = keras.layers.Activation("linear", dtype="float32")(_softmax_activation(micro_model).output)
    return keras.Model(micro_model.input, keras.layers.Dropout(0.1)(cast))


def _dense_softmax(micro_model):
    return keras.Model(micro_model.input, _head(micro_model, activation="softmax")(micro_model.get_layer("avg_pool").output))


def _nested_with_lambda(micro_model):
    """Takes uint8 pixels, normalises in a Lambda, nested backbone, own head."""
    pixels = keras.Input((SIZE, SIZE, 3), dtype="uint8")
    normalized = keras.layers.Lambda(preprocess_input, output_shape=(SIZE, SIZE, 3))(pixels)
    return keras.Model(pixels, _head(micro_model, activation="softmax")(_backbone(micro_model)(normalized)))


def _nested(micro_model):
    inputs = keras.Input((SIZE, SIZE, 3))
    return keras.Model(inputs, _head(micro_model)(_backbone(micro_model)(inputs)))


def _sequential(micro_model):
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), _backbone(micro_model), _head(micro_model, activation="softmax")])


def _sequential_normalization(micro_model):
    normalization = keras.layers.Normalization(mean=PREPROCESSING.mean, variance=np.square(PREPROCESSING.std))
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), normalization, micro_model])


# How to make it, whether it takes pixels, whether it is exported too: that costs seconds, and the logits are the ones the export traces
SHAPES = {
    "stock": (lambda model: model, False, False),
    "softmax activation": (_softmax_activation, False, False),
    "softmax layer": (_softmax_layer, False, True),
    "softmax operation": (_softmax_operation, False, False),
    "dropout and a cast behind the softmax": (_dropout_behind, False, False),
    "dense softmax": (_dense_softmax, False, True),
    "nested": (_nested, False, False),
    "nested, Lambda, uint8": (_nested_with_lambda, True, True),
    "Sequential": (_sequential, False, False),
    "Sequential, Normalization": (_sequential_normalization, True, True),
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_every_wrapping_gives_the_same_answers(micro_model, photos, reference, tmp_path, shape):
    from tfvit.weights import load_keras_model

    wrap, takes_pixels, exported = SHAPES[shape]
    path = tmp_path / "model.keras"
    wrap(micro_model).save(path)
    source = to_tflite.exportable(load_keras_model(path))
    assert source.takes_pixels == takes_pixels
    assert (source.input_shape, source.outputs[0].shape) == ((SIZE, SIZE, 3), (5,))
    assert source.preprocessing == PREPROCESSING
    before = source.model.get_config()
    logits = {"Keras": np.asarray(source.logits(photos.astype(np.float32)))}
    if exported:
        file = to_tflite.export_float(source, "float32", "logits")
        logits["file"] = answers(file, photos)
        assert flatbuffer.max_rank(flatbuffer.read_model(file)) <= 4
    assert source.model.get_config() == before  # a softmax taken off for the export is back
    snr = {side: metrics.measure(reference, values).logits_snr_db for side, values in logits.items()}
    print(shape, snr)
    assert min(snr.values()) >= FLOAT32_SNR_DB


def test_batches_of_the_reference_are_complete(micro_model, photos, reference):
    """Three images in batches of two: none is lost, none moves."""
    source = to_tflite.exportable(micro_model, PREPROCESSING, takes_pixels=False)
    logits = np.stack(list(to_tflite.reference_logits(source, iter(photos), batch_size=2)))
    assert metrics.measure(reference, logits).logits_snr_db >= FLOAT32_SNR_DB


def _two_inputs(micro_model):
    return keras.Model([micro_model.input, keras.Input((3,))], micro_model.output)


def _no_backbone(_):
    inputs = keras.Input((SIZE, SIZE, 3))
    return keras.Model(inputs, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(inputs)))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (_two_inputs, InputError, "2 inputs"),
        (_no_backbone, InputError, "no tfvit layers"),
        (lambda model: keras.Sequential([_softmax_activation(model), keras.layers.Rescaling(2.0)]), UsageError, "Rescaling"),
    ],
    ids=["two inputs", "foreign", "behind the softmax"],
)
def test_models_that_are_no_classifier(micro_model, make, error, words):
    with pytest.raises(error) as caught:
        to_tflite.exportable(make(micro_model))
    print(caught.value)
    assert words in caught.value.received


def test_a_layer_without_builtin_operations_is_named(micro_model):
    """An operation TFLite has no builtin for ends in one error that names it, never in a file with Flex operations."""
    normalized = keras.ops.erfinv(keras.ops.clip(micro_model.input, -0.5, 0.5))
    source = to_tflite.exportable(keras.Model(micro_model.input, micro_model(normalized)), takes_pixels=False)
    with pytest.raises(InputError, match="no builtin operation") as caught:
        to_tflite.export_float(source)
    print(caught.value)
    assert "erfinv" in caught.value.received.lower()
    assert len(str(caught.value).splitlines()) <= 4


def _output_name(file: bytes) -> str:
    (signature,) = flatbuffer.read_model(file).signatureDefs
    assert signature.signatureKey == b"serving_default"
    assert [entry.name for entry in signature.inputs] == [b"pixels"]
    (output,) = signature.outputs
    return output.name.decode()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_a_model_of_lower_precision_is_exported_in_float32(policy):
    arguments = {"embed_dim": 16, "depths": (2,), "num_heads": (2,), "window_size": 4, "input_shape": (32, 32, 3), "classes": 5}
    models = [ViTTransformer(**arguments, dtype=dtype) for dtype in ("float32", policy)]
    for model in models:
        randomize(model, 0)
    models[0].set_weights(models[1].get_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    expected, answers = (keras.ops.convert_to_numpy(to_tflite.exportable(model).logits(pixels)) for model in models)
    np.testing.assert_array_equal(answers, expected)
    assert models[1].get_layer("stage1_block1").compute_dtype != "float32"  # the user's model is left as it was
