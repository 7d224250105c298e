"""Reports from outside: what is kept is right in every field, and nothing is overwritten."""

import json

import pytest

from edge.report import device
from edge.report.documents import DEVICE_REPORT, read_document
from edge.web import reports
from tests.edge.report_documents import changed
from tests.edge.web.browser_reports import RUN, body, report
from tests.edge.web.conftest import MODEL

MODELS = {(MODEL["name"], MODEL["sha256"])}


def test_a_right_one_is_kept_and_read(tmp_path):
    path = reports.save(tmp_path, reports.checked(body(report()), RUN, MODELS))
    assert path.name.startswith("browser-")
    document = read_document(path, path.name, demanded=DEVICE_REPORT)
    assert document.content == report()
    (row,) = device.rows(document)
    assert (row.device, row.is_phone) == ("A phone, Chrome 156 (in a browser, not in an app)", False)
    assert dict(device.description(document))["browser"] == "Chrome 156.0"


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (b" " * (reports.MOST_BYTES + 1), 413, "at most"),
        (b"\xff\xfe", 400, "no JSON"),
        (b"", 400, "no JSON"),
        (b'{"kind": NaN}', 400, "no JSON"),
        (b"[" * 100_000, 400, "no JSON"),
        (b"[]", 422, "not as its schema has it"),
        (body({"kind": "manifest"}), 422, "not as its schema has it"),
        (body(report(run="another")), 422, "another run"),
        (body({name: value for name, value in report().items() if name != "run"}), 422, "another run"),
        (body(report(results=[])), 422, "no results"),
        (body(report(results=report()["results"] * 501)), 422, "not as its schema has it"),
        (body({name: value for name, value in report().items() if name != "browser"}), 422, "$.browser: missing"),
        (body(changed(report(), "device.kind", "phone")), 422, "not a browser's"),
        (body(changed(report(), "device.model", "x" * 81)), 422, "$.device.model"),
        (body(changed(report(), "device.model", "")), 422, "$.device.model"),
        (body(changed(report(), "browser.user_agent", "x" * 501)), 422, "$.browser.user_agent"),
        (body(report(failures=["x" * 1001])), 422, "$.failures[0]"),
        (body(report(results=[report()["results"][0] | {"name": "../other"}])), 422, "not in the bundle"),
        (body(report(results=[report()["results"][0] | {"sha256": "0" * 64}])), 422, "not in the bundle"),
        (body(report(results=[report()["results"][0] | {"median_ms": -1}])), 422, "$.results[0].median_ms"),
        (body(report(results=[report()["results"][0] | {"median_ms": "1"}])), 422, "$.results[0].median_ms"),
        (body(report(results=[report()["results"][0] | {"invalid_reasons": ["x"] * 21}])), 422, "$.results[0].invalid_reasons"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_others_are_refused(sent, status, said):
    with pytest.raises(reports.RefusedReportError) as caught:
        reports.checked(sent, RUN, MODELS)
    assert caught.value.status == status
    assert said in str(caught.value)


def test_nothing_is_overwritten(tmp_path):
    path = reports.save(tmp_path, report())
    before = path.read_bytes()
    with pytest.raises(reports.RefusedReportError) as caught:
        reports.save(tmp_path, report())
    assert caught.value.status == 409
    other = reports.save(tmp_path, report(failures=[]))
    assert sorted(tmp_path.iterdir()) == sorted([path, other])
    assert path.read_bytes() == before
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(reports.RefusedReportError):
        reports.save(tmp_path, report())
    assert not (tmp_path / "elsewhere").exists()


def test_a_name_owes_nothing_to_the_report(tmp_path):
    hostile = changed(report(), "device.model", "../../x\x1b[2J")
    path = reports.save(tmp_path, reports.checked(body(hostile), RUN, MODELS))
    assert path.parent == tmp_path
    assert path.name.removeprefix("browser-").removesuffix(".device.json").isalnum()
    assert json.loads(path.read_text())["device"]["model"] == "../../x\x1b[2J"
