"""What edge.validate prints of a document."""

import pytest

from edge.validation.table import table
from tests.edge import report_documents as made


@pytest.mark.parametrize(
    ("proved", "passed", "last"),
    [
        (True, True, "passed: nano32-int8 is within its limits, proved on these images"),
        (False, True, "within its limits, NOT PROVED: nano32-int8 on 5000 images; more images would tell"),
        (None, True, "passed: nano32-int8 is within its limits"),  # random weights: nothing to prove
        (False, False, "FAILED: top-1 agreement 90.0 % is below 97 %"),
    ],
)
def test_a_verdict_says_whether_it_is_proved(proved, passed, last):
    document = made.validation(made.manifest("int8"))
    failures = [] if passed else ["top-1 agreement 90.0 % is below 97 %"]
    document["gate"] |= {"proved": proved, "passed": passed, "failures": failures}
    document["meaning"] = "classes"
    assert table(document)[2][-1] == last


def test_numbers_have_no_best_class():
    document = made.validation(made.manifest("int8"), labelled=False)
    document["meaning"] = "features"
    for difference in document["differences"]:
        difference["metrics"] |= {"top1_agreement": None, "kl": None}
    columns, rows, _ = table(document)
    assert "same top-1" not in columns
    assert all(row[2] in ("", "100%") and row[6] == "" for row in rows)
