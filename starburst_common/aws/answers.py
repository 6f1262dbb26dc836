"""What botocore gives or raises in; what AWS means by it out: one table that turns its errors into ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import botocore.exceptions
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    MissingDependencyException,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.model import ListShape, MapShape, Shape, StructureShape
from botocore.parsers import ResponseParserError

from starburst_common.aws.objects import EXPIRED, UNHAD
from starburst_common.aws.refusals import NOT_TAKEN, RENEW, allow, to_do
from starburst_common.errors import Denied, NotFound, StarburstError, Unavailable
from starburst_common.phrases import oddity, told

#: Error codes of the services we speak to, by what they mean to us. Source: botocore's service models, 1.44.
_GONE = {
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
    "ResourceNotFoundException",
    "ParameterNotFound",
    "NoSuchResourceException",
    "NoSuchKey",
    "NoSuchBucket",
    "RepositoryNotFoundException",
    "RepositoryPolicyNotFoundException",
    "LifecyclePolicyNotFoundException",
    "ClusterNotFoundException",
}
_LATER = {
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "LimitExceededException",
    "SlowDown",
    "OverLimit",
    "AWS.SimpleQueueService.QueueDeletedRecently",
    "RequestTimeout",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "InternalServiceError",
    "ServerException",
}
#: How botocore gives what a service's model calls so.
_KINDS: dict[str, Any] = {
    "structure": dict, "map": dict, "list": list, "string": str, "integer": int, "long": int, "boolean": bool,
    "float": (int, float), "double": (int, float), "timestamp": datetime,
}  # fmt: skip
_DECODED = "policyDocumentType"  #: text in IAM's model, which botocore gives as what it says
#: What botocore raises, and our reading, where an answer lacks something, or has it of another kind.
_MISSHAPEN = (ResponseParserError, LookupError, TypeError, AttributeError, ValueError, OverflowError, RuntimeError)
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_FORBIDDEN = {
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "BlockedException",
}
#: What is told of credentials that somebody has to renew; those of `aws login` are in newer releases of botocore only.
_RENEWED: tuple[type[BotoCoreError], ...] = (
    CredentialRetrievalError,
    TokenRetrievalError,
    SSOError,
    *filter(None, [getattr(botocore.exceptions, "LoginError", None)]),
)


@contextmanager
def speaking(doing: str) -> Iterator[None]:
    """Raises what botocore raises as one of our errors; `doing` says what was tried, as in "sqs:SendMessage"."""
    try:
        yield
    except StarburstError:
        raise
    except (ClientError, BotoCoreError) as error:
        raise meaning(error, doing) from error
    except _MISSHAPEN as error:
        raise misshapen(doing, error) from error


def check(value: Any, shape: Shape) -> None:
    """Raises `TypeError` where what AWS answered is of another kind than its own model of the service says."""
    kind = dict if shape.name == _DECODED else _KINDS.get(shape.type_name)
    if kind is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
        raise TypeError(f"{shape.name} is {told(value, 40)}")
    match shape:
        case StructureShape():
            for name, member in shape.members.items():
                if value.get(name) is not None:
                    check(value[name], member)
        case ListShape():
            for each in value:
                check(each, shape.member)
        case MapShape():
            for each in value.values():
                check(each, shape.value)


def misshapen(doing: str, error: Exception) -> Unavailable:
    """What came is not as AWS answers; read within `speaking`, it is told so."""
    return Unavailable(
        f"{doing}: what came back is no answer of AWS ({oddity(error)}): look whether a proxy on the way there "
        "answers in its place"
    )


def meaning(error: ClientError | BotoCoreError, doing: str) -> StarburstError:
    """What a vendor's error means to us.

    >>> refusal = {"Error": {"Code": "AccessDeniedException", "Message": "no"}}
    >>> meaning(ClientError(refusal, "RunTask"), "ecs:RunTask")
    Denied('not allowed to do ecs:RunTask: no: let these credentials do it, or use others')
    >>> meaning(MissingDependencyException(msg="awscrt"), "sts")
    Denied("sts: Missing Dependency: awscrt: `pip install 'botocore[crt]'`, or use other credentials")
    >>> str(meaning(SSOError(), "sts")).partition(": An unspecified")[0]
    'sts: the AWS profile gives no credentials: renew them, as with `aws sso login`, or correct it'
    """
    if isinstance(error, ClientError):
        code, message = error_code(error), error.response.get("Error", {}).get("Message", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if is_gone(error):
            return NotFound(": ".join(filter(None, [doing, message, to_do(code, message)])))
        if code in _EXPIRED:
            return Unavailable(f"{doing}: {EXPIRED}")
        if code in _LATER or status >= 500 or status == 429:
            return Unavailable(f"{doing}: {code}: {message}")
        if code in _FORBIDDEN:
            return Denied(f"not allowed to do {doing}: {message}: {allow(message, 'it')}")
        if code in NOT_TAKEN:
            return Denied(f"not allowed to do {doing}: {message.rstrip('.')}: {RENEW}")
        return StarburstError(": ".join(filter(None, [doing, code, message, to_do(code, message)])))
    if isinstance(error, _RENEWED):
        return Unavailable(f"{doing}: {UNHAD}: {error}")
    if isinstance(error, MissingDependencyException):  # what `aws login` keeps is read by a library of its own
        return Denied(f"{doing}: {error}: `pip install 'botocore[crt]'`, or use other credentials")
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ProfileNotFound):
        return Denied(f"{doing}: {error}: run `aws configure`, set AWS_PROFILE, or give the machine a role")
    if isinstance(error, ConfigNotFound | ConfigParseError):
        return Denied(f"{doing}: {error}: mend that file, or name another in AWS_CONFIG_FILE")
    if isinstance(error, HTTPClientError | ConnectionError):  # no name found, nobody listening, a connection cut
        return Unavailable(f"{doing}: {error}")
    return StarburstError(f"{doing}: {error}")


def is_expired(parsed: Mapping[str, Any]) -> bool:
    """Whether an answer, as botocore has read it, says that the credentials have expired."""
    return parsed.get("Error", {}).get("Code") in _EXPIRED


def is_gone(error: ClientError) -> bool:
    """Whether what was asked for is not there."""
    return error_code(error) in _GONE


def said_in(error: StarburstError) -> tuple[str, str]:
    """The code and the text of the service's answer that one of our errors is made of; empty where it has none."""
    cause = error.__cause__
    if not isinstance(cause, ClientError):
        return "", ""
    return error_code(cause), str(cause.response.get("Error", {}).get("Message", ""))


def error_code(error: ClientError) -> str:
    """The service's own name of an error."""
    return str(error.response.get("Error", {}).get("Code", ""))
