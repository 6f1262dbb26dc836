"""`starburst status` without a run: what goes on at the site, or here, and what that costs; idle things, too."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from starburst_common.ports import Limit

if TYPE_CHECKING:
    from starburst_common.aws.idle import Kept
    from starburst_common.config import Settings
    from starburst_common.ports import Backend
    from starburst_common.runs.run import Run
    from starburst_common.runs.standing import HeldFleet

_MOST = 10  #: runs that are told one by one
_GB = 1 << 30
_CENT = Decimal("0.01")


def show_all(backend: str, *, json: bool) -> None:
    """Print it. Raises what the store raises; what else may not be looked at says so."""
    from starburst_common.backends import open_backend
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import print_fields
    from starburst_common.config import settings
    from starburst_common.runs.standing import held_fleets

    found, opened = settings(backend=None if backend == "auto" else backend), open_backend(backend)
    fleets = held_fleets(opened)
    limits = [] if opened.quotas is None else opened.quotas.limits(spot=True)
    kept = _kept(found) if opened.name == "aws" else []
    if json:
        print_json(_fields(fleets, limits, kept, opened))
        return
    runs = [run for fleet in fleets for run in fleet.runs]
    print_fields(
        {
            **_where(found, opened),
            "runs": _runs(runs),
            "fleets": _fleets(fleets),
            "workers": _workers(fleets, opened),
            "quota": [limit_line(limit) for limit in limits],
            "kept": [_kept_line(each, opened.tariff.region) for each in kept] or _disk(found, opened),
            "next": [f"starburst status {runs[-1].id}" if runs else "starburst runs"],
        }
    )


def _where(found: Settings, backend: Backend) -> dict[str, str]:
    if backend.name != "aws" or found.site is None:
        return {"home": str(found.home)}
    site = found.site
    return {"site": f"{site.name} in {site.region}, account {site.task_role.split(':')[4]}, {site.architecture}"}


def _runs(runs: Sequence[Run]) -> list[str]:
    from starburst_common.cli.show import state_words
    from starburst_common.phrases import one_line

    if not runs:
        return ["none goes on"]
    lines = []
    for run in runs[-_MOST:]:
        now = run.status()
        why = f": {one_line(now.reason, 120)}" if now.reason else ""
        lines.append(f"{run.id}  {state_words(now)}, {one_line(run.label or run.function, 40)}{why}")
    return [*lines, *([f"… and {len(runs) - _MOST} older"] if len(runs) > _MOST else [])]


def _fleets(fleets: Sequence[HeldFleet]) -> str:
    busy = sum(bool(fleet.runs) for fleet in fleets)
    idle = [fleet for fleet in fleets if not fleet.runs and not fleet.unsigned]
    lost = sum(fleet.unsigned for fleet in fleets)
    held, warm = sum(bool(fleet.clusters) for fleet in idle), sum(not fleet.clusters and fleet.warm for fleet in idle)
    said = [
        f"{busy} with runs" if busy else "",
        f"{held} held by a cluster without one" if held else "",
        f"{warm} kept warm: starburst fleets" if warm else "",
        f"{lost} whose key is no longer valid: starburst fleets stop" if lost else "",
        f"{len(idle) - held - warm} that nobody needs: starburst gc" if len(idle) > held + warm else "",
    ]
    return ", ".join(filter(None, said)) or "none"


def _workers(fleets: Sequence[HeldFleet], backend: Backend) -> str:
    from starburst_common.dollars import usd_text

    alive = sum(len(fleet.workers) for fleet in fleets)
    if not alive:
        return "none alive"
    starting = sum(fleet.starting for fleet in fleets)
    given = given_to(fleets, backend)
    cost = f": {given.vcpu:g} vCPU, {usd_text(given.usd)} an hour ({given.priced})" if given.vcpu else ""
    return f"{alive:,} alive{f', {starting:,} of them starting' if starting else ''}{cost}"


class Given(NamedTuple):
    """What workers in AWS were given."""

    vcpu: float
    usd: Decimal | None  #: an hour; None where that is not known
    priced: str  #: by which prices, in words


def given_to(fleets: Sequence[HeldFleet], backend: Backend) -> Given:
    """All together."""
    from starburst_common.money.estimate import hourly
    from starburst_common.money.sums import prices_told

    given = [worker.granted for fleet in fleets for worker in fleet.workers if worker.granted is not None]
    hours = [hourly(each, backend.tariff, backend.discount) for each in given]
    known = [hour.usd for hour in hours if hour.usd is not None]
    usd = sum(known, Decimal(0)) if len(known) == len(hours) else None
    return Given(sum(each.vcpu for each in given), usd, prices_told(hours))


def limit_line(limit: Limit) -> str:
    """What an account allows and what of it is in use, in a line.

    >>> from starburst_common.ports import Basis, Unit
    >>> limit_line(Limit(name="Fargate vCPU quota", unit=Unit.VCPU, total=4000, used=2.5, basis=Basis.DEFAULT))
    "Fargate vCPU quota: 2.5 of 4,000 in use (AWS's default)"
    """
    known = {"default": " (AWS's default)", "assumed": " (not known)"}.get(str(limit.basis), "")
    why = f": {limit.unknown}" if limit.unknown else ""
    return f"{limit.name}: {limit.used:,g} of {limit.total:,g} in use{known}{why}"


def _kept(found: Settings) -> list[Kept]:
    from starburst_common.aws.idle import kept_in

    assert found.site is not None  # else there is no backend of that name
    return kept_in(found.site)


def _kept_line(each: Kept, region: str) -> str:
    if each.unknown:
        return f"{each.what}: not known: {each.unknown}"
    count = "" if each.count is None else f"{each.count:,}{'+' * each.more}, "
    return f"{each.what}: {count}{size_text(each.bytes)}{'+' * each.more}, {a_month(each.priced, region, each.bytes)}"


def a_month(item: str, region: str, size_bytes: int) -> str:
    """What it costs a month to store so much, and by which price, in words."""
    from starburst_common.dollars import usd_text
    from starburst_common.money.book import item_price, storage_usd_per_month

    usd, price = storage_usd_per_month(item, region, size_bytes), item_price(item, region)
    by = "" if price is None else f" ({price.told})"
    return f"{'less than a cent' if usd is not None and 0 < usd < _CENT else usd_text(usd)} a month{by}"


def _usd(each: Kept, region: str) -> Decimal | None:
    from starburst_common.money.book import storage_usd_per_month

    return storage_usd_per_month(each.priced, region, each.bytes)


def _disk(found: Settings, backend: Backend) -> str:
    from starburst_common.runs.find import run_ids

    size = sum(entry.size for entry in backend.store.entries(""))
    free = shutil.disk_usage(found.home).free
    return f"{len(run_ids(backend)):,} runs, {size_text(size)}; {free / _GB:,.1f} GB free on that disk"


def size_text(size: int) -> str:
    """In decimal units, as everywhere here.

    >>> [size_text(each) for each in (0, 1_500, 2_500_000, 3_400_000_000)]
    ['0 kB', '2 kB', '2 MB', '3.4 GB']
    """
    if size >= 1e9:
        return f"{size / 1e9:,.1f} GB"
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def _fields(
    fleets: Sequence[HeldFleet], limits: Sequence[Limit], kept: Sequence[Kept], backend: Backend
) -> dict[str, Any]:
    vcpu, usd, priced = given_to(fleets, backend)
    return {
        "backend": backend.name,
        "site": backend.tariff.site,
        "region": backend.tariff.region if backend.name == "aws" else None,
        "runs": [run.id for fleet in fleets for run in fleet.runs],
        "fleets": [
            {
                "id": fleet.id,
                "runs": [run.id for run in fleet.runs],
                "warm": fleet.warm,
                "key_valid": not fleet.unsigned,
                "workers": len(fleet.workers),
                "starting": fleet.starting,
            }
            for fleet in fleets
        ],
        "vcpu": vcpu,
        "usd_per_hour": None if usd is None else round(float(usd), 6),
        "priced": priced,
        "limits": [
            {
                "name": limit.name,
                "total": limit.total,
                "used": limit.used,
                "basis": str(limit.basis),
                "unknown": limit.unknown,
            }
            for limit in limits
        ],
        "kept": [_kept_fields(each, backend.tariff.region) for each in kept],
    }


def _kept_fields(each: Kept, region: str) -> dict[str, Any]:
    usd = _usd(each, region)
    return {
        "what": each.what,
        "count": each.count,
        "bytes": each.bytes,
        "more": each.more,
        "usd_per_month": None if usd is None else round(float(usd), 6),
        "unknown": each.unknown,
    }
