"""An amount of money in; as people read it, out. Pure."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

_WRITTEN_OUT = 15  #: digits of an amount; one that is larger, of a spec that nobody meant, is told by its size


def usd_text(usd: Decimal | None) -> str:
    """Dollars as printed: cents, or two digits that count where there are fewer; "?" where they are not known.

    >>> [usd_text(Decimal(usd)) for usd in ("1234.567", "0.0472", "0.00164", "0.00000001", "0")]
    ['$1,234.57', '$0.047', '$0.0016', '$0.000000010', '$0.00']
    """
    if usd is None:
        return "?"
    if usd == 0:
        return "$0.00"
    if usd.adjusted() >= _WRITTEN_OUT:
        return f"${usd:.2E}"
    digits = max(2, 1 - usd.adjusted())
    return f"${usd.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):,f}"
