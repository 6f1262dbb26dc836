"""`starburst prices show` tells what the price book has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from starburst_common.cli.words import Json

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
        raise BadInput(no_price(what, region))
    rows = [asdict(price) for price in prices]
    return [({name: _plain(value) for name, value in row.items() if name != "source"}, row["source"]) for row in rows]


def no_price(what: str, region: str) -> str:
    """Why there is none, and where there is one."""
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
