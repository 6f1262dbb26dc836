"""The arguments that several commands share, and how a shell completes them."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

from starburst_common.errors import BadInput
from starburst_common.limits import length_s

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
    prefix = "--"  #: of the options

    @property
    def said(self) -> str:
        """In words, as they were typed; empty where nothing was."""
        tags = [f"tag {key}={value}" for key, value in self.tags.items()]
        label = [f"label {self.label}"] if self.label is not None else []
        state = [f"state {self.state}"] if self.state is not None else []
        since = [f"since {self.since_word}"] if self.since else []
        return " ".join(f"{self.prefix}{each}" for each in (*label, *tags, *state, *since))

    def fits(self, run: Run) -> bool:
        """Whether a run is meant."""
        return (
            run.created_at >= self.since
            and self.tags.items() <= run.tags.items()
            and self.label in (None, run.label, run.function)
            and (self.state is None or run.status().state == self.state)
        )


def narrowed(command: Callable[..., None]) -> Callable[..., None]:
    """The command of a RUN, with options that narrow which may be meant; one that is of none as it is.

    Where an option names the run, and others describe one that is to be, these begin with `--of-`.
    """
    hints = get_type_hints(command, include_extras=True)
    word = next((name for name, kind in hints.items() if kind in (RunWord, MaybeRun, RetriedRun)), None)
    if word is None:
        return command
    filters, prefix = (_NARROWING_OF, _OF) if hints[word] == RetriedRun else (_NARROWING, "--")
    given_as = f"--{word.replace('_', '-')} RUN" if hints[word] == RetriedRun else "RUN"

    @wraps(command)
    def with_options(**given: Any) -> None:
        asked = [given.pop(name) for name in filters]
        if given[word] is not None:
            given[word] = narrowed_word(given[word], *asked, prefix=prefix)
        elif any(each is not None for each in asked):
            raise BadInput(f"{prefix}… go with {given_as}: they say which run `last` means")
        command(**given)

    known = inspect.signature(command, eval_str=True)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in filters.items()
    ]
    kept = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[each.name])
        for each in known.parameters.values()
    ]
    with_options.__signature__ = known.replace(parameters=[*kept, *more])  # type: ignore[attr-defined]
    with_options.__annotations__ = {**hints, **filters}
    del with_options.__dict__["__wrapped__"]
    return with_options


def narrowed_word(
    word: str,
    label: str | None,
    tag: list[str] | None,
    state: str | None,
    since: str | None,
    *,
    prefix: str = "--",
) -> Narrowed:
    """As typed. Raises `BadInput`."""
    found = Narrowed(word)
    found.label, found.tags, found.state, found.prefix = label, tags_of(tag, f"{prefix}tag"), state, prefix
    if state is not None:
        from starburst_common.model import RunState

        if state not in [*RunState]:
            near = get_close_matches(state, list(map(str, RunState)), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(RunState)}"
            raise BadInput(f"{prefix}state {state}: {hint}")
    if since is not None:
        found.since, found.since_word = moment_of(since, f"{prefix}since"), since
    return found


def seconds_of(text: str, name: str) -> float:
    """A length of time as somebody types it. Raises `BadInput`.

    >>> [seconds_of(text, "--since") for text in ("90", "2h", "30d", "1.5 min")]
    [90.0, 7200.0, 2592000.0, 90.0]
    """
    found = length_s(text)
    if found is None:
        raise BadInput(f"{name} {text}: give a length of time such as 90s, 45min, 12h, 30d or 2w")
    return found


def moment_of(text: str, name: str = "--since") -> float:
    """So long ago, or a date, or a date and time, here. Raises `BadInput`."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    try:
        return time.time() - seconds_of(text, name)
    except BadInput:
        raise BadInput(
            f"{name} {text}: give how long ago, such as 90min, 12h or 7d, or a date such as 2027-01-31"
        ) from None


RunWord = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's id, the start of one, or `last`.", autocompletion=_complete_run),
]
MaybeRun = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="A run's id, the start of one, or `last`.", autocompletion=_complete_run),
]
RetriedRun = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="In place of --items: what failed in that run, or has no answer. Without a function, with the one that "
        "was stored; options that are not given are as they were.",
        autocompletion=_complete_run,
    ),
]
BackendWord = Annotated[
    str,
    typer.Option("--backend", metavar="NAME", help='Where to run: "local", "aws", or "auto" to go by the settings.'),
]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw it: .png or .svg; needs the extra `plot`.")
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


def _of_retried(name: str, kind: Any) -> Any:
    """The same filter of the run that is named by --retry-failed, beside which --label and --tag are of the new run."""
    type_, option = get_args(kind)
    help = f"With --retry-failed, o{option.help[1:]}"
    return Annotated[type_, typer.Option(f"{_OF}{name}", metavar=option.metavar, help=help)]


_OF = "--of-"
_NARROWING: dict[str, Any] = {"label": LabelFilter, "tag": TagFilter, "state": StateFilter, "since": SinceFilter}
_NARROWING_OF = {f"of_{name}": _of_retried(name, kind) for name, kind in _NARROWING.items()}


def tags_of(given: list[str] | None, option: str = "--tag") -> dict[str, str]:
    """What was typed as tags. Raises `BadInput`."""
    for tag in given or []:
        if not tag.partition("=")[0] or "=" not in tag:
            raise BadInput(f"{option} {tag}: write key=value")
    found: dict[str, str] = {}
    for key, _, value in (tag.partition("=") for tag in given or []):
        if found.setdefault(key, value) != value:
            raise BadInput(f"{option} {key}={found[key]} and {key}={value}: there is one value of a name: give either")
    return found
