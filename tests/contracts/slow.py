"""An endpoint in; another one out, by which no connection carries more than so many bytes a second."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_PIECE_S = 0.05


@contextmanager
def slow_link(endpoint: str, bytes_per_s: int) -> Iterator[str]:
    """Each way, for each connection, and never silent while there is something to carry."""
    to = urlsplit(endpoint)
    piece = int(bytes_per_s * _PIECE_S)

    class Link(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            here: socket.socket = self.request
            with socket.create_connection((to.hostname, to.port)) as there:
                for each in (here, there):
                    for kind in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                        each.setsockopt(socket.SOL_SOCKET, kind, 1 << 14)
                back = threading.Thread(target=carry, args=(there, here), daemon=True)
                back.start()
                carry(here, there)
                back.join()

    def carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(piece):
                sink.sendall(content)
                time.sleep(_PIECE_S)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Link) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
