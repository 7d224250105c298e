"""How every command meets the terminal: results on stdout, progress on stderr, errors in one place, no noise from native code."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import difflib
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TextIO

from tfvit.errors import EXIT_BUG, EXIT_CLOSED_PIPE, EXIT_INTERRUPTED, UsageError, UserError, printable
from tfvit.progress import Progress, duration
from tfvit.terminal_table import WIDTH_OF_FILES, fitted, fitted_line, new_console, print_table, printable_lines


class _Help(argparse.RawDescriptionHelpFormatter):
    """Lines of description and epilog stay lines, broken between words where they are too long. The usage has only what must be there."""

    def add_usage(self, usage: str | None, actions: Any, groups: Any, prefix: str | None = None) -> None:
        flags = argparse.Action([], "flags", nargs="?", metavar="flags")
        needed = [action for action in actions if action.required or not action.option_strings]
        super().add_usage(usage, [flags, *needed], [], prefix)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(fitted_line(indent + line, width) for line in text.strip().splitlines())


class Parser(argparse.ArgumentParser):
    """argparse with our errors: one to four lines, exit code 2, no usage dump.

    Args:
        prog: "python -m PACKAGE.COMMAND". The console script of the same command is called PACKAGE-COMMAND.
    """

    def __init__(self, prog: str, **kwargs: Any) -> None:
        script = prog.removeprefix("python -m ").replace(".", "-")
        started = os.path.splitext(os.path.basename(sys.argv[0]))[0]
        prog = script if started == script else prog
        super().__init__(prog=prog, allow_abbrev=False, formatter_class=_Help, **kwargs)
        self.add_argument("--version", action=_Version, help="print the release and exit")
        output = self.add_argument_group("output")
        output.add_argument("--json", action="store_true", help="print one JSON document on stdout instead of the table")
        output.add_argument("--quiet", action="store_true", help="no progress on stderr")
        output.add_argument("--debug", action="store_true", help="show tracebacks and what native libraries print")

    def group(self, title: str, *names: str) -> None:
        """Lists arguments that are there already under a heading of their own in the help; what is common to all commands stays last."""
        group = self.add_argument_group(title)
        for name in names:
            action = next(one for one in self._actions if name in one.option_strings or name == one.dest)
            for other in self._action_groups:
                if action in other._group_actions:
                    other._group_actions.remove(action)
            group._group_actions.append(action)
        self._action_groups.sort(key=lambda one: one.title == "output")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_args(args, namespace)

    def _print_message(self, message: str, file: Any = None) -> None:
        """argparse swallows a closed pipe."""
        (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        """Raises one error of ours. A flag that does not exist is what went wrong, even where another one is missing for it."""
        known, unknown = list(self._option_string_actions), [word.partition("=")[0] for word in self._given if word.startswith("--")]
        unknown = [word for word in unknown if len(word) > 2 and word not in known]
        if unknown:
            near = _near(unknown[0], known)
            raise UsageError(
                "unknown flag",
                expected=f"the flags of {self.prog} --help",
                received=unknown[0],
                action=f"did you mean {' or '.join(near)}?" if near else f"run {self.prog} --help",
                near=near,
            )
        raise UsageError("wrong usage", expected=f"the flags of {self.prog} --help", received=message, action=f"run {self.prog} --help")


# What other tools call a flag
_OTHER_WORDS = {
    "--quantize": "--quant", "--quantization": "--quant", "--recipe": "--quant", "--precision": "--quant", "--model-path": "--model",
    "--output-dir": "--out", "--outdir": "--out", "--directory": "--out", "--data": "--images", "--dataset": "--images",
    "--representative-dataset": "--calibration", "--num-threads": "--threads", "--num-runs": "--min-runs", "--use-gpu": "--delegate",
    "--classes": "--labels", "--project": "--app", "--verbose": "--debug", "--silent": "--quiet", "--overwrite": "--force",
}  # fmt: skip


def _near(word: str, known: Sequence[str]) -> list[str]:
    """The flags that somebody may have meant: another tool's word for one, one that begins alike, or a misspelt one."""
    other = _OTHER_WORDS.get(word)
    if other in known:
        return [str(other)]
    alike = [flag for flag in known if len(flag) > 4 and (word.startswith(flag) or flag.startswith(word))]
    return alike[:3] or difflib.get_close_matches(word, known, n=2, cutoff=0.6)


class TerminalProgress(Progress):
    """Prints a line for every stage that has ended. On a terminal, bars below the lines show the stages that are going on."""

    def __init__(self, stream: TextIO, interrupted: Callable[[], bool] = lambda: False) -> None:
        super().__init__(interrupted)
        from rich.console import Console

        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._bars = _bars(self._console) if stream.isatty() and not self._console.is_dumb_terminal else None
        self._tasks: dict[tuple[str, str], Any] = {}

    def note(self, text: str) -> None:
        self._console.print(printable(text), markup=False)

    def warn(self, text: str) -> None:
        self._console.print(f"warning: {printable(text)}", style="bold yellow", markup=False)

    def begin(self, name: str, total: int | None, subject: str) -> None:
        self._add_bar(name, subject, _label(name, total, subject), total)

    def step(self, name: str, subject: str) -> None:
        if self._bars is not None:
            self._bars.advance(self._tasks[name, subject])
            for task in self._bars.tasks:
                # what follows the last step is not counted: no 100 %, and no clock that stands still
                if task.id == self._tasks[name, subject] and task.finished:
                    task.total = task.finished_time = None

    def end(self, name: str, total: int | None, subject: str, seconds: float, finished: bool) -> None:
        super().end(name, total, subject, seconds, finished)
        self._remove_bar(name, subject)
        if finished:
            self.note(f"{_label(name, total, subject)}: {seconds:.1f} s")

    @contextlib.contextmanager
    def whole(self, steps: int) -> Iterator[Callable[[str, float, float | None], None]]:
        if steps < 2:
            yield lambda text, share, seconds_left: None
            return
        done = 0

        def ended(text: str, share: float, seconds_left: float | None) -> None:
            nonlocal done
            done += 1
            self.note(f"{done} of {steps}: {text}{f', about {duration(seconds_left)} left' if seconds_left else ''}")
            if self._bars is not None:
                until = time.monotonic() + (seconds_left or 0)
                self._bars.update(self._tasks["", ""], description=f"{done} of {steps}", completed=share, until=until)

        self._add_bar("", "", f"0 of {steps}", 1.0, until=None)
        try:
            yield ended
        finally:
            self._remove_bar("", "")

    def _add_bar(self, name: str, subject: str, label: str, total: float | None, **fields: float | None) -> None:
        if self._bars is not None:
            self._remove_bar(name, subject)
            self._tasks[name, subject] = self._bars.add_task(label, total=total, **fields)
            self._bars.start()

    def _remove_bar(self, name: str, subject: str) -> None:
        if self._bars is not None and (name, subject) in self._tasks:
            self._bars.remove_task(self._tasks.pop((name, subject)))
            if not self._tasks:
                self._bars.stop()


def _bars(console: Any) -> Any:
    """rich's bars; a finished bar disappears. A task with a field `until` counts down to it, in place of rich's estimate."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.table import Column
    from rich.text import Text

    class Left(TimeRemainingColumn):
        def render(self, task: Any) -> Text:
            if "until" not in task.fields:
                return super().render(task)
            until = task.fields["until"]
            left = "" if until is None else str(datetime.timedelta(seconds=max(0, round(until - time.monotonic()))))
            return Text(left, style="progress.remaining")

    most = max(20, console.width - 32)  # the numbers and a short bar stay legible
    label = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, min_width=min(40, most), max_width=most))
    return Bars(label, BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), Left(), console=console, transient=True)


def _label(name: str, total: int | None, subject: str) -> str:
    return printable(f"{subject}: {name}" if subject else name) + (f" ({total})" if total else "")


class _Version(argparse.Action):
    """Prints the release; looked up only where it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *arguments: Any) -> NoReturn:
        from tfvit import __version__

        print(f"tfvit {__version__}")
        parser.exit()


class Terminal:
    """Prints the results of a command, and holds its progress."""

    def __init__(self, arguments: argparse.Namespace, stderr: TextIO, interrupted: Callable[[], bool]) -> None:
        self._json = arguments.json
        self.progress: Progress = Progress(interrupted) if arguments.quiet else TerminalProgress(stderr, interrupted)

    def result(self, document: dict[str, Any], columns: Sequence[str], rows: Sequence[Sequence[str]], closing: Sequence[str] = ()) -> None:
        """Prints the document with --json, else the table and its closing lines. On a narrow terminal each row becomes a paragraph."""
        if self._json:
            self.text(document, "")
            return
        console = new_console(file=sys.stdout)
        if not sys.stdout.isatty():
            console.width = WIDTH_OF_FILES
        print_table(console, columns, rows, closing)

    def text(self, document: dict[str, Any], text: str) -> None:
        """Prints the document with --json, else the text."""
        if self._json:
            print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
        else:
            print(fitted(printable_lines(text), sys.stdout))


def run(parser: Parser, command: Callable[[argparse.Namespace, Terminal], int], argv: Sequence[str] | None) -> int:
    """Parses the arguments and runs a command. An error of the user becomes one short message and the exit code."""
    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    if hasattr(sys.stdout, "reconfigure"):  # for file names that are no UTF-8; the escape is valid in JSON
        sys.stdout.reconfigure(errors="backslashreplace")
    with _private_stderr(debug) as (stderr, native_log), _interrupts() as interrupted:
        try:
            try:
                arguments = parser.parse_args(argv)
            except SystemExit as stop:  # argparse has printed its help
                sys.stdout.flush()
                return int(stop.code or 0)
            code = command(arguments, Terminal(arguments, stderr, interrupted))
            sys.stdout.flush()  # here, where a closed pipe is still heard of
            return code
        except (Exception, KeyboardInterrupt) as error:
            if not interrupted() and not isinstance(error, KeyboardInterrupt):
                return _report(error, stderr, native_log, debug)
            print("interrupted: finished files are kept, nothing is half-written", file=stderr)
            return EXIT_INTERRUPTED


def _report(error: Exception, stderr: TextIO, native_log: Callable[[], str], debug: bool) -> int:
    """Prints the error and returns its exit code."""
    if isinstance(error, UserError):
        if debug:
            traceback.print_exception(error, file=stderr)
        print(fitted(f"error: {error}", stderr), file=stderr)
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
        return EXIT_CLOSED_PIPE
    print(native_log(), end="", file=stderr)
    traceback.print_exception(error, file=stderr)
    print("error: this is a bug; please report it with the lines above", file=stderr)
    return EXIT_BUG


@contextlib.contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Remembers Ctrl-C, since native code may turn the KeyboardInterrupt into another exception."""
    seen = []

    def interrupt(number: int, frame: Any) -> NoReturn:
        seen.append(number)
        raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield lambda: bool(seen)
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def _private_stderr(debug: bool) -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """Hides what TensorFlow and the runtimes write to file descriptor 2: dozens of lines that help no user. Gives the real stderr, and a
    function that returns the hidden text."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if debug:
        yield sys.stderr, str
        return
    try:
        saved = os.dup(2)
    except OSError:  # no stderr at all
        yield sys.stderr, str
        return
    sys.stderr.flush()
    with os.fdopen(saved, "w", buffering=1, errors="replace") as stream, tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)

        def text() -> str:
            sink.seek(0)
            return sink.read().decode(errors="replace")

        try:
            yield stream, text
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
