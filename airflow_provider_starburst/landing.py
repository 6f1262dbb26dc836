"""A run that is over in; what is told of it through XCom, or why the task fails, out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from airflow_provider_starburst.errors import (
    StarburstBudget,
    StarburstDeadline,
    StarburstItemsFailed,
    StarburstRunEnded,
    StarburstTimeout,
    told_failures,
)
from airflow_provider_starburst.events import DEADLINE, TIMEOUT
from airflow_provider_starburst.results import StarburstResults
from starburst_common import Failure, FailureKind, attach
from starburst_common.spi import Backend, Tolerance, duration, elapsed_s, usd_text, written_to

_PRICED = ("region", "arch", "capacity", "prices_as_of", "metered")  #: of an estimate, what tells how it is reckoned


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """A task's run, with its retries."""

    manifest: dict[str, Any]  #: plain and small: money and moments as text, no number that is none
    failures: Sequence[Failure]
    reason: str  #: why items have no answer
    limit: FailureKind | None = None  #: BUDGET or DEADLINE, where that is why

    @property
    def told(self) -> str:
        """Its failures, by their classes."""
        return told_failures(self.failures, self.manifest["run_id"])

    @property
    def line(self) -> str:
        """How it ended, for a log; its manifest has more."""
        of = self.manifest
        usd = None if of["estimated_usd"] is None else Decimal(of["estimated_usd"])
        lacking = "".join(f", {of[name]:,} {name}" for name in ("failed", "missing") if of[name])
        return (
            f"run {of['run_id']}: {of['succeeded']:,} of {of['items']:,} items succeeded{lacking}, in "
            f"{duration(of['seconds'])}; {self._cost(usd)}; {of['report']}"
        )

    def _cost(self, usd: Decimal | None) -> str:
        """With what it was to be, and by which prices."""
        by, expected, off = self.manifest["priced"], self.manifest["expected_usd"], self.manifest["off_expected"]
        before = "" if expected is None else f"; {usd_text(Decimal(expected))} expected"
        before += "" if off is None else f", {100 * abs(off):.1f}% {'cheaper' if off < 0 else 'dearer'}"
        how = f"{by['region']}, {by['arch']}, {by['capacity']}, prices of {by['prices_as_of'] or 'no day'}"
        return f"{'cost' if by['metered'] else 'estimated'} {usd_text(usd)} ({how}{before})"

    def tell(self, log: Any) -> None:
        """Into a task's log; failures in a group, which its page folds."""
        log.info("starburst: %s", self.line)
        if self.failures:
            log.warning("::group::starburst: %s items failed", f"{len(self.failures):,}")
            log.warning("%s", self.told)
            log.info("::endgroup::")

    def refuse(self, status: str, *, fail: bool, tolerate: int | str | None = None) -> None:
        """Raises why items have no answer, if some have none, or that more failed than are tolerated."""
        told, failed = self.manifest, len(self.failures)
        answered = f"run {told['run_id']}: {told['items'] - told['missing']:,} of {told['items']:,} items are answered"
        if told["missing"] and self.limit is FailureKind.BUDGET:
            raise StarburstBudget(f"{answered}: {self.reason}")
        if told["missing"] and (status == DEADLINE or self.limit is FailureKind.DEADLINE):
            raise StarburstDeadline(f"{answered}, and its deadline has passed")
        if told["missing"] and status == TIMEOUT:
            raise StarburstTimeout(f"{answered}, and execution_timeout has passed")
        if told["missing"] and not failed:
            raise StarburstRunEnded(f"{answered}: {self.reason}")
        tolerated = tolerate is not None and Tolerance.of(tolerate).allows(failed=failed, items=told["items"])
        if told["missing"] or (failed and fail and not tolerated):
            raise StarburstItemsFailed(f"{answered}{': ' * bool(self.reason)}{self.reason}\n{self.told}")

    def results(self, starburst_conn_id: str, aws_conn_id: str | None, **more: Any) -> StarburstResults:
        """As the task returns them."""
        where = {"starburst_conn_id": starburst_conn_id, "aws_conn_id": aws_conn_id}
        return StarburstResults({**self.manifest, **more, **where})


def landing_of(backend: Backend, run: str) -> Landing:
    """What became of it; its report is written, and that of its last retry."""
    first = attach(run, backend=backend)
    family = [first, *(attach(each, backend=backend) for each in first.retries())]
    statuses = [each.status() for each in family]
    failures, items = first.failures(), statuses[0].items or 0
    missing = sum(span.size for span in first.unanswered())
    costs = [each.estimate(status) for each, status in zip(family, statuses, strict=True)]
    known = [cost.usd for cost in costs if cost.usd is not None]
    usd = sum(known, Decimal(0)) if len(known) == len(costs) else None
    idle = sum((cost.usd - (cost.foreseen_usd or 0) for cost in costs if cost.usd is not None), Decimal(0))
    expected = first.expected(statuses[0])
    ended_at = max(status.ended_at or time.time() for status in statuses)
    pages = [family[at].report() for at in sorted({0, len(family) - 1})]  # to the last one the task's link leads
    manifest = {
        "run_id": run,
        "runs": [each.id for each in family],
        "items": items,
        "succeeded": items - len(failures) - missing,
        "failed": len(failures),
        "missing": missing,
        "seconds": round(sum(elapsed_s(status) for status in statuses), 3),
        "slot_seconds": round(sum(status.slot_seconds for status in statuses), 3),
        "estimated_usd": None if usd is None else f"{usd:.6f}",
        "expected_usd": None if expected is None else f"{expected.usd:.6f}",
        "off_expected": None if expected is None else expected.off(None if usd is None else usd - idle),
        "priced": {name: costs[0].fields[name] for name in _PRICED},
        "ended_at": datetime.fromtimestamp(ended_at, UTC).isoformat(),
        "function": first.function,
        "report": pages[0],
    }
    if pattern := written_to(backend, first.id):
        manifest |= {"results_to": pattern, "results_manifest": f"{pattern.rpartition('/')[0]}/manifest.json"}
    return Landing(manifest=manifest, failures=failures, reason=statuses[-1].reason, limit=statuses[-1].limit)
