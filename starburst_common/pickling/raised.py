"""An exception in; out what travels: its text, and itself, whatever its constructor asks for."""

from __future__ import annotations

import copyreg
import io
import pickle
import re
import traceback
from concurrent.futures import Future
from contextlib import suppress
from enum import Enum
from types import MemberDescriptorType
from typing import Any

from starburst_common.pickling.sources import as_at_home
from starburst_common.pickling.stands import StandIn, instead_of

_OURS = frozenset(
    {"starburst_common", "starburst_worker", "prefect_starburst", "airflow_provider_starburst", "prefect"}
)
_BEFORE = _OURS | {"asyncio"}


def text_of(error: BaseException) -> str:
    """Its own text, whatever asking for that does."""
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__} whose text cannot be had>"


def named(error: BaseException) -> str:
    """Its type and text; its type alone where it has none."""
    return ": ".join(filter(None, [type(error).__name__, text_of(error)]))


def printed(error: BaseException) -> str:
    """As Python prints it, from the user's first frame on, also where a loop has run that."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").partition(".")[0] in _BEFORE:
        frames = frames.tb_next
    try:
        told = traceback.TracebackException(type(error), error, frames, compact=True)
    except Exception:  # its own `__getattr__` raises what none may
        like = type(type(error).__name__, (Exception,), {"__module__": type(error).__module__})
        told = traceback.TracebackException(like, like(text_of(error)), frames, compact=True)
    return "".join(as_at_home(told).format()).rstrip()


def notes_of(error: BaseException) -> Any:
    """What it has as notes, a list as a rule, or None; its own `__getattr__` is not asked, which may say anything."""
    try:
        return object.__getattribute__(error, "__notes__")
    except Exception:
        return None


def note(error: BaseException, text: str) -> None:
    """As `add_note`, also for an exception that lets nobody set anything."""
    notes = notes_of(error)
    put(error, __notes__=[*(notes if isinstance(notes, list | tuple) else ()), text])


def put(error: BaseException, **values: Any) -> None:
    """Set attributes; a frozen dataclass lets nobody else."""
    for name, value in values.items():
        object.__setattr__(error, name, value)


# --- the exception itself ---------------------------------------------------------------------------------------------

PACKED_BYTES = 256 << 10  #: at most of an exception that is sent itself: who asks for answers holds all that failed


def packed(error: BaseException) -> bytes | None:
    """Pickled with class, arguments, state and notes, and what it came from where that can be; None if it cannot be.

    It comes back without its constructor being called: many take other arguments than they hand on, or reshape them.
    Attributes that cannot be pickled, a connection's pool, stay behind, and a note names them; where its text, or what
    it was made of, needs them, something that prints as they do stands in for them, or for what is within them.
    """
    if not isinstance(error, Exception):
        return None  # SystemExit and the like must not end whoever raises them again
    for left in _Left:
        for chained in (True, False):
            try:
                pickled = _dumps(error, chained=chained, left=left)
                copy = pickle.loads(pickled)
                same = type(copy) is type(error) and (left is _Left.NOTHING or _told_alike(copy, error))
                if same and len(pickled) <= PACKED_BYTES:
                    return pickled
            except BaseException:
                continue
    return None


class _Left(Enum):
    """What becomes of attributes that cannot be pickled. Arguments that cannot have a stand-in, but with NOTHING."""

    NOTHING = 0  #: there are none
    BEHIND = 1
    FOR_STAND_INS = 2
    WITHIN = 3  #: they are sent, with stand-ins for just what within them cannot be pickled


_WHOLE = (_Left.NOTHING, _Left.WITHIN)
_AT = re.compile(r" at 0x[0-9a-f]+")


def _told_alike(one: BaseException, other: BaseException) -> bool:
    """Whether their texts are the same but for where in memory something lies."""
    return _AT.sub("", text_of(one)) == _AT.sub("", text_of(other))


def _dumps(value: Any, *, chained: bool, left: _Left, within: frozenset[int] = frozenset()) -> bytes:
    from starburst_common.pickling import byvalue  # cloudpickle takes its time

    class Pickler(byvalue.Pickler):
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, Future) and value.done() and not value.cancelled():
                return _future, (type(value), _future_state(value), *_outcome(value))
            if not isinstance(value, BaseException):
                return self._other(value)
            whole = _whole(value) if left in _WHOLE else _what_travels(value, left, within)
            made, arguments, state, notes = whole
            origin = (value.__cause__, value.__context__) if chained else (None, None)
            return made, arguments, (state, notes, *origin, value.__suppress_context__), None, None, _complete

        def _other(self, value: Any) -> Any:
            try:
                made = super().reducer_override(value)
                if made is NotImplemented and left is _Left.WITHIN and type(value) in self.dispatch_table:
                    return self.dispatch_table[type(value)](value)
            except Exception:
                if left is _Left.WITHIN:
                    return instead_of(value)
                raise
            return made

    out = io.BytesIO()
    Pickler(out, 5).dump(value)
    return out.getvalue()


def _future_state(future: Future[Any]) -> dict[str, Any]:
    """What a kind of future has beside what all have."""
    return {name: value for name, value in vars(future).items() if name not in vars(Future())}


def _outcome(future: Future[Any]) -> tuple[bool, Any]:
    """Whether it failed, and with what, or its value."""
    error = future.exception()
    return error is not None, future.result() if error is None else error


def _future(kind: type[Future[Any]], state: dict[str, Any], failed: bool, outcome: Any) -> Future[Any]:
    """One that is done: an exception may hold the futures that it tells of."""
    future = kind.__new__(kind)
    Future.__init__(future)
    vars(future).update(state)
    (future.set_exception if failed else future.set_result)(outcome)
    return future


def _whole(error: BaseException) -> tuple[Any, ...]:
    """What makes it anew, with which arguments, its state, and its notes."""
    return *(_as_it_says(error) or _as_it_is(error)), notes_of(error)


def _what_travels(error: BaseException, left: _Left, within: frozenset[int]) -> tuple[Any, ...]:
    """The same without what cannot be pickled. Those of errors that it is `within` are being looked at."""
    notes = notes_of(error)
    inside = within | {id(error)}
    said = _as_it_says(error)
    if said is not None and _travels(said, inside, left):
        return *said, notes
    made, (kind, given, args), state = _as_it_is(error)
    told = made, (kind, *(tuple(_stands(each, inside, left) for each in some) for some in (given, args)))
    if id(error) in within:
        return *told, None, notes
    lost = [name for name, value in state.items() if not _travels(value, inside, left)]
    if lost:
        notes = [*(notes or ()), f"left behind, as it cannot be pickled: {', '.join(lost)}"]
    stands = lost if left is _Left.FOR_STAND_INS else []
    kept = {name: value for name, value in state.items() if name not in lost}
    return *told, _State(kept | {name: StandIn(repr(state[name])) for name in stands}), notes


def _stands(value: Any, within: frozenset[int], left: _Left) -> Any:
    return value if _travels(value, within, left) else StandIn(repr(value))


def _travels(value: Any, within: frozenset[int], left: _Left) -> bool:
    try:
        pickle.loads(_dumps(value, chained=False, left=left, within=within))
    except Exception:
        return False
    return True


def _as_it_says(error: BaseException) -> tuple[Any, ...] | None:
    """By its own word, if it has any that is not Python's, and if that makes such an exception."""
    kind = type(error)
    words = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
    own = any(word in vars(each) for each in kind.__mro__ if each.__module__ != "builtins" for word in words)
    if not own and kind not in copyreg.dispatch_table:
        return None
    try:
        told = copyreg.dispatch_table[kind](error) if kind in copyreg.dispatch_table else error.__reduce_ex__(5)
        make, args, state, *more = (*told, None, None, None, None)[:6]
        copy = make(*args)
        _take(copy, state)
    except Exception:
        return None
    if type(copy) is not kind or any(more) or text_of(copy) != text_of(error):
        return None
    return make, args, state


def _as_it_is(error: BaseException) -> tuple[Any, ...]:
    """Class, arguments and state, whatever its constructor did to get there."""
    base = _base(type(error))
    told: Any = base.__reduce__(error)
    _, given, *rest = told
    if isinstance(error, BaseExceptionGroup):
        given = (error.message, list(error.exceptions))
    state = {**(rest[0] if rest else {}), **_slots(error), **_members(error, given)}
    return _remade, (type(error), given, error.args), _State(state)


class _State(dict[str, Any]):
    """What an exception has, to be put down as it is."""


def _slots(error: BaseException) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in type(error).__mro__:
        slots = vars(kind).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            name = f"_{kind.__name__.lstrip('_')}{slot}" if slot[:2] == "__" and slot[-2:] != "__" else slot
            with suppress(AttributeError):
                found[name] = object.__getattribute__(error, name)
    return {name: value for name, value in found.items() if name not in ("__dict__", "__weakref__")}


def _members(error: BaseException, given: tuple[Any, ...]) -> dict[str, Any]:
    """What its class has set since of what Python's own keep beside their dictionary: the line of a `SyntaxError` …"""
    found: dict[str, Any] = {}
    if isinstance(error, BaseExceptionGroup):
        return found  # which lets nobody set anything
    with suppress(Exception):
        copy = _remade(type(error), given, error.args)
        for kind in type(error).__mro__:
            for name, member in (
                vars(kind).items() if kind.__module__ == "builtins" and kind is not BaseException else ()
            ):
                if type(member) is MemberDescriptorType and name != "obj":  # of an `AttributeError`: it may be large
                    value = member.__get__(error)
                    if value is not member.__get__(copy):
                        found[name] = value
    return found


def _base(kind: type[BaseException]) -> type[BaseException]:
    """The class of Python's own that says how its objects lie in memory."""
    while kind.__module__ != "builtins":
        kind = kind.__base__  # type: ignore[assignment]
    return kind


def _remade(kind: type[BaseException], given: tuple[Any, ...], args: tuple[Any, ...]) -> BaseException:
    """An exception of a class, without its constructor; Python's own takes what it keeps: `errno`, the encoding …"""
    base = _base(kind)
    error = base.__new__(kind, *given)
    with suppress(Exception):
        base.__init__(error, *given)
    put(error, args=args)
    return error


def _complete(error: BaseException, state: Any) -> None:
    own, notes, cause, context, suppressed = state
    _take(error, own)
    if notes is not None:
        put(error, __notes__=notes)
    put(error, __cause__=cause, __context__=context)
    put(error, __suppress_context__=suppressed)  # a cause has set it


def _take(error: BaseException, state: Any) -> None:
    if isinstance(state, _State):
        for name, value in state.items():
            try:
                object.__setattr__(error, name, value)
            except AttributeError:  # of a property, say, whose name is taken in its dictionary
                vars(error)[name] = value
    elif state is not None:
        error.__setstate__(state)
