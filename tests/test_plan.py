"""What a map would come to, told before anything exists: never better than can be, and never worse with more room."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starburst_common import Cluster
from starburst_common.fleets.headroom import Headroom
from starburst_common.fleets.waves import Plan, Wish, plan
from starburst_common.ports import Backend, LaunchSpeed, Limit, Unit
from starburst_common.resources import Resources
from tests.leftovers import nothing_left

SPEED = LaunchSpeed()
QUOTA = Limit(name="Fargate vCPU quota", unit=Unit.VCPU, total=4000, code="fargate/L-3032A538")
wishes = st.builds(
    Wish,
    workers=st.integers(1, 10_000),
    resources=st.sampled_from([0.25, 1, 4, 16]).map(Resources.of),
    items=st.integers(0, 2_000_000),
    item_s=st.floats(0.001, 3600),
)


def planned(wish: Wish, free: float) -> Plan:
    """With room for so many."""
    return plan(wish, Headroom(free=free, bound=QUOTA), SPEED, usd_an_hour=Decimal("0.05"))


@given(wishes, st.integers(0, 10_000), st.integers(0, 10_000))
def test_more_room_is_never_later(wish: Wish, free: int, more: int) -> None:
    """Nor are more workers planned than are wanted, useful or have room; nor would more quota be later."""
    few, many = planned(wish, free), planned(wish, free + more)
    assert few.workers <= min(wish.workers, free) and few.workers <= many.workers <= many.useful
    if few.ends_s is not None:
        assert many.ends_s is not None and many.ends_s <= few.ends_s * (1 + 1e-9)
        assert few.with_it_s is None or few.with_it_s <= few.ends_s * (1 + 1e-9)
    assert bool(few.needs) == (few.workers < few.useful)
    assert few.needs >= few.needed >= few.useful * wish.resources.cpu * bool(few.needs)


@given(wishes, st.integers(1, 10_000))
def test_no_plan_is_better_than_can_be(wish: Wish, free: int) -> None:
    """All workers from the first moment would need as long; and at the end of its curve the work is just done."""
    found = planned(wish, free)
    assert wish.items is not None and wish.item_s is not None and found.ends_s is not None
    whole_s = wish.items * wish.item_s / wish.resources.slots
    assert found.ends_s >= SPEED.start_s + whole_s / found.workers - 1e-6
    assert found.ends_s <= SPEED.start_s + found.launched_s + whole_s / found.workers + wish.item_s + 1e-6
    answered = [point.answered for point in found.curve()]
    assert answered == sorted(answered) and answered[-1] == wish.items
    assert all(point.workers <= found.workers for point in found.curve())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"deadline_s": 300.0}, "that is later than in 5 min: workers=79 would do"),
        ({"deadline_s": 50.0}, "no number of workers would do"),
        ({"budget_usd": 0.1}, "$0.10 pays for about"),
        ({"deadline_s": 7200.0, "budget_usd": 100.0}, ""),
    ],
)
def test_what_was_asked_and_cannot_be_is_said(more: dict[str, Any], said: str) -> None:
    """A deadline, with how many workers would keep it; a budget, with what it pays for."""
    found = planned(Wish(workers=25, resources=Resources.of(1), items=2000, item_s=10.0, **more), math.inf)
    assert said in str(found) and (bool(said) or str(found).count(";") == 1)


def test_a_plan_launches_and_stores_nothing(backend: Backend) -> None:
    """By the seconds that are given, or by the newest run of that function; else it tells of workers alone."""
    cluster = Cluster(workers=2, backend=backend, progress=False)
    assert str(cluster.plan(abs, range(1000))) == "2 workers now"
    assert cluster.plan(abs, range(1000), seconds=2.0).ends_s == pytest.approx(1001, abs=2)
    nothing_left(backend)
    with cluster:
        cluster.map(abs, range(100))
    found = cluster.plan(abs, range(1000))
    assert found.wish.item_s is not None and found.wish.item_s < 1.0
    assert found.ends_s is not None
