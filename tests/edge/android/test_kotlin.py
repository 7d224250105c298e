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
        "output": {"dtype": "float32", "shape": [1, 10], "activation": "softmax"}, "labels": {"file": "nano32-int8.labels.txt"},
    }  # fmt: skip
    assert kotlin.kotlin(shown) in text


@pytest.mark.parametrize(
    ("meaning", "shape", "lines"),
    [
        ("classes", [1, 10], ("class Classifier(", "fun classify(", "The probabilities of the 10 classes.", "exp(logits")),
        (
            "labels",
            [1, 10],
            ("class Classifier(", "fun classify(", "The probability of each of the 10 labels", "1f / (1f + exp(-logits[it]))"),
        ),
        ("values", [1, 2], ("class Regressor(", "fun predict(", "The 2 values as they are", "return outputs[0].readFloat()")),
        (
            "features",
            [1, 2, 3, 64],
            ("class Encoder(", "fun encode(", "The 2 x 3 x 64 features as they are", "return outputs[0].readFloat()"),
        ),
    ],
)
def test_what_comes_out(meaning, shape, lines):
    code = kotlin.kotlin(
        {
            "name": "m", "file": "m.tflite", "classes": shape[-1], "input": {"dtype": "float32"}, "labels": None,
            "preprocessing": {"resize_px": [24, 56], "crop_px": [24, 56], "interpolation": "bilinear", "keep_aspect": True, "pad": 0},
            "output": {"name": "x", "dtype": "float32", "shape": shape, "activation": None, "meaning": meaning},
        }
    )  # fmt: skip
    assert [line for line in lines if line not in code] == []
    assert ("exp(" in code) == (meaning in ("classes", "labels"))
    assert "@param pixels 56 wide and 24 high RGB" in code
    assert "resized to fit into 56 wide and 24 high (bilinear, antialiased), centred, the rest filled with 0." in code
    assert code.count("{") == code.count("}")
