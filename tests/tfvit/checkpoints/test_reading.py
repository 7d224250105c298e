"""What is the same for all formats: architecture, evidence, contradictions, and one clear error for each wrong input."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tfvit.checkpoints.reading import checkpoint_sha256, is_keras_model, read_checkpoint
from tfvit.errors import InputError, UserError, WeightsError
from tfvit.variants import VARIANTS

CASES = Path(__file__).parents[3].parent / "shared" / "cases" / "convert" / "checkpoint_wrappings" / "files"


_SOME = np.zeros((3, 2), np.float32)


def _save(tensors, path):
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path)
    return path


def test_the_cases_of_wrapped_names():
    if not CASES.is_dir():
        pytest.skip("the cases of wrapped checkpoints are not on this machine")
    files = sorted(CASES.iterdir())
    assert files
    for path in files:
        checkpoint = read_checkpoint(path)
        assert (checkpoint.classes, checkpoint.image_size) == (10, 32)
        assert len(checkpoint.tensors) == 118


def test_the_sizes_are_those_of_the_tensors(make, tmp_path):
    """embed_dim 64, window 8, 192 px, 7 classes: no row of the table."""
    from tfvit.checkpoints.building import build
    from tfvit.checkpoints.official import official_tensors

    arguments = {"embed_dim": 64, "depths": (1, 2, 1), "num_heads": (2, 4, 8), "window_size": 8, "input_shape": (192, 192, 3), "classes": 7}
    model = make.build(mlp_ratio=2.0, **arguments)
    config = {"architecture": "swin_tiny_patch4_window8_192", "pretrained_cfg": {"input_size": [3, 192, 192]}}
    checkpoint = read_checkpoint(make.folder(tmp_path / "run", config, official_tensors(model)))
    assert {**arguments, "mlp_ratio": 2.0}.items() <= dict(checkpoint.architecture).items()
    assert checkpoint.architecture["padding"] == "after_shift"  # 12 tokens a side in the last stage, windows of 8
    assert build(checkpoint, "run").output_shape == (None, 7)


def test_a_window_that_shrank_to_its_grid(make, tmp_path):
    """Elsewhere a stage's table has the size of its own window; in ours it is the centre of a table of the nominal one."""
    from tfvit.checkpoints.building import build
    from tfvit.checkpoints.official import official_tensors

    model = make.build(input_shape=(24, 24, 3), window_size=4)  # 6 and 3 tokens a side
    tensors = official_tensors(model)
    for name in [name for name in tensors if name.startswith("layers.1.") and name.endswith("bias_table")]:
        tensors[name] = tensors[name].reshape(7, 7, -1)[1:-1, 1:-1].reshape(25, -1)
    config = {"architecture": "swin_tiny_patch4_window4_24", "pretrained_cfg": {"input_size": [3, 24, 24]}}
    checkpoint = read_checkpoint(make.folder(tmp_path / "run", config, tensors))
    assert checkpoint.architecture["window_size"] == 4
    alone = read_checkpoint(_save(tensors, tmp_path / "w.safetensors"))  # the small table tells its grid, and so the image's size
    assert (alone.image_size, alone.notes) == (24, ())
    pixels = np.random.default_rng(0).standard_normal((1, 24, 24, 3)).astype("float32")
    rebuilt = build(checkpoint, "run", classifier_activation=None, padding="masked")
    np.testing.assert_allclose(np.asarray(rebuilt(pixels)), np.asarray(model(pixels)), atol=1e-5)


def test_nothing_says_the_image_size(make, tensors, tmp_path):
    checkpoint = read_checkpoint(_save(tensors[1], tmp_path / "w.safetensors"))
    assert checkpoint.image_size == 32
    assert "32 px is assumed" in checkpoint.notes[0]


def test_the_variant_says_what_the_checkpoint_does_not(tmp_path):
    from tfvit.checkpoints.official import official_tensors
    from tfvit.model import build_variant

    variant = VARIANTS["v2_nano32"]
    path = _save(official_tensors(build_variant(variant, weights=None)), tmp_path / "w.safetensors")
    checkpoint = read_checkpoint(path, variant)
    assert (checkpoint.image_size, checkpoint.architecture["window_size"]) == (32, 4)
    assert checkpoint.preprocessing == variant.preprocessing
    with pytest.raises(WeightsError, match="does not tell its window") as caught:
        read_checkpoint(path)
    assert "name the variant, for example v2_nano32" in str(caught.value)


def test_another_variant_than_it_is(tensors, tmp_path):
    path = VARIANTS_FILE = Path(__file__).parents[3] / "tfvit" / "cifar10" / "nano32.safetensors"
    with pytest.raises(WeightsError, match="is not tiny224") as caught:
        read_checkpoint(VARIANTS_FILE, VARIANTS["tiny224"])
    assert "it looks like nano32" in str(caught.value)
    assert read_checkpoint(path, VARIANTS["nano32"]).preprocessing == VARIANTS["nano32"].preprocessing
    with pytest.raises(WeightsError, match="is not vit_nano32"):  # of the other family
        read_checkpoint(path, VARIANTS["vit_nano32"])
    with pytest.raises(WeightsError, match="built as it is"):
        read_checkpoint(_save(tensors[1], tmp_path / "w.safetensors"), VARIANTS["tiny224"])


@pytest.mark.parametrize(
    ("changes", "expected", "received"),
    [
        ({"embed_dim": 32}, "embed_dim 32", "embed_dim 16"),
        ({"depths": [2, 6]}, "depths 2,6", "depths 2,2"),
        ({"num_heads": [1, 2]}, "num_heads 1,2", "num_heads 2,4"),
        ({"window_size": 7}, "window_size 7", "window_size 4"),
        ({"mlp_ratio": 2}, "mlp_ratio 2", "mlp_ratio 4.0"),
        ({"qkv_bias": False}, "qkv_bias False", "qkv_bias True"),
        ({"model_type": "swinv2"}, "version 2", "version 1"),
        ({"id2label": {"0": "a", "1": "b"}}, "2 classes", "5 classes"),
    ],
)
def test_weights_that_contradict_their_configuration(changes, expected, received, make, tensors, tmp_path):
    run = make.folder(tmp_path / "run", make.huggingface_config(**changes), make.huggingface_names(tensors[1]))
    with pytest.raises(WeightsError, match="contradict") as caught:
        read_checkpoint(run)
    assert expected in caught.value.expected
    assert received in caught.value.received


def _bert(folder, make):
    make.folder(folder, {"model_type": "bert", "architectures": ["BertModel"]}, {"embeddings.word_embeddings.weight": _SOME})


def _only_a_configuration(folder, make):
    make.folder(folder, make.huggingface_config())


def _convnext(folder, make):
    make.folder(folder, {"model_type": "convnext"}, {"convnext.embeddings.patch_embeddings.weight": _SOME})


def _convnext_without_configuration(folder, make):
    folder.mkdir()
    _save({"stem.0.weight": _SOME, "stages.0.blocks.0.conv_dw.weight": _SOME}, folder / "model.safetensors")


def _nothing(folder, make):
    folder.mkdir()


def _two_models(folder, make):
    folder.mkdir()
    for name in ("a.safetensors", "b.safetensors"):
        _save({"a": np.zeros(2, "f4")}, folder / name)


def _broken_json(folder, make):
    make.folder(folder, {}, {"a": np.zeros(2, "f4")})
    (folder / "config.json").write_text('{"model_type":')


def _deep_json(folder, make):
    make.folder(folder, {}, {"a": np.zeros(2, "f4")})
    (folder / "config.json").write_text("[" * 200_000)


def _another_json(folder, make):
    make.folder(folder, {"name": "tokenizer"}, {"a": np.zeros(2, "f4")})


def _wrong_kinds(folder, make):
    make.folder(folder, {**make.huggingface_config(), "depths": 3}, {"a": np.zeros(2, "f4")})


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (_bert, ("another model", "'bert' model (BertModel)")),
        (_only_a_configuration, ("without the weights", "only their configuration")),
        (_convnext, ("another model", "'convnext'")),
        (_convnext_without_configuration, ("not a checkpoint of this architecture",)),
        (_nothing, ("without the weights", "no weights")),
        (_two_models, ("2 files of weights", "a.safetensors, b.safetensors", "name the file itself")),
        (_broken_json, ("unreadable configuration", "config.json")),
        (_deep_json, ("unreadable configuration", "config.json")),
        (_another_json, ("another model", "nobody's (name)")),
        (_wrong_kinds, ("cannot be read", "TypeError")),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_wrong_inputs_get_one_clear_error(fill, words, make, tmp_path):
    fill(tmp_path / "run", make)
    with pytest.raises(UserError) as caught:
        read_checkpoint(tmp_path / "run")
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == ["expected", "received", "do"]
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert len(str(caught.value)) < 1000


def test_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match="hf://OWNER/NAME"):
        read_checkpoint(tmp_path / "none")


def test_shards_in_other_folders_are_not_read(make, tmp_path):
    run = make.folder(tmp_path / "run", make.huggingface_config())
    (run / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    _save({"a": np.zeros(2, "f4")}, tmp_path / "secret.safetensors")
    with pytest.raises(WeightsError, match="secret"):
        read_checkpoint(run)


def test_the_hash_is_of_everything_that_is_read(make, tensors, tmp_path):
    run = make.folder(tmp_path / "run", make.huggingface_config(), make.huggingface_names(tensors[1]), make.PROCESSOR)
    first = checkpoint_sha256(run)
    (run / "README.md").write_text("not read")
    assert checkpoint_sha256(run) == first == checkpoint_sha256(run / "model.safetensors")
    seen = {first}
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        with open(run / name, "ab") as file:
            file.write(b" ")
        seen.add(checkpoint_sha256(run))
    assert len(seen) == 4
    alone = _save(tensors[1], tmp_path / "w.safetensors")
    from tfvit.hashing import file_sha256

    assert checkpoint_sha256(alone) == file_sha256(alone)


def test_saved_keras_models_are_told_apart(models, tensors, tmp_path):
    models[1].save(tmp_path / "m.keras")
    os.rename(tmp_path / "m.keras", tmp_path / "m")
    assert is_keras_model(tmp_path / "m")
    assert not is_keras_model(_save(tensors[1], tmp_path / "w.keras"))
    assert not is_keras_model(tmp_path)


def test_reading_imports_no_keras():
    import subprocess
    import sys

    code = "import sys; import tfvit.checkpoints.reading, tfvit.hub; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0


def test_a_pickled_model_gives_its_tensors(make, tensors, equal, tmp_path):
    """`torch.save(model)`: timm's modules by name, their parts as attributes."""
    kind = make.stand_in("timm.models.swin_transformer.SwinTransformer")

    def module():
        made = kind()
        vars(made).update(training=False, _parameters={}, _buffers={}, _modules={}, _non_persistent_buffers_set=set())
        return made

    root = module()
    for name, tensor in tensors[1].items():
        *path, last = name.split(".")
        inside = root
        for part in path:
            inside = vars(inside)["_modules"].setdefault(part, module())
        vars(inside)["_parameters"][last] = tensor
    for index, content in enumerate((root, {"model": root, "epoch": 3})):
        equal(read_checkpoint(make.torch_save(content, tmp_path / f"{index}.pt")), 1)


@pytest.mark.parametrize("labels", [["a", "", "b", "c", "d"], [" ", "a", "b", "c", "d"]])
def test_labels_without_a_name_are_none(labels, make, tensors, tmp_path):
    config = make.huggingface_config(id2label={str(index): label for index, label in enumerate(labels)})
    assert read_checkpoint(make.folder(tmp_path / "run", config, make.huggingface_names(tensors[1]))).labels is None
    config = {"architecture": "swin_tiny_patch4_window4_64", "label_names": labels}
    assert read_checkpoint(make.folder(tmp_path / "other", config, tensors[1])).labels is None
