"""An HTTP request in; which call of which AWS service it is out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

from moto.utilities.utils import get_partition

from tests.testbed.conditions import ACCOUNT, REGION

#: what IAM calls otherwise than signatures do
SIGNED_AS = {"monitoring": "cloudwatch"}
_SIGNED = re.compile(r"SignedHeaders=([\w;-]+)")
_SCOPE = re.compile(r"Credential=([^/,\s]+)/\d{8}/([^/]*)/([^/]*)/aws4_request")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to AWS."""

    service: str  #: as in signatures: "s3", "ecs", "secretsmanager"
    operation: str  #: as in the API reference: "PutObject", "RunTask"
    path: str  #: with its query
    body: bytes = field(default=b"", repr=False)
    access_key: str = ""
    region: str = ""  #: that it is signed for
    is_query: bool = False  #: of the old query protocol: errors are XML
    owner: str = ""  #: whose bucket is meant, where the request says so
    unsigned: tuple[str, ...] = ()  #: headers of a request to S3 that its signature should cover, and does not
    copies: str = ""  #: of S3: the object that is copied
    sets_ownership: bool = False  #: of S3: a bucket is made with a setting of who owns its objects

    @property
    def partition(self) -> str:
        """The part of AWS that the region lies in."""
        return get_partition(self.region or REGION)

    def arn(self, service: str, name: str) -> str:
        """Of one of a service's things there."""
        return f"arn:{self.partition}:{service}:{self.region or REGION}:{ACCOUNT}:{name}"


def call_of(environ: WSGIEnvironment, body: bytes) -> Call:
    """Which call a request is: its signature names the service; target, action or, for S3, path the operation."""
    path, query = environ.get("PATH_INFO", "/"), environ.get("QUERY_STRING", "")
    scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", "")) or _SCOPE.search(_presigned(query))
    access_key, region, service = (scope[1], scope[2], scope[3]) if scope else ("", "", "s3")
    service = SIGNED_AS.get(service, service)
    made = partial(Call, path=f"{path}?{query}" if query else path, body=body, access_key=access_key, region=region)
    if target := environ.get("HTTP_X_AMZ_TARGET", ""):
        return made(service=service if scope else "", operation=target.rpartition(".")[2])
    if service == "s3":
        copies = environ.get("HTTP_X_AMZ_COPY_SOURCE", "")
        return made(
            service=service,
            operation=s3_operation(environ["REQUEST_METHOD"], path, query, copies=bool(copies)),
            copies=copies,
            sets_ownership="HTTP_X_AMZ_OBJECT_OWNERSHIP" in environ,
            owner=environ.get("HTTP_X_AMZ_EXPECTED_BUCKET_OWNER", ""),
            unsigned=_unsigned(environ),
        )
    action = re.search(rb"(?:^|&)Action=(\w+)", body[:10_000]) or re.search(rb"(?:^|&)Action=(\w+)", query.encode())
    operation = action[1].decode() if action else f"{environ['REQUEST_METHOD']} {path}"
    return made(service=service, operation=operation, is_query=action is not None)


def _unsigned(environ: WSGIEnvironment) -> tuple[str, ...]:
    """Source: IAM User Guide, "Create a signed AWS API request": all that begin with x-amz- are to be."""
    if (signed := _SIGNED.search(environ.get("HTTP_AUTHORIZATION", ""))) is None:
        return ()
    names = (name.removeprefix("HTTP_").lower().replace("_", "-") for name in environ if name.startswith("HTTP_X_AMZ_"))
    return tuple(sorted({*names} - {*signed[1].split(";")}))


def _presigned(query: str) -> str:
    return unquote(query).replace("X-Amz-Credential=", "Credential=") if "X-Amz-Credential" in query else ""


def s3_operation(method: str, path: str, query: str, *, copies: bool = False) -> str:
    """The operation a path-style S3 request is.

    >>> s3_operation("PUT", "/bucket/key", "")
    'PutObject'
    >>> s3_operation("POST", "/bucket/key", "uploads")
    'CreateMultipartUpload'
    >>> s3_operation("GET", "/bucket", "list-type=2&prefix=runs%2F")
    'ListObjectsV2'
    >>> s3_operation("PUT", "/bucket", "lifecycle")
    'PutBucketLifecycle'
    """
    asked = parse_qs(query, keep_blank_values=True)
    bucket, _, key = path.lstrip("/").partition("/")
    if not bucket:
        return "ListBuckets"
    if key:
        return _object_operation(method, asked, copies=copies)
    if method == "GET" and "list-type" in asked:
        return "ListObjectsV2"
    if method == "POST" and "delete" in asked:
        return "DeleteObjects"
    if method == "GET" and "uploads" in asked:
        return "ListMultipartUploads"
    if method == "GET" and "versions" in asked:
        return "ListObjectVersions"
    for part in asked:
        if part in ("lifecycle", "policy", "tagging", "versioning", "encryption", "location", "publicAccessBlock"):
            return f"{method.capitalize()}Bucket{part[0].upper()}{part[1:]}"
    return {"PUT": "CreateBucket", "HEAD": "HeadBucket", "DELETE": "DeleteBucket"}.get(method, "ListObjects")


def _object_operation(method: str, asked: Mapping[str, list[str]], *, copies: bool) -> str:
    if "tagging" in asked:
        return f"{method.capitalize()}ObjectTagging"
    if method == "PUT":
        if "partNumber" in asked:
            return "UploadPartCopy" if copies else "UploadPart"
        return "CopyObject" if copies else "PutObject"
    if method == "POST":
        return "CreateMultipartUpload" if "uploads" in asked else "CompleteMultipartUpload"
    if "uploadId" in asked:
        return "AbortMultipartUpload" if method == "DELETE" else "ListParts"
    return f"{method.capitalize()}Object"
