"""`starburst teardown` and `sites`: what was set up is shown, and taken away."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from starburst_common.cli.setup import DryRun, SiteName, Yes, agreed
from starburst_common.cli.words import Json


def teardown(
    site: SiteName = "main",
    with_data: Annotated[
        bool,
        typer.Option("--with-data", help="The bucket too, with all runs and results, and the key that signs them."),
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Take away what runs have left of a site, and what `starburst setup` has made.

    Nothing else is touched: what you gave, and what lacks the site's tag. The bucket and the signing key stay unless
    --with-data is said. Who is stopped halfway calls it again. What AWS keeps costs nothing: its own role for ECS, and
    task definitions that are no longer active.
    """
    from starburst_common.aws.setup.account import AdminClients, AwsAccount
    from starburst_common.aws.setup.clearing import DATA, inventoried, tear_down
    from starburst_common.aws.setup.kept import forget, forget_settings, known
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import say
    from starburst_common.errors import BadInput
    from starburst_common.phrases import told
    from starburst_common.steps import steps_shown

    found = known(site)
    if found is None:
        raise BadInput(f"--site {told(site)}: no such site was set up from here: `starburst sites` lists them")
    account = AwsAccount.of(AdminClients(found.region), site)
    if account.id != found.account:
        raise BadInput(f"site {site} is in account {found.account}, and these credentials are of {account.id}")
    for part in inventoried(account, found.bucket):
        stays = part.kind in DATA and not with_data
        say(f"  {part.kind} {part.name}: {'stays' if stays else 'goes'}")
    data = ", with all runs and results" if with_data else ""
    if dry_run or not agreed(f"Take site {site} away{data}? Its tasks are stopped.", yes):
        return
    if found.ready:
        _cancel_runs(site)
    forget_settings(site)
    with steps_shown(True):
        left = tear_down(account, found.bucket, found.cluster, with_data=with_data, tell=lambda text: say(f"  {text}"))
    if json:
        print_json({"left": [{"kind": part.kind, "name": part.name} for part in left]})
    if left:
        say(f"What holds data stays: {', '.join(part.name for part in left)}; --with-data takes it too", style="bold")
    else:
        forget(site)
        say(f"Site {site} is gone", style="bold")


def sites(json: Json = False) -> None:
    """List the sites that were set up from here."""
    from starburst_common.aws.setup.kept import all_known
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import add_row, columns, print_table, say

    found, wrong = all_known()
    for text in wrong:
        say(f"warning: {text}", style="yellow")
    if json:
        names = ("name", "region", "account", "bucket", "cluster", "ready")
        print_json([{name: getattr(each, name) for name in names} for each in found])
    elif not found:
        say("No site was set up from here: `starburst setup` makes one")
    else:
        table = columns("site", "region", "account", "bucket", "state", flexible="bucket")
        for each in found:
            add_row(table, each.name, each.region, each.account, each.bucket, "ready" if each.ready else "not whole")
        print_table(table)


def _cancel_runs(site: str) -> None:
    """Their drivers, wherever they are, would start workers anew."""
    from starburst_common.aws.backend import aws_backend
    from starburst_common.cli.show import say
    from starburst_common.config import settings
    from starburst_common.errors import StarburstError
    from starburst_common.runs.find import list_runs

    try:
        named = settings(backend="aws", env={**os.environ, "STARBURST_SITE": site}).site
        if named is None:
            return
        running = [run for run in list_runs(backend=aws_backend(named)) if not run.status().state.over]
        for run in running:
            run.cancel()
            say(f"  run {run.id}: cancelled")
    except StarburstError as error:
        say(f"  runs that may be under way are not cancelled: {error}")
