"""A started runner's workers, engine thread and flow run in; the answer of each call out, and an end of it all."""

from __future__ import annotations

import pickle
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from prefect.client.schemas.objects import FlowRun
from prefect.tasks import Task

from prefect_starburst.between.facts import CallContext
from prefect_starburst.home.artifacts import Artifacts
from prefect_starburst.home.callables import Callables
from prefect_starburst.home.former import Former, told_anew
from prefect_starburst.home.loop import EngineLoop
from prefect_starburst.home.parameters import Common, Sharing
from starburst_common import Run
from starburst_common.spi import Backend, code


@dataclass(kw_only=True)
class Session:
    """What a started runner has from its first submit to its end."""

    executor: Executor
    run: Run | None  #: the starburst run that the executor's calls are items of
    loop: EngineLoop
    flow_run: FlowRun | None
    former: Former | None
    retry_lost: bool
    backend: Backend
    callables: Callables
    sharing: Sharing = field(default_factory=Sharing)
    sent: int = 0  #: calls sent to workers so far
    artifacts: Artifacts | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.run is not None and self.flow_run is not None:
            what = f"task runs of {code(self.flow_run.name)}"
            self.artifacts = Artifacts(
                self.run, self.backend.name, what=what, name="task-runs", submitted=lambda: self.sent
            )
            self.artifacts.start()

    async def ask(
        self, task: Task[Any, Any], common: Common | None, parameters: dict[str, Any], context: CallContext
    ) -> Any:
        """The answer to one call of a task's function: of an earlier attempt at the flow run, else of a worker."""
        known = self.callables.of(task)
        call, small, key = self.sharing.divide(known.call, known.code, parameters, common)
        while self.former is not None and (kept := self.former.take(key)) is not None:
            answer = await self.loop.settled(kept)
            if self.former.is_value(answer):
                return told_anew(answer, context)
        self.sent += 1
        await self.loop.burst()
        facts = pickle.dumps(replace(context, key=key))
        return await self.loop.settled(self.executor.submit(call, small, facts))

    def flow_has_failed(self) -> bool:
        """Whether the flow run ended badly: Prefect leaves the runner without an exception then too."""
        state = self.flow_run.state if self.flow_run else None
        return state is not None and (state.is_failed() or state.is_crashed() or state.is_cancelled())

    def end(self, *, cancel: bool) -> None:
        """Finish the runs under way, or cancel them; then let the workers go."""
        finished = False
        try:
            if not cancel:
                self.loop.drain()
                finished = True
        finally:  # an interrupt while waiting cancels, too
            with ExitStack() as steps:  # the last one is the first, and each is made whatever another raises
                steps.callback(self.backend.close)
                if self.artifacts is not None:
                    steps.callback(self.artifacts.finish)
                if self.former is not None:
                    steps.callback(self.former.end, at_once=cancel)
                steps.callback(self.loop.stop)
                if not finished and self.run is not None:
                    steps.callback(self.run.cancel)  # the executor itself only drops the calls it has not sent
                steps.callback(self.executor.shutdown, wait=finished, cancel_futures=True)
                self.loop.cancel()  # before them, so that no engine takes the end of its call for an answer
