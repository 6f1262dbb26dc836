"""A leg's workers and what their outcomes tell in; what is charged for beside those workers, and will be, out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from starburst_common.model import NAT_ALL, WorkerState
from starburst_common.money.tolls import tolls_usd
from starburst_common.names import RunNames
from starburst_common.ports import Backend
from starburst_common.resources import Resources
from starburst_common.runs.legs import End
from starburst_common.runs.spec import read_end

IMAGE_BYTES = "image-bytes"  #: one of `TOLLS`


def image_usd(backend: Backend, image: str) -> Decimal:
    """What it costs that a worker pulls its image through a NAT gateway."""
    return beside_usd(backend, {IMAGE_BYTES: image_bytes(backend, image)})


def image_bytes(backend: Backend, image: str) -> int:
    """What a worker pulls of its image through a NAT gateway."""
    if backend.images is None or backend.tariff.nat != NAT_ALL:
        return 0
    return backend.images.nbytes(image)


def beside_usd(backend: Backend, tolls: Mapping[str, int]) -> Decimal:
    """What these cost, less the discount."""
    return sum(tolls_usd(tolls, backend.tariff).values(), Decimal(0)) * (1 - Decimal(str(backend.discount)))


class Caused(NamedTuple):
    """What outcomes tell of what is charged for beside workers."""

    share: Decimal  #: for each dollar of work
    usd: Decimal  #: so many dollars of work it is of


class Charges:
    """Of one leg of a run, for its driver: requests, logs and data through a NAT gateway."""

    def __init__(self, backend: Backend, names: RunNames, resources: Resources, began_at: float) -> None:
        self._backend, self._names, self._resources, self._began_at = backend, names, resources, began_at
        self._own: Counter[str] = Counter()  # requests of this process, whose bytes go through no gateway of the site's
        self._ended: End | None = None
        self._image: int | None = None

    # No `cached_property`: before Python 3.12 one run whose store is slow would hold up all others of the process.

    @property
    def _former(self) -> End | None:
        """How the leg before ended, whose tolls count all before."""
        if self._ended is None and self._names.leg:
            self._ended = read_end(self._backend, self._names.run, self._names.leg - 1)
        return self._ended

    @property
    def _image_bytes(self) -> int:
        if self._image is None:
            self._image = image_bytes(self._backend, self._resources.image)
        return self._image

    @property
    def begin(self) -> Decimal:
        """What each worker costs beside its time."""
        return beside_usd(self._backend, {IMAGE_BYTES: self._image_bytes})

    def untold(self, workers: Sequence[WorkerState]) -> Counter[str]:
        """What no outcome tells, of all legs: requests of drivers, and images; instances keep theirs."""
        asked = {} if self._backend.tolls is None else self._backend.tolls()
        self._own.update({kind: count for kind, count in asked.items() if not kind.endswith("-bytes")})
        began = 0.0 if self._names.leg else self._began_at
        pulls = {(of.granted and of.granted.instance) or of.id for of in workers if of.started_at > began}
        pulled = {IMAGE_BYTES: len(pulls) * self._image_bytes}
        return Counter({} if self._former is None else self._former.untold) + self._own + Counter(pulled)

    def usd(self, told: Counter[str], workers: Sequence[WorkerState]) -> Decimal:
        """What this leg has cost so far beside its workers, by what outcomes have `told` and what they do not tell."""
        former = Counter({} if self._former is None else self._former.tolls)
        return beside_usd(self._backend, told + self.untold(workers) - former)

    def share(self, told: Counter[str], settled_s: float, usd_a_s: Decimal, least: Decimal) -> Caused:
        """What outcomes tell of it; of this leg.

        `settled_s` is what workers' time of all legs they are of; below `least` dollars they tell little.
        """
        former = self._former
        if former is not None:
            told, settled_s = told - (Counter(former.tolls) - Counter(former.untold)), settled_s - former.slot_seconds
        usd = Decimal(str(max(settled_s, 0.0))) * usd_a_s
        return Caused(beside_usd(self._backend, told) / max(usd, least), usd)
