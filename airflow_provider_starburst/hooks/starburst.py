"""A connection in; a cluster, and runs by their ids, out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_starburst.get_provider_info import CONNECTION_TYPE, DEFAULT_CONN, FIELDS, HIDDEN, HOOK_NAME
from airflow_provider_starburst.travelling import dags_by_value
from airflow_provider_starburst.where import Where
from starburst_common import BadInput, Cluster, Cost, Run, RunStatus, StarburstError, attach, costs

if TYPE_CHECKING:
    from starburst_common.spi import AwsSession, Backend, Estimate


class StarburstHook(BaseHook):
    """Where starburst runs, by an Airflow connection, and what runs there.

    Args:
        starburst_conn_id: the connection. Where the default one does not exist, settings files and variables say where.
        aws_conn_id: a connection of the Amazon provider, for credentials, in place of the one that it names.
    """

    conn_name_attr = "starburst_conn_id"
    default_conn_name = DEFAULT_CONN
    conn_type = CONNECTION_TYPE
    hook_name = HOOK_NAME

    def __init__(self, starburst_conn_id: str = default_conn_name, aws_conn_id: str | None = None) -> None:
        super().__init__()
        self.starburst_conn_id = starburst_conn_id
        self.aws_conn_id = aws_conn_id
        self._backend: Backend | None = None

    # --- the connection -----------------------------------------------------------------------------------------------

    def where(self) -> Where:
        """The place that the connection names. Raises `BadInput`, `AirflowNotFoundException`."""
        try:
            said = self.get_connection(self.starburst_conn_id).extra_dejson
        except AirflowNotFoundException:
            if self.starburst_conn_id != self.default_conn_name:
                raise
            said = {}
        return Where.of(said, f"connection {self.starburst_conn_id}", aws_conn_id=self.aws_conn_id)

    def open(self, where: Where | None = None) -> Backend:
        """A new backend of that place; who opens it closes it."""
        dags_by_value()
        place = where or self.where()
        return place.open(session_of(place))

    @property
    def backend(self) -> Backend:
        """Its backend, opened at the first use."""
        if self._backend is None:
            self._backend = self.open()
        return self._backend

    def get_conn(self) -> Cluster:
        """A cluster there, with the options of a settings file: for calls from a `@task` of one's own."""
        return Cluster(backend=self.backend)

    def test_connection(self) -> tuple[bool, str]:
        """Whether its parts can be reached, a line for each: credentials, region, bucket, cluster, queues."""
        try:
            where = self.where()
            fine, lines = where.looked_at(session_of(where))
        except (StarburstError, OSError, AirflowNotFoundException) as error:
            return False, str(error)
        return fine, "\n".join([where.told, *lines])

    # --- runs ---------------------------------------------------------------------------------------------------------

    def attach(self, run_id: str) -> Run:
        """A run there. Raises `starburst_common.NotFound`."""
        return attach(run_id, backend=self.backend)

    def start(self, fn: Callable[..., Any], items: Iterable[Any], **options: Any) -> Run:
        """Begin a run that goes on whatever becomes of this task; options as of `starburst_common.starburst_map`."""
        with Cluster(backend=self.backend, **options) as cluster:
            return cluster.start(fn, items)

    def status(self, run_id: str) -> RunStatus:
        """How a run stands."""
        return self.attach(run_id).status()

    def results(self, run_id: str, **how: Any) -> list[Any]:
        """A run's values; `how` as of `starburst_common.Run.results`."""
        return self.attach(run_id).results(**how)

    def cancel(self, run_id: str) -> None:
        """End a run; what was answered stays."""
        self.attach(run_id).cancel()

    def logs(self, run_id: str, item: int | None = None) -> Iterator[tuple[int, str]]:
        """What items printed, with their numbers."""
        return self.attach(run_id).logs(item)

    def estimate(self, run_id: str) -> Estimate:
        """What a run's work so far costs on Fargate, or would."""
        run = self.attach(run_id)
        return run.estimate(run.status())

    def costs(self, *, since: float | None = None, by: str = "dag") -> list[Cost]:
        """What runs there cost, of the last 30 days or since a time (seconds); `by` as of `starburst_common.costs`."""
        return costs(since=since, by=by, backend=self.backend)

    # --- the form, before Airflow 3.2, which takes it from the provider's metadata ------------------------------------

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Which of Airflow's own fields the form does without."""
        return {"hidden_fields": [*HIDDEN], "relabeling": {}, "placeholders": {}}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The form's further fields."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import StringField

        return {
            name: StringField(
                lazy_gettext(field["label"]), widget=BS3TextFieldWidget(), description=field["description"]
            )
            for name, field in FIELDS.items()
        }


def session_of(where: Where) -> Callable[[], AwsSession] | None:
    """How sessions with the credentials of a connection of the Amazon provider are made, if one is named."""
    if where.site is None or not where.aws_conn_id:
        return None
    return partial(_session, where.aws_conn_id, where.site.region)


def _session(aws_conn_id: str, region: str) -> AwsSession:
    try:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    except ImportError:
        raise BadInput(
            f"aws_conn_id={aws_conn_id!r}: connections to AWS need `pip install apache-airflow-providers-amazon`; "
            "without aws_conn_id the credentials of this process are taken"
        ) from None
    from starburst_common.spi import SessionAt

    hook: AwsGenericHook[Any] = AwsGenericHook(aws_conn_id, region_name=region)
    return SessionAt(hook.get_session(), hook.conn_config.get_service_endpoint_url, hook.conn_config.verify)
