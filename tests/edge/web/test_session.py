"""edge.device --web, as a process: it invites, keeps what is right, tells what was measured, and is gone afterwards."""

import contextlib
import http.client
import json
import queue
import re
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from edge import device
from edge.report import __main__ as report_command
from edge.web import session, site
from tests.edge.report_documents import manifest, save_artifact
from tests.edge.web.browser_reports import body, report
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_UNUSABLE, EXIT_USAGE

pytest.importorskip("cryptography", reason="the extra web")
pytest.importorskip("segno", reason="the extra web")

ROOT = Path(__file__).parents[3]
HOST = "127.0.0.1"


class _Waiting:
    """A running `edge.device --web`, and the address that it shows."""

    def __init__(self, *arguments) -> None:
        command = [sys.executable, "-m", "edge.device", "--host", HOST, *map(str, arguments)]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # where the tests themselves run with SIGINT ignored (in the background of a shell), the process would inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.said = []
        for line in self.process.stderr:
            self.said.append(line)
            if line.startswith("Waiting for"):
                break
        found = re.search(rf"https://{HOST}:(\d+)/([\w-]{{22}})/", "".join(self.said))
        assert found, "".join(self.said)
        self.port, self.token = int(found[1]), found[2]

    def ask(self, method: str, path: str, data: bytes | None = None) -> tuple[int, str]:
        connection = http.client.HTTPSConnection(HOST, self.port, timeout=20, context=ssl._create_unverified_context())
        with contextlib.closing(connection):
            connection.request(method, f"/{self.token}/{path}", data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode().strip()

    @property
    def run(self) -> str:
        return json.loads(self.ask("GET", "session.json")[1])["run"]

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        print(out, "".join(self.said), err)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, self.port))
        return self.process.returncode, out, err


@pytest.fixture
def waiting(folder, tmp_path):
    """Starts it; ends it where the test did not."""
    started = []

    def start(*arguments) -> _Waiting:
        started.append(_Waiting("--web", folder, "--out", tmp_path / "out", *arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.mark.whole
def test_a_report_is_kept_and_the_server_gone(waiting, tmp_path):
    one = waiting("--json", "--preset", "quick")
    session_file = json.loads(one.ask("GET", "session.json")[1])
    assert (session_file["reports"], session_file["preset"]) == (True, "quick")
    assert one.ask("GET", "")[1].startswith("<!doctype html>")
    assert one.ask("POST", "report", b"{}")[0] == 422
    status, said = one.ask("POST", "report", body(report(run=one.run)))
    assert status == 201
    code, out, _ = one.ended()
    assert code == EXIT_OK
    document = json.loads(out)
    (kept,) = (tmp_path / "out").iterdir()
    assert said == f"The report is kept as {kept.name}."
    assert document["reports"][0]["report"] == str(kept)
    assert document["reports"][0]["device"]["model"] == "A phone"
    assert document["passed"] is True
    assert "QR" not in out


@pytest.mark.whole
def test_edge_report_merges_it(waiting, tmp_path):
    """As a browser on the device it names; no phone, and nothing to recommend an app by."""
    one = waiting()
    made = manifest("int8", "small-int8")
    save_artifact(tmp_path / "artifacts", made)
    row = report()["results"][0]
    one.ask("POST", "report", body(report(run=one.run, results=[row, row | {"backend_requested": "gpu", "backend_used": "gpu"}])))
    assert one.ended()[0] == EXIT_OK
    (kept,) = (tmp_path / "out").iterdir()
    content = json.loads(kept.read_text())
    for result in content["results"]:  # the stand-in of the page's folder is another file
        result["sha256"] = made["file"]["sha256"]
    kept.write_text(json.dumps(content))
    assert report_command.main([str(tmp_path / "artifacts"), "--device", str(kept), "-o", str(tmp_path / "r.html"), "--quiet"]) == EXIT_OK
    found = json.loads((tmp_path / "r.json").read_text())
    rows = found["files"][0]["devices"]
    assert [(row["device"], row["is_phone"], row["backend_used"]) for row in rows] == [
        ("A phone, Chrome 156 (in a browser, not in an app)", False, backend) for backend in ("cpu", "gpu")
    ]
    assert "measured" not in {one["basis"] for one in found["recommendations"]}
    page = (tmp_path / "r.html").read_text()
    assert "by LiteRT.js in a browser" in page
    assert "not measured: GPU: this browser has no WebGPU" in page


@pytest.mark.whole
def test_several_reports_and_no_more(waiting, tmp_path):
    one = waiting("--reports", "2")
    run = one.run
    wrong = report()["results"][0] | {"parity": {"passed": False, "top5_same": False, "max_abs_err": None, "tolerance": 0.001}}
    first = body(report(run=run, results=[wrong]))
    assert one.ask("POST", "report", first)[0] == 201
    assert one.ask("POST", "report", first) == (409, "this report was sent before")
    assert one.ask("POST", "report", body(report(run=run)))[0] == 201
    code, out, _ = one.ended()
    assert code == EXIT_CHECK_FAILED
    assert "FAILED: small-int8, cpu: FAILED, NaN" in out
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.whole
def test_ctrl_c(waiting, tmp_path):
    one = waiting()
    one.process.send_signal(signal.SIGINT)
    assert one.ended()[0] == EXIT_INTERRUPTED
    assert not (tmp_path / "out").exists()


def test_nobody_comes(folder, tmp_path, capfd):
    arguments = ["--web", str(folder), "--out", str(tmp_path / "out"), "--host", HOST, "--timeout", "0.001"]
    assert device.main(arguments) == EXIT_UNUSABLE
    assert "error: no report came" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_fewer_come(folder, tmp_path, capsys, monkeypatch):
    """The second one is waited for in vain; the first one is kept."""

    class OneComes(queue.Queue):
        def get(self, timeout):
            if self.unfinished_tasks:  # the first one has been taken
                raise queue.Empty
            sent = report(run=json.loads(served[site.SESSION_FILE])["run"])
            assert receive[0](body(sent)).startswith("The report is kept as browser-")
            return super().get()

    served, receive = {}, []

    @contextlib.contextmanager
    def serving(files, token, received, *others):
        served.update(files)
        receive.append(received)
        yield 1

    monkeypatch.setattr(session.queue, "Queue", OneComes)
    monkeypatch.setattr(session.server, "serving", serving)
    assert device.main(["--web", str(folder), "--out", str(tmp_path / "out"), "--host", HOST, "--reports", "2"]) == EXIT_CHECK_FAILED
    assert "FAILED: 1 of 2 reports came" in capsys.readouterr().out
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--reports", "2"], EXIT_USAGE, "--reports without --web"),
        (["--web", "x", "a.tflite"], EXIT_USAGE, "FILE with --web"),
        (["--web", "x", "--serial", "S"], EXIT_USAGE, "--serial with --web"),
        (["--web", "x", "--quiet"], EXIT_USAGE, "--quiet with --web"),
        (["--web", "x", "--reports", "0"], EXIT_USAGE, "must be 1 or more"),
        (["--web", "x", "--port", "70000"], EXIT_USAGE, "must be 1 to 65535"),
        (["--web", "no-such-folder"], EXIT_UNUSABLE, "no-such-folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(arguments, code, said, capfd, tmp_path):
    assert device.main([*arguments, "--out", str(tmp_path / "out")]) == code
    assert said in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_address_that_cannot_be_had(folder, tmp_path, capfd):
    with socket.create_server((HOST, 0)) as taken:
        arguments = ["--web", str(folder), "--out", str(tmp_path / "out"), "--host", HOST, "--port", str(taken.getsockname()[1])]
        assert device.main(arguments) == EXIT_UNUSABLE
    assert "error: the server cannot listen" in capfd.readouterr().err


def test_the_qr_code_is_the_addresss():
    import segno

    lines = session.qr_lines("https://192.0.2.7:8443/token/")
    matrix = [list(row) for row in segno.make("https://192.0.2.7:8443/token/", error="l", micro=False).matrix_iter(border=2)]
    seen = [[character in half for character in line] for line in lines for half in (" ▄", " ▀")]
    assert seen[: len(matrix)] == [[bool(module) for module in row] for row in matrix]
