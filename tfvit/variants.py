"""The model table: every published variant, with the input it expects and the parameters it must have."""

from __future__ import annotations

import dataclasses

from tfvit.errors import unknown_name
from tfvit.preprocessing import Preprocessing, Size, sides, size_of

# what `weights` may name besides "random" and None: published checkpoints, and files by their ending
PUBLISHED_WEIGHTS = ("imagenet", "imagenet21k", "cifar10")
TENSORS_ENDINGS = (".safetensors", ".pth", ".npz")
WEIGHTS_ENDINGS = (*TENSORS_ENDINGS, ".weights.h5", ".keras")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One architecture at one input size: what both families have.

    Attributes:
        id: the short name commands use, for example "tiny224".
        constructor: the public function's name.
        image_size: side of the input in pixels, or (height, width).
        embed_dim, patch_size, mlp_ratio, drop_path_rate: as in the papers.
        weights: the published weights it has by default: "imagenet" (on the hub) or "cifar10" (shipped with the package).
        pooling: what the published head reads.
        classes: of the published head.
        num_parameters: with that head, relative position tables included; index, mask and coordinate buffers not.
        preprocessing: resize, crop and normalisation of the published evaluation.
    """

    id: str
    constructor: str
    image_size: Size
    embed_dim: int
    patch_size: int
    num_parameters: int
    preprocessing: Preprocessing
    weights: str = "imagenet"
    pooling: str = "avg"
    mlp_ratio: float = 4.0
    drop_path_rate: float = 0.0
    classes: int = 1000

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, 3)."""
        return (*sides(self.image_size), 3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowedVariant(Variant):
    """Attention inside shifted windows, four stages: see `tfvit.windowed`.

    Attributes:
        version: 1 (Swin Transformer, arXiv:2103.14030) or 2 (Swin Transformer V2, arXiv:2111.09883).
        depths, num_heads, window_size: as in the papers.
        pretrained_window_sizes: V2 only: the window of each stage during pretraining, 0 where it is the model's own.
    """

    version: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int
    pretrained_window_sizes: tuple[int, ...] = (0, 0, 0, 0)
    patch_size: int = 4
    drop_path_rate: float = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainVariant(Variant):
    """One grid of tokens, every token attends to all: see `tfvit.plain`.

    Attributes:
        depth, num_heads: as in the papers.
        registers: extra tokens behind the class token (arXiv:2309.16588).
        layer_scale: None, or the initial value of a factor for each channel of each branch (DINOv2).
        pooling: see `tfvit.plain.VisionTransformer`.
        class_position: whether the class token has a position embedding of its own.
        resize_offset: how position embeddings are resized, see `tfvit.positions.resized`.
    """

    depth: int
    num_heads: int
    registers: int = 0
    layer_scale: float | None = None
    pooling: str = "token"
    class_position: bool = True
    resize_offset: float | None = None


# size: embed_dim, depths, num_heads, drop_path_rate (the original training configurations)
_SIZES: dict[str, tuple[int, tuple[int, ...], tuple[int, ...], float]] = {
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24), 0.2),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24), 0.3),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32), 0.5),
    "large": (192, (2, 2, 18, 2), (6, 12, 24, 48), 0.2),
}


def _windowed(version: int, size: str, image_size: int, window_size: int, num_parameters: int) -> WindowedVariant:
    embed_dim, depths, num_heads, drop_path_rate = _SIZES[size]
    # V2 base and large come from 192 px ImageNet-21k pretraining with window 12 (6 in the last stage)
    pretrained = (12, 12, 12, 6) if version == 2 and size in ("base", "large") else (0, 0, 0, 0)
    # 384 px: nothing is cropped off the short side, as timm evaluates these weights (the original release squashes the image to a square)
    preprocessing = Preprocessing.for_image_size(image_size, crop_fraction=1.0 if image_size == 384 else 0.875)
    return WindowedVariant(
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


def _nano(version: int, num_parameters: int) -> WindowedVariant:
    """The small model for 32 px images: three stages on 16 x 16, 8 x 8 and 4 x 4 tokens, the first two shifted."""
    return WindowedVariant(
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


# size: embed_dim, depth, num_heads (arXiv:2010.11929, table 1; tiny and small from DeiT, arXiv:2012.12877)
_PLAIN_SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}


def _plain(size: str, patch_size: int, image_size: int, num_parameters: int) -> PlainVariant:
    """AugReg (arXiv:2106.10270): trained on ImageNet-21k, fine-tuned on ImageNet."""
    embed_dim, depth, num_heads = _PLAIN_SIZES[size]
    preprocessing = Preprocessing.for_image_size(image_size, crop_fraction=1.0 if image_size == 384 else 0.9)
    return PlainVariant(
        id=f"vit_{size}{patch_size}_{image_size}",
        constructor=f"VisionTransformer{size.capitalize()}{patch_size}_{image_size}",
        image_size=image_size,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        patch_size=patch_size,
        num_parameters=num_parameters,
        preprocessing=dataclasses.replace(preprocessing, mean=(127.5,) * 3, std=(127.5,) * 3),
    )


def _dinov2(size: str, registers: int, num_parameters: int) -> PlainVariant:
    """DINOv2 (arXiv:2304.07193), distilled from its giant at 518 px, with the linear ImageNet head on class token and mean patch."""
    embed_dim, depth, num_heads = _PLAIN_SIZES[size]
    return PlainVariant(
        id=f"dinov2_{size}14{'_reg4' if registers else ''}_224",
        constructor=f"DINOv2{size.capitalize()}14{'Reg4' if registers else ''}_224",
        image_size=224,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        patch_size=14,
        registers=registers,
        layer_scale=1e-5,
        pooling="token_avg",
        class_position=not registers,
        resize_offset=None if registers else 0.1,
        num_parameters=num_parameters,
        preprocessing=Preprocessing.for_image_size(224),
    )


def _plain_nano() -> PlainVariant:
    """The small model for 32 px images: 8 x 8 patches."""
    return PlainVariant(
        id="vit_nano32",
        constructor="VisionTransformerNano32",
        image_size=32,
        embed_dim=192,
        depth=6,
        num_heads=3,
        patch_size=4,
        num_parameters=2_693_578,
        preprocessing=Preprocessing.for_image_size(32, crop_fraction=1.0),
        weights="cifar10",
        drop_path_rate=0.1,
        classes=10,
    )


VARIANTS: dict[str, Variant] = {
    variant.id: variant
    for variant in (
        _nano(1, 2_643_758),
        _nano(2, 2_670_830),
        _windowed(1, "tiny", 224, 7, 28_288_354),
        _windowed(1, "small", 224, 7, 49_606_258),
        _windowed(1, "base", 224, 7, 87_768_224),
        _windowed(1, "base", 384, 12, 87_903_584),
        _windowed(1, "large", 224, 7, 196_532_476),
        _windowed(1, "large", 384, 12, 196_735_516),
        _windowed(2, "tiny", 256, 16, 28_347_154),
        _windowed(2, "small", 256, 16, 49_728_418),
        _windowed(2, "base", 256, 16, 87_918_816),
        _windowed(2, "base", 384, 24, 87_918_816),
        _windowed(2, "large", 256, 16, 196_739_932),
        _windowed(2, "large", 384, 24, 196_739_932),
        _plain_nano(),
        _plain("tiny", 16, 224, 5_717_416),
        _plain("small", 16, 224, 22_050_664),
        _plain("base", 16, 224, 86_567_656),
        _plain("base", 16, 384, 86_859_496),
        _plain("base", 32, 224, 88_224_232),
        _plain("large", 16, 224, 304_326_632),
        _plain("large", 16, 384, 304_715_752),
        _dinov2("small", 0, 22_397_800),
        _dinov2("base", 0, 87_261_928),
        _dinov2("large", 0, 305_276_904),
        _dinov2("small", 4, 22_398_952),
        _dinov2("base", 4, 87_264_232),
        _dinov2("large", 4, 305_279_976),
    )
}


def at_image_size(variant: Variant, size: Size) -> Variant:
    """The same row for images of another size, cut out in the same proportion."""
    protocol = variant.preprocessing
    ratio = sides(protocol.resize_px)[0] / sides(protocol.crop_px)[0]
    resize = size_of(*(round(side * ratio) for side in sides(size)))
    geometry = dataclasses.replace(protocol, resize_px=resize, crop_px=size)
    return dataclasses.replace(variant, image_size=size, preprocessing=geometry)


def find_variant(name: str) -> Variant:
    """The variant called `name`; a hyphen is accepted for the underscore.

    Raises:
        UsageError: no such variant; near misses are named.
    """
    variant = VARIANTS.get(name.strip().lower().replace("-", "_"))
    if variant is None:
        raise unknown_name("variant", name, VARIANTS)
    return variant
