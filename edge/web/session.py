"""From what `edge.device --web` is given to the reports that came: a folder is served on the local network, and browsers measure it."""

from __future__ import annotations

import contextlib
import queue
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path

from edge.artifacts import atomic_files
from edge.report import device
from edge.report.documents import DEVICE_REPORT, Document, read_document
from edge.web import certificate, reports, server, site
from tfvit.errors import EnvironmentUnusableError, UserError
from tfvit.progress import Progress, duration

# Of the documentation; nothing is sent there
_SOMEWHERE = ("192.0.2.1", 9)


def serve(
    folder: Path, *, out: Path, host: str | None, port: int, preset: str, number: int, timeout_seconds: float, progress: Progress
) -> list[Document]:
    """The reports that came, in this order. Nothing listens any more when this returns or raises.

    Args:
        folder: as edge.bundle --web made it.
        out: where reports go.
        host: the address to listen on; None: this machine's on the local network.
        port: 0: a free one.
        preset: what the page measures by, unless its user chooses another.
        number: of reports to wait for.
        timeout_seconds: the longest time to wait for the next one.

    Raises:
        InputError: the folder is none of ours, or was changed.
        EnvironmentUnusableError: no network, the port is taken, OUT cannot be written to, or no report came.
    """
    with progress.stage("check the folder"):
        files, package = site.read_folder(folder)
    host = host or _own_address()
    run, token = secrets.token_hex(8), secrets.token_urlsafe(16)
    models = {(model["name"], model["sha256"]) for model in package["models"]}
    arrived: queue.Queue[Path | UserError] = queue.Queue()
    came = 0

    def receive(body: bytes) -> str:
        nonlocal came
        if came == number:
            raise reports.RefusedReportError(410, "no more reports are waited for")
        report = reports.checked(body, run, models)
        try:
            path = reports.save(out, report)
        except UserError as error:  # the disk
            arrived.put(error)
            raise reports.RefusedReportError(500, "the computer could not keep the report") from error
        came += 1
        arrived.put(path)
        return f"The report is kept as {path.name}."

    served: dict[str, server.Content] = {**files, site.SESSION_FILE: site.session(run, preset)}
    context, fingerprint = certificate.make_context(host)
    received: list[Document] = []
    with atomic_files.prepared_folder(out), contextlib.ExitStack() as cleanup:
        try:
            port = cleanup.enter_context(server.serving(served, token, receive, context, host, port))
        except OSError as error:
            raise _not_listening(host, port, error) from error
        for line in _invitation(f"https://{f'[{host}]' if ':' in host else host}:{port}/{token}/", fingerprint, number):
            progress.note(line)
        while len(received) < number:
            try:
                path = arrived.get(timeout=timeout_seconds)
            except queue.Empty:
                break
            if isinstance(path, UserError):
                raise path
            received.append(read_document(path, path.name, demanded=DEVICE_REPORT))
            progress.note(f"report {len(received)} of {number}: {device.rows(received[-1])[0].device}, kept as {path}")
    if not received:
        raise EnvironmentUnusableError(
            "no report came",
            expected=f"a browser that opens the address, measures and sends its report within {duration(timeout_seconds)}",
            received="none; nothing was saved",
            action="see whether the phone is in the same network and the firewall lets it in, or give more time with --timeout",
        )
    return received


def _invitation(url: str, fingerprint: str, number: int) -> list[str]:
    waits = "the report" if number == 1 else f"{number} reports"
    return [
        f"open on a device in the same network: {url}",
        *qr_lines(url),
        "The browser warns of the certificate, which was made for this run. Its SHA-256 fingerprint is",
        f"{fingerprint}",
        f"Waiting for {waits}: the page measures, then sends. Ctrl-C ends it.",
    ]


def qr_lines(text: str) -> list[str]:
    """A QR code for a terminal, two rows of it in a line: its light parts are drawn, for terminals with light letters on a dark ground."""
    import segno

    rows = [list(row) for row in segno.make(text, error="l", micro=False).matrix_iter(border=2)]
    rows += [[0] * len(rows[0])] * (len(rows) % 2)
    blocks = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}
    pairs: list[tuple[Sequence[int], Sequence[int]]] = list(zip(rows[::2], rows[1::2], strict=True))
    return ["".join(blocks[bool(top), bool(bottom)] for top, bottom in zip(*pair, strict=True)) for pair in pairs]


def _own_address() -> str:
    """This machine's address on the way to other networks."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_SOMEWHERE)
        except OSError as error:
            raise EnvironmentUnusableError(
                "this machine's address on the local network is not known",
                expected="a network with a way out",
                received=error.strerror or str(error),
                action="name the address with --host",
            ) from error
        return str(probe.getsockname()[0])


def _not_listening(host: str, port: int, error: OSError) -> EnvironmentUnusableError:
    return EnvironmentUnusableError(
        "the server cannot listen",
        expected=f"an address of this machine and a free port: {host}, {port or 'any'}",
        received=error.strerror or str(error),
        action="choose others with --host and --port",
    )
