"""The same in AWS, where a connection names a site."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_starburst.errors import StarburstBudget, StarburstItemsFailed, StarburstRefused
from airflow_provider_starburst.hooks.starburst import StarburstHook, session_of
from airflow_provider_starburst.where import Where
from starburst_common import Rows, RunState, list_runs
from starburst_common.ports import Backend
from tests.airflow.stage import again, context, deferred, event_of, operator
from tests.airflow.work import sleeps
from tests.places import AWS_PACE
from tests.policies import allow_bucket, role_of_drivers
from tests.testbed.bed import Bed as Aws

ROLE = "arn:aws:iam::123456789012:role/batch"


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


def with_limit(aws: Aws, monkeypatch: pytest.MonkeyPatch, **limit: str) -> None:
    """The default connection, to a site that has it."""
    extra = {name: typed(value) for name, value in {**aws.site, **limit}.items()}
    monkeypatch.setenv("AIRFLOW_CONN_STARBURST_DEFAULT", json.dumps({"conn_type": "starburst_ecs", "extra": extra}))


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


@pytest.mark.parametrize("whose", ["the task's", "the site's"])
def test_workers_cost_no_more_an_hour_than_allowed(site: Backend, aws: Aws, monkeypatch: Any, whose: str) -> None:
    """Two of $0.054 under $0.11, whoever allows it, though four are asked for; the run comes to its end with those."""
    options: dict[str, Any] = {"max_hourly_cost": 0.11}
    if whose == "the site's":
        with_limit(aws, monkeypatch, max_hourly_cost="0.11")
        options = {}
    four = operator(python_callable=sleeps, op_args=None, items=[0.5] * 12, workers=4, **options)
    assert [*four.execute(context())] == [0.5] * 12
    assert len(aws.tasks()) == 2


LONG: dict[str, Any] = {"python_callable": sleeps, "op_args": None, "items": [0.5] * 600, "cpu": 0.25}


def test_money_that_pays_for_no_worker_fails_a_task_for_good(aws: Aws, site: Backend, monkeypatch: Any) -> None:
    """A budget, what an hour may cost, and what is left of a month: nothing is begun."""
    for wrong, said in (({"budget": 1e-6}, "budget=1e-06: to begin"), ({"max_hourly_cost": 0.01}, "give more, or ask")):
        with pytest.raises(StarburstRefused, match=said):
            operator(**LONG, **wrong).execute(context())
    with_limit(aws, monkeypatch, monthly_budget="*: 0.0003")
    with pytest.raises(StarburstRefused, match=r"of the monthly budget of all runs, \$0\.00030, are used since"):
        operator(**LONG).execute(context())
    assert list_runs(backend=site) == []


def test_workers_that_the_site_has_none_of_fail_a_task_for_good(aws: Aws, site: Backend, monkeypatch: Any) -> None:
    """In one sentence that says how it gets them; nothing is begun."""
    with_limit(aws, monkeypatch, ec2_provider="", gpu_provider="", gpu_spot_provider="")
    said = r'capacity="ec2": site bed has no capacity provider of workers on EC2: `starburst setup --ec2` makes them.*'
    with pytest.raises(StarburstRefused) as refused:
        operator(python_callable=sleeps, op_args=None, items=[0.0], capacity="ec2").execute(context())
    assert re.fullmatch(said, str(refused.value)), refused.value
    assert list_runs(backend=site) == [] and aws.tasks() == []


@pytest.mark.rest
def test_a_budget_stops_a_task_for_good(site: Backend) -> None:
    """The run is stopped before it is spent, and no retry follows."""
    with pytest.raises(StarburstBudget, match=r"its budget of \$0\.00060 is used up"):
        operator(**LONG, budget=0.0006).execute(context())
    (run,) = list_runs(backend=site)
    assert run.status().state is RunState.STOPPED and 0 < run.status().answered < 600


@pytest.fixture
def connected(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The bed's site, and nothing in this process that tells where AWS is, or who we are, but a connection."""
    site = {name: typed(value) for name, value in aws.site.items()}
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    real = Where.open
    monkeypatch.setattr(Where, "open", lambda where, new_session=None: real(where, new_session).paced(**AWS_PACE))

    def connect(own: dict[str, Any], theirs: dict[str, Any]) -> None:
        login = {"login": aws.env["AWS_ACCESS_KEY_ID"], "password": aws.env["AWS_SECRET_ACCESS_KEY"]}
        extra = {"endpoint_url": aws.endpoint, "service_config": {"sts": {"endpoint_url": aws.endpoint}}, **theirs}
        for name, said in (
            ("STARBURST_DEFAULT", {"conn_type": "starburst_ecs", "extra": {**site, **own}}),
            ("AWS_BED", {"conn_type": "aws", **login, "extra": extra}),
        ):
            monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(said))

    return connect


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        ({}, {}),
        pytest.param({}, {"role_arn": ROLE, "region_name": "eu-central-1"}, marks=pytest.mark.rest),
        pytest.param({"role": ROLE}, {}, marks=pytest.mark.rest),
    ],
)
def test_a_connection_to_aws_says_who_and_where(aws: Aws, connected: Any, own: Any, theirs: Any) -> None:
    """To boto3 and to the object store alike, whatever else this process knows; the region is the site's."""
    pytest.importorskip("airflow.providers.amazon")
    connected(own, theirs)
    if own or theirs:
        role_of_drivers(aws, ROLE)
    task = operator(python_callable=sleeps, op_args=None, items=[0.1, 0.2], aws_conn_id="aws_bed")
    assert [*task.execute(context())] == [0.1, 0.2]
    new = session_of(StarburstHook(aws_conn_id="aws_bed").where())
    assert new is not None
    credentials = new().get_credentials()
    assert (credentials.access_key != aws.env["AWS_ACCESS_KEY_ID"]) == bool(theirs)


@pytest.mark.parametrize("deferrable", [True, pytest.param(False, marks=pytest.mark.rest)])
def test_the_users_data_are_seen_with_that_connection_alone(
    aws: Aws, connected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    """By the task, its trigger, a retry, the results and the hook: what else this process has is wrong."""
    pytest.importorskip("airflow.providers.amazon")
    connected({}, {})
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONG")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    aws.fault(access_key="AKIAWRONG", code="InvalidAccessKeyId", status=403, probability=1.0)
    aws.boto("s3").create_bucket(Bucket="mine")
    allow_bucket(aws, "mine")
    aws.boto("s3").put_object(Bucket="mine", Key="in/a.jsonl", Body=b"1\n2\n3\n")
    to = {"results_to": "s3://mine/out/*.jsonl", "failures_to": "s3://mine/failed.jsonl", "aws_conn_id": "aws_bed"}
    given = {"items": "s3://mine/in/*.jsonl", **to, "deferrable": deferrable}

    def ended() -> Any:
        task = operator(tmp_path, **given)
        if not deferrable:
            return task.execute(context())
        event = asyncio.run(event_of(again(deferred(task, context()).trigger)))
        return operator(tmp_path, **given).execute_complete(context(), event)

    with pytest.raises(StarburstItemsFailed):
        ended()
    assert aws.boto("s3").get_object(Bucket="mine", Key="failed.jsonl")["Body"].read() == b"1\n3\n"
    (tmp_path / "mended").touch()
    results = ended()
    assert [*results] == [10, 20, 30] and len(results.written()) > 1
    hook = StarburstHook(aws_conn_id="aws_bed")
    run = hook.start(abs, Rows("s3://mine/in/*.jsonl"), workers=1, progress=False, results_to="s3://mine/abs/*.jsonl")
    assert hook.results(run.id, timeout=60) == [1, 2, 3] and hook.estimate(run.id).usd > 0
    assert aws.faults()[0]["hits"] == 0


def test_without_its_provider_it_is_said_what_to_install(connected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the task fails for good."""
    connected({"aws_conn_id": "aws_bed"}, {})
    for name in [name for name in sys.modules if name.startswith("airflow.providers.amazon")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "airflow.providers.amazon", None)
    with pytest.raises(StarburstRefused, match="connections to AWS need `pip install apache"):
        operator().execute(context())


def test_a_connection_that_does_not_work_says_what_is_wrong(site: Backend, aws: Aws, monkeypatch: Any) -> None:
    """A line for each part."""
    fine, told = StarburstHook().test_connection()
    parts = [line.partition(": ")[0] for line in told.splitlines()[1:]]
    assert fine and {"credentials", "region", "bucket", "cluster", "queues"} <= {*parts}, told
    extra = {name: typed(value) for name, value in aws.site.items()} | {"bucket": "nobodys", "cluster": "none"}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({"conn_type": "starburst_ecs", "extra": extra}))
    fine, told = StarburstHook("other").test_connection()
    assert not fine and re.search(r"^bucket: .*nobodys", told, re.M) and re.search(r"^cluster: .*none", told, re.M), (
        told
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fine, told = StarburstHook().test_connection()
    assert not fine and re.search(r"^credentials: .*credentials", told, re.M), told
