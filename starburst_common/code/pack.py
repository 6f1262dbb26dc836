"""A function in; what workers need to call it out: itself pickled, and a bundle of the user's own modules."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pickle import PickleBuffer
from types import CodeType
from typing import Any, NamedTuple

from starburst_common.code.bundle import Bundle
from starburst_common.code.files import File
from starburst_common.code.modules import bundled, imported, mentioned, names_in, own_modules
from starburst_common.code.shared import Shared, referred, shared_buffer, whole_apart
from starburst_common.errors import BadInput, ItemTimeout, NotPicklable
from starburst_common.model import Buffer
from starburst_common.phrases import our_log
from starburst_common.pickling.bound import Stays
from starburst_common.pickling.byvalue import dumps
from starburst_common.pickling.setup import Setup, Spaces
from starburst_common.pickling.sources import sources_of
from starburst_common.wire.functions import FUNCTION_BYTES, deflated, shrinks

_log = our_log()
_LARGE_BYTES = 1 << 20  #: an array, or a pickle, that is larger is stored once by its content
_FAR = 0.5  #: but one that shrinks to less goes compressed


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFunction:
    """A function ready to be stored; `digest` names its content."""

    digest: str
    blob: bytes  #: compressed pickle of (function, retry_on, setup), and after it their sources
    style: str  #: "one" argument, "star" for several, "call" for (args, kwargs)
    retry_timeouts: bool
    bundle: Bundle | None
    nbytes: int = 0  #: of the pickle
    needs: frozenset[str] = frozenset()  #: the user's own modules that the pickle names
    edited: tuple[File, ...] = ()  #: of the modules, since they were imported here
    shared: tuple[Shared[Any], ...] = ()  #: values that it refers to, its large buffers included
    buffers: tuple[str, ...] = ()  #: digests of those, as the pickle takes them


class Pickled(NamedTuple):
    """A function, what to retry on and what to call before, by value where workers cannot import it."""

    pickle: bytes
    imports: frozenset[str]  #: top-level modules that its code imports when it runs
    codes: tuple[CodeType, ...]  #: that are in it
    generators: frozenset[str]  #: kinds of random generators that are in it
    shared: tuple[Shared[Any], ...]  #: that it refers to; held, for they are pickled as names
    buffers: tuple[Shared[None], ...]  #: that are not in the pickle, being large

    @property
    def nbytes(self) -> int:
        """Of all that it takes here."""
        return len(self.pickle) + sum(each.nbytes for each in self.buffers)

    def digest(self) -> bytes:
        """Names its content."""
        content = hashlib.sha256(self.pickle)
        content.update("".join(each.digest for each in self.buffers).encode())
        return content.digest()


def pickled_function(
    function: Callable[..., Any],
    retry_on: tuple[type[BaseException], ...],
    initializer: Callable[..., Any] | None = None,
    initargs: tuple[Any, ...] = (),
    *,
    later: bool = False,
) -> Pickled:
    """Large arrays lie where they lie, unless it is stored `later`, when their owner may have altered them.

    Raises `BadInput` if it cannot be pickled, or gives a generator.
    """
    if not callable(function):
        raise BadInput(f"{function!r} is not callable: give a function")
    _refuse_generators(function)
    setup = None if initializer is None else setup_of(initializer, initargs)
    imports: set[str] = set()
    generators: set[str] = set()
    codes: list[CodeType] = []
    buffers: list[Shared[None]] = []

    def stays(buffer: PickleBuffer) -> bool:
        """Whether it stays in the pickle."""
        try:
            raw = buffer.raw()
        except BufferError:  # it is not in one piece
            return True
        if not _stored_apart(raw):
            return True
        buffers.append(shared_buffer(raw.tobytes() if later else raw))
        return False

    try:
        pickled = dumps(
            (function, retry_on, setup), buffer_callback=stays, imports=imports, codes=codes, generators=generators
        )
    except Stays as error:
        raise NotPicklable(f"the function {_name(function)!r} cannot be pickled: {error}") from error
    except Exception as error:
        raise NotPicklable(
            f"the function {getattr(function, '__qualname__', function)!r} cannot be pickled: {error}: "
            "open connections, files and locks inside it rather than capturing them, or put what makes them into a "
            "module of yours, which workers import"
        ) from error
    nbytes = len(pickled) + sum(each.nbytes for each in buffers)
    if nbytes > FUNCTION_BYTES:
        raise BadInput(
            f"the function {getattr(function, '__qualname__', function)!r} and what it closes over have "
            f"{nbytes / 1e6:,.0f} MB, at most {FUNCTION_BYTES / 1e6:,.0f} MB travel: have workers read large data"
        )
    shared = tuple(referred(pickled).values())
    return Pickled(pickled, frozenset(imports), tuple(codes), frozenset(generators), shared, tuple(buffers))


def pack_function(
    function: Callable[..., Any],
    *,
    style: str,
    retry_on: tuple[type[BaseException], ...],
    initializer: Callable[..., Any] | None = None,
    initargs: tuple[Any, ...] = (),
    samples: Iterable[Any] = (),
    known: Pickled | None = None,
) -> PackedFunction:
    """Pickle a function, unless that was done, and bundle the local modules that it imports.

    `samples` are items whose classes may live in local modules too. Raises as `pickled_function`.
    """
    known = known or pickled_function(function, retry_on, initializer, initargs)
    pickled, codes = known.pickle, [*known.codes]
    if known.generators:
        _warn_of_generators(_name(function), ", ".join(sorted(known.generators)))
    named, names = names_in(pickled), {*known.imports}
    for sample in samples:
        try:
            named |= names_in(dumps(sample, buffer_callback=lambda _: None, imports=names, codes=codes))
        except Exception as error:
            _log.debug("a sample item cannot be pickled; storing it will say so: %s", error)
    names |= mentioned(named)
    for each in known.shared:
        names |= names_of_shared(each)
    own = own_modules(names)
    bundle, edited = bundled(own, named)
    buffers = known.buffers
    if _stored_apart(pickled):
        pickled, buffers = whole_apart(pickled, buffers)
    blob = deflated(
        pickled, sources_of(codes, {file.inside: file.path for module in own.values() for file in module.files})
    )
    digest = hashlib.sha256(style.encode() + known.digest() + (bundle.digest.encode() if bundle else b"")).hexdigest()[
        :32
    ]
    return PackedFunction(
        digest=digest,
        blob=blob,
        nbytes=known.nbytes,
        style=style,
        retry_timeouts=any(issubclass(ItemTimeout, kind) for kind in retry_on),
        bundle=bundle,
        needs=frozenset(names & own.keys()),
        edited=edited,
        shared=(*known.shared, *buffers),
        buffers=tuple(each.digest for each in buffers),
    )


def _stored_apart(raw: Buffer) -> bool:
    """Whether bytes are stored by their content, once for all calls, in place of with each."""
    return len(raw) >= _LARGE_BYTES and not shrinks(raw, to=_FAR)


def names_of_shared(shared: Shared[Any]) -> set[str]:
    """Top-level modules that a shared value names, if it is here."""
    content = shared.content
    return set() if content is None else imported(names_in(content.pickled)) | content.imports


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", function))


def _refuse_generators(function: Callable[..., Any]) -> None:
    for each in (function, type(function).__call__):
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise BadInput(
                f"{_name(function)} gives a generator, which lives in one process and cannot be sent back: have it "
                "return a list, or one value, in place of yielding"
            )


def setup_of(initializer: Callable[..., Any], initargs: tuple[Any, ...]) -> Setup:
    """What is called first. Raises `NotPicklable`."""
    try:
        pickled = dumps((initializer, initargs))
    except Exception as error:
        raise NotPicklable(
            f"initializer={_name(initializer)} and its initargs cannot be pickled: {error}: workers are new "
            "interpreters, also on other machines, which inherit nothing: have the initializer make locks and queues"
        ) from error
    return Setup(initializer, initargs, hashlib.sha256(pickled).hexdigest(), Spaces())


@lru_cache(maxsize=256)  # once a function
def _warn_of_generators(name: str, which: str) -> None:
    _log.warning(
        "%s closes over a random generator (%s): each worker process begins with a copy of it, so items get the same "
        "numbers: make one within the function from the item, or with seed= from starburst_common.item_seed()",
        *(name, which),
    )
