"""Tags that a run's things in AWS are to have in; refused, with what to do, where AWS takes them not. Pure.

Sources: AWS General Reference, "Tag naming limits and requirements"; Amazon ECS Developer Guide, "Tag restrictions";
Amazon SQS Developer Guide, "Amazon SQS cost allocation tags"; read 2026-11-30.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from starburst_common.errors import BadInput
from starburst_common.phrases import told

MOST_TAGS = 50  #: of one thing
_CHARACTERS = {"name": 128, "value": 256}
_OTHER = re.compile(r"[^\w .:/=+@-]")
_TAKEN = re.compile(r"aws:|starburst:", re.IGNORECASE)


def refuse_tags(tags: Mapping[str, str]) -> None:
    """Raise `BadInput` for tags that no AWS account takes.

    >>> refuse_tags({"cost-centre": "4711", "owner": "me@here.example", "empty": ""})
    >>> refuse_tags({"aws:team": "x"})  # doctest: +NORMALIZE_WHITESPACE
    Traceback (most recent call last):
    starburst_common.errors.BadInput: aws_tags='aws:team': names that begin with aws: or starburst: are taken: choose
    another
    >>> refuse_tags({"team": "a;b"})  # doctest: +NORMALIZE_WHITESPACE
    Traceback (most recent call last):
    starburst_common.errors.BadInput: aws_tags='team': its value has ';', and AWS takes letters, digits, spaces and
    . : / = + @ - _ only: leave that out
    """
    for name, value in tags.items():
        if _TAKEN.match(name):
            raise BadInput(f"aws_tags={told(name)}: names that begin with aws: or starburst: are taken: choose another")
        if not name:
            raise BadInput(f"aws_tags={told(name)}: a tag has a name: give one")
        for part, text in (("name", name), ("value", value)):
            its, most = f"aws_tags={told(name, 40)}: its {part}", _CHARACTERS[part]
            if len(text) > most:
                raise BadInput(f"{its} has {len(text):,} characters, and AWS takes {most}: shorten it")
            if other := _OTHER.search(text):
                raise BadInput(
                    f"{its} has {other[0]!r}, and AWS takes letters, digits, spaces and . : / = + @ - _ only: leave "
                    "that out"
                )
    refuse_many(tags, ())


def refuse_many(tags: Collection[str], of_site: Collection[str]) -> None:
    """Raise `BadInput` for more names than a thing may have, with the site's and the one that marks it as ours.

    >>> refuse_many([f"t{n}" for n in range(48)], ["team", "t0"])
    >>> refuse_many([f"t{n}" for n in range(48)], ["team", "group"])  # doctest: +NORMALIZE_WHITESPACE
    Traceback (most recent call last):
    starburst_common.errors.BadInput: aws_tags= has 48 tags, 1 more than there is room for: a thing in AWS has 50 at
    most, of which 1 is starburst's and 2 are the site's: leave some out
    """
    others = {*of_site} - {*tags}
    if (over := len(tags) + len(others) + 1 - MOST_TAGS) > 0:
        sites = f" and {len(others)} are the site's" if others else ""
        raise BadInput(
            f"aws_tags= has {len(tags)} tags, {over} more than there is room for: a thing in AWS has {MOST_TAGS} at "
            f"most, of which 1 is starburst's{sites}: leave some out"
        )
