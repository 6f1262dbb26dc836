"""The id of a run that somebody began in; its results out, once it is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseSensorOperator, PokeReturnValue

from airflow_provider_starburst.errors import as_airflow_has_them
from airflow_provider_starburst.events import OVER
from airflow_provider_starburst.hooks.starburst import StarburstHook
from airflow_provider_starburst.landing import landing_of
from airflow_provider_starburst.results import StarburstResults
from airflow_provider_starburst.triggers.starburst import driving, stepped
from starburst_common.spi import line

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class StarburstRunSensor(BaseSensorOperator):
    """Waits for a run that was begun elsewhere, as by `StarburstHook.start`, and keeps it going meanwhile.

    Args:
        run_id: its id, rendered.
        fail_on_partial_error: fail when items of it failed.
        starburst_conn_id, aws_conn_id: where it is.
    """

    template_fields: Sequence[str] = ("run_id", "starburst_conn_id", "aws_conn_id")

    def __init__(
        self,
        *,
        run_id: str,
        fail_on_partial_error: bool = True,
        starburst_conn_id: str = StarburstHook.default_conn_name,
        aws_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run_id = run_id
        self.fail_on_partial_error = fail_on_partial_error
        self.starburst_conn_id = starburst_conn_id
        self.aws_conn_id = aws_conn_id

    def poke(self, context: Context) -> PokeReturnValue:
        """Keep it going by one step, and look; once it is over, its results are what the task returns."""
        with as_airflow_has_them():
            hook = StarburstHook(self.starburst_conn_id, self.aws_conn_id)
            over, status = stepped(*driving(hook.where(), self.run_id))
            self.log.info("starburst: run %s: %s", self.run_id, line(status))
            return PokeReturnValue(is_done=over, xcom_value=self._results(hook) if over else None)

    def _results(self, hook: StarburstHook) -> StarburstResults:
        landing = landing_of(hook.backend, self.run_id)
        landing.refuse(OVER, fail=self.fail_on_partial_error)
        return landing.results(self.starburst_conn_id, self.aws_conn_id)
