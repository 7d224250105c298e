"""From what `edge.benchmark` is given to its document: names become turns, files are measured, the document is kept and drawn."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.artifacts import atomic_files
from edge.latency import protocol
from edge.latency.protocol import Preset
from edge.latency.result import Turn, measured
from edge.latency.subject import subject
from edge.latency.table import table as table
from edge.runtime import machine
from edge.runtime.cpu import runtime_version
from edge.runtime.process import DELEGATES
from tfvit.errors import InputError, UsageError, no_such_folder, reading, unknown_name
from tfvit.extras import require_matplotlib

KIND = "benchmark"


def benchmark(
    *,
    files: Sequence[Path],
    delegates: Sequence[str],
    threads: str,
    preset: str,
    min_runs: int | None,
    min_seconds: float | None,
    sustained: float | None,
    save: Path | None,
    plot: Path | None,
    signature: str | None = None,
    input_shape: Sequence[str] = (),
    input_data: Path | None = None,
) -> dict[str, Any]:
    """The document of CONTRACT; the arguments are those of `edge.benchmark`."""
    turns, how_long = _turns(delegates, threads), _preset(preset, min_runs, min_seconds, sustained)
    shapes = input_shapes(input_shape)
    files = [regular(file) for file in files]
    for file in files:
        _require_tflite(file)
    if len(set(files)) < len(files):
        raise UsageError("a file twice", expected="different files", received=", ".join(map(str, files)), action="name each once")
    if plot:
        _require_picture(plot)
    if save:
        atomic_files.require_replaceable(save, KIND)
    results: list[dict[str, Any]] = []
    courses: list[Any] = []
    document = {
        "kind": KIND,
        "environment": {**machine.environment(), "runtime": runtime_version()},
        "preset": dataclasses.asdict(how_long),
        "results": results,
    }
    with tempfile.TemporaryDirectory(prefix="edge-inputs-") as folder:
        subjects = [subject(file, Path(folder), signature, shapes, input_data) for file in files]
        for turn in turns:
            for result, times in measured(turn, subjects, how_long, sustained):
                results.append(result)
                courses.append(times)
            if save:  # after every turn: what stops a later one loses nothing
                atomic_files.save_document(save, document)
    if plot:
        from edge.latency import plot as plots

        drawn = plots.course(results) if sustained else plots.distributions(results, courses)
        atomic_files.save_picture(plot.parent, plot.stem, drawn)
    return document


def input_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Input -> shape of "NAME=1,224,224,3"; "" -> shape of "1,224,224,3"."""
    found = {}
    for text in texts:
        name, _, sides = text.rpartition("=")
        try:
            found[name] = tuple(int(side) for side in sides.replace("x", ",").split(","))
        except ValueError:
            raise UsageError(
                "bad shape", expected="NAME=1,224,224,3, or the sides alone", received=text, action="for example --input-shape 1,224,224,3"
            ) from None
    return found


def _turns(delegates: Sequence[str], threads: str) -> list[Turn]:
    counts = []
    for text in threads.split(","):
        if not text.strip().isdigit() or int(text) < 1:
            raise UsageError(
                "bad thread count",
                expected="--threads of at least 1, or a comma list",
                received=threads,
                action="for example --threads 1,2",
            )
        counts.append(int(text))
    for delegate in delegates:
        if delegate not in DELEGATES:
            raise unknown_name("delegate", delegate, DELEGATES)
    turns = [Turn(name, count) for name in delegates for count in ([None] if name.startswith("gpu") else counts)]
    return list(dict.fromkeys(turns))


def _preset(name: str, min_runs: int | None, min_seconds: float | None, sustained: float | None) -> Preset:
    if name not in protocol.PRESETS:
        raise unknown_name("preset", name, protocol.PRESETS)
    preset = protocol.PRESETS[name]
    runs = preset.min_runs if min_runs is None else min_runs
    seconds = preset.min_seconds if min_seconds is None else min_seconds
    minutes = 1.0 if sustained is None else sustained
    if runs < 1 or not 0 <= seconds < float("inf") or not 0 < minutes < float("inf"):
        raise UsageError(
            "nothing to measure",
            expected="--min-runs of at least 1, --min-seconds of at least 0, --sustained above 0",
            received=f"--min-runs {runs} --min-seconds {seconds:g} --sustained {minutes:g}",
            action="leave them out for 50 runs and 5 seconds",
        )
    return dataclasses.replace(preset, min_runs=runs, min_seconds=seconds)


def _require_tflite(file: Path) -> None:
    with reading(file, "a .tflite file"), file.open("rb") as opened:
        start = opened.read(8)
    if start[4:] != b"TFL3":
        raise InputError(
            "not a TFLite file", expected="a flatbuffer with the identifier TFL3", received=str(file), action="pass a .tflite file"
        )


def regular(file: Path) -> Path:
    """The path by which other processes can read a file, again and again: that of the file behind /dev/stdin.

    Raises:
        InputError: it is a pipe.
    """
    is_pipe = file.exists() and not file.is_file() and not file.is_dir()
    if not is_pipe and file.is_absolute() and file.parts[1:2] in (("dev",), ("proc",)):
        return file.resolve()
    if is_pipe:
        raise InputError(
            "a pipe is no file",
            expected="a file that several processes can read, one after the other",
            received=str(file),
            action="save it first, for example: cat > model.tflite",
        )
    return file


def _require_picture(path: Path) -> None:
    if path.suffix.lower() != ".png":
        raise UsageError("pictures are PNG", expected="--plot NAME.png", received=str(path), action="give it the ending .png")
    if not path.parent.is_dir():
        raise no_such_folder(path.parent)
    require_matplotlib("--plot")
