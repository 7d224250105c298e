"""The server answers for the listed files and for reports, and for nothing else; real sockets, real TLS.

Covers edge/web/certificate.py too.
"""

import contextlib
import hashlib
import http.client
import socket
import ssl

import pytest

from edge.web import server
from edge.web.certificate import make_context
from edge.web.reports import MOST_BYTES, RefusedReportError

pytest.importorskip("cryptography", reason="the extra web")

TOKEN = "secret-token"
HOST = "127.0.0.1"
WASM = bytes(range(256)) * 1000


@pytest.fixture(scope="module")
def tls():
    """(context, fingerprint): making a key takes longer than a test."""
    return make_context(HOST)


class _Client:
    """Talks to one server; trusts any certificate, as a user does who has read its fingerprint."""

    def __init__(self, port: int, received: list[bytes]) -> None:
        self.port, self.received = port, received
        self.context = ssl._create_unverified_context()

    def socket(self) -> ssl.SSLSocket:
        return self.context.wrap_socket(socket.create_connection((HOST, self.port), timeout=20))

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPSConnection(HOST, self.port, timeout=20, context=self.context)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def post(self, body: bytes, path: str = f"/{TOKEN}/report", **headers: str) -> tuple[int, str]:
        headers = {"Content_Type": "application/json", "Content_Length": str(len(body)), **headers}
        status, _, text = self.ask("POST", path, body, **{name: value for name, value in headers.items() if value})
        return status, text.decode().strip()

    def raw(self, data: bytes) -> bytes:
        """What comes back for bytes as they are, until the server ends the connection."""
        with self.socket() as connection:
            connection.sendall(data)
            return _rest(connection)


def _rest(connection) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError, ssl.SSLError):
        while part := connection.recv(1 << 16):
            found += part
    return found


@contextlib.contextmanager
def _served(tmp_path, tls, request_seconds=20.0):
    (tmp_path / "index.html").write_text("<!doctype html>page")
    (tmp_path / "x.wasm").write_bytes(WASM)
    (tmp_path / "not-listed.txt").write_text("secret")
    files = {"index.html": tmp_path / "index.html", "x.wasm": tmp_path / "x.wasm", "session.json": b"{}"}
    received: list[bytes] = []

    def receive(body: bytes) -> str:
        if b"wrong" in body:
            raise RefusedReportError(422, "wrong")
        received.append(body)
        return "kept"

    with server.serving(files, TOKEN, receive, tls[0], HOST, request_seconds=request_seconds) as port:
        yield _Client(port, received)


@pytest.fixture
def client(tmp_path, tls):
    with _served(tmp_path, tls) as served:
        yield served


def test_the_listed_files(client):
    status, headers, data = client.ask("GET", f"/{TOKEN}/")
    assert (status, data, headers["content-type"]) == (200, b"<!doctype html>page", "text/html; charset=utf-8")
    assert client.ask("GET", f"/{TOKEN}/index.html")[2] == data
    status, headers, data = client.ask("GET", f"/{TOKEN}/x.wasm")
    assert (status, data, headers["content-type"]) == (200, WASM, "application/wasm")
    assert client.ask("GET", f"/{TOKEN}/session.json")[2] == b"{}"
    status, headers, data = client.ask("HEAD", f"/{TOKEN}/x.wasm")
    assert (status, data, headers["content-length"]) == (200, b"", str(len(WASM)))


def test_the_headers(client):
    """Threads need the first two; the others keep what is served to this page."""
    for status, headers, _ in (client.ask("GET", f"/{TOKEN}/"), client.ask("GET", "/"), client.ask("PUT", "/")):
        assert headers["cross-origin-opener-policy"] == "same-origin", status
        assert headers["cross-origin-embedder-policy"] == "require-corp"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers
        assert headers["server"] == "edge.device"


@pytest.mark.parametrize(
    "path",
    [
        "/", "/index.html", "/x.wasm", f"/{TOKEN}", f"/{TOKEN[:-1]}/", f"/{TOKEN}x/", f"/{TOKEN.upper()}/", "/wrong/index.html",
        f"/{TOKEN}/not-listed.txt", f"/{TOKEN}/../{TOKEN}/index.html", f"/{TOKEN}/../not-listed.txt", f"/{TOKEN}/%2e%2e/not-listed.txt",
        f"/{TOKEN}//etc/passwd", f"/{TOKEN}/./index.html", f"/{TOKEN}/index.html?x", f"/{TOKEN}/index.html%00", f"/{TOKEN}/report",
        f"https://{HOST}/{TOKEN}/", "*", f"/{TOKEN}/{'a' * 60_000}", "/\xe9/",
    ],
    ids=lambda path: path[:40],
)  # fmt: skip
def test_no_other_path(client, path):
    answer = client.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode("latin-1"))
    assert answer.split(b" ")[1] == b"404"
    assert answer.endswith(b"not found\n")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get"])
def test_no_other_method(client, method):
    assert client.ask(method, f"/{TOKEN}/index.html")[0] == 405
    assert client.ask(method, f"/{TOKEN}/report", b"", Content_Length="0")[0] == 405


@pytest.mark.parametrize(
    ("request_line", "status"),
    [(b"nonsense", b"400"), (b"GET / HTTP/9.9", b"505"), (b"GET /" + b"a" * 70_000 + b" HTTP/1.1", b"414")],
    ids=["no HTTP", "no version", "long"],
)
def test_no_other_protocol(client, request_line, status):
    assert client.raw(request_line + b"\r\n\r\n").split(b" ")[1] == status


def test_too_many_headers(client):
    answer = client.raw(f"GET /{TOKEN}/ HTTP/1.1\r\n".encode() + b"X: y\r\n" * 200 + b"\r\n")
    assert answer.split(b" ")[1] == b"431"


def test_a_report(client):
    assert client.post(b'{"a": 1}') == (201, "kept")
    assert client.post(b'{"a": 1}', Content_Type="application/json; charset=utf-8") == (201, "kept")
    assert client.post(b'"wrong"') == (422, "wrong")
    assert client.received == [b'{"a": 1}'] * 2


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/report", {}, 404),
        ("/other/report", {}, 404),
        (f"/{TOKEN}/", {}, 404),
        (f"/{TOKEN}/index.html", {}, 404),
        (f"/{TOKEN}/report/", {}, 404),
        (f"/{TOKEN}/report", {"Content_Type": "text/plain"}, 415),
        (f"/{TOKEN}/report", {"Content_Type": "multipart/form-data; boundary=x"}, 415),
        (f"/{TOKEN}/report", {"Content_Type": ""}, 415),
        (f"/{TOKEN}/report", {"Content_Length": ""}, 411),
        (f"/{TOKEN}/report", {"Content_Length": "", "Transfer_Encoding": "chunked"}, 411),
        (f"/{TOKEN}/report", {"Transfer_Encoding": "chunked"}, 411),
        (f"/{TOKEN}/report", {"Content_Length": "-1"}, 400),
        (f"/{TOKEN}/report", {"Content_Length": "1e3"}, 400),
        (f"/{TOKEN}/report", {"Content_Length": "²"}, 400),
        (f"/{TOKEN}/report", {"Content_Length": str(MOST_BYTES + 1)}, 413),
        (f"/{TOKEN}/report", {"Content_Length": "9" * 5000}, 413),
    ],
)
def test_no_other_report(client, path, headers, status):
    assert client.post(b"", path, **headers)[0] == status
    assert client.received == []


def test_a_report_that_ends_early(client):
    with client.socket() as connection:
        connection.sendall(f"POST /{TOKEN}/report HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        socket.socket.shutdown(connection, socket.SHUT_WR)
        assert _rest(connection) == b""
    assert client.received == []


def test_a_slow_client_keeps_nobody_waiting(client):
    """One that says nothing, one that speaks no TLS, one that stops in the middle of a header."""
    with socket.create_connection((HOST, client.port)), socket.create_connection((HOST, client.port)) as other, client.socket() as third:
        other.sendall(b"GET / HTTP/1.1\r\n\r\n")
        third.sendall(b"GET /")
        assert client.ask("GET", f"/{TOKEN}/")[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /",
        f"POST /{TOKEN}/report HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{{".encode(),
    ],
    ids=["nothing", "header", "body"],
)
def test_a_slow_request_is_cut_off(tmp_path, tls, sent):
    with _served(tmp_path, tls, request_seconds=0.3) as client, client.socket() as connection:
        connection.sendall(sent)
        assert _rest(connection) == b""
        assert client.received == []


def test_a_slow_handshake_is_cut_off(tmp_path, tls):
    with _served(tmp_path, tls, request_seconds=0.3) as client, socket.create_connection((HOST, client.port), timeout=20) as connection:
        assert _rest(connection) == b""


def test_there_are_only_so_many_connections(tmp_path, tls, monkeypatch):
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)
    with _served(tmp_path, tls) as client, client.socket(), client.socket():  # noqa: SIM117 (the third comes after them)
        with socket.create_connection((HOST, client.port), timeout=20) as third:
            assert _rest(third) == b""


def test_nothing_listens_afterwards(tmp_path, tls):
    with _served(tmp_path, tls) as client:
        assert client.ask("GET", f"/{TOKEN}/")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, client.port))


def test_the_certificate(client, tls):
    """It is for this address, it is the one whose fingerprint was shown, and no other host's name fits."""
    from cryptography import x509

    with client.socket() as connection:
        data = connection.getpeercert(binary_form=True)
    assert hashlib.sha256(data).hexdigest().upper() == tls[1].replace(":", "")
    certificate = x509.load_der_x509_certificate(data)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name) for name in names.get_values_for_type(x509.IPAddress)] == [HOST]
    assert make_context("desk.local")[1] != tls[1]
    trusting = ssl.create_default_context(cadata=data)
    trusting.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    with socket.create_connection((HOST, client.port)) as plain, trusting.wrap_socket(plain, server_hostname=HOST) as connection:
        assert connection.version() in ("TLSv1.2", "TLSv1.3")
