"""Every kind of foreign file, made small: what is said of it is what happens, and results/foreign_files.csv says the same."""

import csv

import pytest

from benchmarks import foreign_files, foreign_kinds

pytestmark = pytest.mark.whole

KINDS = [*foreign_kinds.FILES, *foreign_kinds.PROBES]
# Of a row, what does not depend on the machine
SAID = ("kind", "operations", "needs", "inputs", "cpu", "xnnpack_partitions", "xnnpack_by_rule", "gpu_by_rule")


@pytest.mark.parametrize("kind", foreign_kinds.FILES)
def test_what_is_said_of_a_file_is_what_happens(tmp_path, kind):
    found = foreign_files.row(kind, tmp_path, on_the_gpu=False)
    print(found)
    assert foreign_files.problems(found) == []
    assert found["cpu"] == ("refused" if kind == "custom operation" else "ok")


@pytest.mark.slow
@pytest.mark.parametrize("kind", foreign_kinds.PROBES)
def test_what_is_said_of_an_operation_is_what_happens(tmp_path, kind):
    found = foreign_files.row(kind, tmp_path, on_the_gpu=False)
    print(found)
    assert foreign_files.problems(found) == []


def test_the_table_has_every_kind_and_nothing_wrong():
    rows = list(csv.DictReader(foreign_files.CSV.open(encoding="utf-8")))
    assert [row["kind"] for row in rows] == KINDS
    assert len(rows) >= 70
    assert {row["kind"]: foreign_files.problems(row) for row in rows if foreign_files.problems(row)} == {}
    assert {row["kind"] for row in rows if row["gpu_measured"] == "wrong"} == {"no operation"}, "the delegate itself is"
    assert {row["gpu_measured"] for row in rows} <= {"whole", "refused", "wrong"}


def test_a_wrong_verdict_is_a_problem():
    right = {"cpu": "ok", "gpu_measured": "whole", "gpu_by_rule": "whole", "xnnpack_by_rule": "1", "xnnpack_partitions": "1"}
    assert foreign_files.problems(right) == []
    for field, value in (("cpu", "wrong"), ("gpu_measured", "refused"), ("gpu_by_rule", "refused"), ("xnnpack_by_rule", "2")):
        assert len(foreign_files.problems({**right, field: value})) == 1
    assert foreign_files.problems({**right, "gpu_by_rule": "unknown", "xnnpack_by_rule": "unknown"}) == []
