"""Which repository holds which variant's weights."""

import pytest

from tfvit.errors import UsageError, WeightsError
from tfvit.repositories import REPOSITORIES, repository_of
from tfvit.variants import VARIANTS, WindowedVariant


def test_every_variant_has_its_repository():
    assert list(REPOSITORIES["imagenet"]) == [name for name, variant in VARIANTS.items() if variant.weights == "imagenet"]
    windowed = {name: variant for name, variant in VARIANTS.items() if isinstance(variant, WindowedVariant)}
    assert list(REPOSITORIES["imagenet21k"]) == [
        name for name, variant in windowed.items() if variant.version == 1 and variant.weights == "imagenet"
    ]
    for table in REPOSITORIES.values():
        assert len(set(table.values())) == len(table)
        for variant_id, repository in table.items():
            variant = VARIANTS[variant_id]
            if variant_id not in windowed:
                family, size = variant_id.split("_")[:2]
                assert family in repository
                assert size.rstrip("0123456789") in repository
                assert repository.startswith("facebook/") or f"patch{variant.patch_size}_{variant.image_size}." in repository
                assert ("registers" in repository) == bool(variant.registers)
                continue
            size = variant_id.removeprefix("v2_").rstrip("0123456789")
            assert repository.startswith(f"timm/swin{'v2' if variant.version == 2 else ''}_{size}_")
            assert str(variant.window_size) in repository
            assert str(variant.image_size) in repository
    assert repository_of("v2-large384", "imagenet") == "timm/swinv2_large_window12to24_192to384.ms_in22k_ft_in1k"
    assert repository_of("base384", "imagenet21k") == "timm/swin_base_patch4_window12_384.ms_in22k"


def test_weights_that_were_never_published():
    with pytest.raises(WeightsError, match="imagenet") as caught:
        repository_of("v2_base256", "imagenet21k")
    assert caught.value.kind == "not_found"
    with pytest.raises(WeightsError, match="imagenet or imagenet21k"):
        repository_of("tiny224", "imagenett")
    with pytest.raises(WeightsError, match="for nano32: cifar10"):
        repository_of("nano32", "imagenet")
    with pytest.raises(UsageError, match="tiny224"):
        repository_of("tiny225", "imagenet")
