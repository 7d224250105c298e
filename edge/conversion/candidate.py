"""One recipe on its float graph: the file, its answers on held-out images, what misses a limit, and its repair."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edge.drift.collapse import signs_of_collapse
from edge.drift.limits import Limits
from edge.drift.metrics import Drift, logits_of_probabilities, measure
from edge.quantization import quantize, repair
from edge.quantization.float_graph import FloatGraph
from edge.quantization.recipes import Recipe
from edge.runtime.cpu import Interpreter
from edge.tflite import flatbuffer
from tfvit.progress import stepping


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One recipe on its float graph.

    Attributes:
        recipe, graph: which.
        images: held out, to judge by.
        labels: their class indices, or None.
        reference: the float Keras model's logits on them, [N, classes].
        limits: the drift gate.
        output: "probabilities" or "logits", what was asked for.
        is_random: whether the weights are.
        threads: for running files.
    """

    recipe: Recipe
    graph: FloatGraph
    images: Sequence[np.ndarray]
    labels: np.ndarray | None
    reference: np.ndarray
    limits: Limits
    output: str
    is_random: bool
    threads: int

    def file(self, modes: Mapping[str, str] | None = None) -> bytes:
        return quantize.quantize(self.graph.file, self.recipe, self.graph.calibration, modes)

    def logits(self, file: bytes, advance: Callable[[], None] = lambda: None) -> np.ndarray:
        """[N, classes], of the held-out images."""
        interpreter = Interpreter(file, threads=self.threads)
        outputs = np.stack([interpreter.run(image[None])[0] for image in stepping(self.images, advance)])
        return logits_of_probabilities(outputs) if self.recipe.output(self.output) == "probabilities" else outputs

    def drift(self, target: np.ndarray) -> Drift:
        """Of a file's logits from the reference."""
        return measure(self.reference, target, self.labels)

    def collapse(self, target: np.ndarray) -> list[str]:
        """Signs that a file is broken rather than inexact."""
        return signs_of_collapse(self.reference, target)

    def failures(self, target: np.ndarray) -> list[str]:
        """What misses its limit, collapse first."""
        return [*self.collapse(target), *self.drift(target).failures(self.limits, random_weights=self.is_random)]

    def _modes(self) -> dict[str, str]:
        return quantize.layer_modes(flatbuffer.read_model(self.graph.file), self.recipe, self.graph.calibration)

    def sensitivity_runs(self) -> int:
        """How many files `sensitivities` makes."""
        return sum(repair.steps_to_float(mode, self.recipe.ladder) for mode in self._modes().values())

    def sensitivities(self, advance: Callable[[], None]) -> list[repair.Sensitivity]:
        return repair.sensitivities(self.graph.file, self.recipe, self.graph.calibration, self.logits, advance)

    def repaired(self, before: bytes, why: Sequence[str], found: Sequence[repair.Sensitivity]) -> tuple[bytes, dict[str, Any]] | None:
        """A file that passes, and the manifest's `repair` block; None where even all layers in float do not.

        Args:
            before: the file of the recipe's own modes.
            why: its failures.
            found: of `sensitivities`.
        """
        original = self._modes()
        steps = repair.demotions(found, self.recipe.ladder)
        result = repair.repaired(original, steps, lambda modes: not self.failures(self.logits(self.file(modes))))
        if result is None:
            return None
        modes, _ = result
        file = self.file(modes)
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
