"""Files that `edge.convert` makes, in runtimes other than ours, against LiteRT on this machine: results/runtimes.csv.

    python benchmarks/runtimes/run.py [--data cifar10/] [--only tflite-runtime,ai-edge-litert,@litertjs/core]

nano32 with its shipped weights on 32 CIFAR-10 test images (generated ones where --data has no test.zip), tiny224 with random weights on 8
generated images; logits. Each runtime gets the same inputs, raw, and runs every file in a process of its own environment under
build/runtimes. Exit codes: 0 all the same, 1 a runtime answers differently or does not run a file that it should, 3 something could not be
tested here.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.rows import write_rows  # noqa: E402
from benchmarks.runtimes import comparison, litert_aarch64, litert_js, tflite_2_14  # noqa: E402
from benchmarks.runtimes.runtime import BUILD, Runtime, UnavailableError, last_line  # noqa: E402
from calibration.image_set import BUILTIN, open_image_set  # noqa: E402
from edge.quantization.recipes import RECIPES  # noqa: E402
from edge.runtime.cpu import Interpreter  # noqa: E402
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE  # noqa: E402
from tfvit.variants import VARIANTS  # noqa: E402

CSV = ROOT / "results" / "runtimes.csv"
RUNTIMES = (*tflite_2_14.RUNTIMES, *litert_aarch64.RUNTIMES, *litert_js.RUNTIMES)
WEIGHTS = {"nano32": "cifar10", "tiny224": "random:0"}
IMAGES = {"nano32": 32, "tiny224": 8}
IMAGE_SEED = 1  # not the one that chooses calibration images
TIMEOUT_S = 900


@dataclasses.dataclass(frozen=True)
class Case:
    """One file, what goes into it, as it takes it, and what LiteRT gives."""

    variant: str
    recipe: str
    path: Path
    inputs: Path
    min_runtime: str | None
    image_set: str
    reference: np.ndarray
    interpreter: Interpreter


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with CIFAR-10's test.zip")
    parser.add_argument("--only", help="names of runtimes, a comma list (all)")
    parser.add_argument("--csv", type=Path, default=CSV)
    arguments = parser.parse_args()
    chosen = [runtime for runtime in RUNTIMES if arguments.only is None or runtime.name in arguments.only.split(",")]
    cases = {}
    for variant in WEIGHTS:
        wanted = {name for runtime in chosen for name in runtime.recipes.get(variant, ())}
        for version in dict.fromkeys(version_of(name) for name in sorted(wanted)):
            recipes = [name for name in RECIPES if labelled(name, version) in wanted]
            cases |= {(case.variant, case.recipe): case for case in cases_of(variant, recipes, version, arguments.data)}
    rows = []
    for runtime in chosen:
        for row in rows_of(runtime, cases):
            print("  ".join(row[name] for name in ("runtime", "machine", "variant", "recipe", "same_top1", "status", "reason")), flush=True)
            rows.append(row)
    write_rows(arguments.csv, rows)
    return exit_code([row["status"] for row in rows])


def labelled(recipe: str, version: str | None) -> str:
    """A recipe, made for an old runtime where `version` says so."""
    return f"{recipe} for {version}" if version else recipe


def version_of(label: str) -> str | None:
    """What `labelled` put behind the recipe."""
    return label.partition(" for ")[2] or None


def cases_of(variant: str, recipes: list[str], version: str | None, data: Path | None) -> list[Case]:
    """Converts (with `--min-runtime` where there is a version), chooses the images and runs LiteRT on them."""
    folder = BUILD / labelled("files", version).replace(" ", "-")
    command = [sys.executable, "-m", "edge.convert", "--variant", variant, "--weights", WEIGHTS[variant], "--quant", ",".join(recipes)]
    command += ["--min-runtime", version] if version else []
    command += ["--out", str(folder), "--output", "logits", "--calibration-samples", "32", "--drift-samples", "8", "--no-gate"]
    done = subprocess.run([*command, "--json", "--quiet"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    artifacts = json.loads(done.stdout)["artifacts"]
    test = data / "test.zip" if data and variant == "nano32" else None
    image_set = open_image_set(test if test and test.exists() else BUILTIN)
    chosen = image_set.split(IMAGES[variant], 0, IMAGE_SEED).calibration
    pixels = np.stack(list(image_set.read(chosen, VARIANTS[variant].preprocessing)))
    cases = []
    for artifact in artifacts:
        path = folder / f"{artifact['name']}.tflite"
        interpreter = Interpreter(path.read_bytes())
        (source,) = interpreter.inputs.values()
        inputs = folder / f"{variant}-{source.dtype}.raw"
        inputs.write_bytes(b"".join(source.stored(image[None]).tobytes() for image in pixels))
        reference = np.concatenate([interpreter.run(image[None]) for image in pixels])
        manifest = artifact["manifest"]
        min_runtime = manifest["file"]["min_runtime_version"]
        cases.append(
            Case(variant, labelled(manifest["recipe"], version), path, inputs, min_runtime, image_set.source, reference, interpreter)
        )
    return cases


def rows_of(runtime: Runtime, cases: dict[tuple[str, str], Case]) -> list[dict[str, str]]:
    """One row a file."""
    try:
        runtime.prepare()
        missing = None
    except UnavailableError as error:
        missing = str(error)
    rows = []
    for variant, recipes in runtime.recipes.items():
        for recipe in recipes:
            case = cases[variant, recipe]
            report, columns = (None, comparison.not_tested(missing)) if missing else ran(runtime, case)
            rows.append(
                {
                    "runtime": runtime.name,
                    "version": report["version"] if report else runtime.version,
                    "machine": report["machine"] if report and runtime.machine in report["machine"] else runtime.machine,
                    "recipe": recipe,
                    "variant": variant,
                    "weights": WEIGHTS[variant],
                    "images": f"{len(case.reference)} of {case.image_set}",
                    "min_runtime": case.min_runtime or "",
                    "reference": f"{case.interpreter.ran_on}, {platform.machine()}",
                    **columns,
                }
            )
    return rows


def ran(runtime: Runtime, case: Case) -> tuple[dict[str, str] | None, dict[str, str]]:
    """The runtime's report, None where it gave none, and the row's last columns."""
    outputs = BUILD / "outputs.raw"
    outputs.unlink(missing_ok=True)
    command = [*runtime.command(), str(case.path), str(case.inputs), str(outputs)]
    environment = {**os.environ, **runtime.environment}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return None, comparison.refused(f"no answer in {TIMEOUT_S} s", case.min_runtime, runtime.version, False)
    if done.returncode:
        reason = f"exit code {done.returncode}: {last_line(done.stderr)}"
        return None, comparison.refused(reason, case.min_runtime, runtime.version, False)
    report = json.loads(last_line(done.stdout))
    if report.get("untested"):
        return report, comparison.not_tested(report["untested"])
    if report["refused"]:
        return report, comparison.refused(report["refused"], case.min_runtime, report["version"], runtime.reads_min_runtime)
    (target,) = case.interpreter.outputs.values()
    given = target.real(np.fromfile(outputs, target.dtype))
    whole = given.reshape(-1, target.shape[-1]) if given.size % target.shape[-1] == 0 else given
    return report, comparison.compared(case.reference, whole, case.recipe)


def exit_code(statuses: list[str]) -> int:
    if any(status in comparison.FAILED for status in statuses):
        return EXIT_CHECK_FAILED
    return EXIT_UNUSABLE if comparison.NOT_TESTED in statuses else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
