"""Whoever follows a run sees what its items print while they run: each line once, from any process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from starburst_common import Cluster
from starburst_common.names import RunNames
from starburst_common.runs.find import attach
from starburst_common.runs.run import Run
from tests.faults.conftest import Bed, LocalBed, on_both


class Followed:
    """What a follower has been given of a run so far, in a thread of its own."""

    def __init__(self, run: Run) -> None:
        self._run, self.lines = run, list[tuple[int, str]]()
        self._thread = Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        for item, text in self._run.logs(follow=True):
            self.lines += [(item, line) for line in text.splitlines()]

    def join(self) -> list[tuple[int, str]]:
        """All of it, once the follower has ended by itself."""
        self._thread.join(120.0)
        assert not self._thread.is_alive()
        return self.lines


def prints_on(gate: Path, *, tries: int = 1) -> Callable[[int], int]:
    """A function that prints until a file is there; with more `tries`, it fails until the last of them."""

    def prints(item: int) -> int:
        count = 0
        with (gate.parent / f"tries-{item}").open("a+") as file:
            file.write("x")
            file.seek(0)
            tried = len(file.read())
        while not gate.exists() or not count:
            print(f"try {tried} line {count}")
            count += 1
            time.sleep(0.1)
        print("the last", end="")
        if tried < tries:
            raise ValueError(f"try {tried}")
        return item

    return prints


def test_lines_are_seen_while_their_items_run(bed: Bed, tmp_path: Path) -> None:
    """Of two slots, with the item's number; none twice, none left out; afterwards nobody is told any more."""
    gate = tmp_path / "gate"
    with Cluster(workers=1, slots=2, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(prints_on(gate), range(2))
        followed = Followed(attach(run.id, backend=bed.backend))
        bed.until(lambda: {0, 1} <= {item for item, line in followed.lines if line != "try 1 line 0"})
        assert run.status().answered == 0
        gate.touch()
        assert run.results() == [0, 1]
        lines = followed.join()
    kept = [(item, line) for item, text in run.logs() for line in text.splitlines()]
    assert Counter(lines) == Counter(kept)
    assert [line for item, line in lines if item == 0] == [line for item, line in kept if item == 0]
    assert RunNames(run.id).followed not in bed.objects()


@pytest.mark.rest
@on_both
def test_an_item_that_begins_anew_is_told_of_anew(bed: Bed, tmp_path: Path) -> None:
    """What an attempt printed that failed is kept and told, once; so is what a worker told before it was killed."""
    gate = tmp_path / "gate"
    gate.touch()
    with Cluster(workers=1, backend=bed.backend, progress=False, retries=1) as cluster:
        run = cluster.start(prints_on(gate, tries=2), range(1))
        assert run.results() == [0]
        ((_, text),) = run.logs()
        assert text.split("the last") == ["try 1 line 0\n", "try 2 line 0\n", ""]
        assert [*run.logs(follow=True)] == [(0, "try 1 line 0\nthe lasttry 2 line 0\n"), (0, "the last\n")]

        gate.unlink()
        run = cluster.start(prints_on(gate, tries=4), range(1))
        followed = Followed(run)
        bed.until(lambda: (0, "try 3 line 3") in followed.lines)
        bed.signal_workers(signal.SIGKILL, 1)
        bed.until(lambda: (0, "try 4 line 3") in followed.lines)
        gate.touch()
        assert run.results() == [0]
    lines = [line for _, line in followed.join()]
    ((_, text),) = run.logs()
    assert [line for line in lines if "try 4" in line] == text.splitlines()[:-1]
    assert max(Counter(line for line in lines if "line" in line).values()) == 1


@pytest.mark.rest
def test_who_stops_following_leaves_the_run_alone(local_bed: LocalBed, tmp_path: Path) -> None:
    """Ctrl-C ends the command, which no driver's process need know of; a run that is cancelled ends it as well."""
    gate = tmp_path / "gate"
    environment = {**os.environ, "STARBURST_HOME": str(local_bed.home), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "starburst_common.cli", "logs", "--follow"]
    with Cluster(workers=1, backend=local_bed.backend, progress=False) as cluster:
        run = cluster.start(prints_on(gate), range(1))
        for end, code in (("SIGINT", 130), ("cancel", 0)):
            with subprocess.Popen([*command, run.id], env=environment, stdout=subprocess.PIPE, text=True) as following:
                assert following.stdout is not None
                assert next(following.stdout) == "item 0 | try 1 line 0\n"
                assert run.status().state == "running"
                if end == "cancel":
                    run.cancel()
                else:
                    following.send_signal(signal.SIGINT)
                rest = [line.split()[-1] for line in following.stdout]
                assert rest == [str(number + 1) for number in range(len(rest))]
                assert following.wait(60.0) == code
            assert RunNames(run.id).followed not in local_bed.objects()
