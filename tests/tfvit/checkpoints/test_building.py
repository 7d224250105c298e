"""A checkpoint as a Keras model, in one call."""

import numpy as np
import pytest

import tfvit
from tfvit.errors import WeightsError


def test_from_checkpoint(make, tensors, logits, tmp_path):
    run = make.folder(tmp_path / "run", make.huggingface_config(2), make.huggingface_names(tensors[2]))
    for constructor in (tfvit.ViTTransformer, tfvit.from_checkpoint):
        found = constructor.from_checkpoint if constructor is tfvit.ViTTransformer else constructor
        np.testing.assert_allclose(np.asarray(found(run, classifier_activation=None)(make.PIXELS)), logits[2], atol=1e-5)


def test_another_head_and_no_head(make, tensors, tmp_path):
    run = make.folder(tmp_path / "run", make.huggingface_config(), make.huggingface_names(tensors[1]))
    with pytest.warns(UserWarning, match="5 classes is left out"):
        assert tfvit.from_checkpoint(run, classes=3).output_shape == (None, 3)
    assert tfvit.from_checkpoint(run, include_top=False).output_shape == (None, 32)


def test_a_head_that_is_not_there(make, tensors, tmp_path):
    body = {name: tensor for name, tensor in tensors[1].items() if not name.startswith("head.")}
    run = make.folder(tmp_path / "run", make.huggingface_config(), make.huggingface_names(body, base=""))
    with pytest.raises(WeightsError, match=r"head\.fc\.weight \[5, 32\]"):
        tfvit.from_checkpoint(run, include_top=True, classes=5)


def test_a_variants_constructor_asks_for_its_own(make, tensors, tmp_path):
    run = make.folder(tmp_path / "run", make.huggingface_config(), make.huggingface_names(tensors[1]))
    with pytest.raises(WeightsError, match="is not tiny224"):
        tfvit.ViTTransformerTiny224.from_checkpoint(run)


def test_notes_are_warnings(make, tensors, tmp_path):
    path = make.torch_save({"model": tensors[1], "model_ema": tensors[1]}, tmp_path / "w.pth")
    with pytest.warns(UserWarning, match="moving average"):
        tfvit.from_checkpoint(path)
