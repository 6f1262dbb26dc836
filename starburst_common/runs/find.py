"""Ids, "last" or tags in; the runs that are kept out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from types import MappingProxyType
from typing import Any

from starburst_common.errors import BadInput, NotFound
from starburst_common.ids import ids
from starburst_common.ids import run_id as run_id_of
from starburst_common.model import RunId
from starburst_common.names import RUNS
from starburst_common.ports import Backend
from starburst_common.runs.begin import taken_up
from starburst_common.runs.drive import Driver
from starburst_common.runs.family import Family
from starburst_common.runs.hold import Hold
from starburst_common.runs.run import Run
from starburst_common.runs.spec import find_spec, find_tagged, read_spec


def attach(run_id: str, *, backend: str | Backend = "auto") -> Run:
    """Hold a run that some process started, on any day before it expires; "last" is the newest that is kept.

    Nothing is driven until you wait for it or ask for its results; then this process drives it on if need be.
    Raises `NotFound`, or `BadInput` for what is no text.
    """
    from starburst_common.backends import open_backend

    opened = open_backend(backend)
    if run_id == "last" and (newest := next(read_runs(opened, run_ids(opened)), None)) is not None:
        return newest
    named = run_id_of(run_id)
    return Run(opened, find_spec(opened, named), None)


def driver_of(run_id: str, backend: Backend) -> Driver:
    """A driver of a run that some process began, for who calls its `step` until that says that the run is over.

    It has no thread. Its `books` tell how the run stands; what was answered is read by `attach`. As one process may
    have many of them, where nothing is amiss it looks at the run as a whole when answers are to be listed, and asks
    at other ticks who answered and who cancelled: two requests. Raises `NotFound`.
    """
    return taken_up(backend, read_spec(backend, run_id_of(run_id)), calm_s=backend.look_s)


def run_of(driver: Driver) -> Run:
    """The run that a driver drives, as that one knows it: its status costs nothing. Raises `NotFound`."""
    return Run(driver.backend, read_spec(driver.backend, driver.run), driver)


def answer_of(run_id: str, index: int, backend: Backend) -> Any:
    """One item's value, or its `Failure`, by its number; other values are not unpickled, and nothing is driven.

    Raises `NotFound` where there is no such run, or no answer.
    """
    spec = read_spec(backend, run_id_of(run_id))
    return Family.of(Hold(backend, spec, None)).answer(index)


def list_runs(*, backend: str | Backend = "auto", tags: Mapping[str, str] | None = None) -> list[Run]:
    """Every run that is kept, or that has all of these tags, newest first."""
    from starburst_common.backends import open_backend

    wanted = {} if tags is None else tags
    if not (isinstance(wanted, Mapping) and all(isinstance(text, str) for tag in wanted.items() for text in tag)):
        raise BadInput(f"tags={tags!r}: give a dictionary whose names and values are text, or None")
    opened = open_backend(backend)
    return [*read_runs(opened, run_ids(opened), wanted)]


def run_ids(backend: Backend) -> list[RunId]:
    """The ids of all runs that are kept, newest first; none of them is read."""
    return [RunId(name) for name in reversed(ids(backend.store.folders(RUNS))) if name.startswith("run-")]


def read_runs(backend: Backend, ids: Sequence[RunId], tags: Mapping[str, str] = MappingProxyType({})) -> Iterator[Run]:
    """The runs with these ids, which are in order, and these tags, newest first; no more are read than are taken.

    Ids tell the second in which they were made, and sort by it; those of one second are read together.
    """
    for _, together in groupby(ids, key=lambda name: name.rpartition("-")[0]):
        specs = []
        for name in together:
            with suppress(NotFound):
                specs += find_tagged(backend, name, tags)
        yield from (Run(backend, spec, None) for spec in sorted(specs, key=lambda spec: -spec.created_at))
