"""AWS's names, each with a certificate of its own, behind one proxy: what asks for them goes where it would on AWS.

No name is resolved: who is told of the proxy (HTTPS_PROXY) asks it for a host, and speaks TLS with that host by it.
"""

from __future__ import annotations

import datetime
import socketserver
import ssl
import threading
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.testbed.front import Handler
from tests.testbed.hosts import host_of

_DAYS = datetime.timedelta(days=2)
_MOST = 65_536  #: bytes of a request to the proxy


class Authority:
    """A private one, whose own certificate is in a file; it has one made for each name that is asked for."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "authority.pem"
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the test bed's authority")])
        own = self._certificate(self._name, self._key, x509.BasicConstraints(ca=True, path_length=0))
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))
        self._lock = threading.Lock()
        self._made: dict[str, ssl.SSLContext] = {}

    def context(self, host: str) -> ssl.SSLContext:
        """By which a host speaks."""
        with self._lock:
            if host not in self._made:
                self._made[host] = self._context(host)
            return self._made[host]

    def _context(self, host: str) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
        certificate = self._certificate(called, key, x509.SubjectAlternativeName([x509.DNSName(host)]))
        both = self._folder / f"{len(self._made)}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        both.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(both)
        return context

    def _certificate(self, name: x509.Name, key: Any, more: x509.ExtensionType) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAYS)
            .not_valid_after(now + _DAYS)
            .add_extension(more, critical=isinstance(more, x509.BasicConstraints))
        )
        return made.sign(self._key, hashes.SHA256())


class Proxy(socketserver.ThreadingTCPServer):
    """It, on a port of its own."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, server: Any, authority: Authority) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.behind, self.authority = server, authority
        threading.Thread(target=self.serve_forever, name="proxy", daemon=True).start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who does not trust us, or leaves, is as it should be."""


class _Tunnel(socketserver.BaseRequestHandler):
    """One connection: to the host that is asked for, if AWS has it."""

    server: Proxy

    def handle(self) -> None:
        """Speak as that host."""
        head = b""
        while b"\r\n\r\n" not in head and len(head) < _MOST:
            if not (more := self.request.recv(1)):
                return
            head += more
        method, where, _ = head.split(b"\r\n")[0].decode().split(" ")
        host = where.rpartition(":")[0]
        if method != "CONNECT" or host_of(host) is None:
            self.request.sendall(b"HTTP/1.1 502 no such host\r\nContent-Length: 0\r\n\r\n")
            return
        self.request.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        with self.server.authority.context(host).wrap_socket(self.request, server_side=True) as secure:
            _speaker(host)(secure, self.client_address, self.server.behind)


@cache
def _speaker(host: str) -> type[Handler]:
    class Named(Handler):
        """Under its name."""

        def make_environ(self) -> Any:
            """A request to that host."""
            return {**super().make_environ(), "bed.host": host}

    return Named
