"""`starburst quota`: what the account allows to run at once, what of it is in use, and how to get more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starburst_common.cli.words import Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starburst_common.aws.quota_requests import QuotaRequest
    from starburst_common.aws.quotas import AccountQuotas
    from starburst_common.aws.vcpu_quotas import VcpuQuota
    from starburst_common.model import Tariff
    from starburst_common.ports import Limit

_SHOWN = 5  #: requests
_DENIED = 1
_AT_ONCE = 4  #: quotas that are asked for

Spot = Annotated[bool, typer.Option("--spot", help="Of Spot.")]
Family = Annotated[
    str | None,
    typer.Option("--ec2", metavar="FAMILY", help='Of EC2: Standard, "G and VT", P, X, Inf, Trn, F, DL or HPC.'),
]
Workers = Annotated[int | None, typer.Option("--workers", min=1, max=100_000, help="So many at once.")]
Cpu = Annotated[float, typer.Option("--cpu", help="vCPU of each; on Fargate one of its sizes.")]


def status(
    every: Annotated[bool, typer.Option("--all", help="Those of every family of EC2's instances, too.")] = False,
    spot: Spot = False,
    ec2: Family = None,
    json: Json = False,
) -> None:
    """Show the quotas on vCPU in the site's account and region, what of them is in use, and what was asked.

    Those of Fargate, and of the instances that the site's workers may run on; or the one that is named.
    """
    from starburst_common.aws.abreast import abreast
    from starburst_common.aws.quota_requests import quota_requests
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import say, simple_table
    from starburst_common.errors import BadInput, StarburstError

    account, why = _account(), ""
    named = spot or ec2 is not None
    if named and every:
        raise BadInput("--all, and --spot or --ec2, which name one quota: give one of them")
    quotas = [_quota(ec2, spot=spot)] if named else _quotas(account, every)
    limits = abreast(account.limit, quotas, at_once=_AT_ONCE)
    asked: list[QuotaRequest] = []
    try:
        asked = [request for quota in quotas for request in quota_requests(account.clients, quota)]
    except StarburstError as error:
        why = str(error)
    if json:
        print_json({"quotas": [*map(_fields, limits)], "requests": [*map(_request_fields, asked)], "unknown": why})
        return
    names = ["quota", "vCPU", "in use", "free", "known as"]
    cells = [
        [limit.name, f"{limit.total:g}", f"{limit.used:g}", f"{limit.total - limit.used:g}", limit.basis]
        for limit in limits
    ]
    print(simple_table(names, cells, right=names[1:4], flexible="quota"))
    if asked:
        print()
        rows = [[request.quota, f"{request.vcpu:g}", _when(request), _told(request)] for request in asked[:_SHOWN]]
        print(simple_table(["asked for", "vCPU", "on", "answer"], rows, right=["vCPU"], flexible="asked for"))
    for unknown in dict.fromkeys(filter(None, [*(limit.unknown for limit in limits), why])):
        say(unknown)


def suggest(workers: Workers = None, cpu: Cpu = 1, spot: Spot = False, ec2: Family = None, json: Json = False) -> None:
    """Print which quota to ask for, to have so many workers at once: round, with a quarter to spare."""
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import say
    from starburst_common.config import settings
    from starburst_common.fleets.headroom import worth_asking
    from starburst_common.model import Tariff

    quota, site = _quota(ec2, spot=spot), settings().site
    vcpu = worth_asking(_taken(workers or 1, cpu, quota, Tariff() if site is None else site.tariff))
    if json:
        print_json({"vcpu": vcpu, "quota": quota.name})
    else:
        print(vcpu)
        say(f"of the {quota.name}: `starburst quota request {vcpu}{_flags(ec2, spot=spot)}` asks for it")


def request(
    vcpu: Annotated[
        int | None, typer.Argument(metavar="VCPU", min=1, help="In all; else for --workers, or the next step up.")
    ] = None,
    workers: Workers = None,
    cpu: Cpu = 1,
    spot: Spot = False,
    ec2: Family = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing here.")] = False,
    json: Json = False,
) -> None:
    """Ask AWS for a larger quota on vCPU. Small steps are granted in minutes, large ones by AWS Support."""
    from starburst_common.aws.quota_requests import request_quota
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.questions import agreed
    from starburst_common.cli.show import say
    from starburst_common.errors import BadInput
    from starburst_common.fleets.headroom import worth_asking
    from starburst_common.ports import Basis

    if vcpu is not None and workers is not None:
        raise BadInput(f"{vcpu} vCPU, and --workers {workers:,}: give one of them")
    account, quota = _account(), _quota(ec2, spot=spot)
    now = account.limit(quota)
    if vcpu is None:
        assert account.site is not None  # as `_account` has it
        vcpu = worth_asking(now.total if workers is None else _taken(workers, cpu, quota, account.site.tariff))
    if vcpu <= now.total and now.basis is not Basis.ASSUMED:
        raise BadInput(f"{quota.name}: {now.total:g} vCPU are allowed already: ask for more than that")
    question = f"{quota.name}: from {now.total:g} ({now.basis}) to {vcpu:g} vCPU in {account.clients.region}?"
    if not agreed(question, yes, otherwise=""):
        raise typer.Exit(_DENIED)
    made = request_quota(account.clients, quota, vcpu)
    if json:
        print_json(_request_fields(made))
    else:
        which = _flags(ec2, spot=spot)
        say(f"asked for {vcpu:g} vCPU: {_told(made)}; `starburst quota watch{which}` waits for the answer")


def watch(
    spot: Spot = False,
    ec2: Family = None,
    every: Annotated[float, typer.Option("--every", min=1, help="Seconds between two looks.")] = 30,
    json: Json = False,
) -> None:
    """Wait until AWS has answered the newest request for a larger quota; exit code 1 if it was denied."""
    from starburst_common.aws.quota_requests import quota_requests
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import say
    from starburst_common.errors import NotFound

    account, quota, before = _account(), _quota(ec2, spot=spot), ""
    while True:
        newest = next(iter(quota_requests(account.clients, quota)), None)
        if newest is None:
            raise NotFound(f"{quota.name}: nothing was asked in the last 90 days: `starburst quota request` asks")
        if _told(newest) != before:
            before = _told(newest)
            say(f"{newest.quota}, {newest.vcpu:g} vCPU: {before}")
        if not newest.open:
            if json:
                print_json(_request_fields(newest))
            raise typer.Exit(0 if newest.granted else _DENIED)
        time.sleep(every)


def _account() -> AccountQuotas:
    from starburst_common.aws.clients import Clients
    from starburst_common.aws.quotas import AccountQuotas
    from starburst_common.config import settings

    site = settings(backend="aws").site
    assert site is not None  # else it has raised
    return AccountQuotas(Clients(site.region), site.subnets, site)


def _quotas(account: AccountQuotas, every: bool) -> Sequence[VcpuQuota]:
    """Those that are shown: on demand and of Spot, of each kind of capacity."""
    from starburst_common.aws.quotas import instance_families
    from starburst_common.aws.vcpu_quotas import VCPU_QUOTAS, ec2_quotas, fargate_quotas

    if every:
        return VCPU_QUOTAS
    fargate, site = fargate_quotas(spot=False) + fargate_quotas(spot=True)[:1], account.site
    assert site is not None  # as `_account` has it
    pairs = ((site.ec2_provider, False), (site.gpu_provider, True))
    families = [family for provider, gpus in pairs if provider for family in instance_families(site, gpus=gpus)]
    return fargate + ec2_quotas(families, spot=False) + ec2_quotas(families, spot=True)


def _quota(family: str | None, *, spot: bool) -> VcpuQuota:
    """Of Fargate, or of a family of EC2's instances. Raises `BadInput`."""
    from starburst_common.aws.vcpu_quotas import FARGATE, VCPU_QUOTAS, ec2_quotas, quota_of
    from starburst_common.errors import BadInput
    from starburst_common.phrases import told

    if family is None:
        return quota_of(FARGATE, spot=spot)
    if found := ec2_quotas([family], spot=spot):
        return found[0]
    known = [quota.family.partition(" (")[0] for quota in VCPU_QUOTAS if quota.service == "ec2" and quota.spot == spot]
    raise BadInput(f"--ec2 {told(family)}: give one of {', '.join(known)}")


def _taken(workers: int, cpu: float, quota: VcpuQuota, tariff: Tariff) -> float:
    """What so many workers take of it: of EC2's, whole instances of the smallest type of the site's that holds one."""
    from starburst_common.aws.vcpu_quotas import FARGATE
    from starburst_common.fleets.headroom import Headroom, instance_of
    from starburst_common.instances import of_site
    from starburst_common.ports import Limit, Unit
    from starburst_common.resources import EC2, Resources

    if quota.family == FARGATE:
        return workers * Resources.of(cpu).cpu
    family = quota.family.partition(" (")[0]
    gpus = any(shape.quota_family == family for shape in of_site(tariff, gpus=True))
    size, limit = Resources.of(cpu, capacity=EC2, gpus=int(gpus)), Limit(name=quota.name, unit=Unit.VCPU, total=0)
    return Headroom(bound=limit, on=instance_of(limit, size, tariff)).takes(workers, size)


def _flags(family: str | None, *, spot: bool) -> str:
    import shlex

    return f"{' --spot' * spot}{f' --ec2 {shlex.quote(family)}' if family else ''}"


def _told(request: QuotaRequest) -> str:
    return request.status.lower().replace("_", " ") + (f" (case {request.case})" if request.case else "")


def _when(request: QuotaRequest) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(request.made_at))


def _fields(limit: Limit) -> dict[str, Any]:
    return {
        "name": limit.name,
        "code": limit.code,
        "vcpu": limit.total,
        "in_use": limit.used,
        "basis": limit.basis,
        "unknown": limit.unknown,
    }


def _request_fields(request: QuotaRequest) -> dict[str, Any]:
    from starburst_common.cli.show import iso

    return {
        "id": request.id,
        "quota": request.quota,
        "vcpu": request.vcpu,
        "status": request.status,
        "made_at": iso(request.made_at),
        "case": request.case,
    }
