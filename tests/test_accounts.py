"""What is kept of a run beyond it, for whoever counts costs: one entry, whoever ends the run."""

from __future__ import annotations

import getpass
import hmac
import time
from contextlib import nullcontext
from dataclasses import replace
from decimal import Decimal

import pytest

from starburst_common import Cluster, RunState, attach
from starburst_common.aws.accounts import close_account
from starburst_common.errors import Refused, UnknownVersion
from starburst_common.limits import Limits
from starburst_common.model import Failure, FailureKind, Outcome, RunId, Span, Tariff
from starburst_common.money.accounts import AccountEntry
from starburst_common.names import ACCOUNTS, RunNames, account
from starburst_common.ports import Backend
from starburst_common.runs.accounts import keep_entry, read_entry
from starburst_common.runs.costs import run_costs
from starburst_common.runs.legs import End
from starburst_common.runs.outcomes import outcome_parts, read_summary
from starburst_common.runs.prune import prune
from starburst_common.runs.spec import begin_leg, read_spec, write_end
from starburst_common.runs.tally import Tally
from starburst_common.wire.seals import HEAD_BYTES, WIRE_VERSION
from tests.test_costs import worker
from tests.test_kept import ended
from tests.test_wire import A_CHUNK, KEY

MONTH_S = 30 * 86400.0


def odd_fails(number: int) -> int:
    """What every second item fails with."""
    if number % 2:
        raise ValueError(number)
    return number


def takes_mib(number: int) -> int:
    """So much, for as long as it is called."""
    return len(bytearray(number << 20)) >> 20


def entries(backend: Backend) -> list[AccountEntry]:
    """All of them."""
    return [read_entry(backend, key) for key in backend.store.list(ACCOUNTS)]


def the_entry(backend: Backend) -> AccountEntry:
    """The only one."""
    (entry,) = entries(backend)
    return entry


def test_a_run_leaves_one_entry_which_outlives_it(backend: Backend) -> None:
    """It tells who ran what, for what, how that ended and what it would have cost; pruning leaves it alone."""
    tags = {"airflow-dag": "nightly", "team": "ocean"}
    with Cluster(workers=1, cpu=2, memory="8GB", backend=backend) as cluster:
        cluster.map(odd_fails, range(8), label="l", tags=tags, return_exceptions=True)
    (run,) = prune(backend, now=time.time() + MONTH_S)
    entry = the_entry(backend)
    assert (entry.run, entry.function, entry.label, entry.dag, entry.tags) == (run, "odd_fails", "l", "nightly", tags)
    assert entry.who.startswith(f"{getpass.getuser()}@")
    assert (entry.items, entry.succeeded, entry.failed, entry.state) == (8, 4, {"user": 4}, RunState.FAILED)
    assert (entry.workers, entry.cpu, entry.memory_mib, entry.slots) == ({"local": 1}, 2, 8192, 2)
    assert entry.created_at < entry.ended_at < entry.created_at + 60
    minute = (2 * Decimal("0.04048") + 8 * Decimal("0.004445")) / 60  # one worker, billed for one minute at least
    assert {name: round(usd, 9) for name, usd in entry.usd.items()} == {
        "compute": round(minute, 9),
        "public addresses": round(Decimal("0.005") / 60, 9),
    }
    assert entry.prices and entry.prices_as_of
    assert entry.attempts >= 1


def test_an_entry_tells_the_most_that_a_slot_took(backend: Backend) -> None:
    """The item that took most is over by then, and its memory given back."""
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        cluster.map(takes_mib, [1, 100, 1], chunk_size=1)
        run = cluster.start(takes_mib, [100])
        run.wait()
        assert 100 < run.status().memory_mib < 250
    assert {100 < entry.memory_peak_mib < 250 for entry in entries(backend)} == {True}


def test_a_run_that_was_resumed_has_one_entry_of_all_its_legs(backend: Backend) -> None:
    """Each leg has its fleet; the slot time of all of them counts. While it goes on again, its entry is of before."""
    stopped = End(state=RunState.STOPPED, items=8, answered=3, failed=2, slot_seconds=60.0, workers=1, ended_at=1.0)
    run = ended(backend, end=stopped)
    keep_entry(backend, run)
    begin_leg(backend, run, 0, forgiven=2)
    keep_entry(backend, run)
    first = the_entry(backend)
    assert (first.state, [stint.slot_seconds for stint in first.stints]) == (RunState.STOPPED, [60.0])
    whole = replace(stopped, state=RunState.FAILED, answered=8, slot_seconds=100.0, workers=2, ended_at=2.0)
    write_end(backend, run, 1, whole)
    keep_entry(backend, run)
    entry = the_entry(backend)
    assert (entry.state, entry.succeeded, entry.workers) == (RunState.FAILED, 6, {"local": 2})
    assert [stint.slot_seconds for stint in entry.stints] == [60.0, 40.0]
    assert len({stint.fleet for stint in entry.stints}) == 2


def test_what_a_resumed_run_has_cost_is_what_its_workers_were_charged_for(backend: Backend) -> None:
    """Also those of the leg before, which went on when that ended; its budget is beside what they cost."""
    began, each = 1_800_000_000.0, worker(0, 1.0)  # from then on, for an hour
    end = End(state=RunState.STOPPED, items=8, answered=3, workers=1, ended_at=began + 3570, spent_usd=0.12)
    place = replace(backend, charged=True, tariff=Tariff())
    run = ended(place, end=end)
    fleet = read_spec(place, run).fleet
    close_account(place.store, place.key, fleet, [replace(each, started_at=began)], began + 3600)
    begin_leg(place, run, 0, forgiven=0, limits=Limits(budget_usd=1.0))
    status = attach(run, backend=place).status()
    usd = 0.12 + 30 / 3600 * (2 * 0.04048 + 8 * 0.004445 + 0.005)
    assert status.spent_usd == pytest.approx(Decimal(usd)) and status.budget_usd == pytest.approx(1 + usd)


def test_failures_are_counted_by_kind_however_many_there_are() -> None:
    """An outcome's summary tells how many of each; one that is taken out of the books counts no more."""
    chunk = replace(A_CHUNK, span=Span(0, 400))
    kinds = [FailureKind.USER, FailureKind.OOM, FailureKind.USER, FailureKind.TIMEOUT]
    failures = tuple(Failure(index=n, kind=kinds[n % 4], error="E", message="") for n in range(400))
    outcome = Outcome(span=chunk.span, worker="w", seconds=1.0, failures=failures)
    parts = outcome_parts(KEY, "key", outcome)
    tally = Tally()
    tally.plan([chunk])
    body = b"".join(parts)
    tally.settle(read_summary(KEY, "key", body, len(body)))
    assert tally.kinds == {"user": 200, "oom": 100, "timeout": 100}
    tally.reopen(chunk)
    assert not tally.kinds


@pytest.mark.parametrize("how", ["pruned", "removed", "twice"])
def test_whoever_comes_next_writes_an_entry_that_lacks(backend: Backend, how: str) -> None:
    """Who ended the run died before that; the one who looks next does it, and twice is the same."""
    run = ended(backend)
    if how == "pruned":
        assert prune(backend, now=time.time() + MONTH_S) == [run]
    elif how == "removed":
        attach(run, backend=backend).remove()
    else:
        keep_entry(backend, run)
        body = bytes(backend.store.get(account(run)))
        keep_entry(backend, run)
        assert bytes(backend.store.get(account(run))) == body
    assert the_entry(backend).run == run
    assert [*backend.store.list(RunNames(run).folder)] == [] or how == "twice"


def test_an_entry_of_an_earlier_release_is_read_and_one_of_a_later_is_not(backend: Backend) -> None:
    """What runs have cost outlives upgrades; their own documents are of one release."""
    run = ended(backend)
    key, spec = keep_entry(backend, run), RunNames(run).spec
    entry = read_entry(backend, key)
    for version, known in ((WIRE_VERSION - 1, True), (WIRE_VERSION + 1, False)):
        for place in (key, spec):
            body = memoryview(bytes(backend.store.get(place)))[HEAD_BYTES:]
            mac = hmac.new(backend.key, f"{version}\0{place}\0".encode() + body, "sha256").digest()
            backend.store.put(place, b"".join([b"SBW", bytes([version]), mac, body]))
        with nullcontext() if known else pytest.raises(UnknownVersion):
            assert read_entry(backend, key) == entry
        with pytest.raises(UnknownVersion):
            read_spec(backend, run)


def test_an_entry_is_of_the_month_of_its_run_and_sealed(backend: Backend) -> None:
    """So whoever asks for a month reads no other; one that is another's, or was changed, is refused."""
    assert account(RunId("run-20261130-235959-0a1b2c3d")) == "accounts/2026-11/run-20261130-235959-0a1b2c3d"
    run = ended(backend)
    keep_entry(backend, run)
    body = bytes(backend.store.get(account(run)))
    other = account(RunId("run-20261130-235959-0a1b2c3d"))
    backend.store.put(other, body)
    with pytest.raises(Refused):
        read_entry(backend, other)


def test_entries_that_are_left_out_are_told_in_a_line(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    """However many there are: the first by its name, the others by their number."""
    for number in range(3):
        backend.store.put(account(RunId(f"run-20261130-235959-0a1b2c{number:02}")), b"nobody's")
    assert run_costs(backend, 0.0) == []
    (told,) = [record.message for record in caplog.records if record.message.startswith("left out of the costs")]
    assert told.endswith("; and 2 more") and "0a1b2c00" in told
