"""What to ship: measurements come first, then the rules; models, runs and devices are not mixed."""

import csv
from pathlib import Path

from edge.report import rules
from edge.report.checks import checks
from edge.report.inputs import read_inputs
from edge.report.page import render
from edge.report.recommend import BY_RULE, MEASURED, NOTHING, recommendations
from edge.report.summary import verdict, warnings
from tests.edge import report_documents as made


def chosen(folder: Path, target: str):
    return next(one for one in recommendations(read_inputs(folder)) if one.target == target)


def test_the_cpu_gets_the_fastest_valid_whole_file_that_passed(tmp_path):
    manifests = {recipe: made.manifest(recipe) for recipe in ("float32", "int8", "dynamic", "int8_full", "float16")}
    for document in manifests.values():
        made.save_artifact(tmp_path, document)
    rows = {recipe: made.row(document) for recipe, document in manifests.items()}

    def best(**changes):
        made.save(tmp_path / "benchmark.json", made.benchmark([row | changes.get(recipe, {}) for recipe, row in rows.items()]))
        return chosen(tmp_path, "CPU")

    found = best()
    assert (found.file, found.basis, found.ships) == ("nano32-int8", MEASURED, True)
    assert "0.431 (0.427 to 0.435) of the time of nano32-float32" in found.reasons[0]
    assert dict(found.others)["nano32-int8_full"].startswith("XNNPACK leaves 39 of 99 operations")
    assert best(int8_full={"median_ms": 0.1}).file == "nano32-int8"  # not whole
    assert best(int8={"valid": False, "invalid_reasons": ["too noisy"]}).file == "nano32-dynamic"
    assert dict(best(int8={"valid": False, "invalid_reasons": ["too noisy"]}).others)["nano32-int8"] == "no valid measurement: too noisy"
    assert best(int8={"status": "wrong", "reason": "differ"}).file == "nano32-dynamic"
    near = {"ratio_low": 0.42, "ratio_high": 0.44}
    assert "not told apart from nano32-dynamic" in best(dynamic=near).reasons[1]
    made.save_artifact(tmp_path, made.manifest("int8", passed=False))
    assert best().file == "nano32-dynamic"
    assert dict(best().others)["nano32-int8"] == "failed: drift gate"


def test_what_was_assumed_does_not_ship_unasked(tmp_path):
    """The best file is named, and what nobody confirmed beside it; the page and the table say so too."""
    document = made.manifest("int8")
    document["preprocessing"]["assumed"] = ["value range"]
    document["output"]["assumed"] = ["meaning of the output"]
    made.save_artifact(tmp_path, document)
    found = chosen(tmp_path, "CPU")
    assert (found.file, found.ships, found.assumed) == ("nano32-int8", False, ("value range", "meaning of the output"))
    assert any(reason.startswith("ASSUMED: value range, meaning of the output") for reason in found.reasons)
    inputs = read_inputs(tmp_path)
    every, recommended = checks(inputs), recommendations(inputs)
    assert "to ship once what is assumed is confirmed (value range, meaning of the output)" in verdict(every, recommended)[1]
    assert warnings(inputs)[0].startswith("ASSUMED, and right only where it is so: nano32-int8 (value range, meaning of the output)")
    page = render(inputs, every, recommended, "1")
    assert "All checks passed, on assumptions" in page
    assert 'class="verdict assumed"' in page
    assert "ASSUMED: value range, meaning of the output" in page
    made.save_artifact(tmp_path, made.manifest("int8"))
    assert chosen(tmp_path, "CPU").ships


def test_the_choice_is_made_within_one_run(tmp_path):
    """A fast machine's milliseconds are no reason against a file that was measured on a slow one."""
    int8, dynamic, float32 = (made.manifest(recipe) for recipe in ("int8", "dynamic", "float32"))
    for document in (int8, dynamic, float32):
        made.save_artifact(tmp_path, document)
    made.save(tmp_path / "a.json", made.benchmark([made.row(float32), made.row(int8), made.row(dynamic)]))
    made.save(tmp_path / "b.json", made.benchmark([made.row(dynamic, median_ms=0.2), made.row(float32, median_ms=0.4)], cpu="Fast"))
    found = chosen(tmp_path, "CPU")
    assert found.file == "nano32-int8"
    assert found.reasons[-1] == "but with 1 thread in b.json nano32-dynamic is the fastest (0.20 ms)"


def test_the_cpu_is_by_rule_until_one_is_measured(tmp_path):
    dynamic, float32, int8_full = (made.manifest(recipe) for recipe in ("dynamic", "float32", "int8_full"))
    for document in (dynamic, float32, int8_full):
        made.save_artifact(tmp_path, document)
    found = chosen(tmp_path, "CPU")
    assert (found.file, found.basis, found.ships) == ("nano32-dynamic", BY_RULE, True)
    assert found.reasons[0] == (
        "no valid measurement on a CPU; by rule int8 comes first, then dynamic, int4, smallest, float16, float32, as on CPUs with 8-bit "
        "dot products (AVX512-VNNI): on others int8 may gain little"
    )
    assert dict(found.others) == {
        "nano32-float32": "fits too; which is faster has not been measured",
        "nano32-int8_full": "XNNPACK leaves 39 of 99 operations, 7 partitions",
    }
    assert found.command == "python -m edge.benchmark nano32-float32.tflite nano32-dynamic.tflite --save benchmark.json"
    noisy = made.row(float32, valid=False, invalid_reasons=["too noisy"])
    made.save(tmp_path / "benchmark.json", made.benchmark([noisy]))
    found = chosen(tmp_path, "CPU")
    assert (found.file, found.basis) == ("nano32-dynamic", BY_RULE)
    assert found.reasons[1] == "the fastest of those that are not valid is nano32-float32 (2.90 ms); measure again on a quiet machine"
    assert dict(found.others)["nano32-float32"] == "no valid measurement: too noisy"
    made.save(tmp_path / "benchmark.json", made.benchmark([made.row(float32)]))
    found = chosen(tmp_path, "CPU")
    assert (found.file, found.basis, found.command) == ("nano32-float32", MEASURED, None)
    assert dict(found.others)["nano32-dynamic"] == "not measured in the run the choice is made by"


def test_without_a_file_that_fits_the_command_that_makes_one_is_named(tmp_path):
    made.save_artifact(tmp_path, made.manifest("w8a16"))
    found = {target: chosen(tmp_path, target) for target in ("CPU", "GPU", "NPU")}
    assert {target: (one.file, one.basis, one.ships) for target, one in found.items()} == dict.fromkeys(found, (None, NOTHING, False))
    assert found["CPU"].reasons == ("no file that passed its checks is whole in one XNNPACK partition",)
    assert {target: one.command.split("--quant ")[1] for target, one in found.items()} == {
        "CPU": "int8 --out .",
        "GPU": "float16 --out .",
        "NPU": "int8_full --out .",
    }


def test_a_phones_cpu_counts_as_its_gpu_does(tmp_path):
    """Where this machine has measured nothing."""
    documents = [made.manifest(recipe) for recipe in ("int8", "dynamic")]
    for document in documents:
        made.save_artifact(tmp_path, document)
    made.save(tmp_path / "emulator.json", made.device_report([made.device_row(documents[0])], "emulator"))
    assert chosen(tmp_path, "CPU").basis == BY_RULE
    rows = [made.device_row(document, median_ms=median) for document, median in zip(documents, (3.0, 2.0), strict=True)]
    made.save(tmp_path / "phone.json", made.device_report(rows))
    found = chosen(tmp_path, "CPU")
    assert (found.file, found.basis) == ("nano32-dynamic", MEASURED)
    assert found.reasons[0] == "median 2.00 ms: the fastest of 2; 4 threads, Example Nine, phone.json"
    made.save(tmp_path / "benchmark.json", made.benchmark([made.row(documents[0])]))
    assert chosen(tmp_path, "CPU").file == "nano32-int8"


def test_the_gpu_is_by_rule_until_one_is_measured(tmp_path):
    float16, int8, w8a16 = (made.manifest(recipe) for recipe in ("float16", "int8", "w8a16"))
    for document in (float16, int8, w8a16):
        made.save_artifact(tmp_path, document)
    found = chosen(tmp_path, "GPU")
    assert (found.file, found.basis) == ("nano32-float16", BY_RULE)
    assert dict(found.others)["nano32-w8a16"].startswith("refused by rule: FULLY_CONNECTED: INT16 tensor")
    software = [made.row(one, None, "gpu", software_gpu=True, median_ms=median) for one, median in ((float16, 9.0), (int8, 1.0))]
    made.save(tmp_path / "benchmark.json", made.benchmark(software))
    assert (chosen(tmp_path, "GPU").file, chosen(tmp_path, "GPU").basis) == ("nano32-float16", BY_RULE)
    emulator = [made.device_row(int8, "gpu")]
    made.save(tmp_path / "emulator.json", made.device_report(emulator, "emulator"))
    assert chosen(tmp_path, "GPU").basis == BY_RULE
    fell_back = made.device_row(float16, "gpu", used="cpu")
    made.save(tmp_path / "phone.json", made.device_report([made.device_row(int8, "gpu", median_ms=3.0), fell_back]))
    found = chosen(tmp_path, "GPU")
    assert (found.file, found.basis) == ("nano32-int8", MEASURED)
    real = [made.row(one, None, "gpu", software_gpu=False, median_ms=median) for one, median in ((float16, 2.0), (int8, 4.0))]
    made.save(tmp_path / "benchmark.json", made.benchmark(real))
    found = chosen(tmp_path, "GPU")
    assert (found.file, found.basis) == ("nano32-float16", MEASURED)
    assert dict(found.others)["nano32-int8"] == "slower: 4.00 ms"


def test_without_float16_the_gpu_gets_the_smallest(tmp_path):
    for recipe in ("float32", "int8", "dynamic"):
        made.save_artifact(tmp_path, made.manifest(recipe))
    assert chosen(tmp_path, "GPU").file == "nano32-dynamic"
    for path in tmp_path.glob("*"):
        path.unlink()
    made.save_artifact(tmp_path, made.manifest("w8a16"))
    found = chosen(tmp_path, "GPU")
    assert (found.basis, found.command) == (NOTHING, "python -m edge.convert --variant nano32 --quant float16 --out .")


def test_the_npu_gets_integers_that_passed(one):
    folder, _ = one
    found = chosen(folder, "NPU")
    assert found.file is None
    assert found.command == "python -m edge.convert --variant nano32 --quant int8_full --out ."
    made.save_artifact(folder, made.manifest("int8_full", passed=False))
    assert chosen(folder, "NPU").file is None
    assert dict(chosen(folder, "NPU").others)["nano32-int8_full"] == "failed: drift gate"
    document = made.manifest("int8_full")
    made.save_artifact(folder, document)
    assert (chosen(folder, "NPU").file, chosen(folder, "NPU").basis) == ("nano32-int8_full", BY_RULE)
    made.save(folder / "phone.json", made.device_report([made.device_row(document, "npu")]))
    found = chosen(folder, "NPU")
    assert (found.basis, found.reasons[0]) == (MEASURED, "median 3.74 ms: the only one with a valid measurement; Example Nine, phone.json")


def test_models_are_not_mixed(one):
    folder, document = one
    other = made.manifest("dynamic", variant="tiny224", random=True)
    made.save_artifact(folder, other)
    made.save(folder / "benchmark.json", made.benchmark([made.row(document), made.row(other, median_ms=0.1)]))
    found = {one.model: one for one in recommendations(read_inputs(folder)) if one.target == "CPU"}
    assert {model: (one.file, one.ships) for model, one in found.items()} == {
        "nano32, weights cifar10": ("nano32-int8", True),
        "tiny224, weights random:0 (RANDOM)": ("tiny224-dynamic.random", False),
    }


def test_weights_of_one_name_that_differ_are_two_models(one):
    folder, document = one
    other = made.changed(made.manifest("dynamic"), "weights.sha256", "ab" * 32)
    made.save_artifact(folder, other)
    assert {facts.label: facts.model for facts in read_inputs(folder).files} == {
        "nano32-int8": f"nano32, weights cifar10, SHA-256 {document['weights']['sha256'][:8]}",
        "nano32-dynamic": "nano32, weights cifar10, SHA-256 abababab",
    }
    assert len(recommendations(read_inputs(folder))) == 6


def test_cores_without_a_dot_product_are_told_what_int8_gains(tmp_path):
    """With the figures of the table that it names."""
    with (Path(__file__).parents[3] / "results" / "arm_instructions.csv").open() as file:
        totals = {(row["variant"], row["recipe"], row["cpu"]): float(row["total_instructions_m"]) for row in csv.DictReader(file)}
    for recipe, shares in rules.SHARE_ON_ARM.items():
        for core, share in zip(("cortex-a53", "cortex-a76"), shares, strict=True):
            assert share == round(totals["tiny224", recipe, core] / totals["tiny224", "float32", core], 2), (recipe, core)
    for recipe in ("float32", "int8"):
        made.save_artifact(tmp_path, made.manifest(recipe))
    reason = chosen(tmp_path, "CPU").reasons[1]
    assert "without a dot product gains less" in reason
    assert f"int8 executes {rules.SHARE_ON_ARM['int8'][0]:.2f} on a Cortex-A53" in reason
    assert "results/arm_instructions.csv" in reason
