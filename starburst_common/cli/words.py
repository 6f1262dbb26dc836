"""The arguments that several commands share, and how a shell completes them."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from starburst_common.errors import BadInput

if TYPE_CHECKING:
    from starburst_common.runs.run import Run


def _complete_run(incomplete: str) -> list[tuple[str, str]]:
    """Ids of kept runs, newest first, each with what it is."""
    from starburst_common.errors import StarburstError
    from starburst_common.phrases import one_line
    from starburst_common.runs.find import list_runs

    try:
        known = [(str(run.id), one_line(run.label or run.function, 60)) for run in list_runs()]
    except (StarburstError, OSError):
        return []
    return [(name, what) for name, what in [*known, ("last", "the newest run")] if name.startswith(incomplete)]


class Narrowed(str):
    """What somebody typed for a run, and what the run must have besides; for listings, an empty word."""

    label: str | None = None
    tags: Mapping[str, str] = MappingProxyType({})
    state: str | None = None
    since: float = 0.0  #: wall clock
    since_word = ""

    @property
    def said(self) -> str:
        """In words, as they were typed; empty where nothing was."""
        tags = [f"--tag {key}={value}" for key, value in self.tags.items()]
        label = [f"--label {self.label}"] if self.label is not None else []
        state = [f"--state {self.state}"] if self.state is not None else []
        return " ".join([*label, *tags, *state, *([f"--since {self.since_word}"] if self.since else [])])

    def fits(self, run: Run) -> bool:
        """Whether a run is meant."""
        return (
            run.created_at >= self.since
            and self.tags.items() <= run.tags.items()
            and self.label in (None, run.label, run.function)
            and (self.state is None or run.status().state == self.state)
        )


def narrowed(command: Callable[..., None]) -> Callable[..., None]:
    """The command of a RUN, with options that narrow which may be meant; one that is of none as it is."""
    hints = get_type_hints(command, include_extras=True)
    if hints.get("run") is not RunWord:
        return command

    @wraps(command)
    def with_options(**given: Any) -> None:
        label, tag, state, since = (given.pop(name) for name in _NARROWING)
        command(**{**given, "run": narrowed_word(given.pop("run"), label, tag, state, since)})

    known = inspect.signature(command, eval_str=True)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in _NARROWING.items()
    ]
    kept = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[each.name])
        for each in known.parameters.values()
    ]
    with_options.__signature__ = known.replace(parameters=[*kept, *more])  # type: ignore[attr-defined]
    with_options.__annotations__ = {**hints, **_NARROWING}
    del with_options.__dict__["__wrapped__"]
    return with_options


def narrowed_word(
    word: str, label: str | None, tag: list[str] | None, state: str | None, since: str | None
) -> Narrowed:
    """As typed. Raises `BadInput`."""
    found = Narrowed(word)
    found.label, found.tags, found.state = label, tags_of(tag), state
    if state is not None:
        from starburst_common.model import RunState

        if state not in [*RunState]:
            near = get_close_matches(state, list(map(str, RunState)), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(RunState)}"
            raise BadInput(f"--state {state}: {hint}")
    if since is not None:
        found.since, found.since_word = moment_of(since), since
    return found


def seconds_of(text: str, name: str) -> float:
    """A length of time as somebody types it. Raises `BadInput`.

    >>> [seconds_of(text, "--since") for text in ("90", "2h", "30d", "1.5 min")]
    [90.0, 7200.0, 2592000.0, 90.0]
    """
    found = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,9})?)\s*(s|sec|m|min|h|d|days?|w)?\s*", text)
    if found is None:
        raise BadInput(f"{name} {text}: give a length of time such as 90s, 45min, 12h, 30d or 2w")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[(found[2] or "s")[0]]


def moment_of(text: str) -> float:
    """So long ago, or a date, or a date and time, here. Raises `BadInput`."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    try:
        return time.time() - seconds_of(text, "--since")
    except BadInput:
        raise BadInput(
            f"--since {text}: give how long ago, such as 90min, 12h or 7d, or a date such as 2027-01-31"
        ) from None


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
LabelFilter = Annotated[str | None, typer.Option("--label", help="Of the runs with this label, or function.")]
StateFilter = Annotated[str | None, typer.Option("--state", help="Of those in this state, such as failed.")]
SinceFilter = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Of those begun since: 12h or 7d ago, or a date.")
]
TagFilter = Annotated[
    list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="Of those with this tag; of several, all.")
]
_NARROWING: dict[str, Any] = {"label": LabelFilter, "tag": TagFilter, "state": StateFilter, "since": SinceFilter}


def tags_of(given: list[str] | None) -> dict[str, str]:
    """What was typed as tags. Raises `BadInput`."""
    for tag in given or []:
        if not tag.partition("=")[0] or "=" not in tag:
            raise BadInput(f"--tag {tag}: write key=value")
    return {key: value for key, _, value in (tag.partition("=") for tag in given or [])}
