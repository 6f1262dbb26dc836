"""What Prefect promises to a flow's author, kept on starburst workers: flows end as they do with threads."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import prefect.runtime
import pytest
from prefect import allow_failure, flow, get_run_logger, tags, task, unmapped
from prefect.cache_policies import INPUTS, NO_CACHE, RUN_ID, TASK_SOURCE, CacheKeyFnPolicy
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import Log, State, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import Event, Resource, emit_event
from prefect.events.worker import EventsWorker
from prefect.filesystems import LocalFileSystem
from prefect.futures import PrefectFuture, as_completed, wait
from prefect.logging.handlers import APILogWorker
from prefect.results import ResultStore
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task, exponential_backoff
from prefect.transactions import get_transaction, transaction
from prefect.utilities.annotations import quote

from prefect_starburst.between.events import Events
from starburst_common.errors import BadInput, WorkerLost
from tests.prefect_bed import SharedRunner, history, on_the_bed_too, run, server
from tests.prefect_server import until
from tests.prefect_types import Dissent, Refused

__all__ = ["server"]  # pytest takes the fixture from here


def same(body: Callable[[], Any]) -> Any:
    """What the body returns on starburst workers, which must be what it returns with threads."""
    here, threads = run(body), run(body, ThreadPoolTaskRunner())
    assert here == threads
    return here


def ended(future: PrefectFuture[Any]) -> tuple[str | None, str | None, Any]:
    """How a run ended: its state, the message, and its value or the text of its exception."""
    future.wait()
    value = future.result(raise_on_failure=False)
    return future.state.name, future.state.message, repr(value) if isinstance(value, BaseException) else value


# --- tasks ------------------------------------------------------------------------------------------------------------


@task
def add(x: Any, y: Any = 1) -> Any:
    return x + y


@task
def fails(x: Any = 0) -> Any:
    raise ValueError(f"no {x}")


@task
def kind_of(x: Any) -> str:
    return f"{type(x).__name__}: {x}"


@task
def opens(gate: Path) -> str:
    """Ends when there is such a file."""
    while not gate.exists():
        time.sleep(0.02)
    return gate.name


@task
def attempt(least: int) -> int:
    count: int = prefect.runtime.task_run.run_count
    if count < least:
        raise ValueError(f"attempt {count}")
    return count


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.contract
def test_annotations_mean_what_they_mean() -> None:
    """`unmapped`, `allow_failure` and `quote`, nested ones too, and futures in containers."""

    @task
    def shape(x: Any) -> str:
        return repr(x)

    def body() -> list[Any]:
        two, bad = add.submit(1), fails.submit(3)
        return [
            add.map([[1], [2]], unmapped([10])).result(),
            add.map([1, 2], y=unmapped(10)).result(),
            add.map(add.map([1, 2]), add.map([3, 4])).result(),
            shape.submit([{"a": two}, (two, 3), {4}]).result(),
            shape.submit(quote([1, {"b": 2}])).result(),
            shape.submit({"q": quote([two.task_run_id.version])}).result(),
            kind_of.submit(allow_failure(bad)).result(),
            shape.submit([allow_failure(bad), two]).result(),
            kind_of.map(allow_failure([bad, two])).result(),
        ]

    assert same(body)[:3] == [[[1, 10], [2, 10]], [11, 12], [6, 8]]


@pytest.mark.contract
def test_a_map_is_refused_as_with_threads() -> None:
    """Iterables of different lengths, and none at all, raise what Prefect raises."""

    def body() -> list[str]:
        told = []
        for parameters in (([1, 2], [1]), (unmapped(1), unmapped(2))):
            with pytest.raises(Exception, match="map") as caught:
                add.map(*parameters)
            told.append(repr(caught.value))
        return told

    same(body)


@pytest.mark.contract
def test_wait_for_a_failed_run() -> None:
    """A run that waits for a failed one is NotReady, unless the failure is allowed."""

    def body() -> list[Any]:
        bad = fails.submit()
        held = add.submit(1, wait_for=[bad])  # type: ignore[call-overload]
        held.wait()
        after = add.submit(1, wait_for=[allow_failure(bad)])  # type: ignore[call-overload]
        return [held.state.name, held.state.type, ended(after), ended(bad)]

    assert same(body)[0] == "NotReady"


# --- futures ----------------------------------------------------------------------------------------------------------


@pytest.mark.contract
def test_futures_are_prefects(tmp_path: Path) -> None:
    """Timeouts, callbacks, `as_completed`, `wait` and lists of futures."""

    def body() -> list[Any]:
        called: list[Any] = []
        gate = tmp_path / "gate"
        gate.unlink(missing_ok=True)
        slow, quick, bad = opens.submit(gate), add.submit(1), fails.submit(1)
        slow.wait(timeout=0.01)
        with pytest.raises(TimeoutError):
            slow.result(timeout=0.01)
        assert not slow.state.is_final()
        gate.touch()
        quick.add_done_callback(lambda future: called.append(future.result()))
        done = [future.task_run_id for future in as_completed([slow, quick, bad])]
        quick.add_done_callback(lambda future: called.append(future.state.name))
        ended_, pending = wait([slow, quick, bad])
        until(lambda: len(called) == 2, "both are called")
        failing = [*add.map([1, 2]), bad]
        with pytest.raises(ValueError, match="no 1"):
            type(add.map([1]))(failing).result()
        return [
            sorted(done, key=str) == sorted([each.task_run_id for each in (slow, quick, bad)], key=str),
            sorted(map(str, called)),
            (len(ended_), len(pending)),
            [repr(each) for each in add.map([1, 2]).result(raise_on_failure=False)],
            repr(bad.result(raise_on_failure=False)),
            slow.result(),
        ]

    assert same(body)[1] == ["2", "Completed"]


@pytest.mark.contract
def test_waiting_has_an_end_for_lists_of_futures(tmp_path: Path) -> None:
    """A timeout of `wait`, `as_completed` or a list's `result` ends the wait, not the runs."""
    soon_s = 1.0  # Prefect misses an alarm that rings before it has begun to wait

    def body() -> list[str]:
        gate = tmp_path / "gate"
        gate.unlink(missing_ok=True)
        futures = opens.map([gate] * 3)
        with pytest.raises(TimeoutError):
            list(as_completed(list(futures), timeout=soon_s))
        assert wait(list(futures), timeout=soon_s).not_done
        with pytest.raises(TimeoutError):
            futures.result(timeout=soon_s)
        gate.touch()
        return futures.result()

    assert same(body) == ["gate"] * 3


# --- retries ----------------------------------------------------------------------------------------------------------


@pytest.mark.contract
def test_retries_wait_their_time() -> None:
    """Each attempt waits as the task says, in AwaitingRetry, and is a call of its own."""
    options: list[dict[str, Any]] = [
        {"retry_delay_seconds": 0.05},
        {"retry_delay_seconds": [0.01, 0.05]},
        {"retry_delay_seconds": exponential_backoff(0.02)},
        {"retry_delay_seconds": 0.02, "retry_jitter_factor": 0.5},
    ]
    kept: list[PrefectFuture[Any]] = []

    def body() -> list[Any]:
        futures = [attempt.with_options(retries=2, cache_policy=NO_CACHE, **each).submit(3) for each in options]
        kept.extend(futures)
        return [ended(future) for future in futures]

    assert [value for _, _, value in same(body)] == [3] * 4
    for names, task_run in (history(future.task_run_id) for future in kept):
        assert names == ["Pending", "Running", *["AwaitingRetry", "Retrying"] * 2, "Completed"]
        assert task_run.run_count == 3


@pytest.mark.contract
def test_retry_conditions_are_asked_at_home() -> None:
    """Sync and async conditions and callable objects see the task, the run and the failed state, and decide."""

    class Patient:
        def __call__(self, asked: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
            return asked.isasync is False and state.is_failed()

    def never(asked: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
        return False

    async def once(asked: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
        await asyncio.sleep(0)
        return task_run.run_count < 2

    def broken(asked: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
        raise RuntimeError("cannot say")

    @task(retries=3)
    def tries() -> None:
        raise ValueError(prefect.runtime.task_run.run_count)

    def body() -> list[Any]:
        return [ended(tries.with_options(retry_condition_fn=each).submit()) for each in (never, broken)]

    def not_in_every_prefects_threads() -> list[Any]:
        return [ended(tries.with_options(retry_condition_fn=each).submit())[2] for each in (once, Patient())]

    assert [text for _, _, text in same(body)] == ["ValueError(1)", "ValueError(1)"]
    assert run(not_in_every_prefects_threads) == ["ValueError(2)", "ValueError(4)"]


# --- caching and results ----------------------------------------------------------------------------------------------


@pytest.mark.contract
def test_cache_policies(tmp_path: Path) -> None:
    """The second equal call of a flow run is Cached, and one with other inputs where the policy does not ask them."""

    def body() -> list[Any]:
        names = []
        for policy in (INPUTS, TASK_SOURCE + RUN_ID, RUN_ID):
            cached = add.with_options(name=str(policy), cache_policy=policy, persist_result=True)
            names.append([ended(cached.submit(x + len(names)))[0] for x in (1, 1, 20)])
        return names

    for kind in (SharedRunner(), ThreadPoolTaskRunner()):
        with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path / type(kind).__name__}):
            inputs, source, flow_run = run(body, kind)
        assert inputs == ["Completed", "Cached", "Completed"]
        assert source == ["Completed", "Cached", "Cached"]
        assert flow_run[1:] == ["Cached", "Cached"]


@pytest.mark.contract
def test_cache_keys_of_the_user(tmp_path: Path) -> None:
    """`cache_key_fn`, a policy made of one, `refresh_cache` and `cache_expiration`."""

    def key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
        assert not context.task.isasync or context.task.fn is not None
        return f"{context.task.name}-{parameters['x'] % 2}"

    def body() -> list[Any]:
        by_fn = add.with_options(cache_key_fn=key, persist_result=True)
        by_policy = add.with_options(cache_policy=CacheKeyFnPolicy(cache_key_fn=key) + RUN_ID, persist_result=True)
        fresh = by_fn.with_options(refresh_cache=True)
        brief = add.with_options(
            name="brief", cache_key_fn=key, persist_result=True, cache_expiration=timedelta(microseconds=1)
        )
        calls = [by_fn, by_fn, fresh, by_fn, by_policy, by_policy, brief, brief]
        return [ended(each.submit(x))[::2] for each, x in zip(calls, [1, 3, 5, 7, 1, 3, 1, 3], strict=True)]

    seen = []
    for kind in (SharedRunner(), ThreadPoolTaskRunner()):
        with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path / type(kind).__name__}):
            seen.append(run(body, kind))
    assert seen[0] == seen[1]
    assert seen[0] == [
        ("Completed", 2),
        ("Cached", 2),
        ("Completed", 6),
        ("Cached", 6),
        ("Completed", 2),
        ("Cached", 2),
        ("Completed", 2),
        ("Completed", 4),
    ]


@pytest.mark.contract
def test_results_are_stored_where_the_task_says(tmp_path: Path) -> None:
    """A saved storage block, a storage key and a serializer of the task's own; the result is read again from there."""
    block = LocalFileSystem(basepath=str(tmp_path / "results"))
    block.save("kept-results", overwrite=True)
    stored = add.with_options(
        persist_result=True,
        result_storage="local-file-system/kept-results",
        result_storage_key="sum-{parameters[x]}.json",
        result_serializer="json",
    )

    def body() -> Any:
        return ended(stored.submit(20, 22))

    assert run(body)[2] == 42
    written = tmp_path / "results" / "sum-20.json"
    assert written.exists()
    assert b"42" in written.read_bytes()
    assert ResultStore(result_storage=block).read("sum-20.json").result == 42
    assert run(body, ThreadPoolTaskRunner())[0] == run(body)[0] == "Cached"


# --- transactions -----------------------------------------------------------------------------------------------------


@on_the_bed_too
@pytest.mark.contract
def test_transactions_commit_and_roll_back() -> None:
    """Hooks of a transaction's runs are called at home, off the engines' thread, and see what its tasks have set."""
    seen: list[tuple[str, Any, Any, str | None]] = []

    def note(what: str) -> Callable[[Any], None]:
        def hook(txn: Any) -> None:
            assert "starburst-engines" not in threading.current_thread().name
            context = TaskRunContext.get()
            seen.append((what, txn.get("mine", None), txn.get("ours", None), context and context.task.fn.__name__))

        return hook

    @task
    def writes(x: int) -> int:
        txn = get_transaction()
        assert txn is not None
        assert txn.get("ours") == "given"
        txn.set("mine", x)
        parent = txn.get_parent()
        assert parent is not None
        parent.set("made", x)
        return x

    @task
    def reads() -> list[Any]:
        txn = get_transaction()
        assert txn is not None
        return [txn.get("ours"), txn.get("made"), txn.get("mine", "not mine")]

    hooked = writes.with_options(name="hooked")
    hooked.on_commit(note("committed"))
    hooked.on_rollback(note("rolled back"))

    def body() -> list[Any]:
        seen.clear()
        told: list[Any] = []
        for good in (True, False):
            with suppress(ValueError), transaction() as txn:
                txn.set("ours", "given")
                hooked.submit(4 + good).result()
                told.append(reads.submit().result())
                if not good:
                    fails.submit(1).result()
        return [*told, [each[:3] for each in seen]]

    told = same(body)
    assert told[:2] == [["given", 5, "not mine"], ["given", 4, "not mine"]]
    assert told[2] == [("committed", 5, "given"), ("rolled back", 4, "given")]


@pytest.mark.contract
def test_hooks_of_a_runs_own_transaction() -> None:
    """A run outside a transaction commits by itself: its hooks, async ones too, find its own task."""
    seen: list[Any] = []

    @task
    def sets() -> None:
        txn = get_transaction()
        assert txn is not None
        txn.set("n", 3)

    @sets.on_commit
    def committed(txn: Any) -> None:
        context = TaskRunContext.get()
        assert context is not None
        seen.append((txn.get("n"), context.task.isasync, context.task.name))

    @sets.on_commit  # type: ignore[arg-type]
    async def later(txn: Any) -> None:
        await asyncio.sleep(0)
        seen.append(("async", txn.get("n")))

    def body() -> list[Any]:
        seen.clear()
        sets.submit().wait()
        return list(seen)

    assert same(body) == [(3, False, "sets"), ("async", 3)]


# --- names, tags and limits -------------------------------------------------------------------------------------------


@pytest.mark.contract
def test_names_and_tags_of_runs() -> None:
    """`task_run_name` as a template and as a function, and tags of the task and of where it is submitted."""

    def named() -> str:
        parameters = prefect.runtime.task_run.parameters
        return f"called-{parameters['x']}"

    kept: list[PrefectFuture[Any]] = []

    def body() -> None:
        kept.clear()
        with tags("outer"):
            kept.append(add.with_options(task_run_name="{x}-plus-{y}", tags=["mine"]).submit(1, 2))
            kept.append(add.with_options(task_run_name=named).submit(5))
        wait(kept)

    seen = []
    for kind in (SharedRunner(), ThreadPoolTaskRunner()):
        run(body, kind)
        seen.append([(history(f.task_run_id)[1].name, set(history(f.task_run_id)[1].tags)) for f in kept])
    assert seen[0] == seen[1] == [("1-plus-2", {"mine", "outer"}), ("called-5", {"outer"})]


@pytest.mark.contract
def test_a_tags_concurrency_limit_limits() -> None:
    """Runs with a tag of limit one never overlap on the workers."""

    @task(tags=["one-at-a-time"])
    def stays() -> tuple[float, float]:
        began = time.time()
        time.sleep(0.1)
        return began, time.time()

    with get_client(sync_client=True) as client:
        client.create_concurrency_limit("one-at-a-time", 1)
        try:
            spans = sorted(run(lambda: [f.result() for f in [stays.submit() for _ in range(2)]]))
        finally:
            client.delete_concurrency_limit_by_tag("one-at-a-time")
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans))


@on_the_bed_too
@pytest.mark.contract
def test_asking_the_api_on_a_worker_says_what_to_do() -> None:
    """A worker has no Prefect API: what needs one fails at once, and says what was tried and what to do instead."""

    @flow
    def below() -> None: ...

    @task(timeout_seconds=30)
    def asks(what: str) -> None:
        from prefect.artifacts import create_markdown_artifact
        from prefect.blocks.system import Secret
        from prefect.client.orchestration import get_client
        from prefect.concurrency.sync import concurrency, rate_limit
        from prefect.deployments import run_deployment
        from prefect.flow_runs import pause_flow_run
        from prefect.variables import Variable

        if what == "concurrency":
            with concurrency("database", occupy=1, strict=True):
                pass
        elif what == "rate limit":
            rate_limit("database", strict=True)
        elif what == "variable":
            Variable.get("anything")
        elif what == "new variable":
            Variable.set("anything", "new")
        elif what == "subflow":
            below()
        elif what == "block":
            Secret.load("key")
        elif what == "artifact":
            create_markdown_artifact("text", key="a")
        elif what == "deployment":
            run_deployment("a/b")
        elif what == "pause":
            pause_flow_run(timeout=1)
        elif what == "its flow run":
            with get_client(sync_client=True) as client:
                client.read_flow_run(prefect.runtime.flow_run.id)
        elif what == "tagged task":
            add.with_options(tags=["db"])(1)
        else:
            with get_client(sync_client=True) as client:
                client.read_flows()

    wanted = {
        "concurrency": "a task tried to use a concurrency limit .*: give the task a tag",
        "rate limit": "a task tried to use a concurrency limit .*: give the task a tag",
        "variable": r"a task tried to read a variable \(GET /variables/name/anything\).*: read it in the flow",
        "new variable": "a task tried to (read|set) a variable .* in the flow",
        "subflow": "a task tried to call a flow .*: call it in the flow",
        "block": "a task tried to use a block .*: load it in the flow",
        "artifact": "a task tried to make an artifact .*: make it in the flow",
        "deployment": "a task tried to run a deployment .*: run it from the flow",
        "pause": "a task tried to pause its flow run .*: do that in the flow",
        "its flow run": "a task tried to read its flow run .*: read that, or its deployment, in the flow",
        "tagged task": "a task tagged 'db' was called inside a task .*give the tag to the task around",
        "client": r"a task tried to ask Prefect's API \(POST /flows/filter\).*: ask in the flow",
    }
    told = run(lambda: [ended(asks.submit(what)) for what in wanted])
    for text, (name, message, error) in zip(wanted.values(), told, strict=True):
        assert name == "Failed"
        assert re.search(text, error), error
        assert re.search(text, message), message


@on_the_bed_too
@pytest.mark.contract
def test_events_of_a_task_are_emitted_at_home(caplog: pytest.LogCaptureFixture) -> None:
    """As threads emit them, related to their runs; so a task that a task calls is a run that Prefect knows, too.

    What is too much to travel is counted.
    """

    @task(log_prints=True)
    def inner() -> None:
        print("within")
        emit_event("test.inner", resource={"prefect.resource.id": "test.1"})

    @task(tags=["outer"])
    def emits() -> bool:
        first = emit_event("test.first", resource={"prefect.resource.id": "test.1"}, payload={"n": 1})
        till = {"prefect.resource.id": "till.2", "prefect.resource.role": "till"}
        emit_event("test.second", resource={"prefect.resource.id": "test.1"}, related=[till], follows=first)
        inner()
        return first is not None

    @task
    def emits_too_much() -> None:
        for number in range(5):
            emit_event("test.large", resource={"prefect.resource.id": f"test.{number}"}, payload={"": "x" * 1_000_000})

    def of(runner: TaskRunner[Any]) -> Any:
        def body() -> Any:
            with tags("all"):
                future = emits.submit()
                assert future.result()
            if isinstance(runner, SharedRunner):
                emits_too_much.submit().result()
            return prefect.runtime.flow_run.id

        flow_run_id = run(body, runner)
        EventsWorker.instance().wait_until_empty()
        with get_client(sync_client=True) as client:
            wanted = {"related": {"id": [f"prefect.flow-run.{flow_run_id}"]}, "order": "ASC"}

            def all_there() -> Any:
                answer = client._client.post("/events/filter", json={"filter": wanted, "limit": 50}).json()["events"]
                told = [each for each in answer if each["event"].startswith(("test.", "prefect.task-run."))]
                return told if sum("Completed" in each["event"] for each in told) == runs else None

            runs = 3 if isinstance(runner, SharedRunner) else 2
            events = until(all_there, "all events are there")
        large = sum(each["event"] == "test.large" for each in events)
        lines = [(log.message, str(log.task_run_id)) for log in logs_of(flow_run_id, 2) if log.message == "within"]
        of_inner = [each["resource"]["prefect.resource.id"] for each in events if "inner-" in str(each["resource"])]
        assert [f"prefect.task-run.{run_id}" for _, run_id in lines] == of_inner[:1]
        return large, [
            (
                each["event"],
                each["payload"] if each["event"] == "test.first" else None,
                bool(each["follows"]),
                [
                    (one["prefect.resource.role"], one.get("prefect.resource.name", "").partition("-")[0])
                    for one in each["related"]
                    if one["prefect.resource.role"] != "flow-run"
                ],
            )
            for each in events
            if "too_much" not in str(each) and each["event"] != "test.large"
        ]

    threads, here = of(ThreadPoolTaskRunner()), of(SharedRunner())
    assert here[0] == 4
    assert [text for text in caplog.messages if "events of this run were left out" in text] == [
        "1 further events of this run were left out: 1000, and 4 MB of them, are the most"
    ]
    assert sorted(here[1]) == sorted(threads[1])
    assert [each[0] for each in here[1] if each[0].startswith("test.")] == ["test.first", "test.second", "test.inner"]


def test_events_that_are_too_many_are_counted() -> None:
    """The first thousand of a call travel."""
    events = Events(uuid4())
    for _ in range(1002):
        events.take(Event(event="test", resource=Resource({"prefect.resource.id": "test.1"})))
    assert (len(events.emitted), events.dropped) == (1000, 2)


# --- states -----------------------------------------------------------------------------------------------------------


@on_the_bed_too
@pytest.mark.contract
def test_what_ends_a_call_is_told_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    """Exits and the like crash the run under their own name, and what was logged before is told, too."""

    class Odd(BaseException):
        pass

    @task
    def ends(how: str) -> None:
        get_run_logger().warning("about to %s", how)
        if how == "exit":
            sys.exit(3)
        raise Odd("strange")

    def body() -> list[Any]:
        told = []
        for how in ("exit", "odd"):
            future = ends.submit(how)
            future.wait()
            with pytest.raises(Exception) as raised:  # noqa: PT011
                future.result()
            told.append((future.state.name, future.state.message, repr(raised.value)))
        return told

    crashed = "Execution was interrupted by an unexpected exception: "
    assert run(body) == [
        ("Crashed", f"{crashed}SystemExit: 3", "ItemFailed('SystemExit: 3')"),
        ("Crashed", f"{crashed}Odd: strange", "ItemFailed('Odd: strange')"),
    ]
    assert [text for text in caplog.messages if text.startswith("about")] == [
        f"about to {how}" for how in ("exit", "odd")
    ]


@pytest.mark.contract
def test_states_returned_by_tasks() -> None:
    """A state that a function returns, or a run's exception, makes the same final state as with threads."""

    @task
    def returns(how: str) -> Any:
        return {
            "failed": lambda: Failed(message="I say so"),
            "failed with data": lambda: Failed(message="I say so", data=ValueError("inside")),
            "completed": lambda: Completed(message="well", data=5),
            "named": lambda: Completed(name="Skipped", message="nothing to do"),
            "many": lambda: [Completed(data=1), Failed(message="second")],
            "plain": lambda: {"a": 1},
        }[how]()

    def body() -> list[Any]:
        told = []
        for how in ("failed", "failed with data", "completed", "named", "many", "plain"):
            future = returns.submit(how)
            future.wait()
            told.append((how, future.state.name, future.state.type, future.state.message))
        retried = returns.with_options(retries=1, cache_policy=NO_CACHE).submit("failed")
        retried.wait()
        return [*told, (retried.state.name, history(retried.task_run_id)[0])]

    told = same(body)
    assert [name for _, name, _, _ in told[:4]] == ["Failed", "Failed", "Completed", "Skipped"]
    assert told[-1] == ("Failed", ["Pending", "Running", "Retrying", "Failed"])


# --- flows and runners ------------------------------------------------------------------------------------------------


@pytest.mark.contract
def test_subflows_and_several_runners() -> None:
    """A flow in a flow has a runner of its own; a second runner in one flow takes what is submitted to it."""

    @flow(task_runner=SharedRunner())
    def inner(x: Any) -> Any:
        return add.submit(x, 10).result()

    @flow(task_runner=ThreadPoolTaskRunner())
    def with_threads(x: Any) -> Any:
        return add.submit(x, 100).result()

    def body() -> list[Any]:
        first = add.submit(1)
        values = [inner(first.result()), with_threads(first.result())]
        with SharedRunner() as other, ThreadPoolTaskRunner() as threads:
            elsewhere = other.submit(add, {"x": first, "y": 1000})
            again = threads.submit(add, {"x": elsewhere, "y": 1})
            values += [elsewhere.result(), add.submit(again).result()]
        with SharedRunner().duplicate() as twin:
            values.append(twin.map(add, {"x": [1, 2], "y": unmapped(1)}).result())
        return values

    assert same(body) == [12, 102, 1002, 1004, [2, 3]]


@on_the_bed_too
@pytest.mark.parametrize("megabytes", [30, pytest.param(300, marks=pytest.mark.rest)])
def test_large_values_travel(megabytes: int) -> None:
    """A large array goes to a worker, and another comes back."""

    @task(cache_policy=NO_CACHE)
    def turned(values: Any) -> Any:
        return values[::-1].copy()

    values = np.arange(megabytes * 1_000_000 // 8, dtype=np.int64)
    back = run(lambda: turned.submit(quote(values)).result())
    assert back.nbytes == megabytes * 1_000_000
    assert np.array_equal(back, values[::-1])


# --- faults -----------------------------------------------------------------------------------------------------------


@on_the_bed_too
def test_exceptions_come_home_as_themselves() -> None:
    """A project's own type, groups and notes arrive as raised; one that cannot be pickled is named."""

    class Local(Exception):
        """Defined where the flow is."""

    @task
    def raises(how: str) -> None:
        if how == "own":
            raise Refused(7, "mine")
        if how == "local":
            error = Local(3, "three")
            error.add_note("a note")
            raise error
        if how == "group":
            raise ExceptionGroup("two", [ValueError(1), KeyError("k")])
        if how == "stop":
            raise StopIteration(5)
        if how == "chained":
            try:
                int("x")
            except ValueError as exc:
                raise RuntimeError("from it") from exc
        raise Dissent("me", why="because")

    def body() -> dict[str, Any]:
        futures = {how: raises.submit(how) for how in ("own", "local", "group", "chained", "dissent", "stop")}
        return {how: future.result(raise_on_failure=False) for how, future in futures.items()}

    here = run(body)
    assert isinstance(here["own"], Refused)
    assert here["own"].order == 7
    assert isinstance(here["local"], Local)
    assert here["local"].args == (3, "three")
    assert here["local"].__notes__ == ["a note"]
    assert [type(each) for each in here["group"].exceptions] == [ValueError, KeyError]
    assert "invalid literal" in str(here["chained"].__cause__)
    assert "the function raised StopIteration: 5" in str(here.pop("stop"))
    assert isinstance(here["dissent"], Dissent)
    assert str(here["dissent"]) == "me: because"
    for how, error in here.items():
        cause = error.__cause__.__cause__ if how == "chained" else error.__cause__
        assert "in raises" in str(cause), how


@task
def dies_at_first(mark: Path) -> int:
    """Ends its worker's process until told otherwise."""
    if not mark.exists():
        os._exit(1)
    return 5


@on_the_bed_too
def test_a_lost_worker_can_spend_retries(tmp_path: Path) -> None:
    """With `on_lost="retry"` a lost worker is a failure: it spends a retry, and without any the run has Failed."""
    mark = tmp_path / "mark"

    def let_live(*_: Any) -> bool:
        mark.touch()
        return True

    def body() -> list[Any]:
        second = dies_at_first.with_options(retries=1, retry_condition_fn=let_live).submit(mark)
        second.wait()
        never = dies_at_first.submit(tmp_path / "never")
        never.wait()
        with pytest.raises(WorkerLost):
            never.result()
        return [second.task_run_id, second.result(), never.state.name, never.task_run_id]

    second, value, state, never = run(body, SharedRunner(on_lost="retry"))
    assert (value, state) == (5, "Failed")
    assert history(second)[0] == ["Pending", "Running", "Retrying", "Completed"]
    assert history(never)[0] == ["Pending", "Running", "Failed"]


# --- logs and contexts ------------------------------------------------------------------------------------------------


def logs_of(flow_run_id: Any, least: int) -> list[Log]:
    """The log lines the API has for a flow run, once so many are of its task runs."""
    APILogWorker.drain_all(timeout=30)
    with get_client(sync_client=True) as client:

        def had() -> list[Log]:
            found = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])))
            return found if len([log for log in found if log.task_run_id]) >= least else []

        logs: list[Log] = until(had, f"the API has {least} log lines of task runs")
        return logs


@pytest.mark.contract
def test_any_loggers_records_are_among_the_runs_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Plain logging, run loggers and prints arrive at the API once each, under their run and by their own name."""

    @task(log_prints=True)
    def talks(x: int) -> int:
        logging.getLogger("mylib.part").warning("plain %s", x)
        logging.getLogger("mylib").info("unheard")
        get_run_logger().info("run logger %s", x)
        print("printed", x)
        return x

    @task
    def quiet(x: int) -> int:
        logging.getLogger("otherlib").error("without Prefect %s", x)
        return x

    def body() -> Any:
        futures = [talks.submit(1), talks.submit(2), quiet.submit(3)]
        wait(futures)
        return prefect.runtime.flow_run.id, [str(future.task_run_id) for future in futures]

    flow_run_id, (first, second, third) = run(body)
    wanted = sorted(
        (name, text, run_id)
        for run_id, x in ((first, 1), (second, 2))
        for name, text in (
            ("mylib.part", f"plain {x}"),
            ("prefect.task_runs", f"run logger {x}"),
            ("prefect.task_runs", f"printed {x}"),
        )
    )
    wanted = sorted([*wanted, ("otherlib", "without Prefect 3", third)])
    found = logs_of(flow_run_id, len(wanted) + 3)  # and how each run has finished
    told = [(log.name, log.message.strip(), str(log.task_run_id)) for log in found if log.task_run_id]
    assert sorted(each for each in told if not each[1].startswith("Finished")) == wanted
    here = [record.getMessage() for record in caplog.records if record.name.startswith(("mylib", "otherlib"))]
    assert sorted(here) == ["plain 1", "plain 2", "without Prefect 3"]


def test_the_level_of_the_root_logger_is_that_at_home() -> None:
    """What the root logger would let through at home comes home."""

    @task
    def chats() -> None:
        logging.getLogger("mylib").info("informed")
        logging.getLogger("mylib").debug("debugged")

    def body() -> Any:
        chats.submit().wait()
        return prefect.runtime.flow_run.id

    before = logging.root.level
    logging.root.setLevel(logging.INFO)
    try:
        flow_run_id = run(body)
    finally:
        logging.root.setLevel(before)
    found = logs_of(flow_run_id, 2)  # and how the run has finished
    assert [log.message for log in found if log.name == "mylib"] == ["informed"]


@pytest.mark.contract
def test_contexts_on_the_worker() -> None:
    """`prefect.runtime` and the run contexts answer as with threads."""

    @task(tags=["b"], retries=1)
    def ask(x: int) -> dict[str, Any]:
        from prefect.runtime import flow_run, task_run

        context, flow_context = TaskRunContext.get(), FlowRunContext.get()
        assert context is not None
        assert flow_context is not None
        assert flow_context.flow is not None
        assert flow_context.flow_run is not None
        assert str(context.task_run.id) == task_run.id
        return {
            "task": (task_run.task_name, task_run.parameters, sorted(task_run.tags), task_run.run_count),
            "name": task_run.name.rsplit("-", 1)[0],
            "flow": (flow_run.flow_name, flow_run.parameters, flow_run.tags, flow_run.run_count, flow_run.name),
            "context": (context.task.name, context.task.retries, context.parameters, context.task.fn.__name__),
            "flow context": (flow_context.flow.name, flow_context.flow_run.name, flow_context.parameters),
            "task_run": (context.task_run.name.rsplit("-", 1)[0], context.task_run.task_key.rsplit("-", 1)[0]),
            "url": (flow_run.id == str(flow_context.flow_run.id)),
        }

    seen = []
    for kind in (SharedRunner(), ThreadPoolTaskRunner()):

        @flow(name="asked", flow_run_name="the-run", task_runner=kind)
        def body(size: int) -> dict[str, Any]:
            with tags("a"):
                return ask.submit(7).result()  # type: ignore[no-any-return]

        seen.append(body(3))
    assert seen[0] == seen[1]


@pytest.mark.contract
def test_what_cannot_be_done_on_a_worker_is_refused() -> None:
    """Submitting and mapping inside a task, and generator tasks, sync and async, name the task and the way out."""

    @task
    def nests(how: str) -> Any:
        return add.submit(1) if how == "submit" else add.map([1])

    @task
    def yields() -> Any:
        yield 1

    @task
    async def yields_async() -> Any:
        yield 1

    def body() -> list[str]:
        for each in (yields, yields_async):
            with pytest.raises(BadInput, match=f"'{each.name}' is a generator.*return a list"):
                each.submit()
        return [ended(nests.submit(how))[2] for how in ("submit", "map")]

    for text in run(body):
        assert "task 'add' was submitted inside a task on a starburst worker" in text
        assert "submit it from the flow" in text


# --- async flows ------------------------------------------------------------------------------------------------------


@pytest.mark.contract
def test_async_flows_and_tasks() -> None:
    """An async flow submits, maps and waits without awaiting, as with threads; its hooks may be async."""
    seen: list[str] = []

    async def hook(hooked: Any, task_run: TaskRun, state: State[Any]) -> None:
        await asyncio.sleep(0)
        seen.append(f"{hooked.name} {hooked.isasync} {state.name}")

    @task(on_completion=[hook])
    async def later(x: int) -> int:
        await asyncio.sleep(0.01)
        return x + 1

    def of(runner: TaskRunner[Any]) -> Any:
        @flow(task_runner=runner)
        async def body() -> list[Any]:
            seen.clear()
            futures = later.map([1, 2])
            one = later.submit(futures[0])
            direct = await later(10)
            await asyncio.gather(*(asyncio.to_thread(each.wait) for each in futures))
            in_order = [each.result() for each in as_completed([one])]
            return [futures.result(), one.result(), direct, in_order, add.map(futures).result()]

        return asyncio.run(body()), sorted(seen)

    here, threads = of(SharedRunner()), of(ThreadPoolTaskRunner())
    assert here == threads
    assert here[0] == [[2, 3], 3, 11, [3], [3, 4]]
    assert here[1] == ["later True Completed"] * 4
