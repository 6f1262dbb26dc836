"""Events emitted in a call on a worker in, the same events emitted in the flow's process out, as those of their run."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import TaskRun
from prefect.context import TaskRunContext
from prefect.events import Event

from prefect_starburst.internals import send_event

#: Of one call, at most so many events travel, and so many bytes of them as JSON; the rest is counted.
MOST_EVENTS, MOST_BYTES = 1_000, 4 << 20


@dataclass(slots=True)
class Events:
    """What a call has emitted, each as JSON and with the facts of the task run that did, if it is not the call's own.

    That is one of a task which the call's function has called: its states are events, too.
    """

    of: UUID  #: the call's task run
    emitted: list[tuple[str, dict[str, Any] | None]] = field(default_factory=list)
    dropped: int = 0
    room: int = MOST_BYTES

    def take(self, event: Event) -> None:
        """One more event, from any thread."""
        text, context = event.model_dump_json(), TaskRunContext.get()
        if len(self.emitted) >= MOST_EVENTS or len(text) > self.room:
            self.dropped += 1
            return
        self.room -= len(text)
        run = context.task_run if context is not None and context.task_run.id != self.of else None
        self.emitted.append((text, {"id": run.id, "name": run.name, "tags": run.tags} if run else None))

    def emit(self) -> None:
        """Emit them in this context, which is the call's task run's."""
        context = TaskRunContext.get()
        for text, run in self.emitted:
            other = run and context and context.model_copy(update={"task_run": TaskRun.model_construct(**run)})
            with other or nullcontext():
                send_event(Event.model_validate_json(text))
