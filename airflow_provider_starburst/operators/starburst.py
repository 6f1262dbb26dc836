"""A function and its items in; their results out: one Airflow task, whatever the number of items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import conf

from airflow_provider_starburst.calls import ItemCall
from airflow_provider_starburst.course import ON_CLEAR, ON_STALE, Now
from airflow_provider_starburst.errors import StarburstLost, StarburstRunEnded, as_airflow_has_them
from airflow_provider_starburst.events import ERROR
from airflow_provider_starburst.fanout import Lost, Wanted, held
from airflow_provider_starburst.given import (
    OWN,
    bundle_root,
    driver_ttl,
    given_items,
    namespace,
    place_of,
    refuse_amounts,
    refuse_misplaced,
    rendered,
    resolved,
    run_options,
    told_items,
)
from airflow_provider_starburst.hooks.starburst import StarburstHook
from airflow_provider_starburst.identity import code_print, input_print, name_of, of_all
from airflow_provider_starburst.links.starburst import (
    StarburstClusterLink,
    StarburstLogsLink,
    StarburstReportLink,
    tell_links,
)
from airflow_provider_starburst.operators.waiting import RunWaiter
from airflow_provider_starburst.results import StarburstResults
from airflow_provider_starburst.travelling import of_dag_by_value
from airflow_provider_starburst.where import Where, requirements_of
from airflow_provider_starburst.width import too_wide
from starburst_common import BadInput

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from starburst_common.spi import Backend


class StarburstMapOperator(RunWaiter):
    """Calls `python_callable(item)` for every item on starburst workers; see docs/airflow.md.

    One task, one deferral and one trigger, whatever the number of items. It returns `StarburstResults`: a sequence that
    reads from the store; through XCom goes its manifest. A retry of the task runs what failed or was not answered.

    Args:
        python_callable: takes one item; in the DAG's file, or a module beside it.
        items: a list, the output of another task, or where they lie: `Rows` that workers read, or their URI as a text,
            which is rendered; a list's items are not.
        op_args, op_kwargs: further arguments of the callable, the same for all items; rendered.
        starburst_conn_id: where to run; without such a connection, as settings files and variables say.
        aws_conn_id: a connection of the Amazon provider, for credentials.
        workers, cpu, memory, slots, spot, image, storage, env, task_role, aws_tags, capacity, gpus: as of
            `starburst_common.starburst_map`.
        requirements: what workers in AWS are to have installed: a list of requirements, or a file's path, relative to
            the DAG's. By default what lies beside the DAG's file, or above it in its bundle, says so.
        results_to: has workers write values to files, as "s3://BUCKET/{{ ds }}/*.jsonl", and a manifest beside them.
        failures_to: where items that failed, or have no answer, are written in the end, a line of JSON each: items of
            another task.
        options: all other options of `starburst_common.starburst_map`, such as {"timeout": 60, "retries": 2, "batch":
            100} for items.
        budget: US dollars that the run may cost; it stops before they are spent, and no retry follows.
        max_hourly_cost: US dollars that the run's workers together may cost an hour; no more are started beyond that.
        deadline: seconds, or a timedelta, from the run's beginning; then it stops, and no retry follows.
        fail_on_partial_error: fail the task when items failed. With False it succeeds, and results tell of them.
        tolerate: failures that do not fail the task, a count or "2%".
        on_stale: what a retry does where code or items changed: "redo" all, "fail", or "keep" on with the old.
        on_clear: what follows when somebody clears the task: "redo" all, or "resume" with what is missing or failed.
        version: names the code in place of what can be seen of it.
        cancel_on_kill: end the run with the task: when that is marked, cleared or timed out, or its process is ended.
        driver_ttl: seconds, or a timedelta, after which workers stop where neither task nor trigger drives the run, nor
            anybody else; the next try goes on. By default 15 minutes if deferrable, before Airflow 3.3; else none.
        poll_interval: seconds between two looks at the run.
        run_label, run_tags: the run's label and further tags.
        deferrable: let a trigger wait, and no worker.
    """

    template_fields: Sequence[str] = (
        "items",
        "results_to",
        "failures_to",
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
        storage: str | float | None = None,
        env: dict[str, str] | None = None,
        task_role: str | None = None,
        aws_tags: dict[str, str] | None = None,
        capacity: str | None = None,
        gpus: int | None = None,
        requirements: str | Sequence[str] | None = None,
        results_to: str | Path | None = None,
        failures_to: str | Path | None = None,
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
        driver_ttl: float | timedelta | str | None = "auto",
        poll_interval: float = 10.0,
        run_label: str | None = None,
        run_tags: Mapping[str, str] | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        refuse_misplaced(kwargs)
        super().__init__(**kwargs)
        self.python_callable = python_callable
        self.items = items
        self.op_args = op_args
        self.op_kwargs = op_kwargs
        self.starburst_conn_id = starburst_conn_id
        self.aws_conn_id = aws_conn_id
        self.workers, self.cpu, self.memory, self.slots = workers, cpu, memory, slots
        self.spot, self.image, self.storage = spot, image, storage
        self.env, self.task_role, self.aws_tags = env, task_role, aws_tags
        self.capacity, self.gpus = capacity, gpus
        self.requirements = requirements
        self.results_to = results_to
        self.failures_to = failures_to
        self.options = options
        self.budget, self.max_hourly_cost, self.deadline = budget, max_hourly_cost, deadline
        self.fail_on_partial_error, self.tolerate = fail_on_partial_error, tolerate
        self.on_stale, self.on_clear = on_stale, on_clear
        self.version = version
        self.cancel_on_kill, self.poll_interval, self.driver_ttl = cancel_on_kill, poll_interval, driver_ttl
        self.run_label = run_label
        self.run_tags = run_tags
        self.deferrable = deferrable

    # --- Airflow's calls ----------------------------------------------------------------------------------------------

    def execute(self, context: Context) -> StarburstResults:
        """Begin the run, or go on with it; wait here, or defer."""
        with as_airflow_has_them():
            options, where = self._checked(context)
            hook = StarburstHook(self.starburst_conn_id, self.aws_conn_id)
            self.log.info("starburst: %s", where.told)
            backend = hook.open(where)
            asked = self._asked(context, options, backend)
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

    # --- inside -------------------------------------------------------------------------------------------------------

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, *rest: Any, **more: Any
    ) -> None:
        """Items are resolved, not rendered: that would take seconds for ten thousand, and any may hold braces.

        What says where they lie is one short text, and is rendered.
        """
        if not isinstance(parent, StarburstMapOperator):  # an argument that has template fields of its own
            super()._do_render_template_fields(parent, template_fields, context, *rest, **more)
            return
        parent._set_items_apart()
        others = [name for name in template_fields if name != "items"]
        super()._do_render_template_fields(parent, others, context, *rest, **more)
        lie = rendered(parent.items, lambda text: parent.render_template(text, context, *rest, **more))
        parent.items = resolved(lie, context)

    def _set_items_apart(self) -> None:
        """Before arguments are rendered: here they hold no items."""

    def _checked(self, context: Context) -> tuple[dict[str, Any], Where]:
        """Options as the core takes them, and where. Raises `BadInput`."""
        for name, value, known in (("on_stale", self.on_stale, ON_STALE), ("on_clear", self.on_clear, ON_CLEAR)):
            if value not in known:
                raise BadInput(f"{name}={value!r}: give one of {', '.join(known)}")
        refuse_amounts(
            deadline=self.deadline, max_hourly_cost=self.max_hourly_cost, poll_interval=self.poll_interval or 0
        )
        ti = context["ti"]
        place_of("failures_to", self.failures_to)
        told = {name: getattr(self, name) for name in ("deferrable", "cancel_on_kill", "poll_interval")}
        given = run_options(
            ti,
            {
                **{name: getattr(self, name) for name in OWN},
                "results_to": place_of("results_to", self.results_to),
                "driver_ttl": driver_ttl(self.driver_ttl, **told),
            },
            self.options or {},
            label=self.run_label,
            tags=self.run_tags or {},
            fail=self.fail_on_partial_error,
        )
        place = StarburstHook(self.starburst_conn_id, self.aws_conn_id).where()
        dag = Path(context["dag"].fileloc)
        return given, requirements_of(place, self.requirements, self.image, dag, bundle_root(ti, dag))

    def _asked(self, context: Context, options: dict[str, Any], backend: Backend) -> Wanted:
        ti, items = context["ti"], given_items(self.items, backend)
        fn, args, kwargs = self.python_callable, self.op_args or (), self.op_kwargs or {}
        of_dag_by_value(fn, context["dag"].fileloc)
        name = name_of(namespace(), ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index)
        self.log.info("starburst: %s for %s", told_items(items), getattr(fn, "__qualname__", fn))
        if ti.map_index in (-1, None) and (told := too_wide(self, items)):
            self.log.warning("starburst: %s", told)
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
                results_to=options.get("results_to", ""),
            ),
            options=options,
            tell=self._tell,
        )
