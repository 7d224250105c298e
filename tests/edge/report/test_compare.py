"""edge.report --compare: each figure gets worse once, tolerances hold, what cannot be compared is said and not judged."""

import json

import pytest

from edge.report import __main__ as command
from edge.report.compare import Tolerances, comparison, markdown
from edge.report.inputs import read_inputs
from tests.edge import report_documents as made
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE
from tfvit.hashing import sha256


@pytest.fixture
def folders(tmp_path):
    """Two equal folders and what is in them; `write(side, ...)` changes one."""

    def write(side, document=None, row=None, validation=None, environment=None):
        document = document or made.manifest("int8")
        made.save_artifact(tmp_path / side, document)
        made.save(tmp_path / side / "benchmark.json", made.benchmark([row or made.row(document)], **(environment or {})))
        made.save(tmp_path / side / "validation.json", validation or made.validation(document))

    write("a")
    write("b")
    return tmp_path, write


def compared(folder, **tolerances):
    document = comparison(read_inputs(folder / "a"), read_inputs(folder / "b"), Tolerances(**tolerances))
    return document, {change["what"]: change for change in document["changes"]}


def test_equal_folders(folders):
    document, changes = compared(folders[0])
    assert document["passed"]
    assert {change["status"] for change in changes.values()} == {"same"}
    assert {
        "size, bytes",
        "operations",
        "XNNPACK partitions",
        "logits SNR, dB",
        "same top-1, %",
        "top-1 on test.zip, %",
        "cpu, median ms",
    } <= set(changes)


@pytest.mark.parametrize(
    ("field", "value", "what", "allowed"),
    [
        ("file.size_bytes", 1200, "size, bytes", {"size_percent": 10.0}),
        ("file.ops", {"ADD": 120}, "operations", {"ops_percent": 25.0}),
        ("delegates.xnnpack.partitions", 2, "XNNPACK partitions", {"partitions": 1.0}),
        ("delegates.xnnpack.delegated_ops", 98, "operations XNNPACK leaves", None),
        ("delegates.gpu.verdict", "refused", "GPU by rule", None),
        ("file.min_runtime_version", "2.100.0", "needs TFLite", None),
        ("drift.logits_snr_db", 36.0, "logits SNR, dB", {"snr_db": 3.0}),
        ("drift.logits_snr_db", None, "logits SNR, dB", None),
        ("drift.top1_agreement", 0.9, "same top-1, %", {"agreement_points": 7.0}),
        ("drift.passed", False, "checks", None),
    ],
)
def test_what_gets_worse(folders, field, value, what, allowed):
    folder, write = folders
    document = made.changed(made.manifest("int8"), field, value)
    document["file"]["sha256"] = made.sha256(made.content(document["name"], document["file"]["size_bytes"]))
    write("b", document)
    found, changes = compared(folder)
    assert not found["passed"]
    assert [name for name, change in changes.items() if change["status"] == "worse"] == [what]
    if allowed:
        found, changes = compared(folder, **allowed)
        assert found["passed"]
        assert changes[what]["status"] == "changed"


def test_the_other_way_round_is_better(folders):
    folder, write = folders
    write("a", made.changed(made.manifest("int8"), "drift.logits_snr_db", 30.0))
    found, changes = compared(folder)
    assert found["passed"]
    assert changes["logits SNR, dB"]["status"] == "better"


def test_other_weights_are_said(folders):
    folder, write = folders
    write("b", made.changed(made.manifest("int8"), "weights.sha256", "ab" * 32))
    found, changes = compared(folder)
    assert found["passed"]
    assert (changes["weights"]["status"], changes["weights"]["after"]) == ("changed", "cifar10 abababab")


def test_equal_bytes_are_not_worse(folders):
    """The machine was slower."""
    folder, write = folders
    write("b", row=made.row(made.manifest("int8"), median_ms=1.5))
    found, changes = compared(folder)
    assert found["passed"]
    assert changes["cpu, median ms"]["why"] == "the same bytes: the machine was slower, not the file"


@pytest.mark.parametrize(("milliseconds", "passed"), [((2.4, 1.0), True), ((1.2, 0.7), False)])
def test_files_that_took_turns_are_compared_by_ratio(folders, milliseconds, passed):
    """A day on which everything takes twice as long, and a file that lost on the other one."""
    folder, _ = folders
    for side, (first, second) in (("a", (1.2, 0.5)), ("b", milliseconds)):
        documents = made.manifest("float32"), made.changed(made.manifest("int8"), "file.size_bytes", 500 if side == "a" else 501)
        rows = [made.row(document, median_ms=median) for document, median in zip(documents, (first, second), strict=True)]
        for document, row in zip(documents, rows, strict=True):
            made.save_artifact(folder / side, document)
            row["ratio"] = row["median_ms"] / first
            row["sha256"] = document["file"]["sha256"]
            row["size_bytes"] = document["file"]["size_bytes"]
        documents[1]["file"]["sha256"] = rows[1]["sha256"] = ("aa" if side == "a" else "bb") * 32
        made.save_artifact(folder / side, documents[1])
        made.save(folder / side / "benchmark.json", made.benchmark(rows))
    document = comparison(read_inputs(folder / "a"), read_inputs(folder / "b"), Tolerances())
    (change,) = [one for one in document["changes"] if one["file"] == "nano32-int8" and one["what"].startswith("cpu")]
    print(change)
    assert change["what"] == "cpu, ratio to nano32-float32"
    assert (change["status"] != "worse") == passed


def test_slower(folders):
    folder, write = folders
    document = made.changed(made.manifest("int8"), "file.size_bytes", made.manifest("int8")["file"]["size_bytes"] + 1)
    document["file"]["sha256"] = sha256(made.content(document["name"], document["file"]["size_bytes"]))
    write("b", document, row=made.row(document, median_ms=1.5))
    found, changes = compared(folder)
    assert not found["passed"]
    assert changes["cpu, median ms"]["status"] == "worse"
    assert compared(folder, latency_percent=25.0)[0]["passed"]


@pytest.mark.parametrize(
    ("row", "environment", "why"),
    [
        ({"median_ms": 9.0}, {"cpu": "Another"}, "another machine: cpu differ"),
        ({"median_ms": 9.0, "valid": False}, {}, "not a valid measurement"),
        ({"median_ms": 9.0, "software_gpu": True}, {}, "a software GPU's milliseconds mean nothing"),
    ],
)
def test_milliseconds_that_cannot_be_compared(folders, row, environment, why):
    folder, write = folders
    write("b", row=made.row(made.manifest("int8"), **row), environment=environment)
    found, changes = compared(folder)
    assert found["passed"]
    assert (changes["cpu, median ms"]["status"], changes["cpu, median ms"]["why"]) == ("not compared", why)


def test_less_accurate(folders):
    folder, write = folders
    worse = made.validation(made.manifest("int8"))
    worse["accuracy"]["target"]["top1"] = made.proportion(0.79)
    write("b", validation=worse)
    found, changes = compared(folder)
    assert not found["passed"]
    assert changes["top-1 on test.zip, %"]["status"] == "worse"
    assert compared(folder, top1_points=5.0)[0]["passed"]


def test_drift_on_other_images_is_not_compared(folders):
    folder, write = folders
    write("b", made.manifest("int8", samples=64, logits_snr_db=20.5))
    found, changes = compared(folder)
    assert found["passed"]
    assert changes["logits SNR, dB"]["status"] == "not compared"
    assert "32 of builtin, then 64 of builtin" in changes["logits SNR, dB"]["why"]


def test_a_tampered_file_is_worse(folders):
    folder, _ = folders
    file = folder / "b" / "nano32-int8.tflite"
    file.write_bytes(file.read_bytes() + b"x")
    found, changes = compared(folder)
    assert not found["passed"]
    assert "integrity" in changes["checks"]["why"]


def test_files_that_come_and_go(folders):
    folder, _ = folders
    made.save_artifact(folder / "b", made.manifest("float16"))
    assert compared(folder)[0]["passed"]
    made.save_artifact(folder / "b", made.manifest("float16", passed=False))
    assert not compared(folder)[0]["passed"]
    made.save_artifact(folder / "b", made.manifest("float16"))
    made.save_artifact(folder / "a", made.manifest("dynamic"))
    found, _ = compared(folder)
    assert not found["passed"]
    assert [change["file"] for change in found["changes"] if change["status"] == "worse"] == ["nano32-dynamic"]


def test_names_are_text_in_markdown(tmp_path):
    for side in "ab":
        made.save_artifact(tmp_path / side, made.manifest("int8", "x|y`<script>[link](z)&amp;", passed=side == "a"))
    text = markdown(comparison(read_inputs(tmp_path / "a"), read_inputs(tmp_path / "b"), Tolerances()))
    assert "<script>" not in text
    assert r"x\|y\`&lt;script&gt;\[link\](z)&amp;amp;" in text


def test_the_command(folders, capfd):
    folder, write = folders
    arguments = ["--compare", str(folder / "a"), str(folder / "b"), "--quiet"]
    assert command.main(arguments) == EXIT_OK
    assert "nothing got worse" in capfd.readouterr().out
    write("b", made.manifest("int8", logits_snr_db=30.0))
    summary = folder / "summary.md"
    assert command.main([*arguments, "-o", str(summary)]) == EXIT_CHECK_FAILED
    out = capfd.readouterr().out
    assert "| nano32-int8 | logits SNR, dB | 38.10 | 30.00 | -8.1 | worse: more than 1 lost |" in out
    assert summary.read_text(encoding="utf-8").rstrip() == out.rstrip()
    assert command.main([*arguments, "--max-snr-loss", "9", "--json"]) == EXIT_OK
    document = json.loads(capfd.readouterr().out)
    assert (document["kind"], document["passed"], document["tolerances"]["snr_db"]) == ("comparison", True, 9.0)
    summary.write_text("my notes", encoding="utf-8")
    assert command.main([*arguments, "-o", str(summary)]) == EXIT_UNUSABLE
    assert summary.read_text(encoding="utf-8") == "my notes"
