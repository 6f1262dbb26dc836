"""A monthly budget holds for all runs with its tag together, whoever begins them, and whoever drives them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from starburst_common import Cluster, RunState
from starburst_common.aws.accounts import close_account
from starburst_common.errors import BadInput
from starburst_common.limits import NO_LIMITS, Limits
from starburst_common.model import Granted, Tariff
from starburst_common.money.estimate import charge
from starburst_common.money.monthly import budgets_of, month_of
from starburst_common.ports import Backend
from starburst_common.resources import Resources
from starburst_common.runs.accounts import keep_entry
from starburst_common.runs.limiting import alerts_of
from starburst_common.runs.monthly import Monthly, within_month
from starburst_common.runs.records import Spec
from starburst_common.runs.spec import read_end
from tests.places import aws_text, open_place
from tests.simulator import TICK_S, Simulation
from tests.test_budget import billed
from tests.testbed.bed import Bed as Aws

TARIFF, SMALL = Tariff(site="simulated"), Resources.of(1)
HOUR = charge(SMALL, Decimal(1), TARIFF).usd or Decimal(0)
TAGS = {"team": "a"}


@pytest.fixture(autouse=True)
def in_the_middle_of_a_month(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no month ends while simulated hours pass."""
    if "aws" not in request.fixturenames:
        real = time.time
        shift_s = month_of(real()).begins + 10 * 86_400.0 - real()
        monkeypatch.setattr(time, "time", lambda: real() + shift_s)


def simulated(folder: Path, *budgets: str, item_s: float = 60.0) -> Simulation:
    """A site with these budgets, whose workers are charged for."""
    sim = Simulation(folder, item_s=item_s, start_s=20.0)
    sim.backend = sim.place.backend = replace(sim.backend, charged=True, tariff=TARIFF, monthly_budget=budgets)
    sim.place.granted = lambda: Granted(
        capacity="FARGATE", architecture="", zone="", vcpu=SMALL.cpu, memory_mib=SMALL.memory_mib
    )
    return sim


def begun(sim: Simulation, items: int, *, workers: int = 4, tags: dict[str, str] = TAGS) -> Spec:
    """A run as it begins under what is left."""
    limits = within_month(sim.backend, tags, SMALL, NO_LIMITS, sim.clock)
    return sim.begin(items, chunk=1, workers=workers, slots=1, tags=tags, budget=limits.budget_usd)


def over(sim: Simulation, *specs: Spec) -> None:
    """Each is driven to its end, all at once, and is in the accounts then, with its fleet."""
    going = [sim.driver(spec) for spec in specs]
    while going:
        going = [driver for driver in going if not driver.step()]
        sim.clock.sleep(TICK_S)
    for spec in specs:
        states = [each.state for each in sim.place.gone if each.serves == spec.run]
        close_account(sim.backend.store, sim.backend.key, spec.fleet, states, sim.clock.time())  # as ECS's compute does
        assert keep_entry(sim.backend, spec.run)


def cost(sim: Simulation, *specs: Spec) -> Decimal:
    """What AWS would bill for them."""
    place, runs = sim.place, {spec.run for spec in specs}
    workers = [*place.gone, *(each for of in place.workers_of.values() for each in of.values())]
    return billed([each for each in workers if each.serves in runs], sim.clock.time())


def test_budgets_are_written_in_words_and_months_are_utcs() -> None:
    """What is no budget is refused where it is set; the months of a year follow each other."""
    assert [(each.tag, each.usd) for each in budgets_of(("team=a: 200", "*:0.5"))] == [
        ("team=a", Decimal(200)),
        ("*", Decimal("0.5")),
    ]
    assert [month_of(at)[0::2] for at in (0.0, 2678399.0, 2678400.0)] == [
        ("1970-01", "1970-02-01"),
        ("1970-01", "1970-02-01"),
        ("1970-02", "1970-03-01"),
    ]
    assert month_of(1_798_761_599.0).next == "2027-01-01"
    table = {"monthly_budget": ["team: 200"]}
    with pytest.raises(BadInput, match='give TAG=VALUE: USD, such as "team=a: 200"'):
        aws_site(**table)


def aws_site(**more: object) -> None:
    """A site with more settings."""
    from starburst_common.sites.site import Site
    from tests.policies import SITE

    Site.of({**SITE.table(), **more}, "config.toml")


def test_runs_one_after_another_spend_no_more_than_the_month_s_budget(tmp_path: Path) -> None:
    """The last has what the others have left, and is stopped before that is spent; then none begins any more."""
    sim = simulated(tmp_path, "team=a: 0.5")
    first = begun(sim, 60)
    over(sim, first)
    end = read_end(sim.backend, first.run)
    assert end is not None and end.state is RunState.SUCCEEDED
    second = begun(sim, 2000)
    left = Decimal(str(second.terms.limits.budget_usd))
    assert abs(Decimal("0.5") - cost(sim, first) - left) < Decimal("1e-6")
    over(sim, second)
    end = read_end(sim.backend, second.run)
    assert end is not None and end.state is RunState.STOPPED and end.answered > 0
    assert "the monthly budget of team=a, $0.50, is used up" in end.reason
    assert Decimal("0.4") < cost(sim, first, second) <= Decimal("0.5")
    month = month_of(sim.clock.time())
    with pytest.raises(BadInput) as refused:
        begun(sim, 1)
    assert f"wait for {month.next}, or raise it in the site's monthly_budget" in str(refused.value)
    assert f"`starburst costs --since {month.name}-01 --by tag:team`" in str(refused.value)
    assert begun(sim, 1, tags={"team": "b"}).terms.limits.budget_usd is None
    sim.clock.sleep(31 * 86_400.0)
    assert begun(sim, 1).terms.limits.budget_usd == 0.5


def test_runs_at_once_share_what_is_left(tmp_path: Path) -> None:
    """Each had all of it when it began; each sees within a minute what the others' workers cost."""
    sim = simulated(tmp_path, "team=a: 0.3", "*: 100", item_s=30.0)
    specs = [begun(sim, 300, workers=4) for _ in range(3)]
    assert [spec.terms.limits.budget_usd for spec in specs] == [0.3] * 3
    over(sim, *specs)
    a_minute = 12 * HOUR / 60
    assert Decimal("0.2") < cost(sim, *specs) <= Decimal("0.3") + a_minute
    ends = [read_end(sim.backend, spec.run) for spec in specs]
    assert [end and end.state for end in ends] == [RunState.STOPPED] * 3


def test_much_that_is_used_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At half and at four fifths, or as the site or the run has it; an own budget that is less holds as ever."""
    sim = simulated(tmp_path, "team=a: 100")
    assert within_month(sim.backend, TAGS, SMALL, Limits(budget_usd=3.0), sim.clock).budget_usd == 3.0
    spec = begun(sim, 200)
    over(sim, spec)
    assert caplog.messages == []
    used = cost(sim, spec)
    for share, own, site, said in (
        (Decimal("0.85"), None, "50, 80", "more than 80%"),
        (Decimal("0.6"), None, "50, 80", "more than 50%"),
        (Decimal("0.6"), None, "33.5", "more than 33.5%"),
        (Decimal("0.6"), (25.0,), "none", "more than 25%"),
    ):
        caplog.clear()
        backend = replace(sim.backend, monthly_budget=(f"team=a: {used / share:.6f}",), alert_at=site)
        within_month(backend, TAGS, SMALL, Limits(), sim.clock)  # its driver says so: once is enough
        month = Monthly.of(backend, None, TAGS, alerts_of(backend, Limits(alerts=own)), sim.clock)
        assert month is not None and abs(month.tightest().usd - used) < Decimal("1e-6")
        assert [said in message and "by 1 run" in message for message in caplog.messages] == [True]


def test_here_nothing_is_charged_for(backend: Backend) -> None:
    """A monthly budget is nobody's on this machine."""
    mine = replace(backend, monthly_budget=("*: 0.01",))
    with Cluster(workers=1, backend=mine, progress=False, tags=TAGS) as cluster:
        assert cluster.map(abs, [-1]) == [1]


@pytest.fixture
def site(aws: Aws) -> Iterator[Backend]:
    """The bed's, with a budget that two of the smallest runs use up."""
    opened = open_place(aws_text({**aws.site, "monthly_budget": ["team=a: 0.005"]}))
    yield opened
    opened.close()


def test_on_aws_a_run_is_stopped_and_the_next_refused(site: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    """From the site's own settings, on the path that each run takes."""
    small = {"workers": 1, "cpu": 0.25, "tags": TAGS, "backend": site, "progress": False}
    with Cluster(**small) as cluster:  # type: ignore[arg-type]
        run = cluster.start(time.sleep, [0.01] * 5)
        assert run.wait(60).state is RunState.SUCCEEDED
        assert run.status().budget_usd == pytest.approx(0.005)
    spent = Monthly.of(site, None, TAGS, ())
    assert spent is not None and spent.tightest().usd > 0
    poor = {**small, "progress": None, "backend": replace(site, monthly_budget=("team=a: 0.0003",))}
    with (
        Cluster(**poor) as cluster,  # type: ignore[arg-type]
        pytest.raises(BadInput, match=r"of the monthly budget of team=a, \$0\.00030, are used since"),
    ):
        cluster.map(abs, [1])
    assert "worker now" not in capsys.readouterr().err  # of what never comes
