"""Blobs and manifests go to a real registry and come back whole, whatever happens on the way."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from starburst_common.errors import BadInput, CannotBuild, Exists, Unavailable
from starburst_common.image import oci
from starburst_common.image.registry import MANIFEST_BYTES, Registry, parse_reference
from tests.places import environment
from tests.registry_front import PASSWORD, Front, front_of
from tests.testbed.bed import Bed as Aws
from tests.testbed.engine import Engine

CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'


def digest(body: bytes) -> str:
    """As registries name what they store."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


@pytest.fixture
def front(engine: Engine) -> Iterator[Front]:
    """A front that lets everybody in."""
    with front_of(engine.registry) as opened:
        yield opened


@pytest.fixture
def repository() -> str:
    """A name that nobody used."""
    return f"test/{token_hex(6)}"


def stored(registry: Registry, repository: str, tag: str, config: bytes = CONFIG) -> str:
    """Leave a small image; returns its digest."""
    registry.put_blob(repository, digest(config), config)
    body = oci.manifest_on_top({"layers": []}, [], config)
    return registry.put_manifest(repository, tag, body, oci.MANIFEST)


@pytest.mark.parametrize("relative", [False, True])
def test_blobs_and_manifests_come_back_as_they_were(
    front: Front, repository: str, relative: bool, tmp_path: Path
) -> None:
    """What is put is there, once, by digest and by tag; a place to upload to may be told with or without its host."""
    front.relative = relative
    registry = Registry(front.url)
    body = os.urandom(3 << 20)
    (tmp_path / "sent").write_bytes(body)
    assert not registry.has_blob(repository, digest(body))
    registry.put_blob(repository, digest(body), tmp_path / "sent")
    registry.put_blob(repository, digest(body), body)
    assert front.count("^PATCH") == 1
    assert registry.has_blob(repository, digest(body)) and registry.blob(repository, digest(body)) == body
    registry.fetch_blob(repository, digest(body), tmp_path / "came", size=len(body))
    assert (tmp_path / "came").read_bytes() == body
    assert registry.manifest(repository, "one") is None and registry.digest(repository, "one") is None
    made = stored(registry, repository, "one")
    assert registry.digest(repository, "one") == made
    found = registry.manifest(repository, made)
    assert found is not None and found == registry.manifest(repository, "one")
    assert found.media_type == oci.MANIFEST and digest(found.body) == found.digest == made


def test_a_blob_is_taken_over_from_another_repository(front: Front, repository: str) -> None:
    """Where the registry has the other, nothing is uploaded; where not, it says so and leaves nothing half."""
    registry = Registry(front.url)
    body = os.urandom(1000)
    registry.put_blob(repository, digest(body), body)
    assert registry.mount(f"{repository}-2", digest(body), repository)
    assert registry.blob(f"{repository}-2", digest(body)) == body
    assert not registry.mount(f"{repository}-2", digest(b"not there"), repository)
    assert front.count("^DELETE /v2/.*/blobs/uploads/") == 1


def test_a_name_and_password_are_shown_when_asked_for(engine: Engine, repository: str) -> None:
    """With the right ones everything works, and only the first request is made twice."""
    with front_of(engine.registry, auth="basic") as front:
        registry = Registry(front.url, "AWS", PASSWORD)
        stored(registry, repository, "one")
        assert registry.digest(repository, "one")
        assert sum("authorization" not in headers for headers in front.headers) <= 2  # to read, and to write


def test_tokens_are_fetched_from_whom_the_registry_names_and_kept(engine: Engine, repository: str) -> None:
    """As on Docker Hub and public.ecr.aws: one token to read and one to write serve all requests."""
    with front_of(engine.registry, auth="bearer") as front:
        registry = Registry(front.url, "AWS", PASSWORD)
        for tag in ("one", "two"):
            stored(registry, repository, tag)
            assert registry.manifest(repository, tag)
        assert front.count("^GET /token") == 2
        assert front.count(f"scope=repository%3A{repository.replace('/', '%2F')}%3Apull%2Cpush") == 1


@pytest.mark.parametrize(("user", "words"), [("AWS", "refuses the user AWS"), ("", "refuses anonymous use")])
@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_wrong_credentials_are_told_without_them(
    engine: Engine, repository: str, auth: str, user: str, words: str
) -> None:
    """The message names registry, repository and user, never the password; nothing is tried again."""
    with front_of(engine.registry, auth=auth) as front:
        registry = Registry(front.url, user, "wro/ng" if user else "")
        with pytest.raises(CannotBuild, match=words) as told:
            registry.digest(repository, "one")
        assert front.host in str(told.value) and repository in str(told.value)
        assert "wro/ng" not in str(told.value) and "d3Jv" not in str(told.value)
        assert front.count("^HEAD") <= 2


@pytest.mark.parametrize("what", ["^POST .*uploads", "^PATCH", "^PUT .*uploads"])
@pytest.mark.parametrize("how", ["cut", "500", "429"])
def test_an_upload_that_breaks_is_begun_anew(front: Front, repository: str, what: str, how: str) -> None:
    """Wherever it breaks, the blob is there in the end, whole."""
    registry = Registry(front.url)
    body = os.urandom(2 << 20)
    front.fail(what, how)
    registry.put_blob(repository, digest(body), body)
    assert registry.blob(repository, digest(body)) == body
    assert front.count("^POST .*uploads") == 2


@pytest.mark.parametrize("how", ["cut answer", "other answer", "503"])
def test_a_download_that_breaks_is_begun_anew(front: Front, repository: str, how: str, tmp_path: Path) -> None:
    """Bytes that are not what the digest says are never kept."""
    registry = Registry(front.url)
    body = os.urandom(2 << 20)
    registry.put_blob(repository, digest(body), body)
    front.fail("^GET .*blobs", how)
    registry.fetch_blob(repository, digest(body), tmp_path / "came", size=len(body))
    assert (tmp_path / "came").read_bytes() == body


def test_an_answer_that_is_too_long_is_not_read_to_its_end(front: Front, repository: str, tmp_path: Path) -> None:
    """A manifest and a configuration have at most 4 MiB, a layer as many bytes as its manifest says; no try again."""
    registry = Registry(front.url)
    body = os.urandom(5 << 20)
    registry.put_blob(repository, digest(body), body)
    with pytest.raises(CannotBuild, match="sends more than the 4,194,304 bytes"):
        registry.blob(repository, digest(body), most=MANIFEST_BYTES)
    with pytest.raises(CannotBuild, match="sends more than the 1,000 bytes"):
        registry.fetch_blob(repository, digest(body), tmp_path / "came", size=1000)
    with pytest.raises(CannotBuild, match=r"has 5,242,880 bytes as blob .*, and 5,242,881 in its manifest"):
        registry.fetch_blob(repository, digest(body), tmp_path / "came", size=len(body) + 1)
    assert front.count("^GET .*blobs") == 3
    front.fail("^GET .*manifests", "long")
    with pytest.raises(CannotBuild, match="more than the 4,194,304 bytes"):
        registry.manifest(repository, "one")
    assert front.count("^GET .*manifests") == 1


def test_a_registry_that_does_not_recover_is_unavailable(front: Front, repository: str) -> None:
    """After a few tries; the message names it, the repository and what it said."""
    front.fail("^HEAD", "500", times=99)
    with pytest.raises(Unavailable, match=rf"{front.host}.*{repository}.*4 tries.* 500") as told:
        Registry(front.url, "AWS", PASSWORD).has_blob(repository, digest(b""))
    assert PASSWORD not in str(told.value)


def test_a_registry_that_is_not_there_is_unavailable(repository: str) -> None:
    """Nobody listens: likewise."""
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9.*refused"):
        Registry("http://127.0.0.1:9").digest(repository, "one")


def test_a_tag_that_stays_is_told_apart(front: Front, repository: str) -> None:
    """Where tags are immutable, the second to push another image learns that it is there."""
    front.immutable = True
    registry = Registry(front.url)
    stored(registry, repository, "one")
    with pytest.raises(Exists, match=repository):
        stored(registry, repository, "one", CONFIG + b" ")
    with pytest.raises(CannotBuild, match="refuses: 400") as told:
        registry.put_manifest(repository, "two", b"no manifest", oci.MANIFEST)
    assert not isinstance(told.value, Exists)


def test_proxies_are_used_as_the_environment_says(engine: Engine, repository: str) -> None:
    """With the credentials in the proxy's address; not for hosts that `no_proxy` names."""
    with front_of(engine.registry) as front:
        address = f"http://me:se%2Fcret@{front.host}"
        unset = dict.fromkeys(("HTTP_PROXY", "NO_PROXY", "all_proxy"), "")
        with environment({**unset, "http_proxy": address, "no_proxy": ""}):
            made = stored(Registry("http://127.0.0.1:9"), repository, "one")
        assert front.headers[0]["proxy-authorization"] == "Basic bWU6c2UvY3JldA=="
        with environment({**unset, "http_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}):
            assert Registry(front.url).digest(repository, "one") == made


def test_an_authority_of_ones_own_is_trusted_where_it_is_named(engine: Engine, repository: str, tmp_path: Path) -> None:
    """By SSL_CERT_FILE or REQUESTS_CA_BUNDLE; without them the error names the way out."""
    certificate = tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=here"]
    named = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*made, *named], cwd=tmp_path, check=True, capture_output=True)
    certificate.write_text((tmp_path / "key.pem").read_text() + (tmp_path / "cert.pem").read_text())
    with front_of(engine.registry, certificate=certificate) as front:
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            with environment({name: str(tmp_path / "cert.pem")}):
                registry = Registry(front.url)
                body = os.urandom(100)
                registry.put_blob(repository, digest(body), body)  # where to go on is told as http
                assert registry.blob(repository, digest(body)) == body
        with pytest.raises(CannotBuild, match=r"not trusted.*SSL_CERT_FILE"):
            Registry(front.url).digest(repository, "one")


def test_only_this_machine_is_spoken_to_without_encryption() -> None:
    """A password never goes over a network in the clear."""
    with pytest.raises(BadInput, match="only https"):
        Registry("http://registry.example.com")
    assert parse_reference("registry.example.com/a/b:1") == ("https://registry.example.com", "a/b", "1")
    assert parse_reference("localhost:5000/a") == ("http://localhost:5000", "a", "latest")
    assert parse_reference("owner/name") == ("https://registry-1.docker.io", "owner/name", "latest")


def test_what_ecr_has_too_much_of_is_told_with_what_to_do(aws: Aws, tmp_path: Path) -> None:
    """Layers of an image by ECR's own words; the size of one before it is sent."""
    aws.boto("ecr").create_repository(repositoryName="lab")
    (token,) = aws.boto("ecr").get_authorization_token()["authorizationData"]
    user, _, password = base64.b64decode(token["authorizationToken"]).decode().partition(":")
    registry = Registry(token["proxyEndpoint"], user, password)
    layer = {"mediaType": oci.LAYER, "digest": digest(b""), "size": 0}
    body = oci.manifest_on_top({"layers": [layer] * 501}, [], CONFIG)
    with pytest.raises(CannotBuild, match=r"refuses: 405 .*layers per image exceeded.*: ECR takes 500: choose a base"):
        registry.put_manifest("lab", "v1", body, oci.MANIFEST)
    large = tmp_path / "layer"
    with large.open("wb") as file:
        file.truncate(52_001 << 20)  # of which no block is written
    with pytest.raises(CannotBuild, match=r"a layer of the image has 52,001 MiB, and ECR takes 52,000: have functions"):
        registry.put_blob("lab", digest(b""), large)
