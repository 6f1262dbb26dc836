"""A run's status, settled chunks and failures in; a page that a person can read, search and keep out."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from starburst_common.dollars import usd_text
from starburst_common.model import Failure, RunStatus
from starburst_common.money.estimate import Estimate, spent_text
from starburst_common.phrases import duration, each_text, one_line, shortened, visible, visible_lines
from starburst_common.runs.charts import Axis, answered_curve, histogram, worker_steps
from starburst_common.runs.events import CURVES, RunEvent, thinned
from starburst_common.runs.priced import Expected
from starburst_common.runs.tally import Settled

_CHUNKS = 5_000  #: whose items can be looked up on the page
_FAILURES = 1_000  #: that have a row
_MESSAGE = 2_000  #: characters of one
_TRACEBACK = 8_000  #: characters of one
_TRACEBACKS = 1_000_000  #: characters of all
_KINDS = 50
_NAME = 200  #: characters of an exception's
_SLOWEST = 10
_WORKERS = 200
_EVENTS = 200  #: that have a row


def report_page(
    status: RunStatus,
    *,
    about: Mapping[str, str],
    estimate: Estimate,
    expected: Expected | None = None,
    memory: str = "",
    settled: Sequence[Settled],
    failures: Sequence[Failure],
    events: Sequence[RunEvent],
    now: float,
) -> str:
    """One page of HTML that needs nothing else: figures and costs, what happened, failures, durations, each item.

    It stays small: it holds the first 1,000 failures (their tracebacks as far as a million characters go), the 200
    busiest workers, 200 events, and for the look-up the items of the first 5,000 chunks. What others wrote shows as
    what it is.

    Args:
        status: how the run stands.
        about: further rows of its head, by name; those without a text are left out.
        estimate: what its work costs.
        expected: what it was to cost, as far as that was known before.
        memory: what its slots took, in words.
        settled: its settled chunks, in the order of the items.
        failures: all of them, in the order of the items.
        events: what happened, by time.
        now: the time that the page bears (wall clock, seconds).
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("starburst_common.runs", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible_lines(value) if type(value) is str else value,
    )
    parts = [part for chunk in settled for part in _stretches(chunk)]
    axis, rows = Axis.of(status, now), _rows(failures[:_FAILURES])
    bars = histogram((part.each_s, part.hi - part.lo) for part in parts)
    return templates.get_template("report.html.j2").render(
        status=status,
        head=_head(status, about, estimate, memory, len(settled), expected),
        share=lambda part: round(100 * part / max(status.items or status.answered, 1), 2),
        at=_moment(now),
        costs=_costs(estimate, expected),
        metered=estimate.metered,
        expected=expected is not None and bool(expected.parts),
        kinds=_kinds(failures, rows),
        failures=rows,
        failed=len(failures),
        happened=[(duration(max(each.at - status.created_at, 0.0)), each.text) for each in told_events(events)],
        curve=answered_curve(status, events, axis),
        steps=worker_steps(events, axis),
        took=duration(axis.took),
        bars=bars,
        most=max((bar.items for bar in bars), default=0),
        workers=_workers(settled)[:_WORKERS],
        slowest=sorted(parts, key=lambda part: -part.each_s)[:_SLOWEST],
        chunks=[[part.lo, part.hi, visible(part.worker), each_text(part.each_s)] for part in parts[:_CHUNKS]],
        lookup_to=parts[_CHUNKS].lo if len(parts) > _CHUNKS else None,
        duration=duration,
        each=each_text,
    )


def _head(
    status: RunStatus,
    about: Mapping[str, str],
    estimate: Estimate,
    memory: str,
    chunks: int,
    expected: Expected | None,
) -> dict[str, str]:
    """Its figures, by name."""
    whole = "" if status.items is None else f" of {status.items:,}"
    rows = {
        "items": f"{status.answered - status.withdrawn:,}{whole} answered{counts(status)}",
        **about,
        "began": _moment(status.created_at),
        "took": duration(elapsed_s(status)),
        "slot time": duration(status.slot_seconds),
        "attempts": f"{status.attempts:,}, at {chunks:,} chunks" if status.attempts else "",
        "memory": memory,
        "spent so far": spent_text(status),
        "cost" if estimate.metered else "estimated cost": str(estimate),
        "before": "" if expected is None else expected.told(estimate.foreseen_usd if status.state.over else None),
        "prices from": estimate.source,
    }
    return {name: text for name, text in rows.items() if text}


def told_events(events: Sequence[RunEvent], most: int = _EVENTS) -> list[RunEvent]:
    """Those that are told one by one, the first ones and the last."""
    return thinned([event for event in events if event.kind not in CURVES], 2 * most)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Consecutive items with one outcome."""

    lo: int
    hi: int
    worker: str
    each_s: float  #: slot time an item, on average


def _stretches(chunk: Settled) -> list[_Stretch]:
    items = sum(span.size for span in chunk.answered)
    return [_Stretch(span.lo, span.hi, chunk.worker, chunk.seconds / items) for span in chunk.answered]


def _workers(settled: Sequence[Settled]) -> list[tuple[str, int, int, int, float]]:
    """Each worker's chunks, items, failures and slot time, the busiest first."""
    sums: dict[str, list[Any]] = defaultdict(lambda: [0, 0, 0, 0.0])
    for chunk in settled:
        items = sum(span.size for span in chunk.answered)
        each = sums[chunk.worker]
        for at, more in enumerate((1, items, chunk.failed, chunk.seconds)):
            each[at] += more
    return sorted(((name, *each) for name, each in sums.items()), key=lambda row: -row[4])


def _costs(estimate: Estimate, expected: Expected | None) -> list[tuple[str, str, str]]:
    """Each component: what it cost, and what it was to; where there is more to tell than one sum."""
    parts, before = estimate.parts, {} if expected is None else expected.parts
    if len(parts) < 2 and not before:
        return []
    rows = [(name, usd, before.get(name)) for name, usd in parts.items()]
    rows += [("all", sum(parts.values(), Decimal(0)), sum(before.values(), Decimal(0)) if before else None)]
    return [(name, usd_text(usd), "" if was is None else usd_text(was)) for name, usd, was in rows]


def _kinds(failures: Sequence[Failure], rows: Sequence[dict[str, Any]]) -> list[tuple[str, str, int, dict[str, Any]]]:
    """Each class of failure, the most frequent first: its kind, error and number, and the first of it that is told."""
    counted = Counter((str(failure.kind), one_line(failure.error, _NAME)) for failure in failures)
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        first.setdefault((row["kind"], row["error"]), row)
    return [(*each, count, first.get(each, {})) for each, count in counted.most_common(_KINDS)]


def _rows(failures: Sequence[Failure]) -> list[dict[str, Any]]:
    rows, left = [], _TRACEBACKS
    for failure in failures:
        text = visible_lines(shortened(failure.traceback, _TRACEBACK)) if left > 0 else ""
        left -= len(text)
        rows.append(
            {
                "item": failure.index,
                "kind": str(failure.kind),
                "error": one_line(failure.error, _NAME),
                "message": visible_lines(shortened(failure.message, _MESSAGE)),
                "worker": visible(failure.worker),
                "traceback": text,
            }
        )
    return rows


def _moment(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def counts(status: RunStatus) -> str:
    """What of the items there is beside values, to be said behind their number.

    >>> from types import SimpleNamespace
    >>> counts(SimpleNamespace(failed=1200, withdrawn=3)), counts(SimpleNamespace(failed=0, withdrawn=0))
    (', 1,200 failed, 3 withdrawn', '')
    """
    told = ((status.failed, "failed"), (status.withdrawn, "withdrawn"))
    return "".join(f", {count:,} {what}" for count, what in told if count)


def elapsed_s(status: RunStatus) -> float:
    """Seconds since the run began, until its end if it is over."""
    return max((status.ended_at or time.time()) - status.created_at, 0.0)
