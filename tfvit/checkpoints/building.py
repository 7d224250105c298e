"""A checkpoint as a Keras model."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import keras

from tfvit.checkpoints.checkpoint import Checkpoint
from tfvit.checkpoints.official import assign_tensors
from tfvit.checkpoints.reading import read_checkpoint
from tfvit.model import VisionTransformer, ViTTransformer
from tfvit.variants import find_variant


def build(checkpoint: Checkpoint, source: str, **arguments: Any) -> keras.Model:
    """The model of a checkpoint, with its weights.

    Args:
        checkpoint: of `read_checkpoint`.
        source: what it is called in messages.
        arguments: of `tfvit.ViTTransformer` or `tfvit.VisionTransformer`, instead of the checkpoint's own. Without a head in the
            checkpoint `include_top` is False.

    Raises:
        WeightsError: tensors that do not fit.
    """
    given: dict[str, Any] = {"include_top": checkpoint.classes is not None, **checkpoint.architecture, **arguments}
    model = (VisionTransformer if "depth" in given else ViTTransformer)(**given)
    assign_tensors(model, checkpoint.tensors, source, source)
    return model


def from_checkpoint(path: str | os.PathLike[str], *, variant: str | None = None, ema: bool = True, **arguments: Any) -> keras.Model:
    """The model of a checkpoint as its maker left it: Hugging Face transformers, timm, the original release, KerasHub, our own.

    >>> model = tfvit.ViTTransformer.from_checkpoint("runs/best", classifier_activation=None)

    Args:
        path: a folder or a file, or "hf://OWNER/NAME".
        variant: what the checkpoint should be, for one that does not tell its window.
        ema: of a checkpoint with a moving average of its weights, take the average.
        arguments: of `tfvit.ViTTransformer`, instead of the checkpoint's own.

    Raises:
        InputError: there is no such folder or file.
        WeightsError: of another model, damaged, or contradicting itself.
    """
    from tfvit.hub import local_checkpoint

    local = local_checkpoint(path)
    checkpoint = read_checkpoint(local.path, find_variant(variant) if variant else None, ema)
    for note in checkpoint.notes:
        warnings.warn(note, stacklevel=2)
    return build(checkpoint, Path(local.path).name, **arguments)
