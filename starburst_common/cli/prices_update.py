"""`starburst prices update`: what AWS charges now, in place of what the price book has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starburst_common.cli.words import Json

if TYPE_CHECKING:
    from starburst_common.aws.price_list import PriceList
    from starburst_common.money.refresh import Refreshed

_SHOWN = 10  #: changes
_WORDS = {"fargate": "Fargate", "instances": "EC2 on demand", "spot": "EC2 Spot"}


def update_prices(
    region: Annotated[
        list[str] | None, typer.Option("--region", metavar="REGION", help="One or more; else the configured site's.")
    ] = None,
    json: Json = False,
) -> None:
    """Ask AWS what Fargate and EC2 cost now, and reckon with that from now on, on this machine.

    `starburst iam-policy prices` prints what that takes. What AWS does not tell, or tells so that it cannot be right,
    stays as it was, which is said, with exit code 5. Fargate Spot is in no price list: its prices stay the book's.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.money.book import refuse_region

    regions = region or [_site_region()]
    for name in regions:
        refuse_region(name)
    found = [(name, [*_updated(name)]) for name in regions]
    if json:
        print_json([{"region": where, **_fields(taken)} for where, each in found for taken in each])
    for where, each in found:
        for taken in each:
            _say(where, taken, quietly=json)
    if any(taken.kept for _, each in found for taken in each):
        raise typer.Exit(5)


def _site_region() -> str:
    from starburst_common.config import settings
    from starburst_common.errors import BadInput

    site = settings().site
    if site is None:
        raise BadInput("of which region? no site is configured: give --region, as often as you like")
    return site.region


def _updated(region: str) -> Iterator[Refreshed]:
    """Each kind of prices, kept as soon as it is told."""
    from starburst_common.aws import prices
    from starburst_common.aws.clients import Clients
    from starburst_common.errors import StarburstError
    from starburst_common.money import kept
    from starburst_common.money.refresh import Refreshed, refreshed

    today = datetime.now(UTC).date()
    there, here = Clients(prices.endpoint_region(region)), Clients(region)
    asks: dict[str, tuple[str, Callable[[], PriceList]]] = {
        kept.FARGATE: ("AWS Price List API, offer AmazonECS", lambda: prices.fargate_told(there, region)),
        kept.INSTANCES: ("AWS Price List API, offer AmazonEC2", lambda: prices.instances_told(there, region)),
        kept.SPOT: ("EC2's history of Spot prices, the zone where it is lowest", lambda: prices.spot_told(here)),
    }
    try:
        for kind, (source, ask) in asks.items():
            try:
                answer = ask()
            except StarburstError as error:
                yield Refreshed(kind=kind, sheet=None, changes=[], kept=[f"{error}; earlier prices stay in force"])
                continue
            made = refreshed(kind, answer, source, region, today)
            if made.sheet is not None:
                kept.keep(region, {kind: made.sheet})
            yield made
    finally:
        there.close()
        here.close()


def _say(region: str, taken: Refreshed, *, quietly: bool) -> None:
    from starburst_common.cli.show import say

    what = f"{region}, {_WORDS[taken.kind]}"
    for why in taken.kept:
        say(f"{what}: {why}")
    if quietly or taken.sheet is None:
        return
    count = len(taken.sheet.prices)
    print(f"{what}: {count:,} prices of {taken.sheet.as_of}, {len(taken.changes):,} of them changed")
    for change in taken.changes[:_SHOWN]:
        print(f"  {change.name}: {'no price' if change.before is None else change.before} -> {change.now}")
    if len(taken.changes) > _SHOWN:
        print(f"  and {len(taken.changes) - _SHOWN:,} more: `starburst prices show` has them")


def _fields(taken: Refreshed) -> dict[str, Any]:
    sheet = taken.sheet
    return {
        "kind": taken.kind,
        "prices": 0 if sheet is None else len(sheet.prices),
        "as_of": "" if sheet is None else sheet.as_of,
        "published": "" if sheet is None else sheet.published,
        "changes": [
            {
                "name": change.name,
                "before": None if change.before is None else str(change.before),
                "now": str(change.now),
            }
            for change in taken.changes
        ],
        "kept": taken.kept,
    }
