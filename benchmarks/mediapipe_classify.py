"""MediaPipe's side of benchmarks/mediapipe_tasks.py; runs in MediaPipe's own environment.

python mediapipe_classify.py FOLDER: reads FOLDER/job.json ({name: {file, pixels}}), prints one JSON document: for each name the scores and
labels of every picture, or why the file was refused; MediaPipe's reading of the file's metadata; and the schema in its wheel.
"""

import json
import sys
from importlib import metadata
from pathlib import Path

import mediapipe
import numpy as np
from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata_fb
from mediapipe.tasks.metadata import schema_py_generated as schema_fb
from mediapipe.tasks.python import BaseOptions, vision

SCHEMA = Path(mediapipe.__file__).parent / "tasks" / "metadata" / "metadata_schema.fbs"


def classify(file: str, pixels: np.ndarray) -> dict:
    """[N, H, W, 3] uint8 -> every class's label and score, in the order of the classes."""
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=file), max_results=-1)
    try:
        classifier = vision.ImageClassifier.create_from_options(options)
    except (ValueError, RuntimeError) as error:
        return {"refused": str(error).splitlines()[0]}
    with classifier:
        scores, labels = [], []
        for picture in pixels:
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
            (head,) = classifier.classify(image).classifications
            categories = sorted(head.categories, key=lambda category: category.index)
            scores.append([category.score for category in categories])
            labels.append([category.category_name for category in categories])
    return {"scores": scores, "labels": labels[0], "same_labels": all(one == labels[0] for one in labels), "head": head.head_name}


def read_metadata(data: bytes) -> dict | None:
    """TFLITE_METADATA by MediaPipe's generated code, in the form of edge.tflite.metadata: fields that are set, by their names there."""
    model = schema_fb.Model.GetRootAs(data, 0)
    for index in range(model.MetadataLength()):
        if model.Metadata(index).Name() == b"TFLITE_METADATA":
            packed = model.Buffers(model.Metadata(index).Buffer()).DataAsNumpy().tobytes()
            return _plain(metadata_fb.ModelMetadataT.InitFromPackedBuf(packed, 0))
    return None


_ENUMS = {"type": "AssociatedFileType", "colorSpace": "ColorSpaceType"}


def _plain(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, np.ndarray)):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        return value.item()
    if not hasattr(value, "__dict__"):
        return value
    fields = {}
    for name, content in vars(value).items():
        if content is None or (name.endswith("Type") and isinstance(content, int)):  # the number of a union's member
            continue
        if name in _ENUMS:
            numbers = vars(getattr(metadata_fb, _ENUMS[name]))
            content = next(key for key, number in numbers.items() if number == content and not key.startswith("_"))
        elif f"{name}Type" in vars(value):
            content = {type(content).__name__.removesuffix("T"): _plain(content)}
        snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
        fields[snake] = content if isinstance(content, (dict, str)) else _plain(content)
    return fields


def main() -> None:
    folder = Path(sys.argv[1])
    answers = {}
    for name, case in json.loads((folder / "job.json").read_text()).items():
        answers[name] = classify(case["file"], np.load(folder / case["pixels"]))
        answers[name]["metadata"] = read_metadata(Path(case["file"]).read_bytes())
    document = {"version": metadata.version("mediapipe"), "schema": SCHEMA.read_text(), "answers": answers}
    (folder / "answers.json").write_text(json.dumps(document))


if __name__ == "__main__":
    main()
