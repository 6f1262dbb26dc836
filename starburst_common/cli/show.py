"""A run in; what a person reads of it, and what a program reads of it, out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, TextIO
from unicodedata import combining, east_asian_width

from starburst_common.cli.wrap import wrapped
from starburst_common.errors import Refused
from starburst_common.model import Failure, RunState, RunStatus
from starburst_common.phrases import duration, one_line, visible
from starburst_common.runs.report import counts, elapsed_s
from starburst_common.runs.run import Run

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_COLOURS = {
    RunState.RUNNING: "cyan",
    RunState.SUCCEEDED: "green",
    RunState.FAILED: "yellow",
    RunState.STOPPED: "red",
    RunState.CANCELLED: "magenta",
    RunState.DAMAGED: "red",
}
_CODES = {"red": 31, "green": 32, "yellow": 33, "magenta": 35, "cyan": 36, "bold": 1, "dim": 2}
_PIPED_WIDTH = 200
_TOLD = 120  # characters of a failure in a summary


def console(*, stderr: bool = False) -> Console:
    """Where tables go: as wide as the terminal, and wide enough where there is none."""
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=None if terminal else _PIPED_WIDTH, highlight=False)


def say(text: str, *, style: str = "") -> None:
    """A line for people, on stderr."""
    print(painted(wrapped(visible(text), sys.stderr), style, sys.stderr), file=sys.stderr)


def painted(text: str, style: str, stream: TextIO) -> str:
    """A text in a colour where somebody sees it. Not by `rich`, whose import takes longer than a listing."""
    if not style or not text or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    if not stream.isatty() and "FORCE_COLOR" not in os.environ:
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def simple_table(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str],
    flexible: str,
    width: int = _PIPED_WIDTH,
    paint: Callable[[int, str, str], str] = lambda row, name, cell: cell,
) -> str:
    """What `print_table` prints of `columns`, painted cell by cell; -1 is the row of the names.

    >>> print(simple_table(["a", "n"], [["bcd", "1"], ["e", "20"]], right=["n"], flexible="a", width=6))
    a    n
    b…   1
    e   20
    """
    table = [names, *([visible(each) for each in row] for row in rows)]
    widths = [max(map(_cells, column)) for column in zip(*table, strict=True)]
    give = sum(widths) + 2 * (len(widths) - 1) - width
    if give > 0:
        at = names.index(flexible)
        widths[at] = max(widths[at] - give, 1)
    lines = []
    for number, row in enumerate(table, -1):
        line = ""
        for name, text, most in zip(names, row, widths, strict=True):
            if _cells(text) > most:
                while _cells(text) >= most and text:
                    text = text[:-1]
                text += "…"
            blank = " " * (most - _cells(text))
            cell = paint(number, name, text)
            line += (blank + cell if name in right else cell + blank) + "  "
        lines.append(line.rstrip())
    return "\n".join(lines)


def _cells(text: str) -> int:
    """How wide a text is on a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text)


def print_table(table: Table) -> None:
    """On stdout, without the blanks at the ends of lines."""
    out = console()
    with out.capture() as captured:
        out.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def columns(*names: str, right: tuple[str, ...] = (), flexible: str) -> Table:
    """An empty table: plain, and only the flexible column gives way where it is narrow."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=name != flexible)
    return table


def add_row(table: Table, *cells: str | Text) -> None:
    """Add a row of `columns`: each cell is on one line, shows just its text, and is cut where there is no room."""
    from rich.text import Text

    def shown(text: str) -> Text:
        return Text(visible(text), no_wrap=True, overflow="ellipsis")

    table.add_row(*(shown(each) if isinstance(each, str) else each for each in cells))


def print_fields(fields: Mapping[str, str | Sequence[str] | Text]) -> None:
    """Names and texts, one below the other, with the lines of those that have several; none that is empty."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        if value:
            if not isinstance(value, Text):
                value = Text("\n".join(map(visible, [value] if isinstance(value, str) else value)))
            table.add_row(name, value)
    print_table(table)


def width_of(stream: TextIO) -> int:
    """How wide a table may be there."""
    return get_terminal_size().columns if stream.isatty() else _PIPED_WIDTH


def colour(status: RunStatus) -> str:
    """Of a run's state."""
    return _COLOURS[status.state]


def state_text(status: RunStatus) -> Text:
    """The state in its colour, with how far a running one is."""
    from rich.text import Text

    return Text(state_words(status), style=_COLOURS[status.state])


def state_words(status: RunStatus) -> str:
    """The state, with how far a running one is."""
    if not status.state.over and status.items:
        return f"{status.state} {100 * status.answered // status.items}%"
    return str(status.state)


def ago(then: float, now: float) -> str:
    """How long before (or after) now a moment is, in one unit.

    >>> [ago(then, 10_000) for then in (9_999, 9_000, 1_000, 10_001 + 86400 * 3)]
    ['just now', '16 min ago', '2 h ago', 'in 3 days']
    """
    seconds = abs(now - then)
    if seconds < 2:
        return "just now"
    units = ((86400, "days"), (3600, "h"), (60, "min"), (1, "s"))
    size, unit = next((size, unit) for size, unit in units if seconds >= size and (size < 86400 or seconds >= 2 * size))
    amount = f"{int(seconds / size)} {unit}"
    return f"{amount} ago" if then < now else f"in {amount}"


def exit_code(run: Run, status: RunStatus) -> int:
    """0 while all is fine or tolerated, 1 once other items failed, 4 or 5 if it did not get to its end."""
    failed = status.failed > 0 and not run.tolerated(status)
    if status.state is RunState.CANCELLED or status.limit:
        return 4
    if status.state in (RunState.STOPPED, RunState.DAMAGED):  # for its failures, or because it could not go on
        return 4 if failed else 5
    return int(failed)


def with_retries(status: RunStatus, failed: int, unanswered: int) -> RunStatus:
    """A run's status with what its retries have answered."""
    answered = None if status.items is None else status.items - unanswered
    answered = status.answered if answered is None else answered
    status = replace(status, failed=failed, answered=answered, withdrawn=0)
    if unanswered or status.state is RunState.DAMAGED:
        return status
    return replace(status, state=RunState.FAILED if failed else RunState.SUCCEEDED, reason="")


def iso(moment: float | None) -> str | None:
    """A moment (wall clock) as ISO 8601 text, in UTC."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def kept_until(run: Run) -> float | None:
    """When it may be pruned; None while it goes on, or where that cannot be read."""
    with suppress(Refused):
        return run.expires_at
    return None


def run_fields(run: Run, status: RunStatus, *, listed: bool = False) -> dict[str, Any]:
    """A run as JSON. Times in ISO 8601, `usd` rounded to six digits."""
    price, elapsed = run.estimate(status, listed=listed), elapsed_s(status)
    expected = None if listed else run.expected(status)
    return {
        "id": run.id,
        "state": str(status.state),
        "reason": status.reason,
        "label": run.label,
        "tags": run.tags,
        "function": run.function,
        "items": status.items,
        "answered": status.answered,
        "failed": status.failed,
        "withdrawn": status.withdrawn,
        "workers": status.workers,
        "workers_asked": run.workers,
        "resources": {
            "cpu": run.resources.cpu,
            "memory_mib": run.resources.memory_mib,
            "slots": run.resources.slots,
        },
        "created_at": iso(status.created_at),
        "ended_at": iso(status.ended_at),
        "expires_at": iso(kept_until(run)),
        "elapsed_s": round(elapsed, 3),
        "items_per_s": round(status.rate or (status.answered / elapsed if elapsed else 0.0), 3),
        "slot_seconds": round(status.slot_seconds, 3),
        "attempts": status.attempts,
        "memory_peak_mib": status.memory_mib or None,
        "limit": status.limit,
        "spent_usd": None if status.spent_usd is None else round(float(status.spent_usd), 6),
        "budget_usd": status.budget_usd,
        "aws_estimate": price.fields,
        "expected": None if expected is None else expected.fields(price.foreseen_usd if status.state.over else None),
    }


def summary(run: Run, status: RunStatus, first: list[Failure], *, here: str, quiet: bool = False) -> None:
    """How a run ended, in a few lines on stderr: failures, what it took, where to look next.

    With `quiet` one line, and only if it ended badly.
    """
    if quiet:
        if exit_code(run, status):
            why = status.reason or f"{status.failed:,} of {status.answered:,} items failed"
            say(f"error: {status.state}: {why}: {next_steps(status, here)[0]}")
        return
    for failure in first:
        say(f"item {failure.index}: {in_a_line(failure, _TOLD)}", style="red")
    if status.failed > len(first) > 0:
        say(f"… and {status.failed - len(first):,} more failures", style="red")
    answered = status.answered - status.withdrawn
    of = f" of {status.items:,}" if status.items is not None and answered < status.items else ""
    items = f"item{'s' * ((status.items or status.answered) != 1)}"
    done = f"{answered:,}{of} {items} in {duration(elapsed_s(status))}{counts(status)}"
    say(f"{status.state}: {done}{f' ({status.reason})' if status.reason else ''}", style=_COLOURS[status.state])
    say(f"on AWS: {run.estimate(status).about}")
    say(f"next: {next_steps(status, here)[0]}")


def in_a_line(failure: Failure, most: int) -> str:
    """A failure's type and message, without line breaks, cut."""
    return one_line(f"{failure.error or failure.kind}: {failure.message}", most)


def next_steps(status: RunStatus, here: str) -> list[str]:
    """Commands worth typing now, other than the one that was."""
    if status.state is RunState.DAMAGED:
        verbs = ["remove"]
    elif not status.state.over:
        verbs = ["attach", "logs", "cancel"]
    elif status.limit:
        return [f"starburst resume {status.id} --{status.limit} …", f"starburst results {status.id}"]
    else:
        verbs = ["failures", "logs", "results"] if status.failed else ["results", "status"]
    return [f"starburst {verb} {status.id}" for verb in verbs if verb != here]
