"""What others have set on a site's bucket and repository in; what that lets them do, loses or costs, out.

It may be meant, and setup never made it: it is told, and stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from starburst_common.aws.answers import speaking
from starburst_common.aws.definitions import SITES
from starburst_common.aws.ecr import LIFECYCLE, EcrRepository, is_same
from starburst_common.aws.setup.account import AwsAccount
from starburst_common.aws.setup.bucket import SiteBucket, is_ours
from starburst_common.errors import Denied, NotFound
from starburst_common.names import ACCOUNTS, FLEETS, RUNS, SHARED
from starburst_common.phrases import told

#: What lets code of theirs become that of workers.
_PUSHING = ("ecr:PutImage", "ecr:SetRepositoryPolicy")
#: What is lost with each folder, and whether that is kept for good, and not only as long as runs are.
_LOST = {
    RUNS: ("runs with their results", False),
    FLEETS: ("what workers go by", False),
    SHARED: ("values that runs share", False),
    ACCOUNTS: ("what runs have cost", True),
    SITES: ("what setup and teardown go by", True),
}
#: Of a condition that only principals of this account fulfil.
_BY_ACCOUNT = ("aws:principalaccount", "aws:sourceaccount")


class Remark(NamedTuple):
    """Of one thing."""

    about: str  #: its kind and name
    wrong: bool  #: else it is only to be known
    told: str


class Remarks(NamedTuple):
    """All there are."""

    found: list[Remark]
    unsure: list[str]  #: what nobody could look at


def remarks(account: AwsAccount, bucket: str, repository: str, *, keep_days: float = 7) -> Remarks:
    """Of what is there; `keep_days` is how long runs are kept from their end."""
    looks: dict[str, Callable[[], Iterator[tuple[bool, str]]]] = {
        f"bucket {bucket}": lambda: _of_bucket(SiteBucket(account, bucket), keep_days),
        f"repository {repository}": lambda: _of_repository(account, repository),
    }
    seen = Remarks([], [])
    for about, look in looks.items():
        try:
            seen.found.extend(Remark(about, wrong, text) for wrong, text in look())
        except Denied as error:
            seen.unsure.append(f"{about}: {error}")
        except NotFound:
            continue
    return seen


def _of_bucket(bucket: SiteBucket, keep_days: float) -> Iterator[tuple[bool, str]]:
    rules = [rule for rule in bucket.lifecycle() if rule.get("Status") == "Enabled" and not is_ours(rule)]
    for rule in rules:
        if (after := _age(rule)) and (lost := _lost(_prefix(rule), after[0], keep_days)):
            name = told(str(rule.get("ID", "")))
            yield (
                True,
                f"its lifecycle rule {name} removes what begins with {told(_prefix(rule))} {after[1]}, and with it "
                f"{', '.join(lost)}; runs are kept {keep_days:g} days from their end: remove that rule, or have it "
                "spare starburst's folders",
            )
    if bucket.versioned() and not any("NoncurrentVersionExpiration" in each and not _prefix(each) for each in rules):
        yield (
            False,
            "versioning is on: what starburst removes stays as old versions, which cost: have a lifecycle rule remove "
            "noncurrent versions, or suspend versioning",
        )


def _prefix(rule: Mapping[str, Any]) -> str:
    """Of the objects that a rule is for; what has a tag is none of ours."""
    by = rule.get("Filter") or {}
    return str(rule.get("Prefix") or by.get("Prefix") or by.get("And", {}).get("Prefix") or "")


def _age(rule: Mapping[str, Any]) -> tuple[float, str] | None:
    """After how many days objects of ours go by it, in words, too; None where they do not."""
    by, expires = rule.get("Filter") or {}, rule.get("Expiration") or {}
    if by.get("Tag") or by.get("And", {}).get("Tags"):
        return None
    if days := expires.get("Days"):
        return float(days), f"after {days} day{'s' * (days != 1)}"
    return (0.0, f"on {expires['Date']:%Y-%m-%d}") if "Date" in expires else None


def _lost(prefix: str, days: float, keep_days: float) -> list[str]:
    """
    >>> _lost("runs/", 8, 7), _lost("runs/run-1", 7, 7), _lost("", 400, 7)
    ([], ['runs with their results'], ['what runs have cost', 'what setup and teardown go by'])
    """
    return [
        words
        for folder, (words, for_good) in _LOST.items()
        if (folder.startswith(prefix) or prefix.startswith(folder)) and (for_good or days <= keep_days)
    ]


def _of_repository(account: AwsAccount, name: str) -> Iterator[tuple[bool, str]]:
    ecr = account.clients.ecr
    try:
        with speaking(f"ecr:GetRepositoryPolicy {name}"):
            policy = json.loads(ecr.get_repository_policy(repositoryName=name)["policyText"])
    except NotFound:  # of the repository, or of a policy
        policy = {}
    if others := pushers(policy, account.id):
        yield (
            True,
            f"its policy lets others push to it, {', '.join(map(told, others))}, whose code workers would run: remove "
            f"what allows that, as with `aws ecr delete-repository-policy --repository-name {name}`",
        )
    going = EcrRepository(account.clients, name, tags={}).policy()
    if going is not None and not is_same(going, LIFECYCLE):
        yield (
            False,
            "its lifecycle policy is not starburst's, and stays as it is: what builds leave may not expire, and images "
            "that are in use may",
        )


def pushers(policy: Any, account: str) -> list[str]:
    """Whom else than this account a repository's policy lets push, or lets let.

    >>> def of(principal, action="ecr:*", **more):
    ...     return {"Statement": {"Effect": "Allow", "Principal": principal, "Action": action, **more}}
    >>> pushers(of("*"), "1"), pushers(of({"AWS": ["arn:aws:iam::2:root", "1"]}, ["ecr:Put*"]), "1")
    (['*'], ['arn:aws:iam::2:root'])
    >>> pushers(of("*", "ecr:BatchGetImage"), "1"), pushers(of({"AWS": "arn:aws:iam::1:role/x"}), "1")
    ([], [])
    >>> pushers(of("*", Condition={"StringEquals": {"aws:PrincipalAccount": "1"}}), "1")
    []
    """
    statements = policy.get("Statement", []) if isinstance(policy, dict) else []
    found = []
    for each in _listed(statements):
        if each.get("Effect") == "Allow" and _pushes(each) and not _bound(each.get("Condition", {}), account):
            found += _strangers(each.get("Principal", "*"), account)
    return [*dict.fromkeys(found)]


def _pushes(statement: Mapping[str, Any]) -> bool:
    named = [str(each).lower() for each in _listed(statement.get("Action", statement.get("NotAction", [])))]
    hit = [any(fnmatchcase(action.lower(), each) for each in named) for action in _PUSHING]
    return any(hit) if "Action" in statement else not all(hit)


def _bound(condition: Mapping[str, Any], account: str) -> bool:
    equal = {name.lower(): values for name, values in condition.get("StringEquals", {}).items()}
    return any(_listed(equal[name]) == [account] for name in _BY_ACCOUNT if name in equal)


def _strangers(principal: Any, account: str) -> list[str]:
    """Services of AWS are none."""
    if not isinstance(principal, dict):
        return [str(principal)]
    named = [str(each) for kind, them in principal.items() if kind != "Service" for each in _listed(them)]
    return [each for each in named if each != account and f"::{account}:" not in each]


def _listed(found: Any) -> list[Any]:
    return [*found] if isinstance(found, list) else [found]
