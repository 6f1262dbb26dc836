"""What a slot calls before the first item of a function, `initializer(*initargs)`; and who finds what that has set."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from starburst_common.pickling.within import awaited

#: Values that nothing is set in: only another one under their name is news.
_FIXED = (
    *(int, float, complex, str, bytes, bool, tuple, frozenset, type(None)),
    *(type, ModuleType, FunctionType, BuiltinFunctionType),
)
_KEPT = 8  #: initializers of which is known what they have set
_OF_CLASSES = (FunctionType, classmethod, staticmethod, property)


class Spaces(list[dict[str, Any]]):
    """The globals of all functions that came by value in a pickle; who pickles this puts them in."""


class Setup(NamedTuple):
    """An initializer with its arguments; it travels in one pickle with the function, whose globals it may set."""

    initializer: Callable[..., Any]
    initargs: tuple[Any, ...]
    digest: str  #: names what was pickled of both
    spaces: Spaces

    @property
    def name(self) -> str:
        """For people."""
        return str(getattr(self.initializer, "__qualname__", self.initializer))

    def __call__(self) -> Any:
        """Do it."""
        return awaited(self.initializer(*self.initargs))


class SetUp:
    """The initializers that were called in this process: each once, whichever functions come with it."""

    def __init__(self) -> None:
        self._done: dict[str, _Done] = {}
        self._last: dict[str, str] = {}  # of those that are imported, and so set the same: which was called last

    def once(self, setup: Setup, *, fresh: bool = True) -> None:
        """Call it, unless it was called and no other call of it since; let a function that is `fresh` find its work."""
        done = self._done.get(setup.digest)
        if done is None or self._last.get(done.place) != setup.digest:
            done = _Done(setup)
            self._done.pop(self._last.pop(done.place, ""), None)
            done.call(setup)
            self._done[setup.digest], self._last[done.place] = done, setup.digest
            if len(self._done) > _KEPT:  # which may be large
                del self._done[next(iter(self._done))]
        elif fresh:
            done.share(_Done(setup))
        if fresh:
            done.fill(setup.spaces)


class _Done:
    """What an initializer reaches of its own module, and so may have set there."""

    def __init__(self, setup: Setup) -> None:
        self.objects = [*_bound(setup.initializer), *setup.initargs]
        self.functions = reached(setup.initializer)
        first = self.functions[0] if self.functions else None
        imported = first is not None and _is_modules(first.__globals__)
        self.place = f"{first.__module__}:{first.__qualname__}" if first and imported else setup.digest
        self.set: dict[str, dict[str, Any]] = {}  #: by module, what is there under a name
        self._classes: dict[type, dict[str, Any]] = {}

    def call(self, setup: Setup) -> None:
        """Call it, and see what it has set: names that mean something else now, and what may be altered in place."""
        spaces = {each.__globals__["__name__"]: each.__globals__ for each in self.functions}
        before = {name: dict(space) for name, space in spaces.items()}
        setup()
        for module, space in spaces.items():
            used = {name for each in self.functions if each.__globals__ is space for name in names_of(each.__code__)}
            self.set[module] = {
                name: value
                for name, value in list(space.items())
                if value is not before[module].get(name, before) or (name in used and not isinstance(value, _FIXED))
            }
            for value in (*(space.get(name) for name in used), *self.objects):
                if isinstance(value, type) and not _is_imported(value):
                    self._classes[value] = {
                        name: each
                        for name, each in vars(value).items()
                        if name[:2] != "__" and not isinstance(each, _OF_CLASSES)
                    }

    def share(self, copy: _Done) -> None:
        """The same by value once more, not called: what it holds is what this one does."""
        for ours, theirs in zip(self.functions, copy.functions, strict=False):
            if ours is theirs:
                continue
            for mine, cell in zip(ours.__closure__ or (), theirs.__closure__ or (), strict=False):
                with suppress(ValueError):  # it is empty still
                    if not isinstance(mine.cell_contents, FunctionType):
                        cell.cell_contents = mine.cell_contents
            vars(theirs).update(vars(ours))
            space = theirs.__globals__
            for mine, other in zip(self.objects, copy.objects, strict=False):
                space.update({name: mine for name, value in list(space.items()) if value is other})
        for kind, attributes in self._classes.items():  # loading a function has brought them as they are at home
            for name, value in attributes.items():
                type.__setattr__(kind, name, value)

    def fill(self, spaces: Iterable[dict[str, Any]]) -> None:
        """Have the globals of functions that came by value be as it has set those of its module."""
        for space in spaces:
            space.update(self.set.get(space.get("__name__", ""), {}))


@lru_cache(maxsize=4096)
def names_of(code: CodeType) -> tuple[str, ...]:
    """What its code may mean by names of its module, with what is defined within it."""
    inner = [name for const in code.co_consts if isinstance(const, CodeType) for name in names_of(const)]
    return tuple(dict.fromkeys([*code.co_names, *inner]))


def _bound(call: Any) -> Iterator[Any]:
    """The objects that a call is bound to."""
    if isinstance(call, partial):
        yield from (*_bound(call.func), *call.args, *call.keywords.values())
    elif isinstance(call, MethodType):
        yield call.__self__
    elif not isinstance(call, FunctionType | BuiltinFunctionType):
        yield call


def reached(call: Any) -> list[FunctionType]:
    """Its function, and those that this calls of its module or was made of."""
    while isinstance(call, partial | MethodType):
        call = call.func if isinstance(call, partial) else call.__func__
    if not isinstance(call, FunctionType):
        call = getattr(call, "__wrapped__", None) or getattr(call if isinstance(call, type) else type(call), _of(call))
    found = [call] if isinstance(call, FunctionType) else []
    for each in found:  # which grows
        near = [each.__globals__.get(name) for name in names_of(each.__code__)]
        near = [other for other in near if getattr(other, "__globals__", None) is each.__globals__]
        for cell in each.__closure__ or ():
            with suppress(ValueError):
                near.append(cell.cell_contents)
        found += dict.fromkeys(other for other in near if isinstance(other, FunctionType) and other not in found)
    return found


def _of(call: Any) -> str:
    return "__init__" if isinstance(call, type) else "__call__"


def _is_modules(space: dict[str, Any]) -> bool:
    """Whether these globals are those of a module that was imported."""
    return getattr(sys.modules.get(space.get("__name__", "")), "__dict__", None) is space


def _is_imported(kind: type) -> bool:
    return in_module(kind.__module__, kind.__qualname__) is kind


def in_module(module: str, name: str) -> Any:
    """What a module that is loaded has under a dotted name; None for nothing."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
