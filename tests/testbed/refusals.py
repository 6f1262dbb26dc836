"""A refusal in; an answer in the error shape of the service that was asked out."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from tests.testbed.calls import Call
from tests.testbed.conditions import ACCOUNT, REGION, domain_of

REGISTRY = f"https://{ACCOUNT}.dkr.ecr.{REGION}.{domain_of(REGION)}/"


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Refused(Exception):
    """An AWS error. `query_code` is what services that once spoke the query protocol call it; `headers` are of S3."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 400,
        query_code: str = "",
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status
        self.query_code = query_code
        self.headers = headers


class Dropped(ConnectionResetError):
    """The connection ends without an answer."""


def as_json(body: object, *, status: int = 200, version: str = "1.1") -> Answer:
    """An answer of a service that speaks JSON."""
    headers = [("Content-Type", f"application/x-amz-json-{version}"), ("x-amzn-RequestId", str(uuid.uuid4()))]
    return Answer(status, headers, json.dumps(body).encode())


def refusal(call: Call, why: Refused) -> Answer:
    """The error as botocore's parser for this call's protocol reads it: S3 and query XML, or JSON."""
    if call.service == "registry":
        return _registry(why)
    if call.service == "s3":
        return _xml(f"<Error><Code>{why.code}</Code><Message>{escape(why.message)}</Message>{_REQUEST}</Error>", why)
    if call.service == "ec2":
        error = f"<Error><Code>{why.code}</Code><Message>{escape(why.message)}</Message></Error>"
        return _xml(f"<Response><Errors>{error}</Errors>{_REQUEST}</Response>", why)
    if call.is_query:
        fault = "Sender" if why.status < 500 else "Receiver"
        error = f"<Type>{fault}</Type><Code>{why.code}</Code><Message>{escape(why.message)}</Message>"
        return _xml(f"<ErrorResponse><Error>{error}</Error>{_REQUEST}</ErrorResponse>", why)
    answer = as_json({"__type": why.code, "message": why.message}, status=why.status)
    answer.headers.append(("x-amzn-ErrorType", why.code))
    if call.service == "sqs":
        fault = "Sender" if why.status < 500 else "Receiver"
        answer.headers.append(("x-amzn-query-error", f"{why.query_code or why.code};{fault}"))
    return answer


def _registry(why: Refused) -> Answer:
    """As ECR's registry: one that does not know who asks answers plain text and names its realm."""
    version = ("Docker-Distribution-Api-Version", "registry/2.0")
    if why.status == 401:
        realm = ("WWW-Authenticate", f'Basic realm="{REGISTRY}",service="ecr.amazonaws.com"')
        return Answer(401, [version, realm, ("Content-Type", "text/plain; charset=utf-8")], b"Not Authorized\n")
    throttled = why.code == "ThrottlingException"
    error = {"code": "TOOMANYREQUESTS" if throttled else why.code, "message": why.message}
    headers = [version, ("Content-Type", "application/json; charset=utf-8")]
    return Answer(429 if throttled else why.status, headers, json.dumps({"errors": [error]}).encode())


_REQUEST = "<RequestId>BED0000000000000</RequestId>"


def _xml(body: str, why: Refused) -> Answer:
    text = '<?xml version="1.0" encoding="UTF-8"?>\n' + body
    return Answer(why.status, [("Content-Type", "application/xml"), *why.headers], text.encode())
