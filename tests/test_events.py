"""One record of what happens to a run: what is in it, who reads it, and what is kept. Hours, in a second."""

from __future__ import annotations

import io
import itertools
import logging
import math
import queue
import re
import sys
import threading
import time
from contextlib import closing, nullcontext
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from starburst_common import EventKind, Run, RunEvent, RunState, RunStatus, attach
from starburst_common.cli.status import _rate
from starburst_common.errors import Unavailable
from starburst_common.model import WorkerEnd
from starburst_common.names import RunNames
from starburst_common.progress import left_s, line, progress
from starburst_common.runs.begin import recovered
from starburst_common.runs.events import CURVES, EventRecord, merged
from starburst_common.runs.history import HISTORY_BYTES, History, stored_history
from starburst_common.runs.report import duration
from starburst_common.runs.watching import Watching
from tests.ports import Port
from tests.simulator import Simulation

ITEMS, CHUNK = 4000, 20
TOLD = [kind for kind in EventKind if kind not in CURVES]


@pytest.fixture
def unaided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing starts a thread, or sleeps."""

    def refused(*_: object) -> None:
        raise AssertionError("a thread was started, or somebody slept")

    monkeypatch.setattr(threading.Thread, "start", refused)
    monkeypatch.setattr(time, "sleep", refused)


def kinds(events: list[RunEvent]) -> list[EventKind]:
    """Those of the events that are told one by one."""
    return [event.kind for event in events if event.kind in TOLD]


def test_a_run_of_hours_is_recorded_step_by_step(
    tmp_path: Path, unaided: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Launched, some must wait, one is lost, one taken back, all is settled, ended: each once, by steps alone.

    A step needs no thread, and what is written down is what the log says and what another process reads later.
    """
    simulation = Simulation(tmp_path, item_s=30.0)
    spec = simulation.begin(ITEMS, chunk=CHUNK, workers=12)
    simulation.place.room = 8
    clock, driver, number, read = simulation.clock, simulation.driver(spec), 0, list[RunEvent]()
    clock.after(600, lambda: simulation.worker(spec, 3).stop(WorkerEnd.CRASHED, 137))
    clock.after(900, lambda: simulation.worker(spec, 4).stop(WorkerEnd.SPOT, 143))
    clock.after(1200, lambda: setattr(simulation.place, "room", math.inf))
    began = clock.now
    with caplog.at_level(logging.INFO, "starburst"):
        for _ in simulation.steps(driver):
            read += (new := driver.books.events.since(number))
            number = new[-1].number if new else number
    read += driver.books.events.since(number)
    assert driver.books.state is RunState.SUCCEEDED and clock.now - began > 2.5 * 3600
    assert [event.number for event in read] == sorted({event.number for event in read})
    told = [event for event in read if event.kind in TOLD and event.kind is not EventKind.LAUNCHED]
    assert [event.kind for event in told] == [
        EventKind.READ,
        EventKind.WAITS,  # for room
        EventKind.LOST,
        EventKind.TAKEN,
        EventKind.WAITS,  # for nothing
        EventKind.ENDED,
    ]
    assert told[1].words == "room for more workers"
    assert told[2].words.endswith("-000003 ended badly (crashed): exit code 137")
    assert sum(event.count for event in read if event.kind is EventKind.LAUNCHED) == 14
    settled = [event for event in read if event.kind is EventKind.SETTLED]
    assert (settled[-1].answered, max(event.workers for event in read)) == (ITEMS, 12)
    assert all(later.at - event.at >= 4.99 for event, later in itertools.pairwise(settled))

    lines = [record.getMessage() for record in caplog.records if record.name == "starburst"]
    assert f"run {spec.run}: waiting for room for more workers" in lines
    assert [line for line in lines if "last words" in line] == [
        f"run {spec.run}: {told[2].words}\nthe last words of {spec.fleet}-000003"
    ]
    assert len(lines) == len([kind for kind in kinds(read) if kind is not EventKind.READ])

    kept = attach(spec.run, backend=simulation.backend).events()
    assert kinds(kept) == kinds(read)
    assert [event for event in kept if event.kind in TOLD[:-1]] == [event for event in read if event.kind in TOLD[:-1]]


def test_two_drivers_make_one_record(tmp_path: Path, unaided: None) -> None:
    """One stops without a word, another goes on, a third drives beside it: what the store tells has each thing once."""
    simulation = Simulation(tmp_path, item_s=30.0)
    spec = simulation.begin(ITEMS // 4, chunk=CHUNK, workers=5)
    first = simulation.driver(spec)
    for hours in simulation.steps(first):
        if hours > 0.2:
            break
    simulation.worker(spec, 0).stop(WorkerEnd.CRASHED, 1)
    second, third = simulation.driver(spec), simulation.driver(spec)
    for _ in simulation.steps(second):
        third.step()
    assert third.step()
    events = attach(spec.run, backend=simulation.backend).events()
    assert kinds(events) == [
        EventKind.READ,
        EventKind.LAUNCHED,
        EventKind.LOST,
        EventKind.LAUNCHED,
        EventKind.ENDED,
    ]
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert events[-1].answered == ITEMS // 4


def test_what_a_run_waits_for_is_told_to_other_processes(tmp_path: Path, unaided: None) -> None:
    """By who merely looks, while it waits and once it goes on."""
    simulation = Simulation(tmp_path, item_s=30.0)
    simulation.place.room = 0
    spec = simulation.begin(10, chunk=5, workers=2)
    driver = simulation.driver(spec)
    looked = attach(spec.run, backend=simulation.backend)
    for hours in simulation.steps(driver):
        if hours < 0.1:
            continue
        if not simulation.place.room:
            assert looked.status().reason == "waiting for room for more workers"
            simulation.place.room = 2
        elif 0.12 < hours < 0.13:
            assert looked.status().reason == ""
    assert kinds(looked.events())[1:] == [EventKind.WAITS, EventKind.LAUNCHED, EventKind.WAITS, EventKind.ENDED]


def test_a_quiet_run_costs_no_request_for_its_record(tmp_path: Path, unaided: None) -> None:
    """What is settled is no reason to store anything, but every ten minutes; what else happens is, once."""
    simulation, written = Simulation(tmp_path, item_s=1.0), list[str]()

    def before(method: str, first: Any) -> None:
        if method == "put":
            written.append(first)

    simulation.backend = replace(simulation.backend, store=Port(simulation.backend.store, before))
    spec = simulation.begin(ITEMS, chunk=CHUNK, workers=3)
    for hours in simulation.steps(simulation.driver(spec)):
        assert hours < 0.5
    assert written.count(RunNames(spec.run).history) == 4  # launched; after ten and twenty minutes; ended


def test_a_record_that_cannot_be_written_is_one_outage(tmp_path: Path, unaided: None) -> None:
    """The run goes on, and the outage is told once, not anew at each step; what happened meanwhile is kept after it."""
    simulation, refuses = Simulation(tmp_path, item_s=30.0), [True]

    def before(method: str, first: Any) -> None:
        if method == "put" and refuses[0] and str(first).endswith("/history"):
            raise Unavailable("the store takes no history")

    simulation.backend = replace(simulation.backend, store=Port(simulation.backend.store, before))
    spec = simulation.begin(400, chunk=CHUNK, workers=4)
    driver = simulation.driver(spec)
    for _ in simulation.steps(driver):
        refuses[0] = driver.books.tally.answered < 200
    kept = [EventKind.READ, EventKind.LAUNCHED, EventKind.WAITS, EventKind.WAITS, EventKind.ENDED]
    assert kinds(driver.books.events.since()) == kept
    assert kinds(attach(spec.run, backend=simulation.backend).events()) == kept


def test_the_record_is_bounded(tmp_path: Path) -> None:
    """In memory, with the last and the first of what is told, and points of its curve from beginning to end."""
    events = EventRecord(tick_s=5.0)
    for at in range(20_000):
        events.add(EventKind.SETTLED, 10.0 * at, answered=at)
        if at % 10 == 0:
            events.add(EventKind.RESENT, 10.0 * at, count=at)
    held = events.since()
    assert len(held) <= 1001
    assert (held[-1].answered, held[0].at) == (19_999, 0.0)
    resent = [event.count for event in held if event.kind is EventKind.RESENT]
    assert resent[0] == 0 and resent[-1] == 19_990 and resent == sorted(resent)
    assert events.since(events.number) == []
    assert [event.number for event in events.since(held[-3].number)] == [held[-2].number, held[-1].number]


def test_an_outage_is_waited_for_as_long_as_was_said(tmp_path: Path, unaided: None) -> None:
    """Where nothing was, for as long as it lasts; each outage begins anew."""
    simulation, refuses = Simulation(tmp_path, item_s=30.0), [False]

    def refuse(name: str, *_: object) -> None:
        if refuses[0]:
            raise Unavailable("no network")

    spec = simulation.begin(400, chunk=10, workers=2)
    backend = replace(simulation.backend, store=Port(simulation.backend.store, refuse), outage_s=600.0)
    simulation.backend = backend
    steps = simulation.steps(simulation.driver(spec))
    for lasts_s, more in ((500, True), (500, False), (700, True)):
        began = simulation.clock.now
        refuses[0] = more
        given_up = pytest.raises(Unavailable, match=r"after 10 min .*attach` goes on with the run: no network")
        with given_up if lasts_s > 600 else nullcontext():
            while simulation.clock.now < began + lasts_s:
                next(steps)
    assert simulation.clock.now - began == pytest.approx(600, abs=20)


def test_an_outage_that_was_given_up_is_not_asked_about_anew(tmp_path: Path) -> None:
    """Who waits with progress is told what was given up, and not half a minute later of the outage alone."""
    simulation = Simulation(tmp_path, item_s=30.0)
    spec = simulation.begin(40, chunk=10, workers=2)
    driver = simulation.driver(spec)

    def refuse(name: str, *_: object) -> None:
        raise Unavailable("asked anew")

    driver.books.close(Unavailable("given up"))
    backend = replace(simulation.backend, store=Port(simulation.backend.store, refuse))
    run = Run(backend, spec, driver)
    with pytest.raises(Unavailable, match="given up"), progress(run, True):
        raise driver.books.error or AssertionError


@pytest.mark.parametrize("words", ["", "x" * 5000, "\N{PILE OF POO}" * 5000, "\x00" * 5000])
def test_what_is_stored_of_it_is_small(words: str) -> None:
    """Whatever it says, and however much happened."""
    events = [RunEvent(kind=EventKind.LOST, at=float(at), words=f"{at} {words}") for at in range(3000)]
    events += [RunEvent(kind=EventKind.SETTLED, at=float(at), answered=at) for at in range(3000)]
    body = History(events).sealed(b"k" * 32, "history")
    assert len(body) <= HISTORY_BYTES < 64 << 10
    found = History.read(b"k" * 32, "history", body).events
    assert found[0].words.startswith("0") and found[-1].answered == 2999


def test_to_store_it_again_adds_nothing() -> None:
    """Whatever of it is there already, from whomever."""
    events = [
        RunEvent(kind=kind, at=float(at), words=f"{kind} {at}", answered=at)
        for at, kind in enumerate([*EventKind, *EventKind])
        if kind is not EventKind.WORKERS
    ]
    once = merged(events)
    assert len(once) == len(events)
    assert merged(once, once) == merged(once, once[3:]) == merged(once[:7], once) == once


def test_a_record_that_cannot_be_read_is_begun_anew(tmp_path: Path, unaided: None) -> None:
    """It stops nobody: the driver replaces it at the next thing that happens."""
    simulation = Simulation(tmp_path, item_s=30.0)
    spec = simulation.begin(40, chunk=5, workers=2)
    names, driver = RunNames(spec.run), simulation.driver(spec)
    simulation.backend.store.put(names.history, b"junk")
    assert (stored_history(simulation.backend, names), kinds(driver.books.events.since())) == ([], [EventKind.READ])
    assert attach(spec.run, backend=simulation.backend).events() == []
    for _ in simulation.steps(driver):
        pass
    told = attach(spec.run, backend=simulation.backend).events()
    assert kinds(told) == [EventKind.READ, EventKind.LAUNCHED, EventKind.ENDED]


# --- who shows it -----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """What is shown there."""

    def isatty(self) -> bool:
        return True


def test_who_watches_sleeps_until_something_happens(tmp_path: Path) -> None:
    """One status for what happened so far, none while nothing does, the last at the end; `close` wakes it as well."""
    simulation = Simulation(tmp_path, item_s=1.0)
    spec = simulation.begin(40, chunk=5, workers=2)
    run = Run(simulation.backend, spec, None)
    seen: queue.Queue[RunStatus | None] = queue.Queue()

    def read(watching: Watching) -> None:
        for status in watching:
            seen.put(status)
        seen.put(None)

    with closing(Watching(run, every_s=0.01)) as watching:
        reader = threading.Thread(target=read, args=[watching])
        reader.start()
        run._held.driver = driver = simulation.driver(spec)
        assert seen.get(timeout=60).answered == 0  # type: ignore[union-attr]
        with pytest.raises(queue.Empty):
            seen.get(timeout=0.3)
        for _ in simulation.steps(driver):
            pass
        *_, last = iter(lambda: seen.get(timeout=60), None)
        assert last is not None and (last.state, last.answered) == (RunState.SUCCEEDED, 40)
        reader.join(60)
    other = Watching(run, every_s=3600.0)
    reader = threading.Thread(target=read, args=[other])
    reader.start()
    other.close()
    reader.join(60)
    assert not reader.is_alive()


def test_a_bar_is_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which draws when something happens; at the end it shows all, whatever was drawn before."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    simulation = Simulation(tmp_path, item_s=1.0)
    spec = simulation.begin(40, chunk=5, workers=2)
    run, before = Run(simulation.backend, spec, simulation.driver(spec)), threading.active_count()
    with progress(run, None):
        assert threading.active_count() == before + 1
        for _ in simulation.steps(run._held.driver):  # type: ignore[arg-type]
            pass
    assert threading.active_count() == before
    assert "40/40" in terminal.getvalue() and "succeeded" in terminal.getvalue()


def test_the_time_left_is_by_the_time_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the wait for a first worker, whoever asks: two workers of ten seconds an item answer 0.2 a second."""
    simulation = Simulation(tmp_path, item_s=10.0, start_s=3600.0)
    spec = simulation.begin(100, chunk=5, workers=2)
    monkeypatch.setattr(time, "time", simulation.clock.time)
    here = Run(simulation.backend, spec, simulation.driver(spec))
    steps = simulation.steps(here._held.driver)  # type: ignore[arg-type]
    while here.status().answered < 50:
        next(steps)
    attached = Run(simulation.backend, spec, recovered(simulation.backend, spec))
    for now in (here.status(), Run(simulation.backend, spec, None).status(), attached.status()):
        assert now.rate == pytest.approx(0.2, rel=0.15) and left_s(now) == pytest.approx(250, rel=0.15)
        assert f"about {duration(left_s(now) or 0)} left" in line(now)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress(here, None):
        pass
    assert re.search(r"0:0[34]:\d\d", terminal.getvalue())
    for _ in steps:
        pass
    assert _rate(here.events(), here.status()) == pytest.approx(0.2, rel=0.15)


def test_the_report_tells_what_happened(tmp_path: Path, unaided: None) -> None:
    """When, as far from the start, of a run that another process drove; its curve goes to the last answer."""
    simulation = Simulation(tmp_path, item_s=60.0)
    spec = simulation.begin(400, chunk=10, workers=4)
    simulation.clock.after(600, lambda: simulation.worker(spec, 0).stop(WorkerEnd.CRASHED, 9))
    for _ in simulation.steps(simulation.driver(spec)):
        pass
    run = attach(spec.run, backend=simulation.backend)
    page = unescape(bytes(simulation.backend.store.get(run.report())).decode())
    (points,) = re.findall(r'<polygon points="([^"]+)"', page)
    assert points.startswith("0.0,100.0 ") and points.endswith(" 1000.0,0.0 1000,100 0,100")
    assert f"<td>worker {spec.fleet}-000000 ended badly (crashed): exit code 9</td>" in page
    assert re.search(r">1 h 5\d min</td><td>ended: succeeded<", page)
