"""A process that maps, or prunes, and dies at a named point of its way over the ports."""

from __future__ import annotations

import multiprocessing
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from starburst_common import starburst_map
from starburst_common.ports import Backend
from starburst_common.runs.prune import prune
from tests.calls import add, hungry
from tests.places import open_place

N = 12  #: items; a chunk each, so that there are notices enough for the driver to delete some
IDLE_S = 0.5  #: workers that nobody drives any more are soon gone
WARM_S = 4.0  #: and those that are kept warm somewhat later
MONTH_S = 30 * 86400.0
_DIED = 9
_ID = re.compile(r"\b(run|fleet|cluster)-\d{8}-\d{6}-[0-9a-f]{8}")
_MONTH = re.compile(r"/\d{4}-\d\d(?=/)")
_KIND = re.compile("^warm/[0-9a-f]+/")
_NUMBER = re.compile(r"/[0-9a-f]{12,}$")
#: One process that has imported all this; each that dies is forked from it, which costs nothing.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.faults.dying"])


class Died(NamedTuple):
    """What a process that may have died said last."""

    at: str  #: the point at which it died; empty if it came to its end
    calls: list[str]  #: the names of the calls it had begun, in their order


def mapped(place: str, point: str, *, warm: bool = False, escalates: bool = False) -> Died:
    """Map all items in a process of its own that dies at a point; on a fleet that is kept warm, if that is wanted.

    Or with an item that needs more memory than there is at first.
    """
    return _in_a_process(_map_warm if warm else _map_escalating if escalates else _map, place, point)


def pruned(place: str, point: str) -> Died:
    """Prune, a month later, in a process of its own that dies at a point."""
    return _in_a_process(_prune, place, point)


def named(port: str, method: str, args: tuple[Any, ...]) -> str:
    """What a call is called: ids, months, numbers and hashes are left out.

    >>> named("store", "create", ("runs/run-20261129-044043-b152e452/plan/000000000000", b""))
    'store.create runs/run/plan'
    >>> named("store", "delete", (["fleets/fleet-20261129-044043-4b02bd4b/held-by/cluster"],))
    'store.delete fleets/fleet/held-by/cluster'
    >>> named("queue", "send", ("fleet-20261129-044043-4b02bd4b-work", []))
    'queue.send fleet-work'
    >>> named("store", "create", ("warm/0a1b2c3d0a1b2c3d/fleet-20261129-044043-4b02bd4b", b""))
    'store.create warm/kind/fleet'
    """
    first = args[0] if args else ""
    if isinstance(first, list):
        first = first[0] if first else ""
    what = _KIND.sub("warm/kind/", first) if isinstance(first, str) else ""
    what = _NUMBER.sub("", _MONTH.sub("", _ID.sub(r"\1", what)))
    return f"{port}.{method} {what}".strip()


def _in_a_process(act: Callable[[Backend, int], None], place: str, point: str) -> Died:
    ours, theirs = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=_live, args=(theirs, act, dict(os.environ), place, point))
    process.start()
    theirs.close()
    try:
        told = ours.recv() if ours.poll(120) else None
        process.join(60)
        assert told is not None and process.exitcode == (_DIED if told.at else 0), (process.exitcode, told)
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()
    return told


def _live(
    told: Connection, act: Callable[[Backend, int], None], env: Mapping[str, str], place: str, point: str
) -> None:
    os.environ.clear()
    os.environ.update(env)
    backend = open_place(place).paced(idle_s=IDLE_S)
    way = _Way(told, point)
    ports = {name: _Port(name, getattr(backend, name), way) for name in ("store", "queue", "compute")}
    act(replace(backend, **ports), 2 if way.when == "halfway" else 1)  # so that half of a launch is something
    told.send(Died("", way.calls))


def _map(backend: Backend, workers: int, keep_warm: float = 0.0) -> None:
    values = starburst_map(
        add, range(N), workers=workers, chunk_size=1, keep_warm=keep_warm, backend=backend, progress=False
    )
    assert values == [*range(N)]


def _map_escalating(backend: Backend, workers: int) -> None:
    options: dict[str, Any] = {"chunk_size": 1, "cpu": 0.25, "memory": "512MB", "escalate": True}
    assert starburst_map(hungry, range(N), workers=1, backend=backend, progress=False, **options) == [*range(N)]


def _map_warm(backend: Backend, workers: int) -> None:
    _map(backend, workers, WARM_S)


def _prune(backend: Backend, workers: int) -> None:
    prune(backend, now=time.time() + MONTH_S)


class _Way:
    """The calls of all ports as they come; ends the process at its point."""

    def __init__(self, told: Connection, point: str) -> None:
        self.when, _, self._name = point.partition(" ")
        self._point, self._told, self._lock = point, told, threading.Lock()
        self.calls: list[str] = []

    def call(self, name: str, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Do a call, and die before it, after it, or when half of what it was given is done."""
        here = name == self._name
        with self._lock:
            self.calls.append(name)
            if here and self.when == "before":
                self._die()
        if here and self.when == "halfway":
            first, several, *more = args
            real(first, several[: len(several) // 2], *more, **kwargs)
            with self._lock:
                self._die()
        given = real(*args, **kwargs)
        if here and self.when == "after" and given != []:  # a receive that got nothing is none
            with self._lock:
                self._die()
        return given

    def _die(self) -> None:
        self._told.send(Died(self._point, self.calls))
        os._exit(_DIED)


class _Port:
    """A port whose calls go by a `_Way`."""

    def __init__(self, name: str, port: Any, way: _Way) -> None:
        self._name, self._real, self._way = name, port, way

    def __getattr__(self, method: str) -> Any:
        real = getattr(self._real, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._way.call(named(self._name, method, args), real, args, kwargs)

        return call
