"""`python -m edge.benchmark FILE...`: the latency an app will see, of several files side by side, and whether to believe it."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edge.drawing import require_matplotlib
from edge.runtime.process import DELEGATES, OK, UNAVAILABLE
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE, InputError, UsageError, unknown_name
from tfvit.hashing import file_sha256
from tfvit.terminal import Parser, Terminal, run

WRONG = "wrong"
# Outputs against another delegate's, |difference| / |output| in the L2 norm. In float32 only the order of additions differs; float16 and
# integers round differently in every kernel, which a noise image shows more than a photo. Broken files are off by 0.5 and more.
MOST_DIFFERENCE, MOST_ROUNDED_DIFFERENCE = 1e-3, 0.15
_KIND = "benchmark"
_PRESETS = ("quick", "default", "mlperf")

_EPILOG = """delegates:
{delegates}

A file is measured in a process of its own, files take turns in rounds, and what is timed is one inference with its outputs read back.
exit codes: 0 measured, 1 a file is refused or computed wrongly by a delegate, 2 wrong usage, 3 unusable file, or no GPU where asked for
"""


def parser() -> Parser:
    """The command line of CONTRACT."""
    delegates = "\n".join(f"  {name:<10} {what}" for name, what in DELEGATES.items())
    parser = Parser(prog="python -m edge.benchmark", description=__doc__, epilog=_EPILOG.format(delegates=delegates))
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".tflite files; ratios are to the first")
    parser.add_argument("--delegate", action="append", help=f"{', '.join(DELEGATES)}; may be given several times (cpu)")
    parser.add_argument("--threads", default="1", help="of CPU delegates, a comma list (%(default)s)")
    parser.add_argument(
        "--preset", choices=_PRESETS, default="default", help="how long to measure (%(default)s); mlperf: 1024 runs and 60 s, p90"
    )
    parser.add_argument("--min-runs", type=int, help="timed inferences at least (50)")
    parser.add_argument("--min-seconds", type=float, help="of timed inference at least (5)")
    parser.add_argument(
        "--sustained", type=float, metavar="MINUTES", help="run each file alone without a pause for so long, and show the course"
    )
    parser.add_argument("--save", type=Path, metavar="FILE.json", help="write the JSON document there as well; edge.report reads it")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the distributions, or the course, as a PNG")
    return parser


@dataclasses.dataclass(frozen=True)
class _Group:
    """Files that take turns: the same delegate and threads."""

    delegate: str
    threads: int | None


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _benchmark, argv)


def _benchmark(arguments: argparse.Namespace, terminal: Terminal) -> int:
    groups = _groups(arguments.delegate or ["cpu"], arguments.threads)
    for file in arguments.files:
        _require_tflite(file)
    if len(set(arguments.files)) < len(arguments.files):
        raise UsageError("a file twice", expected="different files", received=", ".join(map(str, arguments.files)), action="name each once")
    if arguments.plot:
        _require_picture(arguments.plot)
    from edge.artifacts import atomic_files
    from edge.latency import protocol
    from edge.runtime import machine

    if arguments.save:
        atomic_files.require_replaceable(arguments.save, _KIND)

    preset = _preset(protocol, arguments)
    results, courses = [], []
    for group in groups:
        for result, times in _measured(group, arguments, preset, terminal):
            results.append(result)
            courses.append(times)
    document = {
        "kind": _KIND,
        "environment": {**machine.environment(), **_runtime()},
        "preset": dataclasses.asdict(preset),
        "results": results,
    }
    if arguments.save:
        atomic_files.save_document(arguments.save, document)
    if arguments.plot:
        from edge.latency import plot

        drawn = plot.course(results) if arguments.sustained else plot.distributions(results, courses)
        atomic_files.save_picture(arguments.plot.parent, arguments.plot.stem, drawn)
    return _report(document, preset, terminal, demanded_gpu=any(name.startswith("gpu") for name in arguments.delegate or ()))


def _measured(group: _Group, arguments: argparse.Namespace, preset: Any, terminal: Terminal) -> Iterator[tuple[dict[str, Any], Any]]:
    """One result of CONTRACT for every file, and its times (None where it did not run)."""
    from edge.latency import protocol
    from edge.runtime import machine
    from edge.runtime.process import LatencyProcess

    words = f"{group.delegate}, {group.threads} thread{'s' if group.threads != 1 else ''}" if group.threads else group.delegate
    with contextlib.ExitStack() as stack:
        processes, differences = [], []
        with terminal.progress.stage("load", total=len(arguments.files), subject=words) as advance:
            for file in arguments.files:
                process = stack.enter_context(LatencyProcess(file, group.delegate, group.threads or 1))
                processes.append(process)
                differences.append(difference_from(_counterpart(group.delegate), process, file) if process.loaded.status == OK else None)
                advance()
        runners = [process for process in processes if process.loaded.status == OK]
        times: dict[int, Any] = {}
        loads: dict[int, Any] = {}
        label = f"measure {len(runners)} files in turns" if len(runners) > 1 else "measure"
        if runners and arguments.sustained:
            for process in runners:
                meter = machine.LoadMeter([process.pid])
                with _shares(terminal, "run without a pause", f"{arguments.files[processes.index(process)].stem}, {words}") as on_share:
                    times[process.pid] = protocol.sustained(process, 60.0 * arguments.sustained, on_share)
                loads[process.pid] = meter.cores()
        elif runners:
            meter = machine.LoadMeter([process.pid for process in runners])
            with _shares(terminal, label, words) as on_share:
                measured = protocol.interleaved(runners, preset, on_share)
            times = {process.pid: one for process, one in zip(runners, measured, strict=True)}
            loads = dict.fromkeys(times, meter.cores())
        first = times.get(processes[0].pid)
        for file, process, difference in zip(arguments.files, processes, differences, strict=True):
            own = times.get(process.pid)
            result = _result(file, group, process, difference, own, preset, loads.get(process.pid))
            ratio: tuple[float | None, ...] = (None, None, None)
            if own is not None and first is not None and not process.loaded.software_gpu and not arguments.sustained:
                ratio = protocol.ratio(own, first)
            result |= dict(zip(("ratio", "ratio_low", "ratio_high"), ratio, strict=True))
            if arguments.sustained and own is not None:
                result |= {"curve": protocol.curve(own), "slowdown": protocol.drift_over_rounds(own)}
            yield result, own


def _counterpart(delegate: str) -> str:
    """Whose outputs a delegate's are compared with."""
    return "builtin" if delegate == "cpu" else "cpu"


def _result(file: Path, group: _Group, process: Any, difference: Any, times: Any, preset: Any, load: Any) -> dict[str, Any]:
    from edge.artifacts import atomic_files
    from edge.latency import protocol

    loaded, ended = process.loaded, {}
    status, reason = loaded.status, loaded.reason
    if times is not None:
        ended = process.finish()
        float32 = not ended["quantized"] and group.delegate != "gpu"
        most = MOST_DIFFERENCE if float32 else MOST_ROUNDED_DIFFERENCE
        if difference is not None and not difference <= most:  # NaN is not
            status, reason = (
                WRONG,
                f"outputs differ from {_counterpart(group.delegate)}'s by {difference:.2g} of their size, at most {most:g}",
            )
    return {
        "file": atomic_files.utf8_name(file),
        "sha256": file_sha256(file),
        "size_bytes": file.stat().st_size,
        "random_weights": _has_random_weights(file),
        "delegate": group.delegate,
        "ran_on": loaded.ran_on,
        "threads": group.threads,
        "status": status,
        "reason": reason,
        "refused": [{"op": operation, "reason": why} for operation, why in loaded.refused],
        "software_gpu": loaded.software_gpu,
        "init_ms": loaded.init_ms,
        "first_inference_ms": loaded.first_inference_ms,
        "compared_with": None if difference is None else _counterpart(group.delegate),
        "relative_l2_difference": difference if difference is not None and math.isfinite(difference) else None,
        "load": load,
        **(protocol.document(times, preset, load) if times is not None else protocol.nothing_measured()),
        **{name: ended.get(name) for name in ("peak_mem_mb", "delegated_ops", "total_ops", "partitions")},
    }


def difference_from(delegate: str, process: Any, file: Path) -> float | None:
    """|difference| / |output| of a process's outputs to another delegate's on the same input; None where that one cannot run the file."""
    import numpy as np

    from edge.runtime.process import LatencyProcess

    with LatencyProcess(file, delegate, 1) as reference:
        if reference.loaded.status != OK:
            return None
        expected, received = reference.outputs(), process.outputs()
    return max(float(np.linalg.norm(received[name] - expected[name]) / (np.linalg.norm(expected[name]) + 1e-30)) for name in expected)


@contextlib.contextmanager
def _shares(terminal: Terminal, name: str, subject: str) -> Iterator[Any]:
    """A stage whose progress comes as a share, 0 to 1."""
    with terminal.progress.stage(name, total=100, subject=subject) as advance:
        done = 0

        def on_share(share: float) -> None:
            nonlocal done
            for _ in range(int(100 * share) - done):
                advance()
            done = max(done, int(100 * share))

        yield on_share


def _report(document: dict[str, Any], preset: Any, terminal: Terminal, demanded_gpu: bool) -> int:
    headline = f"p{preset.headline}_ms" if preset.headline != 50 else "median_ms"
    columns = (
        "file",
        "delegate",
        "threads",
        "init ms",
        "first ms",
        headline.replace("_", " "),
        "p5 to p95",
        "runs",
        "ratio",
        "MB",
        "ops",
        "status",
    )
    rows, closing = [], []
    for result in document["results"]:
        ran = result["median_ms"] is not None
        rows.append(
            (
                Path(result["file"]).name,
                result["delegate"],
                str(result["threads"] or ""),
                _number(result["init_ms"], 0),
                _number(result["first_inference_ms"], 1),
                _number(result[headline], 2) + (" software GPU" if result["software_gpu"] else ""),
                f"{result['p5_ms']:.2f} to {result['p95_ms']:.2f}" if ran else "",
                str(result["num_runs"] or ""),
                _ratio(result),
                _number(result["peak_mem_mb"], 0),
                f"{result['delegated_ops']}/{result['total_ops']}" if result["delegated_ops"] is not None else "",
                result["status"] if not ran or result["valid"] else f"{result['status']}, not valid",
            )
        )
        name = f"{Path(result['file']).name} on {result['delegate']}"
        if result["status"] != OK:
            closing.append(f"{name}: {result['status']}: {result['reason']}")
            closing += [f"  {refused['op']}: {refused['reason']}" for refused in result["refused"][:10]]
        closing += [f"{name}: not valid: {reason}" for reason in result["invalid_reasons"]]
        if result.get("curve"):
            closing.append(f"{name}: {result['slowdown']:+.1%} from the first third to the last {_sparkline(result['curve'])}")
    closing += [f"ran on {ran_on}" for ran_on in dict.fromkeys(result["ran_on"] for result in document["results"] if result["ran_on"])]
    environment = document["environment"]
    closing.append(f"machine: {environment['cpu']}, {environment['cores']} cores, {environment['system']}")
    if any(result["software_gpu"] for result in document["results"]):
        closing.append(
            "A software GPU computes on the CPU: that it takes a file and what it answers means something, its milliseconds do not."
        )
    if any(result["random_weights"] for result in document["results"]):
        closing.append("RANDOM weights: latency does not depend on them, answers do.")
    terminal.result(document, columns, rows, closing)
    statuses = {result["status"] for result in document["results"]}
    if demanded_gpu and any(result["delegate"].startswith("gpu") and result["status"] == UNAVAILABLE for result in document["results"]):
        return EXIT_UNUSABLE
    return EXIT_OK if statuses <= {OK, UNAVAILABLE} else EXIT_CHECK_FAILED


def _sparkline(curve: Sequence[dict[str, float]]) -> str:
    """The medians as a row of bars, from their least (lowest) to their most."""
    medians = [point["median_ms"] for point in curve]
    least, most = min(medians), max(medians)
    bars = "▁▂▃▄▅▆▇█"
    heights = [int((value - least) / (most - least) * (len(bars) - 1)) if most > least else 0 for value in medians]
    return f"{''.join(bars[height] for height in heights)} {least:.2f} to {most:.2f} ms"


def _groups(delegates: Sequence[str], threads: str) -> list[_Group]:
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
    groups = [_Group(name, count) for name in delegates for count in ([None] if name.startswith("gpu") else counts)]
    return list(dict.fromkeys(groups))


def _preset(latency: Any, arguments: argparse.Namespace) -> Any:
    preset = latency.PRESETS[arguments.preset]
    runs = preset.min_runs if arguments.min_runs is None else arguments.min_runs
    seconds = preset.min_seconds if arguments.min_seconds is None else arguments.min_seconds
    minutes = 1.0 if arguments.sustained is None else arguments.sustained
    if runs < 1 or not 0 <= seconds < float("inf") or not 0 < minutes < float("inf"):
        raise UsageError(
            "nothing to measure",
            expected="--min-runs of at least 1, --min-seconds of at least 0, --sustained above 0",
            received=f"--min-runs {runs} --min-seconds {seconds:g} --sustained {minutes:g}",
            action="leave them out for 50 runs and 5 seconds",
        )
    return dataclasses.replace(preset, min_runs=runs, min_seconds=seconds)


def _require_tflite(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            start = opened.read(8)
    except OSError as error:
        raise InputError(
            "unreadable file", expected="a .tflite file", received=f"{file}: {error.strerror}", action="check the path"
        ) from error
    if start[4:] != b"TFL3":
        raise InputError(
            "not a TFLite file", expected="a flatbuffer with the identifier TFL3", received=str(file), action="pass a .tflite file"
        )


def _require_picture(path: Path) -> None:
    if path.suffix.lower() != ".png":
        raise UsageError("pictures are PNG", expected="--plot NAME.png", received=str(path), action="give it the ending .png")
    if not path.parent.is_dir():
        raise InputError("no such folder", expected="an existing folder", received=str(path.parent), action="create it, or choose another")
    require_matplotlib("--plot")


def _runtime() -> dict[str, str]:
    from edge.runtime.cpu import runtime_version

    return {"runtime": runtime_version()}


def _has_random_weights(file: Path) -> bool | None:
    """From the manifest; None where there is none that fits."""
    from edge.artifacts import artifact

    try:
        return bool(artifact.load(file).manifest["weights"]["random"])
    except (InputError, KeyError):
        return True if file.name.endswith(".random.tflite") else None


def _ratio(result: dict[str, Any]) -> str:
    if result["ratio"] is None:
        return ""
    if result["ratio_low"] == result["ratio_high"]:  # the first file's own, or of a single round
        return f"{result['ratio']:.3g}"
    return f"{result['ratio']:.3f} ({result['ratio_low']:.3f} to {result['ratio_high']:.3f})"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
