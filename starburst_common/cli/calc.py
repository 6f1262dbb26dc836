"""`starburst calc`: what workers would cost, by the price book; no code and no account is needed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from starburst_common.cli.prices import Region
from starburst_common.cli.words import Json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from starburst_common.config import Settings
    from starburst_common.model import Tariff
    from starburst_common.resources import Resources

Workers = Annotated[int, typer.Option("--workers", min=1, max=100_000, help="So many.")]
Cpu = Annotated[float, typer.Option("--cpu", help="vCPU of each, a Fargate size.")]
Memory = Annotated[str | None, typer.Option("--memory", help='Of each, such as "8GB"; else the least.')]
Hours = Annotated[
    float, typer.Option("--hours", min=0, max=1_000_000, help="For so long each; a minute at least is billed.")
]
Arm = Annotated[bool | None, typer.Option("--arm/--x86", help="Architecture; else the site's, or x86.")]
Private = Annotated[bool, typer.Option("--private", help="Without public addresses.")]
Discount = Annotated[
    float | None,
    typer.Option("--discount", help="What is taken off list prices, as a share: 0.15 is 15% less; else the settings'."),
]


def calc(
    workers: Workers = 1,
    cpu: Cpu = 1,
    memory: Memory = None,
    hours: Hours = 1,
    spot: Annotated[bool, typer.Option("--spot", help="On Spot.")] = False,
    arm: Arm = None,
    on: Annotated[
        str, typer.Option("--on", metavar="WHAT", help="fargate, or a type of EC2 instance such as m7g.2xlarge.")
    ] = "fargate",
    region: Region = None,
    storage: Annotated[
        str | None, typer.Option("--storage", help="Of each on Fargate, such as 100GB; 20 are free.")
    ] = None,
    private: Private = False,
    discount: Discount = None,
    json: Json = False,
) -> None:
    """Reckon what workers on AWS would cost, by the price book; nothing is asked of AWS.

    Region, architecture and addresses are the configured site's where there is one, else us-east-1, x86 and public.
    Instances are charged for as a whole, each with as many workers as it holds; their disks are not counted.
    """
    from starburst_common.config import settings
    from starburst_common.money.book import refuse_region
    from starburst_common.resources import Resources

    resources, known = Resources.of(cpu, memory, spot=spot, storage=storage), settings()
    tariff, off = tariff_of(known, region, arm, private=private), discount_of(known, discount)
    refuse_region(tariff.region)
    if on == "fargate":
        _on_fargate(resources, workers, hours, tariff, off, json=json)
    else:
        _on_instances(on, resources, workers, hours, tariff, off, json=json)


def _on_fargate(
    resources: Resources, workers: int, hours: float, tariff: Tariff, discount: float, *, json: bool
) -> None:
    from starburst_common.cli.lines import print_json
    from starburst_common.dollars import usd_text
    from starburst_common.errors import BadInput
    from starburst_common.money.estimate import fargate_usd

    seconds = hours * 3600 * workers
    price = fargate_usd(resources, seconds, workers if hours else 0, tariff, discount=discount)
    if price.unknown:
        raise BadInput(f"{price}: `starburst prices show fargate --region {tariff.region}` tells what is known")
    if json:
        print_json({**price.fields, "workers": workers, "hours": hours})
        return
    each = f", {usd_text(price.usd / price.vcpu_hours)} a vCPU and hour" if price.usd and price.vcpu_hours else ""
    _print(price.parts, price.usd, f"{_many(workers, resources)} for {hours:g} h: {price}{each}", price.source)


def _on_instances(
    type: str, resources: Resources, workers: int, hours: float, tariff: Tariff, discount: float, *, json: bool
) -> None:
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.prices import no_price
    from starburst_common.dollars import usd_text
    from starburst_common.errors import BadInput
    from starburst_common.instances import shapes
    from starburst_common.money.choices import instance_charge
    from starburst_common.money.instances import instance_prices

    price = instance_charge(type, resources, workers, hours, tariff, discount)
    spot = " Spot" * resources.spot
    if price is None:
        if not instance_prices(type, tariff.region):
            raise BadInput(no_price(type, tariff.region))
        small = f"{type} does not hold a worker of {resources.size}, or has no{spot or ' on-demand'} price"
        raise BadInput(f"{small} in {tariff.region}: `starburst recommend` names types that do")
    if json:
        parts = {name: round(float(usd), 6) for name, usd in price.parts.items()}
        about = {"type": type, "instances": price.instances, "workers_each": price.each, "workers": workers}
        where = {
            "hours": hours,
            "region": tariff.region,
            "arch": shapes()[type].arch,
            "capacity": "spot" if resources.spot else "on-demand",
        }
        told = {"basis": price.basis, "prices_as_of": price.as_of, "source": price.source, "discount": discount}
        print_json({"usd": round(float(price.usd), 6), "by_component": parts, **about, **where, **told})
        return
    off = f", less {100 * discount:g}%" * bool(discount)
    held = f"{price.instances:,} of {type}{spot} in {tariff.region}, {price.each} worker{'s' * (price.each != 1)} each"
    how = f"{shapes()[type].arch}, {'Spot' if resources.spot else 'on demand'}"
    derived = ", derived" * (price.basis == "derived")
    cost = f"{usd_text(price.usd)} on {held} (prices of {price.as_of}, {how}{derived}{off})"
    text = f"{_many(workers, resources)} for {hours:g} h: {cost}"
    _print(price.parts, price.usd, text, price.source)


def _many(workers: int, resources: Resources) -> str:
    return f"{workers:,} worker{'s' * (workers != 1)} of {resources.size}"


def tariff_of(known: Settings, region: str | None, arm: bool | None, *, private: bool) -> Tariff:
    """The site's, if there is one, but for what was said."""
    from starburst_common.model import Tariff

    tariff = Tariff() if known.site is None else known.site.tariff
    return replace(
        tariff,
        region=region or tariff.region,
        arch=tariff.arch if arm is None else "arm" if arm else "x86",
        public_ipv4=tariff.public_ipv4 and not private,
    )


def discount_of(known: Settings, given: float | None) -> float:
    """As it was said, else the settings'. Raises `BadInput`."""
    from starburst_common.config import SETTINGS
    from starburst_common.errors import BadInput

    if given is not None and (wrong := SETTINGS["discount"].wrong(given)):
        raise BadInput(f"--discount {given:g}{wrong}")
    return known.discount if given is None else given


def _print(parts: Mapping[str, Decimal], usd: Decimal | None, text: str, source: str) -> None:
    from starburst_common.cli.show import say, simple_table
    from starburst_common.dollars import usd_text

    rows = [[name, usd_text(each)] for name, each in parts.items()]
    rows.append(["together", usd_text(usd)])
    print(simple_table(["", "cost"], rows, right=["cost"], flexible=""))
    say(text)
    say(f"prices from: {source}")
