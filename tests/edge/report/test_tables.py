"""The page's tables as data: what a column makes of a value, and the cells that no other test looks at."""

import pytest

from edge.report import tables
from edge.report.elements import BAD, GOOD, NOTHING, WARN, Cell, Column, table
from edge.report.inputs import read_inputs
from tests.edge import report_documents as made


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        (Column("", "words"), Cell("seven")),
        (Column("", "nothing", ".2f"), Cell(NOTHING)),
        (Column("", "nothing.inside", ".2f"), Cell(NOTHING)),
        (Column("", "share.value", ".1f", 100), Cell("50.0", 50.0)),
        (Column("", "share", ".1f", 100), Cell("50.0 (25.0 to 75.0)", 50.0)),
        (Column("", lambda row: row["share"]["low"], ".3g"), Cell("0.25", 0.25)),
        (Column("", lambda row: Cell("as it is", 3.0, BAD), ".2f"), Cell("as it is", 3.0, BAD)),
    ],
)
def test_what_a_column_shows(column, cell):
    assert column.cell({"words": "seven", "nothing": None, "share": {"value": 0.5, "low": 0.25, "high": 0.75}}) == cell


def test_a_misspelt_path_is_a_bug_and_no_dash():
    with pytest.raises(KeyError):
        Column("", "share.middle").cell({"share": {}})
    with pytest.raises(AttributeError):
        Column("", "lable").cell(Cell("a"))


def test_columns_with_a_form_are_numbers():
    made_up = table("", [Column("a", "a"), Column("b", "b", ".0f")], [{"a": "x", "b": 1}])
    assert made_up.columns == (("a", False), ("b", True))
    assert made_up.rows == ((Cell("x"), Cell("1", 1.0)),)


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
