"""Files that `edge.convert` makes, in readers other than TensorFlow's and LiteRT, against LiteRT on this machine: results/readers.csv.

    python benchmarks/readers/run.py [--recipes float32,int8] [--forms usual,portable] [--only openvino,mnn] [--files DIR]

nano32 with its shipped weights on eight images of the built-in set, as converted by default and with --portable. Each reader has an
environment of its own under build/readers, gets the same inputs, raw, and runs every file in a process of its own. The logits' SNR is of
LiteRT against the Keras model. Exit codes: 0 told, whatever was found, 3 a reader cannot be had here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.rows import read_rows, write_rows  # noqa: E402
from benchmarks.runtimes import comparison  # noqa: E402
from benchmarks.runtimes.runtime import UnavailableError, fetch, last_line  # noqa: E402
from calibration import builtin  # noqa: E402
from edge.quantization.recipes import RECIPES  # noqa: E402
from edge.runtime.cpu import Interpreter  # noqa: E402
from tfvit.errors import EXIT_OK, EXIT_UNUSABLE  # noqa: E402

CSV, BUILD = ROOT / "results" / "readers.csv", ROOT / "build" / "readers"
# Reader -> what its environment has, the reader first
READERS = {
    "openvino": ("openvino==2026.4.1",),
    "tf2onnx": ("tf2onnx==1.17.0", "onnxruntime==1.32.0", "onnx<1.24", "tensorflow-cpu==2.20.0"),
    "mnn": ("MNN==3.6.1",),
    "tvm": ("apache-tvm==0.27.0.post1", "tflite==2.18.0"),
}
# Takes and gives real values, whatever integers the file has
REAL_VALUES = ("mnn",)
# Reader -> flags of its own converter that make the portable float32 file smaller, and the recipe of ours that is of that kind
SMALLER = {"mnn": {"--fp16": "float16", "--weightQuantBits 8": "dynamic"}}
VARIANT, IMAGES, TIMEOUT_S = "nano32", 8, 900
USUAL, PORTABLE = "usual", "portable"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--forms", default=f"{USUAL},{PORTABLE}")
    parser.add_argument("--only", default=",".join(READERS))
    parser.add_argument("--files", type=Path, default=BUILD / "files", help="where the converted files are, or go")
    parser.add_argument("--environments", type=Path, default=BUILD)
    arguments = parser.parse_args()
    recipes, forms, missing = arguments.recipes.split(","), arguments.forms.split(","), False
    rows = read_rows(CSV)
    files = {}
    for form in forms:
        wanted = [recipe for recipe in recipes if form == USUAL or RECIPES[recipe].has_portable_form]
        files |= {(form, recipe): arguments.files / form / f"{VARIANT}-{recipe}.tflite" for recipe in wanted}
        if not all(files[form, recipe].exists() for recipe in wanted):
            command = [sys.executable, "-m", "edge.convert", "--variant", VARIANT, "--weights", "cifar10", "--quant", ",".join(wanted)]
            command += ["--out", str(arguments.files / form), "--calibration-samples", "64", "--agreement-samples", "0", "--no-gate"]
            command += ["--portable"] if form == PORTABLE else []
            subprocess.run([*command, "--quiet"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    for reader in arguments.only.split(","):
        try:
            python = python_of(reader, arguments.environments)
        except UnavailableError as error:
            missing = True
            print(f"{reader}: not tested: {error}", flush=True)
            continue
        cases = [(form, recipe, file, "") for (form, recipe), file in files.items()]
        if (PORTABLE, "float32") in files:
            cases += [(f"{reader} {flags}", recipe, files[PORTABLE, "float32"], flags) for flags, recipe in SMALLER.get(reader, {}).items()]
        for form, recipe, file, flags in cases:
            row = row_of(reader, python, file, recipe, form, flags)
            rows = [*(one for one in rows if (one["reader"], one["form"], one["recipe"]) != (reader, form, recipe)), row]
            print(", ".join(row.values()), flush=True)
            write_rows(CSV, rows)
    return EXIT_UNUSABLE if missing else EXIT_OK


def python_of(reader: str, folder: Path) -> Path:
    python = folder / reader / "bin" / "python"
    if not python.exists():
        fetch(sys.executable, "-m", "venv", python.parents[1])
        fetch(python, "-m", "pip", "install", "--quiet", *READERS[reader])
    return python


def row_of(reader: str, python: Path, file: Path, recipe: str, form: str, flags: str = "") -> dict[str, str]:
    """What a reader makes of a file, and what the file is worth; with flags what the reader's own converter makes of it."""
    manifest = json.loads(file.with_suffix(".json").read_text())
    worth = {"bytes": str(manifest["file"]["size_bytes"]), "logits_snr_db": f"{manifest['drift']['logits_snr_db']:.1f}"}
    interpreter = Interpreter(file.read_bytes())
    ((_, source), (_, target)) = (*interpreter.inputs.items(), *interpreter.outputs.items())
    pixels = np.stack([builtin.generate(index, source.shape[1]) for index in range(IMAGES)])
    reference = np.concatenate([interpreter.run(image[None]) for image in pixels])
    BUILD.mkdir(parents=True, exist_ok=True)
    inputs, outputs = BUILD / "inputs.raw", BUILD / "outputs.raw"
    real = reader in REAL_VALUES
    inputs.write_bytes(pixels.astype(np.float32).tobytes() if real else b"".join(source.stored(image[None]).tobytes() for image in pixels))
    outputs.unlink(missing_ok=True)
    command = [str(python), str(Path(__file__).parent / "read.py"), reader, str(file), str(inputs), str(outputs), *flags.split()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
        said = json.loads(last_line(done.stdout)) if not done.returncode else {"refused": f"ended by {done.returncode}"}
    except subprocess.TimeoutExpired:
        said = {"refused": f"no answer in {TIMEOUT_S} s"}
    if flags:
        worth = {"bytes": str(said.get("made_bytes") or ""), "logits_snr_db": ""}
    if said["refused"]:
        columns = {"status": comparison.REFUSED, "same_top1": "", "max_rel_difference": "", "reason": said["refused"]}
    else:
        given = np.fromfile(outputs, np.float32) if real else target.real(np.fromfile(outputs, target.dtype))
        given = given.reshape(IMAGES, -1)
        found = comparison.compared(reference, given, "dynamic" if flags else recipe)  # its weights are rounded, ours are not
        columns = {name: found[name] for name in ("status", "same_top1", "max_rel_difference", "reason")}
    version = READERS[reader][0].split("==")[1]
    return {"reader": reader, "version": version, "variant": VARIANT, "form": form, "recipe": recipe, **worth, **columns}


if __name__ == "__main__":
    sys.exit(main())
