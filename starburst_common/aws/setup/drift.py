"""What is there of a thing and what it is to be, in; what differs, each with how it is mended, out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from starburst_common.aws.answers import speaking
from starburst_common.aws.setup.account import AwsAccount

_DEFAULTS = (False, 0, "excluded")  #: of a capacity provider's settings


class Drift(NamedTuple):
    """One thing that is not as it is to be."""

    what: str  #: for people
    mend: Callable[[], Any]


def mended(drifts: Iterable[Drift]) -> list[str]:
    """All set right; what that was."""
    done = []
    for each in drifts:
        each.mend()
        done.append(each.what)
    return done


def holds(found: Any, wanted: Any) -> bool:
    """Whether what is there says all that is wanted; AWS may tell more than it was asked, and leaves out what is empty.

    >>> holds({"a": [{"b": 1, "c": 2}], "d": 3}, {"a": [{"b": 1, "e": ""}]}), holds({}, {"a": 1}), holds(None, {})
    (True, False, False)
    """
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(holds(found.get(name, ""), each) for name, each in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(holds, found, wanted))
    return bool(found == wanted)


def unlike(found: Any, wanted: Any, name: str = "") -> Iterator[str]:
    """The settings that are not as wanted, by AWS's names. Lists have no order; what is AWS's default may be left out.

    >>> [*unlike({"a": ["x", "y"], "b": 3}, {"a": ["y", "x"], "b": 3, "c": False, "d": "excluded", "e": {"max": 0}})]
    []
    >>> [*unlike({"a": ["x"], "b": 4, "c": True, "e": {"max": 1}}, {"a": [], "b": 3, "c": False, "e": {"max": 0}})]
    ['a', 'b', 'c', 'e.max']
    >>> [*unlike(None, {"a": ["x"], "b": {"min": 1}})]
    ['a', 'b.min']
    """
    if isinstance(wanted, Mapping):
        for key, each in wanted.items():
            within = f"{name}.{key}" if key in ("min", "max") else key
            yield from unlike(found.get(key) if isinstance(found, Mapping) else None, each, within)
    elif isinstance(wanted, list):
        if sorted(found or ()) != sorted(wanted):
            yield name
    elif found != wanted and not (found is None and wanted in _DEFAULTS):
        yield name


def of_tags(
    account: AwsAccount,
    found: Mapping[str, str],
    put: Callable[[dict[str, str]], Any],
    drop: Callable[[list[str]], Any],
) -> Iterator[Drift]:
    """Tags that lack or are others, and those that were asked for once and are no more. Other people's stay."""
    if lacking := {name: value for name, value in account.marks.items() if found.get(name) != value}:
        yield Drift(f"tags {', '.join(sorted(lacking))}", partial(put, lacking))
    if over := [name for name in account.tags_once if name in found and name not in account.marks]:
        yield Drift(f"tags {', '.join(over)}, which are no more", partial(drop, over))


def tags_in_ecs(account: AwsAccount, ecs: Any, arn: str, found: Iterable[Mapping[str, str]]) -> Iterator[Drift]:
    """The same of a thing in ECS."""

    def put(tags: dict[str, str]) -> None:
        with speaking(f"ecs:TagResource {arn}"):
            ecs.tag_resource(resourceArn=arn, tags=[{"key": key, "value": value} for key, value in tags.items()])

    def drop(names: list[str]) -> None:
        with speaking(f"ecs:UntagResource {arn}"):
            ecs.untag_resource(resourceArn=arn, tagKeys=names)

    yield from of_tags(account, plain(found), put, drop)


def tags_in_ec2(account: AwsAccount, ec2: Any, id: str, found: Iterable[Mapping[str, str]]) -> Iterator[Drift]:
    """The same of a thing in EC2."""

    def put(tags: dict[str, str]) -> None:
        with speaking(f"ec2:CreateTags {id}"):
            ec2.create_tags(Resources=[id], Tags=pairs(tags))

    def drop(names: list[str]) -> None:
        with speaking(f"ec2:DeleteTags {id}"):
            ec2.delete_tags(Resources=[id], Tags=[{"Key": name} for name in names])

    yield from of_tags(account, plain(found), put, drop)


def pairs(tags: Mapping[str, str]) -> list[Any]:
    """As most services take them."""
    return [{"Key": name, "Value": value} for name, value in tags.items()]


def plain(found: Iterable[Any]) -> dict[str, str]:
    """Tags as most services give them.

    >>> plain([{"Key": "a", "Value": "b"}]), plain([{"key": "a", "value": "b"}])
    ({'a': 'b'}, {'a': 'b'})
    """
    return {each.get("Key") or each["key"]: each.get("Value", each.get("value", "")) for each in found}
