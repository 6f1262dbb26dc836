"""What runs cost, as the accounts tell it: by flow, DAG, function, tag, day and site; shared fleets are shared."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import time
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest

from starburst_common import costs
from starburst_common.aws.accounts import close_account
from starburst_common.errors import BadInput
from starburst_common.fleets.fleet import Fleet
from starburst_common.ids import new_fleet_id, new_run_id
from starburst_common.model import Buffer, FleetId, Granted, RunState, Tariff, WorkerId, WorkerPhase, WorkerState
from starburst_common.money.accounts import AccountEntry, Stint
from starburst_common.money.book import fargate_price
from starburst_common.money.estimate import UNUSED
from starburst_common.money.kept import Sheet, keep
from starburst_common.money.meter import Rates, metered
from starburst_common.names import ACCOUNTS, account
from starburst_common.options import Options
from starburst_common.plots import costs_plot
from starburst_common.ports import Backend, ObjectStore
from starburst_common.resources import Resources
from starburst_common.runs.accounts import read_entry
from starburst_common.runs.costs import run_costs
from starburst_common.runs.records import Spec
from starburst_common.runs.remembered import remembered
from starburst_common.runs.spec import write_spec
from tests.leftovers import home_of
from tests.test_cli import Shell, shell_in
from tests.test_kept import ended

HOUR_S = 3600.0
ENTRY = AccountEntry(
    run=new_run_id(),
    parent=None,
    backend="aws",
    tariff=Tariff(site="ocean"),
    who="ada@laptop",
    function="simulate",
    label="",
    tags={},
    state=RunState.SUCCEEDED,
    items=100,
    succeeded=100,
    failed={},
    withdrawn=0,
    attempts=4,
    tolls={},
    memory_peak_mib=300.0,
    workers={"FARGATE": 2},
    cpu=2,
    memory_mib=8192,
    slots=2,
    stints=(),
    created_at=time.time(),
    ended_at=time.time(),
    usd={"compute": Decimal("0.40"), "public addresses": Decimal("0.02")},
    prices_as_of="2026-09-29",
)


def kept(backend: Backend, *, slot_seconds: float = 7200.0, fleet: FleetId | None = None, **fields: object) -> None:
    """An entry of a run that used so much of a fleet."""
    run = new_run_id()
    entry = replace(ENTRY, run=run, stints=(Stint(fleet or new_fleet_id(), slot_seconds),), **fields)  # type: ignore[arg-type]
    backend.store.create(account(run), entry.sealed(backend.key, account(run)))


class Counting:
    """A store that notes what is read of it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store, self.read = store, list[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get(self, key: str, *most: int) -> Buffer:
        """As of the store."""
        self.read.append(key)
        return self._store.get(key, *most)


def aged(backend: Backend, key: str) -> None:
    """It was written an hour ago."""
    file = Path(backend.store.place) / key
    os.utime(file, (time.time() - HOUR_S,) * 2)


def worker(ordinal: int, hours: float, *, capacity: str = "FARGATE", architecture: str = "x86_64") -> WorkerState:
    """One of 2 vCPU and 8 GB that was charged for so long; for no hours, one that had not stopped in an hour."""
    began = 1_800_000_000.0
    return WorkerState(
        id=WorkerId(f"w{ordinal}"),
        ordinal=ordinal,
        phase=WorkerPhase.STOPPED if hours else WorkerPhase.RUNNING,
        started_at=began,
        stopped_at=began + hours * HOUR_S if hours else 0.0,
        granted=Granted(capacity=capacity, architecture=architecture, zone="a", vcpu=2, memory_mib=8192),
    )


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("function", {"simulate": 2, "score": 1}),
        ("flow", {"forecast": 1, "": 2}),
        ("dag", {"nightly": 1, "": 2}),
        ("tag:team", {"ocean": 2, "": 1}),
        ("site", {"ocean": 3}),
        ("day", {time.strftime("%Y-%m-%d", time.gmtime(ENTRY.created_at)): 3}),
    ],
)
def test_runs_are_told_apart_by_what_is_asked(backend: Backend, by: str, names: dict[str, int]) -> None:
    """Their runs, items, failures and dollars are summed up; a run without such a name is under none."""
    kept(backend, tags={"prefect-flow": "forecast", "team": "ocean"})
    kept(backend, tags={"airflow-dag": "nightly", "team": "ocean"}, failed={"user": 2, "oom": 1})
    kept(backend, function="score", usd={}, unknown="no price")
    rows = costs(by=by, backend=backend)
    assert {row.name: row.runs for row in rows} == names
    assert sum(row.items for row in rows) == 300 and sum(row.failed for row in rows) == 3
    assert sum(row.usd for row in rows) == Decimal("0.84")
    assert sum(row.unknown for row in rows) == 1
    assert [row.usd for row in rows] == sorted((row.usd for row in rows), reverse=True)


def test_only_runs_since_then_are_counted(backend: Backend) -> None:
    """By when they began; what is no way to tell runs apart, or no time, is refused."""
    kept(backend)
    kept(backend, created_at=time.time() - 3 * 86400)
    assert [row.runs for row in costs(backend=backend)] == [2]
    assert [row.runs for row in costs(since=time.time() - 86400, backend=backend)] == [1]
    assert costs(since=time.time() + 60, backend=backend) == []
    for by in ("flows", "tag", "tag:", "day:x", 7):
        with pytest.raises(BadInput, match="give one of flow, dag, function"):
            costs(by=by, backend=backend)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="since="):
        costs(since="30d", backend=backend)  # type: ignore[arg-type]


def test_an_entry_that_lacks_is_written_by_who_asks(backend: Backend) -> None:
    """Who ended the run died before that; a run that goes on is none yet."""
    run = ended(backend)
    begun = Spec.of(new_run_id(), Fleet.of(backend, Resources.of(1), 1), "work", Options.of(), stop_at_first=False)
    write_spec(backend, begun)
    assert [(row.name, row.runs) for row in costs(backend=backend)] == [("work", 1)]
    assert [*backend.store.list(ACCOUNTS)] == [account(run)]


def test_runs_that_shared_a_fleet_share_what_it_was_billed(backend: Backend) -> None:
    """By their slot time; each worker by what it was given and for how long it was charged, whatever was asked for."""
    fleet = new_fleet_id()
    workers = [worker(0, 1.0), worker(1, 1.0), worker(2, 1.0, capacity="FARGATE_SPOT"), worker(3, 0.0)]
    close_account(backend.store, backend.key, fleet, workers, 1_800_000_000.0 + HOUR_S)
    kept(backend, fleet=fleet, slot_seconds=3000.0, function="a", tolls={"s3-put": 1000})
    kept(backend, fleet=fleet, slot_seconds=1000.0, function="b")
    first, second = sorted(run_costs(backend, 0.0), key=lambda each: each.entry.function)
    compute = 3 * Decimal("0.11652") + Decimal("0.03709066")  # three on demand, and one on Spot
    assert (first.billed, round(first.worker_hours, 9), round(second.worker_hours, 9)) == (True, 3, 1)
    assert round(first.parts["compute"], 9) == round(compute * 3 / 4, 9)
    assert round(second.parts["compute"], 9) == round(compute / 4, 9)
    assert round(first.parts["public addresses"], 9) == Decimal("0.015")
    assert first.parts["requests"] == Decimal("0.0050")
    assert round(first.spot_saved, 9) == round((Decimal("0.11652") - Decimal("0.03709066")) * 3 / 4, 9)


def test_the_ledger_s_sum_is_the_sum_over_all_workers(backend: Backend) -> None:
    """To the cent, whatever they were given, however short they were there and whoever shared them: each as metered."""
    rng, spent, tariff = random.Random(21), Decimal(0), ENTRY.tariff
    rates = Rates(tariff=tariff, asked=ENTRY.asked)
    for _ in range(30):
        fleet, closed_at, ran = new_fleet_id(), 1_800_000_000.0 + 40 * HOUR_S, []
        for ordinal in range(rng.randint(1, 30)):
            kind = rng.choice(["FARGATE", "FARGATE_SPOT", "EC2", "provider"])
            each = worker(ordinal, rng.uniform(0.001, 40), capacity=kind, architecture=rng.choice(["arm64", "x86_64"]))
            assert each.granted is not None
            given = replace(each.granted, vcpu=rng.choice([0.25, 1, 4]), instance=f"i-{ordinal}" * (kind == "provider"))
            ran.append(replace(each, granted=replace(given, instance_type="m7g.large" * bool(given.instance))))
        close_account(backend.store, backend.key, fleet, ran, closed_at)
        for share in range(rng.randint(1, 3)):
            kept(backend, fleet=fleet, slot_seconds=rng.uniform(0, 5000), function=f"f{share}")
        spent += metered(ran, rates, closed_at).spent
    rows = costs(since=0.0, backend=backend)
    ledger = sum((usd for row in rows for part, usd in row.parts.items() if part != UNUSED), Decimal(0))
    assert spent > 30 and abs(ledger - spent) < Decimal("0.01")


def test_a_run_costs_what_was_in_force_when_it_began(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever prices were looked up since; those of its day count, whether by the book or by an earlier look."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    region = "ap-southeast-3"  # of which no other test of this process asks
    book = fargate_price(region)
    assert book is not None
    usd = book.usd_per_vcpu_hour, Decimal("0.05"), Decimal("0.06")  # by the book and by two looks
    for price, day in zip(usd[1:], ("2026-06-01", "2026-09-01"), strict=True):
        prices = {"x86 vCPU": price, "x86 GB": book.usd_per_gb_hour}
        keep(region, {"fargate": Sheet(prices=prices, source="AWS", as_of=day, published=day)})
    for day in ("2026-05-31", "2026-06-01", "2026-08-31", "2026-09-02"):
        fleet, began = new_fleet_id(), datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp()
        close_account(backend.store, backend.key, fleet, [worker(0, 1.0)], began + HOUR_S)
        kept(
            backend, fleet=fleet, created_at=began, ended_at=began + HOUR_S, function=day, tariff=Tariff(region=region)
        )
    found = {each.entry.function: each for each in run_costs(backend, 0.0)}
    by_hand = {day: 2 * usd[look] + 8 * book.usd_per_gb_hour for day, look in zip(found, (0, 1, 1, 2), strict=True)}
    assert {day: round(each.parts["compute"], 9) for day, each in found.items()} == by_hand
    assert [each.prices[0].as_of for each in found.values()][1:] == ["2026-06-01", "2026-06-01", "2026-09-01"]


def test_what_was_read_of_the_accounts_is_not_read_again(
    backend: Backend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An index on this machine has it; what was written anew is read anew, and an index that is damaged is none."""
    kept(backend, function="a")
    kept(backend, function="b")
    old, new = sorted(backend.store.list(ACCOUNTS))
    store = Counting(backend.store)
    aws, index = replace(backend, name="aws", store=cast(ObjectStore, store)), tmp_path / "index"
    for _ in range(2):
        assert len(run_costs(remembered(aws, index), 0.0)) == 2
    assert sorted(store.read) == [old, old, new, new]  # written so lately that it may be written anew
    for key in (old, new):
        aged(backend, key)
    for _ in range(2):
        assert len(run_costs(remembered(aws, index), 0.0)) == 2
    assert len(store.read) == 6
    entry = read_entry(backend, old)
    backend.store.put(old, replace(entry, items=7).sealed(backend.key, old))
    assert sorted(each.entry.items for each in run_costs(remembered(aws, index), 0.0)) == [7, 100]
    index.write_bytes(b"no database" * 1000)
    assert len(run_costs(remembered(aws, index), 0.0)) == 2
    assert not caplog.messages


def test_a_run_is_held_against_the_one_before_it(backend: Backend) -> None:
    """Item for item: twice as many items at the same cost were to be expected to cost twice as much."""
    price = {"compute": Decimal("0.40")}
    for at, items in ((3, 100), (2, 200), (1, 0)):
        began = time.time() - at * HOUR_S
        kept(backend, created_at=began, ended_at=began + 60, items=items, succeeded=items, usd=price)
    found = run_costs(backend, 0.0)
    assert [each.expected for each in found] == [None, Decimal("0.80"), Decimal(0)]
    (row,) = costs(since=0.0, backend=backend)
    assert row.off == 0.0  # 0.80 of what 0.80 was expected of


def test_a_discount_comes_off_what_is_told_and_not_off_what_is_kept(backend: Backend) -> None:
    """So it holds for runs before it, too."""
    kept(backend)
    (row,) = costs(backend=replace(backend, discount=0.5))
    assert (row.usd, row.parts["compute"]) == (Decimal("0.21"), Decimal("0.20"))


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(backend: Backend, tmp_path: object) -> Shell:
    """Whose home has three runs, one without a price."""
    kept(backend, tags={"team": "ocean"}, failed={"user": 2})
    kept(backend, tags={"team": "an ice team with a very long name that must be cut somewhere in a line of eighty"})
    kept(backend, tags={"team": "ocean"}, usd={}, unknown="no price")
    home = home_of(backend)
    return Shell(shell_in(home.parent).folder, env={"STARBURST_HOME": str(home)})


def test_the_command_prints_a_table_with_bars(shell: Shell) -> None:
    """Within 80 columns, without colours where it is piped; on this machine it says what it would have cost."""
    done = shell("costs", "--by", "tag:team")
    assert done.returncode == 0 and "\x1b" not in done.stdout
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["team", "runs", "items", "failed", "worker", "hours", "would", "cost"]
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert rows[0].startswith("an ice team with a") and rows[0].endswith("  $0.42  " + "█" * 11)
    assert "$0.42+?" in rows[1]
    told = r"2% (less|more) than runs before let expect; us-east-1, Fargate x86, prices of 2026-"
    said = rf"would cost: \$0\.84 for 3 runs since 30d, {told}"
    assert re.match(said, done.stderr)


def test_costs_are_drawn(backend: Backend, tmp_path: Path) -> None:
    """A bar each, the dearest on top; a file of another kind is refused."""
    kept(backend, function="simulate_the_currents_of_the_whole_ocean")
    kept(backend, function="score", usd={"compute": Decimal("0.1")})
    rows = costs(since=0.0, backend=backend)
    costs_plot(rows, tmp_path / "costs.svg")
    drawn = (tmp_path / "costs.svg").read_text()
    for text in ("score", "$0.42", "$0.10", "public addresses"):
        assert f"<!-- {text} -->" in drawn
    with pytest.raises(BadInput, match=r"\.png or \.svg"):
        costs_plot(rows, tmp_path / "costs.pdf")


def test_the_command_is_for_machines_too(shell: Shell) -> None:
    """As one JSON document, or as CSV."""
    told = json.loads(shell("costs", "--by", "tag:team", "--since", "2d", "--json").stdout)
    assert (told["by"], told["backend"], told["would_have_cost"], told["region"]) == (
        "tag:team",
        "local",
        True,
        "us-east-1",
    )
    assert {row["name"][:5]: (row["runs"], row["usd"], row["unknown_runs"]) for row in told["rows"]} == {
        "ocean": (2, 0.42, 1),
        "an ic": (1, 0.42, 0),
    }
    assert told["rows"][0]["by_component"] == {"compute": 0.4, "public addresses": 0.02}
    rows = [*csv.DictReader(StringIO(shell("costs", "--csv").stdout))]
    assert [*rows[0]][-2:] == ["priced", "provisional_runs"], "columns keep their places"
    assert [(row["function"], row["runs"], row["failed"], row["usd"]) for row in rows] == [
        ("simulate", "3", "2", "0.84")
    ]


def test_a_warm_fleet_is_idle_while_no_run_has_it(backend: Backend) -> None:
    """A worker of three hours, of which two runs had the first and half of the last one: the rest is told as idle."""
    fleet, began = new_fleet_id(), 1_800_000_000.0
    for lo, hi in ((0.0, 1.0), (2.5, 3.0)):
        times = {"created_at": began + lo * HOUR_S, "ended_at": began + hi * HOUR_S}
        kept(backend, fleet=fleet, slot_seconds=(hi - lo) * HOUR_S, keep_warm_s=7200.0, **times)
    close_account(backend.store, backend.key, fleet, [worker(0, 3.0)], began + 3 * HOUR_S)
    aws = replace(backend, name="aws")
    first, second = sorted(run_costs(aws, 0.0), key=lambda each: each.entry.created_at)
    assert [float(each.worker_hours) for each in (first, second)] == [pytest.approx(1.0), pytest.approx(0.5)]
    runs, idle = costs(since=0.0, backend=aws)
    assert (runs.runs, idle.name, idle.runs, idle.worker_hours) == (2, "(idle)", 0, pytest.approx(1.5))
    assert idle.usd == runs.usd > 0
