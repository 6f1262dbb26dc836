"""Runs in; an Airflow out whose triggerer waits for each of them with a trigger, and what that costs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from tests.airflow.standalone import ROOT, Airflow, DagRun, started

DAG = "watching"
_BLOCKED = re.compile(r"^(\S+)[^\n]*async thread was blocked for ([\d.]+) seconds", re.MULTILINE)
_TICKS = os.sysconf("SC_CLK_TCK")
_LATE_S, _NEAR_S = 0.1, 1.0


class Blocked(NamedTuple):
    """A time in which the triggerer's loop did nothing, as it logs them from 0.2 s on."""

    at: float  #: seconds of the wall clock, when it went on
    seconds: float


@dataclass
class Watching:
    """It, and a clock of this process that sees when the machine itself is late."""

    airflow: Airflow
    _late: list[Blocked] = field(default_factory=list)

    def begin(self, runs: Sequence[str]) -> DagRun:
        """A task's instance for each run; all of them are deferred when this returns."""
        run = self.airflow.begin(DAG)
        database = f"sqlite:///{self.airflow.home}/airflow.db?timeout=120"
        own = {"AIRFLOW_HOME": str(self.airflow.home), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database}
        env = {**os.environ, **own, "AIRFLOW__CORE__FERNET_KEY": ""}
        subprocess.run([sys.executable, "-m", "tests.airflow.deferring", run.id, *runs], env=env, cwd=ROOT, check=True)
        return run

    def deferred(self, run: DagRun) -> int:
        """How many of them wait."""
        path = f"dags/{DAG}/dagRuns/{run.id}/taskInstances"
        return int(self.airflow.get(path, state="deferred", limit="1")["total_entries"])

    def cost(self) -> dict[str, float]:
        """Resident MiB of the triggerer's processes, and their CPU seconds so far; those of its loop's thread alone."""
        pids = [*_tree(self.airflow.pids["triggerer"])]
        memory = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * os.sysconf("SC_PAGESIZE")
        loop = _cpu_s(Path(f"/proc/{pids[-1]}/task/{pids[-1]}/stat"))
        return {"mib": memory / 2**20, "cpu_s": sum(_cpu_s(Path(f"/proc/{pid}/stat")) for pid in pids), "loop_s": loop}

    def blocked(self, since: float) -> list[Blocked]:
        """When the loop was blocked since then."""
        told = (self.airflow.home / "triggerer.log").read_text()
        found = [Blocked(datetime.fromisoformat(at).timestamp(), float(s)) for at, s in _BLOCKED.findall(told)]
        return [each for each in found if each.at >= since]

    def ours(self, blocked: Sequence[Blocked]) -> list[Blocked]:
        """Those at which this process was not late as well, as where the machine has too much to do."""
        return [
            each
            for each in blocked
            if not any(each.at - each.seconds - _NEAR_S < late.at < each.at + _NEAR_S for late in self._late)
        ]

    def look(self) -> None:
        """Until the process ends: when was this process late?"""
        while True:
            before = time.monotonic()
            time.sleep(_LATE_S)
            if (late := time.monotonic() - before - _LATE_S) > _LATE_S / 2:
                self._late.append(Blocked(time.time(), late))


@contextmanager
def watching(home: Path, number: int, variables: Mapping[str, str]) -> Iterator[Watching]:
    """An Airflow that is to watch so many runs, which the default connection finds; it has no scheduler any more."""
    (home / "dags").mkdir()
    shutil.copy(Path(__file__).parent / "dags" / "watching.py", home / "dags")
    (home / "dags" / "number").write_text(str(number))
    with started(home, home / "dags", lambda: variables) as airflow:
        airflow.until_ready(DAG)
        airflow.stop("scheduler")
        found = Watching(airflow)
        threading.Thread(target=found.look, daemon=True).start()
        yield found


def _tree(pid: int) -> Iterator[int]:
    """A process, and what it has started, the last one last."""
    yield pid
    for thread in sorted(Path(f"/proc/{pid}/task").iterdir()):
        with suppress(FileNotFoundError):  # it has ended meanwhile
            for child in (thread / "children").read_text().split():
                yield from _tree(int(child))


def _cpu_s(stat: Path) -> float:
    return sum(map(int, stat.read_text().rpartition(") ")[2].split()[11:13])) / _TICKS
