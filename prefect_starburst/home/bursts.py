"""A function and very many items in, a value each out: one Prefect task run stands for all of them."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext, TaskRunContext
from prefect.futures import PrefectFuture, PrefectFutureList
from prefect.settings import PREFECT_API_URL
from prefect.tasks import Task

from prefect_starburst.away.contexts import ENVIRONMENT
from prefect_starburst.home.answered import MISSING, Answered
from prefect_starburst.home.artifacts import Artifacts
from prefect_starburst.home.former import FLOW_RUN, begun_before, tags_of
from prefect_starburst.home.identity import name_of_call
from prefect_starburst.home.runner import StarburstTaskRunner
from prefect_starburst.home.settings import NO_ROWS, NOT_OF_BURSTS
from starburst_common import (
    BadInput,
    Cluster,
    Failure,
    Rows,
    Run,
    RunState,
    RunStopped,
    list_runs,
    starburst_map,
)
from starburst_common.spi import (
    OPTIONS,
    Backend,
    Options,
    code,
    exception_of,
    names_of,
    open_backend,
    progress,
    reached,
    with_outside,
)

#: Tags of a run that say for which task run it was started, and which burst of the flow run it is or goes on with.
TASK_RUN, CALL = "prefect-task-run", "prefect-call"

_NO_EVENTS = (
    "what it emits on workers is not related to this flow run, and on AWS it is lost: emit it in the flow, from results"
)


def burst(fn: Callable[[Any], Any], items: Iterable[Any], **options: Any) -> list[Any]:
    """`[fn(item) for item in items]` on starburst workers, in one Prefect task run however many items there are.

    Called in a task that runs in the flow's process, it belongs to that task's run; called in a flow, to a task run of
    its own, named after the function. Outside of both it is `starburst_map`, so that what uses it can be tried without
    Prefect. It blocks until the last item is answered; when it is interrupted, so is the run.

    Where the flow run, or the task run, is tried again, the items that were answered are not run again: those under way
    are waited for, and only what is left is run, by a retry of that run, under the numbers that it has there. An item
    was answered if the same call of `burst` had it: an equal item (one with the same pickle) for a function of the same
    text that closes over the same values. A call is the same if it is the n-th burst of that function in a run of the
    same task with the same parameters; in a flow, the n-th burst of that function. What the function calls in turn is
    not looked at. Items that failed are run again, unless that run was whole and its failures were to be returned.
    `StarburstTaskRunner(resume=False)` runs all.

    Args:
        fn: a plain function, no task.
        items: any iterable that ends, or a future of one, or futures; read as workers need it where it has no length.
        options: those of `starburst_common.starburst_map` but for `ordered`, `results_to` and `failures_to`. What is
            not given is as the flow's own `StarburstTaskRunner` has it: workers, cpu, memory, backend, budget, ….

    Returns:
        One value an item, in the order of the items.

    Raises:
        BadInput: an argument or item is wrong, and nothing was launched; or the caller is a task on a worker.
        The first failing item's own exception, with the remote traceback as its cause, unless failures are returned.
        RunStopped: more failures than tolerated, or the run could not go on.
    """
    if PREFECT_API_URL.value() == ENVIRONMENT["PREFECT_API_URL"]:
        raise BadInput(
            f"burst({_name_of(fn)}, …) was called on a starburst worker, which has no workers of its own: call it "
            "in the flow, or in a task that the flow calls rather than submits"
        )
    if isinstance(fn, Task):
        raise BadInput(
            f"{fn.name!r} is a task, which Prefect would follow item by item: give its function, {fn.name}.fn"
        )
    if others := [name for name in options if name in NOT_OF_BURSTS]:
        raise BadInput(f"{others[0]}: {NOT_OF_BURSTS[others[0]]}")
    if isinstance(items, Rows):
        raise BadInput(f"items={items!r}: {NO_ROWS}")
    if isinstance(items, PrefectFuture | PrefectFutureList):
        items = items.result()
    flow, within = FlowRunContext.get(), TaskRunContext.get()
    if within is not None and (flow is None or _belongs(within, flow)):
        return _Burst.of(fn, options, flow, within).values(items)
    if flow is None:
        return starburst_map(fn, items, **options)

    @task(name=f"burst-{_name_of(fn)}", cache_policy=NO_CACHE, persist_result=False)
    def stands_for_all() -> list[Any]:
        own = TaskRunContext.get()
        assert own is not None, "the engine calls within a task run's context"
        return _Burst.of(fn, options, flow, own).values(items)

    return stands_for_all()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Burst:
    """One call of `burst` in a task run."""

    fn: Callable[[Any], Any]
    options: dict[str, Any]  #: for `Cluster`, complete but for the backend
    backend: str | Backend
    ours: bool  #: whether the backend, once open, is ours to close
    keep: bool  #: failures are returned
    call: str | None  #: names the call; equal ones of a flow run's attempts have equal names
    flow_run: str | None
    again: bool  #: the flow run or the task run is tried again

    @classmethod
    def of(
        cls, fn: Callable[[Any], Any], given: dict[str, Any], flow: FlowRunContext | None, within: TaskRunContext
    ) -> _Burst:
        """With the options of the flow's task runner where none are given. Raises `BadInput`."""
        Options.of(tags=given.get("tags"))  # which are merged below
        runner = flow.task_runner if flow else None
        options, resume = dict(given), True
        if isinstance(runner, StarburstTaskRunner):
            of_runner, resume = runner.executor_options(), runner._options.resolved().resume
            options = {**of_runner, **given, "tags": {**(of_runner.get("tags") or {}), **(given.get("tags") or {})}}
            if "backend" in given and isinstance(of_runner["backend"], Backend):
                of_runner["backend"].close()
        flow_run = flow.flow_run if flow else None
        call = name_of_call(fn, flow, within) if flow_run and resume else None
        mine = {TASK_RUN: str(within.task_run.id)}
        if flow_run is not None:
            mine |= tags_of(flow_run, flow.flow if flow else None)
            options["label"] = options.get("label") or flow_run.name
        if call is not None:
            mine[CALL] = call
        options["tags"] = {**(options.get("tags") or {}), **mine}
        options |= with_outside({name: value for name, value in options.items() if name in OPTIONS})
        keep = bool(options.get("return_exceptions")) or options.get("tolerate") is not None
        if not keep:
            options["tolerate"] = 0
        return cls(
            fn=fn,
            options=options,
            backend=options.pop("backend", "auto"),
            ours=not isinstance(given.get("backend"), Backend),
            keep=keep,
            call=call,
            flow_run=str(flow_run.id) if flow_run else None,
            again=within.task_run.run_count > 1 or (flow_run is not None and begun_before(flow_run)),
        )

    def values(self, items: Iterable[Any]) -> list[Any]:
        """One an item, in order."""
        backend = open_backend(self.backend)
        try:
            former = self._former(backend) if self.again and self.call else []
            return self._all_but(former, items, backend) if former else self._run(items, backend)
        finally:
            if self.ours:
                backend.close()

    def _run(self, items: Iterable[Any], backend: Backend) -> list[Any]:
        with Cluster(backend=backend, **self.options) as cluster:
            run = cluster.start(self.fn, items)
            with self._shown(run, backend):
                return run.results(return_exceptions=self.keep)

    def _all_but(self, former: list[Run], items: Iterable[Any], backend: Backend) -> list[Any]:
        """As `_run`, for the items that earlier runs have not answered.

        Those that such a run was given are run by a retry of it, under their numbers there; what is new, by a run.
        """
        known = self._answered(former, backend)
        values: list[Any] = []
        owed: dict[Run, dict[int, tuple[int, Any]]] = defaultdict(dict)

        def new() -> Iterator[Any]:
            for item in items:
                value, lacking = known.take(item)
                if lacking is not None:
                    owed[lacking.run][lacking.number] = len(values), item
                values.append(value)
                if value is MISSING and lacking is None:
                    yield item

        rest: Iterable[Any] = new()
        if isinstance(items, Sized):
            rest = list(rest)
            left = len(rest) + sum(map(len, owed.values()))
            get_run_logger().info("%s: %d of %d items are left to run", self._what, left, len(items))
        first, answered = next(iter(rest), MISSING), iter(list[Any]())
        if first is not MISSING:
            answered = iter(self._run(rest if isinstance(rest, Sized) else chain([first], rest), backend))
        for run, places in owed.items():
            found = self._again(run, {number: item for number, (_, item) in places.items()}, backend)
            for number, (place, _) in places.items():
                values[place] = found[number]
        return [next(answered) if value is MISSING else value for value in values]

    def _again(self, run: Run, items: dict[int, Any], backend: Backend) -> dict[int, Any]:
        """Values of a run's items that failed, or have no answer, by their numbers: with today's function and options.

        The items are today's too: what the function compares them with, such as a class of the script, is today's.
        """
        defaults = {name: row.default for name, row in OPTIONS.items()}
        retry = run.retry_failed(self.fn, items=items, **{**defaults, **self.options})
        found: dict[int, Any] = {}
        if retry.id != run.id:
            with self._shown(retry, backend):
                found = {number: self._value(answer, retry) for number, answer in retry.answers()}
        if (
            late := items.keys() - found.keys()
        ):  # a worker of the earlier run had these under way, and has answered them
            found |= {number: self._value(answer, run) for number, answer in run.whole() if number in late}
        return found

    def _value(self, answer: Any, run: Run) -> Any:
        """An item's value, or its exception: in place of one where that is wanted, else raised."""
        if not isinstance(answer, Failure):
            return answer
        error = exception_of(answer, run.id)
        if not self.keep:
            raise error
        return error

    def _former(self, backend: Backend) -> list[Run]:
        """The runs of this call in earlier attempts, oldest first, without those that ran items of others again."""
        assert self.flow_run is not None and self.call is not None, "only a call that has a name is looked for"
        found = list_runs(backend=backend, tags={FLOW_RUN: self.flow_run, CALL: self.call})
        return [run for run in reversed(found) if run.parent is None]

    def _answered(self, runs: list[Run], backend: Backend) -> Answered:
        """What the runs have answered, once all of them are over."""
        known = Answered()
        for run in runs:
            get_run_logger().info("%s: going on with run %s of an earlier attempt", self._what, run.id)
            with nullcontext() if run.status().state.over else self._watched(run, backend):
                known.read(run, backend, keep=self.keep)
        return known

    @contextmanager
    def _shown(self, run: Run, backend: Backend) -> Iterator[None]:
        """Tell of a run that this attempt has begun, and watch it; it must not have been stopped in the end."""
        get_run_logger().info("%s: run %s on the %s backend", self._what, run.id, backend.name)
        if any("emit_event" in names_of(each.__code__) for each in reached(self.fn)):
            get_run_logger().warning("%s: %s", self._what, _NO_EVENTS)
        with self._watched(run, backend):
            yield
            ended = run.wait()
            if ended.state is RunState.STOPPED:  # after the last answer
                raise RunStopped(f"run {run.id}: {ended.reason}")

    @contextmanager
    def _watched(self, run: Run, backend: Backend) -> Iterator[None]:
        """Show the run while it is waited for, and cancel it if that comes to a bad end."""
        name = _name_of(self.fn)
        artifacts = Artifacts(run, backend.name, what=f"burst of {code(name)}", name=name)
        artifacts.start()
        try:
            with progress(run, self.options.get("progress", None if sys.stderr and sys.stderr.isatty() else False)):
                yield
        except BaseException:
            run.cancel()
            raise
        finally:
            artifacts.finish()

    @property
    def _what(self) -> str:
        return f"burst of {_name_of(self.fn)}"


def _belongs(within: TaskRunContext, flow: FlowRunContext) -> bool:
    """Whether the task run is of this flow run; within a subflow that a task calls, it is of the flow around."""
    return flow.flow_run is None or within.task_run.flow_run_id == flow.flow_run.id


def _name_of(fn: Any) -> str:
    if isinstance(fn, partial):
        return _name_of(fn.func)
    return str(getattr(fn, "__name__", type(fn).__name__)).strip("<>")
