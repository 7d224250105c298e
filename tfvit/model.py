"""A row of the table -> its Keras model: where the two families, windowed and plain, meet."""

from __future__ import annotations

from typing import Any

import keras

from tfvit import plain, windowed
from tfvit.plain import VisionTransformer
from tfvit.variants import VARIANTS, PlainVariant, Variant, WindowedVariant
from tfvit.windowed import ViTTransformer

IMAGENET21K_CLASSES = 21841

_MODEL_DOC = """{paper} with the `{variant.id}` configuration.

    embed_dim {variant.embed_dim}, {shape}, {variant.image_size} x {variant.image_size} px; {variant.num_parameters:,} parameters at
    {variant.classes} classes. The arguments are those of `tfvit.model.build_variant`.
    """


def build_variant(variant: Variant, *, weights: str | None, classes: int | None = None, **arguments: Any) -> keras.Model:
    """A variant of the table as a Keras model.

    Args:
        variant: a row of `tfvit.variants.VARIANTS`.
        weights: "imagenet" or "imagenet21k" (windowed V1), "cifar10" (the nano variants), None for random initialisation, or a path (see
            `tfvit.weights.load_weights`). The constructors' default is the variant's own: "imagenet", or "cifar10".
        classes: the weights' own number by default. Another number leaves the published head out, with a warning.
        arguments: `include_top`, `input_tensor`, `input_shape`, `pooling`, `classifier_activation`, `drop_rate`, `attn_drop_rate`,
            `drop_path_rate`, `name`, `dtype`, and those of the family: see `tfvit.windowed.build` and `tfvit.plain.build`.
    """
    if classes is None:
        classes = IMAGENET21K_CLASSES if weights == "imagenet21k" else variant.classes
    arguments.setdefault("pooling", variant.pooling)
    if isinstance(variant, WindowedVariant):
        return windowed.build(variant, weights=weights, classes=classes, **arguments)
    if isinstance(variant, PlainVariant):
        return plain.build(variant, weights=weights, classes=classes, **arguments)
    raise TypeError(f"variant must be a WindowedVariant or a PlainVariant. Received: {variant!r}")


def _constructor(variant: Variant) -> Any:
    def construct(
        include_top: bool = True,
        weights: str | None = variant.weights,
        input_tensor: Any = None,
        input_shape: tuple[int, int, int] | None = None,
        pooling: str | None = variant.pooling,
        classes: int | None = None,
        classifier_activation: str | None = "softmax",
        **kwargs: Any,
    ) -> keras.Model:
        return build_variant(
            variant,
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            **kwargs,
        )

    construct.__name__ = construct.__qualname__ = variant.constructor
    construct.__doc__ = _MODEL_DOC.format(variant=variant, paper=_paper(variant), shape=_shape(variant))
    return construct


def _paper(variant: Variant) -> str:
    if isinstance(variant, WindowedVariant):
        return "Swin Transformer V2 (arXiv:2111.09883)" if variant.version == 2 else "Swin Transformer (arXiv:2103.14030)"
    return "DINOv2 (arXiv:2304.07193)" if variant.id.startswith("dinov2") else "Vision Transformer (arXiv:2010.11929)"


def _shape(variant: Variant) -> str:
    if isinstance(variant, PlainVariant):
        registers = f", {variant.registers} registers" if variant.registers else ""
        return f"depth {variant.depth}, num_heads {variant.num_heads}, patch {variant.patch_size}{registers}"
    assert isinstance(variant, WindowedVariant)
    return f"depths {variant.depths}, num_heads {variant.num_heads}, window {variant.window_size}"


CONSTRUCTORS = {
    "ViTTransformer": ViTTransformer,
    "VisionTransformer": VisionTransformer,
    **{variant.constructor: _constructor(variant) for variant in VARIANTS.values()},
}
