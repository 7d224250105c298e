"""Every check of a report fails once, and the command says which."""

from pathlib import Path

from edge.report.checks import checks, failures
from edge.report.inputs import read_inputs
from tests.edge import report_documents as made
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK


def failed(folder: Path) -> list[tuple[str, str]]:
    return [(check.file, check.name) for check in failures(checks(read_inputs(folder)))]


def test_a_tampered_file_fails_the_report(one, reported):
    folder, _ = one
    assert reported(folder)[0] == EXIT_OK
    file = folder / "nano32-int8.tflite"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    code, out, _ = reported(folder)
    assert code == EXIT_CHECK_FAILED
    assert "nano32-int8: not the file its manifest describes" in out
    assert failed(folder) == [("nano32-int8", "integrity")]
    assert "1 check failed" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_missing_file_fails_the_report(one):
    (one[0] / "nano32-int8.tflite").unlink()
    assert failed(one[0]) == [("nano32-int8", "integrity")]


def test_a_failed_drift_gate_fails_the_report(tmp_path, reported):
    made.save_artifact(tmp_path, made.manifest("int8", passed=False, collapse=["one class for nearly everything"], logits_snr_db=None))
    code, out, _ = reported(tmp_path)
    assert code == EXIT_CHECK_FAILED
    assert "one class for nearly everything" in out
    assert "not a finite number" in out


def test_a_failed_validation_fails_the_report(one, reported):
    folder, document = one
    made.save(folder / "validation.json", made.validation(document, passed=False, labelled=False))
    assert reported(folder)[0] == EXIT_CHECK_FAILED
    assert failed(folder) == [("nano32-int8", "validation")]


def test_wrong_answers_on_a_delegate_fail_the_report(one):
    folder, document = one
    made.save(folder / "benchmark.json", made.benchmark([made.row(document, delegate="gpu", status="wrong", reason="differ by 0.7")]))
    assert failed(folder) == [("nano32-int8", "outputs")]


def test_a_failed_parity_check_fails_the_report(one):
    folder, document = one
    parity = {"passed": False, "top5_same": False, "max_abs_err": 0.2, "tolerance": 0.001}
    made.save(folder / "phone.json", made.device_report([made.device_row(document, parity=parity)]))
    assert failed(folder) == [("nano32-int8", "parity")]


def test_unfit_calibration_images_fail_the_files_they_calibrated(one):
    folder, _ = one
    made.save_artifact(folder, made.manifest("float16"))
    made.save(folder / "calibration.json", made.calibration(passed=False))
    assert failed(folder) == [("nano32-int8", "calibration")]
