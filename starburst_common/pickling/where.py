"""A pickle that does not load in; what in it does not, and the way there from its functions and objects, out."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Sequence
from traceback import walk_tb
from types import CellType, FunctionType
from typing import Any

from starburst_common.model import Buffer

_LOADED_BYTES = 1 << 20  #: at most: what is looked at is loaded once more, and slowly
_OURS = ("cloudpickle", "starburst_common", "copyreg", "pickle")
_OF = {"load_reduce": "func", "load_newobj": "cls", "load_newobj_ex": "cls", "load_build": "inst"}


def where_it_fails(pickled: Buffer, buffers: Iterable[Any] = ()) -> str:
    """Such as "unpickling a shop.Thing, in the variable 'x' of f: "; empty where that cannot be told.

    >>> class Odd:
    ...     def __reduce__(self):
    ...         return int, ("no number",)
    >>> where_it_fails(pickle.dumps({"a": [1, {"deep": Odd()}]}, 5))
    "unpickling an int, at 'a', 'deep': "
    """
    if len(pickled) > _LOADED_BYTES:
        return ""
    walker: Any = pickle._Unpickler(io.BytesIO(pickled), buffers=buffers)
    try:
        walker.load()
    except BaseException as error:
        try:
            what, way = _what(error), _way([*walker.metastack, walker.stack])
        except Exception:  # a pickle may have anything in it
            return ""
        told = ", ".join(filter(None, [what, way]))
        return f"unpickling {told}: " if told else ""
    return ""


def _what(error: BaseException) -> str:
    """The kind of object that was being made."""
    for frame, _ in reversed([*walk_tb(error.__traceback__)]):
        if frame.f_globals.get("__name__") == "pickle" and (name := _OF.get(frame.f_code.co_name)) is not None:
            made = frame.f_locals.get(name)
            kind = made if isinstance(made, type) else type(made)
            owner = made if callable(made) and not isinstance(made, type) else kind
            module, of = getattr(owner, "__module__", ""), getattr(owner, "__qualname__", "")
            if not of or str(module).partition(".")[0] in _OURS:
                return ""
            full = of if module == "builtins" else f"{module}.{of}"
            return f"{'an' if full[0] in 'aeiou' else 'a'} {full}"
    return ""


class _Key(str):
    """A text that is the key of what was being made."""


def _way(levels: Sequence[list[Any]]) -> str:
    """The keys that lead there, by what lay unfinished when it failed: a list for each mark in the pickle."""
    flat: list[Any] = []
    for number, level in enumerate(levels):
        within = levels[number - 1][-1] if number and levels[number - 1] else None
        shown = [*level]
        for at in reversed(range(len(level))):
            each = level[at]
            if isinstance(each, str) and (isinstance(level[at - 1] if at else None, dict) or _is_key(at, within)):
                shown[at] = _Key(each)
            elif isinstance(each, int | float | str | bytes | tuple | frozenset | None):
                break  # it is finished, and so is what was before it
        flat += shown
    keys = [each for each in flat if isinstance(each, _Key)]
    part = next((each for each in keys if each in _PARTS), None)
    if part is None:
        return f"at {_listed(keys)}" if keys else ""
    before, after = flat[: flat.index(part)], flat[flat.index(part) + 1 :]
    function = next(each for each in reversed(before) if _is_users(each))
    rest = keys[keys.index(part) + 1 :]
    if part == "__closure__":
        done = sum(isinstance(each, CellType) for each in after)
        rest = [_Key(function.__code__.co_freevars[done]), *rest]
    first, *more = rest or [_Key("")]
    way = f"in the {_PARTS[part]} {f'{first!r} ' if first else ''}of {function.__code__.co_qualname}"
    return f"{way}, at {_listed(more)}" if more else way


#: Of a function, what is told of them.
_PARTS = {"__globals__": "global", "__closure__": "variable", "__kwdefaults__": "default", "__defaults__": "defaults"}


def _is_key(at: int, within: Any) -> bool:
    """Whether what is there is a key, among what goes into a dictionary after a mark."""
    return isinstance(within, dict) and at % 2 == 0


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(repr(str(key)) for key in keys if key not in _PARTS and not key.startswith("_cloudpickle"))


def _is_users(value: Any) -> bool:
    return isinstance(value, FunctionType) and value.__module__.partition(".")[0] not in _OURS
