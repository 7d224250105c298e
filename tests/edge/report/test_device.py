"""A report that the Android app's classes wrote on a computer, beside measurements of this side; `make android` checks a real one so."""

import copy
import json

import pytest

from android_demo.desktop import check_report
from edge.report import __main__ as command
from tests.edge import report_documents as made


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """The JVM's report, the benchmark, and what edge.report makes of both."""
    folder = tmp_path_factory.mktemp("jvm")
    manifests = [made.manifest(recipe) for recipe in ("float16", "int8")]
    for document in manifests:
        made.save_artifact(folder / "artifacts", document)
    benchmark = made.benchmark([made.row(document) for document in manifests])
    made.save(folder / "artifacts" / "benchmark.json", benchmark)
    device = made.device_report([*map(made.device_row, manifests), made.device_row(manifests[0], "gpu", used="cpu")], "host_jvm", "Linux")
    path = made.save(folder / "device_report.json", device)
    assert command.main([str(folder / "artifacts"), "--device", str(path), "-o", str(folder / "report.html"), "--quiet"]) == 0
    return device, benchmark, json.loads((folder / "report.json").read_text()), (folder / "report.html").read_text()


def test_it_is_labelled_and_not_mixed(merged):
    assert check_report.problems(*merged) == []


def test_the_check_can_fail(merged):
    def problems(change):
        documents = [*copy.deepcopy(merged[:3]), merged[3]]
        changed = change(documents)
        return " / ".join(check_report.problems(*(documents if changed is None else changed)))

    def mixed(documents):
        rows = documents[2]["files"][0]
        rows["host"].append(rows["devices"].pop(0))

    def as_phone(documents):
        documents[2]["files"][1]["devices"][0]["is_phone"] = True

    def recommended(documents):
        documents[2]["recommendations"][0]["reasons"] = ["median 1.2 ms; computer's JVM"]

    def silent(documents):
        documents[2]["warnings"] = []

    def of_a_phone(documents):
        documents[0]["device"]["kind"] = "phone"

    assert "rows are not those" in problems(mixed)
    assert "rows of this side" in problems(mixed)
    assert "shown as" in problems(as_phone)
    assert "recommendation" in problems(recommended)
    assert "no warning" in problems(silent)
    assert "kind host_jvm" in problems(of_a_phone)
    label = check_report.LABEL.replace("'", "&#39;")
    assert "section of devices" in problems(lambda documents: [*documents[:3], documents[3].replace(label, "Linux")])
    added = merged[3].replace('<section id="latency"', f'<section id="latency" title="">{label}</section><section id="other"', 1)
    assert "section latency" in problems(lambda documents: [*documents[:3], added])
