"""A package of artifacts as the app reads it.

python android_demo/desktop/package_fixture.py FILE.tflite... --out DIR
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from calibration import builtin
from edge import runtime
from tfvit.preprocessing import Preprocessing, resize_and_crop


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(builtin.generate(0, 300)[:200])
    picture.save(out / "golden.png")
    models = []
    for path in arguments.files:
        manifest, data = json.loads(path.with_suffix(".json").read_text()), path.read_bytes()
        labels = path.with_suffix(".labels.txt")
        pixels = resize_and_crop(picture, Preprocessing(**manifest["preprocessing"]))
        scores = runtime.Interpreter(data).run(pixels[None].astype(np.float32))[0].astype(np.float64)
        if manifest["output"]["activation"] is None:
            scores = np.exp(scores - scores.max())
            scores /= scores.sum()
        names = labels.read_text().splitlines()
        (out / path.name).write_bytes(data)
        (out / labels.name).write_bytes(labels.read_bytes())
        models.append(
            {
                "name": path.stem,
                "file": path.name,
                "sha256": _sha256(data),
                "size_bytes": len(data),
                "variant": manifest["variant"],
                "recipe": manifest["recipe"],
                "random_weights": False,
                "classes": manifest["classes"],
                "input": manifest["input"] | {"quantization": manifest["input"].get("quantization")},
                "preprocessing": manifest["preprocessing"],
                "output": manifest["output"] | {"quantization": manifest["output"].get("quantization")},
                "labels": {"file": labels.name, "sha256": _sha256(labels.read_bytes())},
                "min_runtime_version": manifest["file"]["min_runtime_version"],
                "gpu": {key: manifest["delegates"]["gpu"][key] for key in ("verdict", "basis")},
                "golden": {
                    "pixels_sha256": _sha256(pixels.tobytes()),
                    "top5": [
                        {"index": int(index), "label": names[index], "score": float(scores[index])}
                        for index in np.argsort(-scores, kind="stable")[:5]
                    ],
                    "tolerance": {"cpu": 0.001 if "float" in manifest["recipe"] else 0.05, "gpu": 0.05},
                },
            }
        )
    image = (out / "golden.png").read_bytes()
    document = {
        "kind": "edge_package",
        "schema_version": 1,
        "models": models,
        "golden_image": {"file": "golden.png", "sha256": _sha256(image), "width": 300, "height": 200},
        "recommended": {"cpu": {"name": models[-1]["name"], "why": "the last one"}, "gpu": None, "npu": None},
        "tools": {},
    }
    (out / "edge_package.json").write_text(json.dumps(document, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
