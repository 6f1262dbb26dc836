"""A server that speaks TLS with a certificate of its own, and takes each request for one to an object store."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread


@dataclass(frozen=True, slots=True)
class Secure:
    """It, while it runs."""

    endpoint: str
    certificate: Path
    asked: list[str] = field(default_factory=list)  #: what came, as "GET /path"


@contextmanager
def secure_store(folder: Path) -> Iterator[Secure]:
    """One whose objects all hold `abc`, while the block lasts."""
    key, certificate, asked_for = (folder / name for name in ("key.pem", "certificate.pem", "asked"))
    asked_for.write_text(
        "[req]\ndistinguished_name = who\nx509_extensions = more\n[who]\n[more]\nsubjectAltName = DNS:localhost\n"
        "basicConstraints = critical, CA:FALSE\n"
    )
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=here", "-config", asked_for, "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    with HTTPServer(("localhost", 0), _Answers) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        made = Secure(f"https://localhost:{server.server_port}", certificate)
        server.asked = made.asked  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answered(b"abc")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answered(b"")

    def _answered(self, body: bytes) -> None:
        self.server.asked.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        self.send_response(200)
        for name, value in (
            ("Content-Length", str(len(body))),
            ("Last-Modified", "Mon, 30 Nov 2026 12:00:00 GMT"),
            ("ETag", '"1"'),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""
