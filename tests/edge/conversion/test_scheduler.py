"""Variants times recipes: what fails stops nothing else, what is there is not made again, memory is looked at, time is told."""

import contextlib
import csv
import dataclasses
import json
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest

from edge.artifacts.provenance import computed_by
from edge.artifacts.store import Store
from edge.conversion import cells, costs, plan, scheduler
from edge.conversion.worker import MatrixProcess
from edge.export.source import Source, on_this_machine, require_unchanged
from edge.quantization.recipes import RECIPES
from edge.runtime import machine
from tests.edge.small_models import MICRO
from tfvit import memory
from tfvit.errors import EXIT_OK, EXIT_UNUSABLE, EXIT_USAGE, EnvironmentUnusableError, InputError
from tfvit.progress import Progress
from tfvit.variants import VARIANTS
from tfvit.weights_choice import WeightsChoice, resolve_weights

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[3]


def group(name: str, recipes=("float32",), folder=Path("out"), store=None, variant=MICRO) -> cells.Group:
    settings = plan.Settings(calibration_samples=2, drift_samples=2, folder=folder, gate=False)
    source = Source(name, variant, WeightsChoice(random_seed=0))
    return cells.Group(source, tuple(RECIPES[recipe] for recipe in recipes), settings, store or Store(None))


def cell(model: str, recipe: str, status: str = "written") -> cells.Cell:
    outcome = None if status == "failed" else plan.Outcome("name", status, Path("x"), {})
    return cells.Cell(model, recipe, f"{model}-{recipe}", outcome)


# What it costs


def test_costs_are_those_measured():
    peaks, with_integers = {}, {}
    with (ROOT / "results" / "convert_matrix.csv").open() as file:
        for row in csv.DictReader(file):
            for found in (with_integers,) if RECIPES[row["recipe"]].integer_bits else (peaks, with_integers):
                found[row["variant"]] = max(found.get(row["variant"], 0), int(row["peak_memory_mb"]))
    assert {name: (cost.peak_memory_mb, cost.integer_peak_memory_mb) for name, cost in costs.MEASURED.items()} == {
        name: (peak, with_integers[name]) for name, peak in peaks.items()
    }
    assert {variant for variant in VARIANTS if "nano" not in variant and variant in costs.MEASURED} == set(peaks)


def test_the_time_left_goes_by_what_cells_cost():
    now = [0.0]
    variants = [VARIANTS["tiny224"], VARIANTS["large224"]]
    groups = [group(variant.id, ("float32", "int8"), variant=variant) for variant in variants]
    estimate = scheduler.Estimate(groups, lambda: now[0])
    assert (estimate.share, estimate.seconds_left) == (0.0, None)
    now[0] = 10.0
    estimate.finished(cell("tiny224", "float32"))
    tiny, large = (costs.MEASURED[variant.id] for variant in variants)
    first = tiny.model_seconds + 0.16 * tiny.recipe_seconds  # with what both files share
    total = tiny.model_seconds + 1.16 * tiny.recipe_seconds + large.model_seconds + 1.16 * large.recipe_seconds
    assert estimate.seconds_left == pytest.approx(10.0 * (total - first) / first)
    assert estimate.share == pytest.approx(first / total)
    # what is there already is no work, and does not make the rest look fast
    estimate.finished(cell("large224", "float32", "current"))
    left = tiny.recipe_seconds + large.model_seconds + large.recipe_seconds
    assert estimate.seconds_left == pytest.approx(10.0 * left / first)
    estimate.finished(cell("tiny224", "int8", "failed"))
    estimate.finished(cell("large224", "int8", "refused"))
    assert (estimate.share, estimate.seconds_left) == (pytest.approx(1.0), None)


def test_models_side_by_side_fit_into_memory():
    large, small = (Source(name, VARIANTS[name], WeightsChoice(random_seed=0)) for name in ("large224", "small224"))
    both = costs.MEASURED["large224"].peak_memory_mb + costs.MEASURED["small224"].integer_peak_memory_mb
    work = [(large, [RECIPES["int8"]]), (small, [RECIPES["int8"], RECIPES["int8_full"]])]
    assert costs.fits(work, both)
    assert not costs.fits(work, both - 1)
    assert costs.fits(work, None)


def test_computing_on_integers_alone_takes_more_memory():
    source, measured = Source("v2_large384", VARIANTS["v2_large384"], WeightsChoice(random_seed=0)), costs.MEASURED["v2_large384"]
    assert costs.peak_memory_mb(source, [RECIPES["int8"], RECIPES["float16"]]) == measured.peak_memory_mb
    for recipe in ("int8_full", "w8a16"):
        assert costs.peak_memory_mb(source, [RECIPES["int8"], RECIPES[recipe]]) == measured.integer_peak_memory_mb > measured.peak_memory_mb


# What fails


def test_too_little_memory_is_told_before_anything_is_loaded(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2_000 * 2**20)
    ran = cli("--variant", "small224", "--quant", "int8", "--weights", "random:0", "--out", tmp_path)
    assert ran.code == EXIT_UNUSABLE
    assert len(ran.error) <= 4
    needed = costs.MEASURED["small224"].peak_memory_mb
    assert f"{needed} MB, the measured peak" in ran.err
    assert "2000 MB available" in ran.err
    assert "load" not in ran.err
    assert list(tmp_path.iterdir()) == []


def test_memory_enough_or_unknown_passes(monkeypatch):
    tiny = Source("tiny224", VARIANTS["tiny224"], WeightsChoice(random_seed=0))
    needed, recipes = costs.MEASURED["tiny224"].peak_memory_mb, [RECIPES["int8"]]
    for available in (None, needed * 2**20):
        monkeypatch.setattr(memory, "available_bytes", lambda available=available: available)
        costs.require_memory(tiny, recipes)
    monkeypatch.setattr(memory, "available_bytes", lambda: needed * 2**20 - 1)
    with pytest.raises(EnvironmentUnusableError, match="not enough memory"):
        costs.require_memory(tiny, recipes)
    costs.require_memory(dataclasses.replace(tiny, variant=MICRO), recipes)  # never measured


def test_weights_that_only_some_variants_lack(cli, tmp_path, monkeypatch):
    """The others are converted, or as here refused for want of memory: a table, not the first one's error."""
    monkeypatch.setattr(memory, "available_bytes", lambda: 0)
    ran = cli("--variant", "v2_tiny256,nano32", "--quant", "float32,int8", "--weights", "imagenet", "--out", tmp_path, "--json")
    rows = json.loads(ran.out)["cells"]
    assert [(row["model"], row["recipe"], row["status"]) for row in rows] == [
        (model, recipe, "failed") for model in ("v2_tiny256", "nano32") for recipe in ("float32", "int8")
    ]
    assert all(row["error"] for row in rows)
    assert ran.code == EXIT_UNUSABLE  # nothing came of anything, and all for want of the same kind


def test_jobs_below_one(cli, tmp_path):
    ran = cli("--variant", "micro", "--quant", "float32", "--jobs", "0", "--out", tmp_path)
    assert (ran.code, "--jobs of at least 1" in ran.err) == (EXIT_USAGE, True)


def test_errors_travel_between_processes():
    error = EnvironmentUnusableError("no", expected="a", received="b", action="c", needed_mb=5)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.needed_mb, again.exit_code) == (type(error), str(error), 5, EXIT_UNUSABLE)


# What is kept, and what it depends on


def test_a_second_run_makes_nothing_again(cli, tmp_path, monkeypatch):
    """All files deleted, or damaged: the same bytes from the cache, without the model. The cache damaged: the same bytes, made again."""
    monkeypatch.setenv("TFVIT_CACHE", str(tmp_path / "cache"))
    arguments = ("--variant", "micro", "--weights", "random:0", "--quant", "float32,int8", "--calibration-samples", "2", "--no-gate")

    def converted(name: str) -> dict[str, bytes]:
        assert cli(*arguments, "--out", tmp_path / name).code == EXIT_OK
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}

    first = converted("first")
    assert {entry.kind for entry in Store(tmp_path / "cache").entries()} == {"facts", "float file", "reference", "ranges"}
    with monkeypatch.context() as patch:
        patch.setattr("edge.export.source.build", lambda source: pytest.fail("the model was built again"))
        assert converted("second") == first
    for path in (tmp_path / "cache").glob("*/*"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    assert converted("third") == first


def test_stopped_with_ctrl_c_it_goes_on_where_it_was(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("TFVIT_CACHE", str(tmp_path / "cache"))
    arguments = ("--variant", "micro", "--weights", "random:0", "--quant", "float32,int8", "--calibration-samples", "2", "--no-gate")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("edge.quantization.ranges.collect", stop)
        ran = cli(*arguments, "--out", tmp_path / "out")
    assert (ran.code, ran.err.splitlines()[-1]) == (130, "interrupted: finished files are kept, nothing is half-written")
    monkeypatch.setattr("edge.export.source.build", lambda source: pytest.fail("the model was built again"))
    ran = cli(*arguments, "--out", tmp_path / "out", "--json")
    assert [row["status"] for row in json.loads(ran.out)["cells"]] == ["current", "written"]


@pytest.mark.parametrize("change", ["weights", "recipe", "input", "output", "images", "code", "tools", "processor", "settings", "keras"])
def test_what_a_kept_file_depends_on(tmp_path, monkeypatch, change):
    """Each changes the keys: nothing of the one model is taken for the other's."""
    from edge.artifacts import provenance
    from edge.export.kept_model import KeptFloatModel

    def keys(seed=0, rewrites=("a",), input_dtype="float32", output="logits", digest="d") -> set[str]:
        asked = []
        store = Store(None)
        monkeypatch.setattr(store, "made", lambda key, make, kind, subject: asked.append(key) or b"")
        model = KeptFloatModel(Source("micro", MICRO, WeightsChoice(random_seed=seed)), store)
        model.float_file(rewrites, input_dtype, output)
        for ask in (
            lambda: model.reference(np.zeros((0,)), digest),
            lambda: model._activations(b"file" if output == "logits" else b"other", {}, {}, np.zeros((0,)), digest, 1, 8),
        ):
            with contextlib.suppress(EOFError, ValueError):  # the store gives nothing that can be read
                ask()
        return set(asked)

    before = keys()
    assert len(before) == 3
    assert keys() == before
    if change == "weights":
        assert len(keys(seed=1) & before) == 1  # ranges go by the float file's own hash
    elif change in ("recipe", "input"):
        assert len(keys(rewrites=("b",)) & before) == len(keys(input_dtype="uint8") & before) == 2
    elif change == "output":
        assert len(keys(output="probabilities") & before) == 1
    elif change == "images":
        assert len(keys(digest="e") & before) == 1
    else:
        if change == "code":
            monkeypatch.setattr(provenance, "code_sha256", lambda: "other")
        elif change == "tools":
            monkeypatch.setattr(provenance, "tool_versions", lambda: {"keras": "4"})
        elif change == "processor":
            monkeypatch.setattr(machine, "usable_cores", lambda: 99)
        elif change == "settings":
            monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
        else:
            monkeypatch.setenv("KERAS_HOME", str(tmp_path))
            (tmp_path / "keras.json").write_text('{"floatx": "float16"}')
        assert not keys() & before


def test_a_keras_json_that_keras_wrote_itself_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    before = computed_by()
    (tmp_path / "keras.json").write_text('{"floatx": "float32", "epsilon": 1e-07, "backend": "jax", "image_data_format": "channels_last"}')
    assert computed_by() == before


def test_weights_overwritten_meanwhile(tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"one")
    source = Source("micro", MICRO, resolve_weights(str(path), MICRO))
    require_unchanged(source)
    assert on_this_machine(source) == source
    path.write_bytes(b"two")
    with pytest.raises(InputError, match="another one"):
        require_unchanged(source)


def test_a_machine_that_would_make_other_files_refuses(tmp_path):
    one = group("micro", folder=tmp_path)
    (found,) = cells.cells(dataclasses.replace(one, expected={"float32": "another hash"}), Progress())
    assert isinstance(found.error, EnvironmentUnusableError)
    assert "would make other files of micro" in str(found.error)


# Processes


@pytest.mark.slow
def test_a_process_that_is_killed_costs_one_cell(tmp_path, monkeypatch):
    """Two models side by side; the process of the first is killed in its first stage. Its next recipe gets another process, and what
    came of all is what one process makes."""
    names, recipes = ("micro_a", "micro_b"), ("float32", "float16")
    started: list[tuple[str, int]] = []
    begun: list[tuple[str, str]] = []
    broken_off: list[str] = []

    def start(one, events):
        process = MatrixProcess(one, events)
        started.append((one.source.name, process.pid))
        return process

    class _Killing(Progress):
        killed = False

        def begin(self, name, total, subject):
            begun.append((name, subject))
            if subject == "micro_a" and not self.killed:
                self.killed = True
                os.kill(dict(started)["micro_a"], signal.SIGKILL)

        def end(self, name, total, subject, seconds, finished):
            super().end(name, total, subject, seconds, finished)
            begun.remove((name, subject))
            broken_off.extend([subject] * (not finished))

    monkeypatch.setattr(scheduler, "MatrixProcess", start)
    store, finished = Store(tmp_path / "cache"), []
    side_by_side = [group(name, recipes, tmp_path / "one", store) for name in names]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    found = scheduler.run(side_by_side, 2, None, _Killing(), finished.append)
    print([(each.name, each.status, each.error) for each in found])
    assert [each.status for each in found] == ["failed", "written", "written", "written"]
    assert "signal SIGKILL: killed, perhaps for want of memory" in str(found[0].error)
    assert begun == []  # every stage was shown until it ended, that of the killed process too
    assert broken_off == ["micro_a"]
    assert sorted(name for name, _ in started) == ["micro_a", "micro_a", "micro_b"]
    assert {each.name for each in finished} == {each.name for each in found}
    alone = [each for name in names for each in cells.cells(group(name, recipes, tmp_path / "two"), Progress())]
    assert [each.status for each in alone] == ["written"] * 4
    made = sorted((tmp_path / "one").iterdir())
    assert len(made) == 6
    for path in made:
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
