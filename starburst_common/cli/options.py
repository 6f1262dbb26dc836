"""The options of a map as flags of a command: from the one table that has them all."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_origin, get_type_hints

import typer

from starburst_common.cli.words import tags_of
from starburst_common.offered import OPTIONS
from starburst_common.rows import Row


def with_map_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with a flag for each option that a shell can say, in place of its argument `options`.

    That is given those that were said, by name.
    """
    rows = {name: row for name, row in OPTIONS.items() if row.shell}

    @wraps(command)
    def with_flags(**given: Any) -> None:
        said = {name: _said(row, given.pop(name)) for name, row in rows.items()}
        command(**given, options={name: value for name, value in said.items() if value is not None})

    hints = get_type_hints(command, include_extras=True)
    known = inspect.signature(command)
    flags = {name: _flag(row) for name, row in rows.items()}
    parameters: list[inspect.Parameter] = []
    for each in known.parameters.values():
        kind = inspect.Parameter.KEYWORD_ONLY
        if each.name == "options":
            parameters += [inspect.Parameter(name, kind, default=None, annotation=flag) for name, flag in flags.items()]
        else:
            parameters.append(each.replace(kind=kind, annotation=hints[each.name]))
    with_flags.__signature__ = known.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_flags.__annotations__ = {name: hint for name, hint in {**hints, **flags}.items() if name != "options"}
    del with_flags.__dict__["__wrapped__"]
    return with_flags


def _flag(row: Row) -> Any:
    """As typer has it: what may be switched on outside can be switched off.

    >>> _flag(OPTIONS["spot"]).__metadata__[0].default, _flag(OPTIONS["workers"]).__args__[0]
    ('--spot/--no-spot', int | None)
    """
    word = f"--{row.name.replace('_', '-')}"
    if any(get_origin(kind) is dict for kind in row.kinds):
        return Annotated[list[str] | None, typer.Option(_one_of(row), metavar="NAME=VALUE", help=row.shell)]
    kind = next(kind for kind in (str, bool, float, int) if kind in row.kinds)
    if kind is bool and row.outside:
        word = f"{word}/{word.replace('--', '--no-', 1)}"
    return Annotated[kind | None, typer.Option(word, help=row.shell)]


def _one_of(row: Row) -> str:
    """The flag of what is given one at a time.

    >>> _one_of(OPTIONS["aws_tags"])
    '--aws-tag'
    """
    return f"--{row.name.replace('_', '-').removesuffix('s')}"


def _said(row: Row, value: Any) -> Any:
    """A whole number as one, so that messages show it as it was typed; what was given several times as one."""
    if isinstance(value, list):
        return tags_of(value, _one_of(row)) or None
    return int(value) if isinstance(value, float) and value.is_integer() else value
