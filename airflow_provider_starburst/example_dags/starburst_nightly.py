"""A batch each night, with limits, whose consumer is scheduled by an asset; a clear runs what failed in that night.

A tenth of the shops may fail: the night is a success, and its consumer is told of it. In the morning somebody sees to
what failed and clears the task `forecasts` of that night: those shops alone are run, and the consumer is told anew.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_starburst import StarburstMapOperator

FORECASTS = Asset("starburst://forecasts")


def forecast(shop: str, night: str = "") -> tuple[str, int]:
    """Stands for an hour of computing."""
    return shop, int(hashlib.sha256(f"{shop} {night}".encode()).hexdigest()[:4], 16)


with DAG(
    "starburst_nightly",
    schedule="0 3 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["example", "starburst"],
) as nightly:
    StarburstMapOperator(
        task_id="forecasts",
        python_callable=forecast,
        items=[f"shop-{number}" for number in range(30)],
        op_kwargs={"night": "{{ ds }}"},
        workers=2,
        spot=True,
        budget=5.0,
        deadline=timedelta(hours=3),
        tolerate="10%",
        on_clear="resume",
        deferrable=True,
        retries=2,
        outlets=[FORECASTS],
    )

with DAG("starburst_morning", schedule=[FORECASTS], start_date=datetime(2026, 1, 1), tags=["example", "starburst"]):

    @task
    def report(triggering_asset_events=None) -> list[str]:
        """Runs when a night's forecasts are there, and reads them from where that night's task has them."""
        told = []
        for event in (triggering_asset_events or {}).get(FORECASTS, ()):
            forecasts = event.source_task_instance.xcom_pull()
            told.append(f"{len(dict(forecasts.succeeded()))} of {len(forecasts)} shops")
        return told

    report()
