"""What a task may ask about the run it belongs to, in a form that travels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from prefect.client.schemas.objects import FlowRun, TaskRun


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowFacts:
    """What a task may ask about the flow run it belongs to."""

    flow_run: FlowRun
    name: str
    version: str | None
    parameters: dict[str, Any]
    deployment: dict[str, Any] | None  #: what `prefect.runtime.deployment` says at home; None where it could not say


@dataclass(frozen=True, kw_only=True)  # no slots: with them its pickle, of which each call has one, takes longer
class CallContext:
    """What a task may ask about its own run."""

    task_run: dict[str, Any]
    tags: frozenset[str]
    log_prints: bool
    transactions: bytes = b""  #: values of the transactions round the call, as `transactions.packed` has them
    key: str | None = None  #: names the call: equal calls of a flow run's attempts have equal names

    @classmethod
    def of(cls, task_run: TaskRun, *, tags: set[str], log_prints: bool, transactions: bytes) -> Self:
        """The facts of a run at one attempt; its state and inputs, the heavy part, stay at home."""
        facts = {name: value for name, value in task_run.__dict__.items() if name not in ("state", "task_inputs")}
        return cls(task_run=facts, tags=frozenset(tags), log_prints=log_prints, transactions=transactions)
