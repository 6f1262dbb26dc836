"""The same in AWS, where a connection names a site."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from airflow_provider_starburst.hooks.starburst import StarburstHook
from airflow_provider_starburst.where import Where
from starburst_common import RunState, list_runs
from starburst_common.ports import Backend
from tests.airflow.stage import again, context, deferred, event_of, operator
from tests.airflow.work import sleeps
from tests.places import AWS_PACE
from tests.testbed.bed import Bed as Aws


def typed(value: Any) -> Any:
    """As one types it into the form."""
    return ", ".join(value) if isinstance(value, list | tuple) else value


@pytest.fixture
def site(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """The test bed's site, as the default connection has it, at the pace of tests."""
    extra = {name: typed(value) for name, value in aws.site.items()}
    monkeypatch.setenv("AIRFLOW_CONN_STARBURST_DEFAULT", json.dumps({"conn_type": "starburst_ecs", "extra": extra}))
    real = Where.open
    monkeypatch.setattr(Where, "open", lambda where, new_session=None: real(where, new_session).paced(**AWS_PACE))
    return StarburstHook().open()


def test_a_deferred_fan_out_is_done_by_tasks_and_told_by_links(site: Backend, aws: Aws) -> None:
    """The trigger alone keeps it going; a task that is marked then has none of them left."""
    told = context()
    slow = {"python_callable": sleeps, "op_args": None, "deferrable": True}
    defer = deferred(operator(items=[0.1, 0.2], **slow), told)
    links = told["ti"].pushed["starburst_links"]
    assert "cloudwatch" in links["logs"] and aws.site["cluster"] in links["cluster"] and "s3" in links["report"]
    event = asyncio.run(event_of(again(defer.trigger)))
    results = operator(items=[0.1, 0.2], **slow).execute_complete(told, event)
    assert event["status"] == "over" and [*results] == [0.1, 0.2]
    marked = deferred(operator(items=[300.0], **slow), context(task_id="other"))
    asyncio.run(again(marked.trigger).on_kill())
    (run,) = list_runs(backend=site, tags={"airflow-task": "other"})
    assert run.wait(30).state is RunState.CANCELLED
