"""EC2 in the price book: what instances cost, what they have, and how often Spot takes them back; rows out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from starburst_common.instances import Shape as Shape
from starburst_common.instances import allowed as allowed
from starburst_common.instances import of_site as of_site
from starburst_common.instances import shapes as shapes
from starburst_common.money import kept
from starburst_common.money.book import DERIVED, OBSERVED, ON_DEMAND, SPOT
from starburst_common.money.kept import sheets
from starburst_common.money.tables import EC2, INTERRUPTIONS, rows, sources

#: How many instances of a type Spot takes back in a month, by band. Source: https://aws.amazon.com/ec2/spot/instance-advisor/
BANDS = ("<5%", "5-10%", "10-15%", "15-20%", ">20%")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancePrice:
    """What an hour of an EC2 instance costs in one region, for Linux on shared hardware."""

    type: str
    region: str
    capacity: str  #: "on-demand" or "spot"
    usd_per_hour: Decimal
    basis: str  #: "observed", or "derived" from other prices
    source: str
    as_of: str


def instance_prices(type: str, region: str = "") -> list[InstancePrice]:
    """What an instance of a type costs, on demand and on Spot, in every region that has a price, or in one.

    >>> [(str(price.usd_per_hour), price.capacity, price.basis) for price in instance_prices("m5.large", "eu-west-1")]
    [('0.107', 'on-demand', 'observed'), ('0.04601', 'spot', 'derived')]
    """
    return [*_known(region, type).values()] if type else []


def prices_in(region: str) -> dict[tuple[str, str], InstancePrice]:
    """All that have a price in a region, by type and capacity."""
    return {(type, capacity): price for (type, _, capacity), price in _known(region).items()}


def interruptions(region: str) -> dict[str, int]:
    """How often Spot takes instances back there, as an index of `BANDS`, by type; as of the Spot advisor's date."""
    (head,) = rows(INTERRUPTIONS, "type")
    if region not in head:
        return {}
    column = head.index(region)
    return {row[0]: int(row[column]) for row in rows(INTERRUPTIONS) if row[column]}


def _known(region: str, type: str = "") -> dict[tuple[str, str, str], InstancePrice]:
    """By type, region and capacity: those of the book, and before them those that were looked up."""
    head = {name: cells for name, *cells in rows(EC2, ("type", "source", "as_of"))}
    columns = [column for column, where in enumerate(head["type"]) if region in ("", where)]
    found: dict[tuple[str, str, str], InstancePrice] = {}
    for name, *cells in rows(EC2, type):
        for column in columns if name not in head else ():
            if cells[column]:
                about = (head[each][column] for each in ("type", "source", "as_of"))
                found |= {(name, each.region, each.capacity): each for each in _priced(name, cells[column], *about)}
    for where in (head["type"][column] for column in columns):
        for each in _looked_up(where, type):
            known = found.get(key := (each.type, where, each.capacity))
            if known is None or kept.holds(each.as_of, known.as_of):
                found[key] = each
    return found


def _looked_up(region: str, type: str) -> Iterator[InstancePrice]:
    for kind, capacity in ((kept.INSTANCES, ON_DEMAND), (kept.SPOT, SPOT)):
        if (sheet := sheets(region).get(kind)) is None:
            continue
        for name in [type] if type else sheet.prices:
            if name in sheet.prices:
                yield InstancePrice(
                    type=name,
                    region=region,
                    capacity=capacity,
                    usd_per_hour=sheet.prices[name],
                    basis=OBSERVED,
                    source=sheet.source,
                    as_of=sheet.as_of,
                )


def _priced(type: str, cell: str, region: str, source: str, as_of: str) -> Iterator[InstancePrice]:
    on_demand, _, spot = cell.partition("/")
    told = [(ON_DEMAND, on_demand, OBSERVED, source, as_of)]
    if spot:
        seen = spot.endswith("!")
        spot_source = "spot-observed" if seen else "spot-advisor"
        told.append((SPOT, spot.rstrip("!"), OBSERVED if seen else DERIVED, spot_source, sources()[spot_source][1]))
    for capacity, usd, basis, name, date in told:
        yield InstancePrice(
            type=type,
            region=region,
            capacity=capacity,
            usd_per_hour=Decimal(usd),
            basis=basis,
            source=sources()[name][0],
            as_of=date,
        )
