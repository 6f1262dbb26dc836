"""Images of a repository in; which nobody needs any more out; and those removed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress

from starburst_common.errors import NotFound, Refused
from starburst_common.ids import ids
from starburst_common.model import FleetId
from starburst_common.names import FLEETS, holders
from starburst_common.ports import SMALL_BYTES, ObjectStore, Repository, StoredImage

PREFIX = "env-"  #: of the tags that are ours

_DAY_S = 86_400


def last_used(image: StoredImage) -> float:
    """When it was last pulled, or pushed if it never was or was pushed again since."""
    return max(image.pushed_at, image.pulled_at or 0.0)


def tags_in_use(store: ObjectStore, repository: Repository) -> frozenset[str]:
    """The tags that open fleets use, as who needs them has written down."""
    used = set()
    for fleet in ids(store.folders(FLEETS)):
        for key in store.list(holders(FleetId(fleet))):
            with suppress(NotFound, Refused, ValueError):
                used.add(bytes(store.get(key, SMALL_BYTES)).decode())
    try:
        prefix = f"{repository.uri}:"
    except NotFound:  # nobody has built one yet
        return frozenset()
    return frozenset(image.removeprefix(prefix) for image in used if image.startswith(prefix))


def removable(
    images: Iterable[StoredImage], *, in_use: Collection[str], keep_days: float, now: float
) -> list[StoredImage]:
    """Our images that no fleet uses and nobody pulled for longer than `keep_days`, longest unused first.

    >>> day = 86_400.0
    >>> image = StoredImage(tag="env-1", digest="", size_bytes=0, pushed_at=0.0, pulled_at=5 * day)
    >>> [len(removable([image], in_use=used, keep_days=7, now=t * day)) for used in ((), {"env-1"}) for t in (12, 13)]
    [0, 1, 0, 0]
    """
    old = [
        image
        for image in images
        if image.tag.startswith(PREFIX) and image.tag not in in_use and now - last_used(image) > keep_days * _DAY_S
    ]
    return sorted(old, key=lambda image: (last_used(image), image.tag))


def collect(
    repository: Repository, *, in_use: Collection[str], keep_days: float, now: float, really: bool = False
) -> list[StoredImage]:
    """What is removable; removed only if `really`. Raises `Unavailable` or `Denied`."""
    found = removable(repository.images(), in_use=in_use, keep_days=keep_days, now=now)
    if really and found:
        repository.delete([image.tag for image in found])
    return found
