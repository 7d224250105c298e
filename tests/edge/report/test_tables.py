"""The report's tables: the cells that no other test looks at."""

import pytest

from edge.report import tables
from edge.report.elements import BAD, GOOD, NOTHING, WARN, Cell
from edge.report.inputs import read_inputs
from tests.edge import report_documents as made


def _column(table, title):
    index = [name for name, _ in table.columns].index(title)
    return [row[index] for row in table.rows]


@pytest.mark.parametrize(
    ("fields", "validity", "ratio"),
    [
        ({}, Cell("valid", mark=GOOD), "0.431 (0.427 to 0.435)"),
        ({"ratio_low": 0.4, "ratio_high": 0.4}, Cell("valid", mark=GOOD), "1"),
        ({"ratio_low": None}, Cell("valid", mark=GOOD), NOTHING),
        ({"software_gpu": True}, Cell("software GPU", mark=WARN), NOTHING),
        ({"valid": False}, Cell("not valid", mark=WARN), "0.431 (0.427 to 0.435)"),
        ({"status": "wrong"}, Cell("wrong", mark=BAD), "0.431 (0.427 to 0.435)"),
        ({"status": "refused"}, Cell("refused", mark=WARN), "0.431 (0.427 to 0.435)"),
    ],
)
def test_measurements_of_this_side(tmp_path, fields, validity, ratio):
    document = made.manifest("int8")
    made.save_artifact(tmp_path, document)
    made.save(tmp_path / "benchmark.json", made.benchmark([made.row(document, **fields)]))
    (facts,) = read_inputs(tmp_path).files
    table = tables.host_table([(facts, facts.host[0])], "")
    assert _column(table, "valid") == [validity]
    assert [cell.text for cell in _column(table, "ratio to nano32-int8")] == [ratio]


def test_refusals_are_grouped_and_long_lists_end(tmp_path):
    made.save_artifact(tmp_path, made.manifest("w8a16"))
    inputs = read_inputs(tmp_path)
    (row,) = tables.refusals_table(inputs).rows
    layers = ", ".join(f"stage1_block{index}/mlp/fc1" for index in range(3))
    assert [cell.text for cell in row] == ["nano32-w8a16", "FULLY_CONNECTED", "6", "INT16 tensor", f"{layers} and 3 more"]
    made.save_artifact(tmp_path / "whole", made.manifest("float32"))
    assert tables.refusals_table(read_inputs(tmp_path / "whole")) is None
