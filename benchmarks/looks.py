"""What does it cost to look at runs, where many are kept?"""

from __future__ import annotations

import os
import pty
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.scenario import Case, Column, Record, Scenario, Spread, Target
from starburst_common.fleets.fleet import Fleet
from starburst_common.local import local_backend
from starburst_common.model import RunId, RunState
from starburst_common.names import RunNames
from starburst_common.options import Options
from starburst_common.runs.legs import End
from starburst_common.runs.records import Spec

KEPT = 2_000
TIMES = 3
#: What is typed, and whether a terminal shows it. A name in capitals is a run's.
LOOKS = {
    "starburst --version": (["--version"], False),
    "starburst runs, piped": (["runs"], False),
    "starburst runs, on a terminal": (["runs"], True),
    "starburst runs -n 100, piped": (["runs", "-n", "100"], False),
    "starburst runs --json, piped": (["runs", "--json"], False),
    "starburst runs --tag, piped": (["runs", "--tag", "number=7"], False),
    "starburst status RUN, piped": (["status", "RUN"], False),
    "starburst status last, piped": (["status", "last"], False),
    "starburst status last, on a terminal": (["status", "last"], True),
}


def cases(quick: bool) -> list[Case]:
    """Each look at 2,000 kept runs."""
    return [Case(name, 20 if quick else KEPT, 1 if quick else 5) for name in LOOKS]


def measure(contender: str, size: int) -> dict[str, float]:
    """Keep so many runs that have ended; then look, a few times, each in a process of its own: its CPU time."""
    kept = _keep(size)
    words, terminal = LOOKS[contender]
    named = [kept[size // 2] if word == "RUN" else word for word in words]
    command = [sys.executable, "-m", "starburst_common.cli", *named]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    for _ in range(TIMES):
        _look(command, terminal=terminal)
    looked_s = (time.perf_counter() - started) / TIMES
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / TIMES
    return {"cpu_s": cpu_s, "looked_s": looked_s}


def _keep(size: int) -> list[RunId]:
    """So many runs, each a minute older than the one before it. Their files are written as they would lie there."""
    home = Path(os.environ["STARBURST_HOME"])
    backend, options = local_backend(home), Options.of(workers=1)
    run = RunId("run-20260901-120000-00000000")
    first = Spec.of(run, Fleet.of(backend, options.resources, 1), "work:double", options, stop_at_first=False)
    end = End(state=RunState.SUCCEEDED, items=100, answered=100, slot_seconds=1.0, ended_at=0.0)
    kept = []
    for number in range(size):
        made = 1_780_000_000 - 60 * number
        run = RunId(f"run-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(made))}-{number:08x}")
        tags = {"number": str(number % 100)}
        spec = replace(first, run=run, label=f"number {number}", tags=tags, created_at=made)
        for key, record in ((RunNames(run).spec, spec), (RunNames(run).end, replace(end, ended_at=made + 9))):
            file = home / "store" / key
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(record.sealed(backend.key, key))
        kept.append(run)
    return kept


def _look(command: list[str], *, terminal: bool) -> None:
    if not terminal:
        subprocess.run(command, capture_output=True, check=True)
        return
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm-256color"})
        os.close(theirs)
        try:
            while os.read(ours, 65536):
                pass
        except OSError:  # how Linux says that the last writer has closed it
            pass
        assert process.wait() == 0
    finally:
        os.close(ours)


def _target(contender: str) -> Target:
    def above_version(record: Record) -> Spread | None:
        looks, none = (record.figures(name, KEPT, "cpu_s") for name in (contender, "starburst --version"))
        pairs = [looks[turn] - none[turn] for turn in looks.keys() & none.keys()]
        return Spread.of(pairs) if pairs else None

    return Target(f"`{contender}`: CPU above `--version`, s", above_version, 0.1)


SCENARIO = Scenario(
    name="looks",
    title="Looking at what is kept",
    about=f"CPU time of a command where {KEPT:,} runs are kept that have ended, on this machine: the mean of {TIMES} "
    "processes, interpreter and imports included.",
    size_heading="runs kept",
    cases=cases,
    measure=measure,
    columns=(Column("cpu_s", "CPU, s", ".3f"), Column("looked_s", "took, s", ".3f")),
    targets=(
        Target("`--version`: CPU, s", lambda r: r.spread("starburst --version", KEPT, "cpu_s"), 0.25),
        _target("starburst runs, piped"),
        _target("starburst runs, on a terminal"),
    ),
)
