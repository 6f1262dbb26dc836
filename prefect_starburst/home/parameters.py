"""Large parameters that many calls have in common in; calls that hold them, stored and sent once each, out."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from prefect_starburst.away.call import RemoteCall
from prefect_starburst.internals import BaseAnnotation, hash_objects, isiterable, unmapped
from starburst_common.spi import dumps, imported, names_in

#: A parameter whose pickle is larger is stored once for all calls that have it.
LARGE = 64 * 1024
_SEEN = 1024  #: large parameters that are remembered
_CALLS = 16  #: calls with large parameters that are kept, which hold those


@dataclass(frozen=True, slots=True)
class Blob:
    """A pickled parameter, named by its content."""

    digest: str
    pickled: bytes


class Common:
    """What the calls of one `map` have in common: parameters that are not mapped over."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.names = frozenset(name for name, value in parameters.items() if not _is_mapped(value))
        self._blobs: dict[str, tuple[Any, Blob | None]] = {}

    def blob(self, name: str, value: Any) -> Blob | None:
        """The value pickled, once for all calls; None if it is small."""
        known = self._blobs.get(name)
        if known is None or known[0] is not value:
            self._blobs[name] = known = value, _pickled(value)
        return known[1]


class Sharing:
    """The calls of one flow run that hold large parameters."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._calls: OrderedDict[Hashable, RemoteCall] = OrderedDict()

    def divide(
        self, call: RemoteCall, code: str | None, parameters: dict[str, Any], common: Common | None
    ) -> tuple[RemoteCall, dict[str, Any], str | None]:
        """The call to send, the parameters to send with it, and what names both: equal calls have equal names.

        A large parameter is held by the call if a `map` has it in common, or when it is met again. `code` names the
        task's code. There is no name where the code has none, or Prefect could not make a cache key either.
        """
        blobs: dict[str, Blob] = {}
        held: dict[str, Blob] = {}
        for name, value in parameters.items():
            in_common = common is not None and name in common.names
            if in_common:
                assert common is not None
                blob = common.blob(name, value)
            else:
                blob = _pickled(value) if _looks_large(value) else None
            if blob is not None:
                blobs[name] = blob
                if in_common or self._met_again(blob):
                    held[name] = blob
        small = {name: value for name, value in parameters.items() if name not in blobs}
        key = code and _name(code, small, {name: blob.digest for name, blob in blobs.items()})
        if not held:
            return call, parameters, key
        return self._holding(call, held), {k: v for k, v in parameters.items() if k not in held}, key

    def _met_again(self, blob: Blob) -> bool:
        if blob.digest in self._seen:
            self._seen.move_to_end(blob.digest)
            return True
        self._seen[blob.digest] = None
        if len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        return False

    def _holding(self, call: RemoteCall, held: dict[str, Blob]) -> RemoteCall:
        name = id(call), tuple((name, blob.digest) for name, blob in held.items())  # `Callables` keeps the call: its id
        known = self._calls.get(name)
        if known is None:
            modules = {each for blob in held.values() for each in imported(names_in(blob.pickled))}
            known = call.holding({name: blob.pickled for name, blob in held.items()}, sorted(modules))
            self._calls[name] = known
            if len(self._calls) > _CALLS:
                self._calls.popitem(last=False)
        self._calls.move_to_end(name)
        return known


def _name(*objects: Any) -> str | None:
    """Names objects by their content as Prefect does for its cache keys; much sooner where plain JSON can hold them."""
    try:
        return hashlib.sha256(json.dumps(objects, sort_keys=True).encode()).hexdigest()
    except (TypeError, ValueError, RecursionError):
        return hash_objects(*objects)


def _is_mapped(value: Any) -> bool:
    while isinstance(value, BaseAnnotation) and not isinstance(value, unmapped):
        value = value.unwrap()
    return not isinstance(value, unmapped) and isiterable(value)


def _looks_large(value: Any) -> bool:
    nbytes = getattr(value, "nbytes", None)
    return (nbytes if isinstance(nbytes, int) else sys.getsizeof(value)) >= LARGE


def _pickled(value: Any) -> Blob | None:
    """None if it is small, or cannot be pickled, of which the executor tells."""
    try:
        pickled = dumps(value)
    except Exception:
        return None
    return Blob(hashlib.sha256(pickled).hexdigest(), pickled) if len(pickled) >= LARGE else None
