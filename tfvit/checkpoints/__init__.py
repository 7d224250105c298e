"""Every format that a checkpoint comes in, to tensors under timm's names. Imports no Keras; `official`, which fills models, does."""

from __future__ import annotations

from typing import Any

from tfvit.checkpoints.checkpoint import Checkpoint
from tfvit.checkpoints.reading import read_checkpoint

__all__ = ["Checkpoint", "read_checkpoint"]
_OFFICIAL = (
    "architecture", "assign_tensors", "guess_variant", "official_targets", "official_tensors", "resize_position_table", "tfvit_layers",
    "timm_names", "trained_windows",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _OFFICIAL:
        from tfvit.checkpoints import official

        return getattr(official, name)
    raise AttributeError(f"module 'tfvit.checkpoints' has no attribute {name!r}")
