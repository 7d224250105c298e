"""A source's float Keras model and what is made of it alone: its float graphs, its answers, its activations on images.

Nothing heavy is loaded before it is asked for; what is asked for again is not made again.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.artifacts.artifact import canonical_json
from edge.drift.meanings import LOGITS, PROBABILITIES, Output, each, words_for
from edge.export import source as sources
from edge.export.backend import require_tensorflow_backend
from edge.export.source import Source
from edge.quantization.recipes import Recipe
from tfvit import hashing
from tfvit.preprocessing import OUTPUT, Preprocessing, attached, size_of
from tfvit.progress import counted, step

if TYPE_CHECKING:
    from edge.quantization.ranges import Calibration


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a built model.

    Attributes:
        input_shape: of one image.
        outputs: what comes out for it; the first one is what the model is for.
        preprocessing: of its images.
        takes_pixels: whether it normalises by itself.
        origin: of its weights, the arguments of `tfvit.weights.WeightsOrigin`.
        assumed: what is assumed of its images and its outputs, since nobody said it and the model does not show it.
    """

    input_shape: tuple[int, int, int]
    outputs: tuple[Output, ...]
    preprocessing: Preprocessing
    takes_pixels: bool
    origin: Mapping[str, Any]
    assumed: tuple[str, ...] = ()

    @property
    def meaning(self) -> str:
        """Of the first output, one of `edge.drift.meanings.MEANINGS`."""
        return self.outputs[0].meaning

    @property
    def classes(self) -> int:
        """Entries of the first output's last axis."""
        return self.outputs[0].width

    def first(self, logits: np.ndarray) -> np.ndarray:
        """Of [N, D] logits those of the first output."""
        return each(logits, self.outputs)[0]

    def to_json(self) -> bytes:
        return canonical_json(dataclasses.asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Facts:
        read = json.loads(content)
        given: dict[str, Any] = read.pop("preprocessing")
        preprocessing: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        return cls(
            **read
            | {
                "input_shape": tuple(read["input_shape"]),
                "outputs": tuple(Output(**one | {"shape": tuple(one["shape"])}) for one in read["outputs"]),
                "assumed": tuple(read["assumed"]),
                "preprocessing": Preprocessing(**preprocessing),
            }
        )


class FloatModel:
    """One source's model; `edge.export.kept_model.KeptFloatModel` is the same with a cache.

    Args:
        source: what to build.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._graph: tuple[Any, bytes] = (None, b"")
        self._answers: dict[str, np.ndarray] = {}
        self._graph_answers: dict[tuple[str, str], np.ndarray] = {}

    @functools.cached_property
    def exportable(self) -> Any:
        """`edge.export.to_tflite.ExportableModel`: the Keras model."""
        with step("load TensorFlow", subject=self.source.name):
            require_tensorflow_backend()
            from edge.export import to_tflite
            from edge.export.outputs import losses_of
        with step("build the model", subject=self.source.name):
            model, self._origin = sources.build(self.source)
            sources.require_unchanged(self.source)
            said, variant = self.source.model_input, self.source.variant
            if variant:
                built = to_tflite.exportable(model, variant.preprocessing, False, PROBABILITIES)
            else:
                losses = losses_of(model, None if self.source.live is not None else self.source.weights.path)
                said = said.over(attached(model))
                model = to_tflite.sized(model, self.source.image_size)
                built = to_tflite.exportable(model, None, said.takes_pixels, self.source.output, losses, said.channels == "BGR")
            self._said = said
            return dataclasses.replace(built, preprocessing=said.applied(built.preprocessing, size_of(*built.input_shape[:2])))

    @functools.cached_property
    def facts(self) -> Facts:
        built = self.exportable
        assumed = () if self.source.variant else self._said.assumed(built.takes_pixels)
        assumed += self.source.checkpoint.assumed if self.source.checkpoint else ()
        return Facts(
            input_shape=built.input_shape,
            outputs=built.outputs,
            preprocessing=built.preprocessing,
            takes_pixels=built.takes_pixels,
            origin=dataclasses.asdict(self._origin),
            assumed=assumed if all(output.told for output in built.outputs) else (*assumed, OUTPUT),
        )

    @property
    def preprocessing(self) -> Preprocessing:
        """Of its images: known of a variant, and of a model of its own once it has been built."""
        variant = self.source.variant
        return self.source.model_input.applied(variant.preprocessing, variant.image_size) if variant else self.facts.preprocessing

    @property
    def origin(self) -> Any:
        """`tfvit.weights.WeightsOrigin`."""
        from tfvit.weights import WeightsOrigin

        return WeightsOrigin(**self.facts.origin)

    def logits(self, pixels: Any) -> Any:
        """[B, H, W, 3] RGB pixels 0..255 -> [B, D], all outputs one after the other, a final softmax or sigmoid left off."""
        return self.exportable.logits(pixels)

    def float_file(self, rewrites: Sequence[str], input_dtype: str, output: str) -> bytes:
        """The float flatbuffer, after rewrites of `edge.export.rewrites`."""
        exportable = self.exportable
        with step("export the float graph", subject=self.source.name):
            from edge.export import to_tflite
            from edge.export.rewrites import reparametrize

            return to_tflite.export_float(reparametrize(exportable, rewrites), input_dtype, output)

    def graph(self, recipe: Recipe, input_dtype: str, output: str) -> bytes:
        """The float flatbuffer a recipe starts from. Recipes that want the same one share it; the last one is remembered."""
        # what else was said is the source's
        output = ",".join(LOGITS if word == LOGITS else PROBABILITIES for word in words_for(1, output))
        wanted = (recipe.rewrites, bool(recipe.integer_bits), recipe.integer_interface, recipe.portable, input_dtype, output)
        if self._graph[0] != wanted:
            from edge.quantization import quantize

            self._graph = (None, b"")
            # integers come in by quantizing a float input, not by a cast
            file = self.float_file(recipe.rewrites, "float32" if recipe.integer_interface else input_dtype, output)
            self._graph = (wanted, quantize.prepared(file, recipe))
        return self._graph[1]

    def reference(self, pixels: np.ndarray, sha256: str) -> np.ndarray:
        """The logits of images, [N, D]: of one image's outputs, a map's too, as one row.

        Args:
            pixels: [N, H, W, 3].
            sha256: of the images.
        """
        if sha256 not in self._answers:
            self._answers[sha256] = self._reference(pixels, sha256)
        return self._answers[sha256]

    def _reference(self, pixels: np.ndarray, sha256: str) -> np.ndarray:
        exportable = self.exportable
        with step("run the float Keras model", total=len(pixels), subject=self.source.name):
            from edge.export.to_tflite import reference_logits

            return np.stack(list(counted(reference_logits(exportable, iter(pixels)))))

    def graph_answers(self, graph: bytes, sha256: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The logits that a float graph of this model gives for images, [N, D]; `make` runs it, once for each graph and images.

        Args:
            graph: of `graph`.
            sha256: of the images.
            make: gives the logits.
        """
        key = (hashing.sha256(graph), sha256)
        if key not in self._graph_answers:
            self._graph_answers[key] = self._made_graph_answers(*key, make)
        return self._graph_answers[key]

    def _made_graph_answers(self, file_sha256: str, images_sha256: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        return make()

    def calibration(self, graph: bytes, recipe: Recipe, pixels: np.ndarray, sha256: str, threads: int) -> Calibration:
        """What a recipe must know of the activations of its float graph.

        Args:
            graph: of `graph`.
            recipe: says which activations.
            pixels: the calibration images, [N, H, W, 3].
            sha256: of the images.
            threads: for running the graph.
        """
        from edge.quantization import quantize

        return self._activations(graph, *quantize.watched_tensors(graph, recipe), pixels, sha256, threads, recipe.calibration_rows)

    def _activations(
        self, graph: bytes, tensors: Mapping[str, int], patches: Mapping[str, int], pixels: np.ndarray, sha256: str, threads: int, rows: int
    ) -> Calibration:
        with step("calibrate", total=len(pixels), subject=self.source.name):
            from edge.quantization import ranges

            return ranges.collect(graph, tensors, (image[None] for image in counted(pixels)), threads, patches, rows)
