"""Workers as processes of this machine. A folder of records tells, to any process, which were launched."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from starburst_common.errors import Refused
from starburst_common.local.forks import CannotFork, ForkServer, alike_here
from starburst_common.local.store import remove_folder
from starburst_common.model import FleetId, WorkerEnd, WorkerId, WorkerPhase, WorkerState
from starburst_common.ports import Wait, WorkerSpec
from starburst_common.trust import owner_only
from starburst_common.wire.fields import Fields
from starburst_common.wire.seals import misfit

_Env = frozenset[tuple[str, str]]
_TAIL_BYTES = 4000
_MOST_PID = 2**31 - 1
_GOOD_ENDS = (0, 143, -15)  # idle or told to go, the last before it could say so
_GUARDS_S = 5.0  #: for the guards of slots to end those
_STARTING_S = 10.0  # a record without a process id is a launch under way, or one whose driver died in the middle


class LocalCompute:
    """`Compute` with processes; see `starburst_common.ports` for what it promises."""

    def __init__(self, home: Path) -> None:
        self._home = home.absolute()  # workers are started elsewhere
        self._forks: dict[_Env, ForkServer] = {}  # by what its workers' environment has besides
        self._fleets: dict[FleetId, _Env] = {}  # whose workers are forked there
        self._lock = Lock()

    def prepare(self, spec: WorkerSpec) -> None:
        with self._lock:
            self._fork_server(spec)

    def alike(self, spec: WorkerSpec) -> str:
        return json.dumps([self._orders(spec), spec.resources.env, alike_here()])

    def launch(self, spec: WorkerSpec, ordinals: Sequence[int]) -> Wait | None:
        folder = self._folder(spec.fleet)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for ordinal in ordinals:
            record = folder / f"{ordinal:06d}.json"
            try:
                record.touch(mode=0o600, exist_ok=False)
            except FileExistsError:
                continue
            self._start(spec, ordinal, record)
        return None

    def workers(self, fleet: FleetId) -> list[WorkerState]:
        return [self._state(fleet, record) for record in sorted(self._folder(fleet).glob("[0-9]*.json"))]

    def tend(self, fleet: FleetId) -> list[WorkerState]:
        return self.workers(fleet)

    def ended(self, fleet: FleetId, worker: WorkerId) -> WorkerState | None:
        states = (state for state in self.workers(fleet) if state.id == worker)
        return next((state for state in states if state.end is not None), None)

    def stop(self, fleet: FleetId, ids: Iterable[WorkerId], *, grace_s: float) -> None:
        wanted = set(ids)
        pids = []
        for record in sorted(self._folder(fleet).glob("[0-9]*.json")):
            fields = _read(record)
            if fields and worker_id(fleet, int(record.stem)) in wanted and _alive(fields):
                pids.append(fields.pid)
        for pid in pids:
            _signal(pid, signal.SIGTERM)
        if not self._gone(pids, grace_s):
            for pid in pids:
                _signal(pid, signal.SIGKILL)
            for number in (signal.SIGCONT, signal.SIGKILL):  # the slots' guards end what is left, if they can go on
                left = [each for pid in pids for each in _session(pid)]
                for pid in left:
                    _signal(pid, number)
                if self._gone([*pids, *left], _GUARDS_S):
                    break

    def tail(self, fleet: FleetId, worker: WorkerId) -> str:
        log = self._folder(fleet) / f"{int(worker.rsplit('-', 1)[-1]):06d}.log"
        if not log.exists():
            return ""
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - _TAIL_BYTES, 0))
            return file.read().decode(errors="replace")

    def forget(self, fleet: FleetId) -> None:
        remove_folder(self._folder(fleet))
        with self._lock:
            env = self._fleets.pop(fleet, None)
            if env is not None and env not in self._fleets.values():
                self._let_forks_go(env)

    def close(self) -> None:
        """Let go of what workers are forked from; it is made anew where it is wanted again."""
        with self._lock:
            for env in list(self._forks):
                self._let_forks_go(env)

    def fleets(self) -> list[FleetId]:
        """Every fleet with records."""
        return [FleetId(path.name) for path in sorted((self._home / "workers").glob("*"))]

    def _folder(self, fleet: FleetId) -> Path:
        return self._home / "workers" / fleet

    def _orders(self, spec: WorkerSpec) -> dict[str, Any]:
        """Those of each of a fleet's workers, but for its fleet."""
        memory_mib = spec.resources.memory_mib if spec.resources.memory_given else None
        orders = {**spec.orders(), "backend": "local", "home": str(self._home), "memory_mib": memory_mib}
        return {name: value for name, value in orders.items() if name != "fleet"}

    def _start(self, spec: WorkerSpec, ordinal: int, record: Path) -> None:
        duty = {**self._orders(spec), "fleet": spec.fleet, "worker": worker_id(spec.fleet, ordinal)}
        scratch, log = record.with_suffix(""), record.with_suffix(".log")
        scratch.mkdir(mode=0o700)
        started_at = time.time()  # before it is there: else one that idled at once would have ended too soon for that
        try:
            pid = self._forked(spec, duty, scratch, log)
        except CannotFork as error:
            with open(log, "wb", opener=owner_only) as file:
                file.write(error.printed)
            note_end(scratch, error.code)
            pid = error.pid
        born = record.with_suffix(".new")
        with open(born, "w", opener=owner_only) as file:
            json.dump({"pid": pid, "born": _born(pid), "started_at": started_at}, file)
        born.replace(record)

    def _forked(self, spec: WorkerSpec, orders: dict[str, Any], scratch: Path, log: Path) -> int:
        """The process id of a new worker. Raises `CannotFork`, or `OSError`."""
        with self._lock:
            server = self._fork_server(spec)
            try:
                return server.fork(orders, scratch, log)
            except CannotFork as error:
                self._let_forks_go(self._fleets[spec.fleet])
                if error.code and not server.worked:
                    raise
            return self._fork_server(spec).fork(orders, scratch, log)  # the other was killed, or idle for too long

    def _let_forks_go(self, env: _Env) -> None:
        if (server := self._forks.pop(env, None)) is not None:
            server.close()

    def _fork_server(self, spec: WorkerSpec) -> ForkServer:
        env = self._fleets[spec.fleet] = frozenset(spec.resources.env.items())
        if env in self._forks and not self._forks[env].fits:
            self._let_forks_go(env)
        if env not in self._forks:
            self._forks[env] = ForkServer(self._home / "workers", spec.resources.env)
        return self._forks[env]

    def _state(self, fleet: FleetId, record: Path) -> WorkerState:
        ordinal = int(record.stem)
        name = worker_id(fleet, ordinal)
        fields = _read(record)
        if fields is None:
            with suppress(FileNotFoundError):
                if time.time() - record.stat().st_mtime < _STARTING_S:
                    return WorkerState(id=name, ordinal=ordinal, phase=WorkerPhase.STARTING)
            return WorkerState(
                id=name,
                ordinal=ordinal,
                phase=WorkerPhase.STOPPED,
                end=WorkerEnd.UNSTARTED,
                reason="its launch did not finish",
            )
        started_at = fields.started_at
        if _alive(fields):
            return WorkerState(id=name, ordinal=ordinal, phase=WorkerPhase.RUNNING, started_at=started_at)
        code, seen_at = None, _changed_at(record.with_suffix(".log"))
        if (end := _read_end(record.with_suffix(".end"))) is not None:
            code, seen_at = end
        reason = "" if code is None else f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return WorkerState(
            id=name,
            ordinal=ordinal,
            phase=WorkerPhase.STOPPED,
            end=WorkerEnd.UNSTARTABLE if misfit(code) else WorkerEnd.DONE if code in _GOOD_ENDS else WorkerEnd.CRASHED,
            exit_code=code,
            reason=misfit(code) or reason,
            started_at=started_at,
            stopped_at=seen_at,
            ran_s=max(seen_at - started_at, 0.0),
        )

    @staticmethod
    def _gone(pids: Sequence[int], within_s: float) -> bool:
        until = time.monotonic() + within_s
        while True:
            if not any(map(_exists, pids)):
                return True
            if time.monotonic() > until:
                return False
            time.sleep(0.002)


def worker_id(fleet: FleetId, ordinal: int) -> WorkerId:
    """The name of a fleet's worker."""
    return WorkerId(f"{fleet}-{ordinal:06d}")


def note_end(scratch: Path, code: int) -> None:
    """How a worker ends: its last word, or its parent's."""
    end = scratch.with_suffix(".end")
    with suppress(OSError):  # its fleet may be forgotten, the disk full
        draft = end.with_suffix(".ending")
        with open(draft, "w", opener=owner_only) as file:
            json.dump({"code": code, "at": time.time()}, file)
        draft.replace(end)


def _changed_at(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@dataclass(frozen=True, slots=True)
class _Record:
    """What is written down of a worker."""

    pid: int
    born: int
    started_at: float


def _read(record: Path) -> _Record | None:
    """None where its launch did not finish, or what is there cannot be read: no signal goes to a wrong process."""
    with suppress(FileNotFoundError, ValueError, RecursionError, Refused):
        fields = Fields(str(record), json.loads(record.read_text()))
        if (pid := fields.whole("pid", least=2)) <= _MOST_PID:
            return _Record(pid, fields.whole("born"), fields.moment("started_at"))
    return None


def _read_end(record: Path) -> tuple[int, float] | None:
    """A worker's exit code and when it ended, if it could say so."""
    with suppress(FileNotFoundError, ValueError, RecursionError, Refused):
        fields = Fields(str(record), json.loads(record.read_text()))
        return fields.whole("code", least=-255), fields.moment("at")
    return None


def _alive(fields: _Record) -> bool:
    return _exists(fields.pid) and _born(fields.pid) in (0, fields.born)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    stat = _proc_stat(pid)
    return stat is None or stat[0] != "Z" or int(stat[1]) > 1  # by its parent, which has yet to say how it ended


def _born(pid: int) -> int:
    """When the process started, in clock ticks since boot, so that a reused process id is not taken for it; or 0."""
    stat = _proc_stat(pid)
    return int(stat[19]) if stat is not None else 0


def _proc_stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _session(leader: int) -> list[int]:
    """The other processes of a worker: its slots and their guards. None where /proc does not tell."""
    pids = (int(entry.name) for entry in Path("/proc").glob("[0-9]*"))
    return [pid for pid in pids if pid != leader and (stat := _proc_stat(pid)) is not None and int(stat[3]) == leader]


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
