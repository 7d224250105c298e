"""Models' logits on every image of a set, chunk by chunk. Chunks are kept on disk by what they depend on, so that a run that was stopped,
or the next recipe's, computes only what is not there.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import io
import itertools
import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from fractions import Fraction

import numpy as np

from calibration.decoding import UnreadableImageError
from calibration.image_set import ImageReference, ImageSet
from edge.artifacts.artifact import canonical_json
from edge.artifacts.store import Store
from edge.drift.metrics import logits_of_file, rows
from edge.runtime.cpu import Interpreter
from edge.tflite import flatbuffer
from tfvit.preprocessing import Preprocessing
from tfvit.progress import advance

# Images; part of what a chunk on disk is found by
CHUNK = 64
# Chunks of which models that are loaded already answer while others are being loaded: their logits are in memory
_AHEAD = 128


@dataclasses.dataclass(frozen=True)
class Model:
    """Something that answers images.

    Attributes:
        name: among the models of one run.
        key: identifies it, its runtime included: equal keys, equal logits.
        preprocessing: of its images.
        load: makes the function [N, H, W, 3] uint8 pixels -> [N, classes] logits for so many threads to call at once; called only where a
            chunk is missing.
        batch: how many images at once, at most.
        share: of the chunks that it answers, evenly spread from the first one on.
    """

    name: str
    key: str
    preprocessing: Preprocessing
    load: Callable[[int], Callable[[np.ndarray], np.ndarray]]
    batch: int = CHUNK
    share: Fraction = Fraction(1)

    def answers_chunk(self, number: int) -> bool:
        """Whether it does the one of this number, from 0."""
        return math.ceil(number * self.share) < math.ceil((number + 1) * self.share)


@dataclasses.dataclass(frozen=True)
class Answers:
    """Of one chunk.

    Attributes:
        references: of the images that could be read.
        unreadable: (image, reason) of the others.
        logits: model name -> [N, classes], in the order of `references`, of the models that answer this chunk.
    """

    references: tuple[ImageReference, ...]
    unreadable: tuple[tuple[ImageReference, str], ...]
    logits: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Chunk:
    references: tuple[ImageReference, ...]
    keys: dict[str, str]


class Run:
    """Several models on the images of a set.

    Args:
        image_set: the images.
        references: which of them, in the order of the answers.
        models: who is asked; the first one answers every chunk.
        store: where chunks are kept.
    """

    def __init__(
        self,
        image_set: ImageSet,
        references: Sequence[ImageReference],
        models: Sequence[Model],
        store: Store,
    ) -> None:
        self._image_set, self._models, self._store = image_set, models, store
        self._chunks = []
        for number, start in enumerate(range(0, len(references), CHUNK)):
            part = tuple(references[start : start + CHUNK])
            identities: dict[Preprocessing, list[str]] = {}
            for preprocessing in {model.preprocessing for model in models}:
                identities[preprocessing] = [image_set.identity(reference, preprocessing) for reference in part]
            keys = {model.name: _key(model, identities[model.preprocessing]) for model in models if model.answers_chunk(number)}
            self._chunks.append(_Chunk(part, keys))
            for _ in part:
                advance()

    def missing(self) -> set[str]:
        """Names of the models that have to run."""
        return {name for chunk in self._chunks for name, key in chunk.keys.items() if key not in self._store}

    def answers(self, workers: int) -> Iterator[Answers]:
        """Chunk by chunk, in order, as many side by side as there are workers; models are loaded where a chunk is missing.

        Models are loaded one after the other, in their order, while those before them answer: name first what loads fast. How many work
        changes no answer: a model's answers to a chunk are one thread's.

        Args:
            workers: at least 1.
        """
        loaded = _Loaded(workers)
        missing = self.missing()
        waiting: collections.deque[tuple[_Chunk, Future[dict[str, np.ndarray]]]] = collections.deque()
        to_load = [model for model in self._models if model.name in missing]
        stopped = threading.Event()
        with ThreadPoolExecutor(workers) as pool:
            try:
                for model in to_load[:1]:
                    loaded.answer(model)
                early = [pool.submit(self._early_rows, chunk, missing, loaded, stopped) for chunk in self._chunks[:_AHEAD]]
                for model in to_load[1:]:
                    loaded.answer(model)
                for chunk, begun in itertools.zip_longest(self._chunks, early):
                    rows = None if begun is None or begun.cancel() else begun  # that which has not begun is done at once by all
                    waiting.append((chunk, pool.submit(self._all_rows, chunk, rows, loaded, stopped)))
                    if len(waiting) > 2 * workers:
                        yield from self._finished(*waiting.popleft())
                while waiting:
                    yield from self._finished(*waiting.popleft())
            finally:
                stopped.set()
                pool.shutdown(cancel_futures=True)

    def _finished(self, chunk: _Chunk, job: Future[dict[str, np.ndarray]]) -> Iterator[Answers]:
        yield self._answers(chunk, job.result())
        for _ in chunk.references:
            advance()

    def _early_rows(self, chunk: _Chunk, missing: set[str], loaded: _Loaded, stopped: threading.Event) -> dict[str, np.ndarray]:
        """Of the models that need no waiting for."""
        ready = [model for model in self._models if model.name not in missing or loaded.has(model)]
        return self._rows(chunk, ready, loaded, stopped)

    def _all_rows(
        self, chunk: _Chunk, early: Future[dict[str, np.ndarray]] | None, loaded: _Loaded, stopped: threading.Event
    ) -> dict[str, np.ndarray]:
        """Of every model. `early` is running or done: a pool begins its jobs in their order."""
        rows = {} if early is None else early.result()
        return rows | self._rows(chunk, [model for model in self._models if model.name not in rows], loaded, stopped)

    def _rows(self, chunk: _Chunk, models: Sequence[Model], loaded: _Loaded, stopped: threading.Event) -> dict[str, np.ndarray]:
        """By the models' names, from the store or the models; what they say is stored."""
        rows: dict[str, np.ndarray] = {}
        decoded: dict[Preprocessing, list[np.ndarray | str]] = {}
        for model in (model for model in models if model.name in chunk.keys):
            kept = _array(self._store.read(chunk.keys[model.name]))
            if kept is None or kept.shape != (len(chunk.references),) or kept.dtype.names != ("read", "logits"):
                if model.preprocessing not in decoded:
                    decoded[model.preprocessing] = [self._pixels_or_reason(one, model.preprocessing) for one in chunk.references]
                kept = _answered(loaded.answer(model), model.batch, decoded[model.preprocessing], stopped)
                self._store.write(chunk.keys[model.name], _bytes(kept), "answers", model.name)
            rows[model.name] = kept
        return rows

    def _answers(self, chunk: _Chunk, rows: dict[str, np.ndarray]) -> Answers:
        readable = rows[self._models[0].name]["read"]
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


class _Loaded:
    """Models, each loaded once; a damaged chunk may ask for one after the start."""

    def __init__(self, workers: int) -> None:
        self._workers, self._lock = workers, threading.Lock()
        self._answers: dict[str, Callable[[np.ndarray], np.ndarray]] = {}

    def has(self, model: Model) -> bool:
        return model.name in self._answers

    def answer(self, model: Model) -> Callable[[np.ndarray], np.ndarray]:
        """Waits for the model's loading, where it is not loaded."""
        if model.name not in self._answers:
            with self._lock:
                if model.name not in self._answers:
                    self._answers[model.name] = model.load(self._workers)
        return self._answers[model.name]


def _answered(
    answer: Callable[[np.ndarray], np.ndarray], batch: int, decoded: Sequence[np.ndarray | str], stopped: threading.Event
) -> np.ndarray:
    """A row for every image: whether it was read, and its logits."""
    pixels, parts = [image for image in decoded if not isinstance(image, str)], []
    for start in range(0, len(pixels), batch):
        if stopped.is_set():
            raise CancelledError
        parts.append(np.asarray(answer(np.stack(pixels[start : start + batch])), np.float32))
    logits = np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
    rows = np.zeros(len(decoded), [("read", np.bool_), ("logits", np.float32, (logits.shape[1],))])
    rows["read"] = [not isinstance(image, str) for image in decoded]
    rows["logits"][rows["read"]] = logits
    return rows


def _bytes(rows: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, rows, allow_pickle=False)
    return file.getvalue()


def _array(content: bytes | None) -> np.ndarray | None:
    return None if content is None else np.load(io.BytesIO(content), allow_pickle=False)


def _key(model: Model, identities: Sequence[str]) -> str:
    return hashlib.sha256(canonical_json([model.key, model.preprocessing.geometry(), list(identities)]).encode()).hexdigest()


class FileModel:
    """A `.tflite` on the CPU: an interpreter for each thread that asks, each with one thread.

    Args:
        file: the flatbuffer.
        activations: that give its outputs: "softmax", "sigmoid" or None.
        interpreters: how many threads may ask at once; others wait.
    """

    def __init__(self, file: bytes, activations: Sequence[str | None], interpreters: int) -> None:
        self._file, self._activations = file, activations
        self._free: queue.SimpleQueue[Interpreter] = queue.SimpleQueue()
        for _ in range(interpreters):
            self._free.put(Interpreter(file, threads=1))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """[N, H, W, 3] pixels -> [N, D] logits, of all outputs one after the other."""
        interpreter = self._free.get()
        try:
            given = [list(interpreter.run_each(image[None])) for image in pixels]
        finally:
            self._free.put(interpreter)
        outputs = [rows(one) for one in zip(*given, strict=True)]
        return logits_of_file(outputs, self._activations, lambda index: self._exact(index, pixels))

    def _exact(self, index: int, pixels: np.ndarray) -> np.ndarray | None:
        file = self._before_activation[index]
        if file is None:
            return None
        inner = Interpreter(file, threads=1)
        return rows([next(inner.run_each(image[None])) for image in pixels])

    @functools.cached_property
    def _before_activation(self) -> list[bytes | None]:
        return [flatbuffer.before_activation(self._file, index) for index in range(len(self._activations))]
