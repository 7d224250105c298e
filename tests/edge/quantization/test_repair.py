"""Self-repair: the damaged layer is found, as few layers as possible are demoted, and the file passes the gate it had missed."""

import csv
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

from edge import verify
from edge.conversion import table
from edge.quantization.recipes import BYTES, DYNAMIC, DYNAMIC4, FLOAT, RECIPES, STATIC
from edge.quantization.repair import PICOSECONDS, Demotion, Sensitivity, affordable, demotions, repaired, steps_to_float
from tests.edge.small_models import MICRO, build, rows_in_the_table
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE

pytestmark = pytest.mark.whole

DAMAGED = "stage1_block2/attention/"
LADDER = RECIPES["int8"].ladder


def _sensitivity(name, mode, snr_db, multiplications=100):
    return Sensitivity(name, name, mode, snr_db, 0.0, multiplications)


def test_order_is_damage_for_time():
    found = [
        _sensitivity("cheap", DYNAMIC, 20.0, 10),
        _sensitivity("dear", DYNAMIC, 20.0, 1000),
        _sensitivity("bad", DYNAMIC, 5.0, 100),
        _sensitivity("fine", DYNAMIC, 60.0, 10),
    ]
    assert [step.layer for step in demotions(found, LADDER)] == ["bad", "cheap", "dear", "fine"]
    assert {(step.before, step.after) for step in demotions(found, LADDER)} == {(DYNAMIC, FLOAT)}


def test_a_step_that_costs_little_comes_before_one_that_costs_much():
    """Equal damage and equal layers: leaving static for dynamic takes less time than leaving dynamic for float."""
    found = [_sensitivity("a", STATIC, 10.0), _sensitivity("a", DYNAMIC, 80.0), _sensitivity("b", DYNAMIC, 10.0)]
    steps = demotions(found, LADDER)
    assert [(step.layer, step.after) for step in steps[:2]] == [("a", DYNAMIC), ("b", FLOAT)]
    assert PICOSECONDS[STATIC] < PICOSECONDS[DYNAMIC] < PICOSECONDS[FLOAT]


def test_prices_are_those_measured():
    """Of the same 76 layers in two modes; those of static ones are but 72 of them."""
    with (Path(__file__).parents[3] / "results" / "operation_profile.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["variant"] == "tiny224" and row["operation"].startswith("Fully Connected")]
    times = {row["recipe"]: float(row["total_ms"]) for row in rows if row["count"] == "76"}
    assert PICOSECONDS[FLOAT] / PICOSECONDS[DYNAMIC] == pytest.approx(times["float32"] / times["dynamic"], rel=0.02)


def test_a_layers_steps_stay_in_order():
    """Static and dynamic equally bad: both steps come first, static to dynamic before dynamic to float."""
    found = [
        _sensitivity("a", STATIC, 3.0),
        _sensitivity("a", DYNAMIC, 3.0),
        _sensitivity("b", STATIC, 30.0),
        _sensitivity("b", DYNAMIC, 50.0),
    ]
    steps = demotions(found, LADDER)
    assert [(step.layer, step.after) for step in steps] == [("a", DYNAMIC), ("a", FLOAT), ("b", DYNAMIC), ("b", FLOAT)]


def test_without_dynamic_layers_a_static_one_goes_to_float():
    ladder = RECIPES["int8"].for_runtime((2, 14)).ladder
    (step,) = demotions([_sensitivity("a", STATIC, 3.0)], ladder)
    assert (step.before, step.after) == (STATIC, FLOAT)
    assert steps_to_float(STATIC, ladder) == 1


def test_not_a_number_is_the_worst():
    assert demotions([_sensitivity("a", DYNAMIC, 1.0), _sensitivity("b", DYNAMIC, float("nan"))], LADDER)[0].layer == "b"


@pytest.mark.parametrize("needed", [1, 2, 3, 7, 20])
def test_as_few_steps_as_pass(needed):
    steps = [Demotion(str(index), str(index), DYNAMIC, FLOAT, 0.0) for index in range(20)]
    modes = {str(index): DYNAMIC for index in range(20)}
    tried = []

    def passes(changed):
        tried.append(changed)
        return sum(mode == FLOAT for mode in changed.values()) >= needed

    changed, taken = repaired(modes, steps, passes)
    assert taken == steps[:needed]
    assert [name for name, mode in changed.items() if mode == FLOAT] == [str(index) for index in range(needed)]
    assert len(tried) <= 10
    assert modes == {str(index): DYNAMIC for index in range(20)}


def test_beyond_repair():
    steps = [Demotion("a", "a", STATIC, DYNAMIC, 0.0), Demotion("a", "a", DYNAMIC, FLOAT, 0.0)]
    assert repaired({"a": STATIC}, steps, lambda modes: False) is None
    assert repaired({}, [], lambda modes: False) is None


# Bits, by a knapsack

BITS = RECIPES["smallest"].ladder


def _alone(layer, mode, damage, saved):
    return Sensitivity(layer, layer, mode, -10.0 * float(np.log10(damage)), 0.0, 1, saved)


def _knapsack(layers=5, seed=0):
    """Layers of many sizes whose damage falls from 4 bits to 8."""
    rng = np.random.default_rng(seed)
    found = []
    for layer in range(layers):
        weights, damage = int(rng.integers(100, 2000)), float(rng.uniform(1e-4, 1e-2))
        found += [_alone(str(layer), DYNAMIC4, damage, weights * 7 // 2), _alone(str(layer), DYNAMIC, damage / 200, weights * 3)]
    return found


def _damage_and_bytes(found, modes):
    saved = {(one.name, one.mode): (one.damage, one.saved_bytes) for one in found}
    chosen = [saved.get((name, mode), (0.0, 0)) for name, mode in modes.items()]
    return sum(damage for damage, _ in chosen), -sum(size for _, size in chosen)


@pytest.mark.parametrize("seed", range(4))
def test_bits_are_within_a_step_of_the_best_there_are(seed):
    """Against every possibility: at most so many bytes, no other modes do less damage than ours with one step's bytes more."""
    found = _knapsack(seed=seed)
    smallest = dict.fromkeys((one.name for one in found), DYNAMIC4)
    steps = demotions(found, BITS, BYTES)
    every = [dict(zip(smallest, modes, strict=True)) for modes in itertools.product(BITS, repeat=len(smallest))]
    known = [_damage_and_bytes(found, modes) for modes in every]
    _, least = _damage_and_bytes(found, smallest)
    dearest = max(step.price for step in steps)
    for most in np.linspace(0, -least, 7):
        ours, size = _damage_and_bytes(found, affordable(smallest, steps, most))
        assert size - least <= most
        assert ours <= min(damage for damage, total in known if total - least <= max(most - dearest, 0)) * (1 + 1e-9)
    assert affordable(smallest, steps, 0) == smallest
    assert set(affordable(smallest, steps, -least).values()) == {FLOAT}


def test_bytes_are_spent_where_they_take_away_most_damage():
    found = [_alone("small", DYNAMIC4, 1e-3, 350), _alone("small", DYNAMIC, 1e-5, 300), _alone("large", DYNAMIC4, 2e-3, 35000)]
    found.append(_alone("large", DYNAMIC, 1e-5, 30000))
    steps = demotions(found, BITS, BYTES)
    assert [(step.layer, step.after, step.price) for step in steps[:2]] == [("small", DYNAMIC, 50), ("large", DYNAMIC, 5000)]


def test_a_step_that_is_too_dear_is_passed_over_and_so_are_those_behind_it():
    steps = [
        Demotion("large", "large", DYNAMIC4, DYNAMIC, 20.0, 100.0),
        Demotion("large", "large", DYNAMIC, FLOAT, 20.0, 1.0),
        Demotion("small", "small", DYNAMIC4, DYNAMIC, 20.0, 10.0),
    ]
    assert affordable({"large": DYNAMIC4, "small": DYNAMIC4}, steps, 50.0) == {"large": DYNAMIC4, "small": DYNAMIC}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """The same function in float: one channel of the values grows by a thousand, its row of the projection shrinks by as much."""
    model = build(MICRO, 1)
    attention = model.get_layer("stage1_block2").attention
    weights = (attention.value.kernel, attention.value.bias, attention.projection.kernel)
    kernel, bias, projection = (keras.ops.convert_to_numpy(weight).copy() for weight in weights)
    kernel[:, 3] *= 1000.0
    bias[3] *= 1000.0
    projection[3] /= 1000.0
    attention.value.kernel.assign(kernel)
    attention.value.bias.assign(bias)
    attention.projection.kernel.assign(projection)
    path = tmp_path_factory.mktemp("damaged") / "damaged.keras"
    model.save(path)
    return path


@pytest.fixture
def not_smoothed(monkeypatch):
    """Such a channel is taken into the weights before anything needs repair (tests/edge/quantization/test_smoothing.py): not here."""
    monkeypatch.setattr("edge.quantization.smoothing.ENOUGH_DB", -np.inf)


@pytest.mark.slow
def test_a_damaged_layer_is_found_demoted_and_repaired(cli, damaged, tmp_path, not_smoothed):
    arguments = ("--model", damaged, "--quant", "int8", "--min-snr", "22", "--min-agreement", "0", "--out", tmp_path, "--json")
    refused = cli(*arguments, "--no-repair")
    assert refused.code == EXIT_CHECK_FAILED
    assert list(tmp_path.iterdir()) == []
    ran = cli(*arguments)
    assert ran.code == EXIT_OK
    artifact = json.loads(ran.out)["artifacts"][0]
    repair = artifact["manifest"]["repair"]
    demoted = {step["layer"]: step["after"] for step in repair["demoted"]}
    assert set(demoted) <= {f"{DAMAGED}value", f"{DAMAGED}projection"}
    assert demoted
    assert any("SNR" in reason for reason in repair["why"])
    assert artifact["manifest"]["drift"]["logits_snr_db"] >= 22
    assert artifact["manifest"]["drift"]["passed"]
    assert len(artifact["repair_ms"]) == 2
    worst = min(artifact["sensitivities"], key=lambda sensitivity: sensitivity["snr_db"])
    assert worst["layer"].startswith(DAMAGED)


@pytest.mark.slow
def test_a_repair_for_an_old_runtime_says_what_the_layers_are(cli, damaged, tmp_path, not_smoothed):
    """No dynamic layers there: what is demoted is float, in the file and in its manifest."""
    arguments = ("--model", damaged, "--quant", "int8", "--min-snr", "22", "--min-agreement", "0", "--out", tmp_path, "--json")
    ran = cli(*arguments, "--min-runtime", "2.14")
    assert ran.code == EXIT_OK
    (artifact,) = json.loads(ran.out)["artifacts"]
    assert {step["after"] for step in artifact["manifest"]["repair"]["demoted"]} == {FLOAT}
    assert artifact["manifest"]["file"]["min_runtime_version"] in ("2.3.0", "2.9.0")
    assert DYNAMIC not in {sensitivity["mode"] for sensitivity in artifact["sensitivities"]}
    # the limits it had to be repaired for, and the runtime, are in its record: edge.verify makes the same file
    assert verify.main([str(tmp_path / "damaged-int8.tflite"), "--model", str(damaged), "--quiet"]) == EXIT_OK


@pytest.mark.slow
def test_a_sound_model_is_not_touched(cli, tmp_path):
    ran = cli("--variant", "micro", "--weights", "random:1", "--quant", "int8", "--out", tmp_path, "--json")
    artifact = json.loads(ran.out)["artifacts"][0]
    assert artifact["manifest"]["repair"] is None
    assert artifact["sensitivities"] == []


def test_the_worst_layers_are_shown_and_the_others_counted():
    found = tuple(_sensitivity(f"block{number}", DYNAMIC, 20.0 + number) for number in reversed(range(12)))
    demoted = [
        {"layer": f"block{number}", "before": DYNAMIC4, "after": DYNAMIC, "alone_snr_db": None if number == 11 else 20.0 + number}
        for number in range(12)
    ]
    repair = {"why": ["SNR"], "demoted": demoted, "cost_bytes": 12}
    outcome = SimpleNamespace(path=Path("model.tflite"), manifest={"repair": repair}, repair_ms=None, sensitivities=found)
    lines = table.repair_lines(outcome, 3)
    assert [line.split(":")[0].strip() for line in lines[1:4]] == ["block11", "block0", "block1"]
    assert lines[4] == "  and 9 more: the manifest names them"
    lines = table.sensitivity_lines(outcome, 3)
    assert [line.split()[0] for line in lines[1:]] == ["block0", "block1", "block2", "and"]
    assert len(table.sensitivity_lines(outcome, None)) == 13


@pytest.mark.slow
def test_explain_shows_and_draws(cli, tmp_path):
    arguments = ("--variant", "micro", "--weights", "random:1", "--quant", "dynamic", "--explain", "--out", tmp_path)
    ran = cli(*arguments)
    assert ran.code == EXIT_OK
    lines = [line for line in ran.out.splitlines() if " dB  KL " in line]
    assert len(lines) == 2 * 6 + 2  # two blocks, patch embedding, head
    levels = [float(line.split(" dB")[0].split()[-1]) for line in lines]
    assert levels == sorted(levels)
    assert min(levels) > 10
    picture = tmp_path / "micro-dynamic.random.sensitivity.png"
    assert Image.open(picture).size[0] > 500
    assert cli(*arguments).code == EXIT_OK  # again, over our own
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture)
    kept = picture.read_bytes()
    assert cli(*arguments).code == EXIT_UNUSABLE
    assert picture.read_bytes() == kept


@pytest.mark.slow
def test_the_most_exact_file_of_a_size(cli, tmp_path):
    arguments = ("--variant", "micro", "--weights", "random:1", "--quant", "smallest", "--min-snr", "0", "--json")
    made = {}
    for folder, given in (("least", ()), ("fits", ("--max-size", "0.045")), ("all", ("--max-size", "1"))):
        ran = cli(*arguments, *given, "--out", tmp_path / folder)
        assert ran.code == EXIT_OK
        made[folder] = json.loads(ran.out)["artifacts"][0]["manifest"]
    sizes = {folder: manifest["file"]["size_bytes"] for folder, manifest in made.items()}
    decibels = {folder: manifest["drift"]["logits_snr_db"] for folder, manifest in made.items()}
    bits = {folder: [layer["weight_bits"] for layer in manifest["file"]["layers"]] for folder, manifest in made.items()}
    print(sizes, decibels, bits)
    assert sizes["least"] < sizes["fits"] <= 45000 < sizes["all"]
    assert decibels["least"] < decibels["fits"] < decibels["all"]
    assert (set(bits["least"]), set(bits["all"])) == ({4, 8}, {32})  # the patch embedding is a convolution
    assert len(set(bits["fits"])) > 1
    assert (made["least"]["settings"].get("max_size_bytes"), made["fits"]["settings"]["max_size_bytes"]) == (None, 45000)
    with rows_in_the_table():
        assert verify.main([str(tmp_path / "fits" / "micro-smallest.random.tflite"), "--quiet"]) == EXIT_OK


@pytest.mark.slow
def test_no_file_is_as_small(cli, tmp_path):
    ran = cli("--variant", "micro", "--weights", "random:1", "--quant", "smallest", "--max-size", "0.001", "--out", tmp_path)
    assert ran.code == EXIT_CHECK_FAILED
    assert "asked for at most 0.001 MB (--max-size)" in ran.out + ran.err
    assert list(tmp_path.iterdir()) == []
