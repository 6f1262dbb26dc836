"""Rounds in as lines of JSON; their runs driven and every answer checked, told as lines of JSON.

A process of its own, so that it can be killed, and another be told to attach to what it had started.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from starburst_common import Cluster, WorkerLost, attach
from starburst_common.ports import Backend
from starburst_common.runs.run import Run
from tests.places import open_place
from tests.soak.work import Job, foretold

#: Leases outlive the longest blackout, else it would count as the death of a worker.
PACE: dict[str, float] = {"lease_s": 20.0, "chunk_s": 1.0, "look_s": 3.0, "idle_s": 8.0}
_EACH_S = 0.2
_DESCRIPTORS = 3  #: that a driver may keep: those of the store's threads
_CLOSING_S = 5.0

_said = threading.Lock()


def soak_backend(text: str) -> Backend:
    """The backend that a text names, at the pace of a soak, or at one of its own."""
    return open_place(text).paced(**{**PACE, **json.loads(text).get("pace", {})})


def say(event: str, **fields: Any) -> None:
    """One line for the soak."""
    with _said:
        print(json.dumps({"event": event, **fields}), flush=True)


def rss_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / (1 << 20)


def descriptors() -> list[str]:
    """What the open ones of this process are, beside the one that lists them."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(each.readlink()))
    return found


def kept_descriptors(most: int) -> list[str]:
    """What is open at last, if it is more than it may be. The store's threads close connections in their own time."""
    until = time.monotonic() + _CLOSING_S
    while len(found := descriptors()) > most and time.monotonic() < until:
        time.sleep(0.1)
    return found if len(found) > most else []


def check(run: Run, job: Job) -> dict[str, int]:
    """Read every answer of a run; how many came, and how many said that their workers died.

    Raises AssertionError for an answer that is wrong, missing or there twice.
    """
    seen: set[int] = set()
    raised = lost = 0
    for index, value in run.iter_completed(ordered=job.ordered):
        assert index not in seen, f"item {index} was answered twice"
        assert not job.ordered or index == len(seen), f"item {index} came in place of {len(seen)}"
        seen.add(index)
        if isinstance(value, WorkerLost):
            lost += 1
        else:
            assert foretold(job, index, value), f"item {index} was answered with {value!r:.200}"
            raised += isinstance(value, Exception)
    assert seen == set(range(job.items)), f"{job.items - len(seen)} of {job.items} items were not answered"
    status = run.wait()
    assert status.answered == job.items and status.failed == raised + lost, f"its status says {status}"
    assert status.state == ("failed" if raised + lost else "succeeded"), f"its status says {status}"
    return {"answers": len(seen), "raised": raised, "lost": lost}


def round_of(backend: Backend, asked: dict[str, Any]) -> None:
    """One or two runs at once, on one fleet or two, started here or attached to."""
    jobs = [Job(**fields) for fields in asked["jobs"]]
    over = threading.Event()
    with ExitStack() as opened:
        if asked["attach"]:
            runs = [attach(run, backend=backend) for run in asked["attach"]]
        else:
            clusters = [
                opened.enter_context(
                    Cluster(workers=asked["workers"], spot=asked["spot"], backend=backend, progress=False)
                )
                for _ in range(asked["fleets"])
            ]
            runs = [
                clusters[number % len(clusters)].start(job.function(), range(job.items), chunk_size=job.chunk_size)
                for number, job in enumerate(jobs)
            ]
        say("started", runs=[run.id for run in runs])

        def watch() -> None:
            while not over.wait(_EACH_S):
                drivers = [run._held.driver for run in runs]
                say("progress", answered=sum(driver.books.tally.answered for driver in drivers if driver is not None))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            with ThreadPoolExecutor(len(runs)) as pool:
                for run, found in zip(runs, pool.map(check, runs, jobs), strict=True):
                    say("checked", run=run.id, **found)
        finally:
            over.set()
            watcher.join()


def main() -> None:
    """Serve rounds until there are no more."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("starburst").setLevel(logging.INFO)
    before = len(descriptors())
    backend = soak_backend(sys.argv[1])
    say("ready", rss_mib=rss_mib())
    for line in sys.stdin:
        began = time.monotonic()
        try:
            round_of(backend, json.loads(line))
        except BaseException:
            say("failed", why=traceback.format_exc())
            return
        say("round", rss_mib=rss_mib(), seconds=time.monotonic() - began)
    backend.close()
    del backend
    gc.collect()
    kept = kept_descriptors(before + _DESCRIPTORS)
    say("closed", kept=kept)


if __name__ == "__main__":
    main()
