"""Which runtime is the first to compute each operation of our files, by its types: results/operator_runtimes.csv.

    python benchmarks/runtimes/operators.py [--only tensorflow-cpu-2.15.1,...] [--environments DIR]

Every operation that nano32, v2_nano32 and vit_nano32 have in any recipe becomes a file of its own, once for each combination of types,
and is loaded and run by every runtime below in its own environment, on the same inputs. A version in the file does not decide: some
runtimes know the version of an operation and fail when they compute it. Rows of runtimes that were not asked are kept.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.rows import read_rows, write_rows  # noqa: E402
from benchmarks.runtimes.runtime import BUILD, HERE, UnavailableError, fetch, last_line  # noqa: E402
from edge.quantization.recipes import RECIPES  # noqa: E402
from edge.tflite import flatbuffer  # noqa: E402
from tfvit.errors import EXIT_OK, EXIT_UNUSABLE  # noqa: E402

CSV = ROOT / "results" / "operator_runtimes.csv"
VARIANTS = ("nano32", "v2_nano32", "vit_nano32")
# In the order of their dates, the last one ours. TensorFlow's interpreter and LiteRT's are one code until 2.17 and 1.0.
PACKAGES = (
    ("tensorflow-cpu", "2.12.1"), ("tensorflow-cpu", "2.14.1"), ("tensorflow-cpu", "2.15.1"), ("tensorflow-cpu", "2.17.1"),
    ("tensorflow-cpu", "2.18.1"), ("tensorflow-cpu", "2.19.1"), ("tensorflow-cpu", "2.20.0"),
    ("ai-edge-litert", "1.0.1"), ("ai-edge-litert", "1.1.2"), ("ai-edge-litert", "1.2.0"), ("ai-edge-litert", "1.3.0"),
    ("ai-edge-litert", "1.4.0"), ("ai-edge-litert", "2.0.3"), ("ai-edge-litert", "2.1.6"), ("ai-edge-litert", "2.2.0"),
    ("ai-edge-litert", "2.3.0"),
)  # fmt: skip
REFERENCE = "ai-edge-litert-2.3.0"
# Of the largest output: kernels of other makes round otherwise, by a step or two of 8 bits
SAME = 0.02
_SEED = 0


def operations(files: list[Path]) -> Iterator[tuple[dict[str, str], bytes]]:
    """One file for each operation and its types; inputs that are not constants are the file's inputs."""
    seen = set()
    for file in files:
        model = flatbuffer.read_model(file.read_bytes())
        for number, (name, operator) in enumerate(flatbuffer.operators(model)):
            key = (name, _types(model, operator), model.operatorCodes[operator.opcodeIndex].version)
            if key in seen or all(flatbuffer.constant(model, int(index)) is not None for index in operator.inputs):
                continue  # of constants: runtimes compute it when they load a file
            seen.add(key)
            yield {"operation": name, "types": key[1], "operator_version": str(key[2])}, _alone(file.read_bytes(), number)


def _types(model, operator) -> str:
    """For example "INT8 x INT8[c] + INT32[c] -> INT8": constants in brackets, c those with a scale a channel."""
    parts = []
    for index in (int(index) for index in operator.inputs if index >= 0):
        kind, parameters = flatbuffer.tensor_type(model, index), model.subgraphs[0].tensors[index].quantization
        channels = parameters is not None and parameters.scale is not None and len(parameters.scale) > 1
        constant = flatbuffer.constant(model, index) is not None
        parts.append(kind + ("[]" if constant else "") + (" a channel" if channels else ""))
    outputs = [flatbuffer.tensor_type(model, int(index)) for index in operator.outputs]
    return f"{', '.join(parts)} -> {', '.join(outputs)}"


def _alone(file: bytes, number: int) -> bytes:
    model = flatbuffer.read_model(file)
    graph = model.subgraphs[0]
    operator = graph.operators[number]
    kept = {int(index) for index in (*operator.inputs, *operator.outputs) if index >= 0}
    for index, tensor in enumerate(graph.tensors):
        if index not in kept:
            tensor.buffer = 0
    graph.operators, graph.outputs = [operator], operator.outputs
    graph.inputs = np.array(
        [i for i in dict.fromkeys(operator.inputs.tolist()) if i >= 0 and flatbuffer.constant(model, i) is None], np.int32
    )
    model.operatorCodes = [model.operatorCodes[operator.opcodeIndex]]
    operator.opcodeIndex = 0
    model.signatureDefs, model.metadata = None, None
    flatbuffer.drop_unused_buffers(model)
    return flatbuffer.write_model(model)


def _inputs(name: str, file: bytes) -> list[np.ndarray]:
    """Values over the whole range of integers, ordinary floats; positive ones for a root."""
    model, chance, made = flatbuffer.read_model(file), np.random.default_rng(_SEED), []
    for index in model.subgraphs[0].inputs:
        kind, shape = flatbuffer.tensor_type(model, int(index)).lower(), flatbuffer.tensor_shape(model, int(index))
        if kind.startswith(("int", "uint")):
            low, high = np.iinfo(kind).min, np.iinfo(kind).max
            if name in ("RSQRT", "SQRT"):
                low = (flatbuffer.quantization(model, int(index)) or {"zero_point": 0})["zero_point"] + 1
            made.append(chance.integers(low, high, shape, dtype=kind, endpoint=True))
        else:
            values = chance.standard_normal(shape).astype(np.float16 if kind == "float16" else np.float32)
            made.append(np.abs(values) + np.float32(0.1) if name in ("RSQRT", "SQRT") else values)
    return made


def python_of(package: str, version: str, folder: Path) -> Path:
    """The Python of a runtime's environment, made where it is not there."""
    python = folder / f"{package}-{version}" / "bin" / "python"
    if not python.exists():
        fetch(sys.executable, "-m", "venv", python.parents[1])
        old = (package == "tensorflow-cpu" and version < "2.18") or version.startswith("1.0")
        fetch(python, "-m", "pip", "install", "--quiet", f"{package}=={version}", "numpy<2" if old else "numpy")
    return python


def answers(python: Path, folder: Path) -> dict[str, str]:
    """What a runtime says of every file of a folder: "" where it runs, and its outputs lie beside the inputs."""
    done = subprocess.run([str(python), str(HERE / "run_operators.py"), str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(last_line(done.stderr))
    return json.loads(last_line(done.stdout))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join("-".join(package) for package in PACKAGES))
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--environments", type=Path, default=BUILD)
    parser.add_argument("--files", type=Path, default=BUILD / "operators", help="where the converted files are, or go")
    arguments = parser.parse_args()
    recipes = arguments.recipes.split(",")
    files = [arguments.files / f"{variant}-{recipe}.tflite" for variant in VARIANTS for recipe in recipes]
    for variant in VARIANTS:
        if not all(file.exists() for file in files if file.name.startswith(f"{variant}-")):
            command = [sys.executable, "-m", "edge.convert", "--variant", variant, "--weights", "cifar10", "--quant", arguments.recipes]
            command += ["--out", str(arguments.files), "--output", "probabilities", "--calibration-samples", "16", "--drift-samples", "1"]
            subprocess.run([*command, "--no-gate", "--quiet"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    known = {(row["operation"], row["types"], row["operator_version"]): row for row in read_rows(CSV)}
    missing = False
    with tempfile.TemporaryDirectory() as scratch:
        folder, rows = Path(scratch), []
        for number, (row, file) in enumerate(operations(files)):
            (folder / f"{number}.tflite").write_bytes(file)
            np.savez(folder / f"{number}.inputs.npz", *_inputs(row["operation"], file))
            kept = known.get(tuple(row.values()), {})
            rows.append(row | {"-".join(package): kept.get("-".join(package), "") for package in PACKAGES})
        wanted = dict.fromkeys([REFERENCE, *arguments.only.split(",")])
        for package, version in sorted(PACKAGES, key=lambda package: "-".join(package) != REFERENCE):
            column = f"{package}-{version}"
            if column not in wanted:
                continue
            try:
                found = answers(python_of(package, version, arguments.environments), folder)
            except UnavailableError as error:
                missing = True
                print(f"{column}: not tested: {error}", flush=True)
                continue
            for number, row in enumerate(rows):
                row[column] = _status(folder, number, found[f"{number}.tflite"], column == REFERENCE)
            print(column, {status: sum(row[column] == status for row in rows) for status in {row[column] for row in rows}}, flush=True)
    for row in rows:
        row["first"] = _first(row)
    write_rows(CSV, sorted(rows, key=lambda row: (row["operation"], row["types"])))
    return EXIT_UNUSABLE if missing else EXIT_OK


def _status(folder: Path, number: int, refused: str, is_reference: bool) -> str:
    outputs, reference = folder / f"{number}.outputs.npz", folder / f"{number}.reference.npz"
    if refused:
        return "fails" if "invoke" in refused else "refuses"
    if is_reference:
        reference.write_bytes(outputs.read_bytes())
        return "runs"
    with np.load(outputs) as given, np.load(reference) as expected:
        pairs = [(given[name].astype(np.float64), expected[name].astype(np.float64)) for name in expected.files]
    apart = max(np.max(np.abs(one - other), initial=0.0) / max(np.max(np.abs(other), initial=0.0), 1e-12) for one, other in pairs)
    return "runs" if apart <= SAME else "differs"


def _first(row: dict[str, str]) -> str:
    """The oldest TensorFlow and the oldest LiteRT from which on every one runs it, for example "2.20.0 / 1.3.0"."""
    found = []
    for name in ("tensorflow-cpu", "ai-edge-litert"):
        versions = [version for package, version in PACKAGES if package == name]
        oldest = ""
        for version in reversed(versions):
            if row[f"{name}-{version}"] != "runs":
                break
            oldest = version
        found.append(re.sub(r"^$", "none", oldest))
    return " / ".join(found)


if __name__ == "__main__":
    sys.exit(main())
