"""`starburst config show`: every setting, and where it comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from starburst_common.cli.words import Json


def show(
    backend: Annotated[
        str | None, typer.Option("--backend", metavar="NAME", help="As it would be with this in place of the setting.")
    ] = None,
    json: Json = False,
) -> None:
    """Show every setting, and where it comes from.

    An argument goes before an environment variable, that before the project's file (its tables [tool.starburst.map] and
    [tool.starburst.image]), that before your own, and that before the default. Addresses are shown without credentials.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import add_row, columns, print_table

    tables = everything(backend)
    if json:
        documents = {
            table: {name: {"value": _fit(value), "from": where} for name, (value, where) in rows.items()}
            for table, rows in tables.items()
        }
        print_json({**documents.pop(""), **documents})
        return
    table = columns("setting", "value", "from", flexible="from")
    for title, rows in tables.items():
        for name, (value, where) in rows.items():
            add_row(table, f"{title}.{name}" if title else name, _text(_fit(value)), where)
    print_table(table)


def everything(backend: str | None) -> dict[str, dict[str, tuple[Any, str]]]:
    """Each table's settings with where they come from; the top of the file is the table without a name."""
    from starburst_common.config import IMAGE, OUTSIDE, SETTINGS, settings
    from starburst_common.outside import first_said, of_project, project_file, said, written_settings, written_site
    from starburst_common.sites.site import SITE

    found = settings(backend=backend)
    here = Path.cwd()
    found.image.in_project(here)  # is the project's file to be believed?
    file, written = written_settings(os.environ)
    site, source = written_site(file, written, os.environ)
    project = project_file(here)
    tables = {
        "": {name: (getattr(found, name), found.sources[name]) for name in SETTINGS},
        "map": {
            name: (found.options.get(name, row.default), found.sources.get(name, "default"))
            for name, row in OUTSIDE.items()
        },
        "image": first_said(
            IMAGE,
            said(_tuples(of_project(project, "image")), f"{project}: [tool.starburst.image]") if project else {},
            said(_tuples(written.get("image", {})), f"{file}: [image]"),
            said({name: row.default for name, row in IMAGE.items()}, "default"),
        ),
    }
    if found.site is not None:
        tables["site"] = {
            name: (getattr(found.site, name), f"{source}: [site]" if name in site else "default") for name in SITE
        }
    return tables


def _tuples(table: Any) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}


def _fit(value: Any) -> Any:
    """As JSON, and as it may be shown."""
    from starburst_common.phrases import without_credentials

    if isinstance(value, dict):
        return {name: _fit(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_fit(each) for each in value]
    return without_credentials(str(value)) if isinstance(value, str | Path) else value


def _text(value: Any) -> str:
    """As one types it; nothing for what is empty.

    >>> _text(["a", "b"]), _text({"team": "x"}), _text(True), _text(None), _text(2.0)
    ('a, b', 'team=x', 'true', '', '2')
    """
    if isinstance(value, dict):
        return ", ".join(f"{name}={text}" for name, text in value.items())
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
