"""The errors that many places raise."""

import pytest

from tfvit.errors import InputError, WeightsError, first_line, in_the_way, no_such_folder, reading


def test_a_file_that_is_not_there_is_named_once(tmp_path):
    path = tmp_path / "missing.tflite"
    with pytest.raises(InputError) as caught, reading(path, "a .tflite file"):
        path.read_bytes()
    assert str(caught.value).splitlines() == [
        "unreadable file",
        "  expected: a .tflite file",
        f"  received: {path}: No such file or directory",
        "  do: check the path",
    ]
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_what_is_in_a_file_is_said_in_one_line():
    with pytest.raises(WeightsError, match="unreadable weights file") as caught, reading("a", "b", "weights file", kind=WeightsError):
        raise ValueError("first\nsecond")
    assert caught.value.received == "a: first"


def test_a_bug_while_reading_stays_a_bug():
    with pytest.raises(KeyError), reading("a", "b"):
        raise KeyError("c")


def test_the_first_line_of_an_error():
    assert [first_line(error) for error in (ValueError(" a\nb"), ValueError(), KeyError("k"))] == ["a", "ValueError", "'k'"]


def test_places_that_cannot_be_written_to(tmp_path):
    assert "create it" in no_such_folder(tmp_path).action
    error = in_the_way(tmp_path / "a.json", "an older report of ours")
    assert (error.summary, error.expected) == ("another file is in the way", "no a.json, or an older report of ours")
