"""`starburst recommend`: on what of AWS's so many workers may run for so long, the cheapest first."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from starburst_common.cli.calc import Arm, Cpu, Discount, Hours, Memory, Private, Workers, discount_of, tariff_of
from starburst_common.cli.prices import Region
from starburst_common.cli.words import Json

if TYPE_CHECKING:
    from starburst_common.config import Settings
    from starburst_common.money.choices import Choice, Rooms

_SHOWN = 10


def recommend(
    cpu: Cpu = 1,
    memory: Memory = None,
    gpus: Annotated[int, typer.Option("--gpus", min=0, max=16, help="Whole ones of each; EC2 only.")] = 0,
    gpu: Annotated[str, typer.Option("--gpu", metavar="NAME", help='A model, such as "L4" or "H100".')] = "",
    workers: Workers = 1,
    hours: Hours = 1,
    arm: Arm = None,
    no_spot: Annotated[bool, typer.Option("--no-spot", help="Only what is not taken back.")] = False,
    region: Region = None,
    private: Private = False,
    discount: Discount = None,
    top: Annotated[int, typer.Option("--top", min=1, max=1000, help="So many are shown.")] = _SHOWN,
    json: Json = False,
) -> None:
    """Name the cheapest and soonest of Fargate and EC2 for such workers, by the price book.

    Where a site is configured in that region, its account is asked how many workers its quotas leave room for now.
    How fast processors are is not weighed, and both architectures are looked at unless one is said.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.config import settings
    from starburst_common.errors import BadInput
    from starburst_common.money.book import refuse_region
    from starburst_common.money.choices import choices, families
    from starburst_common.resources import Resources

    gpus = gpus or int(bool(gpu))
    resources, known = Resources.of(cpu, memory), settings()
    tariff, off = tariff_of(known, region, arm, private=private), discount_of(known, discount)
    refuse_region(tariff.region)
    of = "" if arm is None else tariff.arch
    look = partial(
        choices, resources, workers, hours, tariff, discount=off, gpus=gpus, gpu=gpu, arch=of, spot=not no_spot
    )
    found = look()
    if not found:
        wanted = f"{resources.size}{f' and {gpus} GPU {gpu}'.rstrip() * bool(gpus)}"
        raise BadInput(f"nothing in {tariff.region} holds a worker of {wanted}: ask for less, or another --region")
    if rooms := _rooms(known, tariff.region, [*families(found)]):
        found = look(rooms=rooms)
    if json:
        told = [each.fields for each in found[:top]]
        print_json({"region": tariff.region, "workers": workers, "hours": hours, "choices": told})
        return
    less = f", less {100 * off:g}%" if off else ""
    _print(found, top, f"{tariff.region}, list prices of the day that each row tells{less}", looked=bool(rooms))


def _rooms(known: Settings, region: str, families: list[tuple[str, bool]]) -> Rooms:
    """vCPU that are free by the account's quotas; none where there is no account, or it cannot be asked."""
    from starburst_common.aws.clients import Clients
    from starburst_common.aws.quotas import AccountQuotas
    from starburst_common.aws.vcpu_quotas import VCPU_QUOTAS
    from starburst_common.ports import Basis

    if known.site is None or known.site.region != region or known.backend == "local":
        return {}
    quotas = {(quota.family.partition(" (")[0], quota.spot): quota for quota in VCPU_QUOTAS}
    clients = Clients(region)
    try:
        account = AccountQuotas(clients, known.site.subnets)
        limits = {each: account.limit(quotas[each]) for each in families if each in quotas}
    finally:
        clients.close()
    told = {each: limit for each, limit in limits.items() if limit.basis is not Basis.ASSUMED}
    return {each: max(limit.total - limit.used, 0.0) for each, limit in told.items()}


def _print(found: list[Choice], top: int, priced: str, *, looked: bool) -> None:
    from starburst_common.cli.show import say, simple_table, width_of
    from starburst_common.dollars import usd_text
    from starburst_common.fleets.waves import about
    from starburst_common.money.choices import soonest

    names = [
        "on",
        "arch",
        "each holds",
        "worker hour",
        "together",
        "taken back a month",
        *(["room now"] * looked),
        "price",
    ]
    rows = [
        [
            each.name,
            each.arch,
            f"{each.workers_each:,}",
            usd_text(each.usd_per_worker_hour),
            usd_text(each.usd),
            each.taken_back,
            *(["?" if each.at_once is None else f"{each.at_once:,}"] * looked),
            f"{each.basis}, {each.as_of}",
        ]
        for each in found[:top]
    ]
    print(simple_table(names, rows, right=names[2:5], flexible="on", width=width_of(sys.stdout)))
    say(f"costs: {priced}")
    steady = next((each for each in found if not each.spot), None)
    picked = {"cheapest": found[0], "cheapest that is never taken back": steady, "soonest": soonest(found)}
    for word, each in picked.items():
        if each is not None:
            ends = "there is no room for it now" if each.ends_s is None else f"about {about(each.ends_s)}"
            say(f"{word}: {each.name}, {usd_text(each.usd)}, {ends}")
    if soonest(found) is None:
        say("there is room for none of them now: `starburst quota status` tells more")
    if not looked:
        say("room: not looked at, as no account of that region is configured or can be asked")
