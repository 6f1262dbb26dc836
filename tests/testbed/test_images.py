"""What AWS documents of ECR holds on the bed: images are real, and the registry refuses what ECR refuses."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3

from tests.testbed.bed import Bed
from tests.testbed.conditions import Conditions
from tests.testbed.definitions import define, run
from tests.testbed.distribution import Distribution, registry_call
from tests.testbed.engine import Engine
from tests.testbed.images import Images, digest_of, is_immutable
from tests.testbed.refusals import Refused

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
HOUR = 3600.0
DAY = 24 * HOUR


class Client:
    """The registry as a program speaks to it that goes where GetAuthorizationToken says."""

    def __init__(self, bed: Bed) -> None:
        data = bed.boto("ecr").get_authorization_token()["authorizationData"][0]
        self.url: str = data["proxyEndpoint"]
        self.token: str = data["authorizationToken"]
        self.expires_s: float = data["expiresAt"].timestamp() - time.time()
        self.http = urllib3.PoolManager(maxsize=8, retries=False)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> urllib3.BaseHTTPResponse:
        """One request."""
        asked = {"Authorization": f"Basic {self.token}"} | {name.replace("_", "-"): v for name, v in headers.items()}
        address = path if path.startswith("http") else f"{self.url}{path}"
        return self.http.request(method, address, body=body or None, headers=asked, decode_content=False)

    def put_blob(self, repository: str, body: bytes) -> dict[str, Any]:
        """Upload a blob whole; its descriptor."""
        started = self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        assert started.status == 202, started.data
        where = started.headers["Location"]
        put = self.ask("PUT", f"{where}{'&' if '?' in where else '?'}digest={digest_of(body)}", body)
        assert put.status == 201, put.data
        return {"digest": digest_of(body), "size": len(body)}

    def put_manifest(self, repository: str, reference: str, manifest: dict[str, Any]) -> urllib3.BaseHTTPResponse:
        """Put a manifest or an index."""
        body = json.dumps(manifest).encode()
        kind = manifest["mediaType"]
        return self.ask("PUT", f"/v2/{repository}/manifests/{reference or digest_of(body)}", body, Content_Type=kind)

    def image(self, repository: str, word: str, architecture: str = "amd64") -> dict[str, Any]:
        """Upload a small image's blobs; its manifest."""
        layer = gzip.compress(_tar(word.encode()), mtime=0)
        diff = {"type": "layers", "diff_ids": [digest_of(gzip.decompress(layer))]}
        config = json.dumps({"architecture": architecture, "os": "linux", "config": {}, "rootfs": diff}).encode()
        return {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG} | self.put_blob(repository, config),
            "layers": [{"mediaType": LAYER} | self.put_blob(repository, layer)],
        }

    def push(self, repository: str, tag: str, word: str = "") -> str:
        """Push a small image; its digest."""
        put = self.put_manifest(repository, tag, self.image(repository, word or tag))
        assert put.status == 201, put.data
        return put.headers["Docker-Content-Digest"]

    def push_index(self, repository: str, tag: str) -> tuple[str, list[str]]:
        """Push an index of two small images; its digest and theirs."""
        below: list[dict[str, Any]] = []
        for architecture in ("amd64", "arm64"):
            manifest = self.image(repository, f"{tag} {architecture}" * (50 if architecture == "arm64" else 1))
            put = self.put_manifest(repository, "", manifest)
            assert put.status == 201, put.data
            size = len(json.dumps(manifest).encode())
            platform = {"os": "linux", "architecture": architecture}
            digest = put.headers["Docker-Content-Digest"]
            below.append({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": platform})
        put = self.put_manifest(repository, tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": below})
        assert put.status == 201, put.data
        return put.headers["Docker-Content-Digest"], [each["digest"] for each in below]


def _tar(body: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        header = tarfile.TarInfo("word")
        header.size = len(body)
        tar.addfile(header, io.BytesIO(body))
    return buffer.getvalue()


def errors(answer: urllib3.BaseHTTPResponse) -> tuple[int, str, str]:
    """Status, code and message of a registry's refusal."""
    first = json.loads(answer.data)["errors"][0]
    return answer.status, first["code"], first["message"]


@pytest.fixture
def registry(bed: Bed, engine: Engine) -> Iterator[Client]:
    """A client of a registry that has the repositories `lab` (immutable) and `free`."""
    bed.boto("ecr").create_repository(repositoryName="lab", imageTagMutability="IMMUTABLE")
    bed.boto("ecr").create_repository(repositoryName="free")
    client = Client(bed)
    yield client
    client.http.clear()


def described(bed: Bed, repository: str = "lab", **asked: Any) -> dict[str, dict[str, Any]]:
    """DescribeImages, by digest."""
    details = bed.boto("ecr").describe_images(repositoryName=repository, **asked)["imageDetails"]
    return {each["imageDigest"]: each for each in details}


# --- the registry -----------------------------------------------------------------------------------------------------


def test_who_asks_shows_a_token_of_twelve_hours(bed: Bed, registry: Client) -> None:
    """The user is AWS; without the password 401 with the realm, with one that has expired 403."""
    assert registry.ask("GET", "/v2/").status == 200
    assert base64.b64decode(registry.token).startswith(b"AWS:")
    assert 11.9 * HOUR < registry.expires_s <= 12 * HOUR
    for token in ("", base64.b64encode(b"AWS:wrong").decode()):
        refused = registry.ask("GET", "/v2/", Authorization=f"Basic {token}")
        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"].startswith("Basic realm=")
    bed.elapse(12 * HOUR)
    status, code, message = errors(registry.ask("GET", "/v2/"))
    assert (status, code) == (403, "DENIED")
    assert message == "Your authorization token has expired. Reauthenticate and try again."


def test_a_push_needs_a_repository(registry: Client) -> None:
    """ECR makes no repository by itself."""
    status, code, message = errors(registry.ask("POST", "/v2/none/blobs/uploads/"))
    assert (status, code) == (404, "NAME_UNKNOWN")
    assert message == "The repository with name 'none' does not exist in the registry with id '123456789012'"


def test_without_a_registry_it_says_how_to_get_one() -> None:
    """/v2/ answers 503, and only /v2/; a good token is still asked for first."""
    distribution = Distribution(Images(), Conditions(), lambda: None)
    password, _ = distribution.token("")
    environ: Any = {"PATH_INFO": "/v2/", "REQUEST_METHOD": "GET"}
    with pytest.raises(Refused, match="UNAUTHORIZED"):
        distribution.answer(environ, registry_call(environ, b""))
    environ["HTTP_AUTHORIZATION"] = "Basic " + base64.b64encode(f"AWS:{password}".encode()).decode()
    with pytest.raises(Refused, match="has no registry: start an engine") as refused:
        distribution.answer(environ, registry_call(environ, b""))
    assert refused.value.status == 503


def test_settings_without_an_image_have_one_built(bed: Bed) -> None:
    """The site's table with or without `image`, and with what a test adds."""
    assert tomllib.loads(bed.settings()) == {"backend": "aws", "site": bed.site}
    site = tomllib.loads(bed.settings(image=False, build_role=bed.build_role))["site"]
    assert "image" not in site
    assert site["build_role"] == bed.build_role


def test_an_immutable_tag_names_one_image(bed: Bed, registry: Client) -> None:
    """Another image under the tag is refused, the same one is not; a mutable repository lets the tag move."""
    first = registry.push("lab", "env-1", "one")
    assert registry.push("lab", "env-1", "one") == first
    status, code, message = errors(registry.put_manifest("lab", "env-1", registry.image("lab", "two")))
    assert (status, code) == (400, "TAG_INVALID")
    assert message == (
        "The image tag 'env-1' already exists in the 'lab' repository and cannot be overwritten because the tag is "
        "immutable."
    )
    assert registry.ask("HEAD", "/v2/lab/manifests/env-1", Accept=MANIFEST).headers["Docker-Content-Digest"] == first
    assert registry.push("free", "env-1", "one") != registry.push("free", "env-1", "two")
    bed.set(same_image_again=False)  # as some report of ECR
    assert registry.put_manifest("lab", "env-1", registry.image("lab", "one")).status == 400


def test_of_many_who_push_a_tag_one_is_first(registry: Client) -> None:
    """An immutable tag that is pushed at once from many sides names the image of one, and the others are told."""
    manifests = [registry.image("lab", f"word {number}") for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        put = list(pool.map(lambda manifest: registry.put_manifest("lab", "env-1", manifest).status, manifests))
    assert sorted(put) == [201, *[400] * 5]


@pytest.mark.parametrize(
    ("mutability", "immutable"),
    [("MUTABLE", (False, False)), ("IMMUTABLE_WITH_EXCLUSION", (False, True)),
     ("MUTABLE_WITH_EXCLUSION", (True, False)), ("IMMUTABLE", (True, True))],
)  # fmt: skip
def test_exclusions_turn_the_rule_round(mutability: str, immutable: tuple[bool, bool]) -> None:
    """A tag that an exclusion filter matches is treated the other way."""
    assert (is_immutable("latest", mutability, ["lat*"]), is_immutable("v1", mutability, ["lat*"])) == immutable


def test_blobs_are_mounted_only_where_the_account_says_so(bed: Bed, registry: Client) -> None:
    """Without BLOB_MOUNTING a mount starts an ordinary upload (202); with it the blob is there at once (201)."""
    blob = registry.put_blob("lab", b"a layer")
    path = f"/v2/free/blobs/uploads/?mount={blob['digest']}&from=lab"
    begun = registry.ask("POST", path)
    assert begun.status == 202
    assert urlsplit(begun.headers["Location"]).netloc == urlsplit(registry.url).netloc
    assert registry.ask("HEAD", f"/v2/free/blobs/{blob['digest']}").status == 404
    bed.boto("ecr").put_account_setting(name="BLOB_MOUNTING", value="ENABLED")
    assert registry.ask("POST", path).status == 201
    assert registry.ask("GET", f"/v2/free/blobs/{blob['digest']}").data == b"a layer"


def test_large_layers_pass_whole_and_in_pieces(registry: Client) -> None:
    """A layer of 100 MB arrives by one PUT; another by PATCH requests, each going on where the last ended."""
    large = bytes(range(256)) * 400_000
    assert registry.put_blob("lab", large)["size"] == 102_400_000
    assert registry.ask("HEAD", f"/v2/lab/blobs/{digest_of(large)}").headers["Content-Length"] == "102400000"
    where = registry.ask("POST", "/v2/lab/blobs/uploads/").headers["Location"]
    for start, piece in ((0, b"abc"), (3, b"def")):
        said = registry.ask("PATCH", where, piece, Content_Range=f"{start}-{start + 2}")
        assert said.status == 202
        where = said.headers["Location"]
    done = registry.ask("PUT", f"{where}&digest={digest_of(b'abcdef')}")
    assert done.status == 201
    assert registry.ask("GET", urlsplit(done.headers["Location"]).path).data == b"abcdef"


def test_at_most_ten_images_are_put_a_second(registry: Client) -> None:
    """PutImage: 10 a second; what is more is refused with 429."""
    manifest = registry.image("free", "much")
    statuses = [registry.put_manifest("free", "much", manifest).status for _ in range(40)]
    assert statuses[:10] == [201] * 10
    assert 429 in statuses


def test_calls_of_the_registry_are_counted_and_fail_by_script(bed: Bed, registry: Client) -> None:
    """Faults name the service "registry" and its operations."""
    bed.requests(reset=True)
    bed.fault(service="registry", operation="PutManifest", status=500, times=2)
    bed.fault(service="registry", operation="HeadBlob", status=429, code="TOOMANYREQUESTS")
    bed.fault(service="registry", operation="GetManifest", status=401)
    manifest = registry.image("lab", "word")
    assert [registry.put_manifest("lab", "a", manifest).status for _ in range(3)] == [500, 500, 201]
    assert registry.ask("HEAD", f"/v2/lab/blobs/{manifest['config']['digest']}").status == 429
    assert [registry.ask("GET", "/v2/lab/manifests/a", Accept=MANIFEST).status for _ in range(2)] == [401, 200]
    counted = {operation: n for (service, operation), n in bed.requests().items() if service == "registry"}
    assert counted == {"StartUpload": 2, "PutBlob": 2, "PutManifest": 3, "HeadBlob": 1, "GetManifest": 2}


def test_an_upload_is_cut_halfway(bed: Bed, registry: Client) -> None:
    """The connection ends inside the body, and nothing is stored; the upload can be sent again."""
    body = bytes(8_000_000)
    where = registry.ask("POST", "/v2/lab/blobs/uploads/").headers["Location"]
    bed.fault(service="registry", operation="PutBlob", reset=True, halfway=True)
    with pytest.raises(urllib3.exceptions.HTTPError):
        registry.ask("PUT", f"{where}&digest={digest_of(body)}", body)
    assert registry.ask("HEAD", f"/v2/lab/blobs/{digest_of(body)}").status == 404
    assert registry.ask("PUT", f"{where}&digest={digest_of(body)}", body).status == 201
    assert bed.faults()[0]["hits"] == 1


# --- what ECR tells and forgets ---------------------------------------------------------------------------------------


def test_images_are_described_as_they_are(bed: Bed, registry: Client) -> None:
    """Of an index: tag, times, and the size of its largest image; its images are there without tags."""
    index, (small, large) = registry.push_index("lab", "env-1")
    told = described(bed)
    assert set(told) == {index, small, large}
    manifest = json.loads(registry.ask("GET", f"/v2/lab/manifests/{large}", Accept=MANIFEST).data)
    bytes_of_large = manifest["config"]["size"] + manifest["layers"][0]["size"]
    assert told[large]["imageSizeInBytes"] == bytes_of_large > told[small]["imageSizeInBytes"]
    assert told[index]["imageSizeInBytes"] == bytes_of_large
    assert told[index]["imageTags"] == ["env-1"]
    assert "imageTags" not in told[small]
    assert (told[index]["imageManifestMediaType"], told[small]["artifactMediaType"]) == (INDEX, CONFIG)
    assert abs(told[index]["imagePushedAt"].timestamp() - time.time()) < 60
    assert set(described(bed, filter={"tagStatus": "TAGGED"})) == {index}
    got = bed.boto("ecr").batch_get_image(
        repositoryName="lab", imageIds=[{"imageTag": "env-1"}, {"imageTag": "env-2"}], acceptedMediaTypes=[INDEX]
    )
    assert digest_of(got["images"][0]["imageManifest"].encode()) == index
    assert [(each["imageId"], each["failureCode"]) for each in got["failures"]] == [
        ({"imageTag": "env-2"}, "ImageNotFound")
    ]


def test_what_is_not_there_is_an_error(bed: Bed, registry: Client) -> None:
    """DescribeImages raises for a repository and for an image; the repository of another registry is none."""
    ecr = bed.boto("ecr")
    with pytest.raises(ecr.exceptions.RepositoryNotFoundException):
        ecr.describe_images(repositoryName="none")
    with pytest.raises(ecr.exceptions.ImageNotFoundException, match="imageTag:'env-9'"):
        ecr.describe_images(repositoryName="lab", imageIds=[{"imageTag": "env-9"}])


def test_lists_come_in_pages(bed: Bed, registry: Client) -> None:
    """maxResults and nextToken; each image is on one page."""
    pushed = {registry.push("free", f"env-{number}") for number in range(5)}
    ecr = bed.boto("ecr")
    for operation, rows in (("describe_images", "imageDetails"), ("list_images", "imageIds")):
        pages = ecr.get_paginator(operation).paginate(repositoryName="free", PaginationConfig={"PageSize": 2})
        found = [[each["imageDigest"] for each in page[rows]] for page in pages]
        assert [len(page) for page in found] == [2, 2, 1]
        assert {digest for page in found for digest in page} == pushed


def test_a_pull_is_recorded_and_a_look_is_not(bed: Bed, registry: Client) -> None:
    """GET of a manifest sets lastRecordedPullTime, and so does BatchGetImage; HEAD does not."""
    digests = [registry.push("lab", tag) for tag in ("env-1", "env-2")]
    registry.ask("HEAD", "/v2/lab/manifests/env-1", Accept=MANIFEST)
    assert all("lastRecordedPullTime" not in told for told in described(bed).values())
    registry.ask("GET", "/v2/lab/manifests/env-1", Accept=MANIFEST)
    bed.boto("ecr").batch_get_image(repositoryName="lab", imageIds=[{"imageTag": "env-2"}])
    for digest in digests:
        assert abs(described(bed)[digest]["lastRecordedPullTime"].timestamp() - time.time()) < 60


def test_an_image_goes_with_its_last_tag(bed: Bed, registry: Client) -> None:
    """By tag, an image loses the tag, and itself goes with the last; by digest it goes at once. It is really gone."""
    ecr = bed.boto("ecr")
    manifest = registry.image("free", "word")
    digest, _ = (registry.put_manifest("free", tag, manifest).headers["Docker-Content-Digest"] for tag in "ab")
    gone = ecr.batch_delete_image(repositoryName="free", imageIds=[{"imageTag": "a"}])
    assert gone["imageIds"] == [{"imageDigest": digest, "imageTag": "a"}]
    assert described(bed, "free")[digest]["imageTags"] == ["b"]
    assert registry.ask("HEAD", "/v2/free/manifests/a", Accept=MANIFEST).status == 404
    ecr.batch_delete_image(repositoryName="free", imageIds=[{"imageTag": "b"}])
    assert described(bed, "free") == {}
    assert registry.ask("GET", f"/v2/free/manifests/{digest}", Accept=MANIFEST).status == 404
    again = ecr.batch_delete_image(repositoryName="free", imageIds=[{"imageDigest": digest}])
    assert [each["failureCode"] for each in again["failures"]] == ["ImageNotFound"]


def test_an_image_that_an_index_refers_to_stays(bed: Bed, registry: Client) -> None:
    """ImageReferencedByManifestList; after the index is gone its images can be deleted."""
    ecr = bed.boto("ecr")
    index, below = registry.push_index("lab", "env-1")
    ids = [{"imageDigest": digest} for digest in below]
    kept = ecr.batch_delete_image(repositoryName="lab", imageIds=ids)
    assert [each["failureCode"] for each in kept["failures"]] == ["ImageReferencedByManifestList"] * 2
    assert index in kept["failures"][0]["failureReason"]
    ecr.batch_delete_image(repositoryName="lab", imageIds=[{"imageTag": "env-1"}])
    assert ecr.batch_delete_image(repositoryName="lab", imageIds=ids)["failures"] == []
    assert described(bed) == {}


def test_a_repository_with_images_goes_by_force_alone(bed: Bed, registry: Client) -> None:
    """RepositoryNotEmptyException; made again, it is empty."""
    ecr = bed.boto("ecr")
    registry.push("lab", "env-1")
    with pytest.raises(ecr.exceptions.RepositoryNotEmptyException):
        ecr.delete_repository(repositoryName="lab")
    ecr.delete_repository(repositoryName="lab", force=True)
    ecr.create_repository(repositoryName="lab")
    assert described(bed) == {}


def test_a_reset_forgets_images(bed: Bed, registry: Client) -> None:
    """Images, layers and tokens are those of one test."""
    blob = registry.put_blob("lab", b"a layer")
    registry.push("lab", "env-1")
    bed.reset()
    bed.boto("ecr").create_repository(repositoryName="lab")
    assert described(bed) == {}
    assert registry.ask("GET", "/v2/").status == 401
    later = Client(bed)
    assert later.ask("HEAD", f"/v2/lab/blobs/{blob['digest']}").status == 404
    later.http.clear()


# --- lifecycle policies -----------------------------------------------------------------------------------------------


def policy(*rules: dict[str, Any]) -> str:
    """A policy's text; the rules' priorities are their order."""
    expire = {"action": {"type": "expire"}}
    return json.dumps({"rules": [{"rulePriority": n, "selection": rule} | expire for n, rule in enumerate(rules, 1)]})


PUSHED = {
    "tagStatus": "tagged", "tagPatternList": ["env-*"], "countType": "sinceImagePushed", "countUnit": "days",
    "countNumber": 30,
}  # fmt: skip
UNTAGGED = {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 1}


def test_images_expire_by_their_age(bed: Bed, registry: Client) -> None:
    """Those whose tags a rule names, whoever pulls them; the policy can be read back."""
    ecr = bed.boto("ecr")
    ecr.put_lifecycle_policy(repositoryName="lab", lifecyclePolicyText=policy(PUSHED))
    assert json.loads(ecr.get_lifecycle_policy(repositoryName="lab")["lifecyclePolicyText"])["rules"]
    one, other = registry.push("lab", "env-1"), registry.push("lab", "kept")
    bed.elapse(29 * DAY)
    assert Client(bed).ask("GET", "/v2/lab/manifests/env-1", Accept=MANIFEST).status == 200
    assert bed.expire_images() == {"lab": []}
    bed.elapse(2 * DAY)
    assert bed.expire_images() == {"lab": [one]}
    assert set(described(bed)) == {other}


def test_what_nobody_pulls_can_only_be_archived(bed: Bed) -> None:
    """And expires from there after 90 days at the earliest."""
    ecr = bed.boto("ecr")
    ecr.create_repository(repositoryName="lab")
    pulled, archived = PUSHED | {"countType": "sinceImagePulled"}, {**UNTAGGED, "countType": "sinceImageTransitioned"}
    archive = {"action": {"type": "transition", "targetStorageClass": "archive"}}
    rules = json.loads(policy(pulled, archived | {"storageClass": "archive", "countNumber": 90}))["rules"]
    for change, why in [({}, "sinceImagePulled does not go with the action expire"), (archive, "")]:
        text = json.dumps({"rules": [rules[0] | change, rules[1]]})
        with pytest.raises(ecr.exceptions.InvalidParameterException, match=why) if why else nullcontext():
            ecr.put_lifecycle_policy(repositoryName="lab", lifecyclePolicyText=text)


def test_what_an_index_refers_to_expires_after_it(bed: Bed, registry: Client) -> None:
    """A policy's evaluation leaves images of an index that was there; a rule for untagged ones takes them later."""
    bed.boto("ecr").put_lifecycle_policy(repositoryName="lab", lifecyclePolicyText=policy(PUSHED, UNTAGGED))
    index, below = registry.push_index("lab", "env-1")
    bed.elapse(2 * DAY)
    assert bed.expire_images() == {"lab": []}
    bed.elapse(29 * DAY)
    assert bed.expire_images() == {"lab": [index]}
    assert sorted(bed.expire_images()["lab"]) == sorted(below)


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ([PUSHED | {"countType": "sinceImageSeen"}], "schema"),
        ([PUSHED | {"countNumber": 0}], "minimum: 1"),
        ([UNTAGGED | {"countType": "sinceImageTransitioned"}], "storageClass archive"),
        ([UNTAGGED | {"countType": "sinceImageTransitioned", "storageClass": "archive"}], "minimum: 90"),
        ([{name: value for name, value in PUSHED.items() if name != "tagPatternList"}], "tagPatternList"),
        ([UNTAGGED | {"tagPatternList": ["env-*"]}], "tagPatternList"),
        ([PUSHED | {"tagPatternList": ["*a*b*c*d*"]}], "wildcards"),
        ([{name: value for name, value in PUSHED.items() if name != "countUnit"}], "countUnit"),
        ([UNTAGGED | {"tagStatus": "any"}, PUSHED], "any must have the highest"),
    ],
)
def test_a_policy_is_checked(bed: Bed, rules: list[dict[str, Any]], why: str) -> None:
    """InvalidParameterException says what of a policy is wrong."""
    ecr = bed.boto("ecr")
    ecr.create_repository(repositoryName="lab")
    with pytest.raises(ecr.exceptions.InvalidParameterException, match=why):
        ecr.put_lifecycle_policy(repositoryName="lab", lifecyclePolicyText=policy(*rules))


# --- engines and tasks ------------------------------------------------------------------------------------------------


@pytest.fixture
def words(engine: Engine) -> Iterator[str]:
    """A small local image of the engine."""
    name = "starburst-bed-words"
    engine.client.api.import_image_from_data(_tar(b"words"), name, "1")
    yield f"{name}:1"
    engine.client.images.remove(f"{name}:1", force=True)


def test_an_engine_pushes_and_pulls(bed: Bed, engine: Engine, registry: Client, words: str) -> None:
    """The engine logs in with the token, pushes, and pulls what it pushed."""
    user, _, password = base64.b64decode(registry.token).decode().partition(":")
    name = f"{urlsplit(registry.url).netloc}/lab"
    login = {"username": user, "password": password}
    engine.client.images.get(words).tag(name, "env-1")
    steps = list(engine.client.images.push(name, "env-1", stream=True, decode=True, auth_config=login))
    assert [step for step in steps if "error" in step] == []
    refused = list(engine.client.images.push(name, "env-1", stream=True, decode=True))
    assert any("no basic auth credentials" in step.get("error", "") for step in refused)
    engine.client.images.remove(f"{name}:env-1", force=True)
    (digest,) = described(bed)
    assert "lastRecordedPullTime" not in described(bed)[digest]
    pulled = engine.client.images.pull(name, "env-1", auth_config=login)
    assert pulled.attrs["RepoDigests"] == [f"{name}@{digest}"]
    engine.client.images.remove(f"{name}:env-1", force=True)
    assert "lastRecordedPullTime" in described(bed)[digest]


def test_a_task_pulls_what_ecr_holds(engine: Engine, container_aws: Bed) -> None:
    """The task's pull is recorded; a tag that is not there is a CannotPullContainerError."""
    bed = container_aws
    uri = bed.boto("ecr").create_repository(repositoryName="lab")["repository"]["repositoryUri"]
    client = Client(bed)
    user, _, password = base64.b64decode(client.token).decode().partition(":")
    name = f"{urlsplit(client.url).netloc}/lab"
    engine.client.images.get(engine.base_image()).tag(name, "env-1")
    engine.client.images.push(name, "env-1", auth_config={"username": user, "password": password})
    (digest,) = described(bed)
    bed.grant({**bed.site, "image": f"{uri}:env-1", "log_group": "/lab"})
    bed.boto("logs").create_log_group(logGroupName="/lab")
    log = {"logDriver": "awslogs", "options": {"awslogs-group": "/lab", "awslogs-stream-prefix": "w"}}
    command = ["python3", "-c", "print('from ECR')"]
    run(bed, define(bed, image=f"{uri}:env-1", command=command, logConfiguration=log))
    run(bed, define(bed, image=f"{uri}:env-2", command=command))
    tasks = bed.until(lambda: [t for t in bed.tasks() if t["last_status"] == "STOPPED"][1:] and bed.tasks())
    by_exit = {task["exit_code"]: task for task in tasks}
    assert "CannotPullContainerError" in by_exit[None]["stopped_reason"]
    assert by_exit[0]["stop_code"] == "EssentialContainerExited"
    assert "lastRecordedPullTime" in described(bed)[digest]
    engine.client.images.remove(f"{name}:env-1", force=True)
    client.http.clear()


def test_a_task_that_is_a_process_needs_its_image_too(bed: Bed, registry: Client) -> None:
    """Where tasks are processes, what ECR holds can be pulled, and what its repository lacks cannot."""
    digest = registry.push("lab", "env-1")
    uri = bed.site["image"].replace("starburst-bed:worker", "lab")
    bed.grant({**bed.site, "image": f"{uri}:env-1"})
    run(bed, define(bed, "pass", image=f"{uri}:env-1"))
    run(bed, define(bed, "pass", image=f"{uri}:env-2"))
    bed.until(lambda: all(task["last_status"] == "STOPPED" for task in bed.tasks()))
    assert {task["stop_code"] for task in bed.tasks()} == {"EssentialContainerExited", "TaskFailedToStart"}
    assert "lastRecordedPullTime" in described(bed)[digest]
