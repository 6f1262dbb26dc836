"""`starburst iam-policy`: the least that who works in the site must be allowed, as IAM takes it."""

from __future__ import annotations

from typing import Annotated

import typer


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
    kms_key: Annotated[
        str, typer.Option("--kms-key", metavar="ARN", help="With setup: the key that sites are set up with.")
    ] = "",
) -> None:
    """Print the least policy of one of those who work in the configured site, or make one, as IAM takes it.

    What your own functions do in AWS, workers do as the site's task role: add that to it.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.config import settings
    from starburst_common.errors import BadInput
    from starburst_common.phrases import told
    from starburst_common.sites.administrator import administrator
    from starburst_common.sites.policies import POLICIES, bill, prices
    from starburst_common.sites.wanted import WantedSite

    if kms_key and whose != "setup":
        raise BadInput(f"--kms-key: with setup only: that of the site is in its settings, and {told(whose)} has it")
    WantedSite.check_values(kms_key=kms_key)
    of_no_site = {"setup": lambda: administrator(kms_key), "prices": prices, "bill": bill}
    whose = {"worker": "task"}.get(whose, whose)
    if whose in of_no_site:
        print_json(of_no_site[whose]())
        return
    if whose not in POLICIES:
        raise BadInput(f"{told(whose)}: give one of {', '.join([*POLICIES, *of_no_site])}")
    site = settings(backend="aws").site
    assert site is not None  # else it has raised
    print_json(POLICIES[whose](site))
