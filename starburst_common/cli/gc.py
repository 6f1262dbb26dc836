"""`starburst gc`: what nobody needs any more is removed: expired runs, and what crashes have left of a site in AWS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from starburst_common.cli.words import BackendWord, Json, seconds_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from starburst_common.aws.orphans import Orphan, Sweep
    from starburst_common.model import Tariff
    from starburst_common.ports import Backend

_FAILED = 5  #: as for any service that failed


class Litter(NamedTuple):
    """A thing that goes, and what it costs while it stays."""

    kind: str
    name: str
    why: str
    usd_per_hour: Decimal | None = None
    usd_per_month: Decimal | None = None
    priced: str = ""  #: by which prices, in words


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    older_than: Annotated[
        str, typer.Option(metavar="TIME", help="Leave what had an owner, or was made, since: 90s, 1h, 2d.")
    ] = "1h",
    backend: BackendWord = "auto",
    json: Json = False,
) -> None:
    """Remove what nobody needs any more, of this site alone; a line each, with what it costs.

    Runs that have expired and, on AWS, what crashes leave: workers and queues without a fleet, task definitions that no
    fleet uses, old images, what builds and broken uploads left. What a run that goes on or a warm fleet has stays.
    Safe at any time, and twice; who is stopped halfway calls it again. Exit code 5 where something could not be looked
    at or removed.
    """
    from starburst_common.backends import open_backend
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import say
    from starburst_common.phrases import one_line

    opened, failed = open_backend(backend), list[str]()
    found = []
    for each in _swept(opened, seconds_of(older_than, "--older-than"), failed, really=not dry_run):
        found.append(each)
        if not json:
            print(one_line(f"{each.kind} {each.name}: {each.why}{_cost(each)}", 1000))
    if json:
        things = [_fields(each) for each in found]
        print_json({"removed": not dry_run, "things": things, "failed": failed})
    else:
        say(_sum(found, really=not dry_run), style="bold")
    for text in failed:
        say(f"error: {one_line(text, 1000)}", style="red")
    if failed:
        raise typer.Exit(_FAILED)


def _swept(backend: Backend, least_s: float, failed: list[str], *, really: bool) -> Iterator[Litter]:
    """Each thing once it is gone, or found; what went wrong goes to `failed`."""
    from starburst_common.runs.prune import expired, prune, store_time

    now = store_time(backend)
    for run in prune(backend) if really else expired(backend, now):
        yield Litter("run", run, "it has expired")
    if backend.name != "aws":
        return
    for sweep in _sweeps(now, least_s):
        yield from _of_kind(sweep, backend.tariff, failed, really=really)


def _sweeps(now: float, least_s: float) -> Sequence[Sweep]:
    from starburst_common.aws.sweeps import sweeps
    from starburst_common.config import settings

    found = settings(backend="aws")
    assert found.site is not None  # else it has raised
    return sweeps(found.site, now=now, least_s=least_s, image_days=found.image.keep_days)


def _of_kind(sweep: Sweep, tariff: Tariff, failed: list[str], *, really: bool) -> Iterator[Litter]:
    from starburst_common.errors import Denied, StarburstError

    def why(error: StarburstError) -> str:
        if not isinstance(error, Denied):
            return str(error)
        return f"{error}; `starburst iam-policy operator` prints what gc takes, beyond a driver's"

    try:
        orphans = [*sweep.found()]
    except StarburstError as error:
        failed.append(f"{sweep.kind}s are not looked at: {why(error)}")
        return
    for orphan in orphans:
        try:
            if not really:
                yield _litter(orphan, tariff)
            elif not sweep.owned(orphan):
                sweep.remove(orphan)
                yield _litter(orphan, tariff)
        except StarburstError as error:
            failed.append(f"{orphan.kind} {orphan.name} stays: {why(error)}")


def _litter(orphan: Orphan, tariff: Tariff) -> Litter:
    from starburst_common.money.book import item_price, storage_usd_per_month
    from starburst_common.money.estimate import hourly
    from starburst_common.money.sums import prices_told

    about = orphan.kind, orphan.name, orphan.why
    if orphan.granted is not None:
        hour = hourly(orphan.granted, tariff)
        return Litter(*about, usd_per_hour=hour.usd, priced=prices_told([hour]))
    if orphan.stored is not None:
        price = item_price(orphan.stored[0], tariff.region)
        month = storage_usd_per_month(orphan.stored[0], tariff.region, orphan.stored[1])
        return Litter(*about, usd_per_month=month, priced="" if price is None else price.told)
    return Litter(*about)


def _cost(each: Litter) -> str:
    from starburst_common.dollars import usd_text

    if each.usd_per_hour is not None:
        return f": {usd_text(each.usd_per_hour)} an hour ({each.priced})"
    return "" if each.usd_per_month is None else f": {usd_text(each.usd_per_month)} a month ({each.priced})"


def _sum(found: Sequence[Litter], *, really: bool) -> str:
    from decimal import Decimal

    from starburst_common.dollars import usd_text

    if not found:
        return "nothing to remove"
    hour = sum((each.usd_per_hour or Decimal(0) for each in found), Decimal(0))
    month = sum((each.usd_per_month or Decimal(0) for each in found), Decimal(0))
    costs = [f"{usd_text(hour)} an hour"] * (hour > 0) + [f"{usd_text(month)} a month"] * (month > 0)
    things = f"{len(found):,} thing{'s' * (len(found) != 1)}"
    cost = f", which cost {' and '.join(costs)}" if costs else ""
    return f"{'removed' if really else 'would remove'} {things}{cost}"


def _fields(each: Litter) -> dict[str, Any]:
    hour, month = each.usd_per_hour, each.usd_per_month
    return {
        "kind": each.kind,
        "name": each.name,
        "why": each.why,
        "usd_per_hour": None if hour is None else round(float(hour), 6),
        "usd_per_month": None if month is None else round(float(month), 6),
        "priced": each.priced,
    }
