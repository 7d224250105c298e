"""What a column makes of a value."""

import pytest

from edge.report.elements import BAD, NOTHING, Cell, Column, table


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
