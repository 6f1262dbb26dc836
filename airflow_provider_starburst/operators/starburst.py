"""A function and its items in; their results out: one Airflow task, whatever the number of items."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from threading import Thread
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_starburst.calls import ItemCall
from airflow_provider_starburst.course import ON_CLEAR, ON_STALE, Now
from airflow_provider_starburst.errors import StarburstLost, StarburstRunEnded, as_airflow_has_them
from airflow_provider_starburst.events import DEADLINE, ERROR, OVER, TIMEOUT
from airflow_provider_starburst.fanout import NEVER, Held, Lost, Wanted, awaited, held
from airflow_provider_starburst.given import OWN, bundle_root, given_items, namespace, resolved, run_options, told_items
from airflow_provider_starburst.hooks.starburst import StarburstHook
from airflow_provider_starburst.identity import code_print, input_print, name_of, of_all
from airflow_provider_starburst.landing import landing_of
from airflow_provider_starburst.links.starburst import (
    StarburstClusterLink,
    StarburstLogsLink,
    StarburstReportLink,
    tell_links,
)
from airflow_provider_starburst.results import StarburstResults
from airflow_provider_starburst.travelling import of_dag_by_value
from airflow_provider_starburst.triggers.starburst import StarburstRunTrigger
from airflow_provider_starburst.where import Where, requirements_of
from starburst_common import BadInput
from starburst_common.spi import Backend, Claims

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_KILL_S = 25.0  #: Airflow gives a killed task a little longer
_MARGIN_S = 600.0  #: the trigger tells of a deadline itself; Airflow ends a deferral that is so much later


class StarburstMapOperator(BaseOperator):
    """Calls `python_callable(item)` for every item on starburst workers; see docs/airflow.md.

    One task, one deferral and one trigger, whatever the number of items. It returns `StarburstResults`: a sequence that
    reads from the store; through XCom goes its manifest. A retry of the task runs what failed or was not answered.

    Args:
        python_callable: takes one item; in the DAG's file, or a module beside it.
        items: a list, the output of another task, or `Rows` that workers read. Nothing in it is rendered.
        op_args, op_kwargs: further arguments of the callable, the same for all items; rendered.
        starburst_conn_id: where to run; without such a connection, as settings files and variables say.
        aws_conn_id: a connection of the Amazon provider, for credentials.
        workers, cpu, memory, slots, spot, image: as of `starburst_common.starburst_map`.
        requirements: what workers in AWS are to have installed: a list of requirements, or a file's path, relative to
            the DAG's. By default what lies beside the DAG's file, or above it in its bundle, says so.
        options: other options of `starburst_common.starburst_map`, such as {"timeout": 60, "retries": 2} for items.
        budget, max_hourly_cost: US dollars; kept with the run, nothing stops there yet.
        deadline: seconds, or a timedelta, from the run's beginning; then it is cancelled, and no retry follows.
        fail_on_partial_error: fail the task when items failed. With False it succeeds, and results tell of them.
        tolerate: failures that do not fail the task, a count or "2%".
        on_stale: what a retry does where code or items changed: "redo" all, "fail", or "keep" on with the old.
        on_clear: what follows when somebody clears the task: "redo" all, or "resume" with what is missing or failed.
        version: names the code in place of what can be seen of it.
        cancel_on_kill: end the run with the task: when that is marked, cleared or timed out, or its process is ended.
        poll_interval: seconds between two looks at the run.
        run_label, run_tags: the run's label and further tags.
        deferrable: let a trigger wait, and no worker.
    """

    template_fields: Sequence[str] = (
        "items",
        "op_args",
        "op_kwargs",
        "starburst_conn_id",
        "aws_conn_id",
        "requirements",
        "run_label",
        "version",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"op_args": "py", "op_kwargs": "py"}
    shallow_copy_attrs: Sequence[str] = ("python_callable", "items")
    operator_extra_links = (StarburstReportLink(), StarburstLogsLink(), StarburstClusterLink())
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        items: Any = None,
        op_args: Sequence[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        starburst_conn_id: str = StarburstHook.default_conn_name,
        aws_conn_id: str | None = None,
        workers: int | None = None,
        cpu: float | None = None,
        memory: str | float | None = None,
        slots: int | None = None,
        spot: bool | None = None,
        image: str | None = None,
        requirements: str | Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
        budget: float | None = None,
        max_hourly_cost: float | None = None,
        deadline: float | timedelta | None = None,
        fail_on_partial_error: bool = True,
        tolerate: int | str | None = None,
        on_stale: str = "redo",
        on_clear: str = "redo",
        version: str | None = None,
        cancel_on_kill: bool = True,
        poll_interval: float = 10.0,
        run_label: str | None = None,
        run_tags: Mapping[str, str] | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.python_callable = python_callable
        self.items = items
        self.op_args = op_args
        self.op_kwargs = op_kwargs
        self.starburst_conn_id = starburst_conn_id
        self.aws_conn_id = aws_conn_id
        self.workers, self.cpu, self.memory, self.slots = workers, cpu, memory, slots
        self.spot, self.image = spot, image
        self.requirements = requirements
        self.options = options
        self.budget, self.max_hourly_cost, self.deadline = budget, max_hourly_cost, deadline
        self.fail_on_partial_error, self.tolerate = fail_on_partial_error, tolerate
        self.on_stale, self.on_clear = on_stale, on_clear
        self.version = version
        self.cancel_on_kill, self.poll_interval = cancel_on_kill, poll_interval
        self.run_label = run_label
        self.run_tags = run_tags
        self.deferrable = deferrable
        self._claims: tuple[str, str] | None = None  # under which name, and by which word, this try claims its run
        self._killed = False

    # --- Airflow's calls ----------------------------------------------------------------------------------------------

    def execute(self, context: Context) -> StarburstResults:
        """Begin the run, or go on with it; wait here, or defer."""
        with as_airflow_has_them():
            options, where = self._checked(context)
            hook = StarburstHook(self.starburst_conn_id, self.aws_conn_id)
            self.log.info("starburst: %s", where.told)
            backend = hook.open(where)
            asked = self._asked(context, options)
            try:
                mine = held(backend, asked)
            except Lost as error:
                raise StarburstLost(str(error)) from error
            if self._killed:  # before there was anything to be ended
                self._cancel()
                raise StarburstRunEnded(f"run {mine.run.id} is cancelled: its task was ended while it was begun")
            if self.do_xcom_push:
                tell_links(context["ti"], where.site, mine.run, self.operator_extra_links)
            if self.deferrable and not mine.run.status().state.over:
                self._defer(mine, asked)
            return self._wait(backend, mine)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> StarburstResults:
        """What the trigger has seen becomes of the task."""
        with as_airflow_has_them():
            backend = StarburstHook(self.starburst_conn_id, self.aws_conn_id).open()
            self._claims = (event["name"], event["by"])
            if event["status"] == ERROR:
                raise StarburstRunEnded(event["message"])
            return self._landed(backend, event["run"], event["status"])

    def on_kill(self) -> None:
        """End the run, unless a later try has it. A thread does so: who is interrupted here may hold locks."""
        if not self.cancel_on_kill:
            return
        self._killed = True
        self.log.info("starburst: the task is ended, and its run with it; what was answered is kept")
        thread = Thread(target=self._cancel, name="starburst-kill", daemon=True)
        thread.start()
        thread.join(_KILL_S)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, *rest: Any, **more: Any
    ) -> None:
        """Items are resolved, not rendered: that would take seconds for ten thousand, and any may hold braces."""
        if not isinstance(parent, StarburstMapOperator):  # an argument that has template fields of its own
            super()._do_render_template_fields(parent, template_fields, context, *rest, **more)
            return
        parent._set_items_apart()
        rendered = [name for name in template_fields if name != "items"]
        super()._do_render_template_fields(parent, rendered, context, *rest, **more)
        parent.items = resolved(parent.items, context)

    def _set_items_apart(self) -> None:
        """Before arguments are rendered: here they hold no items."""

    def _checked(self, context: Context) -> tuple[dict[str, Any], Where]:
        """Options as the core takes them, and where. Raises `BadInput`."""
        for name, value, known in (("on_stale", self.on_stale, ON_STALE), ("on_clear", self.on_clear, ON_CLEAR)):
            if value not in known:
                raise BadInput(f"{name}={value!r}: give one of {', '.join(known)}")
        if self.max_hourly_cost is not None:
            self.log.warning("max_hourly_cost=%g is kept with the run; nothing stops there yet", self.max_hourly_cost)
        ti = context["ti"]
        given = run_options(
            ti,
            {name: getattr(self, name) for name in OWN},
            self.options or {},
            label=self.run_label,
            tags=self.run_tags or {},
            max_hourly_cost=self.max_hourly_cost,
            fail=self.fail_on_partial_error,
        )
        place = StarburstHook(self.starburst_conn_id, self.aws_conn_id).where()
        dag = Path(context["dag"].fileloc)
        return given, requirements_of(place, self.requirements, self.image, dag, bundle_root(ti, dag))

    def _asked(self, context: Context, options: dict[str, Any]) -> Wanted:
        ti, items = context["ti"], given_items(self.items)
        fn, args, kwargs = self.python_callable, self.op_args or (), self.op_kwargs or {}
        of_dag_by_value(fn, context["dag"].fileloc)
        name = name_of(namespace(), ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index)
        self.log.info("starburst: %s for %s", told_items(items), getattr(fn, "__qualname__", fn))
        self._claims = name, token_hex(8)
        return Wanted(
            name=name,
            by=self._claims[1],
            fn=ItemCall(fn, args, kwargs) if args or kwargs else fn,
            items=items,
            now=Now(
                code=of_all([self.version]) if self.version else code_print(fn, args, kwargs),
                input=input_print(items),
                tries=ti.max_tries,
                on_stale=self.on_stale,
                on_clear=self.on_clear,
            ),
            options=options,
            tell=self._tell,
        )

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
        landing.refuse(status, fail=self.fail_on_partial_error, tolerate=self.tolerate)
        return landing.results(self.starburst_conn_id, self.aws_conn_id)

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
