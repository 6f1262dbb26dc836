"""A call in; refused unless the policies of who makes it allow it. Nobody is let off but who prepares tests.

Users and roles are moto's, with the documents that are really put there: the bed's have the policies that `starburst
iam-policy` prints for its site, and no more.
"""

from __future__ import annotations

import threading
import uuid
from typing import NamedTuple

from moto.utilities.utils import get_partition

from tests.testbed import cloud
from tests.testbed.calls import Call
from tests.testbed.conditions import ACCOUNT, ADMINISTRATOR, REGION, Conditions
from tests.testbed.documents import allowed, trusts
from tests.testbed.late import LATE, Seen, seen
from tests.testbed.needs import CODEBUILD, EC2, ECS, ECS_TASKS, Need, needs
from tests.testbed.refusals import Refused

_SOURCES = {ECS_TASKS: "ecs", CODEBUILD: "codebuild", ECS: "ecs", EC2: "ec2"}


class Who(NamedTuple):
    """Whose call it is."""

    kind: str  #: "driver", "setup", "task", "execution", "build"
    arn: str  #: as AWS calls it
    documents: list[str]


class Iam:
    """Whom access keys belong to, and what they may do."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget sessions, and what was allowed."""
        with self._lock:
            self._sessions: dict[str, tuple[str, str]] = {}  # by access key: role and session
            self.used: set[tuple[str, str]] = set()  #: whose policy allowed which actions that were called
        LATE.reset()

    def lend(self, role: str, session: str) -> str:
        """The access key of a new session of a role."""
        key = "ASIABED" + uuid.uuid4().hex[:13].upper()
        with self._lock:
            self._sessions[key] = (role, session)
        return key

    def check(self, call: Call) -> None:
        """Raise `Refused` for what a call's policies do not allow, and for who is not known."""
        if call.access_key == ADMINISTRATOR:
            return
        who = self.who(call.access_key)
        if who is None and call.service == "registry":
            return  # which refuses by itself whom it does not know
        if who is None:
            raise _unknown(call)
        for need in needs(call):
            trusted = need.action != "sts:AssumeRole" or _takes(who, need.resource)
            if not trusted or not self._allows(who, need):
                raise denied(call.service, who.arn, need)

    def may(self, role: str, session: str, need: Need) -> str:
        """Empty if a role may do something, on its own service's behalf; else how AWS says that it may not."""
        who = _of_role(role, session, LATE.role(role))
        return "" if self._allows(who, need) else said(who.arn, need)

    def who(self, access_key: str) -> Who | None:
        """Whom an access key belongs to; nobody if AWS does not know it."""
        if found := self._sessions.get(access_key) or cloud.assumed(access_key):
            return _of_role(*found, LATE.role(found[0]))
        if user := cloud.user(access_key):
            return Who(user.name, user.arn, cloud.policies_of(user))
        return None

    def check_missing(self, call: Call) -> None:
        """Raise `Refused` if who asks S3 for an object that is not there may not list its bucket.

        Source: Amazon S3 API reference, GetObject, "Permissions", read 2026-11-30.
        """
        who = self.who(call.access_key)
        bucket = call.path.lstrip("/").partition("/")[0]
        if who and not self._allows(who, need := Need("s3:ListBucket", f"arn:{call.partition}:s3:::{bucket}")):
            raise denied("s3", who.arn, need)

    def reckons(self, who: Who, need: Need) -> bool:
        """Whether somebody could do something."""
        return need.action not in self._conditions.denied and allowed(who.documents, need)

    def _allows(self, who: Who, need: Need) -> bool:
        if not self.reckons(who, need):
            return False
        self.used.add((who.kind, need.action))
        return True


def principal(arn: str) -> Who | None:
    """A user or a role by its ARN; nobody if it is not there."""
    if found := seen(arn):
        return _of_role(arn, "simulated", found)
    user = cloud.user_named(arn.rpartition("/")[2])
    return Who(user.name, user.arn, cloud.policies_of(user)) if user and user.arn == arn else None


def assumable(role: str, service: str, region: str = REGION) -> bool:
    """Whether a role is there that a service may take for this account's sake."""
    found = LATE.role(role)
    source = f"arn:{get_partition(region)}:{_SOURCES[service]}:{region}:{ACCOUNT}:bed"
    context = {"aws:SourceAccount": ACCOUNT, "aws:SourceArn": source}
    return found is not None and trusts(found.trust, service, context)


def _takes(who: Who, role: str) -> bool:
    """Whether a role trusts somebody, or the account, which leaves it to his own policies."""
    found = LATE.role(role)
    partition, account = who.arn.split(":")[1], who.arn.split(":")[4]
    root = f"arn:{partition}:iam::{account}:root"
    return found is not None and any(trusts(found.trust, each, {}) for each in (who.arn, root))


def _of_role(arn: str, session: str, role: Seen | None) -> Who:
    name, parts = arn.rpartition("/")[2], arn.split(":")
    documents = [*role.documents] if role else []
    called = f"arn:{parts[1]}:sts::{parts[4]}:assumed-role/{name}/{session}"
    return Who(name.rpartition("-")[2], called, documents)


def said(arn: str, need: Need) -> str:
    """As IAM says it. Source: IAM User Guide, "Troubleshoot access denied error messages", read 2026-11-30."""
    return (
        f"User: {arn} is not authorized to perform: {need.action} on resource: {need.resource} because no "
        f"identity-based policy allows the {need.action} action"
    )


def denied(service: str, arn: str, need: Need) -> Refused:
    """In the words of each service. Source: the common errors in their API references."""
    text = said(arn, need)
    if service == "registry":
        return Refused("DENIED", text, status=403)
    if service == "ec2":
        return Refused("UnauthorizedOperation", f"You are not authorized to perform this operation. {text}", status=403)
    if service in ("s3", "sqs", "iam", "sts"):
        return Refused("AccessDenied", text, status=403)
    return Refused("AccessDeniedException", text)


def _unknown(call: Call) -> Refused:
    """Who signs with a key that AWS does not know, or not at all. Source: the same."""
    if not call.access_key:
        code = "AccessDenied" if call.service == "s3" else "MissingAuthenticationToken"
        return Refused(code, "Access Denied" if call.service == "s3" else "Missing Authentication Token", status=403)
    if call.service == "s3":
        text = "The AWS Access Key Id you provided does not exist in our records."
        return Refused("InvalidAccessKeyId", text, status=403)
    if call.service == "ec2":
        return Refused("AuthFailure", "AWS was not able to validate the provided access credentials", status=401)
    text = "The security token included in the request is invalid."
    code = "InvalidClientTokenId" if call.is_query or call.service == "sqs" else "UnrecognizedClientException"
    return Refused(code, text, status=403 if code == "InvalidClientTokenId" else 400)
