"""`starburst iam-policy`: the least that who works in the site must be allowed, as IAM takes it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from starburst_common.cli.words import Json

if TYPE_CHECKING:
    from starburst_common.sites.site import Site


def iam_policy(
    whose: Annotated[
        str,
        typer.Argument(
            metavar="WHOSE",
            help="driver: who starts runs and makes images; operator: who looks after the site, too; task: workers; "
            "execution: ECS, which starts them; build: CodeBuild; setup: who sets sites up; prices: who looks them "
            "up; bill: who compares costs with AWS's bill.",
        ),
    ],
    site: Annotated[
        str, typer.Option("--site", envvar="STARBURST_SITE", metavar="NAME", help="Of which site; it need not be made.")
    ] = "",
    region: Annotated[
        str, typer.Option(metavar="REGION", help="Where a site is to be; else as with `starburst setup`.")
    ] = "",
    account: Annotated[str, typer.Option(metavar="ID", help="In which account; else that of your credentials.")] = "",
    bucket: Annotated[str, typer.Option(metavar="NAME", help="A bucket of yours that it is to have.")] = "",
    cluster: Annotated[str, typer.Option(metavar="NAME", help="The same of a cluster.")] = "",
    kms_key: Annotated[
        str,
        typer.Option("--kms-key", metavar="ARN", help="The key that it is to be set up with; with setup: sites are."),
    ] = "",
    json: Json = False,
) -> None:
    """Print the least policy of one of those who work in the configured site, or make one, as IAM takes it.

    Of a site that is yet to be made, too: its name and where it is to be say what its things are called. What your own
    functions do in AWS, workers do as the site's task role: add that to it. With or without --json it is JSON.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.errors import BadInput
    from starburst_common.phrases import told
    from starburst_common.sites.administrator import administrator
    from starburst_common.sites.policies import POLICIES, bill, prices
    from starburst_common.sites.wanted import WantedSite

    whose = {"worker": "task"}.get(whose, whose)
    WantedSite.check_values(kms_key=kms_key)
    if kms_key and whose in ("prices", "bill"):
        raise BadInput(f"--kms-key: not with {whose}, which needs none")
    of_no_site = {"setup": lambda: administrator(kms_key), "prices": prices, "bill": bill}
    if whose in of_no_site:
        print_json(of_no_site[whose]())
        return
    if whose not in POLICIES:
        raise BadInput(f"{told(whose)}: give one of {', '.join([*POLICIES, *of_no_site])}")
    given = {"bucket": bucket, "cluster": cluster, "kms_key": kms_key}
    found = None if region or account or any(given.values()) else _configured(site)
    print_json(POLICIES[whose](found or _to_be(site or "main", region, account, given)))


def _configured(name: str) -> Site | None:
    """The site of the settings; None where they name none, or none of that name."""
    from starburst_common.config import settings
    from starburst_common.outside import UnknownSite

    try:
        return settings(backend="local", env={**os.environ, **({"STARBURST_SITE": name} if name else {})}).site
    except UnknownSite:
        return None


def _to_be(name: str, region: str, account: str, given: dict[str, str]) -> Site:
    """As setup would make it."""
    from starburst_common.aws.setup.account import AdminClients, AwsAccount
    from starburst_common.cli.questions import chosen_region
    from starburst_common.errors import BadInput
    from starburst_common.phrases import told
    from starburst_common.sites.wanted import WantedSite

    where = chosen_region(region or None)
    wanted = WantedSite.of(name=name, region=where, **given)
    if account and not (len(account) == 12 and account.isdecimal()):
        raise BadInput(f"--account {told(account)}: give the twelve digits of an AWS account")
    return wanted.site(account or AwsAccount.of(AdminClients(where), name).id, ("subnet-0",), ())
