"""Rounds of runs under bad weather; after each nothing may be left, and at the end there are figures."""

from __future__ import annotations

import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from starburst_common.names import FLEETS, RUNS
from starburst_common.runs.prune import prune
from tests.places import aws_text, environment
from tests.soak.driver import PACE, soak_backend
from tests.soak.weather import Weather
from tests.soak.work import Job
from tests.testbed.bed import REPOSITORY, Bed

MOST_WORKERS = 6
ROUND_S = 240.0  #: a round may last so long; no single fault lasts longer than ten seconds
GONE_S = 30.0  #: what a round leaves is gone after so long
_RESTARTS = 3  #: of the driver in one round
_LONG_S = 30 * 86400.0


class Broken(Exception):
    """Something did not hold: what, in which run."""


@dataclass(slots=True)
class Figures:
    """What a soak counts."""

    rounds: int = 0
    runs: int = 0
    items: int = 0
    answers: int = 0
    raised: int = 0
    lost: int = 0  #: items answered with their workers' deaths
    recovery_s: float = 0.0  #: the longest time from the end of trouble to the next answer
    silence_s: float = 0.0  #: the longest time between two answers of a round, trouble or not
    longest_run_s: float = 0.0
    uploads: int = 0  #: multipart uploads that killed writers left, for the bucket's lifecycle rule
    restarts: int = 0  #: drivers that took over from a killed one
    drivers: list[tuple[int, float, float]] = field(default_factory=list)  #: rounds, MiB after the first and the last
    ends: Counter[str] = field(default_factory=Counter)  #: how workers ended
    leftovers: int = 0


class DriverProcess:
    """A driver, and what it says."""

    def __init__(self, text: str, log: Path, env: Mapping[str, str] | None = None) -> None:
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.soak.driver", text],
                cwd=REPOSITORY,
                env={**os.environ, **(env or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        self.said: queue.Queue[dict[str, Any] | None] = queue.Queue()  #: None: it has ended
        self.rss: list[float] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def ask(self, **asked: Any) -> None:
        """Give it a round."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()

    def ask_no_more(self) -> None:
        """It closes what it has, and ends."""
        assert self.process.stdin
        self.process.stdin.close()

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            with suppress(OSError):
                pipe.close()

    def _listen(self) -> None:
        assert self.process.stdout
        with suppress(ValueError):
            for line in self.process.stdout:
                with suppress(json.JSONDecodeError):  # the last line of a killed driver
                    self.said.put(json.loads(line))
        self.said.put(None)


class Soak:
    """One soak on one bed."""

    def __init__(self, bed: Bed, *, seed: int, folder: Path) -> None:
        self._bed, self._folder = bed, folder
        self._chance = random.Random(f"{seed} rounds")
        self._text = aws_text(bed.site)
        self._backend = soak_backend(self._text)
        self._driver: DriverProcess | None = None
        self._may_kill = False
        self._counted: set[str] = set()
        self._runs: list[str] = []
        self.figures = Figures()
        self.weather = Weather(bed, random.Random(f"{seed} weather"), kill_driver=self._kill_driver)

    def run(self, seconds: float) -> None:
        """Rounds until the time is over. Raises `Broken`."""
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                self._round()
        finally:
            self._retire()
            self._backend.close()

    def _kill_driver(self) -> bool:
        driver = self._driver
        if not self._may_kill or driver is None:
            return False
        self._may_kill = False
        driver.process.kill()
        return True

    def _retire(self) -> None:
        """The driver ends; its memory is kept."""
        if (driver := self._driver) is not None:
            driver.end()
            if driver.rss:
                self.figures.drivers.append((len(driver.rss), driver.rss[0], driver.rss[-1]))
            self._driver = None

    def _round(self) -> None:
        """One or two runs; then nothing is left."""
        chance, figures = self._chance, self.figures
        jobs = [Job.chosen(chance) for _ in range(chance.choice([1, 2]))]
        fleets = chance.randint(1, len(jobs))
        asked = {
            "jobs": [asdict(job) for job in jobs],
            "fleets": fleets,
            "workers": chance.randint(2, MOST_WORKERS // fleets),
            "spot": chance.random() < 0.5,
            "attach": [],
        }
        name = f"round {figures.rounds + 1} ({asked['workers']} workers on {fleets} fleets, jobs {jobs})"
        began, killed = time.monotonic(), self.weather.killed
        self._runs = []
        self.weather.start()
        try:
            done, restarts = self._drive(name, asked, until=began + ROUND_S)
        finally:
            self.weather.calm()
        if self.weather.error is not None:
            raise Broken(f"{name}: the weather itself failed") from self.weather.error
        took_s = time.monotonic() - began
        print(
            f"{time.strftime('%H:%M:%S')} round {figures.rounds + 1}: {len(jobs)} runs, "
            f"{sum(job.items for job in jobs)} items, {took_s:.1f} s, {self.weather.killed - killed} workers killed, "
            f"{restarts} restarts",
            flush=True,
        )
        figures.rounds += 1
        figures.runs += len(jobs)
        figures.items += sum(job.items for job in jobs)
        for found in done.values():
            figures.answers += found["answers"]
            figures.raised += found["raised"]
            figures.lost += found["lost"]
        figures.restarts += restarts
        figures.longest_run_s = max(figures.longest_run_s, took_s)
        if sum(found["lost"] for found in done.values()) and self.weather.killed - killed < 3:
            raise Broken(f"{name}: items were given up as lost, though fewer than three workers were killed")
        killed = self.weather.killed - killed + restarts
        if killed:  # a writer that dies leaves its multipart upload, which a real bucket's lifecycle rule removes
            figures.uploads += self._abort_uploads()
        self._clean(name, after_kill=restarts > 0)

    def _drive(self, name: str, asked: dict[str, Any], *, until: float) -> tuple[dict[str, dict[str, int]], int]:
        """What each run's check found, and how many drivers had to take over. Raises `Broken`."""
        done: dict[str, dict[str, int]] = {}
        restarts, answered, moved_at = 0, 0, time.monotonic()
        if self._driver is not None and self._driver.process.poll() is not None:
            self._retire()  # killed with its last word out
        if self._driver is None:
            self._driver = DriverProcess(self._text, self._folder / "driver.log")
        self._driver.ask(**asked)
        while True:
            try:
                said = self._driver.said.get(timeout=max(until - time.monotonic(), 0.0))
            except queue.Empty:
                raise Broken(f"{name}: {self._runs} not over in {ROUND_S:g} s, {answered} answered") from None
            event = None if said is None else said["event"]
            if said is None:
                code = self._driver.process.wait()
                if code != -9 or not self._runs:
                    raise Broken(f"{name}: the driver ended with {code}")
                restarts += 1
                self._retire()
                self._driver = DriverProcess(self._text, self._folder / "driver.log")
                self._driver.ask(**{**asked, "attach": self._runs})
            elif event == "failed":
                raise Broken(f"{name}: {self._runs}: {said['why']}")
            elif event == "started":
                self._runs = said["runs"]
                self._may_kill = restarts < _RESTARTS
            elif event == "progress" and said["answered"] != answered:
                answered, now = said["answered"], time.monotonic()
                if not self.weather.bad:
                    since = max(moved_at, self.weather.fair_at)
                    self.figures.recovery_s = max(self.figures.recovery_s, now - since)
                self.figures.silence_s = max(self.figures.silence_s, now - moved_at)
                moved_at = now
            elif event == "checked":
                done[said["run"]] = said
            elif event == "round":
                self._may_kill = False
                if self._driver.process.poll() is not None:
                    continue  # killed at its last word: whoever attaches finds everything done
                self._driver.rss.append(said["rss_mib"])
                return done, restarts

    # --- after a round ------------------------------------------------------------------------------------------------

    def _clean(self, name: str, *, after_kill: bool) -> None:
        """Nothing is left but ended runs, and after pruning not even those. Raises `Broken`.

        A killed driver's cluster holds its fleet until idle workers have stopped and somebody prunes.
        """
        for task in self._bed.tasks():
            if task["last_status"] == "STOPPED" and task["id"] not in self._counted:
                self._counted.add(task["id"])
                code = "" if task["exit_code"] is None else f" exit {task['exit_code']}"
                self.figures.ends[f"{task['stop_code']}{code}"] += 1
                if task["exit_code"] == 1:  # nothing we do to workers ends them so: they say why
                    with suppress(Exception):
                        (self._folder / f"broken-{task['id']}.log").write_text(_words(self._bed, task["id"]))
        if after_kill:
            self._gone(name, ("tasks", "processes"), within_s=GONE_S + PACE["idle_s"])
        else:
            self._gone(name, ("tasks", "processes", "queues", FLEETS, "uploads"), within_s=GONE_S)
        for long_s in (_LONG_S, 2 * _LONG_S):  # what nobody has ended is ended by the first, and kept
            prune(self._backend, now=time.time() + long_s)
        self._gone(name, ("tasks", "processes", "queues", FLEETS, RUNS, "uploads"), within_s=0.0)

    def _uploads(self) -> list[dict[str, Any]]:
        bucket = self._bed.site["bucket"]
        return list(self._bed.boto("s3").list_multipart_uploads(Bucket=bucket).get("Uploads", []))

    def _abort_uploads(self) -> int:
        uploads = self._uploads()
        for upload in uploads:
            self._bed.boto("s3").abort_multipart_upload(
                Bucket=self._bed.site["bucket"], Key=upload["Key"], UploadId=upload["UploadId"]
            )
        return len(uploads)

    def _gone(self, name: str, kinds: tuple[str, ...], *, within_s: float) -> None:
        until = time.monotonic() + within_s
        while left := self._left(kinds):
            if time.monotonic() > until:
                self.figures.leftovers += len(left)
                raise Broken(f"{name}: {self._runs} left {left[:20]}")
            time.sleep(0.2)

    def _left(self, kinds: tuple[str, ...]) -> list[str]:
        found = self._bed.leftovers()
        found["uploads"] = [upload["Key"] for upload in self._uploads()]
        for folder in (FLEETS, RUNS):
            found[folder] = [key for key in found["objects"] if key.startswith(folder)]
        return [f"{kind} {each}" for kind in kinds for each in found[kind]]


def report(soak: Soak, bed: Bed, *, seconds: float) -> str:
    """The figures as text."""
    figures, weather = soak.figures, soak.weather
    services: Counter[str] = Counter()
    for (service, _), n in bed.requests().items():
        services[service] += n
    grown = [last - first for rounds, first, last in figures.drivers if rounds > 1]
    lines = [
        f"time                {seconds:.0f} s",
        f"runs                {figures.runs} in {figures.rounds} rounds, the longest {figures.longest_run_s:.1f} s",
        f"items               {figures.items}",
        f"answers checked     {figures.answers}, each once and right: {figures.raised} exceptions, "
        f"{figures.lost} given up after three workers' deaths",
        f"longest recovery    {figures.recovery_s:.1f} s from the end of trouble to the next answer",
        f"longest silence     {figures.silence_s:.1f} s between two answers of a round, in trouble or after it",
        f"driver restarts     {figures.restarts}",
        f"leftovers           {figures.leftovers}; {figures.uploads} multipart uploads of killed writers",
        "faults              times, calls or workers struck",
        *(f"  {kind:<18}{weather.times[kind]:>5} {weather.struck[kind]:>6}" for kind in sorted(weather.times)),
        "workers' ends",
        *(f"  {end:<34}{n:>5}" for end, n in sorted(figures.ends.items())),
        "requests",
        *(f"  {service:<18}{n:>8}" for service, n in sorted(services.items())),
        "driver memory       MiB after its first and its last round",
        *(f"  {rounds:>3} rounds {first:>8.1f} {last:>8.1f}" for rounds, first, last in figures.drivers),
        f"  grown by at most {max(grown, default=0.0):.1f} MiB",
    ]
    return "\n".join(lines)


def soak(*, minutes: float, seed: int) -> bool:
    """Soak, and print how it went. Whether everything held."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="starburst-soak-"))
    print(f"soak of {minutes:g} minutes, seed {seed}, logs in {folder}", flush=True)
    broken: Broken | None = None
    with Bed() as bed, environment({name: value for name, value in bed.env.items() if name.startswith("AWS_")}):
        bed.set(stopped_kept_s=600.0)
        soaking = Soak(bed, seed=seed, folder=folder)
        try:
            soaking.run(minutes * 60)
        except Broken as error:
            broken = error
            _keep_evidence(bed, soaking, folder)
        print(report(soaking, bed, seconds=time.monotonic() - began))
    if broken is None:
        (folder / "driver.log").unlink(missing_ok=True)
        with suppress(OSError):  # not empty: workers that broke have left their words
            folder.rmdir()
        print("everything held")
    else:
        print(f"BROKEN: {broken}\n{broken.__cause__ or ''}\nseed {seed}; evidence in {folder}", flush=True)
    return broken is None


def _keep_evidence(bed: Bed, soaking: Soak, folder: Path) -> None:
    """What was going on: the weather, tasks, what there is, and the workers' last words."""
    at = {f"{time.strftime('%H:%M:%S', time.localtime(at))} {text}": None for at, text in soaking.weather.log[-30:]}
    (folder / "weather.txt").write_text("\n".join(at))
    (folder / "tasks.json").write_text(json.dumps(bed.tasks(), indent=1))
    (folder / "leftovers.json").write_text(json.dumps(bed.leftovers(), indent=1))
    for task in bed.tasks()[-30:]:
        with suppress(Exception):
            (folder / f"worker-{task['id']}.log").write_text(_words(bed, task["id"]))


def _words(bed: Bed, task: str) -> str:
    """What a task printed."""
    stream = f"worker/worker/{task}"
    asked = {"logGroupName": bed.site["log_group"], "logStreamName": stream, "limit": 500}
    return "\n".join(event["message"] for event in bed.boto("logs").get_log_events(**asked)["events"])


def environment_seed() -> int:
    """A seed nobody chose."""
    return int.from_bytes(os.urandom(3))
