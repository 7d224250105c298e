"""Where a file's time goes on the CPU, by the kind of operation XNNPACK runs: results/operation_profile.csv.

    python benchmarks/operation_profile.py [--variants tiny224,v2_tiny256] [--recipes int8]

Converted with random weights; latency does not depend on their values. The times are LiteRT's own profiler's, which only its C API offers:
libLiteRt.so of the Python package through ctypes (`litert/c/litert_compiled_model.h`, `litert_profiler.h`). One thread. Rows of others are
kept.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.rows import read_rows, write_rows  # noqa: E402
from edge.runtime.machine import cpu_name  # noqa: E402

CSV = ROOT / "results" / "operation_profile.csv"
# What multiplies matrices, in XNNPACK's names
MATRIX_PRODUCTS = ("Fully Connected", "Batch Matrix Multiply", "Convolution")
_CPU = 1
_WARMUP_RUNS = 3
# A line of the profiler's summary by node type: name, count, average ms, share, cumulated share, memory, times called
_LINE = re.compile(r"^\s+(?:Delegate/)?(\S.*?)\s+(\d+)\s+([\d.]+)\s+([\d.]+)%\s+[\d.]+%\s+[\d.]+\s+(\d+)$", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", default="tiny224,v2_tiny256,vit_tiny16_224,vit_base16_224")
    parser.add_argument("--recipes", default="int8,dynamic,float32")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument(
        "--files", type=Path, help="folder of files with random weights that are there already, as `make matrix` makes them"
    )
    parser.add_argument("--csv", type=Path, default=CSV)
    parser.add_argument("--file", type=Path, help="print the profiler's summary of this file and do nothing else")
    arguments = parser.parse_args()
    if arguments.file:
        print(profile(arguments.file, arguments.runs))
        return 0
    asked = list(itertools.product(arguments.variants.split(","), arguments.recipes.split(",")))
    known = read_rows(arguments.csv)
    rows = [row for row in known if (row["variant"], row["recipe"]) not in asked]
    for variant, recipe in asked:
        made = variant_rows(variant, recipe, arguments.runs, arguments.files)
        products = sum(float(row["share"]) for row in made if row["operation"].startswith(MATRIX_PRODUCTS))
        print(f"{variant} {recipe}: {sum(float(row['total_ms']) for row in made):.1f} ms, {products:.1f} % in matrix products")
        rows += made
    write_rows(arguments.csv, rows)
    return 0


def variant_rows(variant: str, recipe: str, runs: int, files: Path | None) -> list[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        if files is None:
            command = [sys.executable, "-m", "edge.convert", "--variant", variant, "--quant", recipe, "--weights", "random:0", "--quiet"]
            subprocess.run([*command, "--out", folder], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        file = (files or Path(folder)) / f"{variant}-{recipe}.random.tflite"
        command = [sys.executable, __file__, "--file", str(file), "--runs", str(runs)]  # the runtime takes its process down with it
        summary = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = []
    for name, count, average_ms, share, _ in _LINE.findall(summary.split("Summary by node type")[1].split("Delegate Statistics")[0]):
        rows.append(
            {
                "variant": variant,
                "recipe": recipe,
                "operation": name,
                "count": count,
                "total_ms": f"{int(count) * float(average_ms):.3f}",
                "share": share,
                "runs": str(runs),
                "cpu": cpu_name(),
            }
        )
    return rows


def profile(path: Path, runs: int) -> str:
    """The profiler's summary as LiteRT writes it.

    Raises:
        RuntimeError: a call into the library failed.
    """
    import ai_edge_litert

    library = ctypes.CDLL(str(Path(ai_edge_litert.__file__).parent / "libLiteRt.so"), mode=ctypes.RTLD_GLOBAL)

    def call(name: str, *given) -> None:
        status = getattr(library, name)(*given)
        if status:
            raise RuntimeError(f"{name} failed with LiteRtStatus {status}")

    def made(name: str, *given) -> ctypes.c_void_p:
        """What a call writes into its last argument."""
        handle = ctypes.c_void_p()
        call(name, *given, ctypes.byref(handle))
        return handle

    environment = made("LiteRtCreateEnvironment", 0, None)
    model = made("LiteRtCreateModelFromFile", environment, str(path).encode())
    options = made("LiteRtCreateOptions")
    call("LiteRtSetOptionsHardwareAccelerators", options, _CPU)
    text = ctypes.create_string_buffer(b"enable_profiling = true\n")
    keep = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda pointer: None)  # the buffer is ours, nothing to free
    call("LiteRtAddOpaqueOptions", options, made("LiteRtCreateOpaqueOptions", b"runtime_options_string", text, keep))
    compiled = made("LiteRtCreateCompiledModel", environment, model, options)
    inputs, outputs = (_buffers(library, call, made, environment, model, compiled, kind) for kind in ("Input", "Output"))

    def run() -> None:
        zero = ctypes.c_size_t(0)
        call("LiteRtRunCompiledModel", compiled, zero, ctypes.c_size_t(len(inputs)), inputs, ctypes.c_size_t(len(outputs)), outputs)

    for _ in range(_WARMUP_RUNS):
        run()
    profiler = made("LiteRtCompiledModelGetProfiler", compiled)
    call("LiteRtStartProfiler", profiler)
    for _ in range(runs):
        run()
    call("LiteRtStopProfiler", profiler)
    summary = ctypes.c_char_p()
    call("LiteRtGetProfileSummary", profiler, compiled, ctypes.byref(summary))
    return summary.value.decode()


class _Layout(ctypes.Structure):
    _fields_ = (("rank", ctypes.c_uint32), ("dimensions", ctypes.c_int32 * 8), ("strides", ctypes.c_uint32 * 8))


class _TensorType(ctypes.Structure):
    _fields_ = (("element", ctypes.c_int), ("layout", _Layout))


def _buffers(library, call, made, environment, model, compiled, kind: str):
    """An array of buffers for every input or output of the first signature."""
    library.LiteRtGetModelSignature.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    signature, count, zero = made("LiteRtGetModelSignature", model, 0), ctypes.c_size_t(), ctypes.c_size_t(0)
    call(f"LiteRtGetNumSignature{kind}s", signature, ctypes.byref(count))
    buffers = []
    for position in range(count.value):
        tensor = made(f"LiteRtGetSignature{kind}TensorByIndex", signature, ctypes.c_size_t(position))
        kind_of_tensor = _TensorType()
        call("LiteRtGetRankedTensorType", tensor, ctypes.byref(kind_of_tensor))
        needed = made(f"LiteRtGetCompiledModel{kind}BufferRequirements", compiled, zero, ctypes.c_size_t(position))
        buffers.append(made("LiteRtCreateManagedTensorBufferFromRequirements", environment, ctypes.byref(kind_of_tensor), needed).value)
    return (ctypes.c_void_p * len(buffers))(*buffers)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    if "--file" in sys.argv:
        os._exit(code)  # the library's own threads do not end
    sys.exit(code)
