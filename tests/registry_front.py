"""A registry behind a front of the test's own: who is let in, what breaks on the way, and what was asked."""

from __future__ import annotations

import json
import re
import ssl
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import urlsplit

from starburst_common.image.oci import MANIFESTS

PASSWORD = "pa/ss+word=="
_PIECE = 1 << 16
_OWN = ("connection", "transfer-encoding", "host", "authorization", "proxy-authorization", "accept-encoding")


class Front(ThreadingHTTPServer):
    """Forwards to a registry; a request may be refused, or cut half-way, before."""

    daemon_threads = True

    def __init__(self, registry: str, *, auth: str = "", certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.registry, self.auth = registry, auth  #: "", "basic" or "bearer"
        self.asked: list[str] = []  #: "METHOD path" of each request
        self.headers: list[dict[str, str]] = []
        self.relative = False  #: whether Location names no host
        self.immutable = False  #: whether tags stay
        self._faults: list[tuple[str, str]] = []
        self._lock = Lock()
        self.scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
            self.scheme = "https"

    @property
    def host(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        """Its address."""
        return f"{self.scheme}://{self.host}"

    def fail(self, request: str, how: str, times: int = 1) -> None:
        """Break the next such requests: by a status, "cut" (what they send), "cut answer" or "other answer"."""
        with self._lock:
            self._faults += [(request, how)] * times

    def fault(self, request: str) -> str:
        """What is to happen to a request."""
        with self._lock:
            self.asked.append(request)
            for number, (pattern, how) in enumerate(self._faults):
                if re.search(pattern, request):
                    del self._faults[number]
                    return how
        return ""

    def count(self, pattern: str) -> int:
        """How many requests the pattern finds."""
        return sum(re.search(pattern, request) is not None for request in self.asked)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or that does not trust us, is as it should be."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Front

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle_any(self) -> None:
        front = self.server
        split = urlsplit(self.path)  # of a proxy, the whole address is asked for
        path = f"{split.path}?{split.query}" if split.query else split.path
        front.headers.append({name.lower(): value for name, value in self.headers.items()})
        how = front.fault(f"{self.command} {path}")
        size = int(self.headers.get("Content-Length", 0))
        if how == "cut":
            self.rfile.read(size // 2)
            self.close_connection = True
            return
        if split.path == "/token":
            self._answer(200, json.dumps({"token": "a-token"}).encode() if self._is_user() else b"{}")
            return
        body = self.rfile.read(size)
        if how == "long":
            self._answer(200, bytes(5 << 20))
            return
        if how.isdigit():
            headers = {"Retry-After": "1"} if how == "429" else {}
            self._answer(int(how), b'{"errors":[{"code":"SCRIPTED","message":"as told"}]}', headers)
            return
        if (challenge := self._challenge()) is not None:
            self._answer(401, b"{}", {"WWW-Authenticate": challenge})
            return
        self._forward(path, body, how)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    def _is_user(self) -> bool:
        expected = b64encode(f"AWS:{PASSWORD}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"

    def _challenge(self) -> str | None:
        if self.server.auth == "basic":
            return None if self._is_user() else 'Basic realm="here"'
        if self.server.auth == "bearer":
            given = self.headers.get("Authorization")
            told = f'Bearer realm="{self.server.url}/token",service="here",scope="repository:x:pull"'
            return None if given == "Bearer a-token" else told
        return None

    def _forward(self, path: str, body: bytes, how: str) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _OWN}
        connection = HTTPConnection(self.server.registry, timeout=60)
        try:
            if self.server.immutable and self.command == "PUT" and re.search(r"/manifests/[^:]+$", path):
                connection.request("HEAD", path, headers={"Accept": ", ".join(MANIFESTS)})
                there = connection.getresponse()
                there.read()
                if there.status == 200:
                    self._answer(400, b'{"errors":[{"code":"TAG_INVALID","message":"the tag is immutable"}]}')
                    return
            connection.request(self.command, path, body=body, headers={**headers, "Host": self.server.host})
            answer = connection.getresponse()
            said = answer.read()
            given = {name: value for name, value in answer.headers.items() if name.lower() not in _OWN}
        finally:
            connection.close()
        if self.server.relative and "Location" in given:
            split = urlsplit(given["Location"])
            given["Location"] = f"{split.path}?{split.query}"
        if how == "cut answer":
            self._answer(answer.status, said[: len(said) // 2], {**given, "Content-Length": str(len(said))})
            self.close_connection = True
            return
        self._answer(answer.status, said[::-1] if how == "other answer" else said, given)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def front_of(registry: str, **how: Any) -> Iterator[Front]:
    """A front while the block runs."""
    with Front(registry, **how) as front:
        serving = Thread(target=front.serve_forever, args=(0.05,), daemon=True)
        serving.start()
        try:
            yield front
        finally:
            front.shutdown()
            serving.join()
