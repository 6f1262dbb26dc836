"""What a parameter of Systems Manager is asked for by, in; its name out.

A parameter is named by its name, which may begin with a slash and must where it has further ones, or by its ARN, which
has no slash more than `parameter/`. Sources: Systems Manager API reference, GetParameter and PutParameter; Systems
Manager User Guide, "Requirements and constraints for parameter names"; Amazon ECS API reference, Secret; read
2026-11-30.
"""

from __future__ import annotations

import json

from tests.testbed import cloud
from tests.testbed.calls import Call
from tests.testbed.conditions import ACCOUNT, AT, PARTITION
from tests.testbed.refusals import Refused

_BY_ARN = ("GetParameter", "GetParameters", "GetParameterHistory")  #: the others take names alone


def name_of(asked: str) -> str:
    """Of a parameter of this account; an ARN of one that is not there is a name without a slash before.

    >>> name_of("arn:aws:ssm:us-east-1:123456789012:parameter/none"), name_of("/a/b")
    ('none', '/a/b')
    """
    if not asked.startswith("arn:"):
        return asked
    bare = asked.partition(":parameter/")[2]
    return f"/{bare}" if cloud.has_parameter(f"/{bare}") else bare


def arn_of(asked: str) -> str:
    """As IAM names it."""
    bare = asked.lstrip("/")
    return asked if asked.startswith("arn:") else f"arn:{PARTITION}:ssm:{AT.get()}:{ACCOUNT}:parameter/{bare}"


def by_names(call: Call) -> bytes:
    """A call's body with names in place of ARNs. Raises `Refused` where it takes none, or one of another region's."""
    body = json.loads(call.body or b"{}")
    names = body.get("Names") or [body["Name"]] if body.get("Names") or body.get("Name") else []
    arns = [name for name in names if str(name).startswith("arn:")]
    if arns and call.operation not in _BY_ARN:
        raise Refused("ValidationException", 'Parameter name: can\'t be prefixed with "arn:" (case-insensitive).')
    for arn in arns:
        if arn.split(":")[3] != AT.get():
            raise Refused("ValidationException", f"{arn}: the parameter is in another region than this call.")
    if call.operation == "PutParameter" and any("/" in name and not name.startswith("/") for name in names):
        raise Refused("ValidationException", "Parameter name must be a fully qualified name.")
    if "Names" in body:
        body["Names"] = [name_of(name) for name in names]
    elif names:
        body["Name"] = name_of(names[0])
    return json.dumps(body).encode()
