"""Whoever attaches while a run's input still comes waits for it, whatever the feeder does; only a dead one ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest

from starburst_common import (
    Cluster,
    Denied,
    InputLost,
    RunCancelled,
    RunState,
    StarburstExecutor,
    Unavailable,
    attach,
    list_runs,
    starburst_map,
)
from starburst_common.code.pack import pack_function
from starburst_common.errors import Exists
from starburst_common.fleets.fleet import Fleet
from starburst_common.ids import new_run_id
from starburst_common.model import RunId
from starburst_common.names import FLEETS, RUNS, RunNames
from starburst_common.options import Options
from starburst_common.ports import Backend
from starburst_common.runs.begin import begin
from starburst_common.runs.feed import Feed
from starburst_common.runs.patience import create_ours, raised
from starburst_common.runs.records import Spec
from starburst_common.runs.sign import Watch, read_sign, unfed
from tests.calls import add, after
from tests.faults.conftest import Bed, LocalBed, on_both

PATIENCE_S = 120.0
SHORT_S = 2.0  #: after which a feeder that gives no sign is lost, where one is
LONG_S = 6.0  #: the same where one lives, maybe on a busy machine

READER = """
import sys
from dataclasses import dataclass, replace
from starburst_common import StarburstError, attach
from tests.places import open_place
run = attach(sys.argv[2], backend=replace(open_place(sys.argv[1]), feeder_lost_s=float(sys.argv[3])))
try:
    for index, value in run.iter_completed():
        print(index, value, flush=True)
except StarburstError as error:
    print(type(error).__name__, error, flush=True)
print(run.wait().state, flush=True)
"""

FEEDER = """
import sys
from dataclasses import dataclass, replace
from starburst_common import StarburstExecutor
from tests.calls import add
from tests.places import open_place
backend = open_place(sys.argv[1]).paced(feeder_lost_s=float(sys.argv[2]), idle_s=1.0)
executor = StarburstExecutor(1, backend=backend)
print(executor.submit(add, 1, 1).result(), executor.run_id, flush=True)
for line in sys.stdin:
    try:
        print(executor.submit(add, int(line), 0).result(), flush=True)
    except BaseException as error:
        print(type(error).__name__, error, flush=True)
"""


class Process:
    """Another Python, line by line."""

    def __init__(self, code: str, *args: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def said(self) -> str:
        """Its next line."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self, line: str) -> None:
        """A line for it."""
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)

    def signal(self, number: int) -> None:
        """Signal it."""
        self._process.send_signal(number)

    def end(self) -> list[str]:
        """What it says until it ends."""
        said, _ = self._process.communicate(timeout=PATIENCE_S)
        return said.split("\n")[:-1]

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def process() -> Iterator[Callable[..., Process]]:
    """Starts processes, none of which outlives the test."""
    made: list[Process] = []

    def start(code: str, *args: object) -> Process:
        made.append(Process(code, *args))
        return made[-1]

    yield start
    for each in made:
        each.kill()


class Port:
    """A port of a backend, before each of whose calls something is done."""

    def __init__(self, real: Any, before: Callable[[str, Any], None]) -> None:
        self._real, self._before = real, before

    def __getattr__(self, method: str) -> Any:
        real = getattr(self._real, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._before(method, args[0] if args else None)
            return real(*args, **kwargs)

        return call if callable(real) else real


def signs(backend: Backend, run: RunId, number: int, bed: Bed) -> None:
    """Wait for so many signs of a feeder."""
    seen: set[bytes] = set()

    def enough() -> bool:
        sign = read_sign(backend, run)
        assert sign is not None
        seen.add(sign.body)
        return len(seen) >= number

    bed.until(enough)


@on_both
def test_an_executors_run_goes_on_beside_its_readers(bed: Bed, process: Callable[..., Process]) -> None:
    """Two who attach while it lives get every answer, also of calls that come later, and its calls go on."""
    backend = replace(bed.backend, feeder_lost_s=LONG_S)
    with StarburstExecutor(1, backend=backend) as executor:
        assert executor.submit(add, 1, 1).result(PATIENCE_S) == 2
        run = RunId(str(executor.run_id))
        readers = [process(READER, bed.text, run, LONG_S) for _ in range(2)]
        assert [reader.said() for reader in readers] == ["0 2", "0 2"]
        signs(backend, run, 8, bed)  # so that a feeder who gives none would be lost by now
        assert attach(run, backend=backend).status().reason == "its input is still being read"
        assert executor.submit(add, 2, 2).result(PATIENCE_S) == 4
        assert [reader.said() for reader in readers] == ["1 4", "1 4"]
    assert [reader.end() for reader in readers] == [["succeeded"]] * 2
    assert read_sign(backend, run) is None


@pytest.mark.parametrize("fails", [False, True])
def test_a_generators_run_goes_on_beside_its_reader(
    local_bed: LocalBed, process: Callable[..., Process], fails: bool
) -> None:
    """Who attaches while the generator waits gets what it yields later; where it raises, both are told so at once."""
    backend, more = local_bed.backend, threading.Event()

    def numbers() -> Iterator[int]:
        yield from range(3)
        assert more.wait(PATIENCE_S)
        yield 3
        if fails:
            raise ValueError("no more")

    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        run = cluster.start(add, numbers())
        reader = process(READER, local_bed.text, run.id, 3600.0)
        first = [reader.said() for _ in range(3)]
        assert run.status().reason == "its input is still being read"
        more.set()
        if fails:
            with pytest.raises(ValueError, match="no more"):
                run.results(timeout=PATIENCE_S)
        else:
            assert run.results(timeout=PATIENCE_S) == [0, 1, 2, 3]
        *last, state = reader.end()
        assert sorted([*first, *last[:1]]) == ["0 0", "1 1", "2 2", "3 3"]
        assert state == ("stopped" if fails else "succeeded")
        assert [line.partition(": ")[2].startswith("reading the input failed: ValueError") for line in last[1:]] == (
            [True] if fails else []
        )


@pytest.mark.parametrize("ends", ["whole", "unpicklable", "cancelled"])
def test_a_list_is_stored_on_beside_its_reader(
    local_bed: LocalBed, process: Callable[..., Process], ends: Literal["whole", "unpicklable", "cancelled"]
) -> None:
    """Who attaches while a slow store takes the items waits for the rest, or is told that there is none."""
    stored, go_on = threading.Event(), threading.Event()

    def slow(method: str, key: Any) -> None:
        if (method == "create" and str(key).endswith("/input")) or (ends != "whole" and "/packs/" in str(key)):
            stored.set()
            assert go_on.wait(PATIENCE_S)

    backend = replace(local_bed.backend, store=Port(local_bed.backend.store, slow))
    items: list[Any] = [*range(12)]
    if ends == "unpicklable":
        items = [bytes(17 << 20), threading.Lock()]
    elif ends == "cancelled":
        items = [bytes(17 << 20), *range(12)]
    with Cluster(workers=1, backend=backend, progress=False) as cluster, ThreadPoolExecutor(2) as pool:
        started = pool.submit(cluster.start, type, items)
        assert stored.wait(PATIENCE_S)
        (run,) = list_runs(backend=local_bed.backend)
        if ends == "unpicklable":
            reading = pool.submit(run.results, timeout=PATIENCE_S)
            local_bed.until(lambda: run._held.driver is not None)
            go_on.set()
            with pytest.raises(ValueError, match=r"item 1 .* cannot be pickled"):
                started.result(PATIENCE_S)
            with pytest.raises(InputLost, match="gave it up before its input was whole"):
                reading.result(PATIENCE_S)
            assert local_bed.backend.store.folders(RUNS) == []
            return
        reader = process(READER, local_bed.text, run.id, 3600.0)
        if ends == "whole":
            first = [reader.said() for _ in range(12)]
            go_on.set()
            assert started.result(PATIENCE_S).results(timeout=PATIENCE_S) == [int] * 12
            assert (len(set(first)), reader.end()) == (12, ["succeeded"])
        else:
            run.cancel()
            go_on.set()
            with suppress(RunCancelled):  # at once, or where its results are asked for
                started.result(PATIENCE_S).results(timeout=PATIENCE_S)
                raise AssertionError("it was cancelled")
            assert reader.end()[-1] == "cancelled"


@on_both
def test_a_killed_feeder_is_found_by_its_stale_sign(bed: Bed, process: Callable[..., Process]) -> None:
    """Both readers end the run as one whose input is lost, with all that was answered, and not before the time."""
    feeder = process(FEEDER, bed.text, SHORT_S)
    two, name = feeder.said().split()
    assert (two, unfed(replace(bed.backend, feeder_lost_s=LONG_S), [RunId(name)])) == ("2", set())
    feeder.kill()
    run = attach(name, backend=replace(bed.backend, feeder_lost_s=SHORT_S))
    reader = process(READER, bed.text, name, SHORT_S)
    with pytest.raises(InputLost, match="died while reading its input: 1 items were stored"):
        run.results(timeout=PATIENCE_S)
    said = reader.end()
    assert (said[0], said[1].partition(" ")[0], said[2]) == ("0 2", "InputLost", "stopped")
    assert unfed(run._backend, [run.id]) == set()  # it has an end


def test_a_feeder_that_slept_too_long_is_told(local_bed: LocalBed, process: Callable[..., Process]) -> None:
    """SIGSTOP until a reader has ended its run: its executor is broken, and says why."""
    feeder = process(FEEDER, local_bed.text, SHORT_S)
    _, name = feeder.said().split()
    feeder.signal(signal.SIGSTOP)
    run = attach(name, backend=replace(local_bed.backend, feeder_lost_s=SHORT_S))
    assert run.wait(PATIENCE_S).state is RunState.STOPPED
    feeder.signal(signal.SIGCONT)
    feeder.tell("3")
    said = feeder.said()
    assert said.startswith(BrokenExecutor.__name__) and "died while reading its input" in said
    with suppress(OSError):
        feeder.end()


def test_a_reader_counts_only_what_it_could_see(backend: Backend) -> None:
    """A sign is stale once it was seen unchanged all the time: neither after an outage nor where the reader slept."""
    now, down = [0.0], [False]

    def outage(method: str, key: Any) -> None:
        if down[0]:
            raise Unavailable("the store is down")

    names = RunNames(new_run_id())
    watch = Watch(replace(backend, store=Port(backend.store, outage), feeder_lost_s=30.0), names.run, lambda: now[0])

    def looked(at: float) -> bool:
        now[0] = at
        watch.look()
        return watch.lost

    backend.store.put(names.feeding, b'{"word": "a"}')
    assert [looked(at) for at in (0, 20, 30)] == [False, False, False]
    assert looked(31)
    backend.store.put(names.feeding, b'{"word": "b"}')
    assert not looked(40)
    assert [looked(at) for at in (100, 120, 130)] == [False, False, False]  # it slept from 40 to 100
    down[0] = True
    with pytest.raises(Unavailable):
        looked(131)
    down[0] = False
    assert [looked(at) for at in (135, 150, 165)] == [False, False, False]
    assert looked(166)
    backend.store.put(names.feeding, b"\xff no sign of ours")
    assert not looked(170)  # but somebody's
    backend.store.delete([names.feeding])
    assert looked(171)


class Flaky:
    """Has each call of the ports that store and send fail at its first try, before it is done or when it is."""

    def __init__(self, *, done: bool) -> None:
        self._done, self._tried = done, set[tuple[str, str]]()
        self.on = False

    def of(self, backend: Backend) -> Backend:
        """The backend, so."""
        return replace(backend, store=self._port(backend.store), queue=self._port(backend.queue))

    def _port(self, real: Any) -> Any:
        flaky = self

        class _Port:
            def __getattr__(self, method: str) -> Any:
                call = getattr(real, method)

                def called(*args: Any, **kwargs: Any) -> Any:
                    mark = (method, str(args[0] if args else ""))
                    if method not in ("create", "put", "send", "ensure") or mark in flaky._tried or not flaky.on:
                        return call(*args, **kwargs)
                    flaky._tried.add(mark)
                    if flaky._done:
                        call(*args, **kwargs)
                    raise Unavailable(f"no answer to {method}")

                return called

        return _Port()


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("kind", ["executor", "generator", "list"])
def test_an_outage_is_waited_for_by_who_feeds(bed: Bed, kind: str, done: bool) -> None:
    """Each write fails once, or is done and its answer lost: every item is answered, and nobody sees an error."""
    flaky = Flaky(done=done)
    flaky.on = True
    backend = flaky.of(bed.backend)
    if kind == "executor":
        with StarburstExecutor(1, backend=backend) as executor:
            assert list(executor.map(add, range(6), range(6))) == [*range(0, 12, 2)]
    else:
        flaky.on = False
        with Cluster(workers=1, backend=backend, progress=False) as cluster:
            flaky.on = True
            items: Any = range(6) if kind == "list" else (item for item in range(6))
            assert cluster.map(add, items) == [*range(6)]
            flaky.on = False


def test_status_names_the_outage_that_a_feeder_waits_for(local_bed: LocalBed) -> None:
    """To every process, for as long as it lasts; then the run goes on."""
    down = [True]

    def outage(method: str, key: Any) -> None:
        if down[0] and "/packs/" in str(key):
            raise Unavailable("the disk is away")

    backend = replace(local_bed.backend, store=Port(local_bed.backend.store, outage))
    with StarburstExecutor(1, backend=backend) as executor:
        run = executor.start()
        future = executor.submit(add, 1, 1)
        elsewhere = attach(run.id, backend=local_bed.backend)
        local_bed.until(lambda: run.status().reason == "waiting for the disk is away")
        local_bed.until(lambda: elsewhere.status().reason == "waiting for the disk is away")
        down[0] = False
        assert future.result(PATIENCE_S) == 2
        local_bed.until(lambda: run.status().reason == "its input is still being read")
        local_bed.until(lambda: elsewhere.status().reason == "its input is still being read")


@pytest.mark.parametrize("kind", ["executor", "generator", "list"])
def test_what_no_patience_helps_against_ends_it_in_words(local_bed: LocalBed, kind: str) -> None:
    """Denied: nobody waits for it."""

    def denied(method: str, key: Any) -> None:
        if "/packs/" in str(key):
            raise Denied("s3:PutObject is not allowed: grant it")

    backend = replace(local_bed.backend, store=Port(local_bed.backend.store, denied))
    if kind == "executor":
        executor = StarburstExecutor(1, backend=backend)
        with pytest.raises(BrokenExecutor, match="PutObject is not allowed: grant it"):
            executor.submit(add, 1, 1).result(PATIENCE_S)
        executor.shutdown()
        return
    with pytest.raises(Denied, match="PutObject is not allowed: grant it"):
        starburst_map(add, [1, 2] if kind == "list" else iter([1, 2]), workers=1, backend=backend, progress=False)
    if kind == "list":
        assert local_bed.backend.store.folders(RUNS) == []


def test_an_outage_that_outlasts_patience_leaves_nothing_of_a_list(local_bed: LocalBed) -> None:
    """It is raised to who waits for the run to begin."""

    def outage(method: str, key: Any) -> None:
        if "/plan/" in str(key):
            raise Unavailable("the store is down")

    store = Port(local_bed.backend.store, outage)
    backend = replace(local_bed.backend, store=store, patience_s=0.01)
    with pytest.raises(Unavailable, match="the store is down"):
        starburst_map(add, [1, 2], workers=1, backend=backend, progress=False)
    assert local_bed.backend.store.folders(RUNS) == []


def test_who_is_interrupted_as_a_run_has_begun_has_it_cancelled(local_bed: LocalBed) -> None:
    """Ctrl-C comes while `start` is about to return: nobody has the run who could end it, and its workers stop."""

    def interrupt(method: str, first: Any) -> None:
        if method == "delete" and first[0].endswith("/feeding"):
            raise KeyboardInterrupt

    backend = replace(local_bed.backend, store=Port(local_bed.backend.store, interrupt))
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        with pytest.raises(KeyboardInterrupt):
            cluster.start(after, [0.0, 600.0])
        (run,) = list_runs(backend=local_bed.backend)
        assert run.wait(PATIENCE_S).state is RunState.CANCELLED


@pytest.mark.parametrize("where", ["create /packs/", "create /plan/", "send -work"])
@pytest.mark.parametrize("done", [False, True])
def test_what_a_flush_left_undone_the_next_one_does(bed: Bed, where: str, done: bool) -> None:
    """Whichever step fails, and whether it was done or not: items that came meanwhile go with the next parcel."""
    method, _, part = where.partition(" ")
    failing = [True]

    class Failing:
        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            real = getattr(self._real, name)

            def call(*args: Any, **kwargs: Any) -> Any:
                fails = name == method and part in str(args[0]) and failing[0]
                if done or not fails:
                    real(*args, **kwargs)
                if fails:
                    failing[0] = False
                    raise Unavailable("no answer")

            return call if name in ("create", "send") else real

    backend = replace(bed.backend, store=Failing(bed.backend.store), queue=Failing(bed.backend.queue))
    fleet = Fleet.of(backend, Options.of(workers=1).resources, 1)
    spec = Spec.of(new_run_id(), fleet, "add", Options.of(workers=1), stop_at_first=False)
    planned: list[Any] = []
    feed = begin(fleet, spec, planned=planned.extend, over=lambda: None)
    feed.waits = raised
    try:
        fed_twice(feed)
        store, names = bed.backend.store, RunNames(spec.run)
        assert [key.rsplit("/", 1)[-1] for key in store.list(names.plans)] == ["000000000000", "000000000002"]
        assert sorted({str(chunk.span) for chunk in planned}) == [
            "000000000000-000000000002",
            "000000000002-000000000003",
        ]
    finally:
        feed.stop()
        bed.backend.queue.drop(RunNames(spec.run).notices)
        fleet.release(spec.run)


def fed_twice(feed: Feed) -> None:
    """Two items, whose flush fails; then one more."""
    function = feed.function(pack_function(add, style="one", retry_on=()))
    feed.add(function, 1)
    feed.add(function, 2)
    with pytest.raises(Unavailable):
        feed.flush()
    feed.add(function, 3)
    feed.flush()
    feed.end()


@pytest.mark.parametrize("thread", ["starburst-feed", "starburst-run", "starburst-resolve"])
def test_where_the_system_allows_no_more_threads_nothing_is_left(
    local_bed: LocalBed, monkeypatch: pytest.MonkeyPatch, thread: str
) -> None:
    """Whichever is the one too many: the call raises, its other threads end, and the next call is as ever."""
    before, start, refused = {*threading.enumerate()}, threading.Thread.start, [thread]

    def refusing(self: threading.Thread) -> None:
        if refused and self.name.startswith(refused[0]):
            raise RuntimeError("can't start new thread")
        start(self)

    def call() -> Any:
        if thread != "starburst-resolve":
            return starburst_map(abs, iter([-1]), workers=1, backend=local_bed.backend, progress=False)
        return [executor.submit(abs, -1).result(PATIENCE_S)]

    monkeypatch.setattr(threading.Thread, "start", refusing)
    store = local_bed.backend.store
    with StarburstExecutor(1, backend=local_bed.backend) as executor:
        with pytest.raises(RuntimeError, match="new thread"):
            call()
        assert ([*store.list(RUNS)], [*store.list(FLEETS)]) == ([], [])
        for each in {*threading.enumerate()} - before:
            each.join(PATIENCE_S)
            assert not each.is_alive(), each.name
        refused.clear()
        assert call() == [1]


def test_what_another_wrote_is_not_taken_for_ours(backend: Backend) -> None:
    """A taken key is a success only where these very bytes lie there."""
    create_ours(backend.store, "runs/x/plan", [b"a", b"b"])
    create_ours(backend.store, "runs/x/plan", b"ab")
    with pytest.raises(Exists):
        create_ours(backend.store, "runs/x/plan", b"abc")


@dataclass
class SlowImages:
    """Images that are built until somebody says so."""

    building: threading.Event
    built: threading.Event

    def ensure(self, image: str) -> str:
        self.building.set()
        assert self.built.wait(PATIENCE_S)
        return ""


@pytest.mark.parametrize("fails", [False, True])
def test_an_image_that_is_built_holds_up_nobody_else(local_bed: LocalBed, fails: bool) -> None:
    """While the first call's thread builds it, others submit, cancel and shut down; if it fails, their calls do."""
    images = SlowImages(threading.Event(), threading.Event())
    executor = StarburstExecutor(1, backend=replace(local_bed.backend, images=images, patience_s=0.01))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(executor.submit, add, 1, 1)
        assert images.building.wait(PATIENCE_S)
        second, third = executor.submit(add, 2, 2), executor.submit(add, 3, 3)
        assert third.cancel()
        executor.shutdown(wait=False)
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(add, 4, 4)
        if fails:
            (local_bed.home / "store" / "fleets").write_text("no folder")
        images.built.set()
        if fails:
            error = first.exception(PATIENCE_S)
            assert error is not None and second.exception(PATIENCE_S) is error
            (local_bed.home / "store" / "fleets").unlink()
        else:
            assert (first.result(PATIENCE_S).result(PATIENCE_S), second.result(PATIENCE_S)) == (2, 4)
        executor.shutdown()
