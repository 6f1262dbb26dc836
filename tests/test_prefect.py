"""Prefect flows on starburst workers: what a flow's author sees is what Prefect's own thread runner shows."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import cloudpickle
import prefect.runtime
import pytest
from prefect import flow, get_run_logger, tags, task
from prefect._internal.concurrency.threads import get_global_loop
from prefect.cache_policies import INPUTS, NO_CACHE, TASK_SOURCE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TagsContext
from prefect.events import Event, Resource, emit_event
from prefect.events.clients import AssertingEventsClient
from prefect.events.worker import EventsWorker
from prefect.exceptions import UnfinishedRun
from prefect.futures import PrefectFuture
from prefect.settings import (
    PREFECT_LOCAL_STORAGE_PATH,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task, task_input_hash

from prefect_starburst import StarburstTaskRunner, internals
from starburst_common import Resources, Run, RunState, list_runs
from starburst_common.errors import BadInput, UnpicklableResult, WorkerLost
from tests.prefect_bed import SharedRunner, history, on_the_bed_too, run, server
from tests.prefect_server import PATIENCE_S, until

__all__ = ["server"]  # pytest takes the fixture from here

# --- tasks ------------------------------------------------------------------------------------------------------------


@task
def double(x: Any) -> Any:
    return 2 * x


@task
def add(x: Any, y: int = 1) -> Any:
    return x + y


@task
def where() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


@task
def fails(x: int) -> int:
    raise KeyError(f"no {x}")


@task(retries=2)
def third_time_lucky() -> int:
    if prefect.runtime.task_run.run_count < 3:
        raise ValueError("not yet")
    return prefect.runtime.task_run.run_count  # type: ignore[no-any-return]


@task(timeout_seconds=0.2)
def never_ends() -> None:
    while True:
        time.sleep(0.01)  # where a thread's timeout is raised


@task
def naps(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@task
def naps_for_an_hour(mark: Path) -> None:
    """A flow that ends has not waited for it."""
    mark.touch()
    time.sleep(3600)


@task
def opens(gate: Path, number: int) -> None:
    """Ends when there is such a file."""
    gate.with_name(f"before-{number}").touch()
    while not gate.exists():
        time.sleep(0.02)


@task
def started_at() -> float:
    return time.time()


@task
def dies() -> None:
    os._exit(1)


@task
def quits() -> None:
    raise SystemExit(3)


@task
def returns_a_lock() -> Any:
    return threading.Lock()


class Stubborn(Exception):
    """Cannot be pickled as it would have it."""

    def __reduce__(self) -> Any:
        raise TypeError("not me")


@task
def raises_stubborn() -> None:
    raise Stubborn("hands off")


@task
async def waits_a_little(x: int) -> int:
    import asyncio

    await asyncio.sleep(0.01)
    return x + 1


@task
def counts(x: int) -> Iterator[int]:
    yield from range(x)


# --- values -----------------------------------------------------------------------------------------------------------


@on_the_bed_too
@pytest.mark.contract
def test_map_gives_results_in_order() -> None:
    """One run an input, results in the order of the inputs, and none of it in the flow's process."""

    def body() -> tuple[list[int], set[int]]:
        places = [where.submit() for _ in range(4)]
        return double.map(range(20)).result(), {place.result()[0] for place in places}

    results, pids = run(body)
    assert results == [2 * x for x in range(20)]
    assert os.getpid() not in pids


@pytest.mark.contract
def test_futures_are_awaited_and_resolved() -> None:
    """Futures as parameters, nested ones too, become values; `wait_for` orders runs that exchange nothing."""

    @task
    def total(parts: Any, extra: int) -> Any:
        return sum(parts["all"]) + extra

    def body() -> tuple[int, list[int], bool]:
        slow = naps.submit(0.3)
        after = double.submit(1, wait_for=[slow])  # type: ignore[call-overload]
        firsts = double.map([1, 2, 3])
        chained = add.map(firsts, y=10)
        after.wait()
        return total.submit({"all": list(firsts)}, extra=after).result(), chained.result(), slow.state.is_completed()

    assert run(body) == (14, [12, 14, 16], True)


def test_a_future_of_another_runner_is_awaited() -> None:
    """An upstream run may belong to another task runner."""

    def body() -> int:
        with ThreadPoolTaskRunner() as threads:  # type: ignore[var-annotated]
            upstream = threads.submit(double, {"x": 4})
            value: int = add.submit(upstream).result()
            return value

    assert run(body) == 9


@on_the_bed_too
@pytest.mark.contract
def test_closures_methods_and_options_travel() -> None:
    """A task made inside the flow, a method, and a task `with_options` run as they are."""
    offset = 7

    class Scale:
        def __init__(self, by: int) -> None:
            self.by = by

        @task
        def times(self, x: int) -> int:
            return self.by * x

    @task
    def shifted(x: int) -> int:
        return x + offset

    def body() -> list[Any]:
        named = double.with_options(name="other name").submit(3)
        return [
            shifted.submit(1).result(),
            Scale(5).times.submit(4).result(),  # type: ignore[call-overload]
            named.result(),
            history(named.task_run_id),
        ]

    first, second, third, (_, task_run) = run(body)
    assert (first, second, third) == (8, 20, 6)
    assert task_run.name.startswith("other name")


@pytest.mark.contract
def test_a_task_runs_in_the_state_that_its_function_has_then() -> None:
    """What it closes over or is bound to may change between two submits, and other options make no other function."""
    factor = [1]

    class Scale:
        by = 1

        @task
        def times(self, x: int) -> int:
            return self.by * x

    scale = Scale()

    @task
    def scaled(x: int) -> int:
        return factor[0] * x

    def body() -> list[Any]:
        got = []
        for by in (1, 7):
            factor[0] = scale.by = by
            got.append(scaled.submit(10).result())
            got += scaled.map([10, 20]).result()
            got.append(scaled.with_options(name="other").submit(10).result())
            got.append(scale.times.submit(10).result())  # type: ignore[call-overload]
        return got

    assert run(body) == [10, 10, 20, 10, 10, 70, 70, 140, 70, 70]


@pytest.mark.contract
def test_async_tasks_run() -> None:
    """An async task runs in an event loop of its own on the worker."""
    assert run(lambda: waits_a_little.map([1, 2]).result()) == [2, 3]


@pytest.mark.contract
def test_async_flows_run() -> None:
    """The runner serves async flows as well."""
    import asyncio

    @flow(task_runner=SharedRunner())
    async def body() -> list[int]:
        return double.map([1, 2]).result()

    assert asyncio.run(body()) == [2, 4]


def test_a_generator_task_is_refused() -> None:
    """A generator cannot come back from a worker: submit says so and what to do."""

    def body() -> None:
        with pytest.raises(BadInput, match=r"'counts' is a generator.*return a list"):
            counts.submit(3)

    run(body)


def test_more_runs_than_may_be_in_flight() -> None:
    """`max_in_flight` bounds the engines, not the runs; runs that wait for others take no place."""

    def body() -> list[int]:
        firsts = double.map(range(10))
        return add.map(add.map(firsts)).result()

    assert run(body, SharedRunner(max_in_flight=1)) == [2 * x + 2 for x in range(10)]


# --- states -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "names", "run_count"),
    [
        (lambda: double.submit(1), ["Pending", "Running", "Completed"], 1),
        (lambda: third_time_lucky.submit(), ["Pending", "Running", "Retrying", "Retrying", "Completed"], 3),
        (lambda: fails.submit(1), ["Pending", "Running", "Failed"], 1),
        (lambda: never_ends.submit(), ["Pending", "Running", "TimedOut"], 1),
        (lambda: quits.submit(), ["Pending", "Running", "Crashed"], 1),
    ],
    ids=["completed", "retried", "failed", "timed out", "crashed"],
)
@pytest.mark.contract
def test_states_are_those_of_the_thread_runner(
    make: Callable[[], PrefectFuture[Any]], names: list[str], run_count: int
) -> None:
    """The API shows the same states, messages and run counts as with ThreadPoolTaskRunner."""
    seen: list[tuple[list[str], int, str]] = []
    runners: list[TaskRunner[Any]] = [SharedRunner(), ThreadPoolTaskRunner()]
    for runner in runners:
        kept: list[PrefectFuture[Any]] = []

        def body(kept: list[PrefectFuture[Any]] = kept) -> int:
            future = make()
            kept.append(future)
            with suppress(SystemExit):  # the thread runner's way to tell of a crash
                future.wait()
            return 0

        run(body, runner)
        states, task_run = history(kept[0].task_run_id)
        message = task_run.state.message if task_run.state and "Crashed" not in states else ""
        seen.append((states, task_run.run_count, message or ""))
    assert seen[0] == seen[1]
    assert seen[0][:2] == (names, run_count)


@on_the_bed_too
def test_an_exception_comes_home_as_itself() -> None:
    """The run fails with the user's own exception; its cause shows where on the worker it was raised."""

    def body() -> tuple[State[Any], BaseException]:
        future = fails.submit(3)
        future.wait()
        with pytest.raises(KeyError, match="no 3") as caught:
            future.result()
        return future.state, caught.value

    state, error = run(body)
    assert state.is_failed()
    assert 'raise KeyError(f"no {x}")' in str(error.__cause__)
    assert "prefect_starburst" not in str(error.__cause__)


@pytest.mark.contract
def test_a_failed_upstream_keeps_its_downstream_from_running() -> None:
    """A run whose upstream failed is NotReady, as with Prefect's own runners."""

    def body() -> State[Any]:
        future = double.submit(fails.submit(1))
        future.wait()
        with pytest.raises(UnfinishedRun):
            future.result()
        state: State[Any] = future.state
        return state

    assert run(body).name == "NotReady"


@on_the_bed_too
@pytest.mark.contract
def test_the_timeout_counts_from_the_start_on_the_worker(tmp_path: Path) -> None:
    """A run that waits for its turn longer than `timeout_seconds` is in time if its function is."""
    timeout_s = 5.0

    def body() -> tuple[float, State[Any]]:
        holding = [opens.submit(tmp_path / "gate", number) for number in range(2)]
        until(lambda: len([*tmp_path.glob("before-*")]) == 2, "both workers are taken")
        waiting = [started_at.with_options(timeout_seconds=timeout_s).submit() for _ in range(4)]
        submitted = time.time()
        while time.time() < submitted + timeout_s:
            time.sleep(0.1)
        (tmp_path / "gate").touch()
        for future in holding:
            future.wait()
        waited = min(future.result() for future in waiting) - submitted
        ending = never_ends.submit()
        ending.wait()
        return waited, ending.state

    waited, late = run(body)
    assert waited >= timeout_s
    assert (late.name, late.message) == ("TimedOut", "Task run exceeded timeout of 0.2 second(s)")


@pytest.mark.contract
def test_hooks_run_in_the_flows_process() -> None:
    """Hooks and retry conditions get the task they belong to, are called at home, and may block."""
    seen: list[tuple[str, str, bool]] = []

    def note(hooked: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> None:
        time.sleep(0.01)
        seen.append((hooked.name, state.name or "", hooked.isasync))

    def once(hooked: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
        return task_run.run_count < 2

    async def later(hooked: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> None:
        seen.append((hooked.name, "async", hooked.isasync))

    hooked = fails.with_options(retries=5, retry_condition_fn=once, on_failure=[note, later])
    if knows_running := hasattr(hooked, "on_running_hooks"):
        hooked.on_running_hooks = [note]
    run(lambda: hooked.submit(1).wait())
    assert seen == [
        *([("fails", "Running", False), ("fails", "Retrying", False)] if knows_running else []),
        ("fails", "Failed", False),
        ("fails", "async", False),
    ]


# --- caching ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [SharedRunner, ThreadPoolTaskRunner])
@pytest.mark.parametrize("options", [{"cache_policy": INPUTS + TASK_SOURCE}, {"cache_key_fn": task_input_hash}])
@pytest.mark.contract
def test_caches_are_shared_with_the_thread_runner(
    first: type[TaskRunner[Any]], options: dict[str, Any], tmp_path: Path
) -> None:
    """What one runner has cached the other finds, whichever came first: cache keys are those of the task itself."""
    cached = double.with_options(persist_result=True, **options)
    second = ThreadPoolTaskRunner if first is SharedRunner else SharedRunner

    def body() -> tuple[str | None, int]:
        future = cached.submit(21)
        future.wait()
        return future.state.name, future.result()

    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path}):
        assert [run(body, kind()) for kind in (first, first, second)] == [
            ("Completed", 42),
            ("Cached", 42),
            ("Cached", 42),
        ]


# --- contexts and logs ------------------------------------------------------------------------------------------------


@pytest.mark.contract
def test_engines_share_one_client() -> None:
    """Prefect's engine asks for a client in each run; it is the same one each time, and one for plain HTTP is cheap."""
    clients: list[Any] = []

    def key(*_: Any) -> None:
        clients.append(get_client(sync_client=False))

    @task(cache_key_fn=key)
    def double(item: int) -> int:
        return 2 * item

    assert run(lambda: double.map(range(5)).result()) == [0, 2, 4, 6, 8]
    assert len(clients) == 5
    assert len({id(client) for client in clients}) == 1


@pytest.mark.contract
def test_events_of_a_moment_are_handed_over_together() -> None:
    """In their order; another thread's do not wait for them, and the last do not wait for the moment to end."""
    worker = EventsWorker.instance(AssertingEventsClient)

    def send(name: str) -> None:
        worker.send(Event(event=name, resource=Resource({"prefect.resource.id": "test"})))

    def elsewhere(name: str) -> None:
        thread = threading.Thread(target=send, args=(name,))
        thread.start()
        thread.join()  # the loop comes to nothing else meanwhile

    def arrived() -> str:
        worker.wait_until_empty()
        client = AssertingEventsClient.last
        return "".join(event.event for event in client.events) if client else ""

    async def emit() -> None:
        async with internals.events_gathered():
            elsewhere("1")
            for name in "abc":
                send(name)
            assert arrived() == "1"
            elsewhere("2")
            assert arrived() == "12"
            async with asyncio.timeout(PATIENCE_S):
                while arrived() == "12":
                    await asyncio.sleep(0.01)
            send("d")
            assert arrived() == "12abc"
        assert arrived() == "12abcd"
        send("3")
        assert arrived() == "12abcd3"

    asyncio.run(emit())


@pytest.mark.contract
def test_gathered_events_are_of_the_run_that_emitted_them() -> None:
    """Two flow runs on one thread emit in turn; what sends events for them is stopped before they are handed over."""
    ids: list[str] = []
    turns: list[asyncio.Barrier] = []

    @flow
    async def emits() -> None:
        ids.append(str(prefect.runtime.flow_run.id))
        for _ in range(3):
            await turns[0].wait()
            emit_event("test.gathered", {"prefect.resource.id": f"test.{ids[0]}", "of": prefect.runtime.flow_run.id})

    async def both() -> None:
        async with internals.events_gathered():
            turns.append(asyncio.Barrier(2))
            await asyncio.gather(emits(), emits())
            drained = EventsWorker.drain_all()
            assert not isinstance(drained, tuple)
            await drained

    asyncio.run(both())
    assert len(set(ids)) == 2
    wanted = {"event": {"name": ["test.gathered"]}, "resource": {"id": [f"test.{ids[0]}"]}}
    with get_client(sync_client=True) as client:

        def had() -> list[dict[str, Any]]:
            found = client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"]
            return found if len(found) >= 6 else []

        events = until(had, "the server has all six events")
    of = [event["resource"]["of"] for event in events]
    assert sorted(of) == sorted(3 * ids)
    assert of == [
        related["prefect.resource.id"].removeprefix("prefect.flow-run.")
        for event in events
        for related in event["related"]
        if related["prefect.resource.role"] == "flow-run"
    ]


@pytest.mark.contract
def test_events_cost_no_reading_of_certificates(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What sends them would read all, for a client of its own and to ask what release the server is of."""
    EventsWorker.drain_all()
    caplog.set_level(logging.INFO, "httpx")
    create, read_by = ssl.create_default_context, list[str]()

    def created(*arguments: Any, **options: Any) -> ssl.SSLContext:
        read_by.append(threading.current_thread().name)
        return create(*arguments, **options)

    monkeypatch.setattr(ssl, "create_default_context", created)
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):  # what sends logs reads them too
        assert run(lambda: double.submit(1).result()) == 2
    sends = get_global_loop().thread.name
    assert read_by and sends not in read_by, read_by
    assert "/flow_runs/" in caplog.text
    for_events = [record.getMessage() for record in caplog.records if record.threadName == sends]
    assert not any("/admin/version" in request for request in for_events), for_events


@on_the_bed_too
@pytest.mark.contract
def test_the_worker_answers_for_the_run() -> None:
    """`prefect.runtime`, tags and parameters answer inside the function as they do at home."""

    @task(tags=["of-task"])
    def ask(x: int) -> dict[str, Any]:
        from prefect.runtime import deployment, flow_run, task_run

        return {
            "id": task_run.id,
            "task": task_run.task_name,
            "parameters": task_run.parameters,
            "tags": sorted(task_run.tags),
            "context_tags": TagsContext.get().current_tags,
            "flow": flow_run.flow_name,
            "flow_run": flow_run.id,
            "flow_parameters": flow_run.parameters,
            "deployment": (deployment.id, deployment.name, deployment.version, deployment.parameters),
            "api": os.environ["PREFECT_API_URL"],
        }

    @flow(name="asked", task_runner=SharedRunner())
    def body(size: int) -> tuple[dict[str, Any], UUID, str | None]:
        with tags("of-flow"):
            future = ask.submit(5)
        return future.result(), future.task_run_id, prefect.runtime.flow_run.id

    answers, task_run_id, flow_run_id = body(3)
    assert answers == {
        "id": str(task_run_id),
        "task": "ask",
        "parameters": {"x": 5},
        "tags": ["of-flow", "of-task"],
        "context_tags": {"of-flow"},
        "flow": "asked",
        "flow_run": flow_run_id,
        "flow_parameters": {"size": 3},
        "deployment": (None, None, None, {"size": 3}),
        "api": "http://127.0.0.1:9/api",
    }


@on_the_bed_too
@pytest.mark.contract
def test_logs_come_home(caplog: pytest.LogCaptureFixture) -> None:
    """Prints under `log_prints` and run loggers' records reach the flow's loggers, under their run, failed or not."""

    @task(log_prints=True)
    def chats(x: int) -> None:
        print("printed", x)
        get_run_logger().warning("warned %s", x)
        get_run_logger().debug("unheard %s", x)
        if x == 2:
            try:
                int("one")
            except ValueError:
                get_run_logger().exception("logged %s", x)
            raise ValueError(x)

    def body() -> list[PrefectFuture[Any]]:
        futures = chats.map([1, 2])
        futures.wait()
        return list(futures)

    with caplog.at_level(logging.INFO, logger="prefect.task_runs"):
        futures: list[PrefectFuture[Any]] = []
        run(lambda: futures.extend(body()))
    records = [record for record in caplog.records if record.name == "prefect.task_runs"]
    told = {(record.getMessage(), record.levelname): record for record in records}
    for x, future in enumerate(futures, 1):
        for wanted in ((f"printed {x}", "INFO"), (f"warned {x}", "WARNING")):
            assert told[wanted].__dict__["task_run_id"] == str(future.task_run_id)
    assert "invalid literal" in (told["logged 2", "ERROR"].exc_text or "")
    assert not [text for text, _ in told if "unheard" in text]


@pytest.mark.contract
def test_a_task_called_by_a_task_runs_where_it_is_called() -> None:
    """On a worker a task is a function that keeps its retries; submitting it there says what to do instead."""

    @task
    def outer(x: int) -> Any:
        with pytest.raises(RuntimeError, match="submit it from the flow"):
            double.submit(x)
        return third_time_lucky(), double(x)

    assert run(lambda: outer.submit(4).result()) == (3, 8)


# --- faults -----------------------------------------------------------------------------------------------------------


@on_the_bed_too
@pytest.mark.contract
def test_a_lost_worker_crashes_one_run() -> None:
    """A function that ends its process is Crashed with WorkerLost and spends no retries; the other runs complete."""

    def body() -> tuple[Any, list[int], State[Any]]:
        lost = dies.with_options(retries=3).submit()
        others = double.map(range(10))
        lost.wait()
        with pytest.raises(WorkerLost):
            lost.result()
        below = double.submit(lost)
        below.wait()
        return lost, others.result(), below.state

    lost, others, below = run(body)
    assert others == [2 * x for x in range(10)]
    assert lost.state.is_crashed()
    assert "exception: WorkerLost: its process exited with code" in lost.state.message
    assert below.name == "NotReady"
    names, task_run = history(lost.task_run_id)
    assert (names, task_run.run_count) == (["Pending", "Running", "Crashed"], 1)


@pytest.mark.parametrize(
    ("culprit", "raised", "text"),
    [(returns_a_lock, UnpicklableResult, "lock"), (raises_stubborn, Stubborn, "hands off")],
)
def test_what_cannot_be_pickled_fails_clearly(culprit: Task[Any, Any], raised: type[Exception], text: str) -> None:
    """A result that cannot be sent back fails the run with an error that names it; an exception is made anew."""

    def body() -> State[Any]:
        future = culprit.submit()
        future.wait()
        with pytest.raises(raised, match=text):
            future.result()
        return future.state

    assert run(body).is_failed()


def test_a_parameter_that_cannot_be_pickled_fails_clearly() -> None:
    """A parameter that cannot be sent fails its own run, not the flow's other runs."""

    @task
    def takes(x: Any) -> None: ...

    def body() -> tuple[State[Any], int]:
        future = takes.with_options(cache_policy=NO_CACHE).submit(threading.Lock())
        future.wait()
        return future.state, double.submit(1).result()

    state, other = run(body)
    assert state.is_failed()
    assert "pickle" in (state.message or "")
    assert other == 2


@pytest.mark.contract
def test_a_failed_flow_does_not_hang(tmp_path: Path) -> None:
    """A flow that fails cancels what it has under way: runs end Crashed, and the flow ends long before they would."""
    futures: list[PrefectFuture[Any]] = []

    @flow(task_runner=StarburstTaskRunner(workers=1, backend="local", max_in_flight=3))
    def body() -> None:
        double.submit(1).result()
        futures.extend(naps_for_an_hour.map([tmp_path / str(number) for number in range(5)]))
        until((tmp_path / "0").exists, "the first is under way")
        raise ValueError("the flow's own")

    with pytest.raises(ValueError, match="the flow's own"):
        body()
    assert [future.state.name for future in futures] == ["Crashed"] * 5
    assert history(futures[0].task_run_id)[0] == ["Pending", "Running", "Crashed"]


@on_the_bed_too
def test_a_flow_waits_for_what_it_left_running() -> None:
    """A flow that ends well lets its runs finish, waited for or not."""
    futures: list[PrefectFuture[Any]] = []
    run(lambda: futures.extend(naps.map([0.3] * 3)))
    assert [future.state.name for future in futures] == ["Completed"] * 3


def load(what: str) -> None:
    """Sets globals of the module, of which a task's function has its own, as it goes by value."""
    global model
    model = what
    models.append(what)


def loaded() -> Any:
    """By the module's own globals."""
    return model, models


model, models = "", list[str]()


@task
def stands(name: str) -> Any:
    """Writes where it stands, and goes away; what the initializer has set."""
    Path(name).write_text("here")
    os.chdir("/")
    return model, models, loaded()


@task
async def stands_too(name: str) -> Any:
    return model, models, loaded()


@task
def reads(name: str) -> str:
    return Path(name).read_text()


@task
def forks(number: int) -> int:
    """Leaves a fork of its process behind, and may end itself."""
    if os.fork() == 0:
        time.sleep(600)
    if number == 1:
        os._exit(3)
    return number


def test_a_task_stands_where_its_flow_does_and_hangs_nothing_by_its_forks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths are as with threads; an initializer is called first; only the run whose process ended crashes."""
    monkeypatch.chdir(tmp_path)

    @flow(task_runner=StarburstTaskRunner(workers=1, backend="local", initializer=load, initargs=("model",)))
    def body() -> Any:
        stood = [*stands.map(["a.txt", "b.txt"]).result(), stands_too.submit("c.txt").result()]
        futures = [reads.submit("none.txt"), *forks.map([0, 1, 2])]
        for future in futures:
            future.wait()
        error = futures[0].result(raise_on_failure=False)
        return stood, error.__notes__, [future.state.name for future in futures]

    stood, notes, names = body()
    assert stood == 3 * [("model", ["model"], ("model", ["model"]))] and (tmp_path / "b.txt").read_text() == "here"
    assert f"stands in {tmp_path}" in notes[0]
    assert names == ["Failed", "Completed", "Crashed", "Completed"]


@pytest.mark.contract
def test_cancelling_the_flows_runner_cancels_its_duplicates(tmp_path: Path) -> None:
    """Prefect cancels by the flow's own runner, of which the started one is a duplicate."""
    template = StarburstTaskRunner(workers=1, backend="local")
    futures: list[PrefectFuture[Any]] = []

    @flow(task_runner=template)
    def body() -> None:
        futures.extend(naps_for_an_hour.map([tmp_path / "first", tmp_path / "second"]))
        until((tmp_path / "first").exists, "the first is under way")
        template.cancel_all()
        template.cancel_all()
        with pytest.raises(RuntimeError, match="not started"):
            double.submit(1)

    body()
    assert [future.state.name for future in futures] == ["Crashed"] * 2


# --- the runner itself ------------------------------------------------------------------------------------------------


def test_a_runner_is_its_options() -> None:
    """Duplicates, pickles and equal options make equal runners; a single different option makes another."""
    runner = StarburstTaskRunner(workers=3, cpu=2, memory="4GB", tags={"team": "a"}, max_in_flight=9)
    assert runner.duplicate() == runner
    assert pickle.loads(pickle.dumps(runner)) == runner
    assert cloudpickle.loads(cloudpickle.dumps(runner)) == runner
    assert runner == StarburstTaskRunner(3, 2, "4GB", tags={"team": "a"}, max_in_flight=9)
    assert runner != StarburstTaskRunner(workers=3, cpu=2, memory="4GB", tags={"team": "a"})
    assert runner != StarburstTaskRunner(workers=4, cpu=2, memory="4GB", tags={"team": "a"}, max_in_flight=9)
    assert runner != ThreadPoolTaskRunner()


def test_options_are_those_of_the_run_that_the_calls_are_items_of() -> None:
    """The run is begun at the first submit and not before, as it was asked for, and is over with the flow."""
    before = {each.id for each in list_runs(backend="local")}
    options: dict[str, Any] = {"workers": 2, "cpu": 2, "memory": "8GB", "slots": 1, "spot": True, "budget": 2.5}
    limits = {"max_hourly_cost": 10, "alert_at": "25, 90", "deadline": "2h"}

    def fresh() -> list[Run]:
        return [each for each in list_runs(backend="local") if each.id not in before]

    def body() -> Any:
        assert not fresh()
        return double.submit(2).result()

    runner = StarburstTaskRunner(backend="local", label="nightly", tags={"team": "a"}, **options, **limits)
    assert run(body, runner) == 4
    (begun,) = fresh()
    kept = begun._spec.terms.limits
    assert (kept.budget_usd, kept.hourly_usd, kept.alerts, kept.deadline_s) == (2.5, 10.0, (25.0, 90.0), 7200.0)
    assert (begun.workers, begun.resources) == (2, Resources.of(2, "8GB", 1, spot=True))
    assert (begun.label, begun.tags["team"], begun.status().state) == ("nightly", "a", RunState.SUCCEEDED)


def test_an_option_out_of_range_is_told_at_the_first_submit() -> None:
    """A wrong option fails the flow with the executor's own message, before anything is launched."""
    with pytest.raises(BadInput, match="cpu=3 is not a Fargate size"):
        run(lambda: double.submit(1).result(), StarburstTaskRunner(cpu=3, backend="local"))
    with pytest.raises(BadInput, match="max_in_flight=0"):
        StarburstTaskRunner(max_in_flight=0)


def test_a_runner_serves_one_flow_after_another() -> None:
    """A flow can run again: each run has a duplicate of its own."""
    again = flow(task_runner=SharedRunner())(lambda: double.submit(3).result())
    assert [again(), again()] == [6, 6]


@pytest.mark.contract
def test_submit_needs_a_started_runner() -> None:
    """Outside a flow the runner is a context manager, as Prefect's own are."""
    with pytest.raises(RuntimeError, match="not started"):
        SharedRunner().submit(double, {"x": 1})
    with SharedRunner() as runner:
        assert runner.submit(double, {"x": 1}).result() == 2
