"""What was not said on the command line, in; what whoever is at the terminal answers, out."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from starburst_common.aws.setup.account import AwsAccount

_REGION = "us-east-1"
_MADE, _NONE = "make one", "none"


def somebody_there() -> bool:
    """Whether there is a terminal to ask at."""
    return bool(sys.stdin and sys.stdin.isatty())


def agreed(question: str, yes: bool, otherwise: str = ", or --dry-run to see what it would be") -> bool:
    """Whether who is at the terminal agrees. Raises `BadInput` where nobody is there to be asked."""
    from starburst_common.errors import BadInput

    if yes:
        return True
    if not somebody_there():
        raise BadInput(f"nobody can be asked here: say --yes{otherwise}")
    return typer.confirm(question, default=False, err=True)


def chosen_region(given: str | None) -> str:
    """The region that is given, else that of the AWS profile or the environment, else what is typed at the terminal.

    Raises `BadInput` where it is none that boto3 knows, or there is nobody to be asked.
    """
    from starburst_common.aws.answers import speaking
    from starburst_common.aws.sessions import AwsSession, known_regions
    from starburst_common.cli.show import say
    from starburst_common.errors import BadInput

    with speaking("AWS's settings"):
        known = known_regions()
        own = os.environ.get("AWS_REGION") or AwsSession().region_name or ""  # boto3 reads AWS_DEFAULT_REGION alone
    region, where = (given, "--region") if given else (own, "AWS_REGION or the AWS profile")
    if region and region not in known:
        raise BadInput(f"{where}: {_no_region(region, known)}")
    if not region and not somebody_there():
        raise BadInput("no region: give --region, such as us-east-1, or set AWS_REGION")
    while not region:
        typed = _typed("In which AWS region?", _REGION)
        if typed in known:
            region = typed
        else:
            say(_no_region(typed, known))
    return region


def _no_region(typed: str, known: list[str]) -> str:
    from difflib import get_close_matches

    from starburst_common.phrases import told

    near = get_close_matches(typed, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`aws ec2 describe-regions` lists them"
    return f"{told(typed, 40)} is no region with Amazon ECS that boto3 knows: {hint}"


def new_name(default: str) -> str:
    """What a site is to be called that nobody has named."""
    from starburst_common.sites.wanted import WantedSite

    while True:
        name = _typed("What is the site to be called?", default)
        if _fits(partial(WantedSite.check_values, name=name)):
            return name


def of_new_site(account: AwsAccount, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of a site that is not there yet, what was not said: where it is to run, if nowhere, and what it may cost."""
    asked: dict[str, Any] = {}
    if not {"network", "subnets"} & given.keys() and _lacks_network(account):
        asked |= _network(account)
    if "monthly_budget" not in given:
        asked |= _budget()
    return asked


def _lacks_network(account: AwsAccount) -> bool:
    from starburst_common.aws.setup.network import default_place
    from starburst_common.errors import Denied

    try:
        return default_place(account) is None
    except Denied:  # which is told later, with all else that these credentials may not look at
        return False


def _network(account: AwsAccount) -> dict[str, Any]:
    from starburst_common.aws.setup.network import given_place
    from starburst_common.cli.show import say

    say(f"{account.region} has no default network. One is made for the site, for free, or name subnets of yours.")
    while True:
        typed = _typed("Which subnets, with commas?", _MADE)
        if typed == _MADE:
            return {"network": "made"}
        subnets = tuple(filter(None, re.split(r"[,\s]+", typed)))
        if _fits(partial(given_place, account, subnets)):
            out = "Have they a NAT gateway or endpoints, so that workers need no public addresses?"
            return {"subnets": subnets, "private": typer.confirm(out, default=False, err=True)}


def _budget() -> dict[str, Any]:
    from starburst_common.cli.show import say
    from starburst_common.phrases import told
    from starburst_common.sites.site import MONTHLY

    while (typed := _typed("What may all its runs cost a month, in USD?", _NONE)) != _NONE:
        found = MONTHLY.fullmatch(f"*: {typed.removeprefix('$')}")
        if found is not None and float(found["usd"]) > 0:
            return {"monthly_budget": (found[0],)}
        say(f"{told(typed, 40)}: give an amount such as 50, or none for no limit")
    return {}


def _fits(look: Callable[[], Any]) -> bool:
    """Whether nothing is wrong with what was typed; what is wrong is told."""
    from starburst_common.cli.show import say
    from starburst_common.errors import BadInput

    try:
        look()
    except BadInput as error:
        say(re.sub(r"^--\w+:? ", "", str(error)))
        return False
    return True


def _typed(question: str, default: str) -> str:
    return str(typer.prompt(question, default=default, err=True)).strip()
