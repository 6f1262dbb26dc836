"""Packages described in; a package index that uv can install them from, over loopback HTTP, out."""

from __future__ import annotations

import base64
import hashlib
import io
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread


def wheel(name: str, version: str, *requires: str) -> bytes:
    """A wheel with one module, named as the package, and one file that belongs beside the packages."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{name}-{version}.data/data/lib/lib{name}.so": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {each}\n" for each in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return out.getvalue()


def project(folder: Path, name: str, *requires: str) -> Path:
    """A folder with a project that can be installed, with one module, named as it."""
    folder.mkdir(parents=True, exist_ok=True)
    needs = ", ".join(f'"{each}"' for each in requires)
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = [{needs}]\n'
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    )
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "__init__.py").write_text("")
    return folder


class Index:
    """A simple index (PEP 503); with a password it asks for Basic authentication."""

    def __init__(self, port: int, password: str) -> None:
        self.port, self.password = port, password
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        self.slow_s = 0.0  #: until it answers

    def add(self, name: str, version: str, *requires: str) -> None:
        self.files.setdefault(name, {})[f"{name}-{version}-py3-none-any.whl"] = wheel(name, version, *requires)

    @property
    def bare_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/simple"

    @property
    def url(self) -> str:
        return f"http://me:{self.password}@127.0.0.1:{self.port}/simple" if self.password else self.bare_url

    def answer(self, path: str, credentials: str) -> tuple[int, bytes]:
        self.asked.append(path)
        time.sleep(self.slow_s)
        if self.password and credentials != "Basic " + base64.b64encode(f"me:{self.password}".encode()).decode():
            return 401, b""
        parts = path.strip("/").split("/")
        files = self.files.get(parts[1], {}) if len(parts) > 1 else {}
        if len(parts) == 3 and parts[2] in files:
            return 200, files[parts[2]]
        if not files:
            return 404, b""
        links = (
            f'<a href="{file}#sha256={hashlib.sha256(body).hexdigest()}">{file}</a>' for file, body in files.items()
        )
        return 200, f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()


@contextmanager
def running_index(password: str = "") -> Iterator[Index]:
    """Stops at the end."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            status, body = index.answer(self.path, self.headers.get("Authorization", ""))
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *words: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # uv asks for all packages at once

    with Server(("127.0.0.1", 0), Handler) as server:
        index = Index(server.server_address[1], password)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield index
        finally:
            server.shutdown()
            thread.join()
