"""The arguments that several commands share, and how a shell completes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from starburst_common.errors import BadInput


def _complete_run(incomplete: str) -> list[tuple[str, str]]:
    """Ids of kept runs, newest first, each with what it is."""
    from starburst_common.errors import StarburstError
    from starburst_common.phrases import one_line
    from starburst_common.run import list_runs

    try:
        known = [(str(run.id), one_line(run.label or run.function, 60)) for run in list_runs()]
    except (StarburstError, OSError):
        return []
    return [(name, what) for name, what in [*known, ("last", "the newest run")] if name.startswith(incomplete)]


RunWord = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's id, the start of one, or `last`.", autocompletion=_complete_run),
]
BackendWord = Annotated[
    str,
    typer.Option("--backend", metavar="NAME", help='Where to run: "local", "aws", or "auto" to go by the settings.'),
]
Json = Annotated[bool, typer.Option("--json", help="For machines: one JSON document, or a JSON object a line.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary; of a bad end one line.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write results there, not to stdout.")
]
TagWords = Annotated[
    list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="A tag; may be given several times.")
]


def tags_of(given: list[str] | None) -> dict[str, str]:
    """What was typed as tags. Raises `BadInput`."""
    for tag in given or []:
        if not tag.partition("=")[0] or "=" not in tag:
            raise BadInput(f"--tag {tag}: write key=value")
    return {key: value for key, _, value in (tag.partition("=") for tag in given or [])}
