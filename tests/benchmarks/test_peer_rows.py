"""What is said of other tools' files follows from the rows."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from peer_rows import COLUMNS, kinds_of_reasons, verdicts


def _row(peer, precision, median, ours="1.000", low="0.990", high="1.010"):
    measured = {"median_ms": median, "our_int8_to_this": ours, "our_int8_low": low, "our_int8_high": high}
    return {**dict.fromkeys(COLUMNS, ""), "peer": peer, "precision": precision, **(measured if median else {})}


ROWS = [
    _row("tfvit", "int8", "33.0"),
    _row("OpenVINO", "float32", "90.0", "0.367", "0.360", "0.370"),
    _row("OpenVINO", "int8", "32.0", "1.031", "1.020", "1.040"),
    _row("OpenVINO", "int8, rest in bfloat16", "30.0", "1.100", "1.090", "1.110"),
    _row("ONNX Runtime", "dynamic int8", "60.0", "0.550", "0.540", "0.560"),
    _row("ONNX Runtime", "int8", ""),
]


def test_the_fastest_file_of_a_peer_is_the_one_that_counts():
    openvino, onnxruntime, anyone, faster = verdicts(ROWS)
    assert "1.100 (1.090 to 1.110)" in openvino
    assert "does **not** hold" in openvino
    assert "0.550 (0.540 to 0.560)" in onnxruntime
    assert onnxruntime.endswith("at most 0.65: holds.")
    assert "of all others (OpenVINO, int8, rest in bfloat16)" in anyone
    assert anyone.endswith("at most 0.9: does **not** hold.")
    assert faster.startswith("**Faster than our int8: OpenVINO int8, rest in bfloat16 (")  # the fastest first
    assert "OpenVINO int8 (" in faster


def test_an_interval_around_the_limit_decides_nothing():
    openvino, _, _, faster, equal = verdicts([_row("OpenVINO", "int8", "33.0", "1.010", "0.980", "1.040")])
    assert openvino.endswith("at most 1: **not decided** by this run.")
    assert faster == "Nothing here is seen to be faster than our int8."
    assert equal.startswith("Not told apart from it: OpenVINO int8 (")


def test_a_peer_without_int8_is_said_to_have_none():
    assert verdicts(ROWS[:2])[:2] == ["OpenVINO has no int8 file that ran.", "ONNX Runtime has no int8 file that ran."]


def test_kinds_of_reasons_leave_the_figures_out():
    reasons = "the machine was busy: other processes used 0.50 cores, at most 0.25; slowed down (throttled?) by 12% while measured"
    rows = [{"invalid_reasons": reasons}, {"invalid_reasons": "still warming up after 10 s"}, {"invalid_reasons": ""}]
    assert kinds_of_reasons(rows) == ["the machine was busy", "slowed down (throttled?)", "still warming up"]
