"""Which file is for which target by its manifest alone, and that edge.bundle and edge.report say the same of it."""

from itertools import combinations

import pytest

from edge.android import package
from edge.report import rules
from edge.report.inputs import read_inputs
from edge.report.recommend import BY_RULE, NOTHING, recommendations
from tests.edge import report_documents as made


def _fitting(target, *manifests):
    return rules.fitting(target, {manifest["name"]: manifest for manifest in manifests})


@pytest.mark.parametrize("random", [False, True])
def test_bundle_and_report_agree_where_nothing_is_measured(tmp_path, random):
    """Of every set of recipes: what a bundle names is what the report names by rule."""
    for number in range(1, len(made.RECIPES) + 1):
        for recipes in combinations(made.RECIPES, number):
            folder = tmp_path / "-".join(recipes)
            manifests = {document["name"]: document for document in (made.manifest(recipe, random=random) for recipe in recipes)}
            for document in manifests.values():
                made.save_artifact(folder, document)
            bundled = {target: choice and choice["name"] for target, choice in package.recommended(manifests).items()}
            reported = {one.target.lower(): one for one in recommendations(read_inputs(folder))}
            assert bundled == {target: one.file for target, one in reported.items()}, recipes
            assert {one.basis for one in reported.values()} <= {BY_RULE, NOTHING}
            assert {target for target, one in reported.items() if one.ships} == (set() if random else {t for t, f in bundled.items() if f})


def test_cpus_get_the_recipe_that_is_fastest_by_earlier_measurements():
    manifests = [made.manifest(recipe) for recipe in made.RECIPES]
    names = ["nano32-int8", "nano32-dynamic", "nano32-float16", "nano32-float32"]
    assert _fitting(rules.CPU, *manifests) == names
    broken = made.changed(manifests[2], "delegates.xnnpack.partitions", 2)
    assert _fitting(rules.CPU, *manifests[:2], broken, *manifests[3:]) == names[1:]
    assert rules.why_not(rules.CPU, broken) == "XNNPACK leaves 0 of 99 operations, 2 partitions"


def test_position_tables_leave_a_file_whole(tmp_path):
    """int8 files of V2 from windows of 16 x 16 on: their look-ups are computed once, when the file is loaded (decision 0022)."""
    tables = {"delegated_ops": 833, "total_ops": 844, "partitions": 1, "left_over": {"CONCATENATION": 1, "GATHER": 10}}
    int8 = made.changed(made.manifest("int8"), "delegates.xnnpack", tables)
    assert rules.is_whole_on_xnnpack(int8)
    assert _fitting(rules.CPU, int8, made.manifest("float16")) == ["nano32-int8", "nano32-float16"]
    for document in (int8, made.manifest("float16")):
        made.save_artifact(tmp_path, document)
    found = next(one for one in recommendations(read_inputs(tmp_path)) if one.target == rules.CPU)
    words = "whole in one XNNPACK partition (833 of 844 operations, the others are computed once, when the file is loaded)"
    assert found.file == "nano32-int8"
    assert words in found.reasons
    more = made.changed(int8, "delegates.xnnpack.left_over", {"CONCATENATION": 1, "GATHER": 9, "GELU": 1})
    assert rules.why_not(rules.CPU, more) == "XNNPACK leaves 11 of 844 operations, 1 partition"


def test_gpus_get_float16_or_the_smallest():
    manifests = [made.manifest(recipe) for recipe in made.RECIPES]
    assert _fitting(rules.GPU, *manifests)[:2] == ["nano32-float16", "nano32-dynamic"]
    assert rules.why_not(rules.GPU, manifests[5]) == "refused by rule: FULLY_CONNECTED: INT16 tensor and 5 more"
    wrong = made.changed(manifests[1], "delegates.gpu.verdict", "wrong")
    assert rules.why_not(rules.GPU, wrong) == "wrong by rule: no reason"


def test_npus_get_integers():
    manifests = [made.manifest(recipe) for recipe in made.RECIPES]
    assert _fitting(rules.NPU, *manifests) == ["nano32-int8_full"]
    assert [rules.why_not(rules.NPU, manifest) for manifest in manifests[3:]] == [
        "not integers only",
        None,
        "8 operations left to the CPU by rule: GELU: 16-bit GELU",
    ]


def test_an_integer_file_that_the_compiler_would_cut_is_not_for_npus():
    left = {"verdict": "partly", "basis": "", "on_cpu": [{"op": "MEAN", "operations": 34, "reason": "a grid"}]}
    cut = made.changed(made.manifest("int8_full"), "delegates.npu", left)
    assert _fitting(rules.NPU, cut) == []
    assert rules.why_not(rules.NPU, cut) == "34 operations left to the CPU by rule: MEAN: a grid"
    old = made.manifest("int8_full")
    del old["delegates"]["npu"]
    assert rules.why_not(rules.NPU, old) == "made before NPUs were looked at; convert it again"


def test_of_one_recipe_the_smallest_then_the_most_exact():
    small, exact, vague = (made.manifest("int8", name, logits_snr_db=snr) for name, snr in (("c", None), ("b", 38.0), ("a", 30.0)))
    small["file"]["size_bytes"] -= 1
    for target in (rules.CPU, rules.GPU):
        assert _fitting(target, vague, exact, small) == ["c", "b", "a"]
