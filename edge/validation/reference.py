"""What an artifact's file is judged by, rebuilt from its manifest: the float Keras model, its float32 file, and the float graph its recipe
began with. Nothing heavy is loaded before it is asked for.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edge.artifacts import artifact
from edge.artifacts.provenance import code_sha256, tool_versions
from edge.artifacts.store import Store
from edge.drift.meanings import LOGITS, PROBABILITIES
from edge.export.kept_model import KeptFloatModel
from edge.export.source import Source
from edge.quantization.recipes import RECIPES, Recipe, find_recipe
from tfvit.errors import InputError
from tfvit.preprocessing import Preprocessing

# Pixels of a batch of the Keras model: more images at once where they are small
_BATCH_PIXELS = 2**20
_MOST_IMAGES = 64


class Reference:
    """The models behind an artifact.

    Args:
        source: of `source_of`.
        manifest: the artifact's.
        store: where float files are kept, those that edge.convert made of the same model among them.
    """

    def __init__(self, source: Source, manifest: Mapping[str, Any], store: Store) -> None:
        self.source, self._manifest = source, manifest
        self._model = KeptFloatModel(source, store)

    @property
    def preprocessing(self) -> Preprocessing:
        """Of the float model: the variant's published protocol; for a saved model what it was converted with."""
        return self._model.preprocessing if self.source.variant else artifact.preprocessing_of(self._manifest)

    @property
    def key(self) -> str:
        """Equal keys, equal models and files."""
        known = {
            "source": self.source.identity,
            "output": [output["activation"] for output in artifact.outputs(self._manifest)],
            "tools": tool_versions(),
            "code": code_sha256("validation"),
        }
        return hashlib.sha256(artifact.canonical_json(known).encode()).hexdigest()

    @functools.cached_property
    def exportable(self) -> Any:
        """`edge.export.to_tflite.ExportableModel`.

        Raises:
            InputError: random weights that this version draws otherwise.
        """
        # images run side by side, which scales better than threads inside each operation
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
        exportable = self._model.exportable
        self._require_same_draw()
        return exportable

    def _require_same_draw(self) -> None:
        received, recorded = self._model.facts.origin["sha256"], self._manifest["weights"]
        if received != recorded["sha256"]:
            raise InputError(
                "random weights came out otherwise than when the artifact was made",
                expected=f"SHA-256 {recorded['sha256']}",
                received=f"SHA-256 {received} from {recorded['source']}",
                action="convert again with this version",
            )

    @property
    def batch(self) -> int:
        """How many images the Keras model takes at once: more where they are small."""
        height, width = self._manifest["input"]["shape"][1:3]
        return max(1, min(_MOST_IMAGES, _BATCH_PIXELS // (height * width)))

    @property
    def float32_bytes(self) -> int:
        """Of the model's weights in float32; a variant's with its published head, so that it need not be built."""
        return 4 * (self.source.variant.num_parameters if self.source.variant else self.exportable.model.count_params())

    @functools.cached_property
    def keras_logits(self) -> Callable[[np.ndarray], np.ndarray]:
        """The function [N, H, W, 3] pixels -> [N, D] logits of the float Keras model."""
        exportable = self.exportable
        from edge.export.to_tflite import batched_logits

        return batched_logits(exportable, self.batch)

    @property
    def float32_file_is_kept(self) -> bool:
        """Whether `float32_file` is found in the store, without building the model."""
        return self._is_kept(RECIPES["float32"])

    @functools.cached_property
    def float32_file(self) -> bytes:
        """What `--quant float32` makes of the model, with the artifact's kind of output.

        Raises:
            InputError: as `exportable` does.
        """
        from edge.quantization import quantize

        recipe = RECIPES["float32"]
        return quantize.quantize(self._graph(recipe), recipe)

    def recipe_graph(self) -> bytes:
        """The float file that the artifact's recipe quantized: the same function, with the recipe's rewrites.

        Raises:
            InputError: as `exportable` does.
        """
        return self._graph(find_recipe(self._manifest["recipe"]))

    def _graph(self, recipe: Recipe) -> bytes:
        if not self._is_kept(recipe):
            _ = self.exportable  # first: it changes settings that are part of what the file is kept by
        graph = self._model.graph(recipe, "float32", self._output)
        self._require_same_draw()
        return graph

    def _is_kept(self, recipe: Recipe) -> bool:
        return self._model.has_float_file(recipe.rewrites, "float32", self._output)

    @property
    def _output(self) -> str:
        return ",".join(LOGITS if output["activation"] is None else PROBABILITIES for output in artifact.outputs(self._manifest))
