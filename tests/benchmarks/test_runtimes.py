"""When another runtime's answers count as ours, and what `make runtimes` exits with."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.runtimes import comparison, run
from benchmarks.runtimes.runtime import Runtime, UnavailableError, fetch
from edge.quantization.recipes import RECIPES

REFERENCE = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 0.98], [-1.0, 0.5, 1.5]])


def with_change(image: int, value: int, change: float) -> np.ndarray:
    outputs = REFERENCE.copy()
    outputs[image, value] += change
    return outputs


@pytest.mark.parametrize(
    ("outputs", "recipe", "status", "same"),
    [
        (REFERENCE, "float32", "same", "3"),
        (with_change(0, 1, 1e-4), "float32", "same", "3"),
        (with_change(0, 1, 1e-3), "float32", "differs", "3"),
        (with_change(0, 1, 1e-3), "int8", "same", "3"),
        (with_change(1, 2, 0.04), "float16", "differs", "2"),
        (with_change(1, 2, 0.04), "int8", "near ties", "2"),
        (with_change(0, 1, 1.5), "int8", "differs", "2"),
        (with_change(0, 1, 0.3), "int8_full", "differs", "3"),
    ],
)
def test_outputs_compared(outputs, recipe, status, same):
    columns = comparison.compared(REFERENCE, outputs, recipe)
    assert (columns["status"], columns["same_top1"]) == (status, same)


def test_difference_is_relative_to_the_largest_output():
    assert comparison.compared(10 * REFERENCE, 10 * with_change(2, 0, 0.02), "int8")["max_rel_difference"] == "1.0e-02"


def test_the_margin_of_a_near_tie_is_shown():
    assert "0.010 of scale apart" in comparison.compared(REFERENCE, with_change(1, 2, 0.04), "int8")["reason"]


def test_one_class_for_every_image_is_named():
    constant = np.tile([0.0, 9.0, 0.0], (3, 1))
    assert "one class" in comparison.compared(REFERENCE, constant, "int8")["reason"]


@pytest.mark.parametrize("outputs", [np.full_like(REFERENCE, np.nan), REFERENCE[:2], np.empty((0, 3)), REFERENCE.reshape(-1)])
def test_broken_outputs_differ(outputs):
    assert comparison.compared(REFERENCE, outputs, "int8")["status"] == "differs"


@pytest.mark.parametrize(
    ("min_runtime", "counts", "status"),
    [
        ("2.17.0", True, "refused"),
        ("2.14.4", True, "refused"),
        (None, True, "refused"),
        ("2.14.0", True, "does not run"),
        ("2.9.0", True, "does not run"),
        ("2.17.0", False, "does not run"),
    ],
)
def test_a_refusal_is_a_failure_unless_the_file_announces_it(min_runtime, counts, status):
    assert comparison.refused("why", min_runtime, "2.14.0", counts) == {
        "same_top1": "",
        "max_rel_difference": "",
        "status": status,
        "reason": "why",
    }


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (["same", "near ties", "refused"], 0),
        (["same", "not tested"], 3),
        (["not tested", "differs"], 1),
        (["does not run", "same"], 1),
    ],
)
def test_exit_code(statuses, code):
    assert run.exit_code(statuses) == code


def test_a_runtime_that_cannot_be_had_is_not_tested():
    def prepare() -> None:
        fetch(sys.executable, "-c", "import sys; print('first', file=sys.stderr); sys.exit('no such wheel')")

    with pytest.raises(UnavailableError, match="no such wheel"):
        prepare()
    with pytest.raises(UnavailableError, match="No such file"):
        fetch("/nowhere/npm")
    unavailable = Runtime("any", "1.0", "here", {"nano32": ("int8",)}, prepare, lambda: pytest.fail("called"))
    interpreter = type("Loaded", (), {"ran_on": "LiteRT"})()
    case = run.Case("nano32", "int8", Path("x"), Path("y"), "2.9.0", "builtin", REFERENCE, interpreter)
    (row,) = run.rows_of(unavailable, {("nano32", "int8"): case})
    assert (row["status"], row["same_top1"], row["version"]) == ("not tested", "", "1.0")
    assert row["reason"].endswith("no such wheel")


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("raise SystemExit('crashed')", "does not run", "exit code 1: crashed"),
        ('print(\'{"version": "2", "machine": "m", "refused": "no kernel"}\')', "does not run", "no kernel"),
        ('print(\'{"version": "2", "machine": "m", "refused": null, "untested": "no GPU"}\')', "not tested", "no GPU"),
    ],
)
def test_what_a_runtime_reports(monkeypatch, tmp_path, body, status, reason):
    monkeypatch.setattr(run, "BUILD", tmp_path)
    runtime = Runtime("any", "1.0", "m", {}, lambda: None, lambda: [sys.executable, "-c", body])
    case = run.Case("nano32", "int8", Path("x"), Path("y"), "2.9.0", "builtin", REFERENCE, None)
    _, columns = run.ran(runtime, case)
    assert (columns["status"], columns["reason"]) == (status, reason)


def test_every_runtime_runs_recipes_that_are_there():
    for runtime in run.RUNTIMES:
        for variant, recipes in runtime.recipes.items():
            assert variant in run.WEIGHTS
            assert {recipe.partition(" for ")[0] for recipe in recipes} <= set(RECIPES)
