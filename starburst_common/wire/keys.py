"""A secret in; the key that signs, and those by which what was signed before is known, out. And such a secret made.

A secret is one key, whatever its bytes, or, once it was changed, several: a mark and their hexadecimal digits, the
newest first. Each process signs by one key, of a run always by the run's own: the newest when the run began. Keys that
are known no more stay there for the accounts alone, each with when it was retired: what was written by then counts.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from threading import Lock
from typing import NamedTuple, Self

from starburst_common.errors import Refused, StarburstError, Unavailable

KEY_BYTES = 32  #: the least that a signing key has
MOST_KEYS = 8  #: that are known; older ones are retired
MOST_RETIRED = 16  #: older ones go, and what they have signed of the accounts counts no more
_MARK = "starburst-keys:1"
#: A parameter of Systems Manager has so many characters. Source: AWS Systems Manager User Guide, "Managing parameter
#: tiers", read 2026-12-01
_MOST_TEXT = 4096
_LOOK_S = 60.0  #: a secret is looked at again no more often


class Retired(NamedTuple):
    """A key that signs nothing any more, and what it has signed is not read, but for accounts of before."""

    key: bytes
    until: int  #: on the store's clock: what was written later is nobody's


class KeyRing(bytes):
    """The key that signs; it knows the others, also those that come later, as far as it can look."""

    _known: _Known

    @classmethod
    def of(cls, secret: bytes, look: Callable[[], bytes] | None = None) -> Self:
        """Of a secret, which `look` reads again. Raises `Refused` where it is malformed."""
        keys = keys_in(secret)
        return cls(keys[0])._with(_Known(keys, look, retired_in(secret)))

    def _with(self, known: _Known) -> Self:
        self._known = known
        return self

    def signing(self, key: bytes) -> KeyRing:
        """The same, with another of its keys to sign by."""
        return KeyRing(key)._with(self._known)

    def named(self, name: str) -> KeyRing | None:
        """The one with this id; None where there is none."""
        found = next((key for key in (self, *self.others()) if key_id(key) == name), None)
        return None if found is None else self.signing(found)

    def others(self) -> Iterator[bytes]:
        """Those that are known beside it; then those that are found by looking again."""
        yield from (key for key in [*self._known.keys] if key != self)
        yield from self._known.newer()

    @property
    def known(self) -> Sequence[bytes]:
        """All of them, without looking again: the newest first."""
        return [*self._known.keys]

    @property
    def retired(self) -> Sequence[Retired]:
        """Those by which accounts may be signed that were written before."""
        return self._known.retired

    @property
    def older(self) -> int:
        """How many are known beside it."""
        return len(self._known.keys) - 1


class _Known:
    """Keys that several rings share, as processes live on while a secret is changed."""

    def __init__(self, keys: Sequence[bytes], look: Callable[[], bytes] | None, retired: Sequence[Retired]) -> None:
        self.keys, self._look, self.retired = [*keys], look, retired
        self._lock, self._looked_at = Lock(), time.monotonic()

    def newer(self) -> list[bytes]:
        """Those that nobody here knew, if it is time to look."""
        with self._lock:
            if self._look is None or time.monotonic() - self._looked_at < _LOOK_S:
                return []
            self._looked_at = time.monotonic()
            with suppress(StarburstError, OSError):  # who cannot look knows what he knew
                secret = self._look()
                found = [key for key in keys_in(secret) if key not in self.keys]
                self.keys += found
                self.retired = retired_in(secret)
                return found
        return []


def keys_in(secret: bytes) -> list[bytes]:
    """The keys of a secret, the one that signs first. Raises `Refused` for a list that is none.

    >>> keys_in(b"k" * 32) == [b"k" * 32]
    True
    >>> keys_in(secret_of([b"new" * 11, b"old" * 11]).encode()) == [b"new" * 11, b"old" * 11]
    True
    """
    return _read(secret)[0]


def retired_in(secret: bytes) -> list[Retired]:
    """Those that are retired, the latest first. Raises as `keys_in`."""
    return _read(secret)[1]


def _read(secret: bytes) -> tuple[list[bytes], list[Retired]]:
    if not secret.startswith(_MARK.encode()):
        return [secret], []
    try:
        words = [word.partition("@") for word in secret.decode().split()[1:]]
        keys = [bytes.fromhex(digits) for digits, at, _ in words if not at]
        retired = [Retired(bytes.fromhex(digits), int(until)) for digits, at, until in words if at]
    except ValueError:
        keys, retired = [], []
    if not keys or min(len(key) for key in (*keys, *(each.key for each in retired))) < KEY_BYTES:
        raise Refused(f"the signing secret is malformed: {_MARK}, and no keys of {KEY_BYTES} bytes or more in hex")
    return keys, retired


def secret_of(keys: Sequence[bytes], retired: Sequence[Retired] = ()) -> str:
    """The inverse, as text; of too many the oldest are left out, and of the retired those that have no room.

    >>> len(secret_of([b"k" * 64], [Retired(b"r" * 500, 0)] * 8))
    3154
    """
    words = [_MARK, *(key.hex() for key in keys[:MOST_KEYS])]
    for each in retired[:MOST_RETIRED]:
        if len(" ".join(more := [*words, f"{each.key.hex()}@{each.until}"])) > _MOST_TEXT:
            break
        words = more
    return " ".join(words)


def leaving(keys: Sequence[bytes], *, revoke: bool) -> list[bytes]:
    """Which of a secret's keys are known no more once another is put before them.

    >>> leaving([b"k"], revoke=False), leaving([b"k"], revoke=True), leaving([b"k"] * 7 + [b"old"], revoke=False)
    ([], [b'k'], [b'old'])
    """
    return [*keys[0 if revoke else MOST_KEYS - 1 :]]


def changed(secret: bytes, new: bytes, *, revoke: bool, now: float, agreed: Collection[bytes] | None = None) -> str:
    """A secret with another key put before its own, of which those that are leaving are retired.

    `agreed` are the keys that may leave, where not any may: raises `Unavailable` where another would. Raises `Refused`
    as `keys_in`, but to revoke them all.

    >>> text = changed(b"k" * 32, b"n" * 32, revoke=True, now=7.5).encode()
    >>> keys_in(text) == [b"n" * 32], retired_in(text) == [Retired(b"k" * 32, 8)]
    (True, True)
    """
    try:
        keys, retired = _read(secret)
    except Refused:
        if not revoke:
            raise
        keys, retired = [], []  # nobody works by a secret that is malformed
    gone = leaving(keys, revoke=revoke)
    if agreed is not None and not {*gone} <= {*agreed}:
        raise Unavailable("somebody else has changed the key meanwhile: nothing was changed: do it again")
    late = [Retired(key, math.ceil(now)) for key in gone if len(key) >= KEY_BYTES]  # no other has signed anything
    return secret_of([new, *keys[: len(keys) - len(gone)]], [*late, *retired])


def key_id(key: bytes) -> str:
    """What a key is called where it must not be told: of which workers have to sign by, and which shared values lie.

    >>> key_id(b"k" * 32)
    '4a834f64'
    """
    return hmac.new(key, b"starburst: the name of a key", hashlib.sha256).hexdigest()[:8]
