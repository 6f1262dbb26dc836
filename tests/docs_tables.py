"""What the code says of options, commands, settings and failures in; the tables of docs/ that say the same out.

A page has a place for a table between `<!-- table NAME -->` and `<!-- end -->`; `python -m tests.docs_tables` fills it.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from prefect_starburst.home.settings import RUNNER
from starburst_common import __all__ as exported
from starburst_common import config, errors
from starburst_common.cli.app import EXIT_CODES, app
from starburst_common.code import files
from starburst_common.config import IMAGE, SETTINGS
from starburst_common.model import FailureKind
from starburst_common.offered import OPTIONS
from starburst_common.rows import Row
from starburst_common.sites.site import SITE
from tests.places import environment

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
_PLACE = re.compile(r"(<!-- table ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """A page's text with every table as the code has it now. Raises `KeyError` for a table that nobody makes."""
    return _PLACE.sub(lambda place: f"{place[1]}{TABLES[place[2]]()}\n{place[3]}", page)


def places(page: str) -> list[str]:
    """The names of a page's tables."""
    return [place[2] for place in _PLACE.finditer(page)]


# --- tables -----------------------------------------------------------------------------------------------------------


def options() -> str:
    """Of a map."""
    return _table(
        ("option", "type", "default", "meaning"),
        ((f"`{row.name}`", _type(row.kind), _code(repr(row.default)), row.meaning) for row in OPTIONS.values()),
    )


def prefect_options() -> str:
    """Of the task runner."""
    return _table(
        ("option", "default", "meaning"),
        ((f"`{name}`", _code(repr(row.default)), row.meaning) for name, row in RUNNER.items()),
    )


def settings() -> str:
    """The top of the settings file."""
    with environment({"STARBURST_CONFIG": "/nowhere"}):
        found = config.settings(env={})
    defaults = {
        "backend": f'`"{found.backend}"`',
        "home": "`starburst` in your cache folder",
        "keep_days": f"`{found.keep_days:g}`",
        "discount": f"`{found.discount:g}`",
    }
    return _table(
        ("setting", "variable", "default", "meaning"),
        ((f"`{name}`", f"`STARBURST_{name.upper()}`", defaults[name], row.meaning) for name, row in SETTINGS.items()),
    )


def map_settings() -> str:
    """The table [map]: options that can be set outside of programs."""
    return _table(
        ("option", "variable", "give"),
        ((f"`{name}`", f"`STARBURST_{name.upper()}`", row.outside) for name, row in config.OUTSIDE.items()),
    )


def site_settings() -> str:
    """The table [site]."""
    return _settings_table(SITE)


def image_settings() -> str:
    """The table [image]."""
    return _settings_table(IMAGE)


def failure_kinds() -> str:
    """Why an item has no value."""
    said = comments(FailureKind)
    return _table(("kind", "meaning"), ((f"`{kind}`", said[kind.name]) for kind in FailureKind))


def exceptions() -> str:
    """Every exception of ours, with what it also is."""
    rows = []
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.StarburstError):
            bases = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
            where = "starburst_common" if name in exported else "starburst_common.errors"
            rows.append((f"`{name}`", bases, f"`{where}`", inspect.getdoc(kind) or ""))
    return _table(("exception", "is also", "import from", "meaning"), rows)


def secrets() -> str:
    """Patterns of file names that are taken for secrets."""
    return ", ".join(f"`{pattern}`" for pattern in files.SECRETS) + "."


def exit_codes() -> str:
    """What the command ends with."""
    codes = re.findall(r"(\d+) ([^;]+?)[;.]", EXIT_CODES)
    return _table(("exit code", "meaning"), codes)


def commands() -> str:
    """Every command of the shell, with what its help says."""
    return "\n".join(_command(words, command) for words, command in shell_commands()).rstrip()


TABLES: dict[str, Callable[[], str]] = {
    "options": options,
    "prefect-options": prefect_options,
    "settings": settings,
    "map-settings": map_settings,
    "site-settings": site_settings,
    "image-settings": image_settings,
    "failure-kinds": failure_kinds,
    "exceptions": exceptions,
    "secrets": secrets,
    "exit-codes": exit_codes,
    "commands": commands,
}


# --- what the code says -----------------------------------------------------------------------------------------------


def comments(kind: type) -> dict[str, str]:
    """What `#:` says of each member of a class, behind it on its line."""
    lines = inspect.getsource(kind).splitlines()
    found = (re.match(r"\s+(\w+)\b.*?\s#: (.+)$", line) for line in lines)
    said = {each[1]: each[2] for each in found if each}
    return {name: said.get(name, "") for name in [*said, *getattr(kind, "__annotations__", {})]}


def shell_commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something, by the words that a shell is given for it."""
    shell: Any = typer.main.get_command(app)
    for name, command in shell.commands.items():
        below = getattr(command, "commands", None)
        if below is None:
            yield f"starburst {name}", command
        else:
            if command.invoke_without_command:
                yield f"starburst {name}", command
            yield from ((f"starburst {name} {word}", each) for word, each in below.items())


def _command(words: str, command: Any) -> str:
    named = [each.metavar or each.name.upper() for each in command.params if each.param_type_name == "argument"]
    text = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(command.help))
    given = [each for each in command.params if each.param_type_name == "option"]
    rows = [(", ".join(map(_code, each.opts)), _default(each), each.help) for each in given]
    return f"## {' '.join([words, *named])}\n\n{text}\n\n{_table(('option', 'default', 'meaning'), rows)}\n"


def _default(option: Any) -> str:
    return "" if option.default in (None, False) or callable(option.default) else _code(str(option.default))


def _settings_table(known: Mapping[str, Row]) -> str:
    def default(row: Row) -> str:
        return "needed" if row.needed else "" if row.default in ("", ()) else _toml(row.default)

    return _table(
        ("setting", "default", "meaning"),
        ((f"`{row.name}`", default(row), row.meaning) for row in known.values()),
    )


def _toml(value: Any) -> str:
    return f'`"{value}"`' if isinstance(value, str) else f"`{str(value).lower()}`"


def _code(text: str) -> str:
    """As code, in double quotes; a class by its name.

    >>> _code("'crash'"), _code("<class 'Exception'>")
    ('`"crash"`', '`Exception`')
    """
    text = re.sub(r"^<class '([\w.]+)'>$", r"\1", text)
    try:
        literal = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        literal = None
    return f'`"{literal}"`' if isinstance(literal, str) else f"`{text}`"


def _type(kind: Any) -> str:
    """As one writes it.

    >>> _type(int | None), _type(float), _type(Path | Callable[..., Any])
    ('`int | None`', '`float`', '`Path | Callable[..., Any]`')
    """
    text = kind.__name__ if isinstance(kind, type) else str(kind)
    return f"`{re.sub(r'(?:[a-z_]+[.])+(?=[A-Z])', '', text)}`"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = [[*head], *([_cell(text) for text in row] for row in rows)]
    lines = [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in cells]
    return "\n".join([lines[0], "|---" * len(cells[0]) + "|", *lines[1:]])


def _cell(text: str) -> str:
    """On one line; a bar would end the cell, and `<name>` would be taken for HTML."""
    return re.sub(r"<(?=\w+>)", r"\<", " ".join(text.split()).replace("|", "\\|"))


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text()))
