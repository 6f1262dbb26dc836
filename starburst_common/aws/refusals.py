"""What ECS says when it does not start a task, in; what to do about it, out. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Refusal(StrEnum):
    """Why a task was not started."""

    QUOTA = "quota"  #: the account's vCPU limit: fewer now, more when something ends
    CAPACITY = "capacity"  #: AWS has none: another zone, on-demand in place of Spot, or later
    NO_SPOT = "no spot"  #: the cluster has no Spot: on-demand in its place
    BUSY = "busy"  #: the cluster has as many tasks that are about to start as it takes
    ROLE = "role"  #: a role that ECS cannot take, or not yet
    RATE = "rate"  #: too many calls: a little later
    GONE = "gone"  #: its task definition was deregistered, and is registered anew
    FATAL = "fatal"  #: no later call would do better


_ROLE_COMES_S = 120.0  #: a new role may be unknown for less
#: When to ask again for what was refused.
AGAIN_S = {
    Refusal.QUOTA: 10.0, Refusal.CAPACITY: 20.0, Refusal.BUSY: 10.0, Refusal.ROLE: 5.0, Refusal.RATE: 5.0,
    Refusal.GONE: 1.0,
}  # fmt: skip


@dataclass(slots=True)
class NewRoles:
    """Since when ECS has said, at every launch, that it cannot take a role: for a while that role may be new.

    >>> roles = NewRoles()
    >>> [roles.judged(Refusal.ROLE, now).value for now in (1000.0, 1100.0, 1130.0)]
    ['role', 'role', 'fatal']
    """

    since: float = 0.0

    def judged(self, why: Refusal, now: float) -> Refusal:
        """What a refusal means by now."""
        if why is not Refusal.ROLE:
            return why
        self.since = self.since or now
        return why if now - self.since <= _ROLE_COMES_S else Refusal.FATAL


class _Said(NamedTuple):
    pattern: str  #: of code and text
    means: Refusal
    advice: str = ""  #: what a person can do; none where ECS's own words are all that is known


_PROVIDERS = (
    "give the cluster both, with `aws ecs put-cluster-capacity-providers --cluster NAME --capacity-providers FARGATE "
    "FARGATE_SPOT --default-capacity-provider-strategy capacityProvider=FARGATE`"
)
_ROLE = "the role must be there, trust ecs-tasks.amazonaws.com, and be the one that the site's settings name"
#: The first that is found. Sources: Amazon ECS API reference, RunTask and "API failure reasons"; ECS Developer Guide,
#: "Stopped tasks error messages" and "AWS Fargate throttling quotas"; AWS re:Post, "Fargate capacity is unavailable";
#: read 2026-11-30. A quota's exact class is not documented, so its text counts with any code.
_TABLE = (
    _Said(r"^AccessDenied|not authorized to perform", Refusal.FATAL),
    _Said(r"limit on the number of vCPUs|limit on the number of tasks", Refusal.QUOTA),
    _Said(r"requested CPU configuration is above your limit", Refusal.QUOTA),
    _Said(r"Provisioning capacity limit exceeded|tasks? in (the )?PROVISIONING", Refusal.BUSY),
    _Said(r"Capacity is unavailable|^RESOURCE:", Refusal.CAPACITY),
    _Said(r"ThrottlingException|Rate exceeded|TooManyRequests|LimitExceeded", Refusal.RATE),
    _Said(r"ServerException|ServiceUnavailable|InternalError", Refusal.RATE),
    _Said(r"capacity provider '?FARGATE_SPOT'? was not found", Refusal.NO_SPOT, _PROVIDERS),
    _Said(r"capacity provider '?FARGATE'? was not found", Refusal.FATAL, _PROVIDERS),
    _Said(r"unable to assume the (service linked )?role|Role is not valid", Refusal.ROLE, _ROLE),
    _Said(r"^BlockedException", Refusal.FATAL, "the account is blocked: ask AWS support"),
    _Said(
        r"^ClusterNotFoundException",
        Refusal.FATAL,
        "the site names a cluster that is not there: make it, or correct the settings",
    ),
    _Said(
        r"^ClusterContains(Tasks|Services|ContainerInstances)Exception",
        Refusal.FATAL,
        "others have begun to use it: `starburst teardown` again leaves it, and takes it once they have ended",
    ),
    _Said(
        r"TaskDefinition (is inactive|not found)|Unable to describe task definition",
        Refusal.GONE,
        "the site is being taken away (`starburst teardown`)",
    ),
    _Said(r"subnet", Refusal.FATAL, "correct the site's subnets in the settings"),
    _Said(r"security ?group", Refusal.FATAL, "correct the site's security groups in the settings"),
    _Said(
        r"^PlatformTaskDefinitionIncompatibilityException|No Fargate configuration exists",
        Refusal.FATAL,
        "choose a cpu and memory that Fargate has",
    ),
)
_ELSE = _Said("", Refusal.FATAL)
#: What AWS says of credentials that it does not take, whatever they are allowed. Sources: IAM API reference, "Common
#: errors"; Amazon S3 API reference, "Error responses"
NOT_TAKEN = {
    *("InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
    "InvalidToken",
}
RENEW = "AWS does not take these credentials: renew them, or use others"
ROLE_NEEDS = "allow it what `starburst iam-policy task` prints"
#: What of others than the role's own policy is in the way. Source: IAM User Guide, "Troubleshoot access denied error
#: messages", read 2026-12-01
_APART = re.compile(r"with an explicit deny in an? [\w -]+|because no (?!identity-based)[\w -]+? allows")
_UNTOLD = "lacked the necessary privileges"  #: as obstore says it, where S3 answers to HEAD without a word
_PASSED = " (a driver's printed policy has the site's roles only, none of a task_role=)"
#: How AWS names what is not allowed. Source: IAM User Guide, "Troubleshoot access denied error messages"
_NAMED = re.compile(r"not authorized to perform:? (?P<action>[\w-]+:\w+)(?: on (?:the )?resource:? (?P<resource>\S+))?")


def refusal(code: str, text: str) -> Refusal:
    """The meaning of an exception's code and text, or of a failure's reason and detail.

    >>> refusal("ClientException", "You've reached the limit on the number of vCPUs you can run concurrently")
    <Refusal.QUOTA: 'quota'>
    >>> refusal("Capacity is unavailable at this time. Please try again later or in a different availability zone", "")
    <Refusal.CAPACITY: 'capacity'>
    >>> refusal("InvalidParameterException", "No subnets found").value
    'fatal'
    """
    return _said(code, text).means


def explained(code: str, text: str) -> str:
    """A refusal for a person; what we do not know is told as it came.

    >>> explained("ClusterNotFoundException", "Cluster not found.")  # doctest: +NORMALIZE_WHITESPACE
    'no worker can start: ClusterNotFoundException: Cluster not found.: the site names a cluster that is not there:
    make it, or correct the settings'
    >>> explained("ClientException", "Something new.")
    'no worker can start: ClientException: Something new.'
    """
    advice = allow(text, "ecs:RunTask") if code == "AccessDeniedException" else _said(code, text).advice
    return ": ".join(filter(None, ["no worker can start", code, text, advice]))


def to_do(code: str, text: str) -> str:
    """What a person can do about what ECS says of a cluster, whatever it was asked; empty where nobody knows.

    >>> to_do("ClusterNotFoundException", "Cluster not found.")
    'the site names a cluster that is not there: make it, or correct the settings'
    >>> to_do("ResourceNotFoundException", "no subnet")
    ''
    """
    return _said(code, text).advice if code.startswith("Cluster") else ""


def allow(text: str, otherwise: str = "") -> str:
    """What to do about a denial, by the action that AWS named in it; where it names none, by another, if any.

    >>> print(  # doctest: +NORMALIZE_WHITESPACE
    ...     allow("User: u is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/t because no")
    ... )
    let these credentials do iam:PassRole on arn:aws:iam::1:role/t (a driver's printed policy has the site's roles
    only, none of a task_role=), or use others
    """
    if found := _NAMED.search(text):
        on = f" on {found['resource']}" if found["resource"] else ""
        but = _PASSED if found["action"] == "iam:PassRole" else ""
        return f"let these credentials do {found['action']}{on}{but}, or use others"
    return f"let these credentials do {otherwise}, or use others" if otherwise else ""


def role_lacks(error: str) -> str:
    """What a worker was refused, for a person.

    >>> text = "not allowed to reach runs/a: AccessDenied: {} is not authorized to perform: s3:GetObject on resource: "
    >>> print(role_lacks(text.format("User: u") + '"arn:aws:s3:::b/runs/a" because no identity-based policy'))
    the task role may not do s3:GetObject on arn:aws:s3:::b/runs/a: allow it what `starburst iam-policy task` prints
    >>> text = "u is not authorized to perform: s3:PutObject {}"
    >>> role_lacks(text.format("with an explicit deny in a service control policy")).partition(": allow")[0]
    'the task role may not do s3:PutObject, with an explicit deny in a service control policy'
    >>> role_lacks(text.format("because no VPC endpoint policy allows the s3:PutObject action")).partition(": allow")[0]
    'the task role may not do s3:PutObject, because no VPC endpoint policy allows it'
    >>> role_lacks("not allowed to reach runs/a: The operation lacked the necessary privileges").partition(": allow")[0]
    'the task role is not allowed to reach runs/a, by s3:GetObject, or s3:ListBucket if it is not there'
    >>> role_lacks(f"not allowed to reach a: InvalidAccessKeyId: no key: {RENEW}")[:77]
    'the task role is not allowed to reach a: InvalidAccessKeyId: no key: AWS does'
    """
    if found := _NAMED.search(error):
        on = f" on {found['resource'].strip(chr(34))}" if found["resource"] else ""
        apart = _APART.search(error)
        by = f", {apart[0]}{' it' if apart[0].endswith('allows') else ''}" if apart else ""
        return f"the task role may not do {found['action']}{on}{by}: {ROLE_NEEDS}"
    if RENEW in error:
        return f"the task role is {error}"
    what, _, why = error.partition(": let these credentials do")[0].partition(": ")
    if _UNTOLD in why:
        return f"the task role is {what}, by s3:GetObject, or s3:ListBucket if it is not there: {ROLE_NEEDS}"
    return f"the task role is {what}: {why}: {ROLE_NEEDS}"


def waiting_for(why: Refusal, text: str, vcpu: float = 0.0, kind: str = "Fargate") -> str:
    """What a run waits for, for a person.

    >>> waiting_for(Refusal.QUOTA, "", 4)
    'Fargate vCPU quota (4 for each worker, refused by AWS): `starburst quota request` raises it'
    """
    match why:
        case Refusal.QUOTA:
            more = f"`starburst quota request{' --spot' * ('Spot' in kind)}` raises it"
            return f"{kind} vCPU quota ({vcpu:g} for each worker, refused by AWS): {more}"
        case Refusal.CAPACITY:
            return f"{kind} capacity in the site's zones ({vcpu:g} vCPU for each worker)"
        case Refusal.BUSY:
            return "the cluster to have started others (it takes 500 tasks at once that are about to start)"
        case Refusal.GONE:
            return "its task definition to be registered anew"
        case Refusal.ROLE:
            return f"a role that ECS may take; a new one takes a minute ({text}: {_ROLE})"
    return "ECS to take more calls (its API is throttled)"


def _said(code: str, text: str) -> _Said:
    said = f"{code} {text}"
    return next((each for each in _TABLE if re.search(each.pattern, said, re.IGNORECASE)), _ELSE)
