"""`starburst setup`: what is asked of a site, now and before, in; an account made ready for maps out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starburst_common.cli.words import Json

if TYPE_CHECKING:
    from starburst_common.aws.setup.account import AwsAccount
    from starburst_common.aws.setup.state import PartState
    from starburst_common.sites.asked import AskedSite
    from starburst_common.sites.site import Site

_WRONG = 2  #: as for any bad input
SiteName = Annotated[str, typer.Option("--site", envvar="STARBURST_SITE", metavar="NAME", help="Which site.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]


def setup(
    context: typer.Context,
    site: SiteName = "main",
    region: Annotated[
        str | None,
        typer.Option(
            metavar="REGION", help="Else the site's, if there is one, that of AWS_REGION or your AWS profile, or asked."
        ),
    ] = None,
    network: Annotated[
        str | None, typer.Option(metavar="KIND", help="default: the account's own; made: one for the site, for free.")
    ] = None,
    subnets: Annotated[
        list[str] | None, typer.Option("--subnet", metavar="ID", help="A subnet of yours, in place of those.")
    ] = None,
    security_groups: Annotated[
        list[str] | None, typer.Option("--security-group", metavar="ID", help="In place of one that is made.")
    ] = None,
    private: Annotated[
        bool | None, typer.Option("--private/--no-private", help="Those subnets have a way out: no public addresses.")
    ] = None,
    bucket: Annotated[str | None, typer.Option(metavar="NAME", help="One of yours, not one that is made.")] = None,
    cluster: Annotated[str | None, typer.Option(metavar="NAME", help="The same of a cluster.")] = None,
    execution_role: Annotated[str | None, typer.Option(metavar="ARN", help="The same of ECS's role.")] = None,
    task_role: Annotated[str | None, typer.Option(metavar="ARN", help="The same of the workers' role.")] = None,
    build_role: Annotated[str | None, typer.Option(metavar="ARN", help="The same of CodeBuild's role.")] = None,
    boundary: Annotated[
        str | None, typer.Option(metavar="ARN", help="The permissions boundary of roles that are made.")
    ] = None,
    kms_key: Annotated[
        str | None, typer.Option(metavar="ARN", help="A key of yours for the bucket and the signing key.")
    ] = None,
    image: Annotated[str | None, typer.Option(metavar="URI", help="For every run that names no other.")] = None,
    arm: Annotated[bool | None, typer.Option("--arm/--no-arm", help="Workers are ARM64.")] = None,
    log_days: Annotated[
        int | None, typer.Option(metavar="N", help="How long workers' lines are kept; 14 by default.")
    ] = None,
    max_hourly_cost: Annotated[
        float | None, typer.Option(metavar="USD", help="What all its workers may cost an hour; 0 for no limit.")
    ] = None,
    monthly_budget: Annotated[
        list[str] | None,
        typer.Option(metavar="BUDGET", help='What runs may cost a month, by tag: "team=a: 200", or "*: 1000" for all.'),
    ] = None,
    alert_at: Annotated[
        str | None, typer.Option(metavar="PERCENT", help='Of a budget, when the log says so; "50, 80" by default.')
    ] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="For all that is made.")] = None,
    ec2: Annotated[bool | None, typer.Option("--ec2/--no-ec2", help="Workers may run on instances, too.")] = None,
    instance_types: Annotated[
        list[str] | None,
        typer.Option("--instance-type", metavar="NAME", help='Of those, such as "c7g.*"; else c*, m* and r*.'),
    ] = None,
    gpu_types: Annotated[
        list[str] | None, typer.Option("--gpu-type", metavar="NAME", help='With GPUs, such as "g6.*"; else g*.')
    ] = None,
    forget: Annotated[
        list[str] | None,
        typer.Option(metavar="OPTION", help="What was asked before and is no more, such as image; may be several."),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    try_it: Annotated[bool, typer.Option("--try/--no-try", help="Map three items on one worker at the end.")] = True,
    json: Json = False,
) -> None:
    """Make what maps need in your AWS account: a site.

    Bucket, signing key, roles, log group, image repository, cluster and its capacity providers; they cost nothing while
    nothing runs, but for what is kept in the bucket and the repository. What is there stays; what was changed is
    mended; who is stopped halfway calls it again. What was asked of the site before, by whomever, is asked still,
    unless it is given anew or named by --forget. Of a new site what is not said is asked for at a terminal, each with a
    default: name, region, network where the account has none, and what runs may cost a month. `starburst teardown`
    takes it all away.
    """
    said = {**locals()}
    from starburst_common.aws.setup.kept import keep_wanted, write_site
    from starburst_common.aws.setup.making import set_up
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.questions import agreed, somebody_there
    from starburst_common.cli.show import say

    asks = somebody_there() and not (yes or dry_run)
    names = asks and _is_unnamed(context, site)
    with may_set_up():
        account, asked = _asked(site, region, _given(said), forget or [], asks=asks, names=names)
        shown = _shown(account, asked)
    if json and dry_run:
        print_json(shown)
    if asks:
        say(f"Without questions: {asked.as_command}")
    if dry_run or not agreed("Make it?", yes):
        return
    keep_wanted(asked.wanted, account.id)
    with may_set_up():
        made = set_up(account, asked.wanted, lambda text: say(f"  {text}"))
    say(f"Site {made.name} is ready. Its settings are in {write_site(made)}", style="bold")
    if json:
        print_json(made.table())
    if try_it:
        _try(made)


@contextmanager
def may_set_up() -> Iterator[None]:
    """What is not allowed is told with where to read what must be."""
    from starburst_common.errors import Denied

    try:
        yield
    except Denied as error:
        if "let these credentials do" not in str(error):  # no credentials, or none that AWS takes
            raise
        raise Denied(
            f"{error}; `starburst iam-policy setup` prints what who sets sites up must be allowed, with --kms-key for "
            "a key of yours"
        ) from error


def _given(said: Mapping[str, Any]) -> dict[str, Any]:
    """What was named, as a site has it."""
    from starburst_common.sites.asked import DEFAULTS

    given = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    if given["arm"] is not None:
        given["architecture"] = "ARM64" if given["arm"] else "X86_64"
    return {name: given[name] for name in DEFAULTS if given.get(name) not in (None, ())}


def _is_unnamed(context: typer.Context, name: str) -> bool:
    """Whether nobody has said which site, and there is none of that name yet."""
    from starburst_common.aws.setup.kept import known

    source = context.get_parameter_source("site")
    return source is not None and source.name == "DEFAULT" and known(name) is None


def _asked(
    name: str, region: str | None, given: dict[str, Any], forget: list[str], *, asks: bool, names: bool
) -> tuple[AwsAccount, AskedSite]:
    """What is wanted of a site, with what was asked of it before: as its bucket has that, else as it was asked here.

    `asks`: of a new one what was not said is asked for; `names`: its name, too, once there are credentials.
    """
    from starburst_common.aws.setup.account import AdminClients, AwsAccount
    from starburst_common.aws.setup.kept import known
    from starburst_common.aws.setup.making import asked_before
    from starburst_common.cli.questions import chosen_region, new_name, of_new_site
    from starburst_common.sites.asked import AskedSite
    from starburst_common.sites.wanted import WantedSite

    here = known(name)
    region = chosen_region(region or (here.region if here else None))
    WantedSite.check_values(name=name, region=region, **given)
    account = AwsAccount.of(AdminClients(region), name)
    if names:
        name = new_name(name)
        account, here = account.called(name), known(name)
    own = WantedSite(name=name, region=region).bucket_name(account.id)
    bucket = given.get("bucket") or (here.bucket if here else own)
    there = asked_before(account, bucket, given=bucket != own)
    before = there if there is not None else here.asked if here else None
    if asks and before is None:
        given = {**given, **of_new_site(account, given)}
    asked = AskedSite.of(name, region, given, before or {}, forget)
    return account.marking(asked.wanted.tags), asked


def _shown(account: AwsAccount, asked: AskedSite) -> dict[str, Any]:
    """Where it is to be made, what was asked before and what there would be, for people; the same for programs.

    Exit code 2 where anything is wrong with it, each thing in a line.
    """
    from starburst_common.aws.setup.kept import elsewhere
    from starburst_common.aws.setup.making import planned
    from starburst_common.cli.show import say

    wanted = asked.wanted
    say(f"Site {wanted.name} in {wanted.region}, account {account.id}, by")
    say(f"{account.caller}:")
    for words in asked.kept:
        say(f"  {words}: as asked before")
    for before, now in asked.changed:
        say(f"  {now}: in place of {before}", style="yellow")
    for words in asked.gone:
        say(f"  {words}: no more", style="yellow")
    parts, wrong, unsure, remarks = planned(account, wanted)
    wrong = [*filter(None, [elsewhere(wanted, account.id)]), *wrong]
    for each in parts:
        say(f"  {each.part.kind} {each.part.name}: {_becomes(each)}")
    for text in unsure:
        say(f"  not looked at: {text}", style="yellow")
    for about, _, text in remarks:
        say(f"  {about}: {text}", style="yellow")
    if wrong:
        for text in wrong:
            say(f"error: {text}", style="red")
        raise typer.Exit(_WRONG)
    say("While nothing runs it costs $0.00 a month, and some cents a GB that is kept")
    warnings = [f"{about}: {text}" for about, _, text in remarks]
    return {**_as_told(account, asked, parts, unsure), "warnings": warnings}


def _as_told(account: AwsAccount, asked: AskedSite, parts: list[PartState], unsure: list[str]) -> dict[str, Any]:
    """The same for programs."""
    from starburst_common.sites.asked import what_is_asked

    return {
        "site": asked.wanted.name,
        "region": account.region,
        "account": account.id,
        "caller": account.caller,
        "asked": what_is_asked(asked.wanted),
        "kept": [*asked.kept],
        "changed": [{"before": before, "now": now} for before, now in asked.changed],
        "gone": [*asked.gone],
        "parts": [
            {"kind": each.part.kind, "name": each.part.name, "there": each.there, "mended": each.amiss}
            for each in parts
        ],
        "not_looked_at": unsure,
        "usd_per_month": 0.0,
    }


def _becomes(state: PartState) -> str:
    if not state.there:
        return "to be made"
    return f"to be mended: {'; '.join(state.amiss)}" if state.amiss else "is there"


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
