"""A run's status in, what a person sees out: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from datetime import timedelta
from threading import Event, Thread

from starburst_common.model import RunStatus
from starburst_common.money.estimate import spent_short, spent_text
from starburst_common.phrases import duration, one_line
from starburst_common.runs.run import Run
from starburst_common.runs.watching import Watching

_BAR_S, _LINE_S = 0.2, 5.0  # between two, at least
_IDLE_BAR_S, _IDLE_LINE_S = 1.0, 30.0  # and at most: time passes
_NAME, _LEAST_NAME = 28, 12  # characters of a label before the bar: those of an id; where there is no room for them
_TIME, _LEAST_BAR, _GAPS = 8, 4, 7  # a spinner and what is between the columns
_LABEL = 120  # and in a line


def progress(run: Run, wanted: bool | None) -> AbstractContextManager[object]:
    """Show a run's progress on stderr while the block runs: None or True show it, False is silent."""
    shown = ExitStack()
    shown.enter_context(_shown(run, wanted))
    return closing(shown)  # what the block raises does not pass: a generator sets it anew, which a frozen one refuses


@contextmanager
def _shown(run: Run, wanted: bool | None) -> Iterator[None]:
    if wanted is False or sys.stderr is None:
        yield
    elif sys.stderr.isatty():
        with _bar(run):
            yield
    else:
        with _lines(run, at_once=wanted is True):
            yield


@contextmanager
def preparing(wanted: bool | None, every_s: float = _LINE_S) -> Iterator[Callable[[Callable[[], str]], None]]:
    """Say on stderr every few seconds what is done before there is a run to watch, unless `wanted` is False.

    The block is given who takes what tells it; nothing is told while that gives no text.
    """
    told: list[Callable[[], str]] = [str]
    ended, began = Event(), time.monotonic()

    def body() -> None:
        while not ended.wait(every_s):
            if what := told[-1]():
                print(f"{what} ({time.monotonic() - began:.0f} s so far)", file=sys.stderr, flush=True)

    if wanted is not False:
        Thread(target=body, daemon=True).start()
    try:
        yield told.append
    finally:
        ended.set()


def left_s(status: RunStatus) -> float | None:
    """Seconds until all is answered, at the pace at which it goes; None where nobody knows."""
    return (status.items - status.answered) / status.rate if status.items is not None and status.rate else None


def per_s(rate: float, what: str = "") -> str:
    """A rate, in a unit in which it is no zero.

    >>> [per_s(rate) for rate in (0, 1234.5, 2.25, 0.3, 1 / 90)], per_s(0.5, "items")
    (['0/s', '1,234/s', '2.2/s', '18/min', '40/h'], '30 items/min')
    """
    unit, each = next(
        ((unit, each) for unit, each in (("s", 1), ("min", 60)) if rate * each >= 1 or not rate), ("h", 3600)
    )
    amount = rate * each
    return f"{amount:,.{int(0 < amount < 10 and amount != int(amount))}f}{f' {what}' if what else ''}/{unit}"


def line(status: RunStatus) -> str:
    """One line that says where a run is."""
    left = left_s(status)
    of = "?" if status.items is None else f"{status.items:,}"
    failed = f", {status.failed:,} failed" if status.failed else ""
    eta = f", about {duration(left)} left" if left and not status.state.over else ""
    end = f", {status.state}" if status.state.over else f", {_workers(status)}"
    name = one_line(status.label or status.id, _LABEL)
    cost = f", {burnt}" if (burnt := spent_text(status)) else ""
    rate = f", {per_s(status.rate)}" if status.rate or not status.state.over else ""
    return f"{name}: {status.answered:,} of {of} items{failed}{end}{rate}{cost}{eta}{_waits(status)}"


def _waits(status: RunStatus) -> str:
    """What holds it up, where that is known."""
    return f", {one_line(status.reason, _LABEL)}" if status.reason and not status.state.over else ""


def _workers(status: RunStatus) -> str:
    return f"{status.workers} worker{'s' * (status.workers != 1)}"


@contextmanager
def _lines(run: Run, *, at_once: bool) -> Iterator[None]:
    began, ended = time.monotonic(), Event()

    def show(status: RunStatus) -> None:
        elapsed = time.monotonic() - began
        if not ended.is_set() and (elapsed >= _LINE_S or (at_once and status.state.over)):
            print(line(status), file=sys.stderr, flush=True)
        if status.state.over:
            ended.set()

    with _watched(run, show, _LINE_S, _IDLE_LINE_S):
        yield


@contextmanager
def _bar(run: Run) -> Iterator[None]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
    from rich.table import Column
    from rich.text import Text

    named, counted, noted, timed = (Column(no_wrap=True) for _ in range(4))
    columns = (
        SpinnerColumn(),
        TextColumn("[bold]{task.description}", table_column=named),
        BarColumn(),
        MofNCompleteColumn(table_column=counted),
        TextColumn("{task.fields[note]}", table_column=noted),
        TextColumn("{task.fields[left]}", style="progress.remaining", table_column=timed),
    )
    # it is drawn by who watches the run, and not by a thread of its own ten times a second
    with Progress(*columns, console=Console(stderr=True, emoji=False), auto_refresh=False) as bar:
        row = bar.add_task(escape(one_line(run.label or run.id, _NAME)), total=None, note="starting workers", left="")
        bar.refresh()
        told, began = set[str](), time.monotonic()

        def show(status: RunStatus) -> None:
            failed = f"[red]{status.failed:,} failed[/red] · " if status.failed else ""
            state = str(status.state) if status.state.over else _workers(status)
            waits = f" · {escape(one_line(status.reason, _NAME))}" if _waits(status) else ""
            cost = f" · {burnt}" if (burnt := spent_short(status)) else ""
            if burnt and status.priced not in told:  # once, above the bar, which has no room for it
                told.add(status.priced)
                bar.console.print(f"costs so far are for {status.priced}", highlight=False)
            note = f"{failed}{state} · {per_s(status.rate)}{cost}{waits}"
            count = f"{status.answered}/{'?' if status.items is None else status.items}"
            widths = room_for(bar.console.width, len(count), Text.from_markup(note).cell_len)
            named.max_width, noted.max_width = widths
            left = _short(time.monotonic() - began if status.state.over else left_s(status))
            bar.update(row, total=status.items, completed=status.answered, note=note, left=left, refresh=True)

        with _watched(run, show, _BAR_S, _IDLE_BAR_S):
            yield


def _short(seconds: float | None) -> str:
    """A length of time in eight characters, or "-:--:--" where nobody knows.

    >>> [_short(seconds) for seconds in (None, 0.4, 3723, 200_000)]
    ['-:--:--', '0:00:00', '1:02:03', '2 d 7 h']
    """
    if seconds is None:
        return "-:--:--"
    return str(timedelta(seconds=int(seconds))) if seconds < 86400 else duration(seconds)


def room_for(width: int, count: int, note: int) -> tuple[int, int]:
    """Columns for a bar's name and note in a line of such a width: of these the name gives way first.

    >>> room_for(120, 7, 40), room_for(80, 7, 36), room_for(80, 7, 60)
    ((28, 66), (18, 36), (12, 42))
    """
    left = width - count - _TIME - _LEAST_BAR - _GAPS
    name = min(max(left - note, _LEAST_NAME), _NAME)
    return name, max(left - name, 1)


@contextmanager
def _watched(run: Run, show: Callable[[RunStatus], None], every_s: float, idle_s: float) -> Iterator[None]:
    """Call `show` with the run's status when something happens to it, and once when the block ends."""
    watching = Watching(run, every_s=every_s, idle_s=idle_s)

    def body() -> None:
        for status in watching:
            show(status)

    thread = Thread(target=body, daemon=True)
    thread.start()
    try:
        yield
    finally:
        watching.close()
        thread.join()
        driver = run._held.driver
        if driver is None or driver.books.error is None:  # else that is told: asking anew would meet the same
            show(run.status())
