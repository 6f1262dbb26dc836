"""A flow run that is tried again in; what its earlier attempts have answered, or still work on, out: by call."""

from __future__ import annotations

import pickle
import threading
import time
from collections import defaultdict, deque
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prefect.client.schemas.objects import FlowRun

from prefect_starburst.between.facts import CallContext
from prefect_starburst.between.reply import Reply
from starburst_common import Failure, Run, StarburstError, list_runs
from starburst_common.spi import Backend, Watch, our_log, stored_items

if TYPE_CHECKING:
    from prefect import Flow

_log = our_log("prefect.task_runner.starburst")

#: Tags of a run that say for which flow, flow run, and attempt at that, it was started.
FLOW, FLOW_RUN, ATTEMPT = "prefect-flow", "prefect-flow-run", "prefect-attempt"

_NOTHING: Any = object()


def tags_of(flow_run: FlowRun, flow: Flow[..., Any] | None) -> dict[str, str]:
    """The tags by which a run is found again from its flow run, and told by its flow in the accounts."""
    named = {} if flow is None else {FLOW: flow.name}
    return {**named, FLOW_RUN: str(flow_run.id), ATTEMPT: attempt_of(flow_run)}


class Former:
    """The calls of a flow run's earlier attempts, by their names: one that was answered need not be made again.

    Runs that are not over are attached to and driven to their end, so that what is under way is not made twice.
    """

    def __init__(self, runs: list[Run], backend: Backend) -> None:
        self._watches = [(run, Watch(backend, run.id)) for run in runs]
        for _, watch in self._watches:
            watch.look()
        self._patience_s = backend.feeder_lost_s / 2  # three signs of life
        self._answers: dict[str, deque[Future[Any]]] = defaultdict(deque)
        self.calls = 0
        for run in runs:
            answers: dict[int, Future[Any]] = {}
            for index, (args, _) in stored_items(backend, run.id):
                key = pickle.loads(args[1]).key
                if key is not None:
                    answers[index] = Future()
                    self._answers[key].append(answers[index])
            self.calls += len(answers)
            threading.Thread(
                target=_follow, args=(run, answers), name=f"starburst-former-{run.id}", daemon=True
            ).start()

    @classmethod
    def of(cls, flow_run: FlowRun | None, backend: Backend) -> Former | None:
        """None for a first attempt, and where nothing of earlier ones is left."""
        if flow_run is None or not begun_before(flow_run):
            return None
        runs = [
            run
            for run in list_runs(backend=backend, tags={FLOW_RUN: str(flow_run.id)})
            if run.function == "calls" and run.parent is None and run.tags.get(ATTEMPT) != attempt_of(flow_run)
        ]
        if not runs:
            return None
        former = cls(runs, backend)
        _log.info("%d calls of earlier attempts are known from %s", former.calls, ", ".join(run.id for run in runs))
        return former

    def take(self, key: str | None) -> Future[Any] | None:
        """The next answer to a call of this name, each given out once; `None` if there is no further one.

        The future's result is the answer, or something that `is_value` refuses.
        """
        answers = self._answers.get(key) if key is not None else None
        return answers.popleft() if answers else None

    @staticmethod
    def is_value(answer: Any) -> bool:
        """Whether the call need not be made again: it was answered, and with a value."""
        return answer is not _NOTHING and not (isinstance(answer, Reply) and not answer.is_value)

    def end(self, *, at_once: bool = False) -> None:
        """Cancel what was not asked for and is still under way, but for what an attempt that lives will end itself.

        One may: who sets a flow run's state, or sees no heartbeat of it, starts another attempt beside it. Where that
        cannot be told yet it takes a moment to see; `at_once` takes it for dead.
        """
        for run, watch in self._watches:
            if not run.status().state.over and not self._lives(watch, at_once=at_once):
                run.cancel()

    def _lives(self, watch: Watch, *, at_once: bool) -> bool:
        while True:
            watch.look()
            if watch.ended or watch.moved or at_once or watch.unheard_s > self._patience_s:
                return watch.moved and not watch.ended
            time.sleep(self._patience_s / 10)


def attempt_of(flow_run: FlowRun) -> str:
    """Which attempt this is: one that goes on after a suspension is another, though Prefect does not count it."""
    suspended = len(flow_run.empirical_policy.pause_keys or ())
    return f"{flow_run.run_count}.{suspended}" if suspended else f"{flow_run.run_count}"


def begun_before(flow_run: FlowRun) -> bool:
    """Whether there may have been an attempt before this one."""
    return flow_run.run_count > 1 or bool(flow_run.empirical_policy.pause_keys)


def told_anew(answer: Any, context: CallContext) -> Any:
    """An answer whose log records are those of the task run that takes it."""
    if not isinstance(answer, Reply) or not answer.records:
        return answer
    mine = {"task_run_id": str(context.task_run["id"]), "task_run_name": context.task_run["name"]}
    return replace(
        answer, records=[{**record, **(mine if "task_run_id" in record else {})} for record in answer.records]
    )


def _follow(run: Run, answers: dict[int, Future[Any]]) -> None:
    """Give each answer as it comes, also of who ran again what had failed; none for those that have none."""
    try:
        for index, value in run.whole(ordered=False):
            if index in answers:
                answers.pop(index).set_result(_NOTHING if isinstance(value, Failure) else value)
    except StarburstError as error:  # how a run ends whose process died: what was answered has been given
        _log.debug("run %s: %s", run.id, error)
    except Exception:
        _log.warning("answers of run %s could not be read: they are worked out anew", run.id, exc_info=True)
    finally:
        for future in answers.values():
            future.set_result(_NOTHING)
