"""Plain models against the originals' recorded outputs, in every scheme of names; what each scheme becomes; what does not fit."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tfvit import checkpoints, weights, weights_choice
from tfvit.errors import WeightsError
from tfvit.plain import VisionTransformer
from tfvit.plain_names import plain_architecture, timm_plain_names
from tfvit.positions import resized
from tfvit.variants import VARIANTS

REFERENCE = Path(__file__).parents[2].parent / "shared" / "data" / "reference"
# Largest absolute difference allowed, in units of the tensor's largest absolute value: float32 rounding through three blocks stays two
# orders of magnitude below it, and any difference in arithmetic or layout lies far above it.
RELATIVE_TOLERANCE = 1e-4
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference tensors of the original models are not on this machine")
TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8, "input_shape": (32, 32, 3), "classes": 5}


def _assert_equal(model, pixels, expected):
    """`expected`: layer name -> what the original computes there, without our unit axis."""
    outputs = keras.Model(model.input, [model.get_layer(name).output for name in expected])(pixels)
    differences = {}
    for (name, tensor), output in zip(expected.items(), outputs, strict=True):
        output = keras.ops.convert_to_numpy(output).reshape(tensor.shape)
        differences[name] = np.abs(output - tensor).max() / np.abs(tensor).max()
    print({name: f"{difference:.1e}" for name, difference in differences.items()})
    assert differences.keys() == expected.keys()
    assert all(difference <= RELATIVE_TOLERANCE for difference in differences.values()), differences


@needs_reference
@pytest.mark.parametrize("case", ["token", "prelogits", "gap"])
def test_every_block_of_the_original_flax_models(case):
    recorded, path = np.load(REFERENCE / f"vit_{case}.npz"), REFERENCE / f"vit_{case}.weights.npz"
    arguments = plain_architecture(weights.read_tensors(path))
    assert arguments["num_heads"] == 3
    assert arguments["gelu"] == "tanh"
    assert arguments["class_token"] == (case != "gap")
    assert arguments.get("representation_size") == (48 if case == "prelogits" else None)
    model = VisionTransformer(**arguments, input_shape=recorded["input"].shape[1:], classifier_activation=None, weights=str(path))
    expected = {f"block{block + 1}": recorded[f"Transformer.encoderblock_{block}"] for block in range(3)}
    expected |= {"patch_embedding": recorded["Transformer.posembed_input"], "norm": recorded["Transformer"], "head": recorded["logits"]}
    _assert_equal(model, recorded["input"], expected)
    assert weights.checkpoint_classes(path) == recorded["logits"].shape[1]


@needs_reference
@pytest.mark.parametrize(("case", "epsilon"), [("hf_vit", 1e-12), ("hf_dinov2", 1e-6)])
def test_every_hidden_state_of_transformers(case, epsilon):
    recorded, path = np.load(REFERENCE / case / "reference.npz"), REFERENCE / case / "model.safetensors"
    arguments = {**plain_architecture(load_file(path)), "num_heads": 3}
    assert arguments["pooling"] == ("token" if case == "hf_vit" else "token_avg")
    assert (arguments["layer_scale"] is None) == (case == "hf_vit")
    size = recorded["pixels"].shape[1:]
    model = VisionTransformer(**arguments, epsilon=epsilon, input_shape=size, classifier_activation=None, weights=str(path))
    expected = {f"block{block}": recorded[f"hidden_{block}"] for block in (1, 2, 3)}
    expected |= {"patch_embedding": recorded["hidden_0"], "head": recorded["logits"]}
    _assert_equal(model, (recorded["pixels"] / 255 - 0.5) / 0.5, expected)


def _model(**changes):
    model = VisionTransformer(**{**TINY, **changes})
    weights.randomize(model, 1)
    return model


def _values(model):
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


def _assert_same(model, other):
    ours, theirs = _values(model), _values(other)
    assert [path.partition("/")[2] for path in ours] == [path.partition("/")[2] for path in theirs]
    for mine, other_value in zip(ours.values(), theirs.values(), strict=True):
        np.testing.assert_array_equal(mine, other_value)


def _outputs(model, size=32):
    return keras.ops.convert_to_numpy(model(np.random.default_rng(0).normal(size=(1, size, size, 3)).astype("float32")))


@pytest.mark.parametrize(
    "arguments",
    [{}, {"registers": 4, "class_position": False, "layer_scale": 1.0, "pooling": "token_avg"}, {"representation_size": 8}],
    ids=["vit", "dinov2", "pre_logits"],
)
def test_timm_names_both_ways(arguments, tmp_path):
    source, target = _model(**arguments), VisionTransformer(**TINY, **arguments)
    tensors = checkpoints.official_tensors(source)
    assert tensors["blocks.1.attn.qkv.weight"].shape == (48, 16)
    assert tensors["cls_token"].shape == (1, 1, 16)
    assert tensors["pos_embed"].shape == (1, 16 if "registers" in arguments else 17, 16)
    assert ("reg_token" in tensors) == ("blocks.0.ls1.gamma" in tensors) == ("registers" in arguments)
    save_file(tensors, tmp_path / "w.safetensors")
    weights.load_weights(target, tmp_path / "w.safetensors")
    _assert_same(source, target)
    found = plain_architecture(tensors)
    assert {name: found[name] for name in ("embed_dim", "depth", "patch_size", "classes")} == {
        name: TINY[name] for name in ("embed_dim", "depth", "patch_size", "classes")
    }
    assert found["registers"] == arguments.get("registers", 0)
    assert found["pooling"] == arguments.get("pooling", "token")


def test_first_releases_number_the_layers_of_a_block():
    """LayerNorm_2 and MlpBlock_3 there are LayerNorm_1 and MlpBlock_0 of later flax."""
    block = "Transformer/encoderblock_0"
    tensors = {f"{block}/LayerNorm_0/scale": np.zeros(4), f"{block}/LayerNorm_2/bias": np.ones(4)}
    tensors |= {
        f"{block}/MlpBlock_3/Dense_0/kernel": np.zeros((4, 8)),
        f"{block}/MultiHeadDotProductAttention_1/out/kernel": np.zeros((2, 2, 4)),
    }
    tensors |= {
        f"{block}/MultiHeadDotProductAttention_1/{part}/bias": np.full((2, 2), index)
        for index, part in enumerate(("query", "key", "value"))
    }
    named = timm_plain_names(tensors)
    assert {name: tensor.shape for name, tensor in named.items()} == {
        "blocks.0.norm1.weight": (4,), "blocks.0.norm2.bias": (4,), "blocks.0.mlp.fc1.weight": (8, 4), "blocks.0.attn.proj.weight": (4, 4),
        "blocks.0.attn.qkv.bias": (12,),
    }  # fmt: skip
    assert named["blocks.0.attn.qkv.bias"].tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_distilled_deit_is_the_mean_of_its_heads():
    """Two tokens, two heads: as one model with a register. The two heads are computed apart here."""
    source = _model(registers=1, pooling="token_register", classifier_activation=None)
    rng = np.random.default_rng(0)
    tensors = checkpoints.official_tensors(source)
    for name in ("head", "head_dist"):
        tensors |= {f"{name}.weight": rng.normal(size=(5, 16)).astype("f"), f"{name}.bias": rng.normal(size=5).astype("f")}
    position = rng.normal(size=(1, 1, 16)).astype("f")
    tensors["dist_token"] = tensors.pop("reg_token") - position
    tensors["pos_embed"] = np.concatenate([tensors["pos_embed"][:, :1], position, tensors["pos_embed"][:, 1:]], axis=1)
    found = plain_architecture(tensors)
    assert (found["registers"], found["pooling"], found["class_position"]) == (1, "token_register", True)
    model = VisionTransformer(**{**found, "num_heads": 2}, input_shape=(32, 32, 3), classifier_activation=None)
    checkpoints.assign_tensors(model, tensors, "model", "w.safetensors")
    features = keras.Model(source.input, source.get_layer("norm").output)
    tokens = _outputs(features)[:, 0]
    heads = [tokens[:, index] @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"] for index, name in enumerate(("head", "head_dist"))]
    np.testing.assert_allclose(_outputs(model), sum(heads) / 2, atol=1e-5)


def test_dinov2_class_token_with_registers_takes_its_position():
    """facebook's names: a position for the class token, none for the registers."""
    source = _model(registers=4, class_position=False, layer_scale=1.0)
    tensors = checkpoints.official_tensors(source)
    position = np.random.default_rng(0).normal(size=(1, 1, 16)).astype("f")
    theirs = {**tensors, "register_tokens": tensors["reg_token"], "mask_token": np.zeros((1, 16), "f")}
    theirs |= {"cls_token": tensors["cls_token"] - position, "pos_embed": np.concatenate([position, tensors["pos_embed"]], axis=1)}
    del theirs["reg_token"]
    target = VisionTransformer(**TINY, registers=4, class_position=False, layer_scale=1.0)
    checkpoints.assign_tensors(target, theirs, "model", "w.pth")
    np.testing.assert_allclose(_outputs(target), _outputs(source), atol=1e-6)


def test_deit_3_fits_a_model_without_layer_scale():
    """Its class token has no position, and its LayerScale goes into the layers in front."""
    source = _model(class_position=False, layer_scale=1.0, classifier_activation=None)
    target = VisionTransformer(**TINY, classifier_activation=None)
    tensors = checkpoints.official_tensors(source)
    renamed = {name.replace(".ls1.gamma", ".gamma_1").replace(".ls2.gamma", ".gamma_2"): tensor for name, tensor in tensors.items()}
    assert "blocks.0.gamma_1" in renamed
    for given in (tensors, renamed):
        checkpoints.assign_tensors(target, given, "model", "w.safetensors")
        np.testing.assert_allclose(_outputs(target), _outputs(source), atol=1e-5)


def test_positions_are_resized_with_a_warning_and_for_dinov2_without(recwarn):
    source = _model()
    tensors = checkpoints.official_tensors(source)
    larger = VisionTransformer(**{**TINY, "input_shape": (48, 64, 3)})
    with pytest.warns(UserWarning, match="4 x 4 patches are resized to 6 x 8"):
        checkpoints.assign_tensors(larger, tensors, "model", "w.safetensors")
    positions = keras.ops.convert_to_numpy(larger.get_layer("patch_embedding").positions)
    np.testing.assert_array_equal(positions[0], tensors["pos_embed"][0, 0])
    np.testing.assert_allclose(positions[1:], resized(tensors["pos_embed"][0, 1:], (4, 4), (6, 8)), atol=1e-6)
    recwarn.clear()
    checkpoints.assign_tensors(
        VisionTransformer(**{**TINY, "input_shape": (48, 64, 3)}, resize_offset=0.1), tensors, "model", "w.safetensors"
    )
    assert not recwarn.list


def test_the_variant_is_recognised():
    variant = VARIANTS["dinov2_base14_reg4_224"]
    tensors = {f"blocks.{block}.norm1.weight": np.zeros(768, "f") for block in range(variant.depth)}
    tensors |= {"patch_embed.proj.weight": np.zeros((768, 3, 14, 14), "f"), "blocks.0.mlp.fc1.weight": np.zeros((3072, 768), "f")}
    tensors |= {
        "cls_token": np.zeros((1, 1, 768), "f"),
        "pos_embed": np.zeros((1, 1369, 768), "f"),
        "reg_token": np.zeros((1, 4, 768), "f"),
    }
    tensors |= {"blocks.0.ls1.gamma": np.zeros(768, "f")}
    assert checkpoints.guess_variant(tensors) == "dinov2_base14_reg4_224"
    with pytest.raises(WeightsError, match="look like dinov2_base14_reg4_224"):
        checkpoints.assign_tensors(_model(), tensors, "model", "w.safetensors")
    del tensors["blocks.0.ls1.gamma"]
    assert checkpoints.guess_variant(tensors) is None
    with pytest.raises(WeightsError, match="not a checkpoint of this architecture"):
        plain_architecture({"blocks.0.norm1.weight": np.zeros(4)})


def test_another_number_of_classes_keeps_its_head():
    source = _model(classes=7)
    target = _model()
    before = keras.ops.convert_to_numpy(target.get_layer("head").kernel)
    with pytest.warns(UserWarning, match="head of 7 classes is left out"):
        checkpoints.assign_tensors(target, checkpoints.official_tensors(source), "model", "w.safetensors")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(target.get_layer("head").kernel), before)


def test_an_archive_that_is_none_is_refused(tmp_path):
    path = tmp_path / "w.npz"
    path.write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(WeightsError, match="the checkpoint cannot be read"):
        weights.load_weights(_model(), path)
    np.savez(path, object=np.array([{}], dtype=object))
    with pytest.raises(WeightsError, match="unreadable weights file"):
        weights.load_weights(_model(), path)


@needs_reference
@pytest.mark.parametrize("case", ["token", "prelogits", "gap"])
def test_a_file_says_what_its_head_reads(case):
    """`--weights` builds the variant with the head that the checkpoint was trained with."""
    path = REFERENCE / f"vit_{case}.weights.npz"
    row = dataclasses.replace(
        VARIANTS["vit_tiny16_224"], id="vit_of_the_reference", embed_dim=48, depth=3, num_heads=3, image_size=96 if case == "gap" else 64
    )
    model, origin = weights_choice.build(row, weights_choice.WeightsChoice(path=path, sha256="of the file"))
    recorded = np.load(REFERENCE / f"vit_{case}.npz")
    logits = keras.ops.convert_to_numpy(model(recorded["input"]))
    assert np.abs(logits - recorded["logits"]).max() <= RELATIVE_TOLERANCE * np.abs(recorded["logits"]).max()
    assert origin.source == path.name
