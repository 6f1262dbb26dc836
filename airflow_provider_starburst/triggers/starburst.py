"""A run in; that it is over, or what keeps it from being so, out. Meanwhile it is kept going from here.

All that may wait is done by a few threads that the triggers of this process share, and never on its loop; so is the
import of what does it, as Airflow imports this module on the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import XCom
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_starburst.events import DEADLINE, ERROR, OVER, TIMEOUT
from airflow_provider_starburst.get_provider_info import DEFAULT_CONN
from airflow_provider_starburst.pacing import PROGRESS_S, REPORT_S, SOON_S, Due
from starburst_common import NotFound

if TYPE_CHECKING:
    from airflow_provider_starburst.where import Where
    from starburst_common import Run, RunStatus
    from starburst_common.spi import Backend, Driver

PROGRESS = "starburst_progress"  #: the XCom that tells of a run while its task is deferred

_SOONEST_S = 2.0  #: between two looks, unless `poll_interval` is shorter
_FIRST_EVENT_S = 5.0  #: an event that comes sooner meets a scheduler that has not yet put the deferral down
_THREADS = 8
_ERRORS = 10  #: looks in a row that fail, before the task is told
_MESSAGE = 4000  #: characters of why a run is not over
_JITTER = 0.9  #: triggers that began together are not to look together
_STEPS_S = 2.0  #: a thread is one run's for so long at once
_KILL_S = 20.0  #: Airflow gives a trigger half a minute
_T = TypeVar("_T")


class StarburstRunTrigger(BaseTrigger):
    """Waits for a task's run.

    Args:
        name, by: what names the task instance, and its try, which may end the run until a later one claims it.
        run: the run that was begun for the task.
        starburst_conn_id, aws_conn_id: where it is done.
        poll_interval: seconds between two looks.
        deadline, timeout_at: when to end the run (seconds of the wall clock), for good or for this try.
        cancel_on_kill: end the run where somebody marks or clears the task.
    """

    def __init__(
        self,
        name: str,
        by: str,
        run: str,
        starburst_conn_id: str = DEFAULT_CONN,
        aws_conn_id: str | None = None,
        poll_interval: float = 10.0,
        deadline: float | None = None,
        timeout_at: float | None = None,
        cancel_on_kill: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name, self.by, self.run_id = name, by, run
        self.starburst_conn_id, self.aws_conn_id = starburst_conn_id, aws_conn_id
        self.poll_interval, self.deadline, self.timeout_at = poll_interval, deadline, timeout_at
        self.cancel_on_kill = cancel_on_kill
        self._told = ""
        json.dumps(self.serialize()[1], allow_nan=False)  # what Airflow 2 cannot store it would change unseen

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """As Airflow stores it: plain JSON."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "name": self.name,
                "by": self.by,
                "run": self.run_id,
                "starburst_conn_id": self.starburst_conn_id,
                "aws_conn_id": self.aws_conn_id,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
                "timeout_at": self.timeout_at,
                "cancel_on_kill": self.cancel_on_kill,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event, not before the scheduler can take it."""
        began = time.monotonic()
        try:
            status, message = await self._watched()
        except Exception as error:  # every end is an event: Airflow 2 waits for ever for a trigger that raised
            self.log.exception("starburst: run %s cannot be watched", self.run_id)
            status, message = ERROR, f"{type(error).__name__}: {error}"
        message = message[:_MESSAGE].encode(errors="replace").decode()  # one that cannot be sent would start us again
        await asyncio.sleep(max(began + _FIRST_EVENT_S - time.monotonic(), 0.0))
        told = {"status": status, "message": message, "name": self.name, "by": self.by, "run": self.run_id}
        yield TriggerEvent(told)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Somebody marked or cleared the task: its run ends, unless a later try has it. From Airflow 3.3 on."""
        if not self.cancel_on_kill:
            return
        self.log.info("starburst: the task is ended by hand, and run %s with it", self.run_id)
        await asyncio.wait_for(self._cancel(), _KILL_S)

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _watched(self) -> tuple[str, str]:
        """How it ends, and in words why it is not over."""
        failed, lines, pages = 0, Due(PROGRESS_S, first_s=SOON_S), Due(REPORT_S)
        driven: tuple[Driver, Run] | None = None
        began = time.monotonic()
        while True:
            try:
                if driven is None:
                    driven = await _in_pool(driving, await self._where(), self.run_id)
                over, status = await _in_pool(stepped, *driven)
                failed = 0
            except NotFound as error:
                return ERROR, str(error)
            except Exception as error:  # an outage, throttling, or credentials that have expired: the next look tells
                failed, driven = failed + 1, None
                if failed >= _ERRORS:
                    return ERROR, f"run {self.run_id} could not be looked at {failed} times in a row: {error}"
                self.log.warning("starburst: run %s cannot be looked at now: %s", self.run_id, error)
            else:
                if over:
                    return OVER, ""
                if lines.now():
                    await self._tell(await _in_pool(line_of, status), status)
                if pages.now():
                    await _in_pool(shown, driven[1])
            if (ended := self._ended()) is not None:
                await self._cancel()
                return ended, ""
            await asyncio.sleep(self._pause(time.monotonic() - began))

    def _ended(self) -> str | None:
        now = time.time()
        if self.deadline is not None and now >= self.deadline:
            return DEADLINE
        return TIMEOUT if self.timeout_at is not None and now >= self.timeout_at else None

    def _pause(self, watched_s: float) -> float:
        """Sooner at first: a short run is not to wait for a look longer than it took."""
        ends = [each - time.time() for each in (self.deadline, self.timeout_at) if each is not None]
        interval = self.poll_interval * random.uniform(_JITTER, 1.0)
        return max(min([interval, max(_SOONEST_S, watched_s / 2), *ends]), 0.1)

    async def _where(self) -> Where:
        # a thread of the loop's own, as connections are looked up through it
        return await asyncio.to_thread(place, self.starburst_conn_id, self.aws_conn_id)

    async def _cancel(self) -> None:
        if await _in_pool(cancelled, await self._where(), self.name, self.by):
            self.log.info("starburst: run %s is cancelled; what was answered is kept", self.run_id)
        else:
            self.log.info("starburst: run %s is a later try's, or over, and is left alone", self.run_id)

    async def _tell(self, text: str, status: RunStatus) -> None:
        if text == self._told:
            return
        self._told = text
        self.log.info("starburst: %s", text)
        ti = self.task_instance
        if ti is None or not hasattr(XCom, "aset"):  # before Airflow 3.3
            return
        counts = {
            "answered": status.answered,
            "failed": status.failed,
            "items": status.items,
            "workers": status.workers,
        }
        with suppress(Exception):  # it is shown, and no more
            await XCom.aset(
                key=PROGRESS,
                value={"text": text, **counts},
                dag_id=ti.dag_id,
                task_id=ti.task_id,
                run_id=ti.run_id,
                map_index=ti.map_index,
            )


# --- what threads do --------------------------------------------------------------------------------------------------


async def _in_pool(call: Callable[..., _T], *args: Any) -> _T:
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_pool(), lambda: context.run(call, *args))


@cache
def _pool() -> ThreadPoolExecutor:
    """Of this process, for all its triggers."""
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="starburst-trigger")


def place(starburst_conn_id: str, aws_conn_id: str | None) -> Where:
    """Where the connection says that runs are done."""
    from airflow_provider_starburst.hooks.starburst import StarburstHook

    return StarburstHook(starburst_conn_id, aws_conn_id).where()


@cache
def _opened(where: Where) -> Backend:
    """Of this process: triggers of one place share its connections."""
    from airflow_provider_starburst.hooks.starburst import session_of

    return where.open(session_of(where))


def line_of(status: RunStatus) -> str:
    """How a run stands, in a line."""
    from starburst_common.spi import line

    return line(status)


def shown(run: Run) -> None:
    """Its report is written anew."""
    with suppress(Exception):  # it is shown, and no more
        run.report()


def driving(where: Where, run: str) -> tuple[Driver, Run]:
    """What keeps a task's run going, or the last retry of its failed items; nothing is driven before it is stepped."""
    from starburst_common.spi import RunId, driver_of, newest_of, run_of

    backend = _opened(where)
    driver = driver_of(newest_of(backend, RunId(run)), backend)
    return driver, run_of(driver)


def stepped(driver: Driver, run: Run) -> tuple[bool, RunStatus]:
    """Look, decide and act, if that is due; whether the run is over, and how it stands.

    A step hears of a few chunks only, so the next one follows at once while there is more to hear.
    """
    until, answered = time.monotonic() + _STEPS_S, driver.books.tally.answered
    while not (over := driver.step()) and driver.books.tally.answered > answered and time.monotonic() < until:
        answered = driver.books.tally.answered
    return over, run.status()


def cancelled(where: Where, name: str, by: str) -> bool:
    """End the run that a try holds, if it does still; workers end too, as far as there is time for it."""
    from starburst_common.spi import Claims, driver_of

    backend = _opened(where)
    claims = Claims(backend, name, by)
    if not claims.cancel():
        return False
    if (last := claims.last()) is not None:
        with suppress(NotFound):
            driver, until = driver_of(last.ends or last.run, backend), time.monotonic() + _KILL_S / 2
            while not driver.step(0.2) and time.monotonic() < until:
                pass
    return True
