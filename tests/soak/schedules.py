"""A seed in; some runs, the troubles that come over them at foretold times, and whether everything held, out.

Each schedule is small and stands alone, so that many can be tried, a part today and a part tomorrow, and one that fails
be told by its seed and reduced to the troubles that it takes.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Protocol

from starburst_common.ports import Backend
from tests.soak.driver import soak_backend
from tests.soak.soak import Broken, DriverProcess
from tests.soak.work import Job
from tests.testbed.bed import REPOSITORY

_WHOLE_S = 180.0  #: a schedule that takes longer hangs
_GONE_S = 45.0  #: what it leaves is gone after so long
_MOST_TROUBLES = 6
_WITHIN_S = 6.0  #: troubles begin within so long of the run
_SHELL = (["runs"], ["runs", "--json"], ["status", "last"], ["logs", "last"], ["failures", "last"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that happens to a run."""

    kind: str
    at_s: float  #: after it began
    lasts_s: float
    who: int  #: of those it can happen to

    def __str__(self) -> str:
        return f"{self.at_s:4.1f} s: {self.kind} ({self.who}), {self.lasts_s:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What is mapped, and what comes over it."""

    seed: int
    jobs: tuple[Job, ...]
    workers: int
    troubles: tuple[Trouble, ...]

    @classmethod
    def of(cls, seed: int, kinds: Sequence[str]) -> Schedule:
        """The schedule of a seed, where such troubles can be made."""
        chance = random.Random(seed)
        troubles = [
            Trouble(
                kind=chance.choice(kinds),
                at_s=chance.uniform(0.0, _WITHIN_S),
                lasts_s=chance.choice([0.5, 1.0, 2.0, 5.0]),
                who=chance.randrange(8),
            )
            for _ in range(chance.randint(1, _MOST_TROUBLES))
        ]
        return cls(
            seed=seed,
            jobs=tuple(_job(chance) for _ in range(chance.choice([1, 1, 2]))),
            workers=chance.randint(1, 3),
            troubles=tuple(sorted(troubles, key=lambda trouble: trouble.at_s)),
        )


def _job(chance: random.Random) -> Job:
    """Some seconds of work."""
    longest_s = chance.choice([0.0, 0.02, 0.2, 1.0])
    return Job(
        seed=chance.randrange(1 << 30),
        items={0.0: 2000, 0.02: 300, 0.2: 50, 1.0: 10}[longest_s],
        longest_s=longest_s,
        raising=chance.choice([0.0, 0.0, 0.05]),
        value_bytes=chance.choice([0, 0, 2000]),
        chunk_size=chance.choice([None, None, None, 5]) if longest_s else None,
        ordered=chance.random() < 0.5,
    )


class Place(Protocol):
    """Where a schedule is tried, and what can happen there."""

    text: str
    env: dict[str, str]

    def kinds(self) -> list[str]:
        """The troubles that can be made here, beside those of drivers and shells."""

    def strike(self, trouble: Trouble) -> Callable[[], object] | None:
        """Make it, if there is somebody to strike; how it is ended."""

    def left(self, backend: Backend, *, pruned: bool) -> list[str]:
        """What is there that should not be once all is over."""

    def close(self) -> None:
        """End whatever was started."""


OURS = ("driver killed", "driver stopped", "second reader", "second reader killed", "shell", "shell")


class Trial:
    """One schedule tried at one place."""

    def __init__(self, schedule: Schedule, place: Place, folder: Path) -> None:
        self._schedule, self._place, self._log = schedule, place, folder / "driver.log"
        self._undo: list[tuple[float, Callable[[], object]]] = []
        self._others: list[DriverProcess] = []  # who reads beside the driver
        self._shells: list[subprocess.Popen[str]] = []
        self._runs: list[str] = []
        self._driver = self._started()
        self.killed = False

    def run(self) -> None:
        """Raises `Broken`."""
        schedule = self._schedule
        backend = soak_backend(self._place.text)
        try:
            self._driver.ask(**self._asked())
            self._weather()
            self._check_others()
            self._check_closed()
            self._driver.end()
            self._gone(backend, pruned=False)
        except Broken as error:
            raise Broken(f"seed {schedule.seed}: {self._runs}: {error}") from None
        finally:
            for _, undo in self._undo:
                with suppress(Exception):
                    undo()
            for process in (self._driver, *self._others):
                process.end()
            for shell in self._shells:
                shell.kill()
                shell.communicate()
            backend.close()

    def _asked(self, runs: Sequence[str] = ()) -> dict[str, object]:
        schedule = self._schedule
        return {
            "jobs": [asdict(job) for job in schedule.jobs],
            "fleets": 1 + schedule.seed % len(schedule.jobs),
            "workers": schedule.workers,
            "spot": schedule.seed % 2 == 0,
            "attach": list(runs),
        }

    def _started(self) -> DriverProcess:
        return DriverProcess(self._place.text, self._log, self._place.env)

    def _weather(self) -> None:
        """Troubles as foretold, until the runs are over."""
        todo = list(self._schedule.troubles)
        began: float | None = None
        until = time.monotonic() + _WHOLE_S
        over = False
        while not over or self._undo:
            now = time.monotonic()
            if now > until:
                raise Broken(f"not over in {_WHOLE_S:g} s")
            for due, undo in [each for each in self._undo if each[0] <= now]:
                self._undo.remove((due, undo))
                try:
                    undo()
                except OSError:  # another trouble is in its way
                    self._undo.append((now + 0.2, undo))
            while began is not None and todo and not over and now - began >= todo[0].at_s:
                trouble = todo.pop(0)
                if (ended := self._strike(trouble)) is not None:
                    self._undo.append((time.monotonic() + trouble.lasts_s, ended))
            try:
                said = self._driver.said.get(timeout=0.05)
            except queue.Empty:
                continue
            if said is not None and said["event"] == "failed":
                if not unavailable(said["why"]):
                    raise Broken(said["why"])
                time.sleep(0.5)  # as its user would, who then tries again
                self._goes_on()
            elif said is None and not over:
                if (code := self._driver.process.wait()) != -9:
                    raise Broken(f"the driver ended with {code}")
                self._goes_on()
            elif said is not None and said["event"] == "started":
                self._runs = said["runs"]
                began = time.monotonic() if began is None else began
            elif said is not None and said["event"] == "round":
                over = True

    def _goes_on(self) -> None:
        """Another driver takes over, or begins anew where nothing was begun."""
        self.killed = True
        self._driver.end()
        self._driver = self._started()
        self._driver.ask(**self._asked(self._runs))

    def _strike(self, trouble: Trouble) -> Callable[[], object] | None:
        kind = trouble.kind
        if kind == "driver killed":
            self._driver.process.kill()
            return None
        if kind == "driver stopped":
            return stopped(self._driver.process.pid)
        if kind.startswith("second reader"):
            other = self._started()
            other.ask(**self._asked(self._runs))
            if kind.endswith("killed"):
                return other.end
            self._others.append(other)
            return None
        if kind == "shell":
            words = _SHELL[trouble.who % len(_SHELL)]
            self._shells.append(
                subprocess.Popen(
                    [sys.executable, "-m", "starburst_common.cli", *words],
                    cwd=REPOSITORY,
                    env={**os.environ, **self._place.env},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
            return None
        return self._place.strike(trouble)

    def _check_others(self) -> None:
        """Who read beside the driver has had every answer too, and no command printed a traceback."""
        until = time.monotonic() + _WHOLE_S
        for other in self._others:
            while True:
                try:
                    said = other.said.get(timeout=max(until - time.monotonic(), 0.0))
                except queue.Empty:
                    raise Broken("a second reader hangs") from None
                if said is None:
                    raise Broken(f"a second reader ended with {other.process.wait()}")
                if said["event"] == "failed" and not unavailable(said["why"]):
                    raise Broken(f"a second reader: {said['why']}")
                if said["event"] in ("round", "failed"):
                    break
            other.end()
        for shell in self._shells:
            try:
                text, _ = shell.communicate(timeout=max(until - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                raise Broken(f"{shell.args!r} hangs") from None
            if "Traceback" in text:
                raise Broken(f"{shell.args!r}: {text}")

    def _check_closed(self) -> None:
        """A driver that has nothing more to do has let go of all it opened."""
        self._driver.ask_no_more()
        while (said := self._driver.said.get(timeout=_GONE_S)) is not None:
            if said["event"] == "closed" and said["kept"]:
                raise Broken(f"the driver keeps descriptors: {', '.join(sorted(said['kept']))}")

    def _gone(self, backend: Backend, *, pruned: bool) -> None:
        until = time.monotonic() + _GONE_S
        while left := self._place.left(backend, pruned=pruned or self.killed):
            if time.monotonic() > until:
                raise Broken(f"left: {left[:20]}")
            time.sleep(0.1)


def unavailable(why: str) -> bool:
    """Whether a driver gave up as it may, in words of ours that say so."""
    return why.splitlines()[-1].startswith("starburst_common.errors.Unavailable: ")


def stopped(pid: int) -> Callable[[], object] | None:
    """A process stopped; how it goes on."""
    import signal

    try:
        os.kill(pid, signal.SIGSTOP)
    except ProcessLookupError:
        return None

    def goes_on() -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    return goes_on


@contextmanager
def opened(name: str, folder: Path) -> Iterator[Place]:
    """A place by its name."""
    if name == "local":
        from tests.soak.machine import Machine

        place: Place = Machine(folder)
    else:
        from tests.soak.cloud import Cloud

        place = Cloud(folder)
    try:
        yield place
    finally:
        place.close()


def tried(schedule: Schedule, name: str) -> str:
    """What did not hold; empty where all did."""
    folder = Path(tempfile.mkdtemp(prefix=f"starburst-schedule-{schedule.seed}-"))
    try:
        with opened(name, folder) as place:
            Trial(schedule, place, folder).run()
    except Broken as error:
        return f"{error}\nlogs in {folder}"
    except Exception:
        return f"seed {schedule.seed} could not be tried: {traceback.format_exc()}\nlogs in {folder}"
    shutil.rmtree(folder, ignore_errors=True)
    return ""


def reduced(schedule: Schedule, name: str) -> Schedule:
    """Without the troubles that it does not take."""
    for trouble in schedule.troubles:
        fewer = replace(schedule, troubles=tuple(each for each in schedule.troubles if each is not trouble))
        if tried(fewer, name):
            schedule = fewer
    return schedule


def tried_all(seeds: Sequence[int], name: str, *, at_once: int) -> bool:
    """Try the schedules of all seeds, tell of each that fails, reduced, and of all at the end. Whether all held."""
    broken: list[int] = []
    struck: Counter[str] = Counter()
    began = time.monotonic()
    with ProcessPoolExecutor(at_once, mp_context=multiprocessing.get_context("spawn")) as pool:
        kinds = [*OURS, *pool.submit(kinds_of, name).result()]
        print(f"{len(seeds)} schedules from seed {seeds[0]} on {name}, of {', '.join(sorted(set(kinds)))}", flush=True)
        schedules = [Schedule.of(seed, kinds) for seed in seeds]
        for done, (schedule, why) in enumerate(zip(schedules, pool.map(held, schedules, repeat(name)), strict=True), 1):
            struck.update(trouble.kind for trouble in schedule.troubles)
            if why:
                broken.append(schedule.seed)
                print(f"BROKEN: {why}", flush=True)
            if done % 20 == 0:
                print(f"{time.strftime('%H:%M:%S')} {done} tried, {len(broken)} broken", flush=True)
    print(f"{len(seeds)} schedules in {time.monotonic() - began:.0f} s; broken: {broken or 'none'}")
    print("\n".join(f"  {kind:<22}{number:>6}" for kind, number in sorted(struck.items())))
    return not broken


def held(schedule: Schedule, name: str) -> str:
    """What did not hold, with the troubles that it takes; empty where all did."""
    if not (why := tried(schedule, name)):
        return ""
    fewer = reduced(schedule, name)
    return "\n".join([why, f"it takes, of {fewer.workers} workers and {fewer.jobs}:", *map(str, fewer.troubles)])


def kinds_of(name: str) -> list[str]:
    """What can happen at a place."""
    with tempfile.TemporaryDirectory() as folder, opened(name, Path(folder)) as place:
        return place.kinds()
