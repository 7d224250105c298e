"""What the JVM tests compare with: pixels, probabilities and statistics as this project's Python makes them.

python android_demo/desktop/golden.py --package build/android/package --fine-tuned build/android/fine_tuned --out build/android/golden
    --others build/android/others/package [--photos DIR]
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from calibration import builtin
from edge.drift.meanings import CLASSES, SCORED
from edge.drift.metrics import sigmoid, softmax
from edge.latency import protocol
from edge.runtime import cpu
from tfvit.preprocessing import Preprocessing, resize_and_crop, to_rgb

# Narrow, wide, prime, smaller than the target and larger; the first shrinks by no whole number in any setting
SIZES = (
    (301, 199), (199, 301), (97, 97), (33, 47), (31, 29), (224, 224), (225, 223), (257, 311), (640, 479), (479, 641),
    (7, 5), (500, 37), (41, 502), (128, 256), (333, 222), (173, 419), (419, 173), (61, 67), (32, 32), (767, 511),
)  # fmt: skip
SETTINGS = (
    Preprocessing(32, 32),
    Preprocessing(256, 224),
    Preprocessing(255, 224, "bilinear"),
    Preprocessing(73, 64, "bicubic", keep_aspect=False),
    Preprocessing(40, 31, "bilinear", keep_aspect=False),
    Preprocessing(60, (24, 56)),
    Preprocessing((55, 110), (48, 96), "bilinear"),
    Preprocessing((96, 40), (96, 40), "bilinear", keep_aspect=False),
    Preprocessing(64, 64, pad=0),
    Preprocessing((48, 97), (48, 97), "bilinear", pad=114),
)
PHOTOS = 20
PICTURES = 8  # that every model answers
SEED = 11


class Folder:
    """Files of bytes, and one JSON that names them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, values: Any) -> str:
        """The file's name, for the JSON."""
        (self._path / name).write_bytes(values if isinstance(values, bytes) else np.ascontiguousarray(values).tobytes())
        return name

    def index(self, document: dict[str, Any]) -> None:
        (self._path / "index.json").write_text(json.dumps(document, indent=1))


def generated(number: int, width: int, height: int) -> np.ndarray:
    """A scene of the built-in set, cut to size: [height, width, 3] uint8."""
    return builtin.generate(number, max(width, height), SEED)[:height, :width]


def photos(folder: Path) -> list[tuple[str, np.ndarray]]:
    """Photos with an odd number of rows and columns cut off each; empty where there is no such folder."""
    found = []
    for number, path in enumerate(sorted(folder.glob("*.jpg"))[:PHOTOS]):
        pixels = np.asarray(to_rgb(Image.open(path)))
        found.append((path.stem, pixels[number : pixels.shape[0] - 2 * number - 1, 3 * number : pixels.shape[1] - number - 1]))
    return found


def resized(out: Folder, images: list[tuple[str, np.ndarray]]) -> list[dict[str, Any]]:
    cases = []
    for name, pixels in images:
        image = Image.fromarray(pixels)
        settings = []
        for number, preprocessing in enumerate(SETTINGS):
            expected = resize_and_crop(image, preprocessing)
            settings.append({**preprocessing.geometry(), "pixels": out.write(f"{name}.{number}.rgb", expected)})
        cases.append(
            {"name": name, "width": image.width, "height": image.height, "rgb": out.write(f"{name}.rgb", pixels), "settings": settings}
        )
    return cases


def oriented(out: Folder) -> list[dict[str, Any]]:
    """JPEG files with each EXIF orientation, what Pillow decodes and what it makes of it."""
    pixels, cases = generated(3, 53, 37), []
    for orientation in (*range(10), None):
        for byte_order in ("little", "big") if orientation is not None else ("none",):
            file = io.BytesIO()
            exif = {} if orientation is None else {"exif": _exif(orientation, byte_order)}
            Image.fromarray(pixels).save(file, "JPEG", quality=95, **exif)
            image = Image.open(file)
            upright = ImageOps.exif_transpose(image)
            name = f"orientation{orientation}{byte_order}"
            cases.append(
                {
                    "name": name,
                    "jpeg": out.write(f"{name}.jpg", file.getvalue()),
                    "width": image.width,
                    "height": image.height,
                    "stored": out.write(f"{name}.stored", np.asarray(image)),
                    "upright_width": upright.width,
                    "upright_height": upright.height,
                    "upright": out.write(f"{name}.upright", np.asarray(upright)),
                }
            )
    return cases


def _exif(orientation: int, byte_order: str) -> bytes:
    """A TIFF block of two entries, the second of them the orientation."""

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, byte_order)

    def short(tag: int, value: int) -> bytes:
        return number(tag, 2) + number(3, 2) + number(1, 4) + number(value, 2) + bytes(2)

    start = (b"II" if byte_order == "little" else b"MM") + number(42, 2) + number(8, 4)
    return b"Exif\0\0" + start + number(2, 2) + short(0x0103, 6) + short(0x0112, orientation) + number(0, 4)


def from_yuv(out: Folder) -> list[dict[str, Any]]:
    """Frames as cameras lay them out, planar and interleaved, rows padded; and what Pillow makes of the colours."""
    random, cases = np.random.default_rng(SEED), []
    for width, height, padding, pixel_stride in ((64, 48, 0, 1), (62, 46, 2, 2), (1280, 720, 64, 2), (35, 27, 5, 1)):
        luma = random.integers(0, 256, (height, width), np.uint8)
        blue, red = random.integers(0, 256, (2, -(-height // 2), -(-width // 2)), np.uint8)
        chroma = (np.repeat(np.repeat(plane, 2, 0), 2, 1)[:height, :width] for plane in (blue, red))
        expected = Image.merge("YCbCr", [Image.fromarray(plane) for plane in (luma, *chroma)]).convert("RGB")
        name = f"yuv{width}x{height}"
        planes = {}
        for key, plane, stride in (("y", luma, 1), ("u", blue, pixel_stride), ("v", red, pixel_stride)):
            rows = np.zeros((plane.shape[0], plane.shape[1] * stride + padding), np.uint8)
            rows[:, : plane.shape[1] * stride : stride] = plane
            # a camera's buffer ends after the last pixel
            end = rows.size - padding - (stride - 1)
            planes[key] = {"bytes": out.write(f"{name}.{key}", rows.reshape(-1)[:end]), "row_stride": rows.shape[1], "pixel_stride": stride}
        cases.append({"name": name, "width": width, "height": height, **planes, "rgb": out.write(f"{name}.rgb", np.asarray(expected))})
    return cases


def over_white(out: Folder) -> dict[str, Any]:
    """Every alpha with many colours."""
    rgba = np.random.default_rng(SEED).integers(0, 256, (256, 60, 4), np.uint8)
    rgba[:, :, 3] = np.arange(256)[:, None]
    expected = np.asarray(to_rgb(Image.fromarray(rgba)))
    return {"width": 60, "height": 256, "rgba": out.write("alpha.rgba", rgba), "rgb": out.write("alpha.rgb", expected)}


def measured() -> list[dict[str, Any]]:
    """Courses of a measurement, and what edge.latency.protocol says of each."""
    random, preset = np.random.default_rng(SEED), protocol.PRESETS["default"]

    def rounds(count: int, medians: Any, spread: float) -> list[np.ndarray]:
        return [median * (1.0 + spread * random.random(10)) for median in np.broadcast_to(medians, count)]

    courses = {
        "steady": protocol.Times(rounds(60, 10.0, 0.05), 9),
        "noisy": protocol.Times(rounds(60, 10.0, 1.5), 9),
        "throttled": protocol.Times(rounds(60, np.linspace(10, 14, 60), 0.05), 9),
        "sped up": protocol.Times(rounds(60, np.linspace(14, 10, 60), 0.05), 9),
        "short": protocol.Times(rounds(2, 1.5, 0.05), 9),
        "never settled": protocol.Times(rounds(60, 10.0, 0.05), 400, settled=False),
    }
    return [
        {
            "name": name,
            "min_runs": preset.min_runs,
            "min_seconds": preset.min_seconds,
            "rounds": [burst.tolist() for burst in times.rounds],
            "warmup_runs": times.warmup_runs,
            "settled": times.settled,
            "statistics": protocol.statistics(times),
            "invalid_reasons": protocol.invalid_reasons(times, preset),
        }
        for name, times in courses.items()
    ]


def answered(out: Folder, package: Path) -> list[dict[str, Any]]:
    """What every model of a package answers to generated pictures, in Python's LiteRT on one thread."""
    found = []
    for model in json.loads((package / "edge_package.json").read_text())["models"]:
        interpreter = cpu.Interpreter((package / model["file"]).read_bytes())
        preprocessing = Preprocessing(**model["preprocessing"])
        pictures = []
        for number in range(PICTURES):
            width, height = SIZES[number]
            picture, name = generated(number, width, height), f"{model['name']}.{number}"
            pixels = resize_and_crop(Image.fromarray(picture), preprocessing)
            given = interpreter.run_each(pixels[None].astype(np.float32))
            blocks = [model["output"], *model.get("other_outputs", ())]
            output, *others = (real_numbers(block, one) for block, one in zip(blocks, given, strict=True))
            pictures.append(
                {
                    "width": width,
                    "height": height,
                    "rgb": out.write(f"{name}.rgb", picture),
                    "pixels": out.write(f"{name}.pixels", pixels),
                    "numbers": output.tolist(),
                    "others": [one.tolist() for one in others],
                    "top5": np.argsort(-output, kind="stable")[:5].tolist(),
                }
            )
        found.append({"name": model["name"], "pictures": pictures})
    return found


def real_numbers(block: dict[str, Any], output: np.ndarray) -> np.ndarray:
    """An output as an app has it, flat: scores as probabilities, values and features as they are."""
    numbers, means = output.reshape(-1).astype(np.float64), block.get("meaning", CLASSES)
    if means not in SCORED or block["activation"] is not None:
        return numbers
    return softmax(numbers) if means == CLASSES else sigmoid(numbers)


def fine_tuned(out: Folder, folder: Path) -> list[dict[str, Any]]:
    """Every test picture of the fine-tuned model as it was saved, and the class that Keras gives it.

    Raises:
        ValueError: edge.validate has another accuracy of the same pictures than `model.evaluate`, for Keras or for a file.
    """
    expected = json.loads((folder / "expected.json").read_text())
    for path in sorted(folder.glob("*.validation.json")):
        accuracy = json.loads(path.read_text())["accuracy"]
        for side in ("reference", "target"):
            if abs(accuracy[side]["top1"]["value"] - expected["accuracy"]) > 1e-6:
                raise ValueError(f"{path.name}, {side}: {accuracy[side]['top1']['value']} where model.evaluate has {expected['accuracy']}")
    pictures = []
    for number, (path, answer) in enumerate(expected["answers"].items()):
        pixels = np.asarray(to_rgb(Image.open(folder / path)))
        height, width, _ = pixels.shape
        pictures.append(
            {"path": path, "width": width, "height": height, "rgb": out.write(f"fine_tuned.{number}.rgb", pixels), "top1": answer}
        )
    return pictures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True, help="folder with edge_package.json")
    parser.add_argument("--others", type=Path, required=True, help="folder with the edge_package.json of what other_models.py made")
    parser.add_argument("--photos", default="", help="folder of JPEG photos, compared as well where it exists")
    parser.add_argument("--fine-tuned", type=Path, required=True, help="folder that fine_tuned.py made, with its files and validations")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    out = Folder(arguments.out)
    images = [(f"generated{width}x{height}", generated(number, width, height)) for number, (width, height) in enumerate(SIZES)]
    found = photos(Path(arguments.photos)) if arguments.photos else []
    out.index(
        {
            "resized": resized(out, images + found),
            "photos": len(found),
            "oriented": oriented(out),
            "yuv": from_yuv(out),
            "over_white": over_white(out),
            "measured": measured(),
            "answered": answered(out, arguments.package),
            "others": answered(out, arguments.others),
            "fine_tuned": fine_tuned(out, arguments.fine_tuned),
        }
    )
    print(f"{len(images)} generated pictures and {len(found)} photos in {arguments.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
