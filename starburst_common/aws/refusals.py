"""What ECS says when it does not start a task, in; what to do about it, out. Pure."""

from __future__ import annotations

import re
from enum import StrEnum


class Refusal(StrEnum):
    """Why a task was not started."""

    QUOTA = "quota"  #: the account's vCPU limit: fewer now, more when something ends
    CAPACITY = "capacity"  #: AWS has none: another zone, on-demand in place of Spot, or later
    RATE = "rate"  #: too many calls: a little later
    FATAL = "fatal"  #: no later call would do better


#: Told by code or text, first match first. Sources: Amazon ECS API reference, RunTask and "API failure reasons"; AWS
#: re:Post, "Fargate capacity is unavailable"; read 2026-11-22. The quota's exact class is not documented, so its text
#: is matched with any code.
_TABLE: tuple[tuple[str, Refusal], ...] = (
    (r"limit on the number of vCPUs", Refusal.QUOTA),
    (r"limit on the number of tasks|PROVISIONING", Refusal.QUOTA),
    (r"Capacity is unavailable|RESOURCE:", Refusal.CAPACITY),
    (r"ThrottlingException|Rate exceeded|TooManyRequests|LimitExceeded", Refusal.RATE),
    (r"ServerException|ServiceUnavailable|InternalError", Refusal.RATE),
)
#: What a person can do, by code. Same sources.
_ADVICE = {
    "AccessDeniedException": "let these credentials do ecs:RunTask and iam:PassRole for the site's two roles",
    "BlockedException": "the account is blocked: ask AWS support",
    "ClusterNotFoundException": "the site names a cluster that is not there: make it, or correct the settings",
    "InvalidParameterException": "correct the site's subnets, security groups and roles in the settings",
    "PlatformTaskDefinitionIncompatibilityException": "choose a cpu and memory that Fargate has",
    "ClientException": "correct what it names in the site's settings",
}
_QUOTA_ADVICE = "fewer workers, or a larger quota (Service Quotas, Fargate, vCPU)"


def refusal(code: str, text: str) -> Refusal:
    """The meaning of an exception's code and text, or of a failure's reason and detail.

    >>> refusal("ClientException", "You've reached the limit on the number of vCPUs you can run concurrently")
    <Refusal.QUOTA: 'quota'>
    >>> refusal("Capacity is unavailable at this time. Please try again later or in a different availability zone", "")
    <Refusal.CAPACITY: 'capacity'>
    >>> refusal("InvalidParameterException", "No subnets found").value
    'fatal'
    """
    said = f"{code} {text}"
    return next((meaning for pattern, meaning in _TABLE if re.search(pattern, said)), Refusal.FATAL)


def explained(code: str, text: str) -> str:
    """A fatal refusal for a person.

    >>> explained("ClusterNotFoundException", "Cluster not found.")  # doctest: +NORMALIZE_WHITESPACE
    'no worker can start: ClusterNotFoundException: Cluster not found.: the site names a cluster that is not there:
    make it, or correct the settings'
    """
    advice = _ADVICE.get(code, "correct what it names")
    return f"no worker can start: {code}: {text}: {advice}"


def waiting_for(why: Refusal, vcpu: float, spot: bool) -> str:
    """What a run waits for, for a person.

    >>> waiting_for(Refusal.QUOTA, 4, spot=False)
    'Fargate vCPU quota (4 for each worker; fewer workers, or a larger quota (Service Quotas, Fargate, vCPU))'
    """
    kind = "Fargate Spot" if spot else "Fargate"
    if why is Refusal.QUOTA:
        return f"{kind} vCPU quota ({vcpu:g} for each worker; {_QUOTA_ADVICE})"
    if why is Refusal.CAPACITY:
        return f"{kind} capacity in the site's zones ({vcpu:g} vCPU for each worker)"
    return "ECS to take more calls (its API is throttled)"
