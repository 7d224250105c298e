"""Instructions that one inference takes on ARM cores, and which kernels execute them: results/arm_instructions.csv.

    python benchmarks/arm_profile.py [--files DIR] [--cpus cortex-a76,max] [--cases tiny224/int8,...]

The aarch64 wheel of the LiteRT we use runs under qemu-user, whose plugin counts how often every block of instructions is executed. These
are **instructions and no time**: they say nothing of caches, of how many a core executes at once, or of how wide a vector is. One thread;
random weights, on which the counts do not depend. An inference is the difference between two processes, of which one ran one more. Needs
Debian (see `scripts/qemu_plugins.sh`); exit code 3 where the emulator cannot be had. Rows of other cases are kept.
"""

from __future__ import annotations

import argparse
import bisect
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.arm_inference import LIBRARY  # noqa: E402
from benchmarks.rows import read_rows, write_rows  # noqa: E402
from benchmarks.runtimes import litert_aarch64  # noqa: E402
from benchmarks.runtimes.runtime import UnavailableError, fetch  # noqa: E402
from tfvit.errors import EXIT_OK, EXIT_UNUSABLE  # noqa: E402

CSV, QEMU = ROOT / "results" / "arm_instructions.csv", ROOT / "build" / "qemu"
# What the cores have: a dot product of four 8-bit products (sdot); none; everything that qemu knows, SME's matrix products among it
CPUS = ("cortex-a76", "cortex-a53", "max")
CASES = (
    *(f"nano32/{recipe}" for recipe in ("float32", "int8", "dynamic")),
    *(f"tiny224/{recipe}" for recipe in ("float32", "int8", "dynamic", "int4")),
    "v2_tiny256/float32",
    "v2_tiny256/int8",
    "vit_tiny16_224/float32",
    "vit_tiny16_224/int8",
)
# Kind of work -> what names the functions that do it, in XNNPACK and KleidiAI; the first that fits
KINDS = {
    "packing": r"packw|rhs_pack|lhs_pack",
    "quantizing and back": r"vcvt|lhs_quant|packq|rminmax",
    "4-bit products": r"qc4w|qsi4c",
    "8-bit products": r"(qs8|qd8|qp8).*(gemm|igemm|dwconv)|matmul.*qsi8",
    "float products": r"f32.*(gemm|igemm|dwconv|matmul)",
    "softmax": r"raddstoreexp|expminus|rmax|softmax",
    "GELU": r"gelu|erf",
    "moving values": r"transpose|memcpy|memmove|copy|pad|fill",
    "sums, products, norms": r"vadd|vmul|vsub|vdiv|vsqr|rsqrt|vbinary|rsum|rdsum|reduce|elementwise",
}
REST = "the rest"
# Places inside functions of assembler, which are symbols too
_LABELS = ("label_",)
_BLOCK = re.compile(r"^0x([0-9a-f]+), \d+, (\d+), (\d+)$", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES), help="variant/recipe, with commas between them")
    parser.add_argument("--cpus", default=",".join(CPUS))
    parser.add_argument("--files", type=Path, default=ROOT / "build" / "arm_files", help="where converted files are, or go")
    parser.add_argument("--qemu", type=Path, default=QEMU)
    arguments = parser.parse_args()
    try:
        litert_aarch64.prepare()
        fetch(ROOT / "scripts" / "qemu_plugins.sh", arguments.qemu)
        symbols = Symbols(litert_aarch64.FOLDER / "site" / "ai_edge_litert" / LIBRARY)
    except UnavailableError as error:
        print(f"not tested: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    rows = read_rows(CSV)
    cases = [tuple(case.split("/")) for case in arguments.cases.split(",")]
    files = [file_of(variant, recipe, arguments.files) for variant, recipe in cases]
    for cpu in arguments.cpus.split(","):
        for (variant, recipe), counts in zip(cases, of_one_inference(files, cpu, arguments.qemu, symbols), strict=True):
            made = rows_of(variant, recipe, cpu, counts)
            rows = [*(row for row in rows if (row["variant"], row["recipe"], row["cpu"]) != (variant, recipe, cpu)), *made]
            print(f"{variant} {recipe} {cpu}: {counts.total() / 1e9:.3f} G instructions", flush=True)
        write_rows(CSV, sorted(rows, key=_order))
    return EXIT_OK


def file_of(variant: str, recipe: str, folder: Path) -> Path:
    """The file with random weights, converted where it is not there yet."""
    file = folder / f"{variant}-{recipe}.random.tflite"
    if not file.exists():
        command = [sys.executable, "-m", "edge.convert", "--variant", variant, "--quant", recipe, "--weights", "random:0", "--no-gate"]
        command += ["--calibration-samples", "4", "--drift-samples", "1", "--quiet", "--out", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return file


class Symbols:
    """The functions of a library, by address.

    Args:
        library: an ELF file that is not stripped.
    """

    def __init__(self, library: Path) -> None:
        listed = subprocess.run(["nm", str(library)], check=True, capture_output=True, text=True).stdout
        found = sorted(
            (int(line[:16], 16), line[19:])
            for line in listed.splitlines()
            if len(line) > 19 and line[17] in "tT" and not line[19:].startswith(_LABELS)
        )
        self._starts, self._names = [start for start, _ in found], [name for _, name in found]
        self._end = library.stat().st_size  # what lies behind it in memory is no part of it

    def name(self, offset: int) -> str:
        """The function at an offset from where the library begins; "" outside of it."""
        place = bisect.bisect_right(self._starts, offset) - 1
        return self._names[place] if place >= 0 and offset < self._end else ""


def of_one_inference(files: Sequence[Path], cpu: str, qemu: Path, symbols: Symbols) -> list[Counter[str]]:
    """Instructions of one inference of each file, by function."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "blocks.log"
        settings = {
            "QEMU": str(qemu / "qemu-aarch64"),
            "QEMU_CPU": cpu,
            "QEMU_PLUGIN": f"{qemu / 'libhotblocks.so'},inline=on",
            "QEMU_LOG": "plugin",
            "QEMU_LOG_FILENAME": str(log),
            "PYTHONHASHSEED": "0",
        }
        command = [str(litert_aarch64.FOLDER / "python"), str(Path(__file__).parent / "arm_inference.py"), *map(str, files)]
        said = subprocess.run(command, env={**os.environ, **settings}, check=True, stdout=subprocess.PIPE, text=True).stdout
        reports = log.read_text().split("collected ")[1:]
    if len(reports) != 2 * len(files) + 1:  # the last one is that of the process that made the others
        raise RuntimeError(f"two reports a file and one more expected. Received: {len(reports)} of {len(files)} files")
    counted = [_by_function(report, int(said.split()[0], 16), symbols) for report in reports]
    for before, after in zip(counted[:-1:2], counted[1::2], strict=True):
        after.subtract(before)
    return counted[1::2]


def _by_function(report: str, start: int, symbols: Symbols) -> Counter[str]:
    """Instructions that a process has executed, by function."""
    found: Counter[str] = Counter()
    for address, instructions, executed in _BLOCK.findall(report):
        found[symbols.name(int(address, 16) - start)] += int(instructions) * int(executed)
    return found


def kind_of(function: str) -> str:
    """The kind of work a function does, a key of `KINDS` or `REST`."""
    return next((kind for kind, pattern in KINDS.items() if function.startswith(("xnn_", "kai_")) and re.search(pattern, function)), REST)


def rows_of(variant: str, recipe: str, cpu: str, counts: Counter[str]) -> list[dict[str, str]]:
    """One row a kind of work, the most instructions first."""
    kinds: Counter[str] = Counter()
    for function, instructions in counts.items():
        kinds[kind_of(function)] += instructions
    rows = []
    for kind, instructions in kinds.most_common():
        largest = max((function for function in counts if kind_of(function) == kind), key=counts.__getitem__)
        rows.append(
            {
                "variant": variant,
                "recipe": recipe,
                "cpu": cpu,
                "total_instructions_m": f"{counts.total() / 1e6:.1f}",
                "work": kind,
                "instructions_m": f"{instructions / 1e6:.1f}",
                "share_percent": f"{100 * instructions / counts.total():.1f}",
                "largest_kernel": largest or "outside of the runtime's library",
                "largest_kernel_m": f"{counts[largest] / 1e6:.1f}",
                "litert": litert_aarch64.VERSION,
            }
        )
    return rows


def _order(row: dict[str, str]) -> tuple:
    case = f"{row['variant']}/{row['recipe']}"
    return CPUS.index(row["cpu"]), CASES.index(case) if case in CASES else len(CASES), case, -float(row["instructions_m"])


if __name__ == "__main__":
    sys.exit(main())
