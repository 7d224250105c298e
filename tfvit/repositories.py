"""Where each variant's published weights lie on the hub.

The repositories are timm's conversions of the original releases' weights, and for DINOv2 facebook's own with its linear ImageNet head.
"""

from __future__ import annotations

from tfvit.errors import WeightsError
from tfvit.variants import Variant, find_variant

ORGANISATION = "timm"
# of the original weights: github.com/microsoft/Swin-Transformer; google-research/vision_transformer and facebookresearch/dinov2. The
# repositories repeat it
LICENSE, PLAIN_LICENSE = "MIT", "Apache-2.0"

_IMAGENET = {
    "tiny224": "swin_tiny_patch4_window7_224.ms_in1k",
    "small224": "swin_small_patch4_window7_224.ms_in1k",
    "base224": "swin_base_patch4_window7_224.ms_in22k_ft_in1k",
    "base384": "swin_base_patch4_window12_384.ms_in22k_ft_in1k",
    "large224": "swin_large_patch4_window7_224.ms_in22k_ft_in1k",
    "large384": "swin_large_patch4_window12_384.ms_in22k_ft_in1k",
    "v2_tiny256": "swinv2_tiny_window16_256.ms_in1k",
    "v2_small256": "swinv2_small_window16_256.ms_in1k",
    "v2_base256": "swinv2_base_window12to16_192to256.ms_in22k_ft_in1k",
    "v2_base384": "swinv2_base_window12to24_192to384.ms_in22k_ft_in1k",
    "v2_large256": "swinv2_large_window12to16_192to256.ms_in22k_ft_in1k",
    "v2_large384": "swinv2_large_window12to24_192to384.ms_in22k_ft_in1k",
}
_IMAGENET_PLAIN = {
    "vit_tiny16_224": "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "vit_small16_224": "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
    "vit_base16_224": "timm/vit_base_patch16_224.augreg_in21k_ft_in1k",
    "vit_base16_384": "timm/vit_base_patch16_384.augreg_in21k_ft_in1k",
    "vit_base32_224": "timm/vit_base_patch32_224.augreg_in21k_ft_in1k",
    "vit_large16_224": "timm/vit_large_patch16_224.augreg_in21k_ft_in1k",
    "vit_large16_384": "timm/vit_large_patch16_384.augreg_in21k_ft_in1k",
    "dinov2_small14_224": "facebook/dinov2-small-imagenet1k-1-layer",
    "dinov2_base14_224": "facebook/dinov2-base-imagenet1k-1-layer",
    "dinov2_large14_224": "facebook/dinov2-large-imagenet1k-1-layer",
    "dinov2_small14_reg4_224": "facebook/dinov2-with-registers-small-imagenet1k-1-layer",
    "dinov2_base14_reg4_224": "facebook/dinov2-with-registers-base-imagenet1k-1-layer",
    "dinov2_large14_reg4_224": "facebook/dinov2-with-registers-large-imagenet1k-1-layer",
}
# before fine-tuning; V2's were pretrained at 192 px, a size this table does not have
_IMAGENET21K = {
    "tiny224": "swin_tiny_patch4_window7_224.ms_in22k",
    "small224": "swin_small_patch4_window7_224.ms_in22k",
    "base224": "swin_base_patch4_window7_224.ms_in22k",
    "base384": "swin_base_patch4_window12_384.ms_in22k",
    "large224": "swin_large_patch4_window7_224.ms_in22k",
    "large384": "swin_large_patch4_window12_384.ms_in22k",
}
REPOSITORIES: dict[str, dict[str, str]] = {
    weights: {variant_id: f"{ORGANISATION}/{name}" for variant_id, name in table.items()}
    for weights, table in (("imagenet", _IMAGENET), ("imagenet21k", _IMAGENET21K))
}
REPOSITORIES["imagenet"] |= _IMAGENET_PLAIN


def repository_of(variant_id: str, weights: str) -> str:
    """The hub repository of a variant's published weights.

    Args:
        variant_id: an id of `tfvit.variants.VARIANTS`.
        weights: "imagenet" (1000 classes) or "imagenet21k" (21841 classes, windowed version 1 only).

    Raises:
        UsageError: there is no such variant.
        WeightsError: the variant has no such weights; `kind` is "not_found".
    """
    variant = find_variant(variant_id)
    repository = REPOSITORIES.get(weights, {}).get(variant.id)
    if repository is None:
        raise not_published(variant, weights)
    return repository


def not_published(variant: Variant, weights: str) -> WeightsError:
    """The error for weights that a variant does not have; `kind` is "not_found"."""
    known = [name for name, table in REPOSITORIES.items() if variant.id in table] or [variant.weights]
    return WeightsError(
        f"no published weights {weights!r} for {variant.id}",
        expected=f"for {variant.id}: {' or '.join(known)}",
        received=repr(weights),
        action=f"pass weights={known[0]!r}, or the path of a checkpoint",
        kind="not_found",
    )


def license_of(repository: str) -> str | None:
    """Of a repository's weights; None for one of anyone's."""
    if repository in _IMAGENET_PLAIN.values():
        return PLAIN_LICENSE
    return LICENSE if repository.startswith(f"{ORGANISATION}/") else None
