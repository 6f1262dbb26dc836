"""How a run stands in; the words of its artifacts out: a line, a page and a table of failures. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from starburst_common import Failure, Run, RunState, RunStatus
from starburst_common.spi import code, duration, elapsed_s, left_s, markdown, spent_text

_MESSAGE = 200  #: characters of a failure, or of why a run ended


def percent(status: RunStatus, expected: int | None) -> float:
    """How much is answered, from 0 to 100; 0 while nobody knows how much there is."""
    if expected is None:
        return 0.0
    return round(100 * min(status.answered / expected, 1), 1) if expected else 100.0 * status.state.over


def progress_text(status: RunStatus, expected: int | None, what: str) -> str:
    """A line on how the run stands."""
    of = "" if expected is None else f" of {expected:,}"
    left = left_s(status)
    parts = [f"**{what}**: {status.answered:,}{of} items"]
    if status.failed:
        parts.append(f"{status.failed:,} failed")
    if status.state.over:
        parts.append(f"{_ending(status)} after {duration(elapsed_s(status))}")
    else:
        parts.append(f"{status.workers:,} worker{'s' * (status.workers != 1)}")
        parts += [f"{status.rate:,.0f}/s"] if status.rate else []
        parts += [spent_text(status)] if status.spent_usd is not None else []
        parts += [f"about {duration(left)} left"] if left else []
    if status.reason:
        parts.append(markdown(status.reason, _MESSAGE))
    return f"{' · '.join(parts)} · `{status.id}`"


def ended_text(status: RunStatus, what: str, cost: str) -> str:
    """A line on how a run ended, by which it is compared with others."""
    items = f"{status.answered:,}" + (f" of {status.items:,}" if status.items not in (None, status.answered) else "")
    parts = [f"{items} items", f"{status.failed:,} failed", f"{elapsed_s(status):,.1f} s", cost]
    return f"**{what}**: {_ending(status)} · {' · '.join(parts)} · `{status.id}`"


def key_part(name: str) -> str:
    """A name in the letters that an artifact's key may have; two names that differ in others stay two.

    >>> key_part("Order stock"), key_part("score_all"), key_part("Prévision!")
    ('order-stock', 'score-all', 'pr-vision-284d20')
    """
    plain = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
    same = plain == re.sub("[ _]", "-", name.lower())
    return plain if same else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}".strip("-")


def summary_text(
    run: Run, status: RunStatus, backend: str, what: str, *, first: Failure | None, report: str = ""
) -> str:
    """How a run ended, and where to look closer, as markdown: its first failure, the URL of its report."""
    whole = status.items is None or status.answered == status.items
    answered = f"{status.answered:,}" + ("" if whole else f" of {status.items:,}")
    failed = f", **{status.failed:,} failed**" if status.failed else ""
    estimate, expected = run.estimate(status), run.expected(status)
    rows = {
        "run": f"`{run.id}`",
        "function": code(run.function, _MESSAGE) if run.function != "calls" else "",
        "backend": markdown(backend),
        "workers": f"{run.workers:,} at most, each {run.resources.size}",
        "slot time": duration(status.slot_seconds),
        "cost" if estimate.metered else "estimated cost": str(estimate),
        "before": "" if expected is None else expected.told(estimate.foreseen_usd),
        "report": code(report) if report.startswith("file:") else f"[open]({report})" if report else "",
    }
    verbs = [f"status {run.id}"]
    if status.failed:
        verbs.append(f"failures {run.id}")
    if status.answered:
        item = first.index if first else 0
        verbs += [f"logs {run.id} --item {item}", f"replay {run.id} {item}"]
    lines = [
        f"### {what}: {_ending(status)}",
        "",
        f"{answered} items answered in {duration(elapsed_s(status))}{failed}.",
        *([f"\n> {markdown(status.reason, _MESSAGE)}"] if status.reason else []),
        "",
        *_table([(name, value) for name, value in rows.items() if value]),
        "",
        "Look closer, in a shell:",
        "",
        "```",
        *(f"starburst {verb}" for verb in verbs),
        "```",
    ]
    return "\n".join(lines)


def failure_rows(failures: list[Failure]) -> list[dict[str, Any]]:
    """Failures as the rows of a table, whose cells Prefect shows as markdown."""
    return [
        {
            "item": failure.index,
            "kind": str(failure.kind),
            "error": markdown(failure.error, _MESSAGE),
            "message": markdown(failure.message, _MESSAGE),
        }
        for failure in failures
    ]


def _ending(status: RunStatus) -> str:
    """The state; a run that went on to its end although items failed has not failed as a whole."""
    return "ended" if status.state is RunState.FAILED else str(status.state)


def _table(rows: list[tuple[str, str]]) -> list[str]:
    """Rows of two columns; the first is the head, which markdown does not do without."""
    lines = [f"| {name} | {value} |" for name, value in rows]
    return [lines[0], "|---|---|", *lines[1:]]
