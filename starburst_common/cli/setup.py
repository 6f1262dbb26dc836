"""`starburst setup`, `teardown` and `sites`: an account made ready for maps, and as it was before."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from starburst_common.cli.words import Json

if TYPE_CHECKING:
    from starburst_common.aws.setup.account import AwsAccount
    from starburst_common.sites.site import Site
    from starburst_common.sites.wanted import WantedSite

SiteName = Annotated[str, typer.Option("--site", envvar="STARBURST_SITE", metavar="NAME", help="Which site.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]


def setup(
    site: SiteName = "main",
    region: Annotated[
        str | None, typer.Option(metavar="REGION", help="Else that of AWS_REGION or your AWS profile, or asked for.")
    ] = None,
    network: Annotated[
        str, typer.Option(metavar="KIND", help="default: the account's own; made: one for the site, which is free.")
    ] = "default",
    subnet: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A subnet of yours, in place of those.")
    ] = None,
    security_group: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="In place of one that is made.")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Those subnets have a way out: no public addresses.")
    ] = False,
    bucket: Annotated[str, typer.Option(metavar="NAME", help="One of yours, in place of one that is made.")] = "",
    cluster: Annotated[str, typer.Option(metavar="NAME", help="The same of a cluster.")] = "",
    execution_role: Annotated[str, typer.Option(metavar="ARN", help="The same of ECS's role.")] = "",
    task_role: Annotated[str, typer.Option(metavar="ARN", help="The same of the workers' role.")] = "",
    build_role: Annotated[str, typer.Option(metavar="ARN", help="The same of CodeBuild's role.")] = "",
    boundary: Annotated[str, typer.Option(metavar="ARN", help="The permissions boundary of roles that are made.")] = "",
    kms_key: Annotated[
        str, typer.Option(metavar="ARN", help="A key of yours for the bucket and the signing key.")
    ] = "",
    image: Annotated[str, typer.Option(metavar="URI", help="For every run that names no other.")] = "",
    arm: Annotated[bool, typer.Option("--arm", help="Workers are ARM64.")] = False,
    log_days: Annotated[int, typer.Option(metavar="N", help="How long workers' lines are kept.")] = 14,
    max_hourly_cost: Annotated[
        float, typer.Option(metavar="USD", help="What all its workers may cost an hour; 0 for no limit.")
    ] = 0.0,
    monthly_budget: Annotated[
        list[str] | None,
        typer.Option(metavar="BUDGET", help='What runs may cost a month, by tag: "team=a: 200", or "*: 1000" for all.'),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="For all that is made.")] = None,
    ec2: Annotated[bool, typer.Option("--ec2/--no-ec2", help="Workers may run on instances, too.")] = True,
    instance_type: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help='Of those, such as "c7g.*"; else c*, m* and r*.')
    ] = None,
    gpu_type: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help='With GPUs, such as "g6.*"; else g*.')
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    try_it: Annotated[bool, typer.Option("--try/--no-try", help="Map three items on one worker at the end.")] = True,
    json: Json = False,
) -> None:
    """Make what maps need in your AWS account: a site.

    Bucket, signing key, roles, log group, image repository, cluster and its capacity providers; they cost nothing while
    nothing runs, but for what is kept in the bucket and the repository. What is there stays; what was changed is
    mended; who is stopped halfway calls it again. `starburst teardown` takes it all away.
    """
    from starburst_common.aws.setup.kept import keep_wanted, write_site
    from starburst_common.aws.setup.making import set_up
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import say
    from starburst_common.sites.wanted import WantedSite

    wanted = WantedSite.of(
        name=site,
        region=chosen_region(region),
        network=network,
        subnets=tuple(subnet or ()),
        security_groups=tuple(security_group or ()),
        private=private,
        bucket=bucket,
        cluster=cluster,
        execution_role=execution_role,
        task_role=task_role,
        build_role=build_role,
        boundary=boundary,
        kms_key=kms_key,
        image=image,
        architecture="ARM64" if arm else "X86_64",
        log_days=log_days,
        max_hourly_cost=max_hourly_cost,
        monthly_budget=tuple(monthly_budget or ()),
        tags=tuple(tag or ()),
        ec2=ec2,
        instance_types=tuple(instance_type or ()),
        gpu_types=tuple(gpu_type or ()),
    )
    account = _shown(wanted)
    if dry_run or not agreed("Make it?", yes):
        return
    keep_wanted(wanted, account.id)
    made = set_up(account, wanted, lambda text: say(f"  {text}"))
    say(f"Site {site} is ready. Its settings are in {write_site(made)}", style="bold")
    if json:
        print_json(made.table())
    if try_it:
        _try(made)


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

    found = all_known()
    if json:
        print_json([each._asdict() for each in found])
    elif not found:
        say("No site was set up from here: `starburst setup` makes one")
    else:
        table = columns("site", "region", "account", "bucket", "state", flexible="bucket")
        for each in found:
            add_row(table, each.name, each.region, each.account, each.bucket, "ready" if each.ready else "not whole")
        print_table(table)


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
    if not region and not (sys.stdin and sys.stdin.isatty()):
        raise BadInput("no region: give --region, such as us-east-1, or set AWS_REGION")
    while not region:
        typed = str(typer.prompt("In which AWS region, such as us-east-1?", err=True)).strip()
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


def agreed(question: str, yes: bool, otherwise: str = ", or --dry-run to see what it would be") -> bool:
    """Whether who is at the terminal agrees. Raises `BadInput` where nobody is there to be asked."""
    from starburst_common.errors import BadInput

    if yes:
        return True
    if not (sys.stdin and sys.stdin.isatty()):
        raise BadInput(f"nobody can be asked here: say --yes{otherwise}")
    return typer.confirm(question, default=False, err=True)


def _shown(wanted: WantedSite) -> AwsAccount:
    """Where it is to be made; what there would be is printed."""
    from starburst_common.aws.setup.account import AdminClients, AwsAccount
    from starburst_common.aws.setup.kept import dropped
    from starburst_common.aws.setup.making import planned
    from starburst_common.cli.show import say

    account = AwsAccount.of(AdminClients(wanted.region), wanted.name, wanted.tags)
    say(f"Site {wanted.name} in {wanted.region}, account {account.id}, by")
    say(f"{account.caller}:")
    for part, there in planned(account, wanted):
        say(f"  {part.kind} {part.name}: {'is there, and mended' if there else 'to be made'}")
    for gone in dropped(wanted):
        say(f"  {gone}: it goes", style="yellow")
    say("While nothing runs it costs $0.00 a month, and some cents a GB that is kept")
    return account


def _try(site: Site) -> None:
    """Three items on one worker, and what that cost."""
    from math import sqrt

    from starburst_common.aws.backend import aws_backend
    from starburst_common.cli.show import say
    from starburst_common.cluster import Cluster
    from starburst_common.progress import progress
    from starburst_common.steps import steps_shown

    say("Three items are mapped on one worker; its image may take minutes to be made")
    with steps_shown(True), Cluster(backend=aws_backend(site), workers=1, label="setup") as cluster:
        run = cluster.start(sqrt, [1, 4, 9])
        try:
            with progress(run, None):
                found = run.results()
                run.wait()
        except BaseException:
            run.cancel()
            raise
        say(f"It works: {found}. That cost about {run.estimate(run.status())}", style="bold")


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
