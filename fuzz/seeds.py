"""`python -m fuzz.seeds`: makes the sound files of tests/fuzz that the fuzzer starts from. Past crashers, `crash-…`, are left as they are.

Small, since mutations of small files go deeper; of every kind that a reader tells apart.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from fuzz.target import CORPUS

_TESTS = Path(__file__).parents[1] / "tests"


def _save(target: str, name: str, data: bytes) -> None:
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def _picture(kind: str, mode: str = "RGB", side: int = 12, **options: object) -> bytes:
    generator, file = np.random.default_rng(0), io.BytesIO()
    pixels = generator.integers(0, 65536 if mode == "I;16" else 256, (side, side, {"RGB": 3, "RGBA": 4}.get(mode, 1)))
    array = pixels.astype(np.uint16 if mode == "I;16" else np.uint8).squeeze()
    image = Image.fromarray(array).convert(mode) if mode in ("P", "1", "CMYK", "LA") else Image.fromarray(array)
    image.save(file, kind, **options)
    return file.getvalue()


def pictures() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    made = {
        "rgb.jpg": _picture("JPEG", exif=exif),
        "progressive.jpg": _picture("JPEG", progressive=True),
        "cmyk.jpg": _picture("JPEG", "CMYK"),
        "rgb.png": _picture("PNG"),
        "rgba.png": _picture("PNG", "RGBA"),
        "palette.png": _picture("PNG", "P", transparency=3),
        "wide.png": _picture("PNG", "I;16"),
        "lossy.webp": _picture("WEBP"),
        "lossless.webp": _picture("WEBP", "RGBA", lossless=True),
        "rgb.bmp": _picture("BMP"),
        "deflate.tif": _picture("TIFF", compression="tiff_adobe_deflate"),
        "lzw.tif": _picture("TIFF", "I;16", compression="tiff_lzw"),
        "palette.gif": _picture("GIF", "P"),
    }
    for name, data in made.items():
        _save("images", name, data)
    images = {"a.png": made["rgb.png"], "b.jpg": made["rgb.jpg"], "c.webp": made["lossy.webp"], "d.png": made["palette.png"]}
    _save("image_zip", "stored.zip", _zip({f"photos/{name}": data for name, data in images.items()}))
    _save("image_zip", "deflated.zip", _zip(images | {"notes.txt": b"no image"}, zipfile.ZIP_DEFLATED))
    tricks = (
        "../../../escape.png",
        "/absolute.png",
        "..\\back\\slash.png",
        "C:\\drive.png",
        "a/./b/../c.png",
        "line\n.png",
        ".hidden.png",
    )
    _save("image_zip", "names.zip", _zip(dict(zip(tricks, list(images.values()) * 2, strict=False))))
    _save("image_zip", "bomb.zip", _zip({"a.png": bytes(1 << 24), "b.png": made["rgb.png"]}, zipfile.ZIP_DEFLATED))


def _zip(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, compression)
    return file.getvalue()


def checkpoints() -> None:
    from safetensors.numpy import save

    tensors = {"head.fc.bias": np.arange(3, dtype=np.float32), "norm.weight": np.ones((2, 2), np.float16), "e": np.zeros((0, 4), np.int64)}
    _save("safetensors_file", "three.safetensors", save(tensors, metadata={"format": "np"}))
    _save("safetensors_file", "none.safetensors", save({}))
    _save("torch_checkpoint", "state_dict.pkl", _pickled(b""))
    _save("torch_checkpoint", "model.pkl", _pickled(b"X\x05\x00\x00\x00model"))
    _save("torch_checkpoint", "runs_code.pkl", b"\x80\x02cposix\nsystem\nX\x08\x00\x00\x00echo hi!\x85R.")
    _save("torch_checkpoint", "deep.pkl", b"\x80\x02" + b"]" * 3000 + b"a" * 2999 + b".")
    archive = {"archive/data.pkl": _pickled(b""), "archive/byteorder": b"little", "archive/data/0": bytes(48), "archive/version": b"3\n"}
    _save("torch_checkpoint", "whole.pth", _zip(archive))
    arrays = {"input": np.zeros((1, 4, 4, 3), np.float32), "logits": np.zeros((1, 3), np.float32)}
    for name, saver in (("stored.npz", np.savez), ("deflated.npz", np.savez_compressed)):
        file = io.BytesIO()
        saver(file, **arrays)
        _save("recorded_arrays", name, file.getvalue())
    rows = np.zeros(2, [("read", np.bool_), ("logits", np.float32, (3,))])
    for name, values, pickled in (("answers.npy", rows, False), ("objects.npy", np.array([{}, []], dtype=object), True)):
        file = io.BytesIO()
        np.save(file, values, allow_pickle=pickled)
        _save("recorded_arrays", name, file.getvalue())


def _pickled(container: bytes) -> bytes:
    """A state dict of one tensor, under a key where one is given."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x0ctQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00(K\x03K\x04t(K\x04K\x01t\x89ccollections\nOrderedDict\n)RtR"
    state = b"ccollections\nOrderedDict\n)R(X\x0c\x00\x00\x00head.fc.bias" + tensor + b"u"
    return b"\x80\x02" + (b"}(" + container + state + b"u" if container else state) + b"."


def keras_files() -> None:
    import h5py
    from keras import layers, models

    from fuzz.weights_h5 import model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.weights.h5"
        model().save_weights(path)
        _save("weights_h5", "sound.weights.h5", path.read_bytes())
        with h5py.File(path, "w") as file:  # a petabyte, of which nothing is stored
            file.create_dataset("layers/head/vars/1", shape=(1 << 50,), dtype="f4", chunks=(1 << 10,))
        _save("weights_h5", "bomb.weights.h5", path.read_bytes())
        with h5py.File(path, "w") as file:
            file["layers"] = h5py.ExternalLink("/etc/passwd", "/")
        _save("weights_h5", "link.weights.h5", path.read_bytes())
        path = Path(folder) / "model.keras"
        model().save(path)
        with zipfile.ZipFile(path) as members:
            _save("keras_model", "transformer.json", members.read("config.json"))
        inputs = layers.Input((4,))
        models.Model(inputs, layers.Dense(2)(inputs)).save(path)
        with zipfile.ZipFile(path) as members:
            _save("keras_model", "dense.keras", _zip({name: members.read(name) for name in members.namelist()}))
        models.Model(inputs, layers.Lambda(lambda values: values * 2)(inputs)).save(path)
        with zipfile.ZipFile(path) as members:
            _save("keras_model", "lambda.json", members.read("config.json"))
    function = {"class_name": "function", "config": "system", "module": "os", "registered_name": "system"}
    _save("keras_model", "names_a_function.json", json.dumps({**function, "class_name": "function"}).encode())
    unsafe = {"module": "keras.config", "class_name": "enable_unsafe_deserialization", "config": {}, "registered_name": None}
    _save("keras_model", "switches_safety_off.json", json.dumps(unsafe).encode())
    vocabulary = {"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}, "registered_name": None}
    _save("keras_model", "reads_a_file.json", json.dumps(vocabulary).encode())


def flatbuffers() -> None:
    import tensorflow as tf

    class Dense(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = tf.Variable(np.random.default_rng(0).standard_normal((12, 5)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec((1, 2, 2, 3), tf.float32, name="pixels")])
        def call(self, pixels):
            hidden = tf.nn.relu(tf.reshape(pixels, (1, 12)) @ self.weight)
            return {"probabilities": tf.nn.softmax(hidden[:, 1:4])}

    def converter():
        module = Dense()
        return tf.lite.TFLiteConverter.from_concrete_functions([module.call.get_concrete_function()], module)

    _save("tflite", "float32.tflite", converter().convert())
    made = converter()
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    made.representative_dataset = lambda: ([np.full((1, 2, 2, 3), value, np.float32)] for value in (0, 128, 255))
    _save("tflite", "int8.tflite", made.convert())
    made = converter()
    made.optimizations, made.target_spec.supported_types = [tf.lite.Optimize.DEFAULT], [tf.float16]
    _save("tflite", "float16.tflite", made.convert())


def documents() -> None:
    sys.path.insert(0, str(_TESTS / "edge"))
    import report_documents as made

    with tempfile.TemporaryDirectory() as folder:
        made.full_folder(Path(folder))
        for path in sorted(Path(folder).rglob("*.json")):
            document = json.loads(path.read_text(encoding="utf-8"))
            if path.stem == "nano32-int8":
                document["inputs_sha256"] = "0"
                _save("manifest", path.name, json.dumps(document).encode())
            for flipped in document.get("flipped", {}).get("shown", ()):
                flipped["thumbnail"] = None
            if path.stem in ("nano32-int8", "nano32-int8.validation", "benchmark", "calibration", "phone", "jvm"):
                _save("report_documents", path.name, json.dumps(document, separators=(",", ":")).encode())
    status = {"kind": "device_status", "schema_version": 1, "run": "a", "tasks": 2, "finished": 1, "share": 0.5}
    _save("device_status", "status.json", json.dumps(status | {"current": "x", "ending": None, "failures": []}).encode())
    package = {
        "kind": "edge_package",
        "golden_image": {"file": "golden.png", "sha256": "0"},
        "models": [{"file": "model.tflite", "sha256": "1", "labels": {"file": "model.labels.txt", "sha256": "2"}}],
    }
    _save("device_status", "package.json", json.dumps(package).encode())
    _save("edge_package", "package.json", json.dumps(package).encode())
    names = {"edge_package.json": json.dumps(package).encode(), "model.tflite": b"old", "golden.png": b"old", "model.labels.txt": b"a\n"}
    _save("edge_package", "package.zip", _zip(names))
    for name, text in {"plain": "cat\ndog\n", "marked": "\ufeffcat\r\ndog", "numbers": "0\n1\n2\n", "odd": "\u2028a\u0085b\x1cc\n"}.items():
        _save("labels", f"{name}.txt", text.encode())


def main() -> None:
    for path in CORPUS.glob("*/*"):
        if not path.name.startswith("crash-"):
            path.unlink()
    for make in (pictures, checkpoints, keras_files, flatbuffers, documents):
        make()
    for empty in [path for path in CORPUS.glob("*") if path.is_dir() and not any(path.iterdir())]:
        shutil.rmtree(empty)


if __name__ == "__main__":
    main()
