"""The float graph a recipe starts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from edge.quantization import quantize
from edge.quantization.ranges import Calibration
from edge.quantization.recipes import Recipe


@dataclasses.dataclass
class FloatGraph:
    """A float file with what is known of its activations, as far as it has been asked for."""

    file: bytes
    calibration: Calibration


class FloatGraphs:
    """The float graph of each recipe: recipes that want the same one share it, and only the last one is kept.

    Args:
        float_file: of (rewrites, input type, output), as `edge.export.float_model.FloatModel.float_file`.
        input_dtype, output: what was asked for.
    """

    def __init__(self, float_file: Callable[[tuple[str, ...], str, str], bytes], input_dtype: str, output: str) -> None:
        self._float_file, self._input_dtype, self._output = float_file, input_dtype, output
        self._key: tuple | None = None
        self._graph: FloatGraph | None = None

    def of(self, recipe: Recipe) -> FloatGraph:
        key = (recipe.rewrites, bool(recipe.integer_bits), recipe.integer_interface)
        if key != self._key or self._graph is None:
            self._graph = None
            # integers come in by quantizing a float input, not by a cast
            input_dtype = "float32" if recipe.integer_interface else self._input_dtype
            file = self._float_file(recipe.rewrites, input_dtype, self._output)
            self._key, self._graph = key, FloatGraph(quantize.prepared(file, recipe), Calibration())
        return self._graph
