"""What AWS and registries answer: each body goes through the vendor's real client, and from there to us."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

import boto3
from botocore.awsrequest import AWSResponse
from obstore.store import MemoryStore
from urllib3 import BaseHTTPResponse, HTTPResponse
from urllib3.exceptions import HTTPError

from starburst_common.aws.clients import Clients
from starburst_common.aws.codebuild import CodeBuildBuilder, _Log
from starburst_common.aws.compute import EcsCompute
from starburst_common.aws.ecr import LIFECYCLE, EcrRepository
from starburst_common.aws.queue import SqsQueue
from starburst_common.errors import CannotLaunch, StarburstError
from starburst_common.image import oci
from starburst_common.image.exchange import Again, Exchange
from starburst_common.image.oci import Layer, Manifest
from starburst_common.model import FleetId, WorkerId
from starburst_common.ports import Pace, WorkerSpec
from starburst_common.resources import Resources
from starburst_common.sites.site import Site
from tests.fuzz.hunt import Target
from tests.fuzz.mutations import Kind
from tests.fuzz.world import InMemory

FLEET = FleetId("fleet-20270101-000000-0a1b2c3d")
ARN = "arn:aws:ecs:us-east-1:123456789012:task/lab/{}"
TASK = {
    "taskArn": ARN.format(1),
    "lastStatus": "STOPPED",
    "stopCode": "EssentialContainerExited",
    "stoppedReason": "Essential container in task exited",
    "containers": [{"exitCode": 137, "reason": "OutOfMemoryError: killed"}],
    "createdAt": 1790000000.5,
    "pullStartedAt": 1790000001.5,
    "stoppedAt": 1790000002.5,
}
DIGEST = f"sha256:{'a' * 64}"


def targets() -> list[Target]:
    """All of them."""
    return [*_aws(), *_registry()]


# --- AWS --------------------------------------------------------------------------------------------------------------


class _Body(io.BytesIO):
    def stream(self, **_: Any) -> Any:
        yield self.getvalue()


class _Answering:
    """Clients to whom each call is answered with the next body, and the last one again and again."""

    def __init__(self) -> None:
        self._bodies: list[bytes] = []
        session = boto3.session.Session("x", "x", region_name="us-east-1")
        session.events.register("before-send", self._answer)
        self.clients = Clients("us-east-1", lambda: session)

    def _answer(self, **_: Any) -> AWSResponse:
        body = self._bodies.pop(0) if len(self._bodies) > 1 else self._bodies[0]
        headers = {"content-type": "application/x-amz-json-1.1"}
        return AWSResponse("https://aws", 200, headers, _Body(body))

    def say(self, *bodies: bytes) -> None:
        self._bodies = [*bodies]


def _aws() -> list[Target]:
    to = _Answering()
    site = Site.of(
        {
            "name": "lab", "region": "us-east-1", "bucket": "lab-runs", "cluster": "lab", "subnets": ["subnet-1"],
            "execution_role": "arn:aws:iam::123456789012:role/x", "task_role": "arn:aws:iam::123456789012:role/x",
            "signing_secret": "arn:aws:ssm:us-east-1:123456789012:parameter/x",
        },
        "here",
    )  # fmt: skip
    resources = Resources.of(1)
    spec = WorkerSpec(
        fleet=FLEET,
        resources=resources,
        pace=Pace(lease_s=1, chunk_s=1, share_s=1, idle_s=1, lifetime_s=1, inline_bytes=1),
    )
    definition = b'{"taskDefinition": {"taskDefinitionArn": "arn:x", "status": "ACTIVE"}}'
    running = b'{"tasks": [{"taskArn": "%s"}], "failures": []}' % ARN.format(1).encode()

    def compute() -> EcsCompute:
        clock = iter(range(10**9))
        return EcsCompute(
            site, to.clients, InMemory(MemoryStore(), "memory"), b"k" * 32, pace=lambda: 1000.0 * next(clock)
        )

    def define(blob: bytes) -> None:
        to.say(blob)
        assert isinstance(compute().definitions.ensure("image"), str)

    def launch(blob: bytes) -> None:
        made = compute()
        to.say(definition, blob)
        try:
            made.launch(spec, range(2))
        finally:
            launches, _ = made._launches.read(FLEET)
            assert all(isinstance(arn, str) for each in launches for arn in each.tasks or ())

    def look(blob: bytes) -> None:
        made = compute()
        to.say(definition, running)
        made.launch(spec, range(1))
        to.say(blob)
        for state in made.tend(FLEET):
            assert isinstance(state.reason, str) and isinstance(state.started_at, float)
            assert state.exit_code is None or isinstance(state.exit_code, int)
        made.tend(FLEET)

    def tail(blob: bytes) -> None:
        to.say(blob)
        assert isinstance(compute().tail(FLEET, WorkerId("w")), str)

    def queue() -> SqsQueue:
        made = SqsQueue(to.clients, prefix="p-", tags={})
        to.say(b'{"QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/p-x"}')
        made._url("q")
        return made

    def receive(blob: bytes) -> None:
        made = queue()
        to.say(blob)
        for message in made.receive("q", limit=10, lease_s=5, wait_s=0):
            assert isinstance(message.body, str) and isinstance(message.receipt, str)

    def send(blob: bytes) -> None:
        made = queue()
        to.say(blob, b'{"Successful": []}')
        made.send("q", ["x", "y"], group="g")
        to.say(blob, b'{"Successful": []}')
        made.extend("q", ["r", "s"], 5)

    def depth(blob: bytes) -> None:
        made = queue()
        to.say(blob)
        made.depth("q")

    def address(blob: bytes) -> None:
        to.say(blob)
        assert isinstance(SqsQueue(to.clients, prefix="p-", tags={})._url("q"), str)

    def repository(read: Callable[[EcrRepository], object], *more: bytes) -> Callable[[bytes], None]:
        def feed(blob: bytes) -> None:
            made = EcrRepository(to.clients, "r", tags={})
            to.say(blob, *more)
            read(made)

        return feed

    def images(made: EcrRepository) -> None:
        for image in made.images():
            assert isinstance(image.tag, str) and isinstance(image.size_bytes, int) and image.pushed_at >= 0

    def policy(made: EcrRepository) -> None:
        made._see_to_expiry()

    def build(blob: bytes) -> None:
        made = CodeBuildBuilder(to.clients, None, site="lab", role="r", tags={}, look_s=0)  # type: ignore[arg-type]
        from threading import Event

        over = Event()
        over.set()
        to.say(blob, b'{"events": [{"message": "x"}], "nextForwardToken": "f/1"}')
        made._follow("b", "linux/amd64", lambda line: None, over)

    def printed(blob: bytes) -> None:
        to.say(blob, b'{"events": [], "nextForwardToken": "f/1"}')
        for line in _Log(to.clients).lines({"logs": {"groupName": "g", "streamName": "s"}}):
            assert isinstance(line, str)

    token = base64.b64encode(b"AWS:secret").decode()
    index = json.dumps({"manifests": [{"digest": DIGEST}]})
    tasks = [
        {"tasks": [TASK], "failures": []},
        {"tasks": [], "failures": [{"arn": ARN.format(1), "reason": "MISSING"}]},
    ]
    started = [
        {"tasks": [TASK, {**TASK, "taskArn": ARN.format(2)}], "failures": []},
        {"tasks": [], "failures": [{"reason": "Capacity is unavailable at this time", "detail": "x"}]},
    ]
    detail = {
        "imageDigest": DIGEST, "imageTags": ["env-1", "part-2"], "imageSizeInBytes": 7, "imagePushedAt": 1790000000.0,
        "lastRecordedPullTime": 1790000000.0,
    }  # fmt: skip
    events = {"events": [{"timestamp": 1, "message": "x\u001b[31m"}], "nextForwardToken": "f/1"}
    message = {"MessageId": "m", "ReceiptHandle": "r", "Body": "b", "Attributes": {"ApproximateReceiveCount": "2"}}
    failed = {"Successful": [], "Failed": [{"Id": "0", "SenderFault": True, "Code": "x", "Message": "y"}]}
    counts = {"ApproximateNumberOfMessages": "1", "ApproximateNumberOfMessagesNotVisible": "2",
              "ApproximateNumberOfMessagesDelayed": "3"}  # fmt: skip
    built = {
        "builds": [{"id": "b", "buildComplete": True, "buildStatus": "FAILED", "currentPhase": "BUILD", "logs": {
            "groupName": "g", "streamName": "s"}, "phases": [{"phaseType": "BUILD", "phaseStatus": "FAILED",
            "contexts": [{"message": "m", "statusCode": "c"}]}]}],
    }  # fmt: skip
    given = {"authorizationData": [{"authorizationToken": token, "expiresAt": 1.9e9, "proxyEndpoint": "https://e"}]}
    layered = {"images": [{"imageManifest": index, "imageId": {"imageTag": "t"}}], "failures": []}
    listed = b'{"imageIds": [{"imageDigest": "%s"}]}' % DIGEST.encode()
    deleted = (
        b'{"imageIds": [], "failures": [{"failureCode": "X", "failureReason": "y", "imageId": {"imageTag": "t"}}]}'
    )
    rows: list[tuple[str, Sequence[Any], Callable[[bytes], None]]] = [
        ("ecs task definition", [json.loads(definition)], define),
        ("ecs launch", started, launch),
        ("ecs tasks", tasks, look),
        ("logs tail", [events], tail),
        ("sqs messages", [{"Messages": [message]}], receive),
        ("sqs batches", [failed], send),
        ("sqs depth", [{"Attributes": counts}], depth),
        ("sqs address", [{"QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/p-q"}], address),
        ("ecr repository", [{"repositories": [{"repositoryUri": "host/r"}]}], repository(lambda made: made.uri)),
        ("ecr token", [given], repository(lambda made: made.access())),
        ("ecr images", [{"imageDetails": [detail]}], repository(images)),
        ("ecr policy", [{"lifecyclePolicyText": LIFECYCLE}], repository(policy, b"{}")),
        ("ecr manifests", [layered], repository(lambda made: made.delete(["t"]), b"{}", listed, b"{}")),
        ("ecr deletion", [json.loads(deleted)], repository(lambda made: made._delete([{"imageTag": "t"}]))),
        ("codebuild builds", [built], build),
        ("codebuild log", [events], printed),
    ]
    return [
        Target(
            name=name, kind=Kind.JSON, samples=[json.dumps(each).encode() for each in samples], feed=feed,
            allowed=(StarburstError, CannotLaunch),
        )
        for name, samples, feed in rows
    ]  # fmt: skip


# --- registries -------------------------------------------------------------------------------------------------------


class _Exchange(Exchange):
    """Whose other end says what it is told to."""

    def __init__(self, answers: list[Any]) -> None:
        super().__init__("https://registry.example", "me", "secret")
        self._answers = answers

    def _request(
        self, method: str, url: str, headers: dict[str, str], body: BinaryIO | bytes | None
    ) -> BaseHTTPResponse:
        said = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        status, fields, text = said
        return HTTPResponse(
            io.BytesIO(text.encode("utf-8", "surrogatepass")), headers=fields, status=status, preload_content=False,
            request_method=method,
        )  # fmt: skip


def _answers(blob: bytes) -> list[Any]:
    """Well enough formed for a server to send it."""
    said = json.loads(blob)
    if not isinstance(said, list) or not said:
        raise ValueError("no answers")
    made = []
    for each in said:
        status, fields, text = each
        if type(status) is not int or not 100 <= status <= 999 or not isinstance(fields, Mapping):
            raise ValueError("no answer")
        fields = {str(name): str(value) for name, value in fields.items()}
        made.append((status, fields, text if isinstance(text, str) else json.dumps(text)))
    return made


def _registry() -> list[Target]:
    manifest = {
        "schemaVersion": 2, "mediaType": oci.MANIFEST, "config": {"digest": DIGEST, "size": 7},
        "layers": [{"mediaType": oci.LAYER, "digest": DIGEST, "size": 7}],
    }  # fmt: skip
    config = {
        "os": "linux", "architecture": "amd64", "config": {"Env": ["A=1"], "Labels": {"a": "b"}, "Cmd": ["x"]},
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]}, "history": [{"created_by": "x"}],
    }  # fmt: skip
    platform = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [{"digest": DIGEST, "platform": platform}]}
    ours = Layer(digest=DIGEST, diff_id=DIGEST, size=7, by="us")

    def manifests(blob: bytes) -> None:
        found = Manifest(blob, oci.MANIFEST, oci.digest(blob))
        with oci.well_formed():
            oci.platforms(found.content) if "manifests" in found.content else []
            oci.pick(found, "linux/arm64")
            oci.check_layers(found.content, config)
            oci.manifest_on_top(found.content, [ours], b"{}")

    def configs(blob: bytes) -> None:
        with oci.well_formed():
            found = oci.parsed(blob)
            oci.check_layers(manifest, found)
            oci.platform(found)
            oci.config_on_top(
                found, [ours], variables={}, entrypoint=["x"], user="1", folder="/", labels={"a": "b"}
            )  # fmt: skip

    def speak(blob: bytes) -> None:
        try:
            answers = _answers(blob)
        except (ValueError, TypeError, RecursionError):
            return
        to = _Exchange(answers)
        with to.sent("GET", "r", "manifests/t") as answer:
            to.body("r", answer, 1 << 20)
            to.location(answer)

    challenge = 'Bearer realm="https://auth.example/token",service="registry.example"'
    conversations = [
        [[401, {"WWW-Authenticate": challenge}, ""], [200, {}, '{"token": "abc"}'], [200, {"Location": "/v2/x"}, "{}"]],
        [[307, {"Location": "https://cdn.example/x?sig=1"}, ""], [200, {"Location": "/v2/x"}, "{}"]],
        [[429, {"Retry-After": "3"}, '{"errors": [{"code": "TOOMANYREQUESTS", "message": "wait"}]}']],
        [[401, {"WWW-Authenticate": 'Basic realm="x"'}, ""], [403, {}, '{"errors": [{"code": "DENIED"}]}']],
    ]
    return [
        Target(name="oci manifests", kind=Kind.JSON, feed=manifests,
               samples=[json.dumps(each).encode() for each in (manifest, index)]),
        Target(name="oci configs", kind=Kind.JSON, samples=[json.dumps(config).encode()], feed=configs),
        Target(
            name="registry answers", kind=Kind.JSON, samples=[json.dumps(each).encode() for each in conversations],
            feed=speak, allowed=(StarburstError, Again, HTTPError),  # the last two are tried again, and then ours
        ),
    ]  # fmt: skip
