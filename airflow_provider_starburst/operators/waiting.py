"""A run that a task holds in; waited for, here or by a trigger, landed, or ended with its task."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from threading import Thread

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_starburst.events import DEADLINE, OVER, TIMEOUT
from airflow_provider_starburst.fanout import NEVER, Held, Wanted, awaited
from airflow_provider_starburst.given import place_of
from airflow_provider_starburst.hooks.starburst import StarburstHook
from airflow_provider_starburst.landing import landing_of
from airflow_provider_starburst.results import StarburstResults
from airflow_provider_starburst.triggers.starburst import StarburstRunTrigger
from starburst_common import StarburstError, attach
from starburst_common.spi import Backend, Claims

_KILL_S = 25.0  #: Airflow gives a killed task a little longer
_MARGIN_S = 600.0  #: the trigger tells of a deadline itself; Airflow ends a deferral that is so much later


class RunWaiter(BaseOperator):
    """What a try does once it holds its run; its arguments are those of `StarburstMapOperator`."""

    starburst_conn_id: str
    aws_conn_id: str | None
    deadline: float | timedelta | None
    fail_on_partial_error: bool
    failures_to: str | Path | None
    tolerate: int | str | None
    cancel_on_kill: bool
    poll_interval: float
    _claims: tuple[str, str] | None = None  # under which name, and by which word, this try claims its run
    _killed = False

    def on_kill(self) -> None:
        """End the run, unless a later try has it. A thread does so: who is interrupted here may hold locks."""
        if not self.cancel_on_kill:
            return
        self._killed = True
        self.log.info("starburst: the task is ended, and its run with it; what was answered is kept")
        thread = Thread(target=self._cancel, name="starburst-kill", daemon=True)
        thread.start()
        thread.join(_KILL_S)

    def _ends_at(self, mine: Held) -> tuple[float, float]:
        """When the deadline is, and when this try has had its time (wall clock)."""
        deadline_s = self.deadline.total_seconds() if isinstance(self.deadline, timedelta) else self.deadline
        limit, begun_at = self.execution_timeout, float(mine.claim.about["begun_at"])
        timeout_at = time.time() + limit.total_seconds() if limit else NEVER
        return (begun_at + deadline_s if deadline_s is not None else NEVER), timeout_at

    def _defer(self, mine: Held, asked: Wanted) -> None:
        deadline, timeout_at = self._ends_at(mine)
        until = min(deadline, timeout_at)
        self.log.info("starburst: a trigger waits for run %s", mine.run.id)
        self.defer(
            trigger=StarburstRunTrigger(
                name=asked.name,
                by=asked.by,
                run=mine.claim.run,
                starburst_conn_id=self.starburst_conn_id,
                aws_conn_id=self.aws_conn_id,
                poll_interval=float(self.poll_interval),
                deadline=None if deadline == NEVER else deadline,
                timeout_at=None if timeout_at == NEVER else timeout_at,
                cancel_on_kill=self.cancel_on_kill,
            ),
            method_name="execute_complete",
            timeout=None if until == NEVER else timedelta(seconds=max(until - time.time(), 0.0) + _MARGIN_S),
        )

    def _wait(self, backend: Backend, mine: Held) -> StarburstResults:
        deadline, timeout_at = self._ends_at(mine)
        until = min(deadline, timeout_at)
        over = awaited(mine.run, every_s=self.poll_interval, until=until, tell=self._tell)
        status = OVER if over else DEADLINE if deadline <= timeout_at else TIMEOUT
        if not over:
            self._cancel()
        return self._landed(backend, mine.claim.run, status)

    def _landed(self, backend: Backend, run: str, status: str) -> StarburstResults:
        """The results of a run that is over, or why there are none, raised."""
        landing = landing_of(backend, run)
        landing.tell(self.log)
        saved = self._saved(backend, run)
        landing.refuse(status, fail=self.fail_on_partial_error, tolerate=self.tolerate)
        return landing.results(self.starburst_conn_id, self.aws_conn_id, **saved)

    def _saved(self, backend: Backend, run: str) -> dict[str, str]:
        """Write what failed, or has no answer, where that is wanted: all of it, whichever try it is."""
        place = place_of("failures_to", self.failures_to)
        if place is None:
            return {}
        try:
            count = attach(run, backend=backend).save_failed(place)
        except StarburstError as error:  # how the run ended matters more
            self.log.warning("starburst: failures_to: %s", error)
        else:
            self.log.info("starburst: %s items that failed, or have no answer, are in %s", f"{count:,}", place)
        return {"failures_to": place}

    def _tell(self, text: str) -> None:
        self.log.info("starburst: %s", text)

    def _cancel(self) -> None:
        """End the run that this try holds, if it holds one."""
        if self._claims is None:
            return
        backend = StarburstHook(self.starburst_conn_id, self.aws_conn_id).open()
        try:
            if Claims(backend, *self._claims).cancel():
                self._tell("its run is cancelled")
        finally:
            backend.close()
