"""An exception in a slot, in; the failure of an item out, as it is told to the supervisor: bounded, with what helps."""

from __future__ import annotations

from traceback import walk_tb
from typing import Any

from starburst_common.model import FailureKind
from starburst_common.phrases import shortened
from starburst_common.pickling.raised import named, note, notes_of, packed, printed, text_of
from starburst_common.runs.failures import UNPICKLABLE

_MESSAGE, _TRACEBACK, _NAME = 10_000, 20_000, 200  #: characters at most of what is told of a failure
_LACKING = (
    "the worker lacks it: name the package in your project's requirements (`starburst env show` tells which file is "
    "read); for a module of your own, start the run where you can import it"
)


def kind_of(error: BaseException, *, unpickling: bool) -> FailureKind:
    """Whose fault it is: memory's, the environment's, which lacks what a pickle names, or the user's own code's."""
    if isinstance(error, MemoryError):
        return FailureKind.OOM
    if not unpickling or not isinstance(error, ImportError | AttributeError):
        return FailureKind.USER
    frames = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    own = frames and frames[-1].partition(".")[0] not in ("starburst_common", "starburst_worker", "cloudpickle")
    return FailureKind.USER if own and isinstance(error, AttributeError) else FailureKind.IMPORT


def failure_of(index: int, error: BaseException, *, kind: FailureKind) -> tuple[dict[str, Any], bytes | None]:
    """An exception as a failure's fields, and itself pickled where that works both ways; whatever its own code does."""
    try:
        return _failure_of(index, error, kind)
    except BaseException as trouble:
        name = shortened(type(error).__name__, _NAME)
        message = f"<{name} that cannot be told of: {type(trouble).__name__}>"
        return {"index": index, "kind": kind, "error": name, "message": message, "traceback": ""}, None


def _failure_of(index: int, error: BaseException, kind: FailureKind) -> tuple[dict[str, Any], bytes | None]:
    lacking = isinstance(error, ImportError | AttributeError)
    if isinstance(error, ModuleNotFoundError) and _LACKING not in (notes_of(error) or ()):
        note(error, _LACKING)
    message = shortened(text_of(error), _MESSAGE)
    fields = {
        "index": index,
        "kind": kind,
        "error": shortened(type(error).__name__, _NAME),
        "message": f"{message}: {_LACKING}" if kind is FailureKind.IMPORT and lacking else message,
        "traceback": shortened(printed(error), _TRACEBACK),
    }
    return fields, packed(error.with_traceback(None))


def unpicklable(index: int, value: Any, error: BaseException) -> tuple[dict[str, Any], None]:
    """A value that cannot be sent home, as the failure's fields."""
    from starburst_common.wire.frames import Unreadable

    kind = shortened(f"{type(value).__module__}.{type(value).__qualname__}", _NAME)
    message = f"the result, a {kind}, cannot be pickled: {shortened(named(error), _MESSAGE)}: "
    if isinstance(error, Unreadable) and error.__cause__ is not None:
        error = error.__cause__
        message = f"the result, a {kind}, is pickled, but does not unpickle: {shortened(named(error), _MESSAGE)}: "
    return {
        "index": index,
        "kind": FailureKind.USER,
        "error": UNPICKLABLE,
        "message": f"{message}return plain data, or a name for it",
        "traceback": shortened(printed(error), _TRACEBACK),
    }, None
