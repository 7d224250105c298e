"""What is said of files that are not ours, and what happens: every kind of benchmarks/foreign_kinds.py, by rule and by running it.

    VK_ICD_FILENAMES=build/vulkan/lavapipe.json python benchmarks/foreign_files.py

Writes results/foreign_files.csv, a row at a time; rows that are there are kept, so that a run that was stopped goes on. Without a Vulkan
driver the column of the GPU delegate says "not tested". Nothing is timed. On a software GPU a compile proves acceptance and the answer, not
speed. Exit code 1 where a verdict is wrong: a good file called wrong, a rule that
calls whole what the delegate refuses, or refused what it takes whole.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks import foreign_kinds  # noqa: E402
from benchmarks.rows import read_rows, write_rows  # noqa: E402
from edge.inspection import command  # noqa: E402
from edge.latency.agreement import Judgement, judged  # noqa: E402
from edge.latency.subject import Subject, subject  # noqa: E402
from edge.runtime.cpu import runtime_version  # noqa: E402
from edge.runtime.process import OK, LatencyProcess  # noqa: E402

CSV = ROOT / "results" / "foreign_files.csv"
# Sides for the kinds whose inputs have none of their own
SHAPES = {"image of any size": {"": (1, 40, 48, 3)}, "reshape to a computed shape": {"": (1, 4, 8)}}


def row(kind: str, folder: Path, on_the_gpu: bool) -> dict[str, str]:
    """One kind: what is said of it and what happened."""
    path = folder / f"{kind.replace(' ', '_').replace(',', '')}.tflite"
    path.write_bytes(foreign_kinds.make(kind))
    said = command.description(path.read_bytes())
    found = subject(path, folder, None, SHAPES.get(kind))
    status, judgement = _on_the_cpu(found)
    xnnpack, gpu = said["delegates"]["xnnpack"], said["delegates"]["gpu"]
    measured = command.measured_on_gpu(found) if on_the_gpu else {"status": command.NOT_TESTED, "difference_from_cpu": None, "ran_on": None}
    return {
        "kind": kind,
        "operations": " ".join(f"{count}x{name}" for name, count in said["ops"].items()),
        "needs": command.needs(said),
        "inputs": found.inputs,
        "cpu": "wrong" if judgement.wrong else status,
        "cpu_difference": _number(judgement.difference),
        "xnnpack_partitions": str(xnnpack.get("partitions", "")),
        "xnnpack_by_rule": "unknown" if xnnpack["by_rule"]["partitions"] is None else str(xnnpack["by_rule"]["partitions"]),
        "gpu_by_rule": gpu["verdict"],
        "gpu_measured": measured["status"],
        "gpu_difference": _number(measured["difference_from_cpu"]),
        "ran_on": measured["ran_on"] or runtime_version(),
    }


def _on_the_cpu(found: Subject) -> tuple[str, Judgement]:
    with LatencyProcess(found.path, "cpu", 1, run=found.run) as process:
        status = process.loaded.status
        return status, judged(process, "cpu", found) if status == OK else Judgement()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"


def problems(found: dict[str, str]) -> list[str]:
    """What is wrong with a row."""
    rule, measured = found["gpu_by_rule"], found["gpu_measured"]
    called_wrong = ["cpu"] * (found["cpu"] == "wrong") + ["GPU"] * (measured == "wrong" and rule != "wrong")
    wrong = [f"{delegate}: a good file is called wrong" for delegate in called_wrong]
    if measured != command.NOT_TESTED and ((rule == "whole") != (measured == "whole")) and rule != "unknown":
        wrong.append(f"GPU: {rule} by rule, {measured} when asked")
    if found["xnnpack_by_rule"] not in ("unknown", found["xnnpack_partitions"]) and found["xnnpack_partitions"]:
        wrong.append(f"XNNPACK: {found['xnnpack_by_rule']} partitions by rule, {found['xnnpack_partitions']} when asked")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", help="a few of them, separated by semicolons (default: all that are not there)")
    parser.add_argument("--no-gpu", action="store_true", help="ask the rules and the CPU alone")
    parser.add_argument("--csv", type=Path, default=CSV)
    arguments = parser.parse_args()
    kinds = [*foreign_kinds.FILES, *foreign_kinds.PROBES]
    asked = set(arguments.kinds.split(";")) if arguments.kinds else set(kinds)
    known = {one["kind"]: one for one in read_rows(arguments.csv)}
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for kind in (kind for kind in kinds if kind in asked and (arguments.kinds or kind not in known)):
            known[kind] = row(kind, Path(folder), not arguments.no_gpu)
            wrong = problems(known[kind])
            failed |= bool(wrong)
            print(", ".join([*list(known[kind].values())[:1], *list(known[kind].values())[4:11], *wrong]), flush=True)
            write_rows(arguments.csv, [known[name] for name in kinds if name in known])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
