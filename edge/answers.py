"""Models' logits on every image of a set, chunk by chunk. Chunks are kept on disk by what they depend on, so that a run that was stopped,
or the next recipe's, computes only what is not there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from calibration.decoding import UnreadableImageError
from calibration.image_set import ImageReference, ImageSet
from edge.artifact import canonical_json
from edge.drift import logits_of_probabilities
from edge.runtime import Interpreter
from tfvit.preprocessing import Preprocessing

# Images; part of what a chunk on disk is found by
CHUNK = 64
STORE_LIMIT_BYTES = 2 * 2**30


@dataclasses.dataclass(frozen=True)
class Model:
    """Something that answers images.

    Attributes:
        name: among the models of one run.
        key: identifies it, its runtime included: equal keys, equal logits.
        preprocessing: of its images.
        load: makes the function [N, H, W, 3] uint8 pixels -> [N, classes] logits; called only where a chunk is missing.
    """

    name: str
    key: str
    preprocessing: Preprocessing
    load: Callable[[], Callable[[np.ndarray], np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Answers:
    """Of one chunk.

    Attributes:
        references: of the images that could be read.
        unreadable: (image, reason) of the others.
        logits: model name -> [N, classes], in the order of `references`.
    """

    references: tuple[ImageReference, ...]
    unreadable: tuple[tuple[ImageReference, str], ...]
    logits: dict[str, np.ndarray]


class Store:
    """Arrays by key, each in a file of its own.

    Args:
        folder: where; None keeps nothing.
        limit_bytes: `prune` removes what was not used for longest above this.
    """

    def __init__(self, folder: Path | None, limit_bytes: int = STORE_LIMIT_BYTES) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes

    def __contains__(self, key: str) -> bool:
        return self._folder is not None and self._path(key).is_file()

    def read(self, key: str) -> np.ndarray | None:
        """What was kept; None where it was not, or is damaged."""
        if self._folder is None:
            return None
        path = self._path(key)
        try:
            values = np.load(path, allow_pickle=False)
            os.utime(path)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        return values

    def write(self, key: str, values: np.ndarray) -> None:
        """Keeps an array, if the disk lets it: a cache that cannot be written costs time later and nothing else."""
        if self._folder is None:
            return
        path, buffer = self._path(key), io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        temporary = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".chunk-")
            with os.fdopen(handle, "wb") as file:
                file.write(buffer.getvalue())
            os.replace(temporary, path)
        except OSError:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)

    def prune(self) -> None:
        """Removes the files that were not used for longest, until the rest is within the limit."""
        if self._folder is None or not self._folder.is_dir():
            return
        found = []
        for path in self._folder.glob("*/*.npy"):
            try:
                status = path.stat()
            except OSError:  # another process removed it
                continue
            found.append((status.st_mtime, status.st_size, path))
        excess = sum(size for _, size, _ in found) - self._limit_bytes
        for _, size, path in sorted(found):
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= size

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.npy"


@dataclasses.dataclass(frozen=True)
class _Chunk:
    references: tuple[ImageReference, ...]
    keys: dict[str, str]


class Run:
    """Several models on the images of a set.

    Args:
        image_set: the images.
        references: which of them, in the order of the answers.
        models: who is asked.
        store: where chunks are kept.
        advance: called for every image looked at.
    """

    def __init__(
        self,
        image_set: ImageSet,
        references: Sequence[ImageReference],
        models: Sequence[Model],
        store: Store,
        advance: Callable[[], None] = lambda: None,
    ) -> None:
        self._image_set, self._models, self._store = image_set, models, store
        self._chunks = []
        for start in range(0, len(references), CHUNK):
            part = tuple(references[start : start + CHUNK])
            identities: dict[Preprocessing, list[str]] = {}
            for preprocessing in {model.preprocessing for model in models}:
                identities[preprocessing] = [image_set.identity(reference, preprocessing) for reference in part]
            self._chunks.append(_Chunk(part, {model.name: _key(model, identities[model.preprocessing]) for model in models}))
            for _ in part:
                advance()

    def missing(self) -> set[str]:
        """Names of the models that have to run."""
        return {name for chunk in self._chunks for name, key in chunk.keys.items() if key not in self._store}

    def answers(self, threads: int, advance: Callable[[], None] = lambda: None) -> Iterator[Answers]:
        """Chunk by chunk; models are loaded when they are first needed, and answer a chunk side by side.

        Args:
            threads: that decode images.
            advance: called for every image that has been answered.
        """
        loaded: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
        with ThreadPoolExecutor(threads) as decoding, ThreadPoolExecutor(len(self._models)) as answering:
            for chunk in self._chunks:
                yield self._of_chunk(chunk, loaded, decoding, answering)
                for _ in chunk.references:
                    advance()

    def _of_chunk(self, chunk: _Chunk, loaded: dict[str, Callable], decoding: ThreadPoolExecutor, answering: ThreadPoolExecutor) -> Answers:
        rows = {model.name: self._store.read(chunk.keys[model.name]) for model in self._models}
        absent = [model for model in self._models if rows[model.name] is None or len(rows[model.name]) != len(chunk.references)]
        decoded = {
            preprocessing: list(decoding.map(self._pixels_or_reason, chunk.references, itertools.repeat(preprocessing)))
            for preprocessing in {model.preprocessing for model in absent}
        }
        for model in absent:
            if model.name not in loaded:
                loaded[model.name] = model.load()
        jobs = {model: answering.submit(_answered, loaded[model.name], decoded[model.preprocessing]) for model in absent}
        for model, job in jobs.items():
            rows[model.name] = job.result()
            self._store.write(chunk.keys[model.name], rows[model.name])
        readable = next(iter(rows.values()))["read"]
        unreadable = []
        for position in np.flatnonzero(~readable):
            found = self._pixels_or_reason(chunk.references[position], self._models[0].preprocessing)
            unreadable.append((chunk.references[position], found if isinstance(found, str) else "unreadable"))
        references = tuple(reference for reference, good in zip(chunk.references, readable, strict=True) if good)
        return Answers(references, tuple(unreadable), {name: values["logits"][readable] for name, values in rows.items()})

    def _pixels_or_reason(self, reference: ImageReference, preprocessing: Preprocessing) -> np.ndarray | str:
        try:
            return self._image_set.pixels(reference, preprocessing)
        except UnreadableImageError as error:
            return str(error)


def _answered(answer: Callable[[np.ndarray], np.ndarray], decoded: Sequence[np.ndarray | str]) -> np.ndarray:
    """A row for every image: whether it was read, and its logits."""
    pixels = [image for image in decoded if not isinstance(image, str)]
    logits = np.asarray(answer(np.stack(pixels)), np.float32) if pixels else np.zeros((0, 1), np.float32)
    rows = np.zeros(len(decoded), [("read", np.bool_), ("logits", np.float32, (logits.shape[1],))])
    rows["read"] = [not isinstance(image, str) for image in decoded]
    rows["logits"][rows["read"]] = logits
    return rows


def _key(model: Model, identities: Sequence[str]) -> str:
    return hashlib.sha256(canonical_json([model.key, model.preprocessing.geometry(), list(identities)]).encode()).hexdigest()


class FileModel:
    """A `.tflite` on the CPU: as many interpreters as threads, each with one, so that images run side by side and a thread's share of the
    work never changes the result.

    Args:
        file: the flatbuffer.
        gives_probabilities: whether its output is a softmax.
        threads: at least 1.
    """

    def __init__(self, file: bytes, gives_probabilities: bool, threads: int) -> None:
        self._interpreters = [Interpreter(file, threads=1) for _ in range(threads)]
        self._gives_probabilities = gives_probabilities
        self._pool = ThreadPoolExecutor(threads)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """[N, H, W, 3] pixels -> [N, classes] logits."""
        shares = zip(self._interpreters, np.array_split(pixels, len(self._interpreters)), strict=True)
        jobs = [self._pool.submit(_run_each, interpreter, share) for interpreter, share in shares if len(share)]
        outputs = np.concatenate([job.result() for job in jobs])
        return logits_of_probabilities(outputs) if self._gives_probabilities else outputs


def _run_each(interpreter: Interpreter, pixels: np.ndarray) -> np.ndarray:
    return np.stack([interpreter.run(image[None])[0] for image in pixels])
