"""A small HTTPS server for one folder: the files that are listed, under a secret path, and one place to send reports to.

Nothing else is answered: no other path, no listing, no other method. A request that does not come in time is cut off.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, cast

from edge.web.reports import MOST_BYTES, RefusedReportError
from edge.web.site import CONTENT_TYPES, PAGE

REPORT_PATH = "report"
# A request has to be there within this; one write, 64 kB, is given up after as long
REQUEST_SECONDS = 30.0
MOST_CONNECTIONS = 32
_HEADERS = {
    # threads of WebAssembly need both
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Content = Path | bytes
# Takes the body of a report and gives the answer; raises `RefusedReportError`
Receive = Callable[[bytes], str]


@contextlib.contextmanager
def serving(
    files: Mapping[str, Content],
    token: str,
    receive: Receive,
    context: ssl.SSLContext,
    host: str,
    port: int = 0,
    request_seconds: float = REQUEST_SECONDS,
) -> Iterator[int]:
    """Serves inside the `with`; gives the port. Afterwards nothing listens any more.

    Args:
        files: name -> file or bytes. A GET of /TOKEN/NAME gives it, and /TOKEN/ the page.
        token: secret.
        receive: called with the body of each POST to /TOKEN/report, in one thread at a time.
        context: TLS.
        host, port: where to listen; port 0: a free one.
        request_seconds: how long a request may take to arrive.

    Raises:
        OSError: the address cannot be listened on.
    """
    server = _Server((host, port), files, token, receive, context, request_seconds)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        with server.turn:  # whoever sent a report has had the answer
            pass


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(
        self,
        address: tuple[str, int],
        files: Mapping[str, Content],
        token: str,
        receive: Receive,
        context: ssl.SSLContext,
        request_seconds: float,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.files, self.token, self.receive, self.context, self.request_seconds = files, token, receive, context, request_seconds
        self.turn = threading.Lock()
        self._slots = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without HTTPServer's question to the name service."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or speaks no TLS, is none of the user's business."""


class _Handler(BaseHTTPRequestHandler):
    # one request a connection
    protocol_version = default_request_version = "HTTP/1.0"

    @property
    def _own(self) -> _Server:
        return cast(_Server, self.server)

    def setup(self) -> None:
        self._deadline = threading.Timer(self._own.request_seconds, self._cut)
        self._deadline.daemon = True
        self._deadline.start()
        try:
            self.request.settimeout(self._own.request_seconds)
            self.request = self._own.context.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
            self.request.do_handshake()
        except BaseException:
            self._end()
            raise
        super().setup()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self._end()

    def _end(self) -> None:
        self._deadline.cancel()
        with contextlib.suppress(OSError):
            self.request.close()

    def _cut(self) -> None:
        """However it trickles in: the request took too long."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.request, socket.SHUT_RDWR)

    def do_GET(self) -> None:
        self._deadline.cancel()
        content = self._own.files.get(self._name() or "")
        if content is None:
            self._answer(404, "not found")
            return
        name = self._name() or ""
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        self._head(200, CONTENT_TYPES[Path(name).suffix], size)
        if self.command == "HEAD":
            return
        if isinstance(content, bytes):
            self.wfile.write(content)
        else:
            with open(content, "rb") as file:
                shutil.copyfileobj(file, self.wfile, 1 << 16)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if self._name() != REPORT_PATH:
            self._answer(404, "not found")
            return
        length = self.headers.get("Content-Length", "")
        if self.headers.get_content_type() != "application/json":
            self._answer(415, "a report is application/json")
        elif "Transfer-Encoding" in self.headers or not length:
            self._answer(411, "the length must be said before")
        elif not (length.isascii() and length.isdigit()):
            self._answer(400, "the length is no number")
        elif len(length) > len(str(MOST_BYTES)) or int(length) > MOST_BYTES:
            self._answer(413, f"at most {MOST_BYTES} bytes")
        else:
            self._receive(int(length))

    def _receive(self, length: int) -> None:
        body = self.rfile.read(length)
        self._deadline.cancel()
        if len(body) < length:
            return  # cut off, or gone
        with self._own.turn:
            try:
                status, said = 201, self._own.receive(body)
            except RefusedReportError as refused:
                status, said = refused.status, str(refused)
            self._answer(status, said)

    def _name(self) -> str | None:
        """What is asked for below the secret path; None where the path is another one."""
        _, token, *rest = (self.path if self.path.startswith("/") else "/").split("/", 2)
        known = secrets.compare_digest(token.encode("utf-8", "surrogatepass"), self._own.token.encode())
        return (rest[0] or PAGE) if known and rest else None

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server refuses itself; it knows a method by its function."""
        self._answer(405 if code == 501 else int(code), "this method is not allowed" if code == 501 else "a request that cannot be read")

    def _answer(self, status: int, text: str) -> None:
        self._deadline.cancel()
        data = (text + "\n").encode()
        self._head(status, "text/plain; charset=utf-8", len(data))
        if self.command != "HEAD":
            self.wfile.write(data)

    def _head(self, status: int, content_type: str, length: int) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": content_type, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def version_string(self) -> str:
        return "edge.device"

    def log_message(self, format: str, *args: Any) -> None:
        """What comes in is told once it is kept."""
