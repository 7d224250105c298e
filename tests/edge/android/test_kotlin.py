"""What to paste into an app is what the documents show. What fits each recipe: test_bundle.py."""

from pathlib import Path

import pytest

from edge.android import kotlin

ROOT = Path(__file__).parents[3]


def test_the_document_shows_what_the_command_prints():
    text = (ROOT / "docs" / "android.md").read_text(encoding="utf-8")
    assert kotlin.GRADLE in text
    shown = {
        "name": "nano32-int8", "file": "nano32-int8.tflite", "classes": 10, "input": {"dtype": "float32"},
        "preprocessing": {"resize_px": 32, "crop_px": 32, "interpolation": "bicubic", "keep_aspect": True},
        "output": {"dtype": "float32", "activation": "softmax"}, "labels": {"file": "nano32-int8.labels.txt"},
    }  # fmt: skip
    assert kotlin.kotlin(shown) in text


@pytest.mark.parametrize(
    ("resize", "crop", "keep_aspect", "words"),
    [
        (36, 32, True, "its short side resized to 36 (bilinear, antialiased), its centre of 32 x 32 cut out"),
        (32, 32, True, "its short side resized to 32 (bilinear, antialiased), its centre of 32 x 32 cut out"),
        (32, 32, False, "resized to 32 x 32 (bilinear, antialiased)"),
        (36, 32, False, "resized to 36 x 36 (bilinear, antialiased), its centre of 32 x 32 cut out"),
    ],
)
def test_what_to_do_with_an_image_first(resize, crop, keep_aspect, words):
    assert kotlin.geometry({"resize_px": resize, "crop_px": crop, "interpolation": "bilinear", "keep_aspect": keep_aspect}) == words
