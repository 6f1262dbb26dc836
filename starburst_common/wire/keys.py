"""A secret in; the key that signs, and those by which what was signed before is known, out. And such a secret made.

A secret is one key, whatever its bytes, or, once it was changed, several: a mark and their hexadecimal digits, the
newest first. Each process signs by one key, of a run always by the run's own: the newest when the run began.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from threading import Lock
from typing import Self

from starburst_common.errors import Refused, StarburstError

KEY_BYTES = 32  #: the least that a signing key has
MOST_KEYS = 8  #: that are kept; older ones go
_MARK = "starburst-keys:1"
_LOOK_S = 60.0  #: a secret is looked at again no more often


class KeyRing(bytes):
    """The key that signs; it knows the others, also those that come later, as far as it can look."""

    _known: _Known

    @classmethod
    def of(cls, secret: bytes, look: Callable[[], bytes] | None = None) -> Self:
        """Of a secret, which `look` reads again. Raises `Refused` where it is malformed."""
        keys = keys_in(secret)
        return cls(keys[0])._with(_Known(keys, look))

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
    def older(self) -> int:
        """How many are known beside it."""
        return len(self._known.keys) - 1


class _Known:
    """Keys that several rings share, as processes live on while a secret is changed."""

    def __init__(self, keys: Sequence[bytes], look: Callable[[], bytes] | None) -> None:
        self.keys, self._look = [*keys], look
        self._lock, self._looked_at = Lock(), time.monotonic()

    def newer(self) -> list[bytes]:
        """Those that nobody here knew, if it is time to look."""
        with self._lock:
            if self._look is None or time.monotonic() - self._looked_at < _LOOK_S:
                return []
            self._looked_at = time.monotonic()
            with suppress(StarburstError, OSError):  # who cannot look knows what he knew
                found = [key for key in keys_in(self._look()) if key not in self.keys]
                self.keys += found
                return found
        return []


def keys_in(secret: bytes) -> list[bytes]:
    """The keys of a secret, the one that signs first. Raises `Refused` for a list that is none.

    >>> keys_in(b"k" * 32) == [b"k" * 32]
    True
    >>> keys_in(secret_of([b"new" * 11, b"old" * 11]).encode()) == [b"new" * 11, b"old" * 11]
    True
    """
    if not secret.startswith(_MARK.encode()):
        return [secret]
    try:
        keys = [bytes.fromhex(word) for word in secret.decode().split()[1:]]
    except ValueError:
        keys = []
    if not keys or min(map(len, keys)) < KEY_BYTES:
        raise Refused(f"the signing secret is malformed: {_MARK}, and no keys of {KEY_BYTES} bytes or more in hex")
    return keys


def secret_of(keys: Sequence[bytes]) -> str:
    """The inverse, as text; of too many the oldest are left out."""
    return " ".join([_MARK, *(key.hex() for key in keys[:MOST_KEYS])])


def key_id(key: bytes) -> str:
    """What a key is called where it must not be told: of which workers have to sign by, and which shared values lie.

    >>> key_id(b"k" * 32)
    '4a834f64'
    """
    return hmac.new(key, b"starburst: the name of a key", hashlib.sha256).hexdigest()[:8]
