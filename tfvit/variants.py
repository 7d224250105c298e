"""The model table: every published variant, with the input it expects and the parameters it must have."""

from __future__ import annotations

import dataclasses

from tfvit.errors import unknown_name
from tfvit.preprocessing import Preprocessing

# what `weights` may name besides "random" and None: published checkpoints, and files by their ending
PUBLISHED_WEIGHTS = ("imagenet", "imagenet21k", "cifar10")
WEIGHTS_ENDINGS = (".safetensors", ".pth", ".weights.h5", ".keras")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One architecture at one input size.

    Attributes:
        id: the short name commands use, for example "tiny224".
        constructor: the public function's name.
        version: 1 (Swin Transformer, arXiv:2103.14030) or 2 (Swin Transformer V2, arXiv:2111.09883).
        image_size: input height and width in pixels.
        embed_dim, depths, num_heads, window_size, patch_size, mlp_ratio, drop_path_rate: as in the papers.
        pretrained_window_sizes: V2 only: the window of each stage during pretraining, 0 where it is the model's own.
        weights: the published weights it has by default: "imagenet" (on the hub) or "cifar10" (shipped with the package).
        classes: of the published head.
        num_parameters: with that head, relative position tables included; index, mask and coordinate buffers not.
        preprocessing: resize, crop and normalisation of the published evaluation.
    """

    id: str
    constructor: str
    version: int
    image_size: int
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int
    num_parameters: int
    preprocessing: Preprocessing
    weights: str = "imagenet"
    pretrained_window_sizes: tuple[int, ...] = (0, 0, 0, 0)
    patch_size: int = 4
    mlp_ratio: float = 4.0
    drop_path_rate: float = 0.2
    classes: int = 1000


# size: embed_dim, depths, num_heads, drop_path_rate (the original training configurations)
_SIZES: dict[str, tuple[int, tuple[int, ...], tuple[int, ...], float]] = {
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24), 0.2),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24), 0.3),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32), 0.5),
    "large": (192, (2, 2, 18, 2), (6, 12, 24, 48), 0.2),
}


def _variant(version: int, size: str, image_size: int, window_size: int, num_parameters: int) -> Variant:
    embed_dim, depths, num_heads, drop_path_rate = _SIZES[size]
    # V2 base and large come from 192 px ImageNet-21k pretraining with window 12 (6 in the last stage)
    pretrained = (12, 12, 12, 6) if version == 2 and size in ("base", "large") else (0, 0, 0, 0)
    # 384 px: nothing is cropped off the short side, as timm evaluates these weights (the original release squashes the image to a square)
    preprocessing = Preprocessing.for_image_size(image_size, crop_fraction=1.0 if image_size == 384 else 0.875)
    return Variant(
        id=f"{'v2_' if version == 2 else ''}{size}{image_size}",
        constructor=f"ViTTransformer{'V2' if version == 2 else ''}{size.capitalize()}{image_size}",
        version=version,
        image_size=image_size,
        embed_dim=embed_dim,
        depths=depths,
        num_heads=num_heads,
        window_size=window_size,
        num_parameters=num_parameters,
        preprocessing=preprocessing,
        pretrained_window_sizes=pretrained,
        drop_path_rate=drop_path_rate,
    )


def _nano(version: int, num_parameters: int) -> Variant:
    """The small model for 32 px images: three stages on 16 x 16, 8 x 8 and 4 x 4 tokens, the first two shifted."""
    return Variant(
        id=f"{'v2_' if version == 2 else ''}nano32",
        constructor=f"ViTTransformer{'V2' if version == 2 else ''}Nano32",
        version=version,
        image_size=32,
        embed_dim=64,
        depths=(2, 4, 2),
        num_heads=(2, 4, 8),
        window_size=4,
        num_parameters=num_parameters,
        preprocessing=Preprocessing.for_image_size(32, crop_fraction=1.0),
        weights="cifar10",
        pretrained_window_sizes=(0, 0, 0),
        patch_size=2,
        drop_path_rate=0.1,
        classes=10,
    )


VARIANTS: dict[str, Variant] = {
    variant.id: variant
    for variant in (
        _nano(1, 2_643_758),
        _nano(2, 2_670_830),
        _variant(1, "tiny", 224, 7, 28_288_354),
        _variant(1, "small", 224, 7, 49_606_258),
        _variant(1, "base", 224, 7, 87_768_224),
        _variant(1, "base", 384, 12, 87_903_584),
        _variant(1, "large", 224, 7, 196_532_476),
        _variant(1, "large", 384, 12, 196_735_516),
        _variant(2, "tiny", 256, 16, 28_347_154),
        _variant(2, "small", 256, 16, 49_728_418),
        _variant(2, "base", 256, 16, 87_918_816),
        _variant(2, "base", 384, 24, 87_918_816),
        _variant(2, "large", 256, 16, 196_739_932),
        _variant(2, "large", 384, 24, 196_739_932),
    )
}


def find_variant(name: str) -> Variant:
    """The variant called `name`; a hyphen is accepted for the underscore.

    Raises:
        UsageError: no such variant; near misses are named.
    """
    variant = VARIANTS.get(name.strip().lower().replace("-", "_"))
    if variant is None:
        raise unknown_name("variant", name, VARIANTS)
    return variant
