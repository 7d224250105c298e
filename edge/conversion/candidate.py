"""One recipe on its float graph: the file, its answers on held-out images, what misses a limit, and its repair."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from edge.drift.agreement import Agreement, agreement
from edge.drift.collapse import signs_of_collapse
from edge.drift.limits import Limits
from edge.drift.meanings import Output, each, in_file
from edge.drift.metrics import Drift, logits_of_file, measure, rows
from edge.quantization import quantize, repair
from edge.quantization.ranges import Calibration
from edge.quantization.recipes import Recipe
from edge.runtime.cpu import Interpreter, interleaved_milliseconds
from edge.tflite import flatbuffer
from tfvit.progress import advance, as_step, counted, current

# Of the latency before and after a repair
REPAIR_ROUNDS = 20


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a file's answers are worth.

    Attributes:
        drift: of its logits from the reference.
        collapse: signs that it is broken rather than inexact.
        limits: the drift gate.
        failures: what misses its limit, collapse first; empty where the gate passes.
        agreement: changed answers on further images, where they were counted.
        others: of a file with several outputs, those behind the first, whose failures are the file's too.
    """

    drift: Drift
    collapse: tuple[str, ...]
    limits: Limits
    failures: tuple[str, ...]
    agreement: Agreement | None = None
    others: tuple[Verdict, ...] = ()


@dataclasses.dataclass(frozen=True)
class Repair:
    """What was changed so that a file passes.

    Attributes:
        block: the manifest's `repair`.
        milliseconds: median of the file before and after, in one interleaved run.
    """

    block: dict[str, Any]
    milliseconds: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One recipe on its float graph.

    Attributes:
        recipe, graph, calibration: which, the float flatbuffer it starts from, and what is known of its activations.
        images: held out, to judge by: [N, H, W, 3] uint8.
        classes: their class indices, or None.
        reference: the float Keras model's logits on them, [N, D].
        limits: the drift gate.
        asked: of the outputs: keys of `edge.drift.meanings.OUTPUTS`, with commas between them.
        outputs: the model's.
        is_random: whether the weights are.
        threads: for running files.
        further: images on which changed answers are counted, and what answers them in the Keras model's place.
    """

    recipe: Recipe
    graph: bytes
    calibration: Calibration
    images: np.ndarray
    classes: np.ndarray | None
    reference: np.ndarray
    limits: Limits
    asked: str
    outputs: tuple[Output, ...]
    is_random: bool
    threads: int
    further: Further | None = None

    def file(self, modes: Mapping[str, str] | None = None) -> bytes:
        """The file, with the modes of its dense layers changed where `modes` says so."""
        return quantize.quantize(self.graph, self.recipe, self.calibration, modes or self.modes, self.threads)

    def logits(self, file: bytes) -> np.ndarray:
        """[N, D], of the held-out images."""
        return self._logits(file, self.images)

    def _logits(self, file: bytes, images: np.ndarray, watch: Callable[..., Iterable[np.ndarray]] = iter) -> np.ndarray:
        return file_logits(file, images, self.recipe, self.outputs, self.asked, self.threads, watch)

    def checked(self, file: bytes, watch: Callable[..., Iterable[np.ndarray]] = iter) -> Verdict:
        """What a file's answers on all images are worth; the further ones are asked only where the held-out ones show nothing wrong."""
        verdict = self.verdict(self._logits(file, self.images, watch))
        if self.further is None or verdict.failures:
            return verdict
        answers = each(self._logits(file, self.further.images, watch), self.outputs)[0]
        found = agreement(self.further.reference, answers, self.further.compared_with)
        return dataclasses.replace(verdict, agreement=found, failures=tuple(found.failures(self.further.min_agreement)))

    def verdict(self, logits: np.ndarray) -> Verdict:
        """Of a file's logits."""
        first, *others = (
            self._of_output(output, *pair)
            for output, *pair in zip(self.outputs, each(self.reference, self.outputs), each(logits, self.outputs), strict=True)
        )
        failures = [f"{output.name}: {one}" for output, verdict in zip(self.outputs[1:], others, strict=True) for one in verdict.failures]
        return dataclasses.replace(first, failures=(*first.failures, *failures), others=tuple(others))

    def _of_output(self, output: Output, reference: np.ndarray, logits: np.ndarray) -> Verdict:
        classes = self.classes if output is self.outputs[0] else None
        drift = measure(reference, logits, classes, output.meaning, output.width)
        collapse = signs_of_collapse(reference, logits, output.meaning)
        return Verdict(drift, tuple(collapse), self.limits, (*collapse, *drift.failures(self.limits, random_weights=self.is_random)))

    @functools.cached_property
    def modes(self) -> dict[str, str]:
        """The mode of every dense layer before any repair, by its output's name."""
        return quantize.layer_modes(flatbuffer.read_model(self.graph), self.recipe, self.calibration)


@dataclasses.dataclass(frozen=True)
class Further:
    """Images on which changed answers are counted.

    Attributes:
        images: [N, H, W, 3] uint8.
        reference: logits of the recipe's float graph, of the first output: [N, classes].
        compared_with: what that is and how near the Keras model, in words.
        min_agreement: the limit.
    """

    images: np.ndarray
    reference: np.ndarray
    compared_with: str
    min_agreement: float


def file_logits(
    file: bytes,
    images: np.ndarray,
    recipe: Recipe,
    outputs: Sequence[Output],
    asked: str,
    threads: int,
    watch: Callable[[Iterable[np.ndarray]], Iterable[np.ndarray]] = iter,
) -> np.ndarray:
    """[N, D]: what a file gives for images, its outputs one after the other, a final softmax or sigmoid taken off.

    Args:
        file: a `.tflite` of `recipe`.
        images: [N, H, W, 3] uint8.
        recipe, outputs, asked, threads: as of a `Candidate`.
        watch: what the images go through, to be counted.
    """

    interpreter = Interpreter(file, threads=threads)
    given = [list(interpreter.run_each(image[None])) for image in watch(images)]

    def before_activation(index: int) -> np.ndarray | None:
        inner = flatbuffer.before_activation(file, index)
        if inner is None:
            return None
        interpreter = Interpreter(inner, threads=threads)
        return rows([next(interpreter.run_each(image[None])) for image in images])

    activations = [final for _, final in in_file(outputs, recipe.output(asked))]
    return logits_of_file([rows(one) for one in zip(*given, strict=True)], activations, before_activation)


def _layers_to_round(candidate: Candidate) -> int:
    return quantize.layers_to_round(candidate.recipe, candidate.modes)


@as_step("quantize", total=_layers_to_round)
def quantized(candidate: Candidate) -> bytes:
    """The recipe's file."""
    return quantize.quantize(candidate.graph, candidate.recipe, candidate.calibration, candidate.modes, candidate.threads, advance)


def _images_asked(candidate: Candidate, file: bytes) -> int:
    return len(candidate.images) + (len(candidate.further.images) if candidate.further else 0)


@as_step("check the file", total=_images_asked)
def checked(candidate: Candidate, file: bytes) -> Verdict:
    """What the file's answers are worth."""
    return candidate.checked(file, counted)


def _sensitivity_runs(candidate: Candidate) -> int:
    """How many files `sensitivities` makes."""
    return sum(repair.steps_to_float(mode, candidate.recipe.ladder) for mode in candidate.modes.values())


@as_step("measure each layer", total=_sensitivity_runs)
def sensitivities(candidate: Candidate) -> tuple[repair.Sensitivity, ...]:
    """What each dense layer alone does to the logits."""
    return tuple(
        counted(repair.sensitivities(candidate.graph, candidate.recipe, candidate.calibration, candidate.logits, candidate.outputs))
    )


@as_step("allocate bits")
def of_size(candidate: Candidate, found: Sequence[repair.Sensitivity], most_bytes: int) -> tuple[bytes, Verdict]:
    """The most exact file of at most so many bytes, and what it is worth; where not even the smallest is as small, the smallest.

    Args:
        found: of `sensitivities`.
        most_bytes: of the file as it is here, not described yet.
    """
    modes = candidate.modes
    steps = repair.demotions(found, candidate.recipe.ladder, candidate.recipe.spares)
    smallest = candidate.file(modes)
    left = most_bytes - len(smallest)
    while left > 0:
        file = candidate.file(repair.affordable(modes, steps, left))
        if len(file) <= most_bytes:
            break
        left -= len(file) - most_bytes  # equal vectors are stored once: prices do not quite add up
    else:
        file = smallest
    return file, candidate.checked(file)


def repaired(
    candidate: Candidate, file: bytes, verdict: Verdict, found: Sequence[repair.Sensitivity]
) -> tuple[bytes, Verdict, Repair | None]:
    """A file that passes, with what was changed; the same file where not even all layers in float do.

    Args:
        file, verdict: of the recipe's own modes.
        found: of `sensitivities`.
    """
    better = _demoted(candidate, file, verdict.failures, found)
    if better is None:
        return file, verdict, None
    after, block = better
    before_ms, after_ms = np.median(interleaved_milliseconds((file, after), 1, REPAIR_ROUNDS, 3), axis=1).tolist()
    return after, candidate.checked(after), Repair(block, (before_ms, after_ms))


@as_step("repair")
def _demoted(
    candidate: Candidate, before: bytes, why: Sequence[str], found: Sequence[repair.Sensitivity]
) -> tuple[bytes, dict[str, Any]] | None:
    """A file with the fewest layers demoted that passes, and the manifest's `repair` block; None where there is none."""
    original = candidate.modes
    steps = repair.demotions(found, candidate.recipe.ladder, candidate.recipe.spares)

    def passes(modes: Mapping[str, str]) -> bool:
        verdict = candidate.checked(candidate.file(modes))
        changed = sum(mode != original[name] for name, mode in modes.items())
        reached = f"{verdict.drift.logits_snr_db:.1f} dB, {'misses' if verdict.failures else 'passes'} the gate"
        current().note(f"repair: {changed} layers demoted: {reached}")
        return not verdict.failures

    result = repair.repaired(original, steps, passes)
    if result is None:
        return None
    modes, _ = result
    file = candidate.file(modes)
    measured = {(sensitivity.name, sensitivity.mode): sensitivity for sensitivity in found}
    total = sum({sensitivity.name: sensitivity.multiplications for sensitivity in found}.values())
    demoted = [
        {
            "layer": sensitivity.layer,
            "before": original[name],
            "after": mode,
            "alone_snr_db": round(sensitivity.snr_db, 2) if np.isfinite(sensitivity.snr_db) else None,
            "multiplications_share": round(sensitivity.multiplications / total, 6),
        }
        for name, mode in modes.items()
        if mode != original[name] and (sensitivity := measured[name, original[name]])
    ]
    return file, {"why": list(why), "demoted": demoted, "cost_bytes": len(file) - len(before)}
