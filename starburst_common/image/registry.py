"""What to read or leave in a registry in; requests of the OCI distribution API out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Self
from urllib.parse import urlencode, urlsplit

from starburst_common.errors import BadInput, CannotBuild, Exists
from starburst_common.image import oci
from starburst_common.image.addresses import is_loopback
from starburst_common.image.exchange import Again, Exchange, RegistryRefused
from starburst_common.image.oci import Manifest
from starburst_common.ports import Access

__all__ = ["Manifest", "Registry", "parse_reference"]

_HUB = "registry-1.docker.io"
_PIECE = 1 << 20
LAYER_BYTES = 52_000 << 20  #: of a layer. Source: Amazon ECR User Guide, "Amazon ECR service quotas", read 2026-12-01
MANIFEST_BYTES = 4 << 20  #: a manifest, or an image's configuration, has at most
_DIGEST = "Docker-Content-Digest"


class Registry:
    """One registry; for any number of threads.

    What fails on the way or on the registry's side is tried again, uploads and downloads from their beginning; then it
    is `Unavailable`. What the registry refuses is `CannotBuild`. Nothing happens before the first call.
    """

    def __init__(self, url: str, user: str = "", password: str = "") -> None:
        self._exchange = Exchange(url, user, password)
        self.url, self.host = self._exchange.url, self._exchange.host

    @classmethod
    def of(cls, access: Access) -> Self:
        """With the address and credentials of a repository."""
        return cls(access.url, access.user, access.password)

    # --- manifests ----------------------------------------------------------------------------------------------------

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        """What a tag or digest stands for; None where there is none."""

        def read() -> Manifest | None:
            headers = {"Accept": ", ".join(oci.MANIFESTS)}
            with self._exchange.sent(
                "GET", repository, f"manifests/{reference}", headers=headers, missing=True
            ) as answer:
                if answer.status == HTTPStatus.NOT_FOUND:
                    return None
                body = self._exchange.body(repository, answer, MANIFEST_BYTES)
                found = Manifest(body, answer.headers.get("Content-Type", "").partition(";")[0], oci.digest(body))
            if ":" in reference and found.digest != reference:
                raise Again(f"the manifest that came is {found.digest}")
            return found

        return self._exchange.tried(repository, read)

    def digest(self, repository: str, reference: str) -> str | None:
        """The digest of what a tag stands for, without reading it; None where there is none."""

        def look() -> str | None:
            headers = {"Accept": ", ".join(oci.MANIFESTS)}
            with self._exchange.sent(
                "HEAD", repository, f"manifests/{reference}", headers=headers, missing=True
            ) as answer:
                return None if answer.status == HTTPStatus.NOT_FOUND else answer.headers.get(_DIGEST, "")

        told = self._exchange.tried(repository, look)
        if told == "":
            found = self.manifest(repository, reference)
            return found.digest if found else None
        return told

    def put_manifest(self, repository: str, reference: str, body: bytes, media_type: str) -> str:
        """Store a manifest under a tag or its digest; returns its digest.

        Raises `Exists` where the tag is taken and the registry does not let go of tags.
        """
        headers = {"Content-Type": media_type}

        def put() -> None:
            with self._exchange.sent(
                "PUT", repository, f"manifests/{reference}", headers=headers, body=body, push=True
            ):
                pass

        try:
            self._exchange.tried(repository, put)
        except RegistryRefused as error:
            # what a registry says of a tag that stays as it is differs: 400 on ECR, 409 elsewhere
            if error.status in (400, 409, 412) and ":" not in reference and self.digest(repository, reference):
                raise Exists(f"{self._exchange.named(repository)} has the tag {reference} already") from error
            raise
        return oci.digest(body)

    # --- blobs --------------------------------------------------------------------------------------------------------

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether the repository has it."""

        def look() -> bool:
            with self._exchange.sent("HEAD", repository, f"blobs/{digest}", missing=True) as answer:
                return answer.status != HTTPStatus.NOT_FOUND

        return self._exchange.tried(repository, look)

    def blob(self, repository: str, digest: str, *, most: int | None = None) -> bytes:
        """All of one that is not larger than `most`, where that is said."""

        def read() -> bytes:
            return b"".join(self._pieces(repository, digest, most))

        return self._exchange.tried(repository, read)

    def fetch_blob(self, repository: str, digest: str, file: Path, *, size: int | None = None) -> None:
        """Into a file, which then has just what the digest says, and as many bytes as its manifest does, if known."""

        def read() -> None:
            with file.open("wb") as into:
                for piece in self._pieces(repository, digest, size):
                    into.write(piece)
                if size is not None and into.tell() != size:
                    raise CannotBuild(
                        f"{self._exchange.named(repository)} has {into.tell():,} bytes as blob {digest}, and {size:,} "
                        "in its manifest"
                    )

        self._exchange.tried(repository, read)

    def put_blob(self, repository: str, digest: str, source: Path | bytes) -> None:
        """Upload, unless it is there. Raises `CannotBuild` for what is larger than ECR takes."""
        if isinstance(source, Path) and (size := source.stat().st_size) > LAYER_BYTES:
            raise CannotBuild(
                f"a layer of the image has {size >> 20:,} MiB, and ECR takes {LAYER_BYTES >> 20:,}: have functions "
                "fetch large files where they run, as from S3"
            )
        if not self.has_blob(repository, digest):
            self._exchange.tried(repository, lambda: self._upload(repository, digest, source))

    def mount(self, repository: str, digest: str, source: str) -> bool:
        """Take a blob over from another repository of the same registry; False where the registry does not do so."""

        def mount() -> bool:
            query = urlencode({"mount": digest, "from": source})
            path = f"blobs/uploads/?{query}"
            try:
                with self._exchange.sent("POST", repository, path, push=True, beside=source) as answer:
                    location = answer.headers.get("Location", "")
                    if answer.status == HTTPStatus.CREATED:
                        return True
            except RegistryRefused:  # some refuse where others open an upload instead
                return False
            self._cancel(repository, location)
            return False

        return self._exchange.tried(repository, mount)

    def _pieces(self, repository: str, digest: str, most: int | None) -> Iterator[bytes]:
        seen, came = hashlib.sha256(), 0
        with self._exchange.sent("GET", repository, f"blobs/{digest}") as answer:
            for piece in answer.stream(_PIECE, decode_content=False):
                seen.update(piece)
                came += len(piece)
                if most is not None and came > most:
                    raise CannotBuild(
                        f"{self._exchange.named(repository)} sends more than the {most:,} bytes of blob {digest}"
                    )
                yield piece
        if f"sha256:{seen.hexdigest()}" != digest:
            raise Again(f"what came as blob {digest} is something else")

    def _upload(self, repository: str, digest: str, source: Path | bytes) -> None:
        with self._exchange.sent("POST", repository, "blobs/uploads/", push=True) as answer:
            location = self._exchange.location(answer)
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._exchange.sent("PATCH", repository, location, headers=headers, body=source, push=True) as answer:
            location = self._exchange.location(answer)
        done = f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': digest})}"
        with self._exchange.sent("PUT", repository, done, body=b"", push=True):
            pass

    def _cancel(self, repository: str, location: str) -> None:
        """Give up an upload that a mount became; where that is not known, it expires by itself."""
        if location:
            try:
                with self._exchange.sent(
                    "DELETE", repository, self._exchange.place(self.url, location), missing=True, push=True
                ):
                    pass
            except (CannotBuild, Again):
                pass


def parse_reference(image: str) -> tuple[str, str, str]:
    """An image as one would pull it; its registry's address, its repository, and its tag or digest.

    >>> parse_reference("python:3.11-slim")
    ('https://registry-1.docker.io', 'library/python', '3.11-slim')
    >>> parse_reference("public.ecr.aws/docker/library/python")
    ('https://public.ecr.aws', 'docker/library/python', 'latest')
    >>> parse_reference("127.0.0.1:5001/x:1@sha256:ab")
    ('http://127.0.0.1:5001', 'x', 'sha256:ab')
    """
    name, _, digest = image.partition("@")
    first, slash, rest = name.partition("/")
    named = slash and (any(sign in first for sign in ".:") or first == "localhost")
    host, path = (first, rest) if named else ("docker.io", name)
    repository, colon, tag = path.rpartition(":")
    if not colon:
        repository, tag = path, "latest"
    if not repository:
        raise BadInput(f"{image!r} is no image: as in public.ecr.aws/docker/library/python:3.11-slim")
    if host in ("docker.io", "index.docker.io"):
        host, repository = _HUB, repository if "/" in repository else f"library/{repository}"
    scheme = "http" if is_loopback(urlsplit(f"//{host}").hostname or "") else "https"
    return f"{scheme}://{host}", repository, digest or tag
