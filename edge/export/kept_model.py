"""A float model with a cache around it: what is kept is taken from there, and the model is built only where something is missing.

What an entry depends on is in its key (docs/decisions/0019).
"""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.artifacts.artifact import canonical_json
from edge.artifacts.provenance import computed_by
from edge.artifacts.store import Store
from edge.export.float_model import Facts, FloatModel
from edge.export.source import Source
from tfvit.hashing import sha256 as sha256_of

if TYPE_CHECKING:
    from edge.quantization.ranges import Calibration


class KeptFloatModel(FloatModel):
    """One source's model, with everything made of it kept.

    Args:
        source: what to build.
        store: where things are kept.
    """

    def __init__(self, source: Source, store: Store) -> None:
        super().__init__(source)
        self._store = store

    @functools.cached_property
    def facts(self) -> Facts:
        return Facts.from_json(self._kept("facts", self.source.identity, lambda: super(KeptFloatModel, self).facts.to_json()))

    def float_file(self, rewrites: Sequence[str], input_dtype: str, output: str) -> bytes:
        make = super().float_file
        return self._kept("float file", self._of_file(rewrites, input_dtype, output), lambda: make(rewrites, input_dtype, output))

    def has_float_file(self, rewrites: Sequence[str], input_dtype: str, output: str) -> bool:
        """Whether `float_file` finds it in the store."""
        return _key("float file", self._of_file(rewrites, input_dtype, output)) in self._store

    def _of_file(self, rewrites: Sequence[str], input_dtype: str, output: str) -> dict[str, Any]:
        return {**self.source.identity, "rewrites": list(rewrites), "input": input_dtype, "output": output}

    def _reference(self, pixels: np.ndarray, sha256: str) -> np.ndarray:
        make, inputs = super()._reference, {**self.source.identity, **self._of_images(sha256)}
        return _from_bytes(self._kept("reference", inputs, lambda: _to_bytes({"logits": make(pixels, sha256)})))["logits"]

    def _made_graph_answers(self, file_sha256: str, images_sha256: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        inputs = {"file": file_sha256, **self._of_images(images_sha256)}
        return _from_bytes(self._kept("graph answers", inputs, lambda: _to_bytes({"logits": make()})))["logits"]

    def _activations(
        self, graph: bytes, tensors: Mapping[str, int], patches: Mapping[str, int], pixels: np.ndarray, sha256: str, threads: int, rows: int
    ) -> Calibration:
        from edge.quantization.ranges import Calibration

        make = super()._activations

        def made() -> bytes:
            seen = make(graph, tensors, patches, pixels, sha256, threads, rows)
            names = {"names": np.asarray(list(seen.ranges)), "ranges": np.asarray(list(seen.ranges.values()), np.float64)}
            vectors = {f"rows {name}": values for name, values in seen.rows.items()}
            return _to_bytes(names | vectors | {f"channels {name}": values for name, values in seen.channels.items()})

        inputs = {"file": sha256_of(graph), **self._of_images(sha256), "tensors": dict(tensors), "patches": dict(patches), "rows": rows}
        found = _from_bytes(self._kept("ranges", inputs, made))
        extremes = {str(name): (float(low), float(high)) for name, (low, high) in zip(found["names"], found["ranges"], strict=True)}
        return Calibration(extremes, _named("rows ", found), _named("channels ", found))

    def _of_images(self, sha256: str) -> dict[str, Any]:
        return {"images": sha256, "preprocessing": dataclasses.asdict(self.preprocessing)}

    def _kept(self, kind: str, inputs: Mapping[str, Any], make: Callable[[], bytes]) -> bytes:
        content = self._store.made(_key(kind, inputs), make, kind, self.source.name)
        self._store.prune()
        return content


def _key(kind: str, inputs: Mapping[str, Any]) -> str:
    return sha256_of(canonical_json({"kind": kind, "inputs": inputs, "computed": computed_by()}).encode())


def _to_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    named: dict[str, Any] = dict(arrays)
    np.savez(file, **named)
    return file.getvalue()


def _named(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}


def _from_bytes(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
