"""A site in; which of its runs and fleets still have things in AWS out, as the store tells when it is asked.

An owner is written down in the store before anything is made for him: who lists things first, and looks for owners
then, takes no thing that is just made for one without.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from starburst_common.aws.clients import Clients
from starburst_common.aws.keys import signing_key
from starburst_common.aws.store import S3Objects
from starburst_common.errors import NotFound, Refused
from starburst_common.ids import held_for, ids
from starburst_common.model import FleetId, RunId
from starburst_common.names import FLEETS, RunNames, holders
from starburst_common.ports import SMALL_BYTES
from starburst_common.sites.site import Site


class Owners:
    """Which runs and fleets have things, as the store tells when it is asked."""

    def __init__(self, site: Site, clients: Clients, *, now: float, least_s: float) -> None:
        self.site, self.clients, self.now, self.least_s = site, clients, now, least_s
        self.store = S3Objects(site.bucket, clients)

    def have(self, owner: str) -> bool:
        """Whether a run goes on, or a fleet is held; for a while after that, too."""
        return self._run_goes_on(RunId(owner)) if owner.startswith("run-") else self._is_held(FleetId(owner))

    def mark(self, marks: Mapping[str, str]) -> bool:
        """Whether tags mark a thing as the site's."""
        return marks.get("starburst:site") == self.site.name

    def know(self, key: str) -> bool:
        """Whether a key is known of this name, or none is told, as the secret has it now.

        A worker's key was there before it was launched. Raises `Denied`, `Unavailable`, `BadInput`.
        """
        return not key or signing_key(self.clients, self.site.signing_secret).named(key) is not None

    def young(self, at: float) -> bool:
        """Whether what was made then may have an owner who is not written down yet."""
        return max(self.now - at, 0.0) < self.least_s

    def images(self) -> set[str]:
        """Those that held fleets run in."""
        used = set()
        for fleet in ids(self.store.folders(FLEETS)):
            for key in self.store.list(holders(FleetId(fleet))):
                with suppress(NotFound, Refused, ValueError):
                    used.add(bytes(self.store.get(key, SMALL_BYTES)).decode() or self.site.image)
        return used

    def _is_held(self, fleet: FleetId) -> bool:
        holding = held_for(self.store.list(holders(fleet)))
        return any(not name.startswith("run-") or self._run_goes_on(RunId(name)) for name in holding)

    def _run_goes_on(self, run: RunId) -> bool:
        names = RunNames(run)
        written = {entry.key: entry.written_at for entry in self.store.entries(names.folder)}
        ended_at = written.get(names.newest(written).end)
        if ended_at is not None:
            return self.young(ended_at)
        return any(not names.comes_late(key) or self.young(at) for key, at in written.items())
