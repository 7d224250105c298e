"""What a phone may say of its benchmark instead of a status."""

import json

import pytest

from edge.android.phone_status import parse_status


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": -1}, {"tasks": True}, {"tasks": "4"}, {"finished": None}, {"share": "1"}, {"share": None}, {"share": float("nan")},
        {"run": 1}, {"current": 3}, {"ending": "over"}, {"failures": [1]}, {"schema_version": 2}, {"kind": "status"},
    ],
)  # fmt: skip
def test_statuses_that_are_refused(change):
    good = {
        "kind": "device_status",
        "schema_version": 1,
        "run": "r",
        "tasks": 4,
        "finished": 1,
        "share": 0.3,
        "current": None,
        "ending": None,
    }
    assert parse_status(json.dumps(good)).share == 0.3
    with pytest.raises(ValueError, match=r"no |not JSON|that this command does not know"):
        parse_status(json.dumps({**good, **change}))


def test_shares_are_kept_between_0_and_1():
    good = {"kind": "device_status", "schema_version": 1, "run": "r", "tasks": 4, "finished": 1, "current": None, "ending": None}
    assert [parse_status(json.dumps({**good, "share": share})).share for share in (-1, 7, 1e308)] == [0.0, 1.0, 1.0]
