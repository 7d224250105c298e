"""Keras has to run on TensorFlow: the TFLite converter reads nothing else."""

from __future__ import annotations

import os

from tfvit.errors import EnvironmentUnusableError


def require_tensorflow_backend() -> None:
    """Chooses TensorFlow where nothing is chosen; for before Keras is imported and after.

    Raises:
        EnvironmentUnusableError: another backend is.
    """
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise EnvironmentUnusableError(
            "conversion needs Keras on TensorFlow",
            expected="KERAS_BACKEND=tensorflow",
            received=f"KERAS_BACKEND={backend}",
            action="set KERAS_BACKEND=tensorflow for this command; models trained on another backend load there",
        )
