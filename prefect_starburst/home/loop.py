"""Coroutines of engines in, futures of their states out: one thread with one event loop and one shared API client."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeVar

from prefect.client.schemas.objects import State
from prefect.states import Crashed

from prefect_starburst.internals import AsyncClientContext, client_to_share, events_gathered, share_client

R = TypeVar("R")
Engine = Coroutine[Any, Any, State[Any]]


class EngineLoop:
    """The thread all engines of a runner share. `stop` must be called.

    Engines share one API client: one of their own each would cost six times the CPU and three times the memory.
    """

    def __init__(self, engines: int) -> None:
        self.room = asyncio.Semaphore(engines)
        self._loop = asyncio.new_event_loop()
        self._runs: dict[asyncio.Task[State[Any]], Future[State[Any]]] = {}
        self._ended: list[asyncio.Task[State[Any]]] = []
        self._unsettled: set[Future[State[Any]]] = set()
        self._stopping = asyncio.Event()
        self._posted: deque[Callable[[], object]] = deque()
        self._woken = False
        self._called = False
        self._lock, self._closed, self._told = threading.Lock(), False, threading.Event()
        self._ready: Future[AsyncClientContext] = Future()
        self._context = copy_context()  # the flow's settings say which API to speak to
        self._thread = threading.Thread(target=self._turn, name="starburst-engines", daemon=True)
        self._thread.start()

    def is_current_thread(self) -> bool:
        """Whether the caller is on the loop, where waiting for a run would never end."""
        return threading.current_thread() is self._thread

    def start(self, engine: Engine, context: Context) -> Future[State[Any]]:
        """Run an engine in `context`, which is changed to hold the shared client. From any thread."""
        try:
            context.run(share_client, self._ready.result())
        except BaseException:
            engine.close()
            raise
        future: Future[State[Any]] = Future()
        future.set_running_or_notify_cancel()  # a run is cancelled by Prefect's state, never by its future
        with self._lock:
            if self._closed:
                engine.close()
                raise RuntimeError("The task runner was cancelled: it takes no more runs")
            self._unsettled.add(future)
            self.post(partial(self._begin, engine, context, future))
        return future

    def post(self, call: Callable[[], object]) -> None:
        """Have the loop make a call, from any thread; a burst of them costs one wake-up. Nothing, once it has ended."""
        self._posted.append(call)
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._deliver)

    async def settled(self, future: Future[R]) -> R:
        """The result of a future of any thread's; it is cancelled if the waiting engine is."""
        if not future.done():
            done = asyncio.Event()
            future.add_done_callback(lambda _: self.post(done.set))
            try:
                await done.wait()
            except asyncio.CancelledError:
                future.cancel()
                raise
        return future.result()

    async def burst(self) -> None:
        """Let the engines that are ready come as far: calls that leave together share messages to the workers.

        The first call does not wait for others, since workers start with it.
        """
        if self._called:
            await asyncio.sleep(0)
        self._called = True

    def drain(self) -> None:
        """Wait until no run is under way."""
        while unsettled := self._unsettled.copy():
            wait(unsettled)

    def cancel(self) -> None:
        """Take no more runs, and cancel those under way: each is told so before this returns. Twice is once."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self.post(self._stopping.set)  # after every `_begin`: all runs are known by then
        self._told.wait()

    def stop(self) -> None:
        """Cancel what is still under way, wait until it has said so, and end the thread. Twice is once."""
        self.cancel()
        self._thread.join()

    def _turn(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._keep_client(), context=self._context)
        finally:
            self._told.set()

    async def _keep_client(self) -> None:
        try:
            async with events_gathered(), client_to_share() as client:
                self._ready.set_result(client)
                await self._stopping.wait()
                while self._runs:
                    for run in self._runs:
                        run.cancel()
                    self._told.set()
                    await asyncio.wait(list(self._runs))
                    await asyncio.sleep(0)  # their done callbacks have the futures settled
        except BaseException as exc:
            if self._ready.done():
                raise
            self._ready.set_exception(exc)

    def _deliver(self) -> None:
        self._woken = False  # before the calls are taken: what is posted from now on wakes the loop again
        while self._posted:
            self._posted.popleft()()

    def _begin(self, engine: Engine, context: Context, future: Future[State[Any]]) -> None:
        run = self._loop.create_task(engine, context=context)
        self._runs[run] = future
        run.add_done_callback(self._end)

    def _end(self, run: asyncio.Task[State[Any]]) -> None:
        if not self._ended:
            self._loop.call_soon(self._settle)
        self._ended.append(run)

    def _settle(self) -> None:
        """Settle the futures of the runs that have ended, the last one first.

        A flow that waits for them in order is so woken once, when all of them are done.
        """
        while self._ended:
            run = self._ended.pop()
            future = self._runs.pop(run)
            if run.cancelled():  # before its engine began: Prefect's API has not heard of the run
                future.set_result(Crashed(message="Execution was cancelled before it began."))
            elif (exc := run.exception()) is not None:
                future.set_exception(exc)
            else:
                future.set_result(run.result())
            self._unsettled.discard(future)
