"""What an artifact's file is judged by, rebuilt from its manifest: the float Keras model, its float32 file, and the float graph its recipe
began with. Nothing heavy is loaded before it is asked for.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge.artifacts import artifact
from edge.artifacts.provenance import code_sha256, tool_versions
from edge.cache import Store
from edge.export import source as sources
from edge.export.float_model import FloatModel
from edge.quantization.recipes import RECIPES, Recipe, find_recipe
from tfvit.errors import InputError, UsageError
from tfvit.preprocessing import Preprocessing
from tfvit.terminal import Progress
from tfvit.variants import PUBLISHED_WEIGHTS, find_variant
from tfvit.weights_choice import resolve_weights

# Pixels of a batch of the Keras model: more images at once where they are small
_BATCH_PIXELS = 2**20
_MOST_IMAGES = 64


# Of a manifest, what is needed to rebuild its model and to judge its file
FIELDS = {
    "variant": (str, type(None)),
    "recipe": str,
    "classes": int,
    "calibration": (dict, type(None)),
    "weights.source": str,
    "weights.sha256": str,
    "weights.random": bool,
    "input.shape": list,
    "output.activation": (str, type(None)),
    "drift.limits.min_snr_db": (int, float),
    "drift.limits.min_agreement": (int, float),
    "drift.limits.max_top1_drop": (int, float),
}
_CALIBRATION_FIELDS = {"calibration.source": str, "calibration.samples": int, "calibration.seed": int}
# More than anyone calibrates with
_MOST_SAMPLES = 10**6


def require_usable(manifest: Mapping[str, Any]) -> None:
    """Checks everything in a manifest that its model is rebuilt from and its file judged by.

    Raises:
        InputError: the first thing that cannot be.
    """
    artifact.require_fields(manifest, FIELDS)
    side = artifact.preprocessing_of(manifest).crop_px
    if manifest["input"]["shape"] != [1, side, side, 3]:
        raise artifact.unusable_manifest(manifest, f"with images of {side} x {side} pixels for the input {manifest['input']['shape']}")
    if manifest["classes"] < 1:
        raise artifact.unusable_manifest(manifest, f"with {manifest['classes']} classes")
    if manifest["weights"]["random"] != manifest["weights"]["source"].startswith("random:"):
        raise artifact.unusable_manifest(manifest, f"with weights {manifest['weights']['source']}, random: {manifest['weights']['random']}")
    if manifest["calibration"] is not None:
        artifact.require_fields(manifest, _CALIBRATION_FIELDS)
        samples, seed = manifest["calibration"]["samples"], manifest["calibration"]["seed"]
        if not 1 <= samples <= _MOST_SAMPLES or seed < 0:
            raise artifact.unusable_manifest(manifest, f"with {samples} calibration images of seed {seed}")


def needed_flag(manifest: Mapping[str, Any]) -> str | None:
    """Which of a command's flags must name a file of the user's: --weights, --model or neither."""
    recorded = manifest["weights"]
    if manifest["variant"] is None:
        return "--model"
    return None if recorded["random"] or recorded["source"] in PUBLISHED_WEIGHTS else "--weights"


def source_of(
    manifest: Mapping[str, Any], weights: Path | None, model: Path | None, takes_pixels: bool | None, trusted: bool = False
) -> sources.Source:
    """The model an artifact was made from: names and hashes checked, nothing built.

    Args:
        manifest: the artifact's.
        weights: the checkpoint, where the manifest names a file of the user's.
        model: the saved Keras model, where it names one.
        takes_pixels: of a saved model; None to find out.
        trusted: whether code in the saved model may run.

    Raises:
        UsageError: a file is needed and was not given, or the other way round.
        InputError: another file than the one the manifest names.
        WeightsError: published weights that cannot be had.
    """
    recorded, needed = manifest["weights"], needed_flag(manifest)
    given = {"--weights": weights, "--model": model}
    for flag, path in given.items():
        if path is not None and flag != needed:
            raise UsageError(
                f"{flag} does not fit",
                expected=f"{needed} FILE" if needed else f"neither --weights nor --model: the manifest says {recorded['source']}",
                received=f"{flag} {path}",
                action=f"leave {flag} out",
            )
    if trusted and model is None:
        raise UsageError(
            "--trust-model does not fit",
            expected="--trust-model with --model FILE",
            received="no --model",
            action="leave --trust-model out",
        )
    if needed and given[needed] is None:
        raise UsageError(
            "the float reference is a file of yours",
            expected=f"{needed} FILE, the {recorded['source']} with SHA-256 {recorded['sha256'][:16]}…",
            received=f"no {needed}",
            action=f"name the file {manifest['name']} was made from",
        )
    if model is not None:  # the checks above: exactly where the manifest is of a saved model
        source = sources.resolve_model(model, takes_pixels, trusted)
    else:
        variant = find_variant(manifest["variant"])
        source = sources.Source(variant.id, variant, resolve_weights(str(weights or recorded["source"]), variant))
    if not recorded["random"] and source.weights.sha256 != recorded["sha256"]:
        raise InputError(
            "other weights than the artifact's",
            expected=f"SHA-256 {recorded['sha256']}",
            received=f"SHA-256 {source.weights.sha256} of {source.weights.path}",
            action="name the file it was made from, or convert again from this one",
        )
    return source


class Reference:
    """The models behind an artifact.

    Args:
        source: of `source_of`.
        manifest: the artifact's.
        store: where float files are kept, those that edge.convert made of the same model among them.
        progress: stages go there.
    """

    def __init__(self, source: sources.Source, manifest: Mapping[str, Any], store: Store, progress: Progress) -> None:
        self.source, self._manifest = source, manifest
        self._model = FloatModel(source, store, progress)

    @property
    def preprocessing(self) -> Preprocessing:
        """Of the float model: the variant's published protocol; for a saved model what it was converted with."""
        return self.source.variant.preprocessing if self.source.variant else artifact.preprocessing_of(self._manifest)

    @property
    def key(self) -> str:
        """Equal keys, equal models and files."""
        weights = self.source.weights
        known = {
            "name": self.source.name,
            "weights": f"random:{weights.random_seed}" if weights.is_random else weights.sha256,
            "takes_pixels": self.source.takes_pixels,
            "output": self._manifest["output"]["activation"],
            "tools": tool_versions(),
            "code": code_sha256(),
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
        received, recorded = self._model.weights_sha256, self._manifest["weights"]
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
        """The function [N, H, W, 3] pixels -> [N, classes] logits of the float Keras model."""
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
        from edge.conversion.candidate import FloatGraphs

        if not self._is_kept(recipe):
            _ = self.exportable  # first: it changes settings that are part of what the file is kept by
        graph = FloatGraphs(self._model.float_file, "float32", self._output).of(recipe)
        self._require_same_draw()
        return graph.file

    def _is_kept(self, recipe: Recipe) -> bool:
        return self._model.has_float_file(recipe.rewrites, "float32", self._output)

    @property
    def _output(self) -> str:
        return "probabilities" if self._manifest["output"]["activation"] == "softmax" else "logits"
