"""Tables of what may be set: options, settings, a site. A row's name and a value in; why it is wrong, or nothing, out.

A table is a class of names, each annotated with its type and a `Row`: what type checkers read and what is checked, said
in the docs, asked in the shell and read from outside is one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from numbers import Real
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

_Called = TypeVar("_Called", bound=Callable[..., Any] | type)
_WORDS = dict.fromkeys(("true", "1", "yes", "y", "on", "t"), True) | dict.fromkeys(
    ("false", "0", "no", "n", "off", "f"), False
)


NEEDED: Any = object()  #: in place of a default: a value must be given


class Rule(NamedTuple):
    """What a value has to be."""

    fits: Callable[[Any], bool]
    wrong: str  #: said behind `name=value` of one that does not fit


@dataclass(frozen=True, slots=True)
class Row:
    """What one name means, what its value has to be, and where it may be set."""

    meaning: str
    rules: tuple[Rule, ...] = ()  #: the first that a value breaks is told
    default: Any = NEEDED
    outside: str = ""  #: what to give in a file or a variable; empty where only who calls may set it
    shell: str = ""  #: what `starburst map --help` says of it; empty where it is no plain flag there
    name: str = ""
    kind: Any = None  #: its type

    @property
    def needed(self) -> bool:
        """Whether a value must be given."""
        return self.default is NEEDED

    def wrong(self, value: Any) -> str:
        """What is wrong with a value, to be said behind `name=value`; empty where it is right."""
        if value is None and self.default is None:
            return ""
        return next((rule.wrong for rule in self.rules if not rule.fits(value)), "")

    def read(self, given: Any) -> tuple[Any, str]:
        """A value from outside, where text may stand for it, and what is wrong with it.

        >>> count = Row("", (whole(1, 9),), outside="a number", kind=int)
        >>> count.read("3"), count.read("x"), count.read(30)
        ((3, ''), ('x', ': give a number'), (30, ': give a whole number from 1 to 9'))
        """
        if isinstance(given, str) and not {str, Path} & {*self.kinds}:
            try:
                given = self._meant(given)
            except (ValueError, KeyError, RecursionError):
                return given, f": give {self.outside}"
        return given, self.wrong(given)

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types that it may have, None apart."""
        return tuple(kind for kind in get_args(self.kind) if kind is not type(None)) or (self.kind,)

    def _meant(self, text: str) -> Any:
        if bool in self.kinds:
            return _WORDS[text.strip().lower()]
        if int in self.kinds or float in self.kinds:
            with suppress(ValueError):
                return int(text)
            return float(text)
        meant = json.loads(text)
        if self.wrong(meant):
            raise ValueError(text)
        return meant


def rows(table: type) -> dict[str, Row]:
    """The rows of a table, by name; a dataclass has its defaults itself."""
    known = {each.name: each.default for each in _fields(table) if each.default is not MISSING}
    found = {}
    for name, hint in get_type_hints(table, include_extras=True).items():
        kind, *said = get_args(hint) or (hint,)
        for row in said:
            if isinstance(row, Row):
                found[name] = replace(row, name=name, kind=kind, default=known.get(name, row.default))
    return found


def _fields(table: type) -> Sequence[Field[Any]]:
    return fields(table) if is_dataclass(table) else ()


def is_number(value: Any) -> bool:
    """Whether it is a number that a computation can hold: no bool, no NaN, no infinity."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def telling(table: type) -> Callable[[_Called], _Called]:
    """Have `help` say what each option of a table means."""

    def with_options(called: _Called) -> _Called:
        lines = (
            fill(f"{name}: {row.meaning}", 120, initial_indent=" " * 8, subsequent_indent=" " * 12)
            for name, row in rows(table).items()
        )
        called.__doc__ = called.__doc__ and "\n".join([called.__doc__.rstrip(), "", "    Options:", *lines, ""])
        return called

    return with_options


# --- rules ------------------------------------------------------------------------------------------------------------


def whole(least: int, most: int, what: str = "") -> Rule:
    """A whole number, both ends included."""
    return Rule(
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
        f": give {what or f'a whole number from {least} to {most}'}",
    )


def number(fits: Callable[[Any], bool], what: str) -> Rule:
    """A number, of which some fit."""
    return Rule(lambda value: is_number(value) and fits(value), f": give {what}")


def of_type(kind: type, what: str) -> Rule:
    """A value of that type, and no bool where that is a number."""
    return Rule(
        lambda value: isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), f": give {what}"
    )


def shaped(pattern: str, what: str) -> Rule:
    """Text that is of a shape to its end."""
    return Rule(lambda value: re.fullmatch(pattern, value) is not None, f": give {what}")


def one_of(known: Collection[str], what: str = "") -> Rule:
    """One of a few words."""
    shown = what or f": give one of {', '.join(filter(None, known))}"
    return Rule(lambda value: isinstance(value, str) and value in known, shown)


def texts(what: str = "a list of texts", most: int | None = None) -> Rule:
    """Several texts, at most so many."""
    return Rule(
        lambda value: (
            isinstance(value, tuple)
            and all(isinstance(each, str) for each in value)
            and (most is None or len(value) <= most)
        ),
        f": give {what}",
    )


TEXT = of_type(str, "a text")
YES_NO = Rule(lambda value: isinstance(value, bool), ": give True or False")
