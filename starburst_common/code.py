"""A function in; what workers need to call it out: itself pickled, and a bundle of the user's own modules."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import CodeType
from typing import Any, NamedTuple

from starburst_common.bundle import Bundle, bundle_of
from starburst_common.byvalue import dumps
from starburst_common.errors import BadInput, ItemTimeout
from starburst_common.modules import mentioned, names_in, own_modules
from starburst_common.phrases import our_log
from starburst_common.sources import sources_of
from starburst_common.wire import FUNCTION_BYTES, deflated

_log = our_log()


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFunction:
    """A function ready to be stored; `digest` names its content."""

    digest: str
    blob: bytes  #: compressed pickle of (function, retry_on), and after it their sources
    style: str  #: "one" argument, "star" for several, "call" for (args, kwargs)
    retry_timeouts: bool
    bundle: Bundle | None
    nbytes: int = 0  #: of the pickle
    needs: frozenset[str] = frozenset()  #: the user's own modules that the pickle names


class Pickled(NamedTuple):
    """A function and what to retry on, by value where workers cannot import it."""

    pickle: bytes
    imports: frozenset[str]  #: top-level modules that its code imports when it runs
    codes: tuple[CodeType, ...]  #: that are in it


def pickled_function(function: Callable[..., Any], retry_on: tuple[type[BaseException], ...]) -> Pickled:
    """Raises `BadInput` if it cannot be pickled."""
    if not callable(function):
        raise BadInput(f"{function!r} is not callable: give a function")
    imports: set[str] = set()
    codes: list[CodeType] = []
    try:
        pickled = dumps((function, retry_on), imports=imports, codes=codes)
    except Exception as error:
        raise BadInput(
            f"the function {getattr(function, '__qualname__', function)!r} cannot be pickled: {error}: "
            "open connections, files and locks inside it rather than capturing them"
        ) from error
    if len(pickled) > FUNCTION_BYTES:
        raise BadInput(
            f"the function {getattr(function, '__qualname__', function)!r} and what it closes over have "
            f"{len(pickled) / 1e6:,.0f} MB, at most {FUNCTION_BYTES / 1e6:,.0f} MB travel: have workers read large data"
        )
    return Pickled(pickled, frozenset(imports), tuple(codes))


def pack_function(
    function: Callable[..., Any],
    *,
    style: str,
    retry_on: tuple[type[BaseException], ...],
    samples: Iterable[Any] = (),
    known: Pickled | None = None,
) -> PackedFunction:
    """Pickle a function, unless that was done, and bundle the local modules that it imports.

    `samples` are items whose classes may live in local modules too. Raises `BadInput` if it cannot be pickled.
    """
    known = known or pickled_function(function, retry_on)
    pickled, codes = known.pickle, [*known.codes]
    names = mentioned(names_in(pickled)) | known.imports
    for sample in samples:
        try:
            names |= mentioned(names_in(dumps(sample, buffer_callback=lambda _: None, imports=names, codes=codes)))
        except Exception as error:
            _log.debug("a sample item cannot be pickled; storing it will say so: %s", error)
    own = own_modules(names)
    bundle = bundle_of(own)
    blob = deflated(
        pickled, sources_of(codes, {file.inside: file.path for module in own.values() for file in module.files})
    )
    digest = hashlib.sha256(style.encode() + pickled + (bundle.digest.encode() if bundle else b"")).hexdigest()[:32]
    return PackedFunction(
        digest=digest,
        blob=blob,
        nbytes=len(pickled),
        style=style,
        retry_timeouts=any(issubclass(ItemTimeout, kind) for kind in retry_on),
        bundle=bundle,
        needs=frozenset(names & own.keys()),
    )
