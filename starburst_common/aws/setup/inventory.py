"""What was asked of a site, and what setup has made of it, written down in the site's bucket before it is made.

What is not in it is never taken away. Its objects are not sealed: each thing is asked for the site's mark, too.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, NamedTuple

from starburst_common.aws.definitions import SITES, torn_down
from starburst_common.aws.setup.account import AwsAccount
from starburst_common.aws.store import S3Objects
from starburst_common.errors import BadInput, Exists, NotFound, Refused, StarburstError
from starburst_common.phrases import one_line
from starburst_common.ports import SMALL_BYTES
from starburst_common.sites.wanted import SitePart

_STALE_S = 15 * 60  #: who has held it for so long was killed
_LOOK_S = 2.0
_HELD: set[str] = set()  #: by this process


class Holder(NamedTuple):
    """Who works on a site."""

    by: str
    host: str
    pid: int
    at: float  #: wall clock

    def gone(self) -> bool:
        """Whether that process was killed, as far as this machine can tell, or so long ago that it must have been."""
        if time.time() - self.at > _STALE_S:
            return True
        if self.host != socket.gethostname():
            return False
        if self.pid == os.getpid():
            return not _HELD
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


class Inventory:
    """Of one site, in its bucket."""

    def __init__(self, account: AwsAccount, bucket: str) -> None:
        self._account, self._store = account, S3Objects(bucket, account.clients)
        self._folder = f"{SITES}{account.site}/"

    def add(self, part: SitePart) -> None:
        """It is about to be made."""
        with suppress(Exists):
            self._store.create(self._key(part), json.dumps(part).encode())

    def drop(self, part: SitePart) -> None:
        """It is gone."""
        self._store.delete([self._key(part)])

    def keep_asked(self, asked: Mapping[str, Any]) -> None:
        """What is asked of the site, for whoever sets it up again, from wherever; and what ever was, to be undone."""
        once = {kind: sorted({*names, *_named(asked)[kind]}) for kind, names in _once(self.asked() or {}).items()}
        self._store.put(f"{self._folder}asked", json.dumps({**asked, "once": once}).encode())

    def asked(self) -> dict[str, Any] | None:
        """What was; None where nobody has written it down, or it cannot be read."""
        with suppress(NotFound, Refused, ValueError, RecursionError):
            found = json.loads(bytes(self._store.get(f"{self._folder}asked", SMALL_BYTES)))
            return found if isinstance(found, dict) else None
        return None

    def forget_asked(self) -> None:
        """The site is gone."""
        self._store.delete([f"{self._folder}asked"])

    def mark_torn_down(self, torn: bool) -> None:
        """Drivers that live on start no more workers from now on; or they may again."""
        key = torn_down(self._account.site)
        self._store.put(key, b"") if torn else self._store.delete([key])

    def refuse_others(self) -> None:
        """Raise `BadInput` where another site's things are written down here, whose runs lie in this bucket.

        Keys do not say of which site they are. Who sets up looks once it has written down itself: of two at once, one
        at least is refused.
        """
        keys = (entry.key.removeprefix(SITES) for entry in self._store.entries(SITES))
        found = {key.partition("/")[0] for key in keys if not key.endswith("/torn-down")} - {self._account.site}
        if found:
            raise BadInput(
                f"--bucket {self._store.bucket}: site {min(found)} has its runs there, and each site's would be taken "
                "for the other's: give another --bucket, or leave it out, and one is made"
            )

    def parts(self) -> list[SitePart]:
        """All there are. What is no part is left out."""
        found = []
        for entry in self._store.entries(f"{self._folder}parts/"):
            with suppress(NotFound, Refused, ValueError, TypeError, RecursionError):
                kind, name = json.loads(bytes(self._store.get(entry.key, SMALL_BYTES)))
                found.append(SitePart(str(kind), str(name)))
        return found

    @contextmanager
    def held(self, tell: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
        """Nobody else sets this site up, or takes it away, while the block runs; what tells whether that is so still.

        It is not where who holds it was stopped for so long that somebody else took him for killed.
        """
        caller = one_line(self._account.caller, 100)
        key, me = f"{self._folder}held", Holder(caller, socket.gethostname(), os.getpid(), time.time())
        told = False
        while (holder := self._take(key, me)) != me:
            if holder is None:  # it was changed meanwhile
                continue
            if not told:
                told = True
                tell(f"{holder.by} works on this site right now: waiting, {_STALE_S // 60} minutes at most")
            time.sleep(_LOOK_S)
        _HELD.add(key)
        try:
            yield lambda: self._holder(key) == me
        finally:
            _HELD.discard(key)
            with suppress(StarburstError):  # the bucket may be what was taken away
                if self._holder(key) == me:
                    self._store.delete([key])

    def _take(self, key: str, me: Holder) -> Holder | None:
        """Who holds it now; of those who find that its holder is gone, one has it then. None where nobody can tell."""
        body = json.dumps(me).encode()
        with suppress(Exists):
            self._store.create(key, body)
            return me
        with suppress(NotFound, Refused):
            found, tag = self._store.tagged(key)
            holder = _holder_in(found)
            if holder is not None and not holder.gone():
                return holder
            if self._store.swap(key, body, tag) is not None:
                return me
        return None

    def _holder(self, key: str) -> Holder | None:
        """Who holds it; None for nobody, or where it cannot be read."""
        with suppress(NotFound, Refused):
            return _holder_in(bytes(self._store.get(key, SMALL_BYTES)))
        return None

    def _key(self, part: SitePart) -> str:
        return f"{self._folder}parts/{part.kind.replace(' ', '-')}--{part.name.strip('/').replace('/', '--')}"


def _named(asked: Mapping[str, Any]) -> dict[str, list[str]]:
    """What of a site that was asked for can be told from what others put there by its name alone.

    >>> _named({"tags": ["team=x"], "boundary": "arn:b"})
    {'tags': ['team'], 'boundary': ['arn:b']}
    """
    return {
        "tags": [str(each).partition("=")[0] for each in _listed(asked.get("tags"))],
        "boundary": [str(each) for each in [asked.get("boundary")] if each],
    }


def _listed(found: Any) -> list[Any]:
    return [*found] if isinstance(found, list | tuple) else []


def _once(asked: Mapping[str, Any]) -> dict[str, list[str]]:
    """The same of what was asked for at any time, the last included: earlier releases wrote no more than that down."""
    kept = asked.get("once")
    kept = kept if isinstance(kept, dict) else {}
    return {
        kind: sorted({*names, *(str(each) for each in _listed(kept.get(kind)))})
        for kind, names in _named(asked).items()
    }


def remembering(account: AwsAccount, asked: Mapping[str, Any] | None) -> AwsAccount:
    """With what was asked of the site at any time, to tell it from what others have put there."""
    once = _once(asked or {})
    return replace(account, tags_once=once["tags"], bounds_once=once["boundary"])


def _holder_in(body: bytes) -> Holder | None:
    with suppress(ValueError, TypeError, RecursionError):
        by, host, pid, at = json.loads(body)
        return Holder(one_line(str(by), 100), str(host), int(pid), float(at))
    return None
