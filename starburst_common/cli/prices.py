"""`starburst prices show` tells what the price book has, `starburst calc` what work would cost by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starburst_common.cli.words import Json

if TYPE_CHECKING:
    from starburst_common.config import Settings
    from starburst_common.model import Tariff
    from starburst_common.money.estimate import Estimate

Region = Annotated[str | None, typer.Option("--region", metavar="REGION", help="An AWS region, such as eu-west-1.")]


def show_prices(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT", help="fargate, a type of EC2 instance, or what else is charged for, such as nat-gateway."
        ),
    ] = "fargate",
    region: Region = None,
    json: Json = False,
) -> None:
    """Show list prices in US dollars, each with the day on which it was last seen and where; of all regions or of one.

    What is derived from other prices says so.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import say, simple_table
    from starburst_common.money.book import refuse_region

    if region is not None:
        refuse_region(region)
    found = _found(what, region or "")
    if json:
        print_json([{**row, "source": source} for row, source in found])
        return
    names = [*found[0][0]]
    cells = [["" if value is None else str(value) for value in row.values()] for row, _ in found]
    print(simple_table(names, cells, right=[name for name in names if name.startswith("usd")], flexible=names[0]))
    for source in dict.fromkeys(source for _, source in found):
        say(f"from: {source}")


def _found(what: str, region: str) -> Sequence[tuple[dict[str, Any], str]]:
    """Rows, each with its source. Raises `BadInput` where there is none."""
    from dataclasses import asdict

    from starburst_common.errors import BadInput
    from starburst_common.money import book
    from starburst_common.money.instances import InstancePrice, instance_prices

    prices: Sequence[book.FargatePrice | book.ItemPrice | InstancePrice]
    if what == "fargate":
        prices = book.fargate_prices(region)
    elif what in book.ITEMS:
        prices = book.item_prices(what, region)
    else:
        prices = instance_prices(what, region)
    if not prices:
        raise BadInput(_no_price(what, region))
    rows = [asdict(price) for price in prices]
    return [({name: _plain(value) for name, value in row.items() if name != "source"}, row["source"]) for row in rows]


def _no_price(what: str, region: str) -> str:
    from difflib import get_close_matches

    from starburst_common.money import book
    from starburst_common.money.instances import instance_prices, shapes

    known = ["fargate", *book.ITEMS, *shapes()]
    if what not in known:
        near = get_close_matches(what, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"give fargate, {', '.join(book.ITEMS)} or a type of instance"
        return f"{what}: no price: {hint}"
    priced = book.item_prices(what) if what in book.ITEMS else instance_prices(what)
    where = sorted({price.region for price in priced})
    return f"{what}: no price in {region}, and none is guessed; there are prices in {', '.join(where)}"


def _plain(value: Any) -> str | None:
    return None if value is None else str(value)


def calc(
    workers: Annotated[int, typer.Option("--workers", min=1, max=100_000, help="So many.")] = 1,
    cpu: Annotated[float, typer.Option("--cpu", help="vCPU of each, a Fargate size.")] = 1,
    memory: Annotated[str | None, typer.Option("--memory", help='Of each, such as "8GB"; else the least.')] = None,
    hours: Annotated[float, typer.Option("--hours", help="For so long each; a minute at least is billed.")] = 1,
    spot: Annotated[bool, typer.Option("--spot", help="On Fargate Spot.")] = False,
    arm: Annotated[bool | None, typer.Option("--arm/--x86", help="Architecture; else the site's, or x86.")] = None,
    region: Region = None,
    storage: Annotated[str | None, typer.Option("--storage", help="Of each, such as 100GB; 20 are free.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Without public addresses.")] = False,
    discount: Annotated[
        float | None, typer.Option("--discount", help="A share off list prices, such as 0.15; else the settings'.")
    ] = None,
    json: Json = False,
) -> None:
    """Reckon what workers on AWS would cost, by the price book; nothing is asked of AWS.

    Region, architecture and addresses are the configured site's where there is one, else us-east-1, x86 and public.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.config import SETTINGS, settings
    from starburst_common.errors import BadInput
    from starburst_common.money.book import refuse_region
    from starburst_common.money.estimate import fargate_usd
    from starburst_common.resources import Resources

    if not 0 <= hours <= 1_000_000:
        raise BadInput(f"--hours {hours:g}: give hours from 0 to 1,000,000")
    if discount is not None and (wrong := SETTINGS["discount"].wrong(discount)):
        raise BadInput(f"--discount {discount:g}{wrong}")
    resources, known = Resources.of(cpu, memory, spot=spot, storage=storage), settings()
    tariff = _tariff(known, region, arm, private=private)
    refuse_region(tariff.region)
    price = fargate_usd(
        resources,
        hours * 3600 * workers,
        workers if hours else 0,
        tariff,
        discount=known.discount if discount is None else discount,
    )
    if price.unknown:
        raise BadInput(f"{price}: `starburst prices show fargate --region {tariff.region}` tells what is known")
    if json:
        print_json({**price.fields, "workers": workers, "hours": hours})
    else:
        _print(price, f"{workers:,} worker{'s' * (workers != 1)} of {resources.size}", hours)


def _tariff(known: Settings, region: str | None, arm: bool | None, *, private: bool) -> Tariff:
    from starburst_common.model import Tariff

    tariff = Tariff() if known.site is None else known.site.tariff
    return Tariff(
        site=tariff.site,
        region=region or tariff.region,
        arch=tariff.arch if arm is None else "arm" if arm else "x86",
        public_ipv4=tariff.public_ipv4 and not private,
    )


def _print(price: Estimate, what: str, hours: float) -> None:
    from starburst_common.cli.show import say, simple_table
    from starburst_common.money.estimate import usd_text

    rows = [[name, usd_text(usd)] for name, usd in price.parts.items()]
    rows.append(["together", usd_text(price.usd)])
    print(simple_table(["", "cost"], rows, right=["cost"], flexible=""))
    each = f", {usd_text(price.usd / price.vcpu_hours)} a vCPU and hour" if price.usd and price.vcpu_hours else ""
    say(f"{what} for {hours:g} h: {price}{each}")
    say(f"prices from: {price.source}")
