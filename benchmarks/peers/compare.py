"""Our files beside what other tools make of the same architecture with the same random weights, in one interleaved run: results/peers.csv.

    make bench-peers                                                  # builds the peers' environments and runs everything for tiny224
    python benchmarks/peers/compare.py [--models tiny224,v2_tiny256] [--threads 1,2] [--preset default] [--no-make]

`--environments` holds one virtual environment a peer, `--files` what they made; files that are there are kept. Rows of models that are not
measured again are kept too. The logits' SNR is against PyTorch's float32, on images nobody calibrated with.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

from peer_rows import COLUMNS, OURS, nothing_measured, read_rows  # noqa: E402
from rows import write_rows  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from pixels import NORMALIZATION  # noqa: E402

from calibration.image_set import open_image_set  # noqa: E402
from edge.drift.metrics import measure  # noqa: E402
from edge.latency import protocol  # noqa: E402
from edge.latency.load import LoadMeter  # noqa: E402
from edge.runtime.machine import cpu_name  # noqa: E402
from edge.runtime.process import OK, LatencyProcess  # noqa: E402
from tfvit.repositories import REPOSITORIES  # noqa: E402
from tfvit.variants import find_variant  # noqa: E402

HERE = Path(__file__).parent
CSV, FIGURE = ROOT / "results" / "peers.csv", ROOT / "docs" / "figures" / "peers.png"
CALIBRATION_SAMPLES, HELD_OUT = 128, 32
# A float32 file below this against PyTorch computes something else: its row is "wrong"
LEAST_FLOAT_SNR_DB = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="tiny224")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--preset", choices=protocol.PRESETS, default="default")
    parser.add_argument("--environments", type=Path, default=ROOT / "build" / "peers")
    parser.add_argument("--files", type=Path, default=ROOT / "build" / "peers" / "files")
    parser.add_argument("--no-make", dest="make", action="store_false", help="measure what is there")
    parser.add_argument("--csv", type=Path, default=CSV)
    arguments = parser.parse_args()
    models = arguments.models.split(",")
    if arguments.make:
        for model in models:
            make_files(model, arguments.files / model, arguments.environments)
    rows = [row for row in read_rows(arguments.csv) if row["model"] not in models]
    preset = protocol.PRESETS[arguments.preset]
    for model in models:
        snrs: dict[tuple[str, str], float] = {}
        for threads in map(int, arguments.threads.split(",")):
            rows += measured(model, arguments.files / model, arguments.environments, threads, preset, snrs)
            write_rows(arguments.csv, rows)
    if arguments.csv == CSV:
        from plot import drawing

        FIGURE.write_bytes(drawing(read_rows(CSV)))
    return 0


def make_files(model: str, folder: Path, environments: Path) -> None:
    """Every peer's files of one model, each made in its own environment."""
    folder.mkdir(parents=True, exist_ok=True)
    name = REPOSITORIES["imagenet"][model].split("/")[1].split(".")[0]
    torch, onnxruntime, openvino = (_python(environments, peer) for peer in ("litert-torch", "onnxruntime", "openvino"))
    steps = (
        ("logits.npy", [torch, "torch_model.py", name]),
        ("float32.onnx", [torch, "onnx_file.py", name]),
        ("made/tfvit.json", [sys.executable, "keras_files.py", model]),
        ("made/litert-torch.json", [torch, "litert_torch_files.py", name]),
        ("made/ONNX Runtime.json", [onnxruntime, "onnxruntime_files.py"]),
        ("made/OpenVINO.json", [openvino, "openvino_files.py"]),
    )
    _save_images(model, folder)
    for made, (python, script, *words) in steps:
        if not (folder / made).exists():
            subprocess.run([python, str(HERE / script), *words, str(folder)], check=made.startswith("logits"))


def _save_images(model: str, folder: Path) -> None:
    preprocessing, images = find_variant(model).preprocessing, open_image_set("builtin")
    np.save(folder / NORMALIZATION, np.array([preprocessing.mean, preprocessing.std], np.float32))
    split = images.split(CALIBRATION_SAMPLES, HELD_OUT, 0)
    for name, references in (("calibration", split.calibration), ("held_out", split.held_out)):
        if not (folder / f"{name}.npy").exists():
            np.save(folder / f"{name}.npy", np.stack(list(images.read(references, preprocessing))))


def measured(
    model: str, folder: Path, environments: Path, threads: int, preset: protocol.Preset, snrs: dict[tuple[str, str], float]
) -> list[dict[str, str]]:
    """One row for every file, made or not, of one model and number of threads; all of them took turns.

    Args:
        snrs: of the logits by peer and precision; filled the first time, since they do not depend on threads.
    """
    found = [row for path in (folder / "made").glob("*.json") for row in json.loads(path.read_text())]
    found.sort(key=lambda row: (row["peer"] != OURS, row["peer"], row["precision"] != "float32"))
    reference = np.load(folder / "logits.npy")
    with contextlib.ExitStack() as stack:
        processes = [_process(stack, folder, environments, made, threads) for made in found]
        running = [process for process in processes if process is not None and process.loaded.status == OK]
        for made, process in zip(found, processes, strict=True):
            if process in running and (made["peer"], made["precision"]) not in snrs:
                snrs[made["peer"], made["precision"]] = measure(reference, process.outputs()["logits"]).logits_snr_db
        meter = LoadMeter([process.pid for process in running])
        times = dict(zip((process.pid for process in running), protocol.interleaved(running, preset, _say_share), strict=True))
        load = meter.cores()
    ours = {
        made["precision"]: times[process.pid]
        for made, process in zip(found, processes, strict=True)
        if made["peer"] == OURS and process in running
    }
    rows = []
    for made, process in zip(found, processes, strict=True):
        row = {"peer": made["peer"], "version": made["version"], "model": model, "precision": made["precision"], "threads": str(threads)}
        if process is None:
            row = nothing_measured(cpu_name(), "not made", made["reason"]) | row
        elif process.loaded.status != OK:
            row = nothing_measured(cpu_name(), process.loaded.status, process.loaded.reason) | row
        else:
            row |= _figures(times[process.pid], ours, preset, load)
            snr = snrs[made["peer"], made["precision"]]
            wrong = made["precision"] == "float32" and not snr >= LEAST_FLOAT_SNR_DB
            row |= {"logits_snr_db": f"{snr:.1f}", "cpu": cpu_name(), "status": "wrong" if wrong else OK}
            row |= {"reason": f"float32 logits at {snr:.1f} dB of PyTorch's" if wrong else process.loaded.ran_on}
        row["size_mb"] = f"{_bytes(folder / made['file']) / 1e6:.1f}" if made["file"] else ""
        rows.append({name: row.get(name, "") for name in COLUMNS})
        print(model, threads, *(row.get(name) for name in ("peer", "precision", "median_ms", "ratio", "logits_snr_db", "status", "reason")))
    return rows


def _process(stack: Any, folder: Path, environments: Path, made: dict[str, str], threads: int) -> LatencyProcess | None:
    if made["file"] is None:
        return None
    own = {"litert": sys.executable, "onnxruntime": _python(environments, "onnxruntime")}
    python = own.get(made["runtime"], _python(environments, "openvino"))
    command = [python, str(HERE / "time_peer.py")]
    return stack.enter_context(LatencyProcess(folder / made["file"], made["runtime"], threads, command=command))


def _figures(times: protocol.Times, ours: dict[str, protocol.Times], preset: protocol.Preset, load: Any) -> dict[str, str]:
    found = protocol.document(times, preset, load)
    to_float, to_int8 = protocol.ratio(times, ours["float32"]), protocol.ratio(ours["int8"], times)
    return {
        **{name: f"{found[name]:.2f}" for name in ("median_ms", "p5_ms", "p95_ms")},
        **dict(zip(("ratio", "ratio_low", "ratio_high"), (f"{value:.3f}" for value in to_float), strict=True)),
        **dict(zip(("our_int8_to_this", "our_int8_low", "our_int8_high"), (f"{value:.3f}" for value in to_int8), strict=True)),
        "runs": str(found["num_runs"]),
        "valid": str(found["valid"]).lower(),
        "invalid_reasons": "; ".join(found["invalid_reasons"]),
    }


def _bytes(file: Path) -> int:
    """OpenVINO keeps weights in a second file."""
    weights = file.with_suffix(".bin")
    return file.stat().st_size + (weights.stat().st_size if file.suffix == ".xml" else 0)


def _python(environments: Path, peer: str) -> str:
    return os.path.abspath(environments / peer / "bin" / "python")  # not resolved: a link would leave the environment


def _say_share(share: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{share:.0%}", end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
