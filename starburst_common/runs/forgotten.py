"""A backend, and keys that are about to be known no more, in; what depends on them out, and ended in time."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from starburst_common.errors import Denied, NotFound, Refused, Unavailable
from starburst_common.model import FleetId, RunId
from starburst_common.names import RunNames
from starburst_common.ports import SMALL_BYTES, Backend
from starburst_common.runs.find import run_ids
from starburst_common.runs.ledger import kept
from starburst_common.runs.standing import HeldFleet, held_fleets, stop_fleet
from starburst_common.wire.seals import signer_of

_AT_ONCE = 32  #: runs are looked at so, where each is a request


class Dependent(NamedTuple):
    """What nobody can read, or use, once certain keys are known no more."""

    runs: tuple[RunId, ...]  #: that are kept, those that go on as well
    fleets: tuple[HeldFleet, ...]

    @property
    def going(self) -> tuple[RunId, ...]:
        """The runs that go on."""
        return tuple(run.id for fleet in self.fleets for run in fleet.runs)

    @property
    def workers(self) -> int:
        """That are alive."""
        return sum(len(fleet.workers) for fleet in self.fleets)


def dependent_on(backend: Backend, keys: Collection[bytes], *, all_there_are: bool) -> Dependent:
    """What is signed by these; by `all_there_are`, every fleet, also where it cannot be told which key it is of."""

    def signed(run: RunId) -> bool:
        about = RunNames(run).spec
        try:
            return signer_of(backend.key, about, backend.store.get(about, SMALL_BYTES)) in keys
        except (NotFound, Refused):
            return False

    if not keys:
        return Dependent((), ())
    every = sorted(run_ids(backend))
    with ThreadPoolExecutor(1 if backend.name == "local" else _AT_ONCE) as pool:
        runs = [run for run, of in zip(every, pool.map(signed, every), strict=True) if of]
    fleets = [each for each in held_fleets(backend) if each.key in keys or all_there_are]
    return Dependent(tuple(runs), tuple(fleets))


def end(backend: Backend, dependent: Dependent, tell: Callable[[str], None]) -> list[FleetId]:
    """Cancel these runs and stop these fleets while their keys are known, and write what they cost; those that stopped.

    What cannot be ended is told.
    """
    stopped = []
    for fleet in dependent.fleets:
        try:
            if stop_fleet(backend, fleet):
                stopped.append(fleet.id)
        except (Denied, Unavailable, NotFound, Refused) as error:
            tell(f"{fleet.id} is not stopped: {error}")
    try:
        kept(backend, 0.0)  # entries that lack
    except (Denied, Unavailable) as error:
        tell(f"what the last runs cost may be in no sum: {error}")
    return stopped
