"""The golden image and the recommendation of a package. Its models, answers and refusals: test_bundle.py."""

import hashlib
import io

import numpy as np
from PIL import Image

from calibration import builtin
from edge.android import package
from tests.edge import report_documents

GOLDEN_SHA256 = "722046d0d03dc192ae486e097840df51abc6be3721fa4783ecb9177266f2e5ce"


def test_the_golden_image_is_a_scene_whose_bytes_never_change():
    scene = builtin.generate(0, 300, 300200)[50:250]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(package.golden_png()))), scene)
    # a new scene would make every device report about the old one useless
    assert hashlib.sha256(package.golden_png()).hexdigest() == GOLDEN_SHA256


def test_what_is_said_of_a_recommendation():
    small, large = report_documents.manifest("int8", "small"), report_documents.manifest("int8", "large")
    large["file"]["size_bytes"] += 1
    why = "int8; whole in one XNNPACK partition; by rule, not measured on a phone"
    assert package.recommended({"small": small}) == {
        "cpu": {"name": "small", "why": why},
        "gpu": {"name": "small", "why": why.replace("in one XNNPACK partition", "on the GPU delegate")},
        "npu": None,
    }
    both = package.recommended({"large": large, "small": small})
    assert both["cpu"] == {"name": "small", "why": f"{why}; the smallest of the 2 such files here"}
    random = {"random": report_documents.manifest("int8", "random", random=True)}
    assert package.recommended(random)["cpu"]["why"] == f"{why}; RANDOM weights: its answers mean nothing"
