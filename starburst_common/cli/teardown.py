"""`starburst teardown` and `sites`: what was set up is shown, and taken away."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starburst_common.cli.setup import DryRun, SiteName, Yes, may_set_up
from starburst_common.cli.words import Json

if TYPE_CHECKING:
    from starburst_common.aws.setup.account import AwsAccount
    from starburst_common.aws.setup.kept import KnownSite
    from starburst_common.runs.run import Run


def teardown(
    site: SiteName = "main",
    with_data: Annotated[
        bool,
        typer.Option("--with-data", help="The bucket too, with all runs and results, and the key that signs them."),
    ] = False,
    region: Annotated[
        str, typer.Option(metavar="REGION", help="Where it is, if it was set up from another machine or home.")
    ] = "",
    bucket: Annotated[str, typer.Option(metavar="NAME", help="With --region: its bucket, if that is yours.")] = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Take away what runs have left of a site, and what `starburst setup` has made.

    Nothing else is touched: what you gave, and what lacks the site's tag. The bucket and the signing key stay unless
    --with-data is said. Who is stopped halfway calls it again. What AWS keeps costs nothing: its own role for ECS, and
    task definitions that are no longer active.
    """
    from starburst_common.aws.setup.clearing import tear_down
    from starburst_common.aws.setup.kept import forget, forget_settings
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.questions import agreed
    from starburst_common.cli.show import say
    from starburst_common.steps import steps_shown

    with may_set_up():
        account, found = _place_of(site, region, bucket)
        seen = _seen(account, found, with_data=with_data, whole=dry_run)
    if dry_run and json:
        print_json(seen)
    data = ", with all runs and results" if with_data else ""
    if dry_run or not agreed(f"Take site {site} away{data}? Its tasks are stopped.", yes):
        return
    if found.ready:
        _cancel_runs(site)
    forget_settings(site)
    with steps_shown(True), may_set_up():
        left = tear_down(account, found.bucket, found.cluster, with_data=with_data, tell=lambda text: say(f"  {text}"))
    if json:
        print_json({"left": [{"kind": part.kind, "name": part.name} for part in left]})
    if any(part.kind == "cluster" for part in left):
        names = ", ".join(part.name for part in left)
        say(f"Others use the cluster, and this stays: {names}; the same command takes it once they end", style="bold")
    elif left:
        say(f"What holds data stays: {', '.join(part.name for part in left)}; --with-data takes it too", style="bold")
    else:
        forget(site)
        say(f"Site {site} is gone", style="bold")


def _shared(others: list[str]) -> str:
    return (
        f"others use the cluster, which has {', '.join(others)}: it stays, with what it needs, the bucket and the key"
    )


def _place_of(site: str, region: str, bucket: str) -> tuple[AwsAccount, KnownSite]:
    """Where it is, by what was written down here, or as its bucket has it. Raises `BadInput`."""
    from starburst_common.aws.setup.account import AdminClients, AwsAccount
    from starburst_common.aws.setup.kept import known
    from starburst_common.aws.setup.making import found_in
    from starburst_common.cli.questions import chosen_region
    from starburst_common.errors import BadInput
    from starburst_common.phrases import told

    found = known(site)
    if found is None and not region:
        raise BadInput(
            f"--site {told(site)}: no such site was set up from here: `starburst sites` lists those that were; say "
            "where another is by --region, and by --bucket if that is yours"
        )
    account = AwsAccount.of(AdminClients(found.region if found else chosen_region(region)), site)
    if found is None:
        return account, found_in(account, bucket)
    if account.id != found.account:
        raise BadInput(f"site {site} is in account {found.account}, and these credentials are of {account.id}")
    if (region and region != found.region) or (bucket and bucket != found.bucket):
        raise BadInput(
            f"site {site} was set up from here in {found.region}, with the bucket {found.bucket}: say no other"
        )
    return account, found


def _seen(account: AwsAccount, found: KnownSite, *, with_data: bool, whole: bool) -> dict[str, Any]:
    """What goes and what stays, for people; the same for programs. `whole`: with what runs have left, and the cost."""
    from starburst_common.aws.setup.clearing import LeftByRuns, goes, inventoried, others_in
    from starburst_common.cli.show import say

    there = inventoried(account, found.bucket)
    others = others_in(account, there)
    parts = [
        {"kind": part.kind, "name": part.name, "goes": goes(part, with_data=with_data, others=others)} for part in there
    ]
    for part in parts:
        say(f"  {part['kind']} {part['name']}: {'goes' if part['goes'] else 'stays'}")
    if others:
        say(f"warning: {_shared(others)}", style="yellow")
    if not whole:
        return {"parts": parts, "others": others}
    left, runs = LeftByRuns(account, found.cluster).found(), _running(found.name) if found.ready else []
    told = {"task": left.tasks, "active task definition": left.definitions, "queue": left.queues}
    for what, each in told.items():
        if each:
            say(f"  {len(each)} {what}{'s' * (len(each) > 1)}: {'stopped' if what == 'task' else 'goes'}")
    for name in left.builds:
        say(f"  {name}: goes")
    for run in runs:
        say(f"  run {run.id}: goes on, and is cancelled")
    return {
        "parts": parts,
        "others": others,
        "tasks": left.tasks,
        "task_definitions": left.definitions,
        "queues": left.queues,
        "builds": left.builds,
        "runs": [str(run.id) for run in runs],
        **({} if with_data and not others else _staying(account, found.bucket)),
    }


def _staying(account: AwsAccount, bucket: str) -> dict[str, Any]:
    """What the bucket keeps, and what that costs."""
    from starburst_common.aws.idle import objects_in
    from starburst_common.cli.show import say
    from starburst_common.cli.standing import a_month, size_text
    from starburst_common.money.book import storage_usd_per_month

    kept = objects_in(bucket, account.clients)
    usd = storage_usd_per_month(kept.priced, account.region, kept.bytes)
    more, cost = "+" * kept.more, a_month(kept.priced, account.region, kept.bytes)
    say(f"  What stays: {kept.count:,}{more} objects, {size_text(kept.bytes)}{more}, {cost}")
    return {
        "objects": kept.count,
        "bytes": kept.bytes,
        "counted_all": not kept.more,
        "usd_per_month": None if usd is None else round(float(usd), 6),
    }


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
    from starburst_common.cli.show import say
    from starburst_common.errors import StarburstError

    try:
        for run in _running(site):
            run.cancel()
            say(f"  run {run.id}: cancelled")
    except StarburstError as error:
        say(f"  runs that may be under way are not cancelled: {error}")


def _running(site: str) -> list[Run]:
    """Runs that are under way there."""
    from starburst_common.aws.backend import aws_backend
    from starburst_common.config import settings
    from starburst_common.runs.find import list_runs

    named = settings(backend="aws", env={**os.environ, "STARBURST_SITE": site}).site
    if named is None:
        return []
    return [run for run in list_runs(backend=aws_backend(named)) if not run.status().state.over]
