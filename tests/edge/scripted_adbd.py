"""The phone's end of adb's protocol for a `ScriptedPhone`: the real adb connects to it over TCP, runs shell commands, pushes and pulls."""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import threading
from pathlib import Path

from tests.edge.scripted_adb import SERIAL, ScriptedPhone

_BANNER = b"device::ro.product.name=beyond1;ro.product.model=Example Nine;ro.product.device=beyond1;features=cmd,shell_v2"
_VERSION, _MOST_BYTES = 0x01000000, 4096


class ScriptedAdbd:
    """Listens on loopback while it is entered; `port` is what `adb connect` takes."""

    def __init__(self, phone: ScriptedPhone) -> None:
        self.phone, self.lock = phone, threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def __enter__(self) -> ScriptedAdbd:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def local(self, path: str) -> Path:
        return self.phone.folder / "sdcard" / path.lstrip("/")

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=_Transport(self, connection).serve, daemon=True).start()


class _Transport:
    """One connection of an adb server: messages of 24 bytes and what follows them, for any number of streams."""

    def __init__(self, adbd: ScriptedAdbd, connection: socket.socket) -> None:
        self.adbd, self._connection, self._sending = adbd, connection, threading.Lock()
        self._streams: dict[int, _Stream] = {}

    def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        number = int.from_bytes(command, "little")
        with self._sending:
            self._connection.sendall(struct.pack("<6I", number, first, second, len(data), sum(data), number ^ 0xFFFFFFFF) + data)

    def serve(self) -> None:
        with contextlib.suppress(OSError, EOFError), self._connection.makefile("rb") as incoming:
            while header := incoming.read(24):
                number, first, second, length, _, _ = struct.unpack("<6I", header)
                self._handle(number.to_bytes(4, "little"), first, second, incoming.read(length))

    def _handle(self, command: bytes, first: int, second: int, data: bytes) -> None:
        if command == b"CNXN":
            self.send(b"CNXN", _VERSION, _MOST_BYTES, _BANNER)
        elif command == b"OPEN":
            stream = _Stream(self, len(self._streams) + 1, first, data.rstrip(b"\0").decode())
            self._streams[stream.own] = stream
            threading.Thread(target=stream.run, daemon=True).start()
        elif second in self._streams:
            stream = self._streams[second]
            if command == b"WRTE":
                stream.receive(data)
                self.send(b"OKAY", second, first)
            elif command == b"OKAY":
                stream.taken.release()
            elif command == b"CLSE":
                stream.close()


class _Stream:
    """One service that adb has opened: a shell command, or the sync service behind push and pull."""

    def __init__(self, transport: _Transport, own: int, other: int, service: str) -> None:
        self._transport, self.own, self._other, self._service = transport, own, other, service
        self.taken = threading.Semaphore(0)
        self._received, self._change, self._closed = b"", threading.Condition(), False

    def receive(self, data: bytes) -> None:
        with self._change:
            self._received += data
            self._change.notify()

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._change.notify()
        self.taken.release()

    def run(self) -> None:
        self._transport.send(b"OKAY", self.own, self._other)
        with contextlib.suppress(EOFError, OSError):
            name, _, rest = self._service.partition(":")
            if name.startswith("shell"):
                self._shell(rest)
            elif name == "sync":
                self._sync()
            self._transport.send(b"CLSE", self.own, self._other)

    def _read(self, size: int) -> bytes:
        with self._change:
            self._change.wait_for(lambda: len(self._received) >= size or self._closed)
            if len(self._received) < size:
                raise EOFError
            taken, self._received = self._received[:size], self._received[size:]
            return taken

    def _write(self, data: bytes) -> None:
        for start in range(0, len(data), _MOST_BYTES):
            self._transport.send(b"WRTE", self.own, self._other, data[start : start + _MOST_BYTES])
            self.taken.acquire()

    def _shell(self, command: str) -> None:
        stdout, stderr = io.BytesIO(), io.BytesIO()
        phone = self._transport.adbd.phone
        with self._transport.adbd.lock:
            code = phone.run_here([str(phone.adb), "-s", SERIAL, "shell", command], stdout=stdout, stderr=stderr).returncode
        for kind, data in ((1, stdout.getvalue()), (2, stderr.getvalue()), (3, bytes([code]))):
            if data:
                self._write(struct.pack("<BI", kind, len(data)) + data)

    def _sync(self) -> None:
        while True:
            request, (size,) = self._read(4), struct.unpack("<I", self._read(4))
            if request == b"QUIT":
                return
            path = self._read(size).decode()
            if request == b"STAT":
                file = self._transport.adbd.local(path)
                facts = file.stat() if file.exists() else None
                self._write(b"STAT" + struct.pack("<3I", *((facts.st_mode, facts.st_size, int(facts.st_mtime)) if facts else (0, 0, 0))))
            elif request == b"SEND":
                self._take(self._transport.adbd.local(path.rpartition(",")[0]))
            elif request == b"RECV":
                data = self._transport.adbd.local(path).read_bytes()
                self._write(b"DATA" + struct.pack("<I", len(data)) + data + b"DONE" + struct.pack("<I", 0))

    def _take(self, file: Path) -> None:
        data = b""
        while True:
            kind, (size,) = self._read(4), struct.unpack("<I", self._read(4))
            if kind == b"DONE":
                break
            data += self._read(size)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        self._write(b"OKAY" + struct.pack("<I", 0))
