"""A source's float Keras model and what is made of it alone, each made once: its float files, its answers, its activations on images.

Whatever is in the cache is taken from there, and the model itself is built only where something is missing. What an entry depends on is in
its key (docs/decisions/0019).
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.artifacts import artifact
from edge.artifacts.provenance import computed_by
from edge.artifacts.store import Store
from edge.export import source as sources
from edge.export.source import Source
from tfvit import hashing
from tfvit.errors import EnvironmentUnusableError
from tfvit.preprocessing import Preprocessing
from tfvit.progress import Progress, stepping

if TYPE_CHECKING:
    from edge.quantization.ranges import Calibration


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a built model.

    Attributes:
        classes, input_shape: of its output and input.
        preprocessing: of its images.
        takes_pixels: whether it normalises by itself.
        origin: of its weights, the arguments of `tfvit.weights.WeightsOrigin`.
    """

    classes: int
    input_shape: tuple[int, int, int]
    preprocessing: Preprocessing
    takes_pixels: bool
    origin: Mapping[str, Any]

    def to_json(self) -> bytes:
        return artifact.canonical_json(dataclasses.asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Facts:
        read = json.loads(content)
        given: dict[str, Any] = read.pop("preprocessing")
        preprocessing: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        return cls(**read | {"input_shape": tuple(read["input_shape"]), "preprocessing": Preprocessing(**preprocessing)})


class FloatModel:
    """One source's model.

    Args:
        source: what to build.
        store: where things are kept.
        progress: stages go there.
    """

    def __init__(self, source: Source, store: Store, progress: Progress) -> None:
        self.source, self._store, self._progress = source, store, progress
        weights = source.weights
        self._identity = {
            "name": source.name,
            "variant": dataclasses.asdict(source.variant) if source.variant else None,
            "weights": f"random:{weights.random_seed}" if weights.is_random else weights.sha256,
            "weights_origin": [weights.path.name if weights.path else None, weights.published, weights.license, weights.origin],
            "takes_pixels": source.takes_pixels,
        }

    @functools.cached_property
    def facts(self) -> Facts:
        kept = self._store.read(self._key("facts", self._identity))
        return Facts.from_json(kept) if kept is not None else self._built[1]

    @property
    def exportable(self) -> Any:
        """`edge.export.to_tflite.ExportableModel`."""
        return self._built[0]

    @property
    def preprocessing(self) -> Preprocessing:
        """Of its images: known of a variant, and of a saved model once it has been built."""
        return self.source.variant.preprocessing if self.source.variant else self.facts.preprocessing

    @property
    def origin(self) -> Any:
        """`tfvit.weights.WeightsOrigin`."""
        from tfvit.weights import WeightsOrigin

        return WeightsOrigin(**self.facts.origin)

    @property
    def weights_sha256(self) -> str:
        """Of the weights the model was built with; needs no TensorFlow where it is known."""
        return self.facts.origin["sha256"]

    @functools.cached_property
    def _built(self) -> tuple[Any, Facts]:
        with self._progress.stage("load TensorFlow", subject=self.source.name):
            require_tensorflow_backend()
            from edge.export import to_tflite
        with self._progress.stage("build the model", subject=self.source.name):
            model, origin = sources.build(self.source)
            sources.require_unchanged(self.source)
            preprocessing = self.source.variant.preprocessing if self.source.variant else None
            exportable = to_tflite.exportable(model, preprocessing, takes_pixels=False if self.source.variant else self.source.takes_pixels)
        facts = Facts(
            exportable.classes, exportable.input_shape, exportable.preprocessing, exportable.takes_pixels, dataclasses.asdict(origin)
        )
        self._store.write(self._key("facts", self._identity), facts.to_json(), "facts", self.source.name)
        return exportable, facts

    def float_file(self, rewrites: Sequence[str], input_dtype: str, output: str) -> bytes:
        """The float flatbuffer, after rewrites of `edge.export.rewrites`."""

        def make() -> bytes:
            exportable = self.exportable
            with self._progress.stage("export the float graph", subject=self.source.name):
                from edge.export import to_tflite
                from edge.export.rewrites import reparametrize

                return to_tflite.export_float(reparametrize(exportable, rewrites), input_dtype, output)

        return self._made("float file", self._of_float_file(rewrites, input_dtype, output), make)

    def has_float_file(self, rewrites: Sequence[str], input_dtype: str, output: str) -> bool:
        """Whether `float_file` finds it in the store."""
        return self._key("float file", self._of_float_file(rewrites, input_dtype, output)) in self._store

    def _of_float_file(self, rewrites: Sequence[str], input_dtype: str, output: str) -> dict[str, Any]:
        return {**self._identity, "rewrites": list(rewrites), "input": input_dtype, "output": output}

    def logits(self, pixels: Any) -> Any:
        """[B, H, W, 3] RGB pixels 0..255 -> [B, classes] logits."""
        return self.exportable.logits(pixels)

    def reference_logits(self, images: Iterator[np.ndarray], number: int, digest: str) -> np.ndarray:
        """The logits of all images, [N, classes].

        Args:
            images: [H, W, 3] each.
            number: how many they are.
            digest: of the images.
        """

        def make() -> bytes:
            exportable = self.exportable
            with self._progress.stage("run the float Keras model", total=number, subject=self.source.name) as advance:
                from edge.export.to_tflite import reference_logits

                return _to_bytes({"logits": np.stack(list(stepping(reference_logits(exportable, images), advance)))})

        inputs = {**self._identity, "images": digest, "preprocessing": dataclasses.asdict(self.preprocessing)}
        return _from_bytes(self._made("reference", inputs, make))["logits"]

    def calibrated(
        self, file: bytes, tensors: Mapping[str, int], patches: Mapping[str, int], images: Iterator[np.ndarray], number: int,
        digest: str, threads: int,
    ) -> Calibration:  # fmt: skip
        """What `edge.quantization.ranges.collect` sees in a float file on images.

        Args:
            file: the float flatbuffer.
            tensors, patches, threads: as `collect` takes them.
            images: the calibration images, [H, W, 3] each.
            number: how many they are.
            digest: of the images.
        """

        def make() -> bytes:
            with self._progress.stage("calibrate", total=number, subject=self.source.name) as advance:
                from edge.quantization import ranges

                seen = ranges.collect(file, tensors, stepping((image[None] for image in images), advance), threads, patches)
            names = {"names": np.asarray(list(seen.ranges)), "ranges": np.asarray(list(seen.ranges.values()), np.float64)}
            return _to_bytes(names | {f"rows {name}": rows for name, rows in seen.rows.items()})

        inputs = {
            "file": hashing.sha256(file),
            "images": digest,
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "tensors": dict(tensors),
            "patches": dict(patches),
        }
        from edge.quantization.ranges import Calibration

        found = _from_bytes(self._made("ranges", inputs, make))
        extremes = {str(name): (float(low), float(high)) for name, (low, high) in zip(found["names"], found["ranges"], strict=True)}
        return Calibration(extremes, {name[len("rows ") :]: rows for name, rows in found.items() if name.startswith("rows ")})

    def _made(self, kind: str, inputs: Mapping[str, Any], make: Callable[[], bytes]) -> bytes:
        content = self._store.made(self._key(kind, inputs), make, kind, self.source.name)
        self._store.prune()
        return content

    @staticmethod
    def _key(kind: str, inputs: Mapping[str, Any]) -> str:
        return hashing.sha256(artifact.canonical_json({"kind": kind, "inputs": inputs, "computed": computed_by()}).encode())


def require_tensorflow_backend() -> None:
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise EnvironmentUnusableError(
            "conversion needs Keras on TensorFlow",
            expected="KERAS_BACKEND=tensorflow",
            received=f"KERAS_BACKEND={backend}",
            action="set KERAS_BACKEND=tensorflow for this command; models trained on another backend load there",
        )


def _to_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    named: dict[str, Any] = dict(arrays)
    np.savez(file, **named)
    return file.getvalue()


def _from_bytes(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
