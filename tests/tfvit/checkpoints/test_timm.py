"""timm: its folders, its architectures' names, and what its `train.py` leaves."""

import pytest

from tfvit.checkpoints.reading import read_checkpoint
from tfvit.errors import WeightsError
from tfvit.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

CFG = {
    "input_size": [3, 64, 64], "crop_pct": 0.9, "crop_mode": "center", "interpolation": "bicubic", "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}  # fmt: skip
USUAL = Preprocessing(71, 64, "bicubic", True, IMAGENET_MEAN, IMAGENET_STD)


def _config(version=1, **changes):
    name = {1: "swin_tiny_patch4_window4_64", 2: "swinv2_tiny_window4_64"}[version]
    names = [f"thing {index}" for index in range(5)]
    return {"architecture": name, "num_classes": 5, "pretrained_cfg": CFG, "label_names": names, **changes}


@pytest.mark.parametrize("version", [1, 2])
def test_a_folder(version, make, tensors, equal, tmp_path):
    checkpoint = read_checkpoint(make.folder(tmp_path / "run", _config(version), tensors[version]))
    assert (checkpoint.format, checkpoint.labels) == ("timm", tuple(f"thing {index}" for index in range(5)))
    assert (checkpoint.preprocessing, checkpoint.image_size, checkpoint.notes) == (USUAL, 64, ())
    equal(checkpoint, version)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"crop_pct": 1.0}, (64, "bicubic", True)),
        ({"crop_pct": 1.0, "crop_mode": "squash"}, (64, "bicubic", False)),
        ({"crop_pct": None, "interpolation": "bilinear"}, (73, "bilinear", True)),
    ],
)
def test_preprocessing(changes, expected, make, tensors, tmp_path):
    config = _config(pretrained_cfg={**CFG, **changes})
    found = read_checkpoint(make.folder(tmp_path / "run", config, tensors[1])).preprocessing
    assert (found.resize_px, found.interpolation, found.keep_aspect) == expected


def test_the_arguments_of_the_model_win_over_its_name(make, tensors, tmp_path):
    config = _config(2, model_args={"img_size": 32, "window_size": 2}, pretrained_cfg={})
    checkpoint = read_checkpoint(make.folder(tmp_path / "run", config, tensors[2]))
    assert (checkpoint.image_size, checkpoint.architecture["window_size"], checkpoint.preprocessing) == (32, 2, None)


def test_the_windows_of_the_pretraining_are_in_the_name(make, tensors, tmp_path):
    config = _config(2, architecture="swinv2_base_window12to4_192to64")
    checkpoint = read_checkpoint(make.folder(tmp_path / "run", config, tensors[2]))
    assert checkpoint.architecture["window_size"] == 4
    assert checkpoint.architecture["pretrained_window_sizes"] == (12, 12, 12, 6)[:2]


@pytest.mark.parametrize("names", [{str(index): f"n{index}" for index in range(5)}, None])
def test_labels(names, make, tensors, tmp_path):
    found = read_checkpoint(make.folder(tmp_path / "run", _config(label_names=names), tensors[1])).labels
    assert found == (tuple(f"n{index}" for index in range(5)) if names else None)


@pytest.mark.parametrize("name", ["convnext_tiny", "swinv2_cr_tiny_224", "mixer_b16_224"])
def test_other_architectures(name, make, tensors, tmp_path):
    with pytest.raises(WeightsError, match=f"timm's architecture '{name}'"):
        read_checkpoint(make.folder(tmp_path / "run", _config(architecture=name), tensors[1]))


def test_windows_of_several_sizes_are_refused(make, tmp_path):
    from tfvit.checkpoints.official import official_tensors

    wide, narrow = official_tensors(make.build()), official_tensors(make.build(window_size=2))
    mixed = {name: (narrow if name.startswith("layers.1.") else wide)[name] for name in wide}
    with pytest.raises(WeightsError, match="windows of 4, 2 tokens"):
        read_checkpoint(make.folder(tmp_path / "run", _config(architecture="swin_s3_tiny_64"), mixed))


def _namespace(make, **attributes):
    arguments = make.stand_in("argparse.Namespace")()
    vars(arguments).update(attributes)
    return arguments


def test_a_training_checkpoint(make, tensors, equal, tmp_path):
    """With the script's namespace, an optimizer's state and a scaler beside the tensors, and the moving average first."""
    arguments = _namespace(
        make, model="swinv2_tiny_window4_64", img_size=None, input_size=None, mean=(0.5,) * 3, std=(0.25,) * 3, crop_pct=0.9,
        interpolation="bilinear", model_kwargs={}, device=make.stand_in("torch.device")(),
    )  # fmt: skip
    other = {name: tensor + 1 for name, tensor in tensors[2].items()}
    content = {
        "epoch": 3, "arch": "swinv2_tiny_window4_64", "state_dict": other, "state_dict_ema": tensors[2], "args": arguments, "version": 2,
        "optimizer": {"state": {0: {"exp_avg": tensors[2]["norm.bias"]}}, "param_groups": [{"lr": 1e-3}]}, "amp_scaler": {"scale": 65536.0},
    }  # fmt: skip
    path = make.torch_save(content, tmp_path / "model_best.pth.tar")
    checkpoint = read_checkpoint(path)
    assert checkpoint.preprocessing == Preprocessing(71, 64, "bilinear", True, (127.5,) * 3, (63.75,) * 3)
    assert "moving average" in checkpoint.notes[0]
    equal(checkpoint, 2)
    plain = read_checkpoint(path, ema=False)
    assert "as they were trained" in plain.notes[0]
    assert (plain.tensors["norm.bias"] == tensors[2]["norm.bias"] + 1).all()


def test_a_version_2_without_a_word_of_its_window(make, tensors, equal, tmp_path):
    path = make.torch_save(tensors[2], tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="does not tell its window") as caught:
        read_checkpoint(path)
    assert len(str(caught.value).splitlines()) == 4
