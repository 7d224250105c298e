"""Models fine-tuned with transformers and timm, saved in every format, each made int8 by one command: results/checkpoint_formats.csv.

    make checkpoints                                                # builds the environment of the libraries and runs this too
    python benchmarks/checkpoint_formats.py --python build/checkpoints/bin/python

The commands have no other flag than the checkpoint, calibration images and, where a format has no room for them, labels and
preprocessing. The int8 file must pass its gate. Its answers are compared with the library's own, on pictures that each side reads,
resizes and normalizes by itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.rows import write_rows  # noqa: E402
from calibration import builtin  # noqa: E402
from edge.artifacts.artifact import load, preprocessing_of  # noqa: E402
from edge.runtime.cpu import Interpreter  # noqa: E402
from tfvit.preprocessing import resize_and_crop, to_rgb  # noqa: E402

CSV = ROOT / "results" / "checkpoint_formats.csv"
TINTS = {"blue": (0.5, 0.6, 1.3), "green": (0.6, 1.2, 0.5), "grey": (0.8, 0.8, 0.8), "red": (1.3, 0.5, 0.5), "yellow": (1.2, 1.1, 0.4)}
TRAIN, TEST = 40, 40
# What a bare state dict has no room for, as its user knows it
SAID = ("--resize", "71", "--crop", "64", "--interpolation", "bilinear", "--mean", "127.5,127.5,127.5", "--std", "127.5,127.5,127.5")
BARE = ("by_hand.pt", "parallel.pth", "compiled.pth", "whole_model.pth")


def write_pictures(folder: Path) -> None:
    for part, count, first in (("train", TRAIN, 0), ("test", TEST, 10_000)):
        for number, (name, tint) in enumerate(TINTS.items()):
            (folder / part / name).mkdir(parents=True)
            for index in range(count):
                scene = builtin.generate(first + 1000 * number + index, 112)[:84] * np.array(tint)
                Image.fromarray(scene.clip(0, 255).astype(np.uint8)).save(folder / part / name / f"{index:02}.png")


def row(name: str, data: Path, out: Path, document: dict) -> dict[str, str]:
    (out / "labels.txt").write_text("\n".join(document["labels"]) + "\n", encoding="utf-8")
    known = () if name not in BARE and "train" not in name else ("--labels", str(out / "labels.txt"))
    said = (*known, *(SAID if name in BARE else ()))
    artifacts = out / "artifacts" / name.replace("/", "_")
    command = [
        sys.executable,
        "-m",
        "edge.convert",
        "--checkpoint",
        str(out / name),
        "--quant",
        "int8",
        "--calibration",
        str(data / "train"),
    ]
    done = subprocess.run([*command, *said, "--out", str(artifacts), "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: exit code {done.returncode}\n{done.stderr}")
    (path,) = artifacts.glob("*-int8.tflite")
    artifact = load(path)
    interpreter, preprocessing = Interpreter(artifact.file), preprocessing_of(artifact.manifest)
    images = [to_rgb(Image.open(data / "test" / one)) for one in document["paths"]]
    given = [int(interpreter.run(resize_and_crop(image, preprocessing)[None].astype(np.float32))[0].argmax()) for image in images]
    theirs = document["answers"][name]
    return {
        "format": name,
        "made_with": document["versions"],
        "flags": " ".join(flag for flag in said if flag.startswith("--")),
        "labels_equal": str(list(artifact.labels or ()) == document["labels"]),
        "preprocessing": json.dumps(artifact.manifest["preprocessing"]),
        "top1_there": f"{100 * document['top1'][name]:.2f}",
        "int8_snr_db": f"{artifact.manifest['drift']['logits_snr_db']:.1f}",
        "test_images": str(len(given)),
        "int8_same_answer": f"{100 * np.mean(np.array(given) == theirs):.2f}",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "data", Path(folder) / "out"
        out.mkdir()
        write_pictures(data)
        script = ROOT / "benchmarks" / "checkpoint_training.py"
        subprocess.run([arguments.python, str(script), str(data), str(out)], check=True, cwd=ROOT / "benchmarks")
        document = json.loads((out / "answers.json").read_text())
        rows = []
        for name in document["answers"]:
            rows.append(row(name, data, out, document))
            print(rows[-1], flush=True)
    write_rows(CSV, rows)
    return 0 if all(one["labels_equal"] == "True" and float(one["int8_same_answer"]) >= 97 for one in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
