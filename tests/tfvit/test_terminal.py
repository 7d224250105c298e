"""What a user sees while a command works: lines in a file, bars below them on a terminal."""

import argparse
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tfvit import terminal
from tfvit.errors import EXIT_CLOSED_PIPE, UsageError
from tfvit.progress import Progress, duration
from tfvit.terminal import Parser, Terminal, TerminalProgress
from tfvit.terminal_table import fitted

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=[True, False], ids=["terminal", "file"])
def stream(request, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    stream = io.StringIO()
    stream.isatty = lambda: request.param
    return stream


def _shown(stream) -> str:
    """Without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_durations_in_words():
    assert [duration(seconds) for seconds in (3.4, 89, 91, 3540, 7500)] == ["3 s", "89 s", "2 min", "59 min", "2 h 5 min"]


def test_the_whole_is_shown(stream):
    progress = TerminalProgress(stream)
    with progress.whole(3) as whole:
        for _ in range(12):
            with progress.stage("calibrate", total=1, subject="tiny224") as advance:
                advance()
        whole("tiny224-int8 written", 0.5, 720.0)
        progress.end("quantize", None, "small224", 2.5, finished=True)
        whole("small224-int8 failed", 1.0, None)
    shown = _shown(stream)
    assert "1 of 3: tiny224-int8 written, about 12 min left" in shown
    assert "2 of 3: small224-int8 failed" in shown
    assert progress.seconds("small224") == {"quantize": 2.5}
    assert "small224: quantize: 2.5 s" in shown
    assert ("0 of 3  " in shown) == stream.isatty()


def test_what_is_going_on_is_shown_on_a_terminal(stream):
    """In this process and in others, one below the other; in a file a line says what has ended."""
    progress = TerminalProgress(stream)
    progress.begin("export", None, "a")
    with progress.stage("calibrate", total=2, subject="b") as advance:
        advance()
        if progress._bars is not None:
            progress._bars.refresh()
        going_on = _shown(stream)
        advance()
    progress.end("export", None, "a", 1.0, finished=True)
    if stream.isatty():
        assert re.search(r"a: export +━+ +0:00:0\d", going_on)
        assert re.search(r"b: calibrate \(2\) +━+.* 50% 0:00:0\d", going_on)
        assert not progress._bars.live.is_started
    else:
        assert going_on == ""
        assert re.fullmatch(r"b: calibrate \(2\): 0.\d s\na: export: 1.0 s\n", _shown(stream))


def test_what_follows_the_last_step_is_not_called_done(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    stream.isatty = lambda: True
    progress = TerminalProgress(stream)
    with progress.stage("quantize", total=1, subject="a") as advance:
        advance()
        task = progress._bars.tasks[0]
        before = task.elapsed
        progress._bars.refresh()
        assert (task.total, task.finished) == (None, False)
        assert task.elapsed > before
    assert "100%" not in _shown(stream)


def test_the_time_that_is_left_is_counted_down(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    stream, now = io.StringIO(), [1000.0]
    stream.isatty = lambda: True
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    progress = TerminalProgress(stream)
    with progress.whole(3) as whole:
        whole("a", 0.5, 100.0)
        for _ in range(2):
            now[0] += 60
            progress._bars.refresh()
    assert [left for left in ("0:00:40", "0:00:00") if not re.search(rf"1 of 3 .*0:00:0\d {left}", _shown(stream))] == []


def test_a_stage_that_fails_is_not_called_done(stream):
    progress = TerminalProgress(stream)
    with pytest.raises(ValueError, match="so"), progress.stage("quantize", subject="a"):
        raise ValueError("so")
    assert "a: quantize: " not in _shown(stream)
    assert list(progress.seconds("a")) == ["quantize"]
    assert progress._bars is None or not progress._bars.live.is_started


def test_a_terminal_that_can_only_print_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = io.StringIO()
    stream.isatty = lambda: True
    with TerminalProgress(stream).stage("read"):
        pass
    assert re.fullmatch(r"read: 0.\d s\n", stream.getvalue())


def test_a_swallowed_interrupt_ends_the_stage_unfinished():
    ended = []

    class Told(Progress):
        def end(self, name, total, subject, seconds, finished):
            ended.append((name, finished))

    with pytest.raises(KeyboardInterrupt), Told(interrupted=lambda: True).stage("export"):
        pass
    assert ended == [("export", False)]


@pytest.mark.parametrize(("width", "as_table"), [(60, False), (120, True)])
def test_no_figure_is_broken_however_narrow_the_terminal(monkeypatch, width, as_table):
    stdout = io.StringIO()
    stdout.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    columns = ("file", "MB", "SNR dB", "same top-1", "max abs err", "XNNPACK ops", "status")
    rows = [("nano32-float32.random.tflite", "10.7", "124.0", "100.0%", "2.4e-07", "427/427", "written"), ("[b]", *[""] * 5, "FAILED")]
    Terminal(argparse.Namespace(json=False, quiet=True), io.StringIO(), lambda: False).result({}, columns, rows, ["the end"])
    shown = _shown(stdout)
    print(shown)
    assert all(cell in shown for row in rows for cell in row)
    assert ("─" in shown) == as_table
    assert ("SNR dB 124.0" in shown) == (not as_table)
    assert max(map(len, shown.splitlines())) <= width
    assert shown.endswith("the end\n")


@pytest.mark.parametrize("what", ["table", "text", "help"])
def test_a_closed_pipe_is_no_failed_check(what):
    """Whoever reads wanted no more: the exit code of a program that SIGPIPE ends, without a word."""
    code = """
import sys
from tfvit.terminal import Parser, run
def command(arguments, terminal):
    rows = [("x" * 60, str(number)) for number in range(3000)]
    if sys.argv[1] == "table":
        terminal.result({}, ("name", "number"), rows)
    else:
        terminal.text({}, "\\n".join(name for name, _ in rows))
    return 0
parser = Parser(prog="python -m example", epilog="x" * 200_000)
sys.exit(run(parser, command, ["--help"] if sys.argv[1] == "help" else []))
"""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code, what], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (EXIT_CLOSED_PIPE, b"")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--quantize", "int8"], "did you mean --quant?"),
        (["--quan", "int8"], "did you mean --quant?"),
        (["--imagse", "x"], "did you mean --images?"),
        (["--output-dir=x"], "did you mean --out?"),
        (["--nothing-like-it"], "--help"),
    ],
)
def test_a_wrong_flag_gets_the_likely_right_one(given, words):
    """Even where a flag that is needed is missing for it."""
    parser = Parser(prog="python -m example")
    for flag in ("--quant", "--images", "--out"):
        parser.add_argument(flag, required=flag == "--quant")
    with pytest.raises(UsageError) as caught:
        parser.parse_args(given)
    assert words in caught.value.action
    assert caught.value.received == given[0].partition("=")[0]


def test_groups_hold_what_they_are_given_and_the_common_flags_come_last():
    parser = Parser(prog="python -m example", description="word " * 40, epilog="  python -m example\n" + "word " * 40)
    parser.add_argument("file")
    parser.add_argument("--quant", default="int8", help="recipe (default: %(default)s)")
    parser.group("into what", "file", "--quant")
    text = parser.format_help()
    print(text)
    headings = re.findall(r"^([a-z ]+):$", text, re.MULTILINE)
    assert headings == ["options", "into what", "output"]
    assert "recipe (default: int8)" in text[text.index("into what:") : text.index("output:")]
    assert max(map(len, text.splitlines())) <= int(os.environ.get("COLUMNS", "80"))


def test_lines_for_a_terminal_are_broken_between_words(stream):
    line = "  reason: " + "word " * 30 + "artifacts/a-very-long-path/" + "x" * 90
    shown = fitted(f"{line}\n| {line} |", stream)
    print(shown)
    if not stream.isatty():
        assert shown == f"{line}\n| {line} |"
    else:
        *lines, table = shown.split("\n")
        assert all(len(one) <= 80 or " " not in one.strip() for one in lines)
        assert " ".join(" ".join(lines).split()) == " ".join(line.split())
        assert table == f"| {line} |"  # a Markdown table stays a table
