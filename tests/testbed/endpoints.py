"""Services in a region; what their endpoints in networks are called there out, where moto has one name for all. Pure.

Source: AWS CDK, `VPC_ENDPOINT_SERVICE_EXCEPTIONS` and the tests of `InterfaceVpcEndpoint`, read 2026-11-30: in China
some services' names begin otherwise than others', and in the European Sovereign Cloud all do.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from tests.testbed.calls import Call
from tests.testbed.refusals import Answer, Refused

_IN_CHINA = ("ec2", "ecr.api", "ecr.dkr", "monitoring", "sqs", "sts")
_NAME = re.compile(r"com\.amazonaws\.([a-z0-9-]+)\.([a-z0-9.-]+)")


def name_of(region: str, service: str) -> str:
    """Of a service's endpoint."""
    if region.startswith("eusc-"):
        return f"eu.amazonaws.{region}.{service}"
    first = "cn." if region.startswith("cn-") and service in _IN_CHINA else ""
    return f"{first}com.amazonaws.{region}.{service}"


def renamed(text: str) -> str:
    """A text with moto's names of them, with theirs."""
    return _NAME.sub(lambda found: name_of(found[1], found[2]), text)


def as_called(answer: Answer) -> Answer:
    """An answer about all services, with their names as they are there."""
    return Answer(answer.status, answer.headers, renamed(answer.body.decode()).encode())


def check_name(call: Call) -> None:
    """Raises `Refused` as EC2 does for an endpoint of a service that is called otherwise in that region.

    Source: Amazon EC2 API Reference, "Error codes", InvalidServiceName.
    """
    asked = parse_qs(call.body.decode()).get("ServiceName", [""])[0]
    found = re.search(r"com\.amazonaws\.|eu\.amazonaws\.", asked)
    region, _, service = asked[found.end() if found else 0 :].partition(".")
    if region != call.region or asked != name_of(region, service):
        raise Refused("InvalidServiceName", f"The Vpc Endpoint Service '{asked}' does not exist")
