"""Requests to the account's registry, under /v2/, in; ECR's refusals, or what the real registry behind it says, out."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import urllib3

from tests.testbed import cloud
from tests.testbed.calls import Call
from tests.testbed.clock import CLOCK
from tests.testbed.conditions import ACCOUNT, Conditions
from tests.testbed.images import Image, Images, digest_of, is_immutable
from tests.testbed.refusals import REGISTRY, Answer, Refused

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_PATH = re.compile(r"/v2/(?P<name>.+?)/(?P<kind>blobs/uploads|blobs|manifests|tags)/(?P<rest>[^/]*)")
_OPERATIONS = {
    ("blobs", "HEAD"): "HeadBlob",
    ("blobs", "GET"): "GetBlob",
    ("blobs/uploads", "POST"): "StartUpload",
    ("blobs/uploads", "PATCH"): "PatchBlob",
    ("blobs/uploads", "PUT"): "PutBlob",
    ("blobs/uploads", "GET"): "GetUpload",
    ("blobs/uploads", "DELETE"): "CancelUpload",
    ("manifests", "HEAD"): "HeadManifest",
    ("manifests", "GET"): "GetManifest",
    ("manifests", "PUT"): "PutManifest",
    ("manifests", "DELETE"): "DeleteManifest",
    ("tags", "GET"): "ListTags",
}
_PASSED_ON = ("Accept", "Range", "Content-Range", "Content-Type")
_NOT_PASSED_BACK = ("connection", "date", "transfer-encoding", "location")
_TOKEN_S = 12 * 3600.0  # (Amazon ECR API reference, GetAuthorizationToken)
_WITHIN = urllib3.Timeout(connect=5, read=120)
_MOST_LAYERS = 500
NO_REGISTRY = (
    "The test bed has no registry: start an engine with its registry first, with the fixture `engine` of "
    "tests/conftest.py or by `python -m tests.testbed.engine up`."
)


def is_registry(path: str) -> bool:
    """Whether a path is the registry's."""
    return path == "/v2" or path.startswith("/v2/")


def registry_call(environ: WSGIEnvironment, body: bytes) -> Call:
    """Which call of the registry a request is, by names that are like the API reference's."""
    path, query = environ.get("PATH_INFO", "/"), environ.get("QUERY_STRING", "")
    found = _PATH.fullmatch(path)
    operation = _OPERATIONS.get((found["kind"], environ["REQUEST_METHOD"]), "Unknown") if found else "Ping"
    if operation == "StartUpload" and "mount=" in query:
        operation = "MountBlob"
    return Call(service="registry", operation=operation, path=f"{path}?{query}" if query else path, body=body)


class NoRegistry(Exception):
    """There is no real registry to ask."""


class Distribution:
    """The registry of the account. Each bed, and each life between two resets, has names of its own in the real one."""

    def __init__(self, images: Images, conditions: Conditions, upstream: Callable[[], str | None]) -> None:
        self.images = images
        self.mounts = False  #: the account setting BLOB_MOUNTING
        self.given = ""  #: an image that is there, though nobody has pushed it
        self._conditions = conditions
        self._find = upstream
        self._found = ""
        self._http = urllib3.PoolManager(maxsize=16, retries=False, timeout=_WITHIN)
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget what was pushed, and whom it let in."""
        with self._lock:
            self._prefix = f"bed-{secrets.token_hex(6)}"
            self._tokens: dict[str, tuple[float, str]] = {}
        self.mounts = False
        self.images.reset()

    # --- for ECR, tasks and builds ------------------------------------------------------------------------------------

    def token(self, access_key: str) -> tuple[str, float]:
        """A new password for who has this key, and until when it lasts."""
        password, until = secrets.token_urlsafe(48), CLOCK.time() + _TOKEN_S
        with self._lock:
            self._tokens[password] = (until, access_key)
        return password, until

    def holder(self, header: str) -> str:
        """The access key of whom a request's password was given to; empty if to nobody."""
        return self._tokens.get(_password(header)[1], (0.0, ""))[1]

    def pulled_from(self, name: str) -> str | None:
        """Where the real registry has an image that ECR holds, by its name in a task definition; counts as no pull."""
        repository, reference = _parts(name)
        image = self.images.find(repository, reference) if repository else None
        return f"{self._upstream()}/{self._prefix}/{repository}@{image.digest}" if image else None

    def lacks(self, name: str) -> bool:
        """Whether an image is not there although its repository is."""
        repository, reference = _parts(name)
        return (
            name != self.given
            and cloud.repository(repository) is not None
            and self.images.find(repository, reference) is None
        )

    def count_pull(self, name: str) -> None:
        """A task has pulled an image, and of an index the one for its platform: here that counts for all."""
        repository, reference = _parts(name)
        if image := self.images.find(repository, reference):
            self.read(image)
            for digest in image.children:
                if child := self.images.find(repository, digest):
                    self.read(child)

    def read(self, image: Image) -> None:
        """Somebody has got a manifest, which ECR takes for a pull."""
        image.pulled_at = cloud.now()

    def delete(self, repository: str, image: Image) -> None:
        """Delete an image for good."""
        path = f"/v2/{self._prefix}/{repository}/manifests/{image.digest}"
        status = self._ask("DELETE", path).status
        if status not in (202, 404):
            raise RuntimeError(f"the registry does not delete {path}: HTTP status {status}")
        self.images.remove(repository, image.digest)

    # --- requests -----------------------------------------------------------------------------------------------------

    def answer(self, environ: WSGIEnvironment, call: Call) -> Answer:
        """Answer a request. Raises `Refused`."""
        self._check_token(environ.get("HTTP_AUTHORIZATION", ""))
        try:
            return self._answer(environ, call)
        except NoRegistry as why:
            raise Refused("UNAVAILABLE", str(why), status=503) from None

    def _answer(self, environ: WSGIEnvironment, call: Call) -> Answer:
        path = _PATH.fullmatch(call.path.partition("?")[0])
        if path is None:
            if call.path.rstrip("/") != "/v2":
                raise Refused("UNSUPPORTED", "The operation is unsupported.", status=404)
            self._upstream()
            return Answer(200, [("Docker-Distribution-Api-Version", "registry/2.0")], b"")
        name = path["name"]
        if cloud.repository(name) is None:
            raise Refused("NAME_UNKNOWN", no_repository(name), status=404)
        if path["kind"] == "tags":
            return self._tags(name)
        if path["kind"] == "manifests":
            return self._manifest(environ, call, name, path["rest"])
        query = urlsplit(call.path).query
        if call.operation == "MountBlob":
            query = self._mount(query)
        return self._passed_on(environ, call.body, f"{name}/{path['kind']}/{path['rest']}", query)

    def _mount(self, query: str) -> str:
        """The query of an upload's start: without BLOB_MOUNTING, ECR starts an ordinary one (202)."""
        asked = dict(parse_qsl(query))
        source = asked.get("from", "")
        if not self.mounts or cloud.repository(source) is None:
            return urlencode({name: value for name, value in asked.items() if name not in ("mount", "from")})
        return urlencode(asked | {"from": f"{self._prefix}/{source}"})

    def _tags(self, name: str) -> Answer:
        tags = sorted(tag for image in self.images.of(name) for tag in image.tags)
        return distribution_json({"name": name, "tags": tags})

    def _manifest(self, environ: WSGIEnvironment, call: Call, name: str, reference: str) -> Answer:
        if call.operation == "PutManifest":
            return self._put(environ, call.body, name, reference)
        image = self.images.find(name, reference)
        if image is None:
            raise Refused("MANIFEST_UNKNOWN", "Requested image not found", status=404)
        if call.operation == "DeleteManifest":
            if indexes := self.images.indexes_of(name, image.digest):
                raise Refused("DENIED", referenced(indexes), status=403)
            self.delete(name, image)
            return Answer(202, [], b"")
        answer = self._passed_on(environ, b"", f"{name}/manifests/{image.digest}", "")
        if call.operation == "GetManifest" and answer.status == 200:
            self.read(image)
        return answer

    def _put(self, environ: WSGIEnvironment, body: bytes, name: str, reference: str) -> Answer:
        digest, tag = digest_of(body), "" if ":" in reference else reference
        if not tag and digest != reference:
            raise Refused("DIGEST_INVALID", f"The digest of the manifest is {digest}.", status=400)
        _check_layers(body)
        with self.images.lock:  # of two who push a tag at once, one is first
            self._check_tag(name, tag, digest)
            answer = self._passed_on(environ, body, f"{name}/manifests/{digest}", "")
            if answer.status == 201:
                media_type = environ.get("CONTENT_TYPE", "")
                self.images.put(name, body, media_type, tag, cloud.now())
        return answer

    def _check_tag(self, name: str, tag: str, digest: str) -> None:
        there = self.images.find(name, tag) if tag else None
        if there is None or (there.digest == digest and self._conditions.same_image_again):
            return
        repository = cloud.repository(name)
        excluded = [each["filter"] for each in repository.image_tag_mutability_exclusion_filters or ()]
        if is_immutable(tag, _text(repository.image_tag_mutability), excluded):
            # the body as tools have printed it since 2025 (github.com/osscontainertools/kaniko/pull/204)
            raise Refused(
                "TAG_INVALID",
                f"The image tag '{tag}' already exists in the '{name}' repository and cannot be overwritten because "
                "the tag is immutable.",
            )

    def _check_token(self, header: str) -> None:
        user, password = _password(header)
        until, _ = self._tokens.get(password, (None, ""))
        if user != "AWS" or until is None:
            raise Refused("UNAUTHORIZED", "Not Authorized", status=401)
        if until <= CLOCK.time():
            raise Refused("DENIED", "Your authorization token has expired. Reauthenticate and try again.", status=403)

    # --- the real registry --------------------------------------------------------------------------------------------

    def _passed_on(self, environ: WSGIEnvironment, body: bytes, path: str, query: str) -> Answer:
        headers = {name: value for name in _PASSED_ON if (value := _header(environ, name))}
        where = f"/v2/{self._prefix}/{path}" + (f"?{query}" if query else "")
        said = self._ask(environ["REQUEST_METHOD"], where, body, headers)
        back = [(name, value) for name, value in said.headers.items() if name.lower() not in _NOT_PASSED_BACK]
        if location := said.headers.get("Location"):
            parts = urlsplit(location)
            local = parts.path.replace(f"/v2/{self._prefix}/", "/v2/", 1) + (f"?{parts.query}" if parts.query else "")
            back.append(("Location", f"http://{environ.get('HTTP_HOST', '')}{local}"))
        return Answer(said.status, back, said.data)

    def _ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        """One request to the real registry. Raises `NoRegistry`."""
        address = f"http://{self._upstream()}{path}"
        try:
            return self._http.request(
                method, address, body=body or None, headers=headers, redirect=False, decode_content=False
            )
        except urllib3.exceptions.HTTPError as error:
            self._found = ""  # it may be another one by now
            raise NoRegistry(f"The registry behind the test bed does not answer: {error}") from error

    def _upstream(self) -> str:
        self._found = self._found or self._find() or ""
        if not self._found:
            raise NoRegistry(NO_REGISTRY)
        return self._found


def no_repository(name: str) -> str:
    """ECR's words for a repository that is not there."""
    return f"The repository with name '{name}' does not exist in the registry with id '{ACCOUNT}'"


def referenced(indexes: list[str]) -> str:
    """ECR's words for an image that an index refers to."""
    return f"Requested image referenced by manifest list: [{', '.join(indexes)}]"


def distribution_json(body: object, status: int = 200) -> Answer:
    """An answer of the registry itself."""
    return Answer(status, [("Content-Type", "application/json; charset=utf-8")], json.dumps(body).encode())


def _parts(name: str) -> tuple[str, str]:
    """Repository and tag or digest of an image of this account; empty for another."""
    host, _, rest = name.partition("/")
    if host != urlsplit(REGISTRY).netloc:
        return "", ""
    if "@" in rest:
        path, _, digest = rest.partition("@")
        return path.partition(":")[0], digest
    path, _, tag = rest.partition(":")
    return path, tag or "latest"


def _password(header: str) -> tuple[str, str]:
    """User and password of a request; empty where it has none."""
    scheme, _, encoded = header.partition(" ")
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return (user, password) if scheme.lower() == "basic" else ("", "")


def _header(environ: WSGIEnvironment, name: str) -> str:
    key = name.upper().replace("-", "_")
    found: Any = environ.get(key if key == "CONTENT_TYPE" else f"HTTP_{key}", "")
    return str(found)


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))


def _check_layers(body: bytes) -> None:
    """Raise `Refused` for more layers than ECR takes, which no documentation says.

    How many was measured, in 2023 and 2026 (github.com/spinframework/spin/issues/1787,
    github.com/nuonco/nuon/pull/2348); in which words it refuses was printed (github.com/openai/tart/issues/890).
    """
    if len(json.loads(body).get("layers") or ()) > _MOST_LAYERS:
        raise Refused(
            "UNSUPPORTED",
            "Invalid parameter at 'ImageManifest' failed to satisfy constraint: 'Limit on number of layers per image "
            "exceeded'",
            status=405,
        )
