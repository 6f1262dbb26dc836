"""Every request to the bed: counted, made to fail if the script says so, and passed to who answers it."""

from __future__ import annotations

import io
import json
import socket
import struct
import traceback
from collections.abc import Iterable
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app

from tests.testbed import cloud, endpoints, fargate, late, networks, parameters
from tests.testbed.bill import Bill
from tests.testbed.buckets import Buckets
from tests.testbed.calls import Call, call_of
from tests.testbed.codebuild import CodeBuild
from tests.testbed.conditions import AT, REGION
from tests.testbed.control import Control
from tests.testbed.distribution import Distribution, is_registry, registry_call
from tests.testbed.ecr import Ecr
from tests.testbed.ecs import Ecs
from tests.testbed.faults import Faults
from tests.testbed.named import Named, named
from tests.testbed.pricing import Pricing
from tests.testbed.quotas import Quotas
from tests.testbed.refusals import Answer, Dropped, Refused, as_json, refusal
from tests.testbed.sqs import Sqs
from tests.testbed.tasks import TaskStore
from tests.testbed.taskside import TaskSide
from tests.testbed.throttle import Throttle

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Front:
    """The WSGI application."""

    def __init__(
        self,
        *,
        sqs: Sqs,
        ecs: Ecs,
        ecr: Ecr,
        distribution: Distribution,
        codebuild: CodeBuild,
        task_side: TaskSide,
        control: Control,
        faults: Faults,
        throttle: Throttle,
        tasks: TaskStore,
        quotas: Quotas,
        pricing: Pricing,
        bill: Bill,
    ) -> None:
        self.control = control
        self.tasks = tasks
        self._quotas = quotas
        self._pricing = pricing
        self._bill = bill
        self._sqs = sqs
        self._ecs = ecs
        self._ecr = ecr
        self._distribution = distribution
        self._codebuild = codebuild
        self._task_side = task_side
        self._faults = faults
        self._throttle = throttle
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._buckets = Buckets()
        self._creating = Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        host = named(environ)
        path = environ.get("PATH_INFO", "/")
        if self._faults.cutting():
            self._cut(environ, path)
        body = _body(environ)
        if path.startswith("/_bed/"):
            answer = self.control.answer(environ["REQUEST_METHOD"], path.removeprefix("/_bed/"), body)
        elif path.startswith("/imds/"):
            answer = self._task_side.metadata(environ["REQUEST_METHOD"], path, environ.get(_TOKEN, ""))
        elif path.startswith(("/creds/", "/v4/")):
            answer = self._task_side.answer(path)
        else:
            call = self._call(environ, body)
            answer = self._aws(environ, call, host)
        start_response(f"{answer.status} {_REASONS.get(answer.status, 'Answer')}", _sized(environ, answer))
        return [answer.body]

    def _call(self, environ: WSGIEnvironment, body: bytes) -> Call:
        if not is_registry(environ.get("PATH_INFO", "/")):
            return call_of(environ, body)
        holder = self._distribution.holder(environ.get("HTTP_AUTHORIZATION", ""))
        return replace(registry_call(environ, body), access_key=holder)

    def _cut(self, environ: WSGIEnvironment, path: str) -> None:
        """Lose the connection half-way through a body, if the script says so. Raises `Dropped`."""
        head = registry_call(environ, b"") if is_registry(path) else call_of(environ, b"")
        if self._faults.due(head, halfway=True):
            self.control.count(head)
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 2 * _PIECE) // 2)
            raise Dropped

    def _aws(self, environ: WSGIEnvironment, call: Call, host: Named | None) -> Answer:
        self.control.count(call, host.name if host else "")
        AT.set(call.region or REGION)
        try:
            self._faults.check(call)
            due = self._faults.due(call)
            for fault in due:
                if not fault.after:
                    fault.strike()
            if host:
                host.check(call)
            self.control.check(call)
            self._throttle.check(call)
            answer = self._served(environ, call)
            self._faults.check_light()
            for fault in due:
                if fault.after:
                    fault.strike()
        except Refused as why:
            return refusal(call, why)
        return answer

    def _served(self, environ: WSGIEnvironment, call: Call) -> Answer:
        if call.service == "registry":
            return self._distribution.answer(environ, call)
        if call.service == "ecr" and call.operation in Ecr.operations:
            return as_json(self._ecr.call(call.operation, _json(call), call.access_key))
        if call.service == "codebuild" and call.operation in CodeBuild.operations:
            return as_json(self._codebuild.call(call.operation, _json(call)))
        if call.service == "sqs":
            return as_json(self._sqs.at(call.region).call(call.operation, _json(call)), version="1.0")
        if call.service == "ecs":
            if call.operation in Ecs.operations:
                return as_json(self._ecs.call(call.operation, _json(call)))
            if self._ecs.providers.serves(call.operation, _json(call)):
                return as_json(self._ecs.providers.call(call.operation, _json(call)))
            if call.operation == "DeleteCluster":
                self._ecs.check_deleted(_json(call))
            if call.operation == "RegisterTaskDefinition":
                fargate.check_definition(_json(call))
        if (call.service, call.operation) == ("ecs", "PutClusterCapacityProviders"):
            answer = self._from_moto(environ)
            self._ecs.providers.stay(_json(call)["cluster"])
            return answer
        if (call.service, call.operation) == ("ecs", "RegisterTaskDefinition"):
            answer = self._from_moto(environ)
            cloud.complete_definition(_json(call))
            return answer
        if call.service == "servicequotas" and self._quotas.serves(call.operation, _json(call)):
            return as_json(self._quotas.call(call.operation, _json(call)))
        if call.service == "pricing":
            return as_json(self._pricing.call(call))
        if call.service == "ce":
            return as_json(self._bill.call(call))
        if (call.service, call.operation) == ("ec2", "DescribeSpotPriceHistory"):
            return self._pricing.spot_history(call)
        if (call.service, call.operation) == ("cloudwatch", "GetMetricStatistics"):
            self._quotas.publish_use()
        if call.service == "ec2":
            networks.open_default(AT.get())
            if call.operation == "DescribeVpcEndpointServices":
                return endpoints.as_called(self._from_moto(environ))
            if call.operation == "CreateVpcEndpoint":
                endpoints.check_name(call)
        if (call.service, call.operation) in (("ec2", "DeleteSubnet"), ("ec2", "DeleteSecurityGroup")):
            networks.refuse_in_use(call)
        if call.service == "ssm":
            _set_body(environ, parameters.by_names(call))
        if (call.service, call.operation) == ("s3", "PutBucketPolicy"):
            _set_body(environ, self._buckets.put(call))
        if (call.service, call.operation) == ("iam", "SimulatePrincipalPolicy"):
            return self.control.simulated(call)
        if (call.service, call.operation) == ("iam", "CreateServiceLinkedRole"):
            cloud.refuse_second_role_of_ecs()
        if call.service == "iam" and not call.operation.startswith(("Get", "List")):
            return self._changing_roles(environ, call)
        if call.operation in ("GetObject", "HeadObject"):
            answer = self._from_moto(environ)
            if answer.status == 404:
                self.control.check_missing(call)
            return answer
        if "HTTP_IF_NONE_MATCH" in environ and environ["REQUEST_METHOD"] in ("PUT", "POST"):
            with self._creating:  # moto looks whether the key is there, and writes it later: others may do both between
                return self._from_moto(environ)
        answer = self._from_moto(environ)
        return self._buckets.answered(call, answer) if call.service == "s3" else answer

    def _changing_roles(self, environ: WSGIEnvironment, call: Call) -> Answer:
        with self._creating:
            before = late.roles()
            answer = self._from_moto(environ)
            self.control.changed_roles(call, before)
        return answer

    def _from_moto(self, environ: WSGIEnvironment) -> Answer:
        begun: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> Any:
            begun[:] = [int(status.split()[0]), headers]
            return lambda _: None

        chunks = self._moto(environ, start_response)
        try:
            body = b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        return Answer(begun[0], list(begun[1]), body)


class Handler(MotoRequestHandler):
    """Answers whole bodies on connections that are kept, and says nothing.

    Werkzeug's own way closes each connection, and reads away what comes next on one that is not.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def run_wsgi(self) -> None:
        """Answer one request."""
        environ = self.make_environ()
        begun: list[Any] = []
        try:
            body = b"".join(self.server.app(environ, lambda *status: begun.append(status)))  # type: ignore[arg-type]
        except Dropped:
            self._drop()
            return
        except Exception:
            traceback.print_exc()
            begun, body = [("500 Internal Server Error", [("Content-Length", "0")])], b""
        status, headers = begun[0]
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _drop(self) -> None:
        """Close the connection as a crash does: with a reset, and no answer."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing."""


def _json(call: Call) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(call.body or b"{}")
    return read


def _body(environ: WSGIEnvironment) -> bytes:
    """The request's body, read whole and put back."""
    length = environ.get("CONTENT_LENGTH")
    stream = environ["wsgi.input"]
    body: bytes = stream.read(int(length)) if length else stream.read() if _is_chunked(environ) else b""
    environ["wsgi.input"] = io.BytesIO(body)
    if _is_chunked(environ):
        environ["CONTENT_LENGTH"] = str(len(body))
        del environ["HTTP_TRANSFER_ENCODING"]
    return body


def _set_body(environ: WSGIEnvironment, body: bytes) -> None:
    environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))


def _is_chunked(environ: WSGIEnvironment) -> bool:
    return "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()


def _sized(environ: WSGIEnvironment, answer: Answer) -> list[tuple[str, str]]:
    """The headers, with the body's length: without one the connection could not be kept."""
    if environ["REQUEST_METHOD"] == "HEAD" or answer.status in (204, 304):
        return answer.headers
    headers = [each for each in answer.headers if each[0].lower() not in ("content-length", "transfer-encoding")]
    return [*headers, ("Content-Length", str(len(answer.body)))]


_TOKEN = "HTTP_X_AWS_EC2_METADATA_TOKEN"
_PIECE = 4096  #: of a body whose length is not known
_REASONS = {200: "OK", 204: "No Content", 206: "Partial Content", 304: "Not Modified", 400: "Bad Request"}
