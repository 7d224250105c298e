"""Models with more than one backbone, or with one that is used more than once: every layer keeps what is its own."""

import keras
import numpy as np
import pytest

from edge.export import to_tflite
from edge.export.rewrites import ALL, reparametrize
from edge.runtime.cpu import Interpreter
from edge.tflite import flatbuffer
from tests.edge.small_models import MICRO, SEED, TINY, build, pixels
from tfvit.graph_constants import POSITION_BIAS
from tfvit.model import ViTTransformer
from tfvit.weights import randomize

pytestmark = pytest.mark.whole

# float32 on both sides in another order of operations, as for one backbone
FLOAT32_SNR_DB = 100.0
SIDE = MICRO.image_size


def _logits(model: keras.Model, rewrites=ALL) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Of the Keras model and of its float file, on four images; and the file."""
    source = to_tflite.exportable(model, MICRO.preprocessing, takes_pixels=False)
    file = to_tflite.export_float(reparametrize(source, rewrites), "float32", "logits")
    images = pixels(source.input_shape[0], 4)
    interpreter = Interpreter(file)
    return np.asarray(source.logits(images.astype("float32"))), np.stack([interpreter.run(image[None])[0] for image in images]), file


def _snr_db(reference: np.ndarray, target: np.ndarray) -> float:
    return 10.0 * np.log10((reference**2).sum() / ((reference - target) ** 2).sum())


def _biases(file: bytes) -> list[str]:
    graph = flatbuffer.read_model(file)
    names = [flatbuffer.tensor_name(graph, index) for index in range(len(graph.subgraphs[0].tensors))]
    return [name for name in names if name.startswith(POSITION_BIAS)]


def _backbone(seed: int, name: str) -> keras.Model:
    """Its layers have the names that every backbone's layers have."""
    model = build(MICRO, seed)
    return keras.Model(model.input, model.output, name=name)


def _ends(logits):
    return keras.layers.Activation("linear")(logits)


def _shifted(model: keras.Model, by: float) -> keras.Model:
    """The same but for its position biases, as another fine-tuning leaves it."""
    for layer in model._flatten_layers():
        if hasattr(layer, "relative_position_bias_table"):
            table = layer.relative_position_bias_table
            table.assign(table + by * np.random.default_rng(0).normal(size=table.shape).astype("float32"))
    return model


@pytest.mark.parametrize(
    "rewrites", [pytest.param((), marks=pytest.mark.slow), pytest.param(ALL, marks=pytest.mark.slow)], ids=["as it is", "rewritten"]
)
def test_an_ensemble_of_two_folds(rewrites):
    one, other = _backbone(SEED, "fold_a"), _shifted(_backbone(SEED, "fold_b"), 1.0)
    image = keras.Input((SIDE, SIDE, 3))
    reference, target, file = _logits(keras.Model(image, _ends(keras.layers.Average()([one(image), other(image)]))), rewrites)
    assert _snr_db(reference, target) > FLOAT32_SNR_DB
    blocks = sum(MICRO.depths)
    assert len(_biases(file)) == 2 * blocks
    alone = _snr_db(reference, _logits(one)[1])
    print(f"one fold alone: {alone:.1f} dB")
    assert alone < 60  # the folds do differ, and the file would be wrong with the biases of one


@pytest.mark.slow
def test_one_backbone_used_twice_is_stored_once():
    backbone = _backbone(SEED, "shared")
    image = keras.Input((SIDE, SIDE, 3))
    mirrored = keras.ops.flip(image, axis=2)
    reference, target, file = _logits(keras.Model(image, _ends(keras.layers.Average()([backbone(image), backbone(mirrored)]))))
    assert _snr_db(reference, target) > FLOAT32_SNR_DB
    once = _logits(backbone)[2]
    assert len(_biases(file)) == len(_biases(once)) == sum(MICRO.depths)
    assert len(file) < 1.5 * len(once)


@pytest.mark.slow
def test_one_backbone_on_grids_of_two_sizes():
    """Windows shrink to a small grid: the same layer then has two biases."""
    model = ViTTransformer(
        embed_dim=16,
        depths=(2,),
        num_heads=(2,),
        window_size=4,
        input_shape=(None, None, 3),
        include_top=False,
        pooling="avg",
        weights=None,
    )
    randomize(model, SEED)
    image = keras.Input((SIDE, SIDE, 3))
    small = keras.layers.AveragePooling2D(4)(image)
    features = keras.layers.Concatenate()([model(image), model(small)])
    reference, target, file = _logits(keras.Model(image, keras.layers.Dense(5)(features)), ())
    assert _snr_db(reference, target) > FLOAT32_SNR_DB
    assert len(_biases(file)) == 4
    assert len(set(_biases(file))) == 4


@pytest.mark.slow
def test_v1_and_v2_in_one_model():
    one, two = build(TINY[1], SEED), build(TINY[2], SEED)
    image = keras.Input((128, 128, 3))
    halves = keras.layers.AveragePooling2D(2)(image)
    reference, target, _ = _logits(keras.Model(image, _ends(keras.layers.Average()([one(halves), two(image)]))))
    assert _snr_db(reference, target) > FLOAT32_SNR_DB


@pytest.mark.slow
def test_a_head_that_two_backbones_share():
    """What a norm scales cannot be folded into weights that somebody else uses."""
    features = []
    image = keras.Input((SIDE, SIDE, 3))
    for seed in (SEED, SEED + 1):
        model = build(MICRO, seed)
        norm = model.get_layer("norm")
        features.append(keras.Model(model.input, norm.output, name=f"features_{seed}")(image))
    pool, head = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)
    reference, target, _ = _logits(keras.Model(image, _ends(keras.layers.Average()([head(pool(one)) for one in features]))))
    assert _snr_db(reference, target) > FLOAT32_SNR_DB
