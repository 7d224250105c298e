"""Whose results are whose, and what else lies in a folder."""

import json
import os

from edge.report.inputs import read_inputs
from tests.edge import report_documents as made
from tfvit.errors import EXIT_OK, EXIT_UNUSABLE


def test_a_benchmark_of_another_file_of_the_same_name_is_not_this_files(one):
    folder, document = one
    other = {**made.row(document), "size_bytes": document["file"]["size_bytes"] + 1}
    made.save(folder / "benchmark.json", made.benchmark([other]))
    inputs = read_inputs(folder)
    assert inputs.files[0].host == ()
    assert inputs.apart[0][:2] == ("benchmark.json", "nano32-int8.tflite")
    assert "another file of this name" in inputs.apart[0][2]
    made.save(folder / "benchmark.json", made.benchmark([made.row(document, sha256="0" * 64)]))
    assert read_inputs(folder).files[0].host == ()
    made.save(folder / "benchmark.json", made.benchmark([made.row(document)]))
    assert len(read_inputs(folder).files[0].host) == 1


def test_of_files_in_two_folders_the_path_decides(tmp_path):
    document = made.manifest("int8")
    for name in ("a", "b"):
        made.save_artifact(tmp_path / name, document)
    made.save(
        tmp_path / "benchmark.json",
        made.benchmark([made.row(document, file="out/b/nano32-int8.tflite"), made.row(document, file="nano32-int8.tflite")]),
    )
    inputs = read_inputs(tmp_path)
    assert [(facts.label, len(facts.host)) for facts in inputs.files] == [("a/nano32-int8", 0), ("b/nano32-int8", 1)]
    assert [why for _, _, why in inputs.apart] == ["several files here have this name and size"]


def test_reports_for_other_files_are_listed_apart(one, reported):
    folder, document = one
    made.save(folder / "phone.json", made.device_report([made.device_row(document, sha256="0" * 64)]))
    made.save(folder / "validation.json", made.changed(made.validation(document), "sha256", "1" * 64))
    assert reported(folder)[0] == EXIT_OK
    inputs = read_inputs(folder)
    assert inputs.files[0].phone == inputs.files[0].validations == ()
    assert {what for what, _, _ in inputs.apart} == {"phone.json", "validation.json"}
    assert all(why.startswith("for another file") for _, _, why in inputs.apart)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "For other files, listed apart" in text
    assert "Phones and other devices" not in text


def test_a_device_report_from_elsewhere_counts_once(one, reported, tmp_path_factory):
    folder, document = one
    elsewhere = made.save(tmp_path_factory.mktemp("phones") / "nine.json", made.device_report([made.device_row(document)]))
    code, out, _ = reported(folder, "--device", elsewhere, "--device", elsewhere, "--json")
    assert code == EXIT_OK
    assert len(json.loads(out)["files"][0]["devices"]) == 1


def test_no_artifacts(tmp_path, reported):
    code, _, err = reported(tmp_path)
    assert code == EXIT_UNUSABLE
    assert "no artifacts" in err
    code, _, err = reported(tmp_path / "nowhere")
    assert code == EXIT_UNUSABLE
    assert "no such folder" in err
    assert not list(tmp_path.iterdir())


def test_other_files_are_noted(one, reported):
    folder, _ = one
    made.save(folder / "package.json", {"name": "app"})
    (folder / "other.tflite").write_bytes(b"....TFL3")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "broken.json").write_bytes(b"{")
    code, out, _ = reported(folder, "--json")
    assert code == EXIT_OK
    assert {"package.json is none of the documents a report is made from", "other.tflite has no manifest and is left out"} <= set(
        json.loads(out)["warnings"]
    )


def test_names_that_are_no_utf8(one, reported):
    folder, document = one
    (folder / os.fsdecode(b"caf\xe9.json")).write_text(json.dumps(made.benchmark([made.row(document)])), encoding="utf-8")
    assert reported(folder)[0] == EXIT_OK
    assert r"caf\xe9.json" in (folder / "report.html").read_text(encoding="utf-8")
