"""Entries of `models` of an `edge_package.json`, with what each test changes."""

from typing import Any

CASES: dict[str, dict[str, Any]] = {
    "short side, classes": {},
    "covers a rectangle, bilinear": {"preprocessing": {"resize_px": [40, 72], "crop_px": [32, 56], "interpolation": "bilinear"}},
    "squashed, uint8, logits": {
        "preprocessing": {"resize_px": 32, "keep_aspect": False},
        "input": {"dtype": "uint8"},
        "output": {"activation": None},
    },
    "squashed and cut": {"preprocessing": {"keep_aspect": False, "interpolation": "bilinear"}},
    "padded, labels' logits, no names": {
        "preprocessing": {"resize_px": [24, 56], "crop_px": [24, 56], "pad": 114},
        "output": {"activation": None, "meaning": "labels"},
        "labels": None,
    },
    "values": {"output": {"activation": None, "meaning": "values", "shape": [1, 2]}},
    "features, no names": {"output": {"activation": None, "meaning": "features", "shape": [1, 2, 3, 64]}, "labels": None},
    "int8 in and out, logits": {
        "input": {"dtype": "int8", "quantization": {"scale": 1.0, "zero_point": -128}},
        "output": {"dtype": "int8", "quantization": {"scale": 0.0927, "zero_point": -7}, "activation": None},
    },
}


def entry(**changes: Any) -> dict[str, Any]:
    """A model like nano32-int8, with blocks changed key by key."""
    model: dict[str, Any] = {
        "name": "nano32-int8",
        "file": "nano32-int8.tflite",
        "classes": 10,
        "input": {"dtype": "float32", "quantization": None},
        "preprocessing": {"resize_px": 36, "crop_px": 32, "interpolation": "bicubic", "keep_aspect": True},
        "output": {"name": "logits", "dtype": "float32", "shape": [1, 10], "activation": "softmax", "quantization": None},
        "labels": {"file": "nano32-int8.labels.txt"},
    }
    for name, change in changes.items():
        model[name] = model[name] | change if isinstance(change, dict) else change
    return model
