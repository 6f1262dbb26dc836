"""Several estimates in; what they come to together, and by which prices they are, out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal

from starburst_common.money.book import DERIVED, SPOT
from starburst_common.money.estimate import Estimate


def together(found: Sequence[Estimate]) -> Estimate:
    """What several come to, by the prices of the first; not known where one is not.

    >>> from starburst_common.money.estimate import fargate_usd
    >>> from starburst_common.resources import Resources
    >>> each = [fargate_usd(Resources.of(1, memory), 3600, 1) for memory in ("2GB", "4GB")]
    >>> together(each).usd == each[0].usd + each[1].usd
    True
    """
    parts: dict[str, Decimal] = defaultdict(Decimal)
    for name, usd in (part for each in found for part in each.parts.items()):
        parts[name] += usd
    unknown = next((each.unknown for each in found if each.unknown), "")
    return replace(
        found[0],
        parts={} if unknown else dict(parts),
        unknown=unknown,
        vcpu_hours=sum((each.vcpu_hours for each in found), Decimal(0)),
        gb_hours=sum((each.gb_hours for each in found), Decimal(0)),
    )


def prices_told(found: Iterable[Estimate]) -> str:
    """By which prices these are, in words.

    >>> from starburst_common.money.estimate import charge
    >>> from starburst_common.resources import Resources
    >>> hours = [charge(Resources.of(1, spot=spot), Decimal(1)) for spot in (True, False)]
    >>> prices_told(hours), prices_told([])
    ('us-east-1, Fargate Spot x86 and Fargate x86, prices of 2026-09-29', '')
    """
    grouped: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in found:
        derived = ", derived" * (each.basis == DERIVED)
        off = f", less {100 * each.discount:g}%" if each.discount else ""
        if each.as_of:
            kind = f"{each.on}{' Spot' * (each.capacity == SPOT)} {each.arch}{' ' * bool(each.lacks)}{each.lacks}"
            grouped[each.region, f"prices of {each.as_of}{derived}{off}"].add(kind)
    told = sorted(grouped.items())
    return "; ".join(f"{region}, {' and '.join(sorted(kinds))}, {dated}" for (region, dated), kinds in told)
