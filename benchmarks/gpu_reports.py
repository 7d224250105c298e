"""What others reported of LiteRT's GPU delegate, as small graphs, and our files, on every release that pip has: results/gpu_reports.csv.

    pip install --no-deps --target build/litert/2.1.3 ai-edge-litert==2.1.3       # and so on; only those from 2.1.2 on have a GPU on Linux
    VK_ICD_FILENAMES=build/vulkan/lavapipe.json python benchmarks/gpu_reports.py --releases build/litert --data cifar10/

Reported are, all three on phones over OpenCL:

- the sum of scores and a mask that all heads share is wrong (google-ai-edge/LiteRT 8593);
- attention of rank 3 with the heads as batch is wrong (8619);
- a dynamic int8 layer on rank 3 whose output is added to its input is refused (9277).

Here the delegate of the Python package runs, over WebGPU on the Vulkan driver named. Beside each graph stands the form that was reported as
taken. The difference is from the CPU's answers of the installed release, as a share of their size; float32 arithmetic is asked for where a
release lets one ask. tests/edge/gpu_probes.py asks the installed release about the same graphs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks import foreign_kinds  # noqa: E402
from benchmarks.accuracy import test_images  # noqa: E402
from benchmarks.rows import write_rows  # noqa: E402
from edge.quantization.quantize import quantize  # noqa: E402
from edge.quantization.recipes import RECIPES  # noqa: E402
from edge.runtime import cpu  # noqa: E402
from edge.runtime.child import last_error  # noqa: E402
from edge.runtime.gpu import refusals  # noqa: E402

CSV = ROOT / "results" / "gpu_reports.csv"
OURS = ("nano32",)
OUR_RECIPES = ("float32", "int8", "dynamic")
# A share of the answers: beyond it a release is called wrong. 8-bit layers are computed in float on a GPU and round activations on a CPU.
MOST_DIFFERENCE = 0.1
SECONDS = 300
# 2.1.6 and 2.2.0 cannot lock a buffer in about one run of three, whatever the file; the next run of the same file succeeds
TRIES = 8

_GENERATOR = np.random.default_rng(2)
_HEADS, _TOKENS, _WIDTH = 3, 16, 8
_MASK = np.triu(np.full((1, 1, _TOKENS, _TOKENS), -100.0, np.float32), 1)
_EACH = np.tile(_MASK, (1, _HEADS, 1, 1))
_SQUARE = _GENERATOR.standard_normal((64, 64)).astype(np.float32) / 8.0
_OF_HEADS, _BATCHES = [(1, _HEADS, _TOKENS, _WIDTH)] * 3, [(_HEADS, _TOKENS, _WIDTH)] * 3


def _attention(tf, query, key, value, mask=0.0):
    return tf.matmul(tf.nn.softmax(tf.matmul(query, key, transpose_b=True) * _WIDTH**-0.5 + mask), value)


def _residual(tf, x):
    return x + tf.einsum("...c,cd->...d", x, _SQUARE)


# Name -> (function of (tf, inputs), input shapes), as in tests/edge/gpu_probes.py
PROBES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "a mask for all heads": (lambda tf, q, k, v: _attention(tf, q, k, v, _MASK), _OF_HEADS),
    "a mask for each head": (lambda tf, q, k, v: _attention(tf, q, k, v, _EACH), _OF_HEADS),
    "attention of rank 3": (lambda tf, q, k, v: _attention(tf, q, k, v), _BATCHES),
    "attention of rank 4": (lambda tf, q, k, v: _attention(tf, q, k, v), _OF_HEADS),
}
# The same, with dense layers that are to be dynamic
QUANTIZED_PROBES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "a layer and its input, rank 3": (_residual, [(1, 32, 64)]),
    "a layer and its input, rank 4": (_residual, [(1, 4, 8, 64)]),
}
REPORTS = {
    "a mask for all heads": "8593", "a mask for each head": "8593, taken", "attention of rank 3": "8619",
    "attention of rank 4": "8619, taken", "a layer and its input, rank 3": "9277", "a layer and its input, rank 4": "9277, taken",
}  # fmt: skip

# Runs with one release's packages, which may be older than ours and know fewer arguments
_CHILD = """
import json, sys
import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.hardware_accelerator import HardwareAccelerator
path, inputs, outputs, size = sys.argv[1:]
try:
    from ai_edge_litert.options import GpuOptions, Options
    how = {"options": Options(hardware_accelerators=HardwareAccelerator.GPU, gpu_options=GpuOptions(enforce_f32=True))}
except ImportError:
    how = {"hardware_accel": HardwareAccelerator.GPU}
model = CompiledModel.from_buffer(open(path, "rb").read(), **how)
signature = next(iter(model.get_signature_list()))
number, names = model.get_signature_index(signature), model.get_signature_list()[signature]["inputs"]
taken, written = model.create_input_buffers(number), model.create_output_buffers(number)
given, answers = np.load(inputs), []
for index in range(len(given[names[0]])):
    for name, buffer in zip(names, taken):
        buffer.write(np.ascontiguousarray(given[name][index]))
    model.run_by_index(number, taken, written)
    answers.append(written[0].read(int(size), np.float32))
np.save(outputs, np.stack(answers))
whole = model.is_fully_accelerated() if hasattr(model, "is_fully_accelerated") else None
print("RESULT " + json.dumps({"whole": whole, "precision": "f32" if "options" in how else "its own"}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", type=Path, required=True, help="folder with one release's packages a folder, named by its version")
    parser.add_argument("--data", type=Path, required=True, help="folder with train.zip and test.zip")
    parser.add_argument("--variants", default=",".join(OURS))
    parser.add_argument("--csv", type=Path, default=CSV)
    arguments = parser.parse_args()
    installed = metadata.version("ai-edge-litert")
    releases = {folder.name: folder for folder in arguments.releases.iterdir() if _accelerator(folder)} | {installed: None}
    rows = []
    with tempfile.TemporaryDirectory() as given:
        for name, file, inputs in _subjects(arguments.variants.split(","), arguments.data, Path(given)):
            expected = _on_the_cpu(file, inputs)
            for release in sorted(releases, key=lambda version: [int(part) for part in version.split(".")]):
                for tries in range(1, TRIES + 1):
                    found = _on_the_gpu(file, inputs, expected, releases[release], Path(given)) | {"tries": str(tries)}
                    if found["outcome"] not in ("refused", "no answer"):
                        break
                rows.append({"graph": name, "report": REPORTS.get(name, ""), "litert": release} | found)
                print(", ".join(rows[-1].values()), flush=True)
                write_rows(arguments.csv, rows)
    return 0


def _accelerator(folder: Path) -> bool:
    return any((folder / "ai_edge_litert").glob("*WebGpuAccelerator*"))


def _subjects(variants: Sequence[str], data: Path, folder: Path) -> Iterator[tuple[str, bytes, dict[str, np.ndarray]]]:
    """Name, file and inputs [N, ...] by name: of the graphs, then of our models."""
    import tensorflow as tf

    rng = np.random.default_rng(3)
    for name, (function, shapes) in (PROBES | QUANTIZED_PROBES).items():
        file = foreign_kinds.graph(lambda *inputs, function=function: function(tf, *inputs), *shapes)
        if name in QUANTIZED_PROBES:
            file = quantize(file, RECIPES["dynamic"])
        named = cpu.Interpreter(file).inputs
        yield name, file, {key: rng.standard_normal((4, *tensor.shape)).astype(np.float32) for key, tensor in named.items()}
    for variant in variants:
        pixels = test_images(variant, data / "test.zip")[0][:4, None].astype(np.float32)
        command = [sys.executable, "-m", "edge.convert", "--variant", variant, "--quant", ",".join(OUR_RECIPES), "--output", "logits"]
        subprocess.run([*command, "--calibration", str(data / "train.zip"), "--out", str(folder), "--quiet"], cwd=ROOT, check=True)
        for recipe in OUR_RECIPES:
            yield f"{variant} {recipe}", (folder / f"{variant}-{recipe}.tflite").read_bytes(), {"pixels": pixels}


def _on_the_cpu(file: bytes, inputs: dict[str, np.ndarray]) -> np.ndarray:
    interpreter = cpu.Interpreter(file)
    answers = []
    for values in zip(*inputs.values(), strict=True):
        interpreter.write(dict(zip(inputs, values, strict=True)))
        answers.append(interpreter.invoke()[0].reshape(-1))
    return np.stack(answers)


def _on_the_gpu(file: bytes, inputs: dict[str, np.ndarray], expected: np.ndarray, packages: Path | None, folder: Path) -> dict[str, str]:
    """What one release's delegate does with a file: "whole", "in part" (with the CPU's help), "ran" (it does not say), "wrong" or
    "refused"."""
    paths = folder / "file.tflite", folder / "inputs.npz", folder / "outputs.npy"
    paths[0].write_bytes(file)
    named: dict[str, Any] = dict(inputs)
    np.savez(paths[1], **named)
    environment = os.environ | ({"PYTHONPATH": str(packages.resolve())} if packages else {})
    command = [sys.executable, "-c", _CHILD, *map(str, paths), str(expected.shape[1])]
    try:
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"outcome": "no answer", "difference": "", "precision": "", "why": f"within {SECONDS} s", "device": ""}
    device = (re.findall(r"Selected adapter: ([^\n]+?)(?:, arch=|\n)", done.stderr) or [""])[0]
    result = re.findall(r"^RESULT (.+)$", done.stdout, re.MULTILINE)
    if not result:
        said = [f"{operation}: {why}" for operation, why in refusals(done.stderr)]
        why = "; ".join(said) or last_error(done.stderr) or f"exit code {done.returncode}"
        return {"outcome": "refused", "difference": "", "precision": "", "why": why[:200], "device": device}
    told = json.loads(result[0])
    difference = float(np.linalg.norm(np.load(paths[2]) - expected) / np.linalg.norm(expected))
    outcome = "wrong" if not difference <= MOST_DIFFERENCE else {True: "whole", False: "in part", None: "ran"}[told["whole"]]
    return {"outcome": outcome, "difference": f"{difference:.1e}", "precision": told["precision"], "why": "", "device": device}


if __name__ == "__main__":
    sys.exit(main())
