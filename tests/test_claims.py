"""Whose a run is: tries of an orchestrator's task agree by claims, and an old one never ends what a new one has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from starburst_common import Cluster, Failure, NotFound, Refused, Run, RunState, attach
from starburst_common.ids import new_run_id
from starburst_common.ports import Backend
from starburst_common.runs.claims import Claim, Claims, Stage, newest_of
from starburst_common.runs.prune import prune
from starburst_common.spi import answer_of, driver_of, run_of, start_as

DAY_S = 86400.0


@pytest.fixture
def cluster(backend: Backend) -> Iterator[Cluster]:
    """One worker, for the runs of a test."""
    with Cluster(backend=backend, workers=1, progress=False) as opened:
        yield opened


def claimed(claims: Claims, run: Run | None = None, stage: Stage = Stage.HELD) -> Claim:
    """The next claim, of a run or of one that never began."""
    made = claims.add(claims.last(), run=new_run_id() if run is None else run.id, stage=stage, about={"code": "1"})
    assert made is not None
    return made


def test_of_several_tries_at_once_one_has_the_next_claim(backend: Backend) -> None:
    """The others are told, and find the one that has it."""
    claims = Claims(backend, "a" * 64, "me")
    assert claims.last() is None
    with ThreadPoolExecutor(8) as pool:
        made = [*pool.map(lambda _: claims.add(None, run=new_run_id(), stage=Stage.INTENDED, about={}), range(8))]
    assert [each for each in made if each is not None] == [claims.last()]


def test_a_claim_that_nobody_signed_is_refused(backend: Backend) -> None:
    """Else who can write to the store could have a run ended, or taken for another."""
    claims = Claims(backend, "a" * 64, "me")
    claimed(claims)
    other = Claims(replace(backend, key=b"0" * 32), "a" * 64, "me")
    with pytest.raises(Refused):
        other.last()


def test_who_is_not_the_last_cannot_end_the_run(backend: Backend, cluster: Cluster) -> None:
    """A trigger that hears late of a clear leaves the new try's run alone."""
    run, claims = cluster.start(time.sleep, [0.0]), Claims(backend, "b" * 64, "me")
    claimed(claims, run)
    new = claimed(Claims(backend, "b" * 64, "another"), run)
    assert not claims.cancel()
    assert claims.last() == new
    assert run.wait().state is RunState.SUCCEEDED


def test_who_is_the_last_ends_the_run_and_may_say_so_twice(backend: Backend, cluster: Cluster) -> None:
    """What was answered stays; a later try goes on with the rest."""
    run, claims = cluster.start(time.sleep, [0.0, 600.0], chunk_size=1), Claims(backend, "c" * 64, "me")
    claimed(claims, run)
    next(iter(run.iter_completed()))
    assert claims.cancel()
    assert claims.cancel()
    assert run.wait(120).state is RunState.CANCELLED
    last = claims.last()
    assert last is not None and (last.stage, last.run, last.about) == (Stage.CANCELLED, run.id, {"code": "1"})


def test_a_cancel_that_comes_late_meets_the_leg_that_it_meant(backend: Backend, cluster: Cluster) -> None:
    """Its process may die, or sleep, between its claim and what it does: the run that was resumed since goes on."""
    run, claims = cluster.start(time.sleep, [0.0, 600.0], chunk_size=1), Claims(backend, "d" * 64, "me")
    claimed(claims, run)
    assert claims.cancel()
    cancelled = claims.last()
    assert cancelled is not None
    run.wait(120)
    again = attach(run.id, backend=backend)
    again.resume()
    claims.finish(cancelled)
    time.sleep(1.0)
    assert again.status().state is RunState.RUNNING
    again.cancel()


def test_claims_are_kept_as_long_as_their_run(backend: Backend, cluster: Cluster) -> None:
    """And those of a run that never began as long as any would be."""
    run, claims, other = (
        cluster.start(time.sleep, [0.0]),
        Claims(backend, "e" * 64, "me"),
        Claims(backend, "f" * 64, "me"),
    )
    claimed(claims, run)
    claimed(other)
    run.wait()
    run.extend(5 * DAY_S)
    prune(backend, now=time.time() + 6.9 * DAY_S)
    assert claims.last() is not None and other.last() is not None
    prune(backend, now=time.time() + 7.1 * DAY_S)
    assert claims.last() is not None and other.last() is None
    prune(backend, now=time.time() + 12.1 * DAY_S)
    assert claims.last() is None
    assert [*backend.store.list("claims/")] == []


def test_a_run_begins_under_an_id_that_was_made_before(backend: Backend, cluster: Cluster) -> None:
    """So it is found by who knows that id alone, and driven by steps."""
    name = new_run_id()
    assert start_as(name, cluster, abs, [-1, -2]).id == name
    driver = driver_of(name, backend)
    run = run_of(driver)
    while not driver.step(0.2):
        assert run.status().state is RunState.RUNNING
    assert run.status().state is RunState.SUCCEEDED
    assert attach(name, backend=backend).results() == [1, 2]


def fails_once(item: int, seen: str) -> int:
    """Odd items fail at their first call."""
    mark = Path(seen) / str(item)
    if item % 2 and not mark.exists():
        mark.touch()
        raise ValueError(item)
    return item * 10


def test_one_answer_is_had_alone(backend: Backend, cluster: Cluster, tmp_path: Path) -> None:
    """Of whichever run of a family has it; a value before a failure, and what was never asked for is not found."""
    run = cluster.start(fails_once, range(4), [str(tmp_path)] * 4, return_exceptions=True)
    run.wait()
    failed = answer_of(run.id, 3, backend)
    assert isinstance(failed, Failure) and (failed.index, failed.error) == (3, "ValueError")
    again = run.retry_failed()
    again.wait()
    assert newest_of(backend, run.id) == again.id
    assert [answer_of(run.id, index, backend) for index in range(4)] == [0, 10, 20, 30]
    assert answer_of(again.id, 0, backend) == 0
    for nothing in (4, -1):
        with pytest.raises(NotFound):
            answer_of(run.id, nothing, backend)
