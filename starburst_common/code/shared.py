"""A value in; out a handle that travels in its place, and says in each process where the value is had."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from pickle import PickleBuffer, dumps, loads
from typing import Any, Generic, NamedTuple, TypeVar, cast
from weakref import WeakValueDictionary

from starburst_common.errors import BadInput, NotFound, NotPicklable, Refused
from starburst_common.latest import let_go
from starburst_common.mapped import mapped
from starburst_common.model import Buffer
from starburst_common.wire.seals import sealed_body
from starburst_common.wire.shared import read_shared

T = TypeVar("T")

SHARED_BYTES = 4 << 30  #: a value has at most, pickled
_LOADED_BYTES = 1 << 30  #: of values are kept loaded, the latest, beside what of them is mapped
_PIECE = 8 << 20  #: of a value are hashed alone, and several at once
_LARGE = 1 << 20  #: pieces are from there on
_HASHING = 4  #: at most
_MARK = "starburst-shared-"  #: before the digest in a handle's pickle, wherever that lies in what is sent
_marked = re.compile(_MARK.encode() + b"([0-9a-f]{64})")


def _digest(piece: Buffer) -> bytes:
    if len(piece) >= _LARGE:
        with suppress(ImportError):  # slots of containers have it not
            from blake3 import blake3

            return blake3(piece).digest()  # in a quarter of the time
    return hashlib.sha256(piece).digest()


class Content(NamedTuple):
    """A value as it is stored."""

    pickled: Buffer
    buffers: tuple[Buffer, ...]  #: of its arrays, which lie where they lie in memory until they are stored
    imports: frozenset[str] = frozenset()  #: top-level modules that code in it imports when it runs

    @property
    def nbytes(self) -> int:
        """Of both."""
        return len(self.pickled) + sum(map(len, self.buffers))

    def digest(self) -> str:
        """Names what is in it."""
        parts = [memoryview(part).cast("B") for part in (self.pickled, *self.buffers)]
        pieces = [part[at : at + _PIECE] for part in parts for at in range(0, len(part), _PIECE)]
        content = hashlib.sha256(f"{[*map(len, parts)]}\0".encode())
        if len(pieces) <= len(parts):
            digests = [*map(_digest, pieces)]
        else:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(min(len(pieces), os.cpu_count() or 1, _HASHING)) as pool:
                digests = [*pool.map(_digest, pieces)]
        content.update(b"".join(digests))
        return content.hexdigest()


class Shared(Generic[T]):
    """A value that is sent to workers once and stored once, however many calls and runs refer to it.

    Made by `share`. It may stand in what a function closes over, in its arguments, and in items, as deep as one likes;
    equal if its value's content is.
    """

    __slots__ = ("__weakref__", "_content", "_digest", "_value", "nbytes")

    def __init__(self, digest: str, nbytes: int, content: Content | None = None, value: T | None = None) -> None:
        self._digest, self._content, self._value = digest, content, value
        self.nbytes = nbytes  #: of the value, pickled

    @property
    def value(self) -> T:
        """The value: at home the object that was shared, on a worker a copy that all its items have in common.

        Arrays there are read-only: they lie in a file that all slots have mapped. Raises `NotFound` where the value is
        not to be had, as in a process that a handle has reached otherwise than with its run.
        """
        return cast(T, _load(self._digest)) if self._content is None else cast(T, self._value)

    @property
    def digest(self) -> str:
        """Names the value by its content."""
        return self._digest

    @property
    def content(self) -> Content | None:
        """As it is stored; None if it is not here."""
        if self._content is None and (there := _there.get(self._digest)) is not None:
            return _read(there)
        return self._content

    def __reduce__(self) -> tuple[Any, ...]:
        return _handle, (f"{_MARK}{self._digest}", self.nbytes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shared) and other._digest == self._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return f"<Shared {self._digest[:12]}, {self.nbytes:,} bytes>"


_here: WeakValueDictionary[str, Shared[Any]] = WeakValueDictionary()  #: those whose value is this process's own


def share(value: T) -> Shared[T]:
    """A handle to use in place of a value: `shared = share(table)`, and `shared.value` in the function.

    The value is pickled now, and must not be changed afterwards. It is sent with the first run that refers to it, and
    found again by later ones. Raises `NotPicklable`, and `BadInput` for more than 4 GiB.
    """
    from starburst_common.pickling.byvalue import dumps

    buffers: list[PickleBuffer] = []
    imports: set[str] = set()
    try:
        pickled = dumps(value, buffer_callback=buffers.append, imports=imports)
        content = Content(pickled, tuple(buffer.raw() for buffer in buffers), frozenset(imports))
    except Exception as error:
        raise NotPicklable(
            f"the shared {type(value).__name__} cannot be pickled: {error}: share what describes it"
        ) from error
    if content.nbytes > SHARED_BYTES:
        raise BadInput(
            f"the shared {type(value).__name__} has {content.nbytes / 1e9:.1f} GB, at most {SHARED_BYTES / 1e9:.1f} GB "
            "travel: have workers read larger data"
        )
    digest = content.digest()
    _here[digest] = shared = Shared(digest, content.nbytes, content, value)
    return shared


def shared_buffer(raw: Buffer) -> Shared[None]:
    """A buffer of a function's pickle, which nobody alters before it is stored."""
    content = Content(b"", (raw,))
    return Shared(content.digest(), content.nbytes, content)


class _Whole(NamedTuple):
    """A pickle that is called out where it lies in a buffer."""

    buffers: tuple[PickleBuffer, ...]  #: it, and its own

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, self.buffers


def whole_apart(pickled: bytes, buffers: Sequence[Shared[None]]) -> tuple[bytes, tuple[Shared[Any], ...]]:
    """A small pickle in place of a large one, which becomes a buffer of it, before its own."""
    content = Content(pickled, ())
    apart = (Shared(content.digest(), content.nbytes, content), *buffers)
    places = tuple(PickleBuffer(bytearray()) for _ in apart)  # writable, as arrays are there
    return dumps(_Whole(places), protocol=5, buffer_callback=lambda _: None), apart


def _unpickled(whole: Buffer, *buffers: Buffer) -> Any:
    return loads(whole, buffers=buffers)


def referred(*pickles: Buffer) -> dict[str, Shared[Any]]:
    """The handles that pickles refer to, also where one is held in another, as text, by digest."""
    return {digest: _here.get(digest) or Shared(digest, 0) for pickled in pickles for digest in digests_in(pickled)}


def digests_in(pickled: Buffer) -> set[str]:
    """The digests of the handles in a pickle."""
    return {found.decode() for found in _marked.findall(pickled)}


def _handle(mark: str, nbytes: int) -> Shared[Any]:
    digest = mark.removeprefix(_MARK)
    return _here.get(digest) or Shared(digest, nbytes)


# --- where the value is another process's -----------------------------------------------------------------------------


class _Loaded(NamedTuple):
    value: Any
    nbytes: int


def loads_with(pickled: Buffer, digests: Sequence[str]) -> tuple[Any, int]:
    """Unpickle a function whose large parts are shared values; it, and how many bytes of pickles that were.

    Arrays are as at home: what is written is ours alone. Raises `NotFound` where a part is not here.
    """
    missing = [digest for digest in digests if digest not in _there]
    if missing:
        raise NotFound(f"{len(missing)} of the arrays that a function closes over are not here")
    parts = [_part(_there[digest]) for digest in digests]
    nbytes = len(pickled) + sum(len(part) for part, is_pickle in parts if is_pickle)
    return loads(pickled, buffers=[part for part, _ in parts]), nbytes


def _part(there: Path | Buffer) -> tuple[Buffer, bool]:
    """A function's array, or its pickle, and whether it is that."""
    pickled, buffers, _ = read_shared(sealed_body(mapped(there, ours=True) if isinstance(there, Path) else there))
    if not buffers:
        return pickled, True
    if len(buffers) != 1:
        raise Refused(f"a shared value with {len(buffers)} buffers in place of an array; refused")
    return buffers[0] if isinstance(there, Path) else bytearray(buffers[0]), False


_lock = threading.RLock()
_there: dict[str, Path | Buffer] = {}  #: stored values, whose seals were checked
_values: dict[str, _Loaded] = {}  #: in the order of their last use


def lies(where: Mapping[str, Path | Buffer]) -> None:
    """Say where stored values are had from; nothing is read yet."""
    _there.update(where)


def _load(digest: str) -> Any:
    with _lock:
        if (loaded := _values.pop(digest, None)) is None:
            if (there := _there.get(digest)) is None:
                raise NotFound(
                    f"the shared value {digest[:12]} is not here: it is had in the process that shared it and in the "
                    "runs that were given it"
                )
            content = _read(there)
            loaded = _Loaded(loads(content.pickled, buffers=content.buffers), len(content.pickled))
        _values[digest] = loaded
        let_go(_values, _LOADED_BYTES)
        return loaded.value


def _read(there: Path | Buffer) -> Content:
    pickled, buffers, _ = read_shared(sealed_body(mapped(there) if isinstance(there, Path) else there))
    return Content(pickled, tuple(buffers))
