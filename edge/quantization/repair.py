"""Which layers a file loses its accuracy in, and the least change of modes that brings it back.

Each dense layer is quantized alone, everything else left in float, and its effect on the logits measured. Where a file misses its gate, the
layers are demoted, each to the next of its recipe's modes, in the order of damage taken away for what it costs, until the gate passes. What
it costs is milliseconds or bytes, whichever the recipe spares. The milliseconds are those of one machine, measured once: equal inputs must
give equal files on every one.

How many bits each layer gets is a knapsack. Layer l in mode m does damage d(l, m), the noise it alone adds to the logits over their power,
and takes b(l, m) bytes. Layers round independently, so damages add up. Wanted are the modes with the least bytes whose damage is at most
what the gate allows, or with the least damage in so many bytes. Of each layer only the modes on the lower convex hull of (bytes, damage)
are of use, and steps along the hulls, taken by damage removed for each byte, solve the problem with fractions of steps allowed
(P. Sinha and A. Zoltners, "The multiple-choice knapsack problem", Operations Research 27, 1979). Whole steps miss that optimum by less than
one step's bytes, and the gate itself, which no sum predicts, says how many steps are enough.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from edge.drift.meanings import Output
from edge.drift.metrics import measure_worst
from edge.quantization import quantize
from edge.quantization.dense_layers import dense_layers, multiplications, stored_bytes
from edge.quantization.ranges import Calibration
from edge.quantization.recipes import BYTES, DYNAMIC, FLOAT, MILLISECONDS, STATIC, WEIGHT_BITS, Recipe
from edge.tflite import flatbuffer

# Picoseconds that a dense layer takes for a multiplication, by its mode: tiny224's layers on one thread of an AMD EPYC with AVX512-VNNI
# (results/operation_profile.csv). Only their ratios count; a kind of machine on which they are others gets another order, as good a file.
PICOSECONDS = {STATIC: 5.5, DYNAMIC: 6.0, FLOAT: 19.6}
# Damage of a layer that makes the logits NaN or infinite
_BROKEN = 1e12


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """What one layer alone does to the logits.

    Attributes:
        name: of the layer's output tensor.
        layer: its Keras path.
        mode: the mode it was measured in.
        snr_db: of the logits, everything else in float; of several outputs the least.
        kl: mean Kullback-Leibler divergence of that output's probabilities, nats; 0 where it has none.
        multiplications: the layer's.
        saved_bytes: how much smaller the file is than with the layer in float.
    """

    name: str
    layer: str
    mode: str
    snr_db: float
    kl: float
    multiplications: int
    saved_bytes: int = 0

    @property
    def damage(self) -> float:
        """Noise power over signal power of the logits."""
        return 10.0 ** (-self.snr_db / 10.0) if np.isfinite(self.snr_db) else _BROKEN


@dataclasses.dataclass(frozen=True)
class Demotion:
    """One step of a repair: a layer goes from one mode to the next. Its price is in picoseconds or bytes."""

    layer: str
    name: str
    before: str
    after: str
    snr_db: float
    price: float = 0.0


def sensitivities(
    float_file: bytes,
    recipe: Recipe,
    calibration: Calibration,
    logits: Callable[[bytes], np.ndarray],
    outputs: Sequence[Output],
) -> Iterator[Sensitivity]:
    """Every dense layer's own effect, in the recipe's mode and in those between it and float; in the order of execution.

    Args:
        float_file: the float flatbuffer the recipe starts from.
        recipe: whose modes are looked at.
        calibration: what the recipe needs.
        logits: runs a file on the images to judge by: [N, D], of all outputs one after the other.
        outputs: the model's.
    """
    model = flatbuffer.read_model(float_file)
    own = quantize.layer_modes(model, recipe, calibration)
    everything_float = dict.fromkeys(own, FLOAT)
    reference = logits(float_file)
    for layer in dense_layers(model):
        for mode in recipe.ladder[recipe.ladder.index(own[layer.name]) : -1]:
            file = quantize.quantize(float_file, recipe, calibration, everything_float | {layer.name: mode})
            drift = measure_worst(reference, logits(file), outputs)
            costs = (multiplications(model, layer), stored_bytes(model, layer, 32) - stored_bytes(model, layer, WEIGHT_BITS[mode]))
            yield Sensitivity(layer.name, layer.layer, mode, drift.logits_snr_db, drift.kl if np.isfinite(drift.kl) else 0.0, *costs)


def steps_to_float(mode: str, ladder: Sequence[str]) -> int:
    """How many demotions there are from a mode, on a recipe's ladder."""
    return len(ladder) - 1 - ladder.index(mode)


def demotions(found: Sequence[Sensitivity], ladder: Sequence[str], spares: str = MILLISECONDS) -> list[Demotion]:
    """Every step there is, the one that takes away most damage for its cost first; a layer's own steps stay in order.

    Args:
        found: of `sensitivities`.
        ladder: the recipe's modes.
        spares: what a step costs, `MILLISECONDS` or `BYTES`.
    """
    by_layer: dict[str, list[Sensitivity]] = {}
    for sensitivity in found:
        by_layer.setdefault(sensitivity.name, []).append(sensitivity)
    steps = []
    for modes in by_layer.values():
        damages = [sensitivity.damage for sensitivity in modes] + [0.0]
        gains = [max(before - after, 0.0) for before, after in itertools.pairwise(damages)]
        afters = [ladder[ladder.index(sensitivity.mode) + 1] for sensitivity in modes]
        if spares == BYTES:
            saved = [sensitivity.saved_bytes for sensitivity in modes] + [0]
            prices = [float(before - after) for before, after in itertools.pairwise(saved)]
        else:
            prices = [
                (PICOSECONDS[after] - PICOSECONDS[sensitivity.mode]) * sensitivity.multiplications
                for after, sensitivity in zip(afters, modes, strict=True)
            ]
        for worth, after, price, sensitivity in zip(_falling(gains, prices), afters, prices, modes, strict=True):
            steps.append((worth, Demotion(sensitivity.layer, sensitivity.name, sensitivity.mode, after, sensitivity.snr_db, price)))
    order = sorted(range(len(steps)), key=lambda index: (-steps[index][0], index))
    return [steps[index][1] for index in order]


def _falling(gains: Sequence[float], prices: Sequence[float]) -> list[float]:
    """Gain for its price of each of a layer's steps, one that is worth less than the next sharing with it: what comes second must not come
    first."""
    pools: list[list[int]] = []

    def worth(pool: Sequence[int]) -> float:
        return sum(gains[step] for step in pool) / sum(prices[step] for step in pool)

    for step in range(len(gains)):
        pools.append([step])
        while len(pools) > 1 and worth(pools[-2]) < worth(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    return [worth(pool) for pool in pools for _ in pool]


def affordable(modes: Mapping[str, str], steps: Sequence[Demotion], most: float) -> dict[str, str]:
    """The modes after every one of `steps` that there is enough left for, of `most` in all: the most exact ones at that price.

    Args:
        modes: of all dense layers, before.
        steps: in the order to take them; a layer whose step is too dear keeps its mode.
        most: the sum of their prices.
    """
    changed, left, passed_over = dict(modes), most, set()
    for step in steps:
        if step.name in passed_over or step.price > left:
            passed_over.add(step.name)
            continue
        changed[step.name] = step.after
        left -= step.price
    return changed


def repaired(
    modes: Mapping[str, str], steps: Sequence[Demotion], passes: Callable[[Mapping[str, str]], bool]
) -> tuple[dict[str, str], list[Demotion]] | None:
    """The modes after the fewest of `steps` that pass, and those steps; None where not even all of them do.

    Args:
        modes: of all dense layers, before.
        steps: in the order to take them.
        passes: whether a file of these modes passes its gate.
    """

    def after(count: int) -> dict[str, str]:
        changed = dict(modes)
        for step in steps[:count]:
            changed[step.name] = step.after  # a layer's own steps stay in order
        return changed

    if not steps:
        return None
    failing, count = 0, 1
    while not passes(after(count)):
        if count == len(steps):
            return None
        failing, count = count, min(2 * count, len(steps))
    while count - failing > 1:
        middle = (failing + count) // 2
        failing, count = (failing, middle) if passes(after(middle)) else (middle, count)
    return after(count), list(steps[:count])
