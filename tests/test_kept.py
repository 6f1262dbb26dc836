"""What is kept of runs, and what goes: by the end, on a clock that no jump moves; damage harms its run only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from starburst_common import RunState, RunStopped, attach, list_runs, starburst_map
from starburst_common.cli.which import find_run
from starburst_common.config import settings
from starburst_common.errors import BadInput, NotFound, Refused
from starburst_common.fleets.fleet import Fleet
from starburst_common.ids import new_run_id
from starburst_common.local import local_backend
from starburst_common.model import RunId, Span
from starburst_common.names import RunNames
from starburst_common.options import Options
from starburst_common.ports import Backend
from starburst_common.runs.find import run_ids
from starburst_common.runs.legs import End
from starburst_common.runs.prune import prune
from starburst_common.runs.records import Spec
from starburst_common.runs.spec import read_spec, write_end, write_spec
from starburst_common.wire.seals import WIRE_VERSION

DAY_S = 86400.0


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    """This machine, where runs are kept for a week."""
    return local_backend(tmp_path / "home")


SUCCEEDED = End(state=RunState.SUCCEEDED, items=1, answered=1, ended_at=None)


def ended(backend: Backend, label: str = "", end: End = SUCCEEDED) -> RunId:
    """A run that has just ended."""
    run = new_run_id()
    options = Options.of(workers=1, label=label)
    spec = Spec.of(run, Fleet.of(backend, options.resources, 1), "work", options, stop_at_first=False)
    write_spec(backend, spec)
    write_end(backend, run, 0, replace(end, ended_at=end.ended_at or time.time()))
    return run


def kept(backend: Backend) -> list[str]:
    """The runs that are kept, newest first."""
    return [run.id for run in list_runs(backend=backend)]


def in_another_time(home: Path, ahead_s: float, act: str) -> str:
    """What a process does and prints whose clock is wrong."""
    lines = [
        f"import time; right = time.time; time.time = lambda: right() + {ahead_s}",
        "from pathlib import Path; from tests.test_kept import ended, prune, local_backend",
        f"backend = local_backend(Path({str(home)!r}))",
        f"print({act})",
    ]
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("ahead_s", [10 * DAY_S, -10 * DAY_S])
def test_a_jump_of_the_clock_removes_nothing(backend: Backend, tmp_path: Path, ahead_s: float) -> None:
    """Be it the clock of who ends a run or of who prunes, and be it ahead or behind; what really passes counts."""
    home = tmp_path / "home"
    before = ended(backend)
    after = in_another_time(home, ahead_s, "ended(backend)").strip()
    assert in_another_time(home, ahead_s, "prune(backend)").strip() == "[]"
    assert prune(backend) == []
    assert sorted(kept(backend)) == sorted([before, after])
    assert prune(backend, now=time.time() + 6.9 * DAY_S) == []
    assert sorted(prune(backend, now=time.time() + 7.1 * DAY_S)) == sorted([before, after])


def test_a_run_is_kept_from_its_end_and_as_much_longer_as_was_asked(backend: Backend) -> None:
    """An extension counts from there too, and a second one adds to the first."""
    extended, other = ended(backend), ended(backend)
    run = attach(extended, backend=backend)
    assert run.expires_at == pytest.approx(time.time() + 7 * DAY_S, abs=60)
    run.extend(DAY_S)
    assert run.extend(DAY_S) == pytest.approx(time.time() + 9 * DAY_S, abs=60)
    assert run.extend(1.0) > time.time() + 9 * DAY_S - 60 < (run.expires_at or 0)  # never less than it had
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(BadInput, match="give seconds above 0"):
            run.extend(wrong)
    assert prune(backend, now=time.time() + 8.9 * DAY_S) == [other]
    assert prune(backend, now=time.time() + 9.1 * DAY_S) == [extended]


def test_a_run_that_is_read_stays(backend: Backend, tmp_path: Path) -> None:
    """Even where none is to be kept: for ten minutes from its end, and from when somebody last read on."""
    at_once = replace(backend, keep_s=0.0)
    add = partial(starburst_map, abs, backend=backend, workers=1, progress=False)
    for _ in range(3):
        assert add([-1, 2, -3], chunk_size=1) == [1, 2, 3]
    young, read, old = run_ids(backend)
    for run in (read, old):
        at = backend.store.written_at(RunNames(run).end) - 700
        for name in ("end", "driven"):
            if (file := tmp_path / "home" / "store" / RunNames(run).folder / name).exists():
                os.utime(file, (at, at))
    answers = attach(read, backend=backend).iter_completed(ordered=True)
    assert next(answers) == (0, 1)
    assert prune(at_once) == [old]
    assert [*answers] == [(1, 2), (2, 3)]
    assert prune(at_once, now=time.time() + 500) == []
    assert sorted(prune(at_once, now=time.time() + 700)) == sorted([young, read])


def cut(body: bytes) -> bytes:
    """As a power cut leaves it."""
    return body[:20]


def emptied(body: bytes) -> bytes:
    """As a power cut leaves it, too."""
    return b""


def changed(body: bytes) -> bytes:
    """As another key would have signed it."""
    return body[:-1] + bytes([body[-1] ^ 1])


def versioned(body: bytes) -> bytes:
    """As another release would have written it."""
    return body[:3] + bytes([WIRE_VERSION + 1]) + body[4:]


@pytest.mark.parametrize("damage", [cut, emptied, changed, versioned])
@pytest.mark.parametrize("part", ["spec", "end"])
def test_damage_costs_its_own_run_only(backend: Backend, part: str, damage: Callable[[bytes], bytes]) -> None:
    """It is listed with what is wrong, can be looked at, cancelled and removed; the others are as they were."""
    older, broken, newer = (ended(backend, label) for label in ("older", "broken", "newer"))
    key = RunNames(broken).folder + part
    backend.store.put(key, damage(bytes(backend.store.get(key))))
    found = {run.id: run for run in list_runs(backend=backend)}
    assert set(found) == {older, broken, newer}
    assert {str(run.status().state) for run in found.values()} == {"succeeded", "damaged"}
    assert key in found[broken].status().reason
    run = attach(broken, backend=backend)
    run.cancel()
    with pytest.raises(Refused if part == "spec" else RunStopped, match=key):
        run.results(timeout=5)
    assert prune(backend) == []
    run.remove()
    assert set(kept(backend)) == {older, newer}
    assert list(backend.store.list(RunNames(broken).folder)) == []


def test_damaged_runs_expire_by_themselves(backend: Backend) -> None:
    """A week after their last change, as do those whose extension nobody can read; a readable one has its own time."""
    whole, specless, endless, emptied_one = (ended(backend) for _ in range(4))
    names = [RunNames(run) for run in (specless, endless, emptied_one)]
    backend.store.put(names[0].spec, b"")
    backend.store.delete([names[0].end])
    backend.store.put(names[1].end, b"junk")
    backend.store.put(names[2].expires, b"")
    assert attach(emptied_one, backend=backend).status().state is RunState.SUCCEEDED
    attach(whole, backend=backend).extend(DAY_S)
    assert prune(backend, now=time.time() + 6.9 * DAY_S) == []
    assert set(prune(backend, now=time.time() + 7.1 * DAY_S)) == {specless, endless, emptied_one}


@pytest.mark.parametrize("name", ["\x1b[2J", "a b", "x" * 101, "run.1"])
def test_what_is_nobodys_id_hides_no_run(backend: Backend, name: str) -> None:
    """Who may write to the store may put anything beside runs and fleets: it is passed over, and pruning goes on."""
    run = ended(backend)
    holder = name.lstrip("\x1b")  # a folder with such a key cannot be listed at all
    for key in (
        f"runs/{name}/spec",
        f"fleets/{name}/held-by/{run}",
        f"fleets/fleet-20260101-000000-0/held-by/{holder}",
    ):
        place = Path(backend.store.place, key)  # not by our store, which refuses some of them
        place.parent.mkdir(parents=True)
        place.write_bytes(b"x")
    assert [found.id for found in list_runs(backend=backend)] == [run]
    assert prune(backend, now=time.time() + 7.1 * DAY_S) == [run]


def test_another_key_hides_no_run(backend: Backend) -> None:
    """Every run made with the one before is listed as damaged, and new ones are read."""
    old = ended(backend)
    other = replace(backend, key=b"another key that has its 32 bytes")
    new = ended(other)
    states = {run.id: run.status().state for run in list_runs(backend=other)}
    assert states == {old: RunState.DAMAGED, new: RunState.SUCCEEDED}


def test_a_removed_run_stays_removed_whatever_is_done_to_it(backend: Backend) -> None:
    """Whoever still holds it is told that it is there no more; no word of theirs makes a damaged run of it."""
    run = ended(backend)
    held = attach(run, backend=backend)
    attach(run, backend=backend).remove()
    calls: list[Callable[[], Any]] = [held.status, held.results, held.wait, held.cancel, held.report, held.remove]
    for call in [*calls, lambda: held.extend(DAY_S), lambda: find_run("last", backend)]:
        with pytest.raises(NotFound, match="no run"):
            call()
    assert list(backend.store.list(RunNames(run).folder)) == []
    names = RunNames(run)
    for key in (names.driven, names.cancel, names.outcome(Span(0, 1))):  # of who wrote just before hearing of it
        backend.store.put(key, b"")
    assert kept(backend) == []
    with pytest.raises(NotFound, match="no run"):
        find_run("last", backend)
    assert prune(backend, now=time.time() + 7.1 * DAY_S) == [run]


@pytest.mark.parametrize("days", ["nan", "inf", "-1", "1e400", "many"])
def test_keep_days_is_a_number_of_days(days: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Anything else is refused before anything is kept or removed by it."""
    monkeypatch.setenv("STARBURST_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(BadInput, match="give days from 0 to"):
        settings(env={"STARBURST_KEEP_DAYS": days})


class Counting:
    """A store that counts what it is asked for."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)

        def ask(*args: Any, **kwargs: Any) -> Any:
            self.asked.append(name)
            return real(*args, **kwargs)

        return ask


def test_the_newest_runs_are_read_and_no_others(backend: Backend) -> None:
    """What a listing of two costs does not depend on how many are kept; nothing is listed but the runs' names."""
    from starburst_common.runs.find import read_runs, run_ids

    old = ended(backend)
    for number in range(50):
        again = old[:4] + f"2020{number:04d}" + old[12:]
        backend.store.put(RunNames(RunId(again)).spec, b"old")
    store = Counting(backend.store)
    counted = replace(backend, store=store)  # type: ignore[arg-type]
    first = next(read_runs(counted, run_ids(counted)))
    assert first.id == old
    assert first.status().state is RunState.SUCCEEDED
    assert store.asked == ["folders", "get", "get"]


def test_runs_are_found_by_their_tags_whatever_those_are(backend: Backend) -> None:
    """All of them must be there; one that cannot be read has none. Each run is read once."""
    odd = {"né": 'a"b\\', "team": "x=y"}
    run = ended(backend)
    spec = read_spec(backend, run)
    backend.store.delete([RunNames(run).spec])
    write_spec(backend, replace(spec, tags=odd, label='"team":"z"'))
    damaged = RunId(f"{run[:4]}2020{run[8:]}")
    backend.store.put(RunNames(damaged).spec, b'"team":"x=y"')
    store = Counting(backend.store)
    counted = replace(backend, store=store)  # type: ignore[arg-type]
    for tags, there in (
        (odd, [run]),
        ({"team": "x=y"}, [run]),
        ({"team": "z"}, []),
        ({**odd, "b": ""}, []),
        ({}, [run, damaged]),
    ):
        store.asked.clear()
        assert [each.id for each in list_runs(backend=counted, tags=tags)] == there
        assert store.asked == ["folders", "get", "get"]


def test_remove_refuses_what_goes_on(backend: Backend) -> None:
    """A run without an end is cancelled first."""
    run = ended(backend)
    backend.store.delete([RunNames(run).end])
    with pytest.raises(BadInput, match=f"run {run} goes on: cancel it first"):
        attach(run, backend=backend).remove()
    assert json.dumps(kept(backend)) == json.dumps([run])
