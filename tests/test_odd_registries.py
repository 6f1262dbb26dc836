"""A registry, or a proxy on the way to it, that answers what no registry does: one error of ours, nothing written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from starburst_common import BadInput, CannotBuild, Unavailable
from starburst_common.environment import Environment
from starburst_common.image import oci
from starburst_common.image.build import PYTHON
from starburst_common.image.layer import LayerBuilder
from starburst_common.image.recipe import Recipe
from starburst_common.image.registry import Registry
from starburst_common.ports import Access

Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def answering(answers: dict[str, Answer], *, odd: int = 1000) -> Iterator[str]:
    """The address of a server that answers so many requests by "METHOD path", and all others 404."""
    left = iter(range(odd))

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = f"{self.command} {self.path.partition('?')[0]}"
            none: Answer = (404, {}, b"")
            status, headers, body = answers.get(asked, none) if next(left, None) is not None else none
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


LAYER = {"mediaType": oci.LAYER, "digest": f"sha256:{'0' * 64}", "size": 1}
CONFIG = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "config": {}}
NO_MANIFEST: list[object] = [
    b"<html>log in here</html>",
    b"\xff\xfe",
    b"[" * 100_000,
    b"[]",
    b"null",
    {},
    {"schemaVersion": 2},
    {"schemaVersion": 2, "config": 5, "layers": []},
    {"schemaVersion": 2, "manifests": 5},
    {"schemaVersion": 2, "manifests": [5]},
    {"schemaVersion": 2, "manifests": [{"platform": {"os": "linux", "architecture": "amd64"}}]},
    {"schemaVersion": 2, "manifests": [{"platform": {"os": "linux", "architecture": "amd64"}, "digest": "../../x"}]},
]
NO_LAYERS: list[object] = [
    None,
    [5],
    [{}],
    [{**LAYER, "digest": "sha256:../../../tmp/starburst-escaped"}],
    [{**LAYER, "size": "much"}],
    [{**LAYER, "digest": 5}],
]
NO_CONFIG: list[object] = [b"no JSON", [], {}, {**CONFIG, "rootfs": 5}, {**CONFIG, "rootfs": {"diff_ids": [5]}}]
NO_CONFIG += [{**CONFIG, "config": 5}, {**CONFIG, "config": {"Env": [5]}}, {**CONFIG, "architecture": []}]


def body_of(said: object) -> bytes:
    return said if isinstance(said, bytes) else json.dumps(said).encode()


def image(manifest: object = None, *, layers: object = (), config: object = CONFIG) -> dict[str, Answer]:
    """What a registry has as x:1 and by digest."""
    stored = body_of(config)
    made = {"schemaVersion": 2, "config": {"digest": oci.digest(stored)}, "layers": layers}
    body = body_of(made if manifest is None else manifest)
    told = (200, {"Content-Type": oci.MANIFEST}, body)
    return {
        "GET /v2/x/manifests/1": told,
        "HEAD /v2/x/manifests/1": (200, {"Docker-Content-Digest": oci.digest(body)}, b""),
        f"GET /v2/x/manifests/{oci.digest(body)}": told,
        f"GET /v2/x/blobs/{oci.digest(stored)}": (200, {}, stored),
    }


@pytest.mark.parametrize(
    "answers",
    [
        *(image(each) for each in NO_MANIFEST),
        *(image(layers=each) for each in NO_LAYERS),
        *(image(config=each) for each in NO_CONFIG),
    ],
)
def test_what_is_no_image_is_told(answers: dict[str, Answer], tmp_path: Path) -> None:
    """As a base to build on, and as an image that a run names: whatever is not as every image is."""
    with answering(answers) as host:
        registry = Registry(f"http://{host}")
        found = registry.manifest("x", "1")
        assert found is not None
        environment = Environment(python=PYTHON, requirements=())
        recipe = Recipe(
            environment=environment,
            platforms=("linux/amd64",),
            base=f"{host}/x:1",
            base_digest=found.digest,
            worker="",
        )
        target = Access(url=f"http://{host}", repository="y", user="", password="")
        with pytest.raises((CannotBuild, BadInput)) as caught:
            LayerBuilder(cache=tmp_path / "cache").build(recipe, target, print)
        assert str(caught.value).isprintable() and len(str(caught.value)) < 600
    assert not Path("/tmp/starburst-escaped").exists()


PLACES = [
    "http://[",
    "file:///etc/passwd",
    "ftp://x/y",
    "//",
    "http://",
    "http://h:99999/",
    "http://\u00e9/",
    "gopher:x",
]


@pytest.mark.parametrize("where", PLACES)
def test_a_place_that_is_none_is_told(where: str) -> None:
    """Where to upload to, where a blob is, where tokens are given: odd addresses are not asked."""
    location = {"Location": where.encode().decode("latin-1")}
    realm = {"WWW-Authenticate": f'Bearer realm="{location["Location"]}",service="s"'}
    answers: dict[str, Answer] = {
        "POST /v2/x/blobs/uploads/": (202, location, b""),
        f"GET /v2/x/blobs/{oci.digest(b'y')}": (307, location, b""),
        "GET /v2/x/manifests/1": (401, realm, b""),
    }
    with answering(answers) as host:
        registry = Registry(f"http://{host}")
        for work in (
            lambda: registry.put_blob("x", oci.digest(b"z"), b"z"),
            lambda: registry.blob("x", oci.digest(b"y")),
            lambda: registry.manifest("x", "1"),
        ):
            with pytest.raises((CannotBuild, Unavailable)) as caught:
                work()
            assert str(caught.value).isprintable()


@pytest.mark.parametrize("pause", ["²", "soon", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", ""])
def test_a_pause_that_is_none_is_our_own(pause: str) -> None:
    """Whatever a busy registry asks for, it is asked again."""
    headers = {"Retry-After": pause.encode().decode("latin-1")}
    with answering({"GET /v2/x/manifests/1": (429, headers, b"")}, odd=1) as host:
        assert Registry(f"http://{host}").manifest("x", "1") is None


@pytest.mark.parametrize("said", [b"no JSON", b"[]", b"{}", b"5"])
def test_a_token_that_is_none_is_asked_for_again(said: bytes) -> None:
    """Of who gives tokens for the registry; then it is as any other trouble on the way."""
    answers: dict[str, Answer] = {"GET /token": (200, {}, said)}
    with answering(answers, odd=2) as host:
        answers["GET /v2/x/manifests/1"] = (401, {"WWW-Authenticate": f'Bearer realm="http://{host}/token"'}, b"")
        assert Registry(f"http://{host}").manifest("x", "1") is None
