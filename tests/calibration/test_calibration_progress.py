"""Progress: lines, a bar, or nothing; the items pass through unchanged."""

import sys

import pytest

from calibration.progress import with_progress


@pytest.mark.parametrize(("total", "lines"), [(1, 1), (3, 3), (10, 10), (42, 10), (1000, 10)])
def test_plain_lines(total, lines, capsys):
    assert list(with_progress(range(total), total, "reading")) == list(range(total))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == lines
    assert captured.err.splitlines()[-1] == f"reading: {total}/{total}"


def test_quiet(capsys):
    assert list(with_progress(range(5), 5, "reading", quiet=True)) == list(range(5))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("rich", [True, False])
def test_terminal(rich, capsys, monkeypatch):
    if rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(with_progress(range(5), 5, "reading")) == list(range(5))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("reading: 5/5" in captured.err) is not rich
