"""Vision Transformers for Keras 3, with shifted windows and plain.

    from tfvit import ViTTransformerTiny224, preprocess_input

Importing the package does not import Keras; touching a constructor does. Where both are imported, in whatever order, Keras knows our
layers: `keras.models.load_model` loads saved models that contain them.
"""

from __future__ import annotations

import functools
from typing import Any

from tfvit.registration import register
from tfvit.variants import VARIANTS

__version__ = "0.1.0"

__all__ = [
    "ViTTransformer", "VisionTransformer", "from_checkpoint", "preprocess_input", *(variant.constructor for variant in VARIANTS.values()),
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "preprocess_input":
        from tfvit.imagenet import preprocess_input

        return preprocess_input
    if name == "from_checkpoint":
        from tfvit.checkpoints.building import from_checkpoint

        return from_checkpoint
    if name in __all__:
        from tfvit import model

        rows = {row.constructor: row.id for row in VARIANTS.values()}
        return _readable(model.CONSTRUCTORS[name], rows.get(name))
    raise AttributeError(f"module 'tfvit' has no attribute {name!r}")


def _readable(constructor: Any, variant: str | None) -> Any:
    """The constructor, with the function that reads a checkpoint of it."""
    from tfvit.checkpoints.building import from_checkpoint

    constructor.from_checkpoint = functools.partial(from_checkpoint, variant=variant)
    return constructor


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


register()
