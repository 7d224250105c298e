"""Documents that cannot be read or are not as their schema has them: each is refused and named with the place."""

import pytest

from edge.report import documents
from tests.edge import report_documents as made
from tfvit.errors import EXIT_UNUSABLE, InputError


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff\xfe", b'{"a": NaN}', b'{"a": 1e999}', b'{"a": ' + b"9" * 400 + b"}", b'{"a": "\\ud800"}', b"[" * 100_000],
    ids=["half", "not UTF-8", "NaN", "infinite", "huge", "half a letter", "deep"],
)
def test_unreadable_json(one, reported, content):
    (one[0] / "broken.json").write_bytes(content)
    code, out, err = reported(one[0])
    assert code == EXIT_UNUSABLE
    assert "unreadable JSON" in err
    assert "broken.json" in err
    assert len(err.strip().splitlines()) == 4
    assert out == ""
    assert not (one[0] / "report.html").exists()


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("device.kind", "toaster", "$.device.kind"),
        ("device", {}, "$.device.manufacturer"),
        ("schema_version", 2, "$.schema_version"),
        ("results", [{}], "$.results[0].name"),
        ("app", None, "$.app"),
    ],
)
def test_an_invalid_device_report(one, reported, path, value, where):
    folder, document = one
    report = made.changed(made.device_report([made.device_row(document)]), path, value)
    code, _, err = reported(folder, "--device", made.save(folder / "phone.json", report))
    assert code == EXIT_UNUSABLE
    assert "invalid device report" in err
    assert f"{where}:" in err


def test_every_field_of_a_device_row_is_checked(one):
    folder, document = one
    row = made.device_row(document)
    assert documents.schema("device_report")["properties"]["results"]["items"]["required"] == list(row)
    for name in row:
        path = made.save(folder / "phone.json", made.device_report([{**row, name: object.__name__ * 3}]))
        if name in ("name", "backend_reason"):
            continue  # any text will do
        with pytest.raises(InputError) as raised:
            documents.read_document(path, "phone.json")
        assert raised.value.json_path == f"$.results[0].{name}"


@pytest.mark.parametrize("kind", ["manifest", "benchmark", "validation", "calibration"])
def test_invalid_documents_are_named_with_the_place(one, reported, kind):
    folder, document = one
    whole, path = {
        "manifest": (document, "drift.limits.min_snr_db"),
        "benchmark": (made.benchmark([made.row(document)]), "environment.cores"),
        "validation": (made.validation(document), "gate.passed"),
        "calibration": (made.calibration(), "images.found"),
    }[kind]
    made.save(folder / "other.json", made.changed(whole, path, "nonsense"))
    code, _, err = reported(folder)
    assert code == EXIT_UNUSABLE
    assert f"invalid {kind}" in err
    assert f"$.{path}:" in err


def test_device_takes_device_reports_alone(one, reported):
    folder, document = one
    code, _, err = reported(folder, "--device", made.save(folder / "benchmark.json", made.benchmark([made.row(document)])))
    assert code == EXIT_UNUSABLE
    assert "invalid device report" in err
    code, _, err = reported(folder, "--device", folder / "missing.json")
    assert code == EXIT_UNUSABLE
    assert "unreadable file" in err
