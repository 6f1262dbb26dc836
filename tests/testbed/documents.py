"""IAM's documents and a need in; whether they allow it out, as IAM evaluates them. Pure.

(IAM User Guide, "Policy evaluation logic" and "IAM JSON policy elements: Condition operators", read 2026-11-30.) What
no policy of ours has, such as NotAction, is not known here, and says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from tests.testbed.needs import Need

_KNOWN = {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}
_EXACT, _LIKE = {"StringEquals"}, {"StringLike", "ArnLike", "ArnEquals"}


class _Statement(NamedTuple):
    allows: bool
    action: re.Pattern[str]
    resource: re.Pattern[str]
    conditions: tuple[tuple[str, re.Pattern[str]], ...]  #: a key of the context, and what it must be
    trusted: tuple[str, ...]  #: services and principals that may take a role


def allowed(documents: Sequence[str], need: Need) -> bool:
    """Whether a statement allows it, and none denies it.

    >>> document = '{"Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": ["arn:aws:s3:::b/*"]}]}'
    >>> [allowed([document], Need("s3:GetObject", f"arn:aws:s3:::{name}/k")) for name in ("b", "c")]
    [True, False]
    """
    hit = {each.allows for each in _of(tuple(documents), need.action) if _holds(each, need.resource, need.context)}
    return hit == {True}


def trusts(document: str, who: str, context: Mapping[str, str]) -> bool:
    """Whether a role may be taken by a service on somebody's behalf, or by a principal."""
    return any(
        each.allows and who in each.trusted and _holds(each, "*", context)
        for each in _of((document,), "sts:AssumeRole")
    )


@lru_cache(maxsize=4096)
def _of(documents: tuple[str, ...], action: str) -> list[_Statement]:
    """The statements that are about an action: few, so that each call is soon decided."""
    return [each for text in documents for each in _read(text) if each.action.fullmatch(action)]


@lru_cache(maxsize=256)
def _read(text: str) -> list[_Statement]:
    return [_statement(each) for each in _listed(json.loads(text)["Statement"])]


def _statement(read: dict[str, Any]) -> _Statement:
    if unknown := set(read) - _KNOWN:
        raise NotImplementedError(f"the test bed's IAM does not know {min(unknown)}")
    conditions = []
    for operator, tests in read.get("Condition", {}).items():
        if operator not in _EXACT | _LIKE:
            raise NotImplementedError(f"the test bed's IAM does not know {operator}")
        conditions += [(key, _pattern(_listed(value), like=operator in _LIKE)) for key, value in tests.items()]
    principal = read.get("Principal", {})
    return _Statement(
        read["Effect"] == "Allow",
        _pattern(_listed(read["Action"])),
        _pattern(_listed(read.get("Resource", "*"))),
        tuple(conditions),
        tuple(each for named in principal.values() for each in _listed(named)),
    )


def _holds(statement: _Statement, resource: str, context: Mapping[str, str]) -> bool:
    return bool(statement.resource.fullmatch(resource)) and all(
        pattern.fullmatch(context.get(key, "")) for key, pattern in statement.conditions
    )


def _pattern(values: Sequence[str], *, like: bool = True) -> re.Pattern[str]:
    """Any of them, with `*` for whatever and `?` for one character where they are patterns."""
    escaped = [re.escape(value) for value in values]
    wild = [each.replace(r"\*", ".*").replace(r"\?", ".") for each in escaped] if like else escaped
    return re.compile("|".join(wild), re.DOTALL)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
