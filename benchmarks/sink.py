"""A bare S3 on loopback, in a process of its own: it keeps what is put in memory, gives it back, and does nothing else.

Signatures, owners and conditions are not looked at; requests are counted.
"""

from __future__ import annotations

import multiprocessing
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from typing import Any

_HEAD_BYTES = 1 << 16


class Sink:
    """What has been put, by path."""

    def __init__(self) -> None:
        self._kept: dict[str, memoryview] = {}
        self._writers: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def serve(self, ready: Any) -> None:
        """For ever, a thread a connection; says where it is."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        ready.send(listener.getsockname()[1])
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._speak, args=(connection,), daemon=True).start()

    def _speak(self, connection: socket.socket) -> None:
        held = b""
        with connection:
            while (at := held.find(b"\r\n\r\n")) >= 0 or (more := connection.recv(_HEAD_BYTES)):
                if at < 0:
                    held += more
                    continue
                first, *lines = held[:at].decode("latin-1").split("\r\n")
                headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
                if headers.get("expect"):
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                body, held = _body(connection, held[at + 4 :], int(headers.get("content-length", 0)))
                if "aws-chunked" in headers.get("content-encoding", ""):
                    body = _joined(body)
                method, path, _ = first.split()
                self._answer(connection, method, path, headers, body)

    def _answer(
        self, connection: socket.socket, method: str, path: str, headers: dict[str, str], body: memoryview
    ) -> None:
        path, query = path.partition("?")[::2]
        self._counts[f"{method}{' part' if 'partNumber' in query else ''}"] += 1
        if path == "/counts":
            told = repr(dict(self._counts)).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))
            return
        about = f'HTTP/1.1 200 OK\r\nETag: "1"\r\nLast-Modified: {formatdate(usegmt=True)}\r\n'
        if method == "PUT":
            self._kept[path] = body
            connection.sendall(f"{about}Content-Length: 0\r\n\r\n".encode())
            return
        found = self._kept.get(path)
        if found is None:
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        if asked := re.match(r"bytes=(\d+)-(\d*)", headers.get("range", "")):
            lo, hi = int(asked[1]), int(asked[2] or len(found) - 1) + 1
            about = about.replace("200 OK", "206 Partial Content")
            about += f"Content-Range: bytes {lo}-{min(hi, len(found)) - 1}/{len(found)}\r\n"
            found = found[lo:hi]
        connection.sendall(f"{about}Content-Length: {len(found)}\r\n\r\n".encode())
        if method == "GET":
            connection.sendall(found)


def _body(connection: socket.socket, begun: bytes, nbytes: int) -> tuple[memoryview, bytes]:
    """So many bytes, into one place; and what came beyond them."""
    body = memoryview(bytearray(nbytes))
    there = min(len(begun), nbytes)
    body[:there] = begun[:there]
    while there < nbytes:
        came = connection.recv_into(body[there:])
        if not came:
            raise ConnectionError("a body ended early")
        there += came
    return body, begun[nbytes:]


def _joined(body: memoryview) -> memoryview:
    """Without the frames that some senders put round pieces of a body."""
    whole, left = bytearray(), bytes(body)
    while (size := int(left[: (end := left.index(b"\r\n"))].partition(b";")[0], 16)) > 0:
        whole += left[end + 2 : end + 2 + size]
        left = left[end + 4 + size :]
    return memoryview(whole)


def _serve(ready: Any) -> None:
    Sink().serve(ready)


@contextmanager
def running_sink() -> Iterator[str]:
    """Its address."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()
