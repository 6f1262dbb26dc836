"""Fleets that clusters of this process hold, and say so now and then: let go with the cluster, or with the process."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Event, Thread

from starburst_common.errors import Denied, StarburstError, Unavailable
from starburst_common.fleets.fleet import Fleet
from starburst_common.model import FleetId
from starburst_common.phrases import our_log
from starburst_common.runs.patience import CLOSE_S, at_exit, bounded, patiently

_log = our_log()
SIGN_S = 60.0  #: between two signs that a cluster has its fleet still
_held: dict[tuple[FleetId, str], tuple[Fleet, Event, Thread]] = {}  # by clusters of this process that are not closed
os.register_at_fork(after_in_child=_held.clear)


def held(fleet: Fleet, holder: str) -> None:
    """A cluster has it from now on, by that name."""
    gone, name = Event(), f"starburst-holds-{fleet.id}"
    signing = Thread(target=_sign, args=(fleet, holder, gone), name=name, daemon=True)
    _held[fleet.id, holder] = fleet, gone, signing
    with suppress(RuntimeError):  # no further thread can be: then nobody knows after a while
        signing.start()


def _sign(fleet: Fleet, holder: str, gone: Event) -> None:
    while not gone.wait(SIGN_S):
        with suppress(StarburstError, OSError):
            fleet.sign(holder, gone.is_set)


def _silenced(gone: Event, signing: Thread) -> None:
    """No more signs, nor one that is under way: whoever lets go would see it, and leave the fleet open."""
    gone.set()
    if signing.ident is not None:
        signing.join(CLOSE_S)


def let_go(fleet: Fleet, holder: str) -> None:
    """Its cluster is closed. What the calls gave is not lost because an outage meets the end."""
    if there := _held.pop((fleet.id, holder), None):
        _silenced(*there[1:])
    try:
        patiently(lambda: fleet.release(holder), bounded(f"fleet {fleet.id}", CLOSE_S))
    except (Unavailable, Denied) as error:
        _log.warning("fleet %s stays for now: idle workers stop, and pruning removes it: %s", fleet.id, error)


@at_exit
def _let_go() -> None:
    """Clusters that nobody closed let go of their workers, which a run that goes on keeps."""
    for (_, holder), (fleet, gone, signing) in _held.items():
        _silenced(gone, signing)
        with suppress(StarburstError):
            fleet.release(holder)
