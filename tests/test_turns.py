"""A quota that several runs want is shared by priority, whatever comes and goes, in a model of a site's drivers."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from starburst_common.fleets.turns import shares, turn
from starburst_common.ports import QuotaAsk

TICKS = 40


@dataclass
class Fleet:
    """One run's, as its driver decides: tick by tick, by what the others said at theirs."""

    wants: int
    weight: float
    each: float
    has: int = 0

    @property
    def ask(self) -> QuotaAsk:
        """What it says."""
        return QuotaAsk(has=self.has * self.each, wants=self.wants * self.each, each=self.each, weight=self.weight)


def settled(fleets: dict[str, Fleet], total: float, chance: random.Random) -> None:
    """So many ticks later; drivers come in any order, and AWS starts nobody beyond the quota."""
    for _ in range(TICKS):
        for name in chance.sample(sorted(fleets), len(fleets)):
            mine = fleets[name]
            told = turn(name, {other: each.ask for other, each in fleets.items()}, total)
            free = total - sum(each.has * each.each for each in fleets.values())
            mine.has -= told.surplus
            mine.has += max(int(min(mine.wants - mine.has, told.more, free // mine.each)), 0)
            assert mine.has >= 0
            assert sum(each.has * each.each for each in fleets.values()) <= total


@pytest.mark.parametrize("seed", range(300))
def test_none_starves_and_each_has_its_share(seed: int) -> None:
    """Runs come with any priority and end: within a worker each has its share of the quota, and all have one."""
    chance = random.Random(seed)
    total, fleets = float(chance.choice([6, 16, 100, 4000])), dict[str, Fleet]()
    for number in range(chance.randint(2, 5)):
        fleets[f"f{number}"] = Fleet(
            chance.randint(1, 500), chance.choice([0.01, 1, 1, 2, 100]), chance.choice([1.0, 1.0, 2.0])
        )
        settled(fleets, total, chance)
        if len(fleets) > 2 and chance.random() < 0.3:
            del fleets[chance.choice(sorted(fleets))]
            settled(fleets, total, chance)
    spare = sum(each.each for each in fleets.values())  # a worker of each
    fair = shares({name: each.ask for name, each in fleets.items()}, total)
    for name, mine in fleets.items():
        assert mine.has >= 1 or total < spare, "one starves"
        assert mine.has * mine.each <= fair[name] + spare
        assert mine.has * mine.each >= fair[name] - spare
    used, wanted = (sum(getattr(each, name) * each.each for each in fleets.values()) for name in ("has", "wants"))
    assert used >= min(wanted, total) - 2, "what nobody else wants is used"
