"""Files of edge.convert in MediaPipe Tasks' ImageClassifier, which knows nothing of us but the metadata in them: results/mediapipe.csv.

    make mediapipe                                             # builds MediaPipe's environment, converts and compares
    python benchmarks/mediapipe_tasks.py --mediapipe-python build/mediapipe/bin/python --photos photos/

Twenty photographs, resized and cut by our preprocessing to just the input's size, so that MediaPipe, which stretches pictures, has nothing
to resize. Compared are all scores and the five best labels; also the metadata as MediaPipe's own generated code reads it, and our tables of
the schema with the one in its wheel. Exit codes: 0 the same, 1 something is not, 3 no MediaPipe or no photographs.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.rows import write_rows  # noqa: E402
from edge import convert  # noqa: E402
from edge.artifacts import self_description  # noqa: E402
from edge.artifacts.artifact import Artifact, load  # noqa: E402
from edge.runtime import cpu  # noqa: E402
from edge.tflite import metadata  # noqa: E402
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE  # noqa: E402
from tfvit.preprocessing import Preprocessing, resize_and_crop, to_rgb  # noqa: E402

CSV = ROOT / "results" / "mediapipe.csv"
PHOTOS = 20
TOP = 5
# Largest difference of a score (of a logit: times the largest one). Here there was none, to the last bit: MediaPipe 1.2.2 and LiteRT 2.3
# have the same XNNPACK kernels; only w8a16, on TensorFlow Lite's own kernels, differs by 2e-4. Another release may add floats in another
# order; int8 layers then round some values to the next step, and later layers carry it on.
FLOAT_TOLERANCE, INTEGER_TOLERANCE = 1e-5, 0.01
# variant -> what edge.convert gets; random weights have no class names of their own
_NANO = ("--variant", "nano32")
_TINY = ("--variant", "tiny224", "--weights", "random:0", "--labels", str(ROOT / "tfvit" / "imagenet_labels.txt"))
CASES = (
    ("nano32", (*_NANO, "--quant", "float32,float16,int8,dynamic,int8_full,w8a16")),
    ("nano32-uint8", (*_NANO, "--quant", "int8", "--input", "uint8")),
    ("nano32-logits", (*_NANO, "--quant", "float32,int8", "--output", "logits")),
    ("tiny224", (*_TINY, "--quant", "float32,float16,int8")),
)
# MediaPipe takes uint8 and float32 pixels
REFUSED = ("int8_full",)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mediapipe-python", required=True, type=Path, help="of an environment with MediaPipe")
    parser.add_argument("--photos", required=True, type=Path, help=f"folder with {PHOTOS} or more JPEG files")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mediapipe-files", help="where files are converted to (%(default)s)")
    arguments = parser.parse_args()
    photos = sorted(arguments.photos.glob("*.jpg"))[:PHOTOS]
    if len(photos) < PHOTOS:
        print(f"not tested: {PHOTOS} photographs are needed, {len(photos)} are in {arguments.photos}")
        return EXIT_UNUSABLE
    if not arguments.mediapipe_python.is_file():
        print(f"not tested: no {arguments.mediapipe_python}")
        return EXIT_UNUSABLE
    artifacts = _converted(arguments.out)
    with tempfile.TemporaryDirectory() as scratch:
        answers = _asked(arguments.mediapipe_python, artifacts, photos, Path(scratch))
    if answers is None:
        return EXIT_UNUSABLE
    rows = [_row(name, one, photos, answers) for name, one in artifacts.items()]
    for row in rows:
        print(row)
    CSV.parent.mkdir(exist_ok=True)
    write_rows(CSV, rows)
    wrong = schema_differences(answers["schema"])
    print(*wrong or ["the schema in MediaPipe's wheel is the one we write by"], sep="\n")
    return EXIT_OK if not wrong and all(row["status"] in ("same", "refused, as expected") for row in rows) else EXIT_CHECK_FAILED


def _converted(out: Path) -> dict[str, Artifact]:
    """Every file by name; what is current is kept."""
    artifacts = {}
    for name, flags in CASES:
        # whether they may ship is not asked here, and random weights would not pass
        if convert.main([*flags, "--out", str(out / name), "--no-gate"]) not in (EXIT_OK, EXIT_CHECK_FAILED):
            raise SystemExit(EXIT_UNUSABLE)
        artifacts |= {f"{name}/{path.stem}": load(path) for path in sorted((out / name).glob("*.tflite"))}
    return artifacts


def _pixels(artifact: Artifact, photos: list[Path]) -> np.ndarray:
    preprocessing = Preprocessing(**artifact.manifest["preprocessing"])
    return np.stack([resize_and_crop(to_rgb(Image.open(photo)), preprocessing) for photo in photos])


def _asked(python: Path, artifacts: dict[str, Artifact], photos: list[Path], folder: Path) -> dict | None:
    """What MediaPipe says, or None where it does not run here."""
    job = {}
    for index, (name, artifact) in enumerate(artifacts.items()):
        (folder / f"{index}.tflite").write_bytes(artifact.file)
        np.save(folder / f"{index}.npy", _pixels(artifact, photos))
        job[name] = {"file": str(folder / f"{index}.tflite"), "pixels": f"{index}.npy"}
    (folder / "job.json").write_text(json.dumps(job))
    command = [str(python), str(ROOT / "benchmarks" / "mediapipe_classify.py"), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode or not (folder / "answers.json").is_file():
        print(f"not tested: MediaPipe does not run here: {done.stdout.strip().splitlines()[-1:]}")
        return None
    return json.loads((folder / "answers.json").read_text())


def _row(name: str, artifact: Artifact, photos: list[Path], answers: dict) -> dict[str, str]:
    manifest, answer = artifact.manifest, answers["answers"][name]
    row = {
        "file": f"{artifact.name}.tflite",
        "input": manifest["input"]["dtype"],
        "output": manifest["output"]["name"],
        "weights": manifest["weights"]["source"],
        "photos": str(len(photos)),
        "mediapipe": answers["version"],
        "reference": f"{cpu.runtime_version()}, CPU",
    }
    said = self_description.read(artifact.file)
    if answer["metadata"] != said.metadata:
        return row | _columns("other metadata", reason="MediaPipe reads other metadata than we wrote")
    if "refused" in answer:
        return row | _columns("refused, as expected" if manifest["recipe"] in REFUSED else "refused", reason=answer["refused"])
    interpreter = cpu.Interpreter(artifact.file)
    ours = np.stack([interpreter.run(picture[None])[0] for picture in _pixels(artifact, photos)])
    theirs = np.asarray(answer["scores"], np.float32)
    labelled = answer["same_labels"] and tuple(answer["labels"]) == said.labels == artifact.labels
    tolerance = (FLOAT_TOLERANCE if manifest["recipe"] in ("float32", "float16") else INTEGER_TOLERANCE) * max(
        1.0, float(np.abs(ours).max())
    )
    return row | compared(ours, theirs, tolerance, labelled)


def compared(ours: np.ndarray, theirs: np.ndarray, tolerance: float, labelled: bool) -> dict[str, str]:
    """The columns of a file that ran.

    Args:
        ours, theirs: scores, [N, classes].
        tolerance: largest difference of a score; classes nearer to each other than that may change places among the five best.
        labelled: whether MediaPipe gave each class our label.
    """
    difference = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape and np.isfinite(theirs).all() else float("inf")
    top = [(np.argsort(-mine)[:TOP], np.argsort(-other)[:TOP], mine) for mine, other in zip(ours, theirs, strict=True)]
    same = sum(bool(np.all((a == b) | (np.abs(mine[a] - mine[b]) <= tolerance))) for a, b, mine in top)
    identical = sum(bool(np.array_equal(a, b)) for a, b, _ in top)
    good = difference <= tolerance and same == len(ours) and labelled
    reason = "" if good else "other labels" if not labelled else "other scores"
    return _columns("same" if good else "differs", str(identical), f"{difference:.1e}", f"{tolerance:.1e}", reason)


def _columns(status: str, same_top5: str = "", difference: str = "", tolerance: str = "", reason: str = "") -> dict[str, str]:
    return {
        "same_top5": same_top5,
        "max_score_difference": difference,
        "tolerance": tolerance,
        "status": status,
        "reason": reason,
    }


def schema_differences(text: str) -> list[str]:
    """Where our tables are not those of a metadata_schema.fbs."""
    text = re.sub(r"//[^\n]*|\([^)]*\)", "", text)  # no comments, no attributes
    found = []
    tables = {
        name: dict(re.findall(r"(\w+)\s*:\s*(\[?\w+\]?)", body)) for name, body in re.findall(r"table\s+(\w+)\s*\{(.*?)\}", text, re.DOTALL)
    }
    enums = {
        name: dict(re.findall(r"(\w+)\s*=\s*(\d+)", body)) for name, body in re.findall(r"enum\s+(\w+)[^{]*\{(.*?)\}", text, re.DOTALL)
    }
    unions = {name: tuple(re.findall(r"\w+", body)) for name, body in re.findall(r"union\s+(\w+)\s*\{(.*?)\}", text, re.DOTALL)}
    ours = {name: {value: str(number) for number, value in enumerate(values)} for name, values in metadata.ENUMS.items()}
    for kind, theirs, mine in (("table", tables, metadata.TABLES), ("enum", enums, ours), ("union", unions, metadata.UNIONS)):
        for name in sorted({*theirs, *mine}):
            left, right = (list(one.get(name, {}).items()) if kind != "union" else one.get(name) for one in (theirs, mine))
            if left != right:
                found.append(f"{kind} {name}: {left} in the schema, {right} here")
    identifier = re.search(r'file_identifier "(\w+)"', text)
    if not identifier or identifier[1].encode() != metadata.FILE_IDENTIFIER:
        found.append(f"file identifier {identifier and identifier[1]}")
    return found


if __name__ == "__main__":
    sys.exit(main())
