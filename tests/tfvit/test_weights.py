"""Weights: names of both schemes, whole-file errors, round trips, random drawing."""

import hashlib

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from tfvit import checkpoints, weights
from tfvit.errors import InputError, WeightsError
from tfvit.model import ViTTransformer, build_variant
from tfvit.variants import VARIANTS

TINY = {"embed_dim": 16, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4, "input_shape": (64, 64, 3), "classes": 5}


def _model(version=1, **changes):
    return ViTTransformer(**{**TINY, "version": version, **changes})


def _values(model):
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights]


def official_tensors(model):
    """The model's weights under timm's names: the inverse of loading, written independently for the parts that are permuted."""
    tensors, post_norm = {}, model.get_layer("stage2_merging").post_norm
    for name, targets in checkpoints.official_targets(model).items():
        arrays = [keras.ops.convert_to_numpy(variable) for variable, _ in targets]
        if name.endswith("downsample.reduction.weight"):
            out = arrays[0].T
            blocks = out.reshape(out.shape[0], 4, -1)
            tensors[name] = np.stack([blocks[:, 0], blocks[:, 2], blocks[:, 1], blocks[:, 3]], 1).reshape(out.shape)
        elif "downsample.norm" in name and not post_norm:
            tensors[name] = arrays[0].reshape(4, -1)[[0, 2, 1, 3]].reshape(-1)
        elif name == "patch_embed.proj.weight":
            tensors[name] = arrays[0].transpose(3, 2, 0, 1)
        elif name.endswith("logit_scale"):
            tensors[name] = arrays[0].reshape(-1, 1, 1)
        elif arrays[0].ndim == 2 and not name.endswith("table"):
            tensors[name] = np.concatenate([array.T for array in arrays])
        else:
            tensors[name] = np.concatenate(arrays)
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def _original_names(tensors):
    """timm's names as the original release has them, with its buffers."""
    renamed = {}
    for name, tensor in tensors.items():
        if name.startswith("layers.1.downsample"):
            name = name.replace("layers.1.", "layers.0.")
        renamed[name.replace("head.fc.", "head.")] = tensor
    renamed["layers.0.blocks.1.attn_mask"] = np.zeros((4, 16, 16), "float32")
    renamed["layers.0.blocks.0.attn.relative_position_index"] = np.zeros((16, 16), "int64")
    return renamed


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("scheme", ["timm", "original"])
def test_safetensors_of_both_schemes(version, scheme, tmp_path):
    source, target = _model(version), _model(version)
    weights.randomize(source, 1)
    tensors = official_tensors(source)
    save_file(_original_names(tensors) if scheme == "original" else tensors, tmp_path / "w.safetensors")
    origin = weights.load_weights(target, tmp_path / "w.safetensors")
    for ours, theirs in zip(_values(target), _values(source), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert origin.source == "w.safetensors"
    assert origin.sha256 == hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    assert weights.checkpoint_classes(tmp_path / "w.safetensors") == 5


@pytest.mark.parametrize("version", [1, 2])
def test_official_tensors_are_those(version):
    model = _model(version)
    weights.randomize(model, 1)
    written, expected = checkpoints.official_tensors(model), official_tensors(model)
    assert written.keys() == expected.keys()
    for name, tensor in written.items():
        np.testing.assert_array_equal(tensor, expected[name])


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
def test_keras_files_round_trip(ending, tmp_path):
    source, target = _model(), _model()
    weights.randomize(source, 1)
    path = tmp_path / f"w{ending}"
    source.save_weights(path) if ending == ".weights.h5" else source.save(path)
    weights.load_weights(target, path)
    for ours, theirs in zip(_values(target), _values(source), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_everything_wrong_is_named_in_one_error_and_nothing_is_assigned(tmp_path):
    source, target = _model(), _model()
    tensors = official_tensors(source)
    del tensors["norm.weight"]
    tensors["something.else"] = np.zeros(3, "float32")
    tensors["layers.0.blocks.0.mlp.fc1.weight"] = np.zeros((3, 3), "float32")
    tensors["layers.0.blocks.0.attn.qkv.weight"] = np.zeros((49, 16), "float32")
    save_file(tensors, tmp_path / "w.safetensors")
    before = _values(target)
    with pytest.raises(WeightsError) as caught:
        weights.load_weights(target, tmp_path / "w.safetensors")
    error = caught.value
    assert error.missing == ["norm.weight"]
    assert error.unexpected == ["something.else"]
    assert [name.split()[0] for name in error.misshapen] == ["layers.0.blocks.0.attn.qkv.weight", "layers.0.blocks.0.mlp.fc1.weight"]
    assert len(str(error).splitlines()) == 4
    assert all(name in str(error) for name in (*error.missing, *error.unexpected, *error.misshapen))
    for ours, theirs in zip(_values(target), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_another_variants_checkpoint_is_recognised(tmp_path):
    tensors = {"patch_embed.proj.weight": np.zeros((96, 3, 4, 4), "float32")}
    for stage, depth in enumerate((2, 2, 18, 2)):
        tensors |= {f"layers.{stage}.blocks.{block}.attn.logit_scale": np.zeros(1, "float32") for block in range(depth)}
    assert checkpoints.guess_variant(tensors) == "v2_small256"
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="look like v2_small256") as caught:
        weights.load_weights(_model(), tmp_path / "w.safetensors")
    error = caught.value
    names = (*error.missing, *error.unexpected, *error.misshapen)
    assert len(names) > 40  # every one of them, however many; the message names the first three of each kind
    assert len(str(error).splitlines()) == 4
    assert len(str(error)) < 1000
    assert all(name in str(error) for name in error.missing[:3])


@pytest.mark.parametrize("ending", [".safetensors", ".weights.h5", ".keras"])
def test_missing_truncated_and_foreign_files(ending, tmp_path):
    model = _model()
    path = tmp_path / f"w{ending}"
    with pytest.raises(WeightsError, match="unreadable weights file"):
        weights.load_weights(model, path)
    other = _model(embed_dim=32)
    if ending == ".safetensors":
        save_file(official_tensors(other), path)
    else:
        other.save(path) if ending == ".keras" else other.save_weights(path)
    with pytest.raises(WeightsError, match="do not fit"):
        weights.load_weights(model, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises((WeightsError, InputError)) as caught:
        weights.load_weights(model, path)
    assert len(str(caught.value).splitlines()) == 4


def test_unknown_endings_and_names():
    with pytest.raises(WeightsError, match="unknown format"):
        weights.load_weights(_model(), "weights.txt")
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE"):
        weights.load_weights(_model(), "imagenet", VARIANTS["tiny224"])


@pytest.mark.parametrize("version", [1, 2])
def test_random_weights_are_drawn_everywhere_and_repeat(version):
    models = [_model(version, name=name) for name in ("a", "b", "c")]
    origins = [weights.randomize(model, seed) for model, seed in zip(models, (3, 3, 4), strict=True)]
    assert origins[0] == origins[1] != origins[2]
    assert origins[0].source == "random:3"
    assert origins[0].is_random
    for first, second, third in zip(*map(_values, models), strict=True):
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, third)
        assert first.std() > 0 if first.size > 1 else first.size == 1
        assert not (first == 0).any()


def test_head_of_other_classes_is_left_out_with_a_warning(tmp_path):
    source, target, headless = _model(), _model(classes=7), _model(include_top=False)
    weights.randomize(source, 1)
    save_file(official_tensors(source), tmp_path / "w.safetensors")
    head = keras.ops.convert_to_numpy(target.get_layer("head").kernel)
    with pytest.warns(UserWarning, match="head of 5 classes is left out; the 7-class head"):
        weights.load_weights(target, tmp_path / "w.safetensors")
    np.testing.assert_array_equal(target.get_layer("head").kernel, head)
    weights.load_weights(headless, tmp_path / "w.safetensors")
    for model in (target, headless):
        np.testing.assert_array_equal(model.get_layer("norm").gamma, source.get_layer("norm").gamma)


def test_position_tables_of_another_window_are_resized(tmp_path):
    source, target = _model(), _model(window_size=8, input_shape=(128, 128, 3))
    weights.randomize(source, 1)
    save_file(official_tensors(source), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="another window") as caught:
        weights.load_weights(target, tmp_path / "w.safetensors")
    assert caught.value.window == 4
    assert "window_size=8" in caught.value.action
    weights.load_weights(target, tmp_path / "w.safetensors", adapt_window=True)
    tables = [model.get_layer("stage1_block1").attention.relative_position_bias_table for model in (source, target)]
    small, large = (keras.ops.convert_to_numpy(table) for table in tables)
    assert (small.shape, large.shape) == ((49, 1), (225, 1))
    np.testing.assert_allclose(large, checkpoints.resize_position_table(small, 8), rtol=1e-6)


@pytest.mark.parametrize(
    ("buffer", "shape"),
    [
        ("layers.0.blocks.0.attn.relative_position_index", (64, 64)),
        ("layers.0.blocks.1.attn.relative_coords_table", (1, 15, 15, 2)),
    ],
)
def test_a_buffer_tells_the_window_of_version_2(buffer, shape):
    """Its tensors fit any window, and its answers do not."""
    model = _model(2)
    tensors = official_tensors(model)
    checkpoints.assign_tensors(model, tensors, "model", "w.pth")
    with pytest.raises(WeightsError, match="another window") as caught:
        checkpoints.assign_tensors(model, {**tensors, buffer: np.zeros(shape, np.float32)}, "model", "w.pth")
    assert caught.value.window == 8
    assert checkpoints.trained_windows({buffer: np.zeros(shape)}) == {0: 8}


def test_weights_of_another_variant_of_the_same_widths_are_refused(tmp_path):
    """base384's tensors are base224's but for the window; here with small models of the same kind."""
    source = _model(window_size=12, input_shape=(384, 384, 3))
    weights.randomize(source, 1)
    save_file(official_tensors(source), tmp_path / "w.safetensors")
    before = _values(target := _model())
    with pytest.raises(WeightsError, match="12 x 12 in stage 1"):
        weights.load_weights(target, tmp_path / "w.safetensors")
    for one, other in zip(before, _values(target), strict=True):
        np.testing.assert_array_equal(one, other)


def test_resizing_is_pytorchs_bicubic():
    table = np.random.default_rng(0).normal(size=(13 * 13, 3)).astype("float32")
    np.testing.assert_allclose(checkpoints.resize_position_table(table, 7), table, atol=1e-6)
    flat = checkpoints.resize_position_table(np.full((13 * 13, 2), 3.0, "float32"), 12)
    np.testing.assert_allclose(flat, 3.0, rtol=1e-6)
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its interpolation cannot be compared with")
    grid = torch.from_numpy(table.T.reshape(1, 3, 13, 13).copy())
    for window in (12, 5):
        expected = torch.nn.functional.interpolate(grid, size=(2 * window - 1,) * 2, mode="bicubic").numpy().reshape(3, -1).T
        np.testing.assert_allclose(checkpoints.resize_position_table(table, window), expected, atol=1e-5)


def test_v2_at_another_window_measures_in_the_trained_one():
    row = VARIANTS["v2_tiny256"]
    model = build_variant(row, weights=None, window_size=24, input_shape=(384, 384, 3))
    blocks = [model.get_layer(f"stage{stage}_block1").attention for stage in (1, 2, 3, 4)]
    assert [block.pretrained_window_size for block in blocks] == [16, 16, 16, 8]
    assert [block.window_size for block in blocks] == [24] * 4
