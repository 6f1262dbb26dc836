"""What fleets have and want of one quota in; what each may have of it by its priority out. Pure.

A quota that is not used up binds nobody. Where it is, each has its share, and what one does not want is the others'.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from starburst_common.ports import QuotaAsk

_ROUNDED = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaTurn:
    """What comes of it for one fleet, in workers."""

    more: float = math.inf  #: so many it may have beside those that it has; without limit where nobody else wants any
    surplus: int = 0  #: so many of those that it has are others' by now
    words: str = ""  #: what bounds it, for a person
    gone: float = 0.0  #: so much of what is counted of the quota other fleets of the site had, and have no more


#: Where nobody else wants any.
FREE = QuotaTurn()


def shares(asks: Mapping[str, QuotaAsk], total: float) -> dict[str, float]:
    """How much of a total each may have, by weight, and none more than it wants.

    >>> both = {"a": QuotaAsk(has=6, wants=50), "b": QuotaAsk(has=0, wants=50)}
    >>> shares(both, 6)
    {'a': 3.0, 'b': 3.0}
    >>> shares({**both, "b": QuotaAsk(has=0, wants=1)}, 6)
    {'a': 5.0, 'b': 1}
    >>> shares({**both, "b": QuotaAsk(has=0, wants=50, weight=2)}, 6)
    {'a': 2.0, 'b': 4.0}
    >>> shares(both, 4000)
    {'a': 50, 'b': 50}
    """
    found, left, others = dict.fromkeys(asks, 0.0), total, dict(asks)
    while others:
        each = left / sum(ask.weight for ask in others.values())
        met = [name for name, ask in others.items() if ask.wants <= each * ask.weight]
        if not met:
            return found | {name: each * ask.weight for name, ask in others.items()}
        found |= {name: others.pop(name).wants for name in met}
        left = total - sum(found.values())
    return found


def in_workers(asks: Mapping[str, QuotaAsk], total: float) -> dict[str, int]:
    """The same in whole workers, of which who wants any has one, as long as there are so many.

    >>> three = {name: QuotaAsk(has=0, wants=9, weight=weight) for name, weight in [("a", 100), ("b", 1), ("c", 1)]}
    >>> in_workers(three, 6), in_workers({**three, "d": QuotaAsk(has=0, wants=9, each=4)}, 16)
    ({'a': 4, 'b': 1, 'c': 1}, {'a': 9, 'b': 2, 'c': 1, 'd': 1})
    """
    wants = {name: math.floor(ask.wants / ask.each + _ROUNDED) for name, ask in asks.items()}
    fair = shares(asks, total)
    found = {name: max(math.floor(fair[name] / ask.each + _ROUNDED), min(wants[name], 1)) for name, ask in asks.items()}

    def rank(name: str) -> tuple[float, float, str]:
        """How well it is off for its weight."""
        return found[name] * asks[name].each / asks[name].weight, -asks[name].weight, name

    left = total - sum(count * asks[name].each for name, count in found.items())
    while left < -_ROUNDED and (held := [name for name, count in found.items() if count]):
        least = max((name for name in held if found[name] > 1), key=rank, default=max(held, key=rank))
        found[least] -= 1
        left += asks[least].each
    while open_ := [name for name, ask in asks.items() if found[name] < wants[name] and ask.each <= left + _ROUNDED]:
        first = min(open_, key=rank)
        found[first] += 1
        left -= asks[first].each
    return found


def gone(rivals: Iterable[QuotaAsk], counted_at: float) -> float:
    """What of a quota others had when it was counted, and have no more.

    >>> gone([QuotaAsk(has=1, wants=1, had=4, at=90), QuotaAsk(has=0, wants=0, had=9, at=30)], 60)
    3
    """
    return sum(max(ask.had - ask.has, 0) for ask in rivals if counted_at < ask.at)


def turn(mine: str, asks: Mapping[str, QuotaAsk], total: float, *, quota: str = "quota") -> QuotaTurn:
    """What a fleet may have of so much.

    >>> asks = {"a": QuotaAsk(has=6, wants=50), "b": QuotaAsk(has=0, wants=50, weight=2)}
    >>> turn("a", asks, 6).surplus, turn("b", asks, 6).more  # there is none before a's have ended
    (4, 0)
    >>> turn("b", {**asks, "a": QuotaAsk(has=2, wants=50)}, 6, quota="Fargate vCPU quota").words
    'Fargate vCPU quota: its share of that by priority is 4 of 6 vCPU, as others of the site want some'
    >>> turn("a", {**asks, "a": QuotaAsk(has=6, wants=5)}, 4000).surplus  # b has not got what there is yet
    0
    >>> turn("a", {"a": QuotaAsk(has=6, wants=50)}, 6)  # nobody else wants any
    QuotaTurn(more=inf, surplus=0, words='', gone=0.0)
    """
    me, others = asks[mine], {name: ask for name, ask in asks.items() if name != mine and ask.wants + ask.has > 0}
    if not others:
        return FREE
    found = in_workers(asks, total)
    has, fair = math.floor(me.has / me.each + _ROUNDED), found[mine]
    left = total - sum(ask.has for ask in asks.values())
    short = sum(max(found[name] * ask.each - ask.has, 0) for name, ask in others.items()) - left
    free = math.floor(left / me.each + _ROUNDED)
    return QuotaTurn(
        more=max(min(fair - has, free), 0),
        surplus=max(min(has - fair, math.ceil(short / me.each - _ROUNDED)), 0),
        words=f"{quota}: its share of that by priority is {fair * me.each:g} of {total:g} vCPU, as others of the site "
        "want some",
    )
