"""A small model of each version, and what must come out of every checkpoint of it."""

import numpy as np
import pytest

from tests.tfvit.checkpoints import small_checkpoints


@pytest.fixture(scope="session")
def make():
    """The module that makes checkpoints."""
    return small_checkpoints


@pytest.fixture(scope="session")
def models():
    """Version -> a small model of it."""
    return {version: small_checkpoints.build(version) for version in (1, 2)}


@pytest.fixture(scope="session")
def tensors(models):
    """Version -> the small model's tensors under timm's names."""
    from tfvit.checkpoints.official import official_tensors

    return {version: official_tensors(model) for version, model in models.items()}


@pytest.fixture(scope="session")
def logits(models):
    return {version: np.asarray(model(small_checkpoints.PIXELS)) for version, model in models.items()}


@pytest.fixture
def equal(models, logits):
    """Checks that a checkpoint is the small model: the same logits."""

    def check(checkpoint, version):
        from tfvit.checkpoints.building import build as build_checkpoint

        shape = small_checkpoints.PIXELS.shape[1:]
        model = build_checkpoint(checkpoint, "checkpoint", classifier_activation=None, input_shape=shape)
        np.testing.assert_allclose(np.asarray(model(small_checkpoints.PIXELS)), logits[version], atol=1e-5)

    return check
